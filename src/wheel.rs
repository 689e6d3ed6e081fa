//! A hierarchical timer wheel over small integer keys.
//!
//! One timer per key. Setting, cancelling and firing are O(1); time jumps over
//! empty stretches by bitmap, so a turn costs nothing for timers that are not
//! due, however many there are. A timer never fires early and at most one tick
//! (2^22 ns, 4.2 ms) late. Allocates in [`Wheel::new`] only.
//!
//! Timers lie on the level of the highest 6-bit digit in which their tick
//! differs from the wheel's, in the slot of that digit. So every slot in use is
//! ahead of the wheel's own, the lowest level in use holds the earliest timers,
//! and its lowest bit is the earliest slot. When the wheel reaches a slot of a
//! higher level, its timers move to lower ones, at most once per level each.

use crate::time::Moment;

const TICK_SHIFT: u32 = 22;
const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
/// Digits of a 64-bit number of ticks; more than any [`Moment`] needs, so nothing overflows.
const LEVELS: usize = 11;
const NIL: u32 = u32::MAX;

/// Timers for the keys `0..capacity`.
#[derive(Debug)]
pub struct Wheel {
    nodes: Box<[Node]>,
    /// First node of each slot's circular list.
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    occupied: [u64; LEVELS],
    /// The tick the wheel stands at; no timer lies before it.
    tick: u64,
    armed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Tick, and above it the level: 16 bytes instead of 24 where there are very many keys.
    at_level: u64,
    next: u32,
    prev: u32,
}

/// Bits of a node's tick; a [`Moment`] has 42.
const AT_BITS: u32 = 56;
const IDLE: Node = Node { at_level: 0, next: NIL, prev: NIL };

impl Node {
    const fn at(&self) -> u64 {
        self.at_level & ((1 << AT_BITS) - 1)
    }

    /// Level and slot that its list is in.
    #[expect(clippy::cast_possible_truncation, reason = "a slot is the lowest of the bits kept")]
    const fn place(&self) -> (usize, usize) {
        let level = (self.at_level >> AT_BITS) as u32;
        let slot = (self.at() >> (level * DIGIT_BITS)) as u32 % SLOTS as u32;
        (level as usize, slot as usize)
    }
}

impl Wheel {
    /// Memory of a wheel for so many keys.
    pub const fn bytes(capacity: usize) -> usize {
        capacity * size_of::<Node>() + size_of::<[[u32; SLOTS]; LEVELS]>()
    }

    /// A wheel for the keys `0..capacity`, none of them set.
    ///
    /// # Panics
    /// If `capacity` does not fit 32 bits.
    pub fn new(capacity: usize) -> Self {
        assert!(u32::try_from(capacity).is_ok_and(|n| n < NIL), "keys are u32");
        Self {
            nodes: vec![IDLE; capacity].into_boxed_slice(),
            heads: Box::new([[NIL; SLOTS]; LEVELS]),
            occupied: [0; LEVELS],
            tick: 0,
            armed: 0,
        }
    }

    /// Sets the timer of `key`, wherever it stood before; [`Moment::NEVER`] cancels it.
    /// A moment that has passed fires at the next [`Wheel::pop`].
    ///
    /// # Panics
    /// If `key` is not below the capacity.
    pub fn set(&mut self, key: u32, at: Moment) {
        self.cancel(key);
        if at == Moment::NEVER {
            return;
        }
        let tick = at.as_nanos().div_ceil(1 << TICK_SHIFT).max(self.tick);
        self.link(key, tick);
        self.armed += 1;
    }

    /// Takes the timer of `key` out. Returns whether it was set.
    ///
    /// # Panics
    /// If `key` is not below the capacity.
    pub fn cancel(&mut self, key: u32) -> bool {
        let set = self.nodes[key as usize].next != NIL;
        if set {
            self.unlink(key);
            self.armed -= 1;
        }
        set
    }

    /// A key whose timer is due, which is no longer set then; the earliest first.
    pub fn pop(&mut self, now: Moment) -> Option<u32> {
        let until = now.as_nanos() >> TICK_SHIFT;
        while let Some((level, slot, tick)) = self.earliest() {
            if tick > until {
                break;
            }
            self.tick = tick;
            if level == 0 {
                let key = self.heads[level][slot];
                self.cancel(key);
                return Some(key);
            }
            // The whole slot, or lower levels would no longer hold the earliest timers.
            while self.heads[level][slot] != NIL {
                let key = self.heads[level][slot];
                self.unlink(key);
                self.link(key, self.nodes[key as usize].at());
            }
        }
        self.tick = self.tick.max(until);
        None
    }

    /// When to call [`Wheel::pop`] next: never after the earliest timer, sometimes before it.
    pub fn next_deadline(&self) -> Moment {
        self.earliest().map_or(Moment::NEVER, |(_, _, tick)| Moment::from_nanos(tick << TICK_SHIFT))
    }

    /// Timers that are set.
    pub fn len(&self) -> usize {
        self.armed
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.armed == 0
    }

    /// Level, slot and first tick of the earliest slot in use.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|bits| *bits != 0)?;
        let slot = self.occupied[level].trailing_zeros();
        let shift = DIGIT_BITS * u32::try_from(level).unwrap_or(0);
        let above = u64::MAX.checked_shl(shift + DIGIT_BITS).unwrap_or(0);
        let first = (self.tick & above) | u64::from(slot) << shift;
        Some((level, slot as usize, first.max(self.tick)))
    }

    /// Appends `key` to the slot that `at` belongs to from where the wheel stands.
    fn link(&mut self, key: u32, at: u64) {
        let at = at.max(self.tick);
        let digit = (u64::BITS - 1 - ((at ^ self.tick) | 1).leading_zeros()) / DIGIT_BITS;
        let at_level = at | u64::from(digit) << AT_BITS;
        let (level, slot) = Node { at_level, ..IDLE }.place();
        let head = self.heads[level][slot];
        let (next, prev) = match head {
            NIL => (key, key),
            head => (head, self.nodes[head as usize].prev),
        };
        self.nodes[key as usize] = Node { at_level, next, prev };
        self.nodes[prev as usize].next = key;
        self.nodes[next as usize].prev = key;
        if head == NIL {
            self.heads[level][slot] = key;
            self.occupied[level] |= 1 << slot;
        }
    }

    fn unlink(&mut self, key: u32) {
        let node = self.nodes[key as usize];
        let Node { at_level, next, prev } = node;
        let (level, slot) = node.place();
        if next == key {
            self.heads[level][slot] = NIL;
            self.occupied[level] &= !(1 << slot);
        } else {
            self.nodes[prev as usize].next = next;
            self.nodes[next as usize].prev = prev;
            if self.heads[level][slot] == key {
                self.heads[level][slot] = next;
            }
        }
        self.nodes[key as usize] = Node { at_level, ..IDLE };
    }
}

#[cfg(test)]
mod tests;
