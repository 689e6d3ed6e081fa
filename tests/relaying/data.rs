//! What goes through a channel, and what does not.

use molia_router::counters::layout::Id;
use molia_router::drops::Drop;
use molia_router::net::{Local, Path};
use molia_router::router::Router;
use molia_router::tunnel::wireguard::WireGuard;
use molia_router::wire::Code;
use molia_router::wire::channel::{Channel, HEADER_BYTES};

use crate::known::{Leg, Sent, channel, config, each_size, join, join_again, sent};
use crate::support::Bench;

/// Channel data with a WireGuard data message of so many bytes in all.
pub(crate) fn data(leg: &Leg, bytes: usize, fill: u8) -> Vec<u8> {
    let mut datagram = vec![fill; bytes];
    let mut head = [0; HEADER_BYTES];
    leg.channel.write(&mut head);
    datagram[..8].copy_from_slice(&head);
    datagram[8..12].copy_from_slice(&[4, 0, 0, 0]);
    datagram
}

pub(crate) fn path(address: &str) -> Path {
    Path { peer: address.parse().unwrap(), local: Local::default() }
}

fn relayed(bench: &mut Bench, from: &str, bytes: &[u8]) -> Sent {
    sent(bench.deliver(path(from), bytes))
}

#[test]
fn data_goes_through_both_ways_with_nothing_but_another_header() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
        for bytes in [40, 100, 1232, 1472] {
            let out = relayed(&mut bench, "1.1.1.1:4000", &data(&of_a, bytes, 7));
            assert_eq!(out, [("2.2.2.2:5000".parse().unwrap(), data(&of_b, bytes, 7))]);
            let out = relayed(&mut bench, "2.2.2.2:5000", &data(&of_b, bytes, 8));
            assert_eq!(out, [("1.1.1.1:4000".parse().unwrap(), data(&of_a, bytes, 8))]);
        }
        assert!(bench.all_slots_home());
        assert_eq!(bench.shards().map(|it| it.relay().stats().forwarded_datagrams).sum::<u64>(), 8);
    });
}

#[test]
fn a_run_leaves_as_it_came_in_its_own_slot() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
        let mut buf = bench.receive_slot();
        let mut expected = Vec::new();
        for n in 0..5 {
            let bytes = if n == 4 { 60 } else { 200 };
            assert!(buf.extend(&data(&of_a, bytes, n)));
            expected.extend(data(&of_b, bytes, n));
        }
        let slot = buf.as_ptr();
        let out = bench.arrive(path("1.1.1.1:4000"), buf, 200);
        let [transmit] = &out[..] else { panic!("one run, not {}", out.len()) };
        assert_eq!((transmit.segment, &transmit.buf[..]), (200, &expected[..]));
        assert_eq!(transmit.buf.as_ptr(), slot, "nothing was copied");
    });
}

#[test]
fn a_mixed_run_is_taken_apart() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let mut c = join(&mut bench, 3, "3.3.3.3:6000");
        let (to_b, of_b) = channel(&mut bench, &mut a, &mut b);
        let (to_c, of_c) = channel(&mut bench, &mut a, &mut c);
        let mut buf = bench.receive_slot();
        for datagram in
            [data(&to_b, 100, 1), data(&to_c, 100, 2), vec![9; 100], data(&to_b, 100, 3)]
        {
            assert!(buf.extend(&datagram));
        }
        let out = bench.arrive(path("1.1.1.1:4000"), buf, 100);
        let mut out: Vec<_> =
            out.into_iter().map(|it| (it.path.peer.to_string(), it.buf.to_vec())).collect();
        // What went by another shard came later.
        out.sort_by_key(|(_, bytes)| bytes[20]);
        assert_eq!(
            out,
            [
                ("2.2.2.2:5000".to_owned(), data(&of_b, 100, 1)),
                ("3.3.3.3:6000".to_owned(), data(&of_c, 100, 2)),
                ("2.2.2.2:5000".to_owned(), data(&of_b, 100, 3)),
            ]
        );
        assert!(bench.all_slots_home());
    });
}

