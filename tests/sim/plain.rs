//! The `Plain` tunnel as who reads along knows it, and as the client library drives it.
//!
//! Messages are taken apart here independently of the code under test: the checks and
//! the hostile clients need keys, counters and contents that the library keeps to itself.

use std::cell::Cell;
use std::rc::Rc;

use molia_router::admission::{Initiation, MAC1_AT, MAC2_AT, cookie};
use molia_router::bucket::Keyed;
use molia_router::client::session::{Initiator, Received, Refused};
use molia_router::ids::WgKey;
use molia_router::tunnel::plain;

use super::dice::Dice;
use super::keys::{Side, side};

/// Bytes around the content of a data message.
pub(crate) const DATA_OVERHEAD: usize = 32;

fn hash(seed: &[u64; 2], a: &[u8], b: &[u8]) -> u64 {
    // Small seeds are weak keys: what is multiplied by 1 differs by as little as it did before.
    let strong =
        seed.map(|word| (word ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9));
    Keyed::new(strong).hash(&(a, b))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

/// What an initiation says to everybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hello {
    pub(crate) index: u32,
    pub(crate) ephemeral: [u8; 32],
    pub(crate) key: WgKey,
}

/// Reads an initiation to the router `to`, if its mac1 is right.
pub(crate) fn hello(to: &WgKey, datagram: &[u8]) -> Option<Hello> {
    let initiation: &Initiation = datagram.try_into().ok()?;
    let mac1 = cookie::mac(&cookie::mac1_key(&to.0), &initiation[..MAC1_AT]);
    (initiation[..4] == [1, 0, 0, 0] && initiation[MAC1_AT..MAC2_AT] == mac1).then(|| Hello {
        index: u32::from_le_bytes(array(initiation, 4)),
        ephemeral: array(initiation, 8),
        key: WgKey(array(initiation, 40)),
    })
}

/// One direction of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    /// Receiver index of its messages.
    pub(crate) index: u32,
    secret: u64,
    /// Counter of the next message.
    pub(crate) next: u64,
}

/// Both directions that a response to `hello` begins: to the router, from the router.
pub(crate) fn lanes(hello: &Hello, response: &[u8]) -> [Lane; 2] {
    let both = [&hello.ephemeral[..], &response[12..44]].concat();
    let lane = |index, seed| Lane { index, secret: hash(&seed, &hello.key.0, &both), next: 0 };
    let router = u32::from_le_bytes(array(response, 4));
    [lane(router, [5, 6]), lane(hello.index, [7, 8])]
}

/// Receiver index and counter of a data message.
pub(crate) fn header(datagram: &[u8]) -> Option<(u32, u64)> {
    let data = datagram.len() >= DATA_OVERHEAD && datagram[..4] == [4, 0, 0, 0];
    data.then(|| (u32::from_le_bytes(array(datagram, 4)), u64::from_le_bytes(array(datagram, 8))))
}

impl Lane {
    /// The content of a message of this lane, if it is genuine.
    pub(crate) fn open<'d>(&self, datagram: &'d [u8]) -> Option<&'d [u8]> {
        let (index, counter) = header(datagram)?;
        let (content, tag) = datagram[16..].split_at(datagram.len() - DATA_OVERHEAD);
        (index == self.index && self.tag(counter, content) == tag).then_some(content)
    }

    /// A message with the next counter.
    pub(crate) fn seal(&mut self, content: &[u8]) -> Vec<u8> {
        let counter = self.next;
        self.next += 1;
        self.seal_as(counter, content)
    }

    /// A message with any counter.
    pub(crate) fn seal_as(&self, counter: u64, content: &[u8]) -> Vec<u8> {
        let (index, counter_bytes) = (self.index.to_le_bytes(), counter.to_le_bytes());
        let tag = self.tag(counter, content);
        [&[4, 0, 0, 0], &index[..], &counter_bytes, content, &tag].concat()
    }

    fn tag(&self, counter: u64, content: &[u8]) -> [u8; 16] {
        let tag = hash(&[self.secret, counter], &[], content);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&tag.to_le_bytes());
        bytes[8..].copy_from_slice(&(!tag).to_le_bytes());
        bytes
    }
}

/// The initiator that the client library's session drives.
#[derive(Debug)]
pub(crate) struct PlainInitiator {
    side: Side,
    dice: Dice,
    /// The world's clock in nanoseconds: timestamps must grow over a key's lives.
    clock: Rc<Cell<u64>>,
    stamp: u64,
    /// Keys that may be used.
    keyed: bool,
}

impl PlainInitiator {
    /// `index` begins the receiver indices of this life of `key`.
    pub(crate) fn new(
        key: WgKey,
        router: WgKey,
        index: u32,
        clock: Rc<Cell<u64>>,
        dice: Dice,
    ) -> Self {
        let side = side(plain::Peer::new(key, router, index));
        Self { side, dice, clock, stamp: 0, keyed: false }
    }
}

impl PlainInitiator {
    pub(crate) fn side(&self) -> Side {
        Rc::clone(&self.side)
    }
}

impl Initiator for PlainInitiator {
    fn initiate(&mut self, _: u32, out: &mut [u8]) -> Result<usize, Refused> {
        self.stamp = self.clock.get().max(self.stamp + 1);
        let initiation = self.side.borrow_mut().peer.initiate(self.stamp, &self.dice.bytes());
        out[..initiation.len()].copy_from_slice(&initiation);
        Ok(initiation.len())
    }

    fn receive<'o>(&mut self, datagram: &[u8], out: &'o mut [u8]) -> Result<Received<'o>, Refused> {
        let mut side = self.side.borrow_mut();
        match side.peer.receive(datagram, out) {
            plain::Received::Established => {
                self.keyed = true;
                let len = side.peer.seal(&[], out).ok_or(Refused::UnknownIndex)?;
                Ok(Received::Established(&out[..len]))
            }
            plain::Received::Cookie => Ok(Received::Cookie),
            plain::Received::Data(0) => Ok(Received::Keepalive),
            plain::Received::Data(len) if side.keeps(&out[..len]) => Ok(Received::Keepalive),
            plain::Received::Data(len) => Ok(Received::Plaintext(&out[..len])),
            plain::Received::Ignored => Err(Refused::Unauthentic),
        }
    }

    fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        self.keyed.then(|| self.side.borrow_mut().peer.seal(plaintext, out))?
    }

    fn abandon(&mut self) {}

    fn expire(&mut self) {
        self.keyed = false;
    }
}

/// Makes an initiation's mac1 valid again.
pub(crate) fn write_mac1(to: &WgKey, initiation: &mut [u8]) {
    let mac1 = cookie::mac(&cookie::mac1_key(&to.0), &initiation[..MAC1_AT]);
    initiation[MAC1_AT..MAC2_AT].copy_from_slice(&mac1);
}
