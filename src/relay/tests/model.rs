//! Random operations against a model of plain lists.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const PEERS: u16 = 6;
const SLOTS: usize = 64;
const ROUTER: (u64, u64) = (60_000, 12_000);
const PREFIX: (u64, u64) = (30_000, 8_000);
const PEER: (u64, u64) = (20_000, 6_000);
const WANT: u64 = 5_000;

#[derive(Clone, Debug)]
enum Op {
    Allocate { pair: (u16, u16), wish: bool, entropy: u64 },
    Moved { peer: u16, place: u8, proven: bool, newer: bool },
    Left { peer: u16, stale: bool },
    Close { channel: usize, by: u16 },
    Send { channel: usize, side: usize, bytes: usize, fault: u8, control: bool },
    Next { most: usize },
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let peer = 0..PEERS;
    prop_oneof![
        3 => ((peer.clone(), peer.clone()), any::<bool>(), any::<u64>())
            .prop_map(|(pair, wish, entropy)| Op::Allocate { pair, wish, entropy }),
        1 => (peer.clone(), 0..4_u8, any::<bool>(), any::<bool>())
            .prop_map(|(peer, place, proven, newer)| Op::Moved { peer, place, proven, newer }),
        1 => (peer.clone(), any::<bool>()).prop_map(|(peer, stale)| Op::Left { peer, stale }),
        1 => (0..8_usize, peer).prop_map(|(channel, by)| Op::Close { channel, by }),
        30 => (0..8_usize, 0..2_usize, 40..2048_usize, 0..20_u8, any::<bool>())
            .prop_map(|(channel, side, bytes, fault, control)|
                Op::Send { channel, side, bytes, fault, control }),
        6 => (1..12_usize).prop_map(|most| Op::Next { most }),
        8 => prop_oneof![9 => 0..120_u64, 1 => 1_000..200_000_u64].prop_map(Op::Wait),
    ]
}

/// A pair's channel as both sides were told of it, and whether it still carries data.
#[derive(Clone, Debug)]
struct Pair {
    peers: [u16; 2],
    channels: [Channel; 2],
    wish: bool,
    open: bool,
    /// Content of the last datagram that went, by sender and class.
    sent: [[u32; 2]; 2],
}

fn small(n: u16) -> u8 {
    u8::try_from(n).unwrap()
}

struct Model {
    relay: Relay,
    pool: Pool,
    now: Moment,
    members: Vec<Member>,
    /// By peer: bytes that came from its unproven address less those that went there.
    allowance: Vec<u64>,
    pairs: Vec<Pair>,
    /// What each budget paid, and when.
    paid: BTreeMap<(u8, usize), Vec<(u64, u64)>>,
    contents: u32,
    /// Where each datagram that waits came in: pair, side and class.
    waits: BTreeMap<u32, (usize, usize, Class)>,
    log: String,
}

