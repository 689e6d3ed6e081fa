//! A shard that panics loses its own state and nothing else, and comes back by itself.

use std::time::Duration;

use molia_router::client::session::DEAF_AFTER;
use molia_router::counters::layout::Id;
use molia_router::port::EngineChoice;

use super::fleet::{Ask, Fleet, Member};
use super::server::{PATIENCE, Server, Shape, engines, eventually};

const HOST: &str = "127.0.0.1";
/// How often each client asks under load.
const PACE: Duration = Duration::from_millis(5);
/// How long the load lasts before and after.
const LOAD: Duration = Duration::from_millis(300);
/// It is back within a second, if the machine has nothing else to do.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// The shard that panics.
const SICK: u16 = 1;

fn server(engine: EngineChoice, shards: u16, steer: bool) -> Server {
    Server::with(Shape { engine, listen: "127.0.0.1:0", shards, steer }).unwrap()
}

fn set_pace(fleet: &mut Fleet, pace: Option<Duration>) {
    fleet.members.iter_mut().for_each(|member| member.pace = pace);
}

/// The first client from `seed` on that is of the kind.
fn client(server: &Server, seed: u64, is: impl Fn(&Member) -> bool) -> Member {
    let host = HOST.parse().unwrap();
    (seed..).map(|seed| Member::new(server, host, seed)).find(is).unwrap()
}

fn restarts(server: &Server, shard: u16) -> u64 {
    server.counters(shard).value(Id::Restarts, &[]).unwrap()
}

/// Lets `shard` panic and the fleet go on until a newcomer who is at home there is answered, who
/// is the last of the fleet then.
fn restart(server: &Server, fleet: &mut Fleet, shard: u16, seed: u64) {
    let began = fleet.clock.moment();
    let before = restarts(server, shard);
    server.shards().panic(shard.into());
    while restarts(server, shard) == before {
        fleet.go_on(Duration::from_millis(1), |_| {});
        assert!(fleet.clock.moment().since(began) < PATIENCE, "shard {shard} does not begin again");
    }
    let mut newcomer = client(server, seed, |member| member.home == shard);
    newcomer.ask(Ask::Ping);
    fleet.members.push(newcomer);
    let newcomer = fleet.members.len() - 1;
    while fleet.members[newcomer].tally.answered == 0 {
        fleet.go_on(Duration::from_millis(1), |_| {});
        assert!(fleet.clock.moment().since(began) < PATIENCE, "shard {shard} does not answer");
    }
    let took = fleet.clock.moment().since(began);
    println!("{:?}: shard {shard} answers {took:?} after its panic", server.shape);
    assert!(took < BACK_WITHIN, "{took:?}");
}

/// Lets the clients notice that nobody hears them, as 15 s of silence would, and waits until all
/// are answered again.
fn get_over_it(fleet: &mut Fleet) {
    for member in fleet.members.iter_mut().filter(|member| member.unheard > 0) {
        member.age(DEAF_AFTER);
    }
    set_pace(fleet, Some(PACE));
    fleet.go_on_until("nobody is deaf", |member| member.unheard == 0);
    set_pace(fleet, None);
    fleet.go_on_until("nothing is under way", Member::is_quiet);
    fleet.ask_all(|_| Ask::Ping);
}

/// Everybody has one session, at home, and nothing is left of what went before.
fn check(server: &Server, fleet: &Fleet) {
    server.await_each(Id::Sessions, &[], &fleet.homes(server));
    check_quiet(server);
}

/// Waits until a router that nobody asks for anything has all its buffers and no mail on its way.
pub(crate) fn check_quiet(server: &Server) {
    for class in ["control", "coordination", "hints"] {
        eventually("all mail arrives", || {
            let [sent, received, waiting] =
                [Id::MailSent, Id::MailReceived, Id::MailDepth].map(|id| server.sum(id, &[class]));
            let all = sent == received && waiting == 0;
            if all { Ok(()) } else { Err(format!("{class}: {sent} {received} {waiting}")) }
        });
    }
    for pool in ["packet", "receive"] {
        eventually("no buffer is lost", || {
            let [free, all] = [Id::PoolFree, Id::PoolBuffers].map(|id| server.each(id, &[pool]));
            // All shards alike: what the ring has of each is the same.
            let same =
                free.iter().all(|shard| *shard == free[0]) && (pool == "receive" || free == all);
            if same { Ok(()) } else { Err(format!("{pool}: {free:?} of {all:?}")) }
        });
    }
}

