//! The peers that have channels here, and what they owe.
//!
//! What a datagram needs of a member is half a cache line; the rest is for the control path and
//! for those whose data waits. A member is known by half of its id, which is a BLAKE3
//! digest: who finds two keys of one half, at 2^64 trials, merges two identities of their own.

use super::names::{NIL, Names};
use super::{Config, Member};
use crate::bucket::Keyed;
use crate::ids::{HomeRef, PeerId, SessionRef};
use crate::net::{Address, Local, Path, Prefix};

/// Half a peer id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Tag([u8; 16]);

impl Tag {
    fn of(peer: &PeerId) -> Self {
        let mut tag = [0; 16];
        tag.copy_from_slice(&peer.0[..16]);
        Self(tag)
    }
}

/// Most prefixes and local addresses: their numbers are 16 bits.
const PREFIXES_MAX: usize = u16::MAX as usize - 1;
const LOCALS_MAX: usize = 4096;
/// No prefix, no local address.
const NONE: u16 = u16::MAX;

/// Highest factor.
pub(super) const FACTOR_MAX: u8 = 16;

/// What the packet path needs.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct Hot {
    /// Virtual time of its budget.
    pub(super) at: u64,
    pub(super) address: Address,
    pub(super) prefix: u16,
    local: u16,
    flags: u8,
    /// 1 to [`FACTOR_MAX`].
    pub(super) factor: u8,
}

const PROVEN: u8 = 1 << 0;
const REACHABLE: u8 = 1 << 1;
/// Something is reserved of its budget.
const CONTENDED: u8 = 1 << 2;

impl Hot {
    const EMPTY: Self =
        Self { at: 0, address: Address([0; 18]), prefix: NONE, local: NONE, flags: 0, factor: 1 };

    #[inline]
    pub(super) const fn proven(&self) -> bool {
        self.flags & PROVEN != 0
    }

    #[inline]
    pub(super) const fn reachable(&self) -> bool {
        self.flags & REACHABLE != 0
    }

    const fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }
}

#[derive(Clone, Copy, Debug)]
struct Cold {
    /// Session's slot and generation.
    session: [u32; 2],
    /// Bytes that came from its address less those that went there.
    allowance: u32,
    /// Bytes of its budget that are promised to data that waits.
    reserved: u32,
    /// First of its legs.
    pub(super) first: u32,
    shard: u16,
    /// The network that its first session here began in.
    network: u16,
}

impl Cold {
    const EMPTY: Self =
        Self { session: [0; 2], allowance: 0, reserved: 0, first: NIL, shard: 0, network: NONE };
}

/// Budget of a /24 or /48.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PrefixBudget {
    pub(super) at: u64,
    /// Bytes that are promised to data that waits.
    pub(super) reserved: u32,
    /// Channels of the members whose sessions began there, wherever they say to be now.
    channels: u32,
}

/// All members of a shard.
#[derive(Debug)]
pub(super) struct Members {
    names: Names<Tag>,
    hot: Box<[Hot]>,
    cold: Box<[Cold]>,
    prefix_names: Names<Prefix>,
    /// One more than names: who finds no place shares the last.
    prefixes: Box<[PrefixBudget]>,
    local_names: Names<Local>,
    locals: Box<[Local]>,
}

impl Members {
    /// Two of each channel.
    const fn places(config: &Config) -> usize {
        2 * config.channels_max
    }

    fn prefix_places(config: &Config) -> usize {
        Self::places(config).min(PREFIXES_MAX)
    }

    fn local_places(config: &Config) -> usize {
        Self::places(config).min(LOCALS_MAX)
    }

    /// Memory of the members alone, and of prefixes and local addresses.
    pub(super) fn bytes(config: &Config) -> [usize; 2] {
        let (places, prefixes) = (Self::places(config), Self::prefix_places(config));
        let locals = Self::local_places(config);
        let members = places * (size_of::<Hot>() + size_of::<Cold>()) + Names::<Tag>::bytes(places);
        let networks =
            (prefixes + 1) * size_of::<PrefixBudget>() + Names::<Prefix>::bytes(prefixes);
        let ours = locals * size_of::<Local>() + Names::<Local>::bytes(locals);
        [members, networks + ours]
    }