impl Model {
    fn new() -> Self {
        let limit = |(bytes, burst)| budget(bytes, burst);
        let config = Config {
            channels_max: 4096,
            channels_per_peer: 3,
            router: limit(ROUTER),
            prefix: limit(PREFIX),
            peer: limit(PEER),
            waiting_max: SLOTS - 1,
            waiting_per_flow: 16,
            ..config()
        };
        Self {
            relay: relay(config),
            pool: pool(SLOTS),
            now: at(1),
            // Two of a /24 each.
            members: (0..PEERS)
                .map(|n| Member { path: path(small(n) / 2, small(n)), ..member(n) })
                .collect(),
            allowance: vec![0; PEERS.into()],
            pairs: Vec::new(),
            paid: BTreeMap::new(),
            contents: 0,
            waits: BTreeMap::new(),
            log: String::new(),
        }
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Allocate { pair, wish, entropy } => self.allocate(pair, wish, entropy),
            Op::Moved { peer, place, proven, newer } => self.moved(peer, place, proven, newer),
            Op::Left { peer, stale } => self.left(peer, stale),
            Op::Close { channel, by } => self.close(channel, by),
            Op::Send { channel, side, bytes, fault, control } => {
                self.send(channel, side, bytes, fault, control);
            }
            Op::Next { most } => self.next(most),
            Op::Wait(ms) => self.now = self.now + Duration::from_millis(ms),
        }
        self.told();
        let stats = self.relay.stats();
        assert_eq!(self.pool.free(), SLOTS - stats.waiting, "buffers are conserved");
        let there = self.pairs.iter().filter(|pair| pair.open).count();
        assert_eq!(stats.channels, there);
    }

    fn open(&self, of: u16) -> usize {
        self.pairs.iter().filter(|pair| pair.open && pair.peers.contains(&of)).count()
    }

    fn allocate(&mut self, (a, b): (u16, u16), wish: bool, entropy: u64) {
        for n in [a, b] {
            if self.open(n) == 0 {
                // The relay has forgotten what came from a peer without channels.
                self.allowance[usize::from(n)] = 0;
            }
        }
        let [requester, target] = [a, b].map(|n| self.members[usize::from(n)]);
        let want = if wish { 8 * WANT } else { 0 };
        let there = self
            .pairs
            .iter()
            .position(|pair| pair.open && pair.peers.contains(&a) && pair.peers.contains(&b));
        let got = self.relay.allocate(self.now, &requester, &target, want, entropy);
        self.log.push_str(&format!("{got:?}\n"));
        for n in [a, b] {
            // A peer without channels had no member here.
            if self.open(n) == 0 {
                self.allowance[usize::from(n)] = 0;
            }
        }
        let full = self.open(a) >= 3 || self.open(b) >= 3;
        match (got, there) {
            (Err(reason), _) if a == b => assert_eq!(reason, Refused::SamePeer),
            (Ok(made), Some(at)) => {
                let side = usize::from(self.pairs[at].peers[0] != a);
                let channels = [made.requester.channel, made.target.channel];
                assert!(!made.new);
                assert_eq!(
                    channels,
                    [self.pairs[at].channels[side], self.pairs[at].channels[1 - side]]
                );
                if self.pairs[at].wish != wish {
                    // Another rate: what was paid before says nothing.
                    self.pairs[at].wish = wish;
                    (0..2).for_each(|side| drop(self.paid.remove(&(3, 2 * at + side))));
                }
            }
            (Ok(made), None) => {
                assert!(made.new && !full);
                let channels = [made.requester.channel, made.target.channel];
                self.pairs.push(Pair {
                    peers: [a, b],
                    channels,
                    wish,
                    open: true,
                    sent: [[0; 2]; 2],
                });
            }
            (Err(reason), None) => assert!(full && reason == Refused::PeerFull),
            (Err(reason), Some(_)) => panic!("{reason:?} for a channel that is there"),
        }
    }

    fn moved(&mut self, peer: u16, place: u8, proven: bool, newer: bool) {
        let at = usize::from(peer);
        let before = self.members[at];
        let to = path(50 + place % 2, 10 * place + small(peer));
        if self.open(peer) == 0 {
            return;
        }
        let same = to == before.path;
        self.members[at] = Member {
            path: to,
            proven: proven || (same && before.proven),
            home: HomeRef { shard: before.home.shard + u16::from(newer), ..before.home },
            ..before
        };
        if !same {
            self.allowance[at] = 0;
        }
        assert!(self.relay.moved(&self.members[at]));
    }

    fn left(&mut self, peer: u16, stale: bool) {
        let at = usize::from(peer);
        let home = self.members[at].home;
        let other = HomeRef { shard: home.shard + 1, ..home };
        self.relay.left(&self.members[at].peer, if stale { other } else { home });
        if stale {
            return;
        }
        let ended = self.pairs.iter_mut().filter(|pair| pair.peers.contains(&peer));
        ended.for_each(|pair| pair.open = false);
        // The next session is at a proven address again, since nothing tells of allowances.
        self.members[at].proven = true;
    }

    fn close(&mut self, channel: usize, by: u16) {
        let Some(at) = self.nth(channel) else { return };
        let side = usize::from(by) % 2;
        let id = self.pairs[at].channels[side].id;
        let right = self.pairs[at].open && self.pairs[at].peers[side] == by;
        let closed = self.relay.close(id, &self.members[usize::from(by)].peer);
        assert_eq!(closed.is_some(), right);
        if let Some(closed) = closed {
            assert_eq!(closed.legs[0].channel, self.pairs[at].channels[side]);
            self.pairs[at].open = false;
        }
    }

    fn nth(&self, channel: usize) -> Option<usize> {
        // Mostly those that were made last.
        self.pairs.len().checked_sub(1 + channel)
    }

    fn send(&mut self, channel: usize, side: usize, bytes: usize, fault: u8, control: bool) {
        let Some(at) = self.nth(channel) else { return };
        let pair = self.pairs[at].clone();
        let [from, to] = [side, 1 - side].map(|side| usize::from(pair.peers[side]));
        let mut header = pair.channels[side];
        let mut path = self.members[from].path;
        match fault {
            0 => header.generation ^= 1,
            1 => path.peer.set_port(1),
            _ => {}
        }
        let got = self.relay.route(self.now, &path, header, bytes, 1);
        self.log.push_str(&format!("{got:?}\n"));
        if !pair.open || fault == 0 {
            assert_eq!(got, Err(Drop::RelayChannel));
            return;
        }
        if fault == 1 {
            assert_eq!(got, Err(Drop::RelaySource));
            return;
        }
        if !self.members[from].proven {
            self.allowance[from] += bytes as u64;
        }
        if !self.members[to].proven && self.allowance[to] < bytes as u64 {
            assert_eq!(got, Err(Drop::Unproven));
            return;
        }
        let route = got.unwrap();
        assert_eq!((route.to, route.channel), (self.members[to].path, pair.channels[1 - side]));
        match route.verdict {
            Verdict::Send => {
                // Whatever waited before and comes out later was overtaken.
                self.contents += 1;
                self.pairs[at].sent[side] = [self.contents; 2];
                self.pay(at, side, bytes);
            }
            Verdict::Wait => {
                let class = if control { Class::Control } else { Class::Coordination };
                self.contents += 1;
                self.waits.insert(self.contents, (at, side, class));
                let buf = data(&self.pool, bytes, self.contents);
                let offered = self.relay.enqueue(self.now, route.flow, class, buf);
                self.log.push_str(&format!("{offered:?}\n"));
                if offered != Offered::Enqueued {
                    assert_eq!(offered, Offered::Dropped(Drop::RelayBudget));
                    self.waits.remove(&self.contents);
                }
            }
        }
    }

    /// A datagram went: to an address that may have it, and every budget has paid.
    fn pay(&mut self, pair: usize, side: usize, bytes: usize) {
        let [from, to] = [side, 1 - side].map(|side| usize::from(self.pairs[pair].peers[side]));
        if !self.members[to].proven {
            let left = self.allowance[to].checked_sub(bytes as u64);
            self.allowance[to] = left.expect("more went to an unproven address than came");
        }
        let prefix = Prefix::of(self.members[from].path.peer.ip()).0[3].into();
        let own = 2 * pair + side;
        for (key, (rate, burst)) in [
            ((0, 0), ROUTER),
            ((1, prefix), PREFIX),
            ((2, from), PEER),
            ((3, own), if self.pairs[pair].wish { (WANT, PEER.1) } else { PEER }),
        ] {
            let paid = self.paid.entry(key).or_default();
            let ns = self.now.as_nanos();
            paid.push((ns, bytes as u64));
            let mut sum = 0;
            for (then, bytes) in paid.iter().rev() {
                sum += bytes;
                let earned = burst + (rate * (ns - then)).div_ceil(1_000_000_000);
                assert!(sum <= earned, "{key:?} paid {sum} of {earned}");
            }
        }
    }

    fn next(&mut self, most: usize) {
        for _ in 0..most {
            let Some(ready) = self.relay.next(self.now) else { break };
            self.log.push_str(&format!(
                "{:?} {} {}\n",
                ready.to,
                content(&ready.buf),
                ready.buf.len()
            ));
            let which = content(&ready.buf);
            let (pair, side, class) = self.waits.remove(&which).unwrap();
            let to = usize::from(self.pairs[pair].peers[1 - side]);
            assert!(self.pairs[pair].open);
            assert_eq!((ready.to, ready.class), (self.members[to].path, class));
            assert_eq!(ready.channel, self.pairs[pair].channels[1 - side]);
            let last = &mut self.pairs[pair].sent[side][class as usize];
            assert!(std::mem::replace(last, which) < which, "in order");
            self.pay(pair, side, ready.buf.len());
        }
    }

    fn told(&mut self) {
        while let Some(event) = self.relay.poll(self.now) {
            self.log.push_str(&format!("{event:?}\n"));
            let closed = match event {
                Event::Status(status) => {
                    let known = |pair: &Pair| pair.open && pair.channels.contains(&status.channel);
                    assert!(self.pairs.iter().any(known));
                    continue;
                }
                Event::Closed(closed) => closed,
            };
            let channels = closed.legs.map(|leg| leg.channel);
            let pair = self.pairs.iter_mut().rev().find(|pair| pair.channels == channels).unwrap();
            assert_eq!(pair.open, closed.reason != CloseReason::Identity);
            pair.open = false;
        }
        // What was dropped meanwhile is not heard of again; forget what can no longer come.
        let open: Vec<bool> = self.pairs.iter().map(|pair| pair.open).collect();
        self.waits.retain(|_, (pair, ..)| open[*pair]);
        if self.relay.stats().waiting == 0 {
            self.waits.clear();
        }
    }

    /// Everything ends, and nothing is left.
    fn end(&mut self) {
        self.now = self.now + 4000 * SECOND;
        self.told();
        let stats = self.relay.stats();
        assert_eq!((stats.channels, stats.members, stats.waiting), (0, 0, 0));
        assert_eq!(stats.allocated, stats.closed);
        self.next(usize::MAX);
        assert_eq!(self.relay.next_deadline(), Moment::NEVER);
        self.log.push_str(&format!("{stats:?}"));
    }
}

fn run(ops: &[Op]) -> String {
    let mut model = Model::new();
    ops.iter().for_each(|op| model.run(op));
    model.end();
    model.log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn agrees_with_lists(ops in vec(op(), 1..400)) {
        let first = run(&ops);
        prop_assert!(first == run(&ops), "the same again");
    }
}