#[test]
fn what_is_not_the_legs_or_not_wireguards_goes_nowhere() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
        let good = data(&of_a, 100, 1);
        let other = |change: fn(&mut Channel)| {
            let mut leg = of_a;
            change(&mut leg.channel);
            data(&leg, 100, 1)
        };
        let mut flags = good.clone();
        flags[1] = 1;
        let mut inner = good.clone();
        inner[8] = 5;
        let cases = [
            ("6.6.6.6:4000", good.clone(), Drop::RelaySource),
            ("1.1.1.1:4001", good.clone(), Drop::RelaySource),
            ("2.2.2.2:5000", good.clone(), Drop::RelaySource),
            ("1.1.1.1:4000", other(|it| it.generation ^= 1), Drop::RelayChannel),
            ("1.1.1.1:4000", other(|it| it.id ^= 1 << 3), Drop::RelayChannel),
            ("1.1.1.1:4000", data(&of_b, 100, 1), Drop::RelaySource),
            ("1.1.1.1:4000", flags, Drop::RelayShape),
            ("1.1.1.1:4000", inner, Drop::RelayShape),
            ("1.1.1.1:4000", data(&of_a, 39, 1), Drop::RelayShape),
            ("1.1.1.1:4000", good[..8].to_vec(), Drop::RelayShape),
            ("1.1.1.1:4000", good[..7].to_vec(), Drop::BadLength),
        ];
        for (from, bytes, reason) in cases {
            let before = dropped(&bench, reason);
            assert_eq!(relayed(&mut bench, from, &bytes), [], "{from} {reason:?}");
            assert_eq!(dropped(&bench, reason), before + 1, "{from} {reason:?}");
        }
        assert_eq!(relayed(&mut bench, "1.1.1.1:4000", &good).len(), 1);
    });
}

pub(crate) fn dropped(bench: &Bench, reason: Drop) -> u64 {
    let of_shard = |router: &Router<WireGuard>| {
        router.counters().snapshot().value(Id::Dropped, &[reason.label()]).unwrap()
    };
    bench.shards().map(of_shard).sum()
}

#[test]
fn legs_follow_their_sessions_and_nobody_is_flooded_by_that() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
        // One authentic datagram from elsewhere: perhaps forged.
        b.peer.move_to("7.7.7.7:7000");
        let ping = b.peer.seal_ping();
        bench.deliver(b.peer.path(), &ping);
        let (mut out, mut bytes) = (Vec::new(), 0);
        for _ in 0..20 {
            out.extend(relayed(&mut bench, "1.1.1.1:4000", &data(&of_a, 300, 1)));
        }
        for (to, datagram) in &out {
            assert_eq!(to.to_string(), "7.7.7.7:7000");
            bytes += datagram.len();
        }
        assert_eq!(bytes, 0, "nothing was relayed from there yet");
        assert_eq!(
            relayed(&mut bench, "2.2.2.2:5000", &data(&of_b, 100, 1)),
            [],
            "it is not there now"
        );
        // As much as comes from there may go there.
        assert_eq!(relayed(&mut bench, "7.7.7.7:7000", &data(&of_b, 650, 1)).len(), 1);
        let through: usize =
            (0..5).map(|_| relayed(&mut bench, "1.1.1.1:4000", &data(&of_a, 300, 1)).len()).sum();
        assert_eq!(through, 2);
        // The challenge is answered: it is there.
        for challenge in bench.due() {
            if let Some(pong) = b.peer.pong(&challenge) {
                bench.deliver(b.peer.path(), &pong);
            }
        }
        let out = relayed(&mut bench, "1.1.1.1:4000", &data(&of_a, 300, 1));
        assert_eq!(out, [("7.7.7.7:7000".parse().unwrap(), data(&of_b, 300, 1))]);
    });
}