    pub(super) fn new(config: &Config, mut keyed: impl FnMut() -> Keyed) -> Self {
        let (places, prefixes) = (Self::places(config), Self::prefix_places(config));
        let locals = Self::local_places(config);
        Self {
            names: Names::new(places, Tag([0; 16]), keyed()),
            hot: vec![Hot::EMPTY; places].into(),
            cold: vec![Cold::EMPTY; places].into(),
            prefix_names: Names::new(prefixes, Prefix([0; 7]), keyed()),
            prefixes: vec![PrefixBudget::default(); prefixes + 1].into(),
            local_names: Names::new(locals, Local::default(), keyed()),
            locals: vec![Local::default(); locals].into(),
        }
    }

    /// Members with channels.
    pub(super) fn len(&self) -> usize {
        self.names.used()
    }

    pub(super) fn find(&self, peer: &PeerId) -> Option<u32> {
        self.names.find(&Tag::of(peer))
    }

    /// Channels of a member.
    pub(super) fn channels(&self, at: u32) -> u32 {
        self.names.uses(at)
    }

    /// Channels of the members of a peer's network; one between two of them counts twice.
    pub(super) fn channels_near(&self, member: &Member) -> usize {
        let network = self.prefix_names.find(&member.network);
        let network = network.map_or(self.prefix_names_max(), |at| at as usize);
        self.prefixes[network].channels as usize
    }

    /// One channel more for a member, who is a new one or whom this is news of.
    pub(super) fn take(&mut self, member: &Member) -> Option<u32> {
        let taken = self.names.take(Tag::of(&member.peer))?;
        let at = taken.at as usize;
        if taken.new {
            self.hot[at] = Hot::EMPTY;
            self.cold[at] = Cold::EMPTY;
        }
        if self.cold[at].network == NONE {
            self.cold[at].network = self.take_prefix(member.network);
        }
        self.prefixes[usize::from(self.cold[at].network)].channels += 1;
        let hot = &self.hot[at];
        // An address does not become unproven by what was asked before.
        let known = hot.proven() && hot.address == Address::of(&member.path.peer);
        self.update(taken.at, &Member { proven: member.proven || known, ..*member });
        Some(taken.at)
    }

    /// One channel less; the last one's end leaves only what is owed.
    pub(super) fn release(&mut self, at: u32) {
        let network = self.cold[at as usize].network;
        self.prefixes[usize::from(network)].channels -= 1;
        if !self.names.release(at) {
            return;
        }
        let hot = &mut self.hot[at as usize];
        let (prefix, local) = (hot.prefix, hot.local);
        *hot = Hot { at: hot.at, ..Hot::EMPTY };
        let cold = &mut self.cold[at as usize];
        debug_assert!(cold.reserved == 0 && cold.first == NIL, "its channels are closed");
        *cold = Cold::EMPTY;
        self.leave(prefix, local);
        self.leave(network, NONE);
    }

    /// What a session's shard tells.
    pub(super) fn update(&mut self, at: u32, member: &Member) {
        let HomeRef { shard, session: SessionRef { slot, generation } } = member.home;
        let (hot, cold) = (&mut self.hot[at as usize], &mut self.cold[at as usize]);
        (cold.shard, cold.session) = (shard, [slot, generation]);
        hot.factor = member.factor.clamp(1, FACTOR_MAX);
        let address = Address::of(&member.path.peer);
        let news = hot.prefix == NONE || hot.address != address;
        if news || (hot.proven() && !member.proven) {
            hot.address = address;
            cold.allowance = 0;
        }
        hot.set(PROVEN, member.proven);
        let (prefix, local) = self.settle(at, &member.path);
        let hot = &mut self.hot[at as usize];
        let before = (hot.prefix, hot.local);
        (hot.prefix, hot.local) = (prefix, local);
        hot.set(REACHABLE, member.reachable && local != NONE);
        self.leave(before.0, before.1);
    }

    /// A prefix's place, the shared one if there is none of its own.
    fn take_prefix(&mut self, prefix: Prefix) -> u16 {
        let Some(taken) = self.prefix_names.take(prefix) else {
            return number(self.prefix_names_max());
        };
        if taken.new {
            self.prefixes[taken.at as usize] = PrefixBudget::default();
        }
        number(taken.at as usize)
    }

