//! Who means harm from outside: garbage, replays, forged sources, floods.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use molia_router::ids::{PeerId, WgKey};
use molia_router::tunnel::plain::Peer;

use super::dice::Dice;
use super::honest::RouterFacts;
use super::insider::Insider;
use super::network::corrupt;

/// Datagrams of others that are remembered, to be used against them.
const RECORDED: usize = 64;

/// Something hostile on its way to the router.
#[derive(Debug)]
pub(crate) struct Shot {
    pub(crate) after: Duration,
    /// What is claimed.
    pub(crate) from: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Shot {
    pub(crate) fn now(from: SocketAddr, bytes: Vec<u8>) -> Self {
        Self { after: Duration::ZERO, from, bytes }
    }
}

/// Everybody hostile.
pub(crate) struct Hostile {
    pub(super) dice: Dice,
    router: RouterFacts,
    /// Whom they would like to bother.
    pub(crate) victims: Vec<PeerId>,
    pub(super) recorded: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(crate) insiders: Vec<Insider>,
    keys: u32,
}

impl Hostile {
    pub(crate) fn new(dice: Dice, router: RouterFacts, insiders: Vec<Insider>) -> Self {
        Self { dice, router, victims: Vec::new(), recorded: VecDeque::new(), insiders, keys: 0 }
    }

    /// Somebody's datagram passes by. Now and then a copy overtakes it, from elsewhere.
    pub(crate) fn overhear(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<Shot> {
        if self.dice.permille(300) {
            self.recorded.truncate(RECORDED - 1);
            self.recorded.push_front((from, bytes.to_vec()));
        }
        let overtakes = self.dice.permille(4);
        overtakes.then(|| Shot::now(self.anywhere(from.is_ipv6()), bytes.to_vec()))
    }

    /// The next misdeed.
    pub(crate) fn act(&mut self, now_ns: u64) -> Vec<Shot> {
        match self.dice.below(12) {
            0 | 1 => self.garbage(),
            2 => self.replay(),
            3 => self.corrupted(),
            4 => self.flood_from_everywhere(now_ns),
            5 => self.flood_from_one_address(now_ns),
            _ => {
                let at = self.dice.below(self.insiders.len());
                self.insiders[at].act(now_ns)
            }
        }
    }

    /// Whether `addr` is one that copies of others' datagrams come from.
    pub(crate) fn is_nowhere(addr: &SocketAddr) -> bool {
        match addr {
            SocketAddr::V4(addr) => addr.ip().octets()[0] == 77,
            SocketAddr::V6(addr) => addr.ip().segments()[0] == 0x2a01,
        }
    }

    /// An address that nobody has.
    pub(super) fn anywhere(&mut self, v6: bool) -> SocketAddr {
        let port = u16::try_from(self.dice.within(1..65_536)).expect("16 bits");
        let [a, b, c] = self.dice.bytes();
        if v6 {
            return (Ipv6Addr::new(0x2a01, 0xe0a, u16::from(a), 0, 0, 0, 0, u16::from(b)), port)
                .into();
        }
        (Ipv4Addr::new(77, a, b, c), port).into()
    }

    fn garbage(&mut self) -> Vec<Shot> {
        let count = self.dice.below(20) + 1;
        (0..count).map(|_| self.one_garbage()).collect()
    }

    fn one_garbage(&mut self) -> Shot {
        let v6 = self.dice.permille(200);
        let from = self.anywhere(v6);
        let len = *self.dice.pick(&[0, 1, 3, 4, 8, 16, 31, 32, 64, 92, 147, 148, 149, 600, 1400]);
        let mut bytes = self.dice.blob(len);
        let first = self.dice.below(12);
        if let [head, reserved @ ..] = &mut bytes[..] {
            *head = u8::try_from(first).unwrap_or(0);
            reserved.iter_mut().take(3).for_each(|byte| *byte = 0);
        }
        if first == 0 && len >= 8 {
            bytes[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42]);
        }
        Shot::now(from, bytes)
    }

    fn replay(&mut self) -> Vec<Shot> {
        let count = self.dice.below(8) + 1;
        (0..count).filter_map(|_| self.one_replay()).collect()
    }

    fn one_replay(&mut self) -> Option<Shot> {
        let (from, bytes) = self.one_recorded()?;
        let from = if self.dice.permille(500) { self.anywhere(from.is_ipv6()) } else { from };
        Some(Shot::now(from, bytes))
    }

    fn corrupted(&mut self) -> Vec<Shot> {
        let Some((from, mut bytes)) = self.one_recorded() else { return Vec::new() };
        corrupt(&mut self.dice, &mut bytes);
        vec![Shot::now(from, bytes)]
    }

    fn one_recorded(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let at = self.dice.below(self.recorded.len().max(1));
        self.recorded.get(at).cloned()
    }

    /// Valid initiations of many keys from many addresses, victims' among them.
    fn flood_from_everywhere(&mut self, now_ns: u64) -> Vec<Shot> {
        let one_network = self.dice.permille(500);
        let network = self.anywhere(false);
        let count = self.dice.below(70) + 1;
        (0..count)
            .map(|_| {
                let mut from = self.anywhere(false);
                if one_network
                    && let (SocketAddr::V4(from), SocketAddr::V4(of)) = (&mut from, &network)
                {
                    let [a, b, c, _] = of.ip().octets();
                    from.set_ip(Ipv4Addr::new(a, b, c, self.dice.byte()));
                }
                if self.dice.permille(50)
                    && let Some((victim, _)) = self.one_recorded()
                {
                    from = victim;
                }
                let bytes = self.initiation(now_ns);
                Shot::now(from, bytes)
            })
            .collect()
    }

    fn flood_from_one_address(&mut self, now_ns: u64) -> Vec<Shot> {
        let from = self.anywhere(false);
        let count = self.dice.below(30) + 1;
        (0..count).map(|_| Shot::now(from, self.initiation(now_ns))).collect()
    }

    /// An initiation of a key of its own; some do not decrypt.
    fn initiation(&mut self, now_ns: u64) -> Vec<u8> {
        self.keys += 1;
        let mut peer =
            Peer::new(WgKey(self.dice.bytes()), self.router.key, 0x8000_0000 | self.keys);
        let stranger = WgKey([9; 32]);
        let mut bytes = peer.initiate(now_ns, &self.dice.bytes()).to_vec();
        if self.dice.permille(200) {
            // What is sealed is for somebody else's key, what proves to know ours is not.
            let theirs =
                Peer::new(WgKey(self.dice.bytes()), stranger, 1).initiate(now_ns, &[7; 32]);
            bytes[40..116].copy_from_slice(&theirs[40..116]);
            super::plain::write_mac1(&self.router.key, &mut bytes);
        }
        bytes
    }
}
