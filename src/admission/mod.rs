//! What a stranger must show before it is worth a Diffie-Hellman.
//!
//! Stands in front of the tunnel, whose own limiter is one global counter and
//! whose cookies cover neither the port nor a price. The checks run cheapest
//! first: the turn's budget of looks, mac1, the memory of repeats, the cookie
//! (and its price) when strangers are many, buckets per address and network.
//!
//! Buckets are kept apart by [`Standing`], because an empty one must not let a
//! forger lock anybody out: who has shown a cookie is charged to a bucket that
//! only holders of that address can empty, and is dropped when it is empty;
//! everybody else is asked for the cookie instead. Nothing here reads a clock,
//! allocates after `new`, or grows with the number of sources.
//!
//! It does not do curve arithmetic, and does not know sessions: whether an address is
//! known is the caller's word.
//!
//! Beside it lie the rules for requests that leave something behind, once a session stands:
//! [`stamps`] are their price, and [`repeats`] keep a retry from having its effect twice.

pub mod cookie;
mod load;
pub mod puzzle;
pub mod repeats;
mod replay;
pub mod stamps;

use std::net::{IpAddr, SocketAddr};

use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

use crate::bucket::{BucketTable, Keyed, Rate};
use crate::drops::Drop;
use crate::time::{Moment, Now};

use cookie::{Cookies, Place};
use load::Load;
use replay::Replays;

/// Bytes of a handshake initiation.
pub const INITIATION_BYTES: usize = 148;
/// A handshake initiation.
pub type Initiation = [u8; INITIATION_BYTES];
/// Where mac1 begins; it covers everything before it.
pub const MAC1_AT: usize = 116;
/// Where mac2 begins; it covers everything before it.
pub const MAC2_AT: usize = 132;

/// Limits of admission.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Initiations a second from unproven sources above which strangers need a cookie.
    pub cookie_threshold_pps: u32,
    /// Handshakes of one address: an IPv4 address or an IPv6 /64.
    pub address: Rate,
    /// Handshakes of one network: an IPv4 /24 or an IPv6 /48.
    pub prefix: Rate,
    /// Buckets of addresses and of networks, and remembered initiations.
    pub table_entries: usize,
    /// Initiations that one turn looks at.
    pub initiations_per_turn: u32,
    /// Price of a cookie's use; 0 lets stock clients in.
    pub difficulty_bits: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cookie_threshold_pps: 500,
            address: Rate::new(20, 5),
            prefix: Rate::new(500, 500),
            table_entries: 65_536,
            initiations_per_turn: 256,
            difficulty_bits: 0,
        }
    }
}

/// What the source of an initiation has proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Standing {
    /// A valid cookie (and its price): it receives at this address now.
    Shown,
    /// A session proved this address lately; the initiation itself may still be forged.
    Known,
    /// Nothing.
    Stranger,
}

/// What to do with an initiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Worth the curve work.
    Pass(Standing),
    /// Dropped, and answered with [`Admission::reply`].
    Cookie(Drop),
    /// Dropped in silence.
    Dropped(Drop),
}

/// Admission of one shard.
#[derive(Debug)]
pub struct Admission {
    config: Config,
    mac1_key: [u8; 32],
    cookie_key: [u8; 32],
    cookies: Cookies,
    load: Load,
    replays: Replays,
    addresses: BucketTable<(Standing, Network)>,
    prefixes: BucketTable<(Standing, Network)>,
    turn: Moment,
    looks: u32,
    rng: ChaCha12Rng,
}

impl Admission {
    /// Memory that its tables take.
    pub fn bytes(config: &Config) -> usize {
        let buckets = 2 * BucketTable::<(Standing, Network)>::bytes(config.table_entries);
        buckets + Replays::bytes(config.table_entries)
    }

    /// Admission to the router with this WireGuard public key; shards share `node_secret`.
    pub fn new(
        config: Config,
        public: &[u8; 32],
        node_secret: [u8; 32],
        mut rng: ChaCha12Rng,
    ) -> Self {
        let mut keyed = || Keyed::new([rng.next_u64(), rng.next_u64()]);
        Self {
            mac1_key: cookie::mac1_key(public),
            cookie_key: cookie::cookie_key(public),
            cookies: Cookies::new(node_secret),
            load: Load::new(config.cookie_threshold_pps),
            replays: Replays::new(config.table_entries, keyed()),
            addresses: BucketTable::new(config.table_entries, config.address, keyed()),
            prefixes: BucketTable::new(config.table_entries, config.prefix, keyed()),
            turn: Moment::START,
            looks: 0,
            config,
            rng,
        }
    }