#[test]
fn a_panic_costs_the_peers_of_other_shards_nothing() {
    for &engine in engines() {
        let server = server(engine, 3, true);
        let mut fleet = Fleet::connected(&server, &[HOST], 45, 3000);
        // Who leaves for ever while its home and owner is down.
        fleet.members.push(client(&server, 3100, |it| (it.home, it.owner) == (SICK, SICK)));
        fleet.ask_all(|_| Ask::Negotiate);
        fleet.find_each_other(&server);
        let gone = fleet.members.pop().unwrap().identity.peer_id();
        let started = server.each(Id::Started, &[]);
        set_pace(&mut fleet, Some(PACE));
        fleet.go_on(LOAD, |_| {});

        restart(&server, &mut fleet, SICK, 3200);
        fleet.go_on(LOAD, |_| {});
        assert_eq!(server.each(Id::Restarts, &[]), [0, 1, 0]);
        let (sick, well): (Vec<_>, Vec<_>) =
            fleet.members.iter().partition(|member| member.home == SICK);
        for member in well {
            let tally = &member.tally;
            assert!(tally.lost <= tally.late, "lost to shard {}: {tally:?}", member.home);
            assert_eq!(tally.handshakes, 1);
        }
        assert!(sick.iter().any(|member| member.unheard > 0), "its clients notice");

        // The others say again whom the shard is to list, before its own clients are back.
        set_pace(&mut fleet, None);
        let newcomer = fleet.members.len() - 1;
        let settled = |member: &Member| member.home == SICK || member.is_quiet();
        fleet.go_on_until("the others are quiet", settled);
        let others = fleet.members.iter().filter(|it| it.home != SICK && it.owner == SICK);
        let others: Vec<_> = others.map(|member| member.identity.peer_id()).collect();
        assert!(!others.is_empty());
        let finder = |home| fleet.members.iter().position(|member| member.home == home).unwrap();
        let finders = [finder(0), newcomer, finder(2)];
        for id in others {
            fleet.look_up(&finders, id, "a peer that never left is listed again", |found| found);
        }

        fleet.members[newcomer].ask(Ask::Negotiate);
        get_over_it(&mut fleet);
        check(&server, &fleet);
        fleet.find_each_other(&server);
        fleet.look_up(&finders, gone, "who is gone is forgotten everywhere", |found| !found);
        let well = |shards: Vec<u64>| [shards[0], shards[2]];
        let data = fleet.by_home(&server, |member| member.tally.data);
        eventually("all data of the others arrived", || {
            let opened = well(server.each(Id::Decrypts, &["ok"]));
            if opened == well(data.clone()) {
                Ok(())
            } else {
                Err(format!("{opened:?} of {data:?}"))
            }
        });
        // Its counters began again, nobody else's.
        let now = server.each(Id::Started, &[]);
        assert!(now[1] > started[1] && well(now) == well(started));
        server.stop();
    }
}

#[test]
fn five_panics_in_a_row_are_survived() {
    for &engine in engines() {
        let server = server(engine, 2, true);
        let mut fleet = Fleet::connected(&server, &[HOST], 20, 3300);
        set_pace(&mut fleet, Some(PACE));
        for panics in 1..=5 {
            restart(&server, &mut fleet, SICK, 3400 + 100 * panics);
            let newcomer = fleet.members.pop().unwrap();
            if panics == 5 {
                fleet.members.push(newcomer);
            }
        }
        assert_eq!(server.each(Id::Restarts, &[]), [0, 5]);
        fleet.go_on(LOAD, |_| {});
        get_over_it(&mut fleet);
        check(&server, &fleet);
        let well = fleet.members.iter().filter(|member| member.home != SICK);
        assert!(well.map(|it| it.tally).all(|it| it.handshakes == 1 && it.lost <= it.late));
        server.stop();
    }
}

#[test]
fn a_panic_while_mail_is_under_way_loses_none() {
    for &engine in engines() {
        // Not steered: two of three datagrams travel as mail.
        let server = server(engine, 3, false);
        let mut fleet = Fleet::connected(&server, &[HOST], 45, 3600);
        set_pace(&mut fleet, Some(Duration::ZERO));
        for shard in [0, 1, 2, 1] {
            fleet.go_on(LOAD / 3, |_| {});
            let before = restarts(&server, shard);
            server.shards().panic(shard.into());
            while restarts(&server, shard) == before {
                fleet.go_on(Duration::from_millis(1), |_| {});
            }
        }
        fleet.go_on(2 * LOAD, |_| {});
        assert_eq!(server.each(Id::Restarts, &[]), [1, 2, 1]);
        assert!(server.sum(Id::MailReceived, &["coordination"]) > 0);
        get_over_it(&mut fleet);
        check(&server, &fleet);
        fleet.find_each_other(&server);
        server.stop();
    }
}
