//! Many nodes, each a fake of its own, and what is wrong with some of them.

use boringtun::x25519::StaticSecret;

use super::*;
use crate::client::fake::{FakeRouter, Fault, identity, listed};
use crate::client::lookup::End;
use crate::client::wireguard::WireGuard;
use crate::ids::{Key, PeerId};

/// One way to a node.
const DELAY: Duration = Duration::from_millis(20);

struct Net {
    nodes: BTreeMap<SocketAddr, FakeRouter>,
    crowd: Crowd<WireGuard>,
    now: Moment,
    /// By arrival and number: from whom, to whom (none: to us), and what.
    under_way: BTreeMap<(Moment, u64), (SocketAddr, bool, Vec<u8>)>,
    sent: u64,
    ours: SocketAddr,
}

fn wall(at: Moment) -> Now {
    Now { at, unix_ms: 1_800_000_000_000 + at.as_nanos() / 1_000_000 }
}

fn at(n: u8) -> SocketAddr {
    ([80, 1, n, 1], 7743).into()
}

fn contact(n: u8) -> Contact {
    let identity = identity(n.into());
    Contact { peer: identity.peer_id(), key: identity.wg_key(), address: at(n) }
}

impl Net {
    /// Nodes 1 to `count`; each lists all others.
    fn new(count: u8) -> Self {
        let node = |n: u8| {
            let mut fake = FakeRouter::of(n.into());
            let others = (1..=count).filter(|other| *other != n).map(contact);
            fake.entries = others.map(|it| listed(it.peer, it.key, it.address)).collect();
            (at(n), fake)
        };
        let us = Arc::new(identity(500));
        let secret: StaticSecret = us.wg_secret().clone();
        let dial = move |to: &Contact| WireGuard::new(secret.clone(), to.key);
        let crowd = Crowd::new(Some(us), Box::new(dial), ChaCha12Rng::seed_from_u64(5));
        Self {
            nodes: (1..=count).map(node).collect(),
            crowd,
            now: Moment::from_nanos(1_000_000),
            under_way: BTreeMap::new(),
            sent: 0,
            ours: ([80, 9, 9, 9], 1).into(),
        }
    }

    fn fault(&mut self, n: u8, fault: Fault) {
        self.nodes.get_mut(&at(n)).unwrap().fault = fault;
    }

    fn carry(&mut self, node: SocketAddr, to_us: bool, bytes: Vec<u8>) {
        self.sent += 1;
        self.under_way.insert((self.now + DELAY, self.sent), (node, to_us, bytes));
    }

    /// What comes to its end first.
    fn event(&mut self) -> Event {
        self.event_until(Moment::NEVER).expect("something will happen")
    }

    fn event_until(&mut self, end: Moment) -> Option<Event> {
        loop {
            while let Some((to, bytes)) = self.crowd.poll_transmit(wall(self.now)) {
                self.carry(to, false, bytes);
            }
            if let Some(event) = self.crowd.poll_event() {
                return Some(event);
            }
            let arrival = self.under_way.keys().next().map_or(Moment::NEVER, |(at, _)| *at);
            let next = arrival.min(self.crowd.next_deadline());
            if next >= end {
                self.now = end;
                return None;
            }
            self.now = next.max(self.now);
            if arrival > self.now {
                continue;
            }
            let Some((_, (node, to_us, bytes))) = self.under_way.pop_first() else { continue };
            if to_us {
                self.crowd.receive(wall(self.now), node, &bytes);
            } else if let Some(fake) = self.nodes.get_mut(&node) {
                let replies = fake.receive(self.ours, &bytes);
                replies.into_iter().for_each(|reply| self.carry(node, true, reply));
            }
        }
    }

    fn look_up(&mut self, goal: Goal, known: &[u8]) -> Outcome {
        let known = known.iter().map(|n| contact(*n));
        let id = self.crowd.look_up(self.now, goal, lookup::Config::default(), known);
        let Event::LookedUp(it, outcome) = self.event() else { panic!("it was a lookup") };
        assert_eq!(it, id);
        *outcome
    }
}

fn target() -> Goal {
    Goal::Node(PeerId([7; 32]))
}

