//! The channels of a shard: one cache line each, found by arithmetic.

use super::names::NIL;
use super::scramble::Scramble;
use crate::time::Moment;
use crate::wire::channel::Channel as Header;

/// No backlog.
pub(super) const NO_BACKLOG: u16 = u16::MAX;

/// A direction of a channel: slot, and in the lowest bit the side that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leg(pub(super) u32);

impl Leg {
    #[inline]
    pub(super) const fn new(slot: u32, side: usize) -> Self {
        Self(slot << 1 | (side != 0) as u32)
    }

    #[inline]
    pub(super) const fn slot(self) -> u32 {
        self.0 >> 1
    }

    #[inline]
    pub(super) const fn side(self) -> usize {
        (self.0 & 1) as usize
    }

    #[inline]
    pub(super) const fn other(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// Time in steps of 67 ms, so that nine years fit 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Coarse(u32);

const COARSE_SHIFT: u32 = 26;

impl Coarse {
    const ZERO: Self = Self(0);

    /// The step that `at` is in.
    #[inline]
    pub(super) fn of(at: Moment) -> Self {
        Self(u32::try_from(at.as_nanos() >> COARSE_SHIFT).unwrap_or(u32::MAX))
    }

    /// When the step is over.
    pub(super) const fn end(self) -> Moment {
        Moment::from_nanos((self.0 as u64 + 1) << COARSE_SHIFT)
    }
}

/// A channel. By side: 0 asked for it first.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Channel {
    /// Virtual times of what each side sends.
    pub(super) at: [u64; 2],
    /// Bytes that were forwarded.
    pub(super) used: u64,
    /// What a byte costs at the rate that was asked for ([`Meter::unit_cost`](crate::bucket::Meter::unit_cost));
    /// zero for what the budgets give.
    pub(super) byte_cost: u64,
    /// [`NIL`] if nobody has the slot, whose next free one is then in `links[0]`.
    pub(super) members: [u32; 2],
    /// Next leg of the same member.
    links: [u32; 2],
    pub(super) generations: [u16; 2],
    pub(super) backlogs: [u16; 2],
    /// When data came last.
    pub(super) last: Coarse,
    /// When its lifetime ends; [`Coarse::ZERO`] if it is over and nobody was told yet.
    expires: Coarse,
}

const FREE: Channel = Channel {
    at: [0; 2],
    used: 0,
    byte_cost: 0,
    members: [NIL; 2],
    links: [NIL; 2],
    generations: [0; 2],
    backlogs: [NO_BACKLOG; 2],
    last: Coarse::ZERO,
    expires: Coarse::ZERO,
};

impl Channel {
    /// Whether it carries data.
    #[inline]
    pub(super) fn open(&self) -> bool {
        self.expires != Coarse::ZERO
    }

    pub(super) fn expires(&self) -> Moment {
        self.expires.end()
    }

    /// Its lifetime begins again; the lowest step says that a channel is over.
    pub(super) fn refresh(&mut self, until: Moment) {
        self.expires = Coarse::of(until).max(Coarse(1));
    }

    pub(super) fn end(&mut self) {
        self.expires = Coarse::ZERO;
    }
}

/// All channels.
#[derive(Debug)]
pub(super) struct Channels {
    slots: Box<[Channel]>,
    /// By slot: a bit for each side that asked for the channel.
    asked: Box<[u8]>,
    /// Free slots in the order in which they became free: an id is used again as late as can be.
    first: u32,
    last: u32,
    len: usize,
    scramble: Scramble,
}

impl Channels {
    pub(super) const fn bytes(channels: usize) -> usize {
        channels * (size_of::<Channel>() + size_of::<u8>())
    }

    pub(super) fn new(channels: usize, scramble: Scramble) -> Self {
        let count = u32::try_from(channels).unwrap_or(NIL);
        let free = |slot: u32| {
            let next = if slot + 1 < count { slot + 1 } else { NIL };
            Channel { links: [next, NIL], ..FREE }
        };
        Self {
            slots: (0..count).map(free).collect(),
            asked: vec![0; channels].into(),
            first: 0,
            last: count - 1,
            len: 0,
            scramble,
        }
    }

    /// Slots that are not free.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn full(&self) -> bool {
        self.first == NIL
    }

    #[inline]
    pub(super) fn get(&self, slot: u32) -> &Channel {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Channel {
        &mut self.slots[slot as usize]
    }

    /// The leg of an open channel that has this id, whatever the generation.
    #[inline]
    pub(super) fn leg(&self, id: u32) -> Option<Leg> {
        let leg = Leg(self.scramble.of(id)?);
        let channel = self.slots.get(leg.slot() as usize)?;
        channel.open().then_some(leg)
    }

    /// How the peer of a leg names the channel.
    #[inline]
    pub(super) fn header(&self, leg: Leg) -> Header {
        let generation = self.get(leg.slot()).generations[leg.side()];
        Header { generation, id: self.scramble.id(leg.0) }
    }

    /// A free slot for two members, with generations that its last tenant did not have.
    /// `firsts` are the members' first legs, behind which these are put.
    pub(super) fn take(
        &mut self,
        members: [u32; 2],
        firsts: [u32; 2],
        entropy: u64,
    ) -> Option<u32> {
        let slot = self.first;
        let channel = self.slots.get_mut(slot as usize)?;
        self.first = channel.links[0];
        if self.first == NIL {
            self.last = NIL;
        }
        let [g0, g1, g2, g3, ..] = entropy.to_le_bytes();
        let drawn = [u16::from_le_bytes([g0, g1]), u16::from_le_bytes([g2, g3])];
        let before = channel.generations;
        let generations = [0, 1].map(|side: usize| match drawn[side] == before[side] {
            true => drawn[side].wrapping_add(1),
            false => drawn[side],
        });
        *channel = Channel { members, links: firsts, generations, ..FREE };
        self.asked[slot as usize] = 0;
        self.len += 1;
        Some(slot)
    }

    /// Frees a slot that its members no longer list.
    pub(super) fn free(&mut self, slot: u32) {
        let generations = self.get(slot).generations;
        *self.get_mut(slot) = Channel { generations, ..FREE };
        match self.last {
            NIL => self.first = slot,
            last => self.get_mut(last).links[0] = slot,
        }
        self.last = slot;
        self.len -= 1;
    }

    /// Marks that a side asked for the channel.
    pub(super) fn ask(&mut self, leg: Leg) {
        self.asked[leg.slot() as usize] |= 1 << leg.side();
    }

    pub(super) fn asked(&self, leg: Leg) -> bool {
        self.asked[leg.slot() as usize] >> leg.side() & 1 == 1
    }

    /// The legs of a member, from its first one on.
    pub(super) fn legs(&self, first: u32) -> impl Iterator<Item = Leg> + '_ {
        let leg = |at: u32| (at != NIL).then_some(Leg(at));
        std::iter::successors(leg(first), move |at| leg(self.get(at.slot()).links[at.side()]))
    }

    /// Takes a leg out of its member's list and returns the list's new first.
    pub(super) fn unlink(&mut self, first: u32, gone: Leg) -> u32 {
        let after = self.get(gone.slot()).links[gone.side()];
        if first == gone.0 {
            return after;
        }
        let before = self.legs(first).find(|leg| self.get(leg.slot()).links[leg.side()] == gone.0);
        if let Some(before) = before {
            self.get_mut(before.slot()).links[before.side()] = after;
        }
        first
    }
}
