//! Mail from all other shards: weighted among the classes, fair among the senders.
//!
//! Invariants:
//! * Among classes that have mail, what is taken keeps the weights 8 : 4 : 1; a class that is
//!   empty saves nothing up.
//! * Within a class, senders that have mail take turns, one message each.

use super::PAYLOAD_MAX;
use super::ring::Inlet;
use crate::wire::kind::Class;

/// Messages of each class in a round, if it has so many.
const WEIGHTS: [u32; 3] = [8, 4, 1];

/// One other shard.
struct Sender<M> {
    inlets: [Inlet<M>; 3],
    /// There is room in its rings that it has not been told of.
    untold: bool,
}

/// Mail from all other shards.
pub(super) struct Inbox<M> {
    senders: Box<[Sender<M>]>,
    /// Messages each class has left in the current round.
    credits: [u32; 3],
    /// By class, the sender whose turn is next.
    turns: [usize; 3],
}

impl<M> Inbox<M> {
    pub(super) fn new(senders: Vec<[Inlet<M>; 3]>) -> Self {
        let senders = senders.into_iter().map(|inlets| Sender { inlets, untold: false });
        Self { senders: senders.collect(), credits: WEIGHTS, turns: [0; 3] }
    }

    /// The next message, its sender, and the length of its bytes, which are at the head of `out` then.
    #[inline]
    pub(super) fn next(&mut self, out: &mut [u8; PAYLOAD_MAX]) -> Option<(usize, Class, M, usize)> {
        let (class, from) = self.turn_of()?;
        let sender = &mut self.senders[from];
        let (mail, len) = sender.inlets[class as usize].pop(out)?;
        sender.untold = true;
        self.credits[class as usize] -= 1;
        self.turns[class as usize] = if from + 1 == self.senders.len() { 0 } else { from + 1 };
        Some((from, class, mail, len))
    }

    /// The most urgent class that has both mail and credit; a new round when none has.
    #[inline]
    fn turn_of(&mut self) -> Option<(Class, usize)> {
        let mut spent = None;
        for class in Class::ALL {
            let Some(from) = self.sender_of(class) else { continue };
            if self.credits[class as usize] > 0 {
                return Some((class, from));
            }
            spent = spent.or(Some((class, from)));
        }
        if spent.is_some() {
            self.credits = WEIGHTS;
        }
        spent
    }

    /// The next sender with mail of this class.
    #[inline]
    fn sender_of(&self, class: Class) -> Option<usize> {
        let (turn, class) = (self.turns[class as usize], class as usize);
        let mut order = (turn..self.senders.len()).chain(0..turn);
        order.find(|from| !self.senders[*from].inlets[class].is_empty())
    }

    /// Whether a message is there.
    pub(super) fn has_mail(&self) -> bool {
        self.senders.iter().flat_map(|sender| &sender.inlets).any(|inlet| !inlet.is_empty())
    }

    /// Messages of a class that are there.
    pub(super) fn len(&self, class: Class) -> usize {
        self.senders.iter().map(|sender| sender.inlets[class as usize].len()).sum()
    }

    /// Senders whose rings were taken from since the last time.
    pub(super) fn take_untold(&mut self) -> impl Iterator<Item = usize> {
        let untold = |(from, sender): (usize, &mut Sender<M>)| {
            std::mem::take(&mut sender.untold).then_some(from)
        };
        self.senders.iter_mut().enumerate().filter_map(untold)
    }
}