#[test]
fn it_walks_tells_who_we_are_and_keeps_the_sessions() {
    let mut net = Net::new(8);
    let outcome = net.look_up(target(), &[1]);
    assert_eq!((outcome.end, outcome.closest.len()), (End::Closest, 8));
    assert_eq!((outcome.stats.hops, outcome.stats.failed), (2, 0));
    // A round trip for the handshake and one for the request, of the first and of others.
    assert!(outcome.elapsed >= 8 * DELAY && outcome.elapsed < Duration::from_secs(1));
    let us = Some(identity(500).peer_id());
    assert!(net.nodes.values().all(|node| node.identified == us));
    let again = net.look_up(target(), &[]);
    assert_eq!((again.end, again.stats.hops, again.closest.len()), (End::Closest, 1, 8));
    assert!(again.elapsed < outcome.elapsed, "no handshakes: {:?}", again.elapsed);
}

#[test]
fn who_does_not_prove_its_id_or_answers_badly_has_failed() {
    let mut net = Net::new(8);
    for (n, fault) in
        [(3, Fault::Impostor), (2, Fault::Nameless), (4, Fault::Busy), (5, Fault::Garbage)]
    {
        net.fault(n, fault);
    }
    let outcome = net.look_up(target(), &[1]);
    let answered: Vec<PeerId> = outcome.closest.iter().map(|it| it.peer).collect();
    assert!([1, 6, 7, 8].iter().all(|n| answered.contains(&contact(*n).peer)), "{outcome:?}");
    assert_eq!((outcome.stats.answered, outcome.stats.failed), (4, 4));
}

#[test]
fn who_was_silent_is_not_asked_again_because_others_name_it() {
    let mut net = Net::new(8);
    net.nodes.remove(&at(2));
    net.fault(3, Fault::Mute);
    let known: Vec<u8> = (1..=8).collect();
    // A value that nobody has: the lookup waits for whoever may have it.
    let goal = Goal::Value(Key([7; 32]));
    for node in net.nodes.values_mut() {
        node.entries.truncate(7);
    }
    let outcome = net.look_up(goal, &known);
    assert!(outcome.elapsed >= lookup::PATIENCE, "{outcome:?}");
    assert!([2, 3].iter().all(|n| net.crowd.is_silent(net.now, &contact(*n).key)));
    let outcome = net.look_up(target(), &[1]);
    assert_eq!((outcome.stats.asked, outcome.stats.passed_over), (6, 2), "{outcome:?}");
    // After a while they are asked again: they may be back.
    assert_eq!(net.event_until(net.now + SHUNNED * 2), None);
    let outcome = net.look_up(target(), &[1]);
    assert_eq!((outcome.stats.asked, outcome.stats.passed_over), (8, 0), "{outcome:?}");
}

#[test]
fn where_nothing_can_be_sent_nobody_is() {
    let mut net = Net::new(2);
    let now = net.now;
    let id = net.crowd.look_up(now, target(), lookup::Config::default(), [contact(1)]);
    let (to, _) = net.crowd.poll_transmit(wall(now)).unwrap();
    net.crowd.unreachable(now, to);
    let Event::LookedUp(it, outcome) = net.event() else { panic!("a lookup was asked for") };
    assert_eq!((it, outcome.end, outcome.elapsed), (id, End::Deserted, Duration::ZERO));
}

#[test]
fn a_greeting_is_answered_or_fails() {
    let mut net = Net::new(3);
    let good = net.crowd.greet(wall(net.now), &contact(1)).unwrap();
    let Event::Answered(it, _, Ok(_)) = net.event() else { panic!("it greets back") };
    assert_eq!(it, good);
    net.fault(3, Fault::Impostor);
    let bad = net.crowd.greet(wall(net.now), &contact(3)).unwrap();
    assert_eq!(net.event(), Event::Answered(bad, contact(3), Err(Failure::Impostor)));
}

#[test]
fn sessions_are_kept_to_a_number() {
    let mut net = Net::new(1);
    for n in 0..NODES_MAX + 10 {
        let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
        let node = Contact { key: WgKey([high ^ low; 32]), ..contact(1) };
        let mut key = node.key;
        (key.0[0], key.0[1]) = (high, low);
        let node = Contact { key, ..node };
        let _ = net.crowd.node(wall(net.now), &node).unwrap();
        net.now = net.now + Duration::from_nanos(1);
    }
    assert_eq!(net.crowd.nodes.len(), NODES_MAX);
    assert!(!net.crowd.nodes.keys().any(|key| key.0[..2] == [0, 3]), "the oldest went");
}
