//! Rates per peer and per prefix.
//!
//! A bucket is one number (see [`Meter`]). Two of them are all there is per session, packets and
//! bytes, and both are looked at before either is charged.

use std::time::Duration;

use super::Outgoing;
use crate::bucket::{Keyed, Meter};
use crate::drops::Drop;
use crate::net::Prefix;
use crate::time::Moment;
use crate::wire::kind::Class;

/// A rate; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Frames per second.
    pub packets_per_s: Option<u64>,
    /// Bits of UDP payload per second.
    pub bits_per_s: Option<u64>,
}

impl Rate {
    const fn is_unlimited(&self) -> bool {
        self.packets_per_s.is_none() && self.bits_per_s.is_none()
    }
}

/// Rates per peer and per prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one session.
    pub peer: Rate,
    /// Of all sessions of one /24 or /48 together.
    pub prefix: Rate,
    /// How much of the rate may be used at once.
    pub burst: Duration,
    /// What control frames may overdraw the burst by.
    pub control_headroom_percent: u32,
    /// Prefixes that are told apart at a time, if prefixes are limited.
    pub prefixes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            peer: Rate { packets_per_s: Some(500), bits_per_s: Some(4_000_000) },
            prefix: Rate::default(),
            burst: Duration::from_secs(1),
            control_headroom_percent: 50,
            prefixes: 65_536,
        }
    }
}

/// The largest single cost: a datagram of this many bytes passes whatever the rate.
const LARGEST_BYTES: u64 = 2048;

/// A meter that control frames may overdraw.
#[derive(Clone, Copy, Debug)]
struct Limit {
    meter: Meter,
    control_allowance_ns: u64,
}

impl Limit {
    fn new(per_s: Option<u64>, largest: u64, limits: &Limits) -> Self {
        let meter = Meter::lasting(per_s, limits.burst, largest);
        let percent = limits.control_headroom_percent.into();
        let headroom = meter.allowance_ns().saturating_mul(percent) / 100;
        Self { meter, control_allowance_ns: meter.allowance_ns().saturating_add(headroom) }
    }

    /// Virtual time after `units` more, or `None` if that is beyond the allowance.
    #[inline]
    fn after(&self, now: Moment, bucket: u64, units: u64, class: Class) -> Option<u64> {
        let after = self.meter.after(now, bucket, units);
        let allowance = match class {
            Class::Control => self.control_allowance_ns,
            Class::Coordination | Class::Hints => self.meter.allowance_ns(),
        };
        (after - now.as_nanos() <= allowance).then_some(after)
    }
}

/// Both virtual times of one peer or prefix.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    packets: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Policy {
    packets: Limit,
    bytes: Limit,
}

impl Policy {
    fn new(rate: &Rate, limits: &Limits) -> Self {
        Self {
            packets: Limit::new(rate.packets_per_s, 1, limits),
            bytes: Limit::new(rate.bits_per_s.map(|bits| bits / 8), LARGEST_BYTES, limits),
        }
    }

    #[inline]
    fn after(&self, now: Moment, bucket: Bucket, bytes: u64, class: Class) -> Option<Bucket> {
        Some(Bucket {
            packets: self.packets.after(now, bucket.packets, 1, class)?,
            bytes: self.bytes.after(now, bucket.bytes, bytes, class)?,
        })
    }
}

/// Polices offers.
#[derive(Debug)]
pub(super) struct Shaper {
    peers: Option<(Policy, Box<[Bucket]>)>,
    prefixes: Option<(Policy, PrefixTable)>,
}

impl Shaper {
    /// Memory at most, for so many sessions.
    pub(super) fn bytes(limits: &Limits, sessions_max: usize) -> usize {
        let sets = limits.prefixes.div_ceil(WAYS).next_power_of_two();
        sessions_max * size_of::<Bucket>() + sets * size_of::<[(Prefix, Bucket); WAYS]>()
    }

    pub(super) fn new(limits: &Limits, sessions_max: usize, keyed: Keyed) -> Self {
        let policy = |rate: &Rate| (!rate.is_unlimited()).then(|| Policy::new(rate, limits));
        Self {
            peers: policy(&limits.peer)
                .map(|policy| (policy, vec![Bucket::default(); sessions_max].into())),
            prefixes: policy(&limits.prefix)
                .map(|policy| (policy, PrefixTable::new(limits.prefixes, keyed))),
        }
    }

    /// Charges a frame to its peer and its prefix, or to neither.
    #[inline]
    pub(super) fn charge(
        &mut self,
        now: Moment,
        frame: &Outgoing,
        bytes: usize,
    ) -> Result<(), Drop> {
        if self.peers.is_none() && self.prefixes.is_none() {
            return Ok(());
        }
        let bytes = bytes as u64;
        let mut peer_after = None;
        if let Some((policy, buckets)) = &mut self.peers {
            let bucket = &mut buckets[frame.session.slot as usize];
            let after = policy.after(now, *bucket, bytes, frame.class).ok_or(Drop::PeerRate)?;
            peer_after = Some((bucket, after));
        }
        if let Some((policy, table)) = &mut self.prefixes {
            let bucket = table.bucket(frame.prefix);
            *bucket = policy.after(now, *bucket, bytes, frame.class).ok_or(Drop::SendPrefixRate)?;
        }
        if let Some((bucket, after)) = peer_after {
            *bucket = after;
        }
        Ok(())
    }
}

/// Ways of a set: places a prefix may be in.
const WAYS: usize = 4;

/// A fixed number of prefixes' buckets: sets of four found by a keyed hash. A newcomer takes the
/// place that owes least, which is an idle one unless four busy prefixes share a set.
#[derive(Debug)]
struct PrefixTable {
    sets: Box<[[(Prefix, Bucket); WAYS]]>,
    keyed: Keyed,
}

impl PrefixTable {
    fn new(prefixes: usize, keyed: Keyed) -> Self {
        let sets = prefixes.div_ceil(WAYS).next_power_of_two();
        Self { sets: vec![[(Prefix([0; 7]), Bucket::default()); WAYS]; sets].into(), keyed }
    }

    fn bucket(&mut self, prefix: Prefix) -> &mut Bucket {
        let set = &mut self.sets[self.keyed.index(&prefix, self.sets.len())];
        let way = set.iter().position(|(of, _)| *of == prefix).unwrap_or_else(|| {
            let owes = |way: &usize| set[*way].1.packets.max(set[*way].1.bytes);
            let way = (0..WAYS).min_by_key(owes).unwrap_or(0);
            set[way] = (prefix, Bucket::default());
            way
        });
        &mut set[way].1
    }
}