    /// Judges an initiation from `peer`; `known` says that a session proved this address lately.
    /// A turn is recognized by its moment.
    pub fn judge(
        &mut self,
        now: Now,
        peer: &SocketAddr,
        known: bool,
        initiation: &Initiation,
    ) -> Verdict {
        if let Err(drop) = self.look(now, initiation) {
            return Verdict::Dropped(drop);
        }
        let standing = match self.cookies.shown(now, peer, Place::Router, initiation) {
            Some(cookie) if puzzle::paid(initiation, &cookie, self.config.difficulty_bits) => {
                Standing::Shown
            }
            Some(_) | None if known => Standing::Known,
            Some(_) | None => Standing::Stranger,
        };
        if standing == Standing::Stranger && self.load.knock(now.at) {
            return Verdict::Cookie(Drop::NoCookie);
        }
        if let Err(drop) = self.charge(now.at, peer.ip(), standing) {
            return match standing {
                Standing::Shown => Verdict::Dropped(drop),
                Standing::Known | Standing::Stranger => Verdict::Cookie(drop),
            };
        }
        self.replays.remember(&initiation[4..40]);
        Verdict::Pass(standing)
    }

    /// The cookie reply to an initiation that [`Admission::judge`] did not let through.
    pub fn reply(
        &mut self,
        now: Now,
        peer: &SocketAddr,
        initiation: &Initiation,
    ) -> [u8; cookie::REPLY_BYTES] {
        let bits = self.config.difficulty_bits;
        let at = (peer, Place::Router);
        let reply = self.cookies.reply(now, at, initiation, &self.cookie_key, bits, &mut self.rng);
        reply.expect("an initiation has its two MACs")
    }

    /// Remembers an initiation that another shard's admission let through.
    ///
    /// # Errors
    /// [`Drop::ReplayedInitiation`] if it was seen here: a repeat that came by another shard,
    /// which knows only its own.
    pub fn vouched(&mut self, initiation: &Initiation) -> Result<(), Drop> {
        let mark = &initiation[4..40];
        if self.replays.seen(mark) {
            return Err(Drop::ReplayedInitiation);
        }
        self.replays.remember(mark);
        Ok(())
    }

    /// Whether strangers are asked for cookies.
    pub fn under_load(&self, now: Moment) -> bool {
        self.load.under(now)
    }

    /// New limits; sizes of tables stay as they were.
    pub fn configure(&mut self, config: Config) {
        self.load.set_threshold(config.cookie_threshold_pps);
        self.addresses.set_rate(config.address);
        self.prefixes.set_rate(config.prefix);
        self.config = config;
    }

    /// The checks that need no state of the source.
    fn look(&mut self, now: Now, initiation: &Initiation) -> Result<(), Drop> {
        if now.at != self.turn {
            (self.turn, self.looks) = (now.at, 0);
        }
        if self.looks >= self.config.initiations_per_turn {
            return Err(Drop::PacketBudget);
        }
        self.looks += 1;
        if !cookie::has_mac1(&self.mac1_key, initiation) {
            return Err(Drop::BadMac1);
        }
        if self.replays.seen(&initiation[4..40]) {
            return Err(Drop::ReplayedInitiation);
        }
        Ok(())
    }

    fn charge(&mut self, now: Moment, ip: IpAddr, standing: Standing) -> Result<(), Drop> {
        if !self.addresses.take(now, &(standing, Network::address(ip)), 1) {
            return Err(Drop::AddressRate);
        }
        if !self.prefixes.take(now, &(standing, Network::prefix(ip)), 1) {
            return Err(Drop::PrefixRate);
        }
        Ok(())
    }
}

/// What a bucket is kept for: at most the first 64 bits of an address, and the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Network(u64, bool);

impl Network {
    /// An IPv4 address or an IPv6 /64.
    fn address(ip: IpAddr) -> Self {
        Self::of(ip, 32, 64)
    }

    /// An IPv4 /24 or an IPv6 /48.
    fn prefix(ip: IpAddr) -> Self {
        Self::of(ip, 24, 48)
    }

    fn of(ip: IpAddr, v4_bits: u32, v6_bits: u32) -> Self {
        match ip {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits() >> (32 - v4_bits)), false),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments().map(u64::from);
                Self((a << 48 | b << 32 | c << 16 | d) >> (64 - v6_bits), true)
            }
        }
    }
}

#[cfg(test)]
mod tests;
