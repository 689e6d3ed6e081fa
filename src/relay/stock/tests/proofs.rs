//! What somebody has to show before anything goes to an address, and how long that counts.

use proptest::prelude::*;

use super::{A, B, Bench, ELSEWHERE, OF_A, OF_B};
use super::{bare, data, indexed, initiation, near, present, present_at, response};
use crate::drops::Drop;

#[test]
fn nothing_goes_to_who_only_knows_a_public_key() {
    let mut bench = Bench::bound();
    for n in 0..5 {
        bench.ok(OF_A, ELSEWHERE, &initiation(2, 90 + n), B);
        assert_eq!(bench.send(OF_A, ELSEWHERE, &data(20)), Err(Drop::RelaySource));
        bench.ok(OF_B, B, &data(11), A);
        // Not even B's own initiations: A is alive.
        bench.ok(OF_B, B, &initiation(1, 60 + n), A);
        bench.pass(1);
    }
    assert_eq!(bench.sent_to(ELSEWHERE), 0);
}

#[test]
fn strangers_make_a_peer_work_a_few_times_a_second() {
    let mut bench = Bench::bound();
    let through = (0..200).filter(|n| bench.send(OF_A, ELSEWHERE, &initiation(2, *n)).is_ok());
    assert_eq!(through.count(), 10);
    // Another network has some of its own.
    bench.ok(OF_A, "7.7.9.7:7000", &initiation(2, 4), B);
    bench.ok(OF_A, A, &initiation(2, 5), B);
}

#[test]
fn who_is_at_home_is_asked_for_a_cookie_when_many_come_from_there() {
    let mut bench = Bench::bound();
    let near = "1.1.1.1:7000";
    for n in 0..10 {
        bench.ok(OF_A, near, &bare(initiation(2, n)), B);
    }
    assert_eq!(bench.send(OF_A, near, &bare(initiation(2, 10))), Err(Drop::RelayCookie));
    bench.ok(OF_A, near, &initiation(2, 11), B);
    assert_eq!(bench.send(OF_A, ELSEWHERE, &bare(initiation(2, 12))), Err(Drop::RelayCookie));
    bench.ok(OF_A, ELSEWHERE, &initiation(2, 13), B);
}

#[test]
fn two_that_were_silent_find_each_other_again() {
    let mut bench = Bench::bound();
    bench.pass(200);
    assert_eq!(bench.send(OF_A, A, &bare(initiation(2, 30))), Err(Drop::RelayUnbound));
    bench.ok(OF_B, B, &bare(initiation(1, 40)), A);
    bench.ok(OF_A, A, &bare(response(2, 31, 40)), B);
    bench.ok(OF_B, B, &data(31), A);
    // One that goes on asking keeps the ports for both.
    for _ in 0..100 {
        bench.pass(100);
        assert_eq!(bench.stock.poll(bench.now), None);
        let _ = bench.send(OF_A, A, &initiation(2, 50));
    }
    assert_eq!(bench.stock.stats().pairs, 1);
}

#[test]
fn a_proof_is_due_again_before_its_end() {
    let mut bench = Bench::bound();
    let speak = |bench: &mut Bench, seconds: u64| {
        for _ in 0..seconds / 60 {
            bench.pass(60);
            bench.ok(OF_A, A, &data(20), B);
            bench.ok(OF_B, B, &data(11), A);
        }
    };
    speak(&mut bench, 240);
    bench.ok(OF_A, A, &bare(initiation(2, 30)), B);
    bench.ok(OF_B, B, &bare(response(1, 12, 30)), A);
    speak(&mut bench, 60);
    // Both sides are asked, whichever initiates, and what there is goes on.
    assert_eq!(bench.send(OF_A, A, &bare(initiation(2, 31))), Err(Drop::RelayCookie));
    bench.ok(OF_A, A, &initiation(2, 32), B);
    assert_eq!(bench.send(OF_B, B, &bare(response(1, 13, 32))), Err(Drop::RelayCookie));
    speak(&mut bench, 60);
    bench.ok(OF_A, A, &initiation(2, 33), B);
    bench.ok(OF_B, B, &response(1, 14, 33), A);
    // A cookie is good for five minutes more, and then for five during which one is asked for.
    speak(&mut bench, 480);
    bench.ok(OF_A, A, &initiation(2, 34), B);
    speak(&mut bench, 60);
    bench.pass(60);
    bench.ok(OF_B, B, &data(14), A);
    assert_eq!(bench.send(OF_A, A, &data(20)), Err(Drop::RelayUnbound), "B's is over");
    bench.ok(OF_B, B, &initiation(1, 50), A);
    bench.ok(OF_A, A, &data(20), B);
}

