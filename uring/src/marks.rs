//! Which mark a socket gives by itself: that of most of what it sends.
//!
//! A datagram with another one says so in control data, which costs the kernel some 70 ns, and for a
//! run that is cut into segments an allocation. A router that mostly answers sends control; one that
//! mostly relays does not.

/// Transmits that are looked at before the mark changes: it takes two calls.
const WINDOW: u32 = 1024;

/// Votes of transmits (Boyer and Moore's): what leads by more than half of them has the majority.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    leader: u8,
    lead: u32,
    votes: u32,
}

impl Marks {
    /// Takes note of a transmit.
    #[inline]
    pub(crate) fn note(&mut self, dscp: u8) {
        self.votes += 1;
        if self.lead == 0 {
            self.leader = dscp;
        }
        if self.leader == dscp {
            self.lead += 1;
        } else {
            self.lead -= 1;
        }
    }

    /// The mark that the socket should give instead of `current`, now and then.
    #[inline]
    pub(crate) fn verdict(&mut self, current: u8) -> Option<u8> {
        if self.votes < WINDOW {
            return None;
        }
        let Self { leader, lead, votes } = std::mem::take(self);
        (leader != current && lead > votes / 2).then_some(leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(marks: impl IntoIterator<Item = u8>, current: u8) -> Option<u8> {
        let mut votes = Marks::default();
        marks.into_iter().for_each(|mark| votes.note(mark));
        votes.verdict(current)
    }

    #[test]
    fn what_most_of_many_have_wins() {
        let mixed = |often: u8, rarely: u8, every: u32| {
            (0..WINDOW).map(move |n| if n.is_multiple_of(every) { rarely } else { often })
        };
        assert_eq!(verdict(mixed(0, 46, 8), 46), Some(0));
        assert_eq!(verdict(mixed(46, 0, 8), 46), None, "it has it already");
        assert_eq!(verdict(mixed(0, 46, 2), 46), None, "nobody leads");
        assert_eq!(verdict(mixed(0, 46, 3), 46), None, "not by enough to change");
        assert_eq!(verdict(mixed(0, 46, 8).skip(1), 46), None, "not enough of them yet");
    }

    #[test]
    fn every_window_is_judged_by_itself() {
        let mut votes = Marks::default();
        (0..WINDOW).for_each(|_| votes.note(0));
        assert_eq!(votes.verdict(46), Some(0));
        (0..WINDOW).for_each(|_| votes.note(46));
        assert_eq!(votes.verdict(0), Some(46));
        assert_eq!(votes.verdict(0), None);
    }
}