/// Of several tunnel keys of one peer, the newest binding's session has the legs.
#[test]
fn legs_go_to_the_newest_binding() {
    each_size(|mut bench| {
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
        for (n, since) in [(1, 50), (2, 70), (3, 60), (4, 70)] {
            let address = format!("4.4.4.{n}:4000");
            let again = join_again(&mut bench, &a, (n, since), &address);
            assert_eq!(again.id(), a.id());
        }
        let there = "4.4.4.4:4000";
        for before in ["1.1.1.1:4000", "4.4.4.1:4000", "4.4.4.2:4000", "4.4.4.3:4000"] {
            assert_eq!(relayed(&mut bench, before, &data(&of_a, 100, 1)), [], "{before}");
        }
        let out = relayed(&mut bench, there, &data(&of_a, 100, 2));
        assert_eq!(out, [("2.2.2.2:5000".parse().unwrap(), data(&of_b, 100, 2))]);
        let out = relayed(&mut bench, "2.2.2.2:5000", &data(&of_b, 100, 3));
        assert_eq!(out, [(there.parse().unwrap(), data(&of_a, 100, 3))]);
        // The session that had them before may ask for them, or move: it has none any more.
        let consent = b.consent(Some(a.id()));
        let refused = a.allocate(&mut bench, b.id(), &consent);
        assert_eq!(a.refusal(&refused), Code::Unauthorized);
        a.peer.move_to("1.1.1.1:4001");
        let ping = a.peer.seal_ping();
        bench.deliver(a.peer.path(), &ping);
        let out = relayed(&mut bench, "2.2.2.2:5000", &data(&of_b, 100, 4));
        assert_eq!(out, [(there.parse().unwrap(), data(&of_a, 100, 4))]);
    });
}

#[test]
fn a_leg_that_moves_to_a_forbidden_address_gets_nothing_there() {
    for address in ["10.1.1.1:9000", "9.9.9.9:9000", "224.0.0.1:9000", "[64:ff9b::a00:1]:9000"] {
        let mut bench = Bench::sharded(config(), 3);
        let mut a = join(&mut bench, 1, "1.1.1.1:4000");
        let mut b = join(&mut bench, 2, "2.2.2.2:5000");
        let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
        b.peer.move_to(address);
        let ping = b.peer.seal_ping();
        bench.deliver(b.peer.path(), &ping);
        assert_eq!(
            relayed(&mut bench, address, &data(&of_b, 900, 1)).len(),
            1,
            "from there it may"
        );
        assert_eq!(relayed(&mut bench, "1.1.1.1:4000", &data(&of_a, 100, 1)), [], "{address}");
        assert_eq!(dropped(&bench, Drop::RelayTarget), 1);
    }
}

/// Without steering, datagrams come to any shard.
#[test]
fn what_comes_to_the_wrong_shard_gets_through_all_the_same() {
    let mut bench = Bench::sharded(config(), 3);
    let mut a = join(&mut bench, 1, "1.1.1.1:4000");
    let mut b = join(&mut bench, 2, "2.2.2.2:5000");
    let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
    for shard in 0..3 {
        let out = bench.deliver_astray(shard, path("1.1.1.1:4000"), &data(&of_a, 1472, 7));
        assert_eq!(sent(out), [("2.2.2.2:5000".parse().unwrap(), data(&of_b, 1472, 7))]);
    }
    let nowhere = Leg { channel: Channel { id: u32::MAX, ..of_a.channel }, ..of_a };
    assert!(bench.deliver_astray(0, path("1.1.1.1:4000"), &data(&nowhere, 100, 7)).is_empty());
    assert_eq!(dropped(&bench, Drop::RelayChannel), 1);
    assert!(bench.all_slots_home());
}

/// A peer that moves with every datagram is followed, but does not fill the mail of other shards.
#[test]
fn a_leg_that_never_rests_is_told_of_now_and_then() {
    let mut bench = Bench::sharded(config(), 3);
    let mut a = join(&mut bench, 1, "1.1.1.1:4000");
    let mut b = join(&mut bench, 2, "2.2.2.2:5000");
    let (of_a, of_b) = channel(&mut bench, &mut a, &mut b);
    bench.letters = 0;
    for port in 5001..5101 {
        b.peer.move_to(&format!("2.2.2.2:{port}"));
        let ping = b.peer.seal_ping();
        bench.deliver(b.peer.path(), &ping);
    }
    assert!(bench.letters <= 2 * (100 / 20 + 2), "{} letters in 100 ms", bench.letters);
    // In the end it is known to be where it is.
    bench.due();
    bench.due();
    let last = "2.2.2.2:5100";
    assert_eq!(relayed(&mut bench, last, &data(&of_b, 700, 1)).len(), 1);
    let out = relayed(&mut bench, "1.1.1.1:4000", &data(&of_a, 300, 1));
    assert_eq!(out, [(last.parse().unwrap(), data(&of_b, 300, 1))]);
}