#[test]
fn who_leaves_an_address_cannot_aim_at_it() {
    let mut bench = Bench::bound();
    // A went elsewhere, and knows what to say in place of whoever is at its former address now.
    bench.ok(OF_A, ELSEWHERE, &initiation(2, 30), B);
    bench.ok(OF_B, B, &response(1, 31, 30), ELSEWHERE);
    bench.ok(OF_A, ELSEWHERE, &data(31), B);
    for seconds in [150, 149] {
        bench.pass(seconds);
        bench.ok(OF_A, ELSEWHERE, &data(31), B);
        bench.ok(OF_B, B, &data(30), ELSEWHERE);
    }
    bench.ok(OF_A, A, &bare(initiation(2, 40)), B);
    bench.ok(OF_B, B, &initiation(1, 41), ELSEWHERE);
    bench.pass(1);
    assert_eq!(bench.send(OF_A, A, &bare(initiation(2, 42))), Err(Drop::RelayCookie));
    // The session there says so again.
    assert!(
        bench.stock.allocate(bench.now, near(1), [present_at(bench.now, 1), present(2)]).is_ok()
    );
    bench.ok(OF_A, A, &bare(initiation(2, 44)), B);
}

/// A proof that is due again while a handshake is under way counts for it, and for what is left of its
/// time.
#[test]
fn a_handshake_outlives_the_moment_when_its_proof_is_due() {
    let mut bench = Bench::bound();
    let other_port = "1.1.1.1:4001";
    bench.pass(150);
    bench.ok(OF_B, B, &data(11), A);
    bench.pass(149);
    bench.ok(OF_A, other_port, &bare(initiation(2, 30)), B);
    bench.pass(1);
    bench.ok(OF_B, B, &response(1, 31, 30), other_port);
    bench.ok(OF_A, other_port, &data(31), B);
    for _ in 0..2 {
        bench.pass(149);
        bench.ok(OF_A, other_port, &data(31), B);
        bench.ok(OF_B, B, &data(30), other_port);
    }
    bench.pass(2);
    assert_eq!(bench.send(OF_B, B, &data(30)), Err(Drop::RelayUnbound));
}

/// X has a cookie, knows public keys and gets an initiation since B is silent: what it answers is
/// rubbish, which A can tell.
#[test]
fn an_answer_binds_nobody_before_it_was_understood() {
    let mut bench = Bench::bound();
    bench.pass(31);
    bench.ok(OF_B, ELSEWHERE, &initiation(1, 90), A);
    bench.ok(OF_A, A, &initiation(2, 30), ELSEWHERE);
    bench.ok(OF_B, ELSEWHERE, &response(1, 91, 30), A);
    // A goes on with the keys that it has.
    bench.ok(OF_A, A, &data(20), B);
    assert_eq!(bench.send(OF_B, ELSEWHERE, &data(30)), Err(Drop::RelaySource));
    // Nor does an index help that everybody on the way could see.
    bench.ok(OF_A, A, &initiation(2, 31), B);
    bench.ok(OF_A, A, &initiation(2, 32), ELSEWHERE);
    bench.ok(OF_B, ELSEWHERE, &response(1, 20, 32), A);
    bench.ok(OF_A, A, &data(20), B);
    // B itself is asked in turn, and answers.
    bench.ok(OF_A, A, &initiation(2, 33), B);
    bench.ok(OF_B, B, &response(1, 34, 33), A);
    bench.ok(OF_A, A, &data(34), B);
    bench.ok(OF_B, B, &data(33), A);
}

#[test]
fn two_strangers_do_not_take_a_pair_from_its_peers() {
    let other = "8.8.8.8:80";
    let mut bench = Bench::bound();
    bench.pass(31);
    bench.ok(OF_B, other, &initiation(1, 90), A);
    bench.ok(OF_A, ELSEWHERE, &initiation(2, 80), other);
    bench.ok(OF_B, other, &response(1, 91, 80), ELSEWHERE);
    assert_eq!(bench.send(OF_A, ELSEWHERE, &data(91)), Err(Drop::RelaySource));
    assert_eq!(bench.send(OF_B, other, &data(80)), Err(Drop::RelaySource));
    bench.ok(OF_A, A, &data(20), B);
    bench.ok(OF_B, B, &data(11), A);
}

