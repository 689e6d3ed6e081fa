//! Mail for one shard and class that its ring has no room for: a bounded FIFO at the sender.
//!
//! Every place owns the bytes of its message, all of them allocated at the start, so that a message
//! can be replaced where it waits by one of another length, and the number of places is the
//! only bound. Untouched places cost address space and no memory.
//!
//! It has no policy: [`Outbox`](super::outbox::Outbox) decides who waits, goes or is refused.

use super::PAYLOAD_MAX;

struct Waiting<M> {
    mail: M,
    len: usize,
}

/// A ring of places.
pub(super) struct Backlog<M> {
    places: Box<[Option<Waiting<M>>]>,
    /// By place, [`PAYLOAD_MAX`] bytes each.
    payloads: Box<[u8]>,
    /// By place; apart from the messages, so that a search reads nothing else.
    keys: Box<[Option<u64>]>,
    head: usize,
    len: usize,
}

impl<M> Backlog<M> {
    /// Memory of so many places.
    pub(super) const fn bytes(places: usize) -> usize {
        places * (size_of::<Option<Waiting<M>>>() + size_of::<Option<u64>>() + PAYLOAD_MAX)
    }

    /// So many places, all empty.
    ///
    /// # Panics
    /// If there is none.
    pub(super) fn new(places: usize) -> Self {
        assert!(places > 0, "a backlog without a place could keep no order");
        Self {
            places: (0..places).map(|_| None).collect(),
            payloads: vec![0; places * PAYLOAD_MAX].into(),
            keys: vec![None; places].into(),
            head: 0,
            len: 0,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == self.places.len()
    }

    /// Length of the oldest message's bytes.
    pub(super) fn first_len(&self) -> Option<usize> {
        self.places[self.head].as_ref().map(|first| first.len)
    }

    /// The place where a message with this key waits. As long as the backlog, which is short.
    pub(super) fn find(&self, key: u64) -> Option<usize> {
        self.keys.iter().position(|waiting| *waiting == Some(key))
    }

    /// Puts a message in the place of another one.
    pub(super) fn put(&mut self, place: usize, key: Option<u64>, mail: M, payload: &[u8]) {
        self.payloads[place * PAYLOAD_MAX..][..payload.len()].copy_from_slice(payload);
        self.keys[place] = key;
        self.places[place] = Some(Waiting { mail, len: payload.len() });
    }

    /// Appends a message.
    ///
    /// # Panics
    /// If it is full.
    pub(super) fn push(&mut self, key: Option<u64>, mail: M, payload: &[u8]) {
        assert!(!self.is_full(), "pushed into a full backlog");
        self.put(self.wrap(self.head + self.len), key, mail, payload);
        self.len += 1;
    }

    /// Takes the oldest message and lends its bytes.
    pub(super) fn pop(&mut self) -> Option<(M, &[u8])> {
        let place = self.head;
        let Waiting { mail, len } = self.places[place].take()?;
        self.keys[place] = None;
        self.head = self.wrap(place + 1);
        self.len -= 1;
        Some((mail, &self.payloads[place * PAYLOAD_MAX..][..len]))
    }

    fn wrap(&self, place: usize) -> usize {
        if place >= self.places.len() { place - self.places.len() } else { place }
    }
}