    /// Takes the prefix and the local address of a path; they move what waits, if it does.
    fn settle(&mut self, at: u32, path: &Path) -> (u16, u16) {
        let prefix = self.take_prefix(Prefix::of(path.peer.ip()));
        let (before, reserved) = (self.hot[at as usize].prefix, self.cold[at as usize].reserved);
        if before != NONE {
            self.prefixes[usize::from(before)].reserved -= reserved;
        }
        self.prefixes[usize::from(prefix)].reserved += reserved;
        let local = self.local_names.take(path.local).map_or(NONE, |taken| {
            self.locals[taken.at as usize] = path.local;
            number(taken.at as usize)
        });
        (prefix, local)
    }

    fn leave(&mut self, prefix: u16, local: u16) {
        if usize::from(prefix) < self.prefix_names_max() {
            self.prefix_names.release(prefix.into());
        }
        if local != NONE {
            self.local_names.release(local.into());
        }
    }

    fn prefix_names_max(&self) -> usize {
        self.prefixes.len() - 1
    }

    #[inline]
    pub(super) fn hot(&self, at: u32) -> &Hot {
        &self.hot[at as usize]
    }

    #[inline]
    pub(super) fn hot_mut(&mut self, at: u32) -> &mut Hot {
        &mut self.hot[at as usize]
    }

    #[inline]
    pub(super) fn prefix(&self, prefix: u16) -> &PrefixBudget {
        &self.prefixes[usize::from(prefix)]
    }

    #[inline]
    pub(super) fn prefix_mut(&mut self, prefix: u16) -> &mut PrefixBudget {
        &mut self.prefixes[usize::from(prefix)]
    }

    /// Where a member is.
    #[inline]
    pub(super) fn path(&self, at: u32) -> Path {
        let hot = self.hot(at);
        let local = self.locals.get(usize::from(hot.local)).copied().unwrap_or_default();
        Path { peer: hot.address.socket(), local }
    }

    pub(super) fn home(&self, at: u32) -> HomeRef {
        let Cold { shard, session: [slot, generation], .. } = self.cold[at as usize];
        HomeRef { shard, session: SessionRef { slot, generation } }
    }

    /// Those whose sessions are in a shard. Looks at all: shards rarely end.
    pub(super) fn of_shard(&self, shard: u16) -> Vec<u32> {
        let all = 0..u32::try_from(self.cold.len()).unwrap_or(NIL);
        let there = |at: &u32| self.channels(*at) > 0 && self.cold[*at as usize].shard == shard;
        all.filter(there).collect()
    }

    /// Bytes came from an address that is not proven.
    pub(super) fn credit(&mut self, at: u32, bytes: u32) {
        let allowance = &mut self.cold[at as usize].allowance;
        *allowance = allowance.saturating_add(bytes);
    }

    /// Whether bytes may go to an address that is not proven.
    pub(super) fn allows(&self, at: u32, bytes: u32) -> bool {
        self.cold[at as usize].allowance >= bytes
    }

    /// Bytes went to an address that is not proven.
    pub(super) fn debit(&mut self, at: u32, bytes: u32) {
        let allowance = &mut self.cold[at as usize].allowance;
        *allowance = allowance.saturating_sub(bytes);
    }

    /// Bytes of a member's budget that are promised.
    #[inline]
    pub(super) fn reserved(&self, at: u32) -> u32 {
        if self.hot(at).flags & CONTENDED == 0 { 0 } else { self.cold[at as usize].reserved }
    }

    /// Promises bytes of a member's and its prefix's budgets.
    pub(super) fn reserve(&mut self, at: u32, bytes: u32) {
        let hot = &mut self.hot[at as usize];
        self.cold[at as usize].reserved += bytes;
        self.prefixes[usize::from(hot.prefix)].reserved += bytes;
        hot.set(CONTENDED, self.cold[at as usize].reserved > 0);
    }

    /// Takes back what was promised.
    pub(super) fn unreserve(&mut self, at: u32, bytes: u32) {
        let hot = &mut self.hot[at as usize];
        self.cold[at as usize].reserved -= bytes;
        self.prefixes[usize::from(hot.prefix)].reserved -= bytes;
        hot.set(CONTENDED, self.cold[at as usize].reserved > 0);
    }

    pub(super) fn first(&self, at: u32) -> u32 {
        self.cold[at as usize].first
    }

    pub(super) fn set_first(&mut self, at: u32, leg: u32) {
        self.cold[at as usize].first = leg;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most `PREFIXES_MAX`")]
const fn number(at: usize) -> u16 {
    at as u16
}