#[test]
fn a_proven_address_may_show_the_cookie_of_the_other_side() {
    let mut bench = Bench::bound();
    bench.ok(OF_A, ELSEWHERE, &initiation(2, 30), B);
    // B is under load and asks for a cookie of its own, which the router does not know.
    bench.ok(OF_B, B, &indexed(3, 64, 30), ELSEWHERE);
    bench.pass(5);
    bench.ok(OF_A, ELSEWHERE, &bare(initiation(2, 31)), B);
    // That is not so for the network around it, nor without end.
    assert_eq!(bench.send(OF_A, "7.7.7.7:7001", &bare(initiation(2, 32))), Err(Drop::RelayCookie));
    bench.pass(300);
    assert_eq!(bench.send(OF_A, ELSEWHERE, &bare(initiation(2, 33))), Err(Drop::RelayCookie));
}

#[test]
fn an_answer_from_elsewhere_needs_a_cookie_too() {
    let mut bench = Bench::bound();
    // It wanders there with data alone.
    for _ in 0..5 {
        bench.pass(7);
        bench.ok(OF_B, B, &data(11), A);
        assert_eq!(bench.send(OF_A, ELSEWHERE, &data(20)), Err(Drop::RelaySource));
    }
    bench.ok(OF_B, B, &initiation(1, 50), ELSEWHERE);
    let answer = response(2, 33, 50);
    assert_eq!(bench.send(OF_A, ELSEWHERE, &bare(answer.clone())), Err(Drop::RelayCookie));
    bench.ok(OF_A, ELSEWHERE, &answer, B);
    bench.ok(OF_B, B, &data(33), ELSEWHERE);
}

#[test]
fn cookies_find_their_way_within_what_came() {
    let mut bench = Bench::bound();
    bench.ok(OF_A, ELSEWHERE, &initiation(2, 30), B);
    bench.ok(OF_B, B, &indexed(3, 64, 30), ELSEWHERE);
    bench.ok(OF_B, B, &indexed(3, 64, 11), A);
    // And the other way: about the answer that a candidate got.
    bench.ok(OF_B, B, &response(1, 31, 30), ELSEWHERE);
    bench.ok(OF_A, ELSEWHERE, &indexed(3, 64, 31), B);
    assert_eq!(bench.send(OF_A, ELSEWHERE, &indexed(3, 64, 32)), Err(Drop::RelaySource));
    assert_eq!(bench.send(OF_B, ELSEWHERE, &indexed(3, 64, 30)), Err(Drop::RelaySource));
}

/// What somebody somewhere sends.
#[derive(Clone, Debug)]
enum Act {
    Initiation(usize, usize, u32),
    Response(usize, usize, u32, u32),
    Cookie(usize, usize, u32),
    Data(usize, usize, u32),
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let (side, from, index) = (0..2_usize, 0..5_usize, 0..4_u32);
    prop_oneof![
        (side.clone(), from.clone(), index.clone()).prop_map(|(s, f, i)| Act::Initiation(s, f, i)),
        (side.clone(), from.clone(), index.clone(), index.clone())
            .prop_map(|(s, f, i, r)| Act::Response(s, f, i, r)),
        (side.clone(), from.clone(), index.clone()).prop_map(|(s, f, i)| Act::Cookie(s, f, i)),
        (side, from, index).prop_map(|(s, f, i)| Act::Data(s, f, i)),
        (0..40_u64).prop_map(Act::Pass),
    ]
}

proptest! {
    /// The last address is forged by who knows every index but receives nothing there, so that no
    /// message from there has a cookie. Whatever happens, it gets no more bytes than came from it.
    #[test]
    fn a_forged_source_never_gets_more_than_it_sent(acts in prop::collection::vec(act(), 1..200)) {
        const FROM: [&str; 5] = [A, B, "3.3.3.3:3", "4.4.4.4:4", ELSEWHERE];
        let mut bench = Bench::new();
        let shown = |from: usize, message| if from == 4 { bare(message) } else { message };
        for act in acts {
            let _ = match act {
                Act::Initiation(side, from, index) => {
                    let to = if side == OF_A { 2 } else { 1 };
                    bench.send(side, FROM[from], &shown(from, initiation(to, index)))
                }
                Act::Response(side, from, index, receiver) => {
                    let to = if side == OF_A { 2 } else { 1 };
                    bench.send(side, FROM[from], &shown(from, response(to, index, receiver)))
                }
                Act::Cookie(side, from, index) => {
                    bench.send(side, FROM[from], &indexed(3, 64, index))
                }
                Act::Data(side, from, index) => bench.send(side, FROM[from], &data(index)),
                Act::Pass(seconds) => {
                    bench.pass(seconds);
                    continue;
                }
            };
            let (came, went) = bench.books.get(&ELSEWHERE.parse().unwrap()).copied().unwrap_or_default();
            prop_assert!(went <= came, "{went} to, {came} from");
        }
    }
}
