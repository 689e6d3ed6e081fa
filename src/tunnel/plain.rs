//! The tunnel of simulations: WireGuard's message shapes without its cryptography.
//!
//! Types, lengths, receiver indices, counters, mac1 and mac2 are WireGuard's; keys
//! are hashes of what both sides know, the tag is a hash of the content, the
//! content is in the clear. The ring of keys behaves like BoringTun's, and sealing
//! where BoringTun would queue, initiate or use an unconfirmed key is a panic: the
//! caller must know better. Deterministic; **protects nothing**.
//!
//! [`Plain`] is the router's side, [`Peer`] the initiator's.

use std::collections::VecDeque;

use super::{
    DATA_OVERHEAD, INITIATION_BYTES, Initiation, RESPONSE_BYTES, Responded, SCRATCH_MIN, Tunnel,
};
use crate::admission::{MAC1_AT, MAC2_AT, cookie};
use crate::bucket::Keyed;
use crate::drops::Drop;
use crate::ids::WgKey;
use crate::time::Moment;

const KEYS: usize = 8;
const WINDOW: u64 = 1024;
/// Where the sealed parts of an initiation begin.
const STATIC_AT: usize = 40;
const STAMP_AT: usize = 88;

/// The router's side of many sessions.
#[derive(Debug)]
pub struct Plain {
    public: WgKey,
    slots: Vec<Option<Box<State>>>,
    curve_operations: u64,
    responses: u64,
}

#[derive(Debug)]
struct State {
    stamp: u64,
    base: u32,
    /// Lowest byte of the newest receiver index.
    counter: u8,
    keys: [Option<Key>; KEYS],
    current: u32,
    order: u64,
}

#[derive(Debug)]
struct Key {
    index: u32,
    peer_index: u32,
    /// Direction towards us, direction from us.
    secrets: [u64; 2],
    order: u64,
    confirmed: bool,
    sent: u64,
    window: Window,
}

impl Plain {
    /// The side of the router with this public key.
    pub fn new(public: WgKey, slots: usize) -> Self {
        let slots = std::iter::repeat_with(|| None).take(slots).collect();
        Self { public, slots, curve_operations: 0, responses: 0 }
    }
}

impl Tunnel for Plain {
    fn static_key(&mut self, initiation: &Initiation) -> Result<WgKey, Drop> {
        self.curve_operations += 1;
        let (body, tag) = (&initiation[..STAMP_AT - 16], &initiation[STAMP_AT - 16..STAMP_AT]);
        if tag_of(&self.public, body) != tag {
            return Err(Drop::BadInitiation);
        }
        Ok(WgKey(array(&initiation[STATIC_AT..])))
    }

    fn respond(
        &mut self,
        now: Moment,
        slot: u32,
        key: &WgKey,
        index: u32,
        initiation: &Initiation,
        out: &mut [u8],
    ) -> Result<Responded, Drop> {
        assert!(out.len() >= SCRATCH_MIN, "room for any handshake message");
        self.curve_operations += 1;
        let stamp = u64::from_be_bytes(array(&initiation[STAMP_AT..]));
        let (body, tag) = (&initiation[..MAC1_AT - 16], &initiation[MAC1_AT - 16..MAC1_AT]);
        let place = &mut self.slots[slot as usize];
        let after = place.as_ref().map_or(0, |state| state.stamp);
        if tag_of(&self.public, body) != tag || stamp <= after {
            return Err(Drop::BadInitiation);
        }
        self.curve_operations += 3;
        self.responses += 1;
        let state = place.get_or_insert_with(|| Box::new(State::new(index << 8)));
        let mut answer = [0; 32];
        answer[..8].copy_from_slice(&self.responses.to_le_bytes());
        // A router that lost everything must not make the keys of its last life again.
        answer[8..16].copy_from_slice(&now.as_nanos().to_le_bytes());
        let index = state.add(stamp, initiation, key, &answer);
        write_response(out, index, initiation, &answer, key);
        Ok(Responded { len: RESPONSE_BYTES, index, established: now, fresh: false })
    }

    fn open(&mut self, slot: u32, datagram: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
        assert!(out.len() + 16 >= datagram.len(), "the plaintext and its tag fit");
        let state = self.slots[slot as usize].as_mut().ok_or(Drop::NoSession)?;
        let (index, counter) = header(datagram);
        let place = &mut state.keys[index as usize % KEYS];
        let key = place.as_mut().filter(|key| key.index == index).ok_or(Drop::NoSession)?;
        let content = key.open(datagram, counter)?;
        let order = key.order;
        key.confirmed = true;
        let current = &state.keys[state.current as usize % KEYS];
        if current.as_ref().is_none_or(|current| order >= current.order) {
            state.current = index;
        }
        cut(content, out)
    }

    fn seal(&mut self, slot: u32, frame: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
        assert!(out.len() >= SCRATCH_MIN, "the message fits");
        let state = self.slots[slot as usize].as_mut().ok_or(Drop::Unconfirmed)?;
        let key = state.keys[state.current as usize % KEYS].as_mut();
        let key = key.expect("sealing without a key would queue and initiate");
        assert!(
            key.confirmed && key.index == state.current,
            "sealing under a key that the peer may not have"
        );
        Ok(key.seal(1, frame, out))
    }

    fn remove(&mut self, slot: u32) {
        self.slots[slot as usize] = None;
    }

    fn curve_operations(&self) -> u64 {
        self.curve_operations
    }
}

impl State {
    fn new(base: u32) -> Self {
        Self { stamp: 0, base, counter: 0, keys: Default::default(), current: 0, order: 0 }
    }

    /// Makes the next key; returns its receiver index.
    fn add(&mut self, stamp: u64, initiation: &Initiation, key: &WgKey, answer: &[u8; 32]) -> u32 {
        self.stamp = stamp;
        self.counter = self.counter.wrapping_add(1);
        self.order += 1;
        let index = self.base | u32::from(self.counter);
        let peer_index = u32::from_le_bytes(array(&initiation[4..]));
        let secrets = secrets(&array(&initiation[8..]), key, answer);
        self.keys[index as usize % KEYS] =
            Some(Key { order: self.order, ..Key::new(index, peer_index, secrets) });
        index
    }
}

impl Key {
    fn new(index: u32, peer_index: u32, secrets: [u64; 2]) -> Self {
        let window = Window::default();
        Self { index, peer_index, secrets, order: 0, confirmed: false, sent: 0, window }
    }

    fn seal(&mut self, direction: usize, frame: &[u8], out: &mut [u8]) -> usize {
        let len = frame.len() + DATA_OVERHEAD;
        let (head, rest) = out[..len].split_at_mut(16);
        head[..4].copy_from_slice(&[4, 0, 0, 0]);
        head[4..8].copy_from_slice(&self.peer_index.to_le_bytes());
        head[8..].copy_from_slice(&self.sent.to_le_bytes());
        let (content, tag) = rest.split_at_mut(frame.len());
        content.copy_from_slice(frame);
        tag.copy_from_slice(&data_tag(self.secrets[direction], self.sent, frame));
        self.sent += 1;
        len
    }

    /// As the router; the other side has its directions the other way round.
    fn open<'d>(&mut self, datagram: &'d [u8], counter: u64) -> Result<&'d [u8], Drop> {
        if !self.window.fresh(counter) {
            return Err(Drop::Replayed);
        }
        let (content, tag) = datagram[16..].split_at(datagram.len() - DATA_OVERHEAD);
        if data_tag(self.secrets[0], counter, content) != tag {
            return Err(Drop::BadTag);
        }
        self.window.mark(counter);
        Ok(content)
    }
}

/// The counters that were received, the last [`WINDOW`] of them one by one.
#[derive(Debug, Default)]
struct Window {
    /// One above the highest.
    next: u64,
    /// The counters below `next`, newest first.
    seen: VecDeque<bool>,
}

impl Window {
    fn fresh(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        let back = usize::try_from(self.next - 1 - counter).unwrap_or(usize::MAX);
        self.next - counter <= WINDOW && !self.seen.get(back).copied().unwrap_or(false)
    }

    fn mark(&mut self, counter: u64) {
        if counter >= self.next {
            for _ in 0..(counter - self.next).min(WINDOW) {
                self.seen.push_front(false);
            }
            self.seen.push_front(true);
            self.seen.truncate(usize::try_from(WINDOW).unwrap_or(usize::MAX));
            self.next = counter + 1;
        } else if let Ok(back) = usize::try_from(self.next - 1 - counter)
            && let Some(seen) = self.seen.get_mut(back)
        {
            *seen = true;
        }
    }
}

/// What a datagram brought to a [`Peer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The handshake is done; the router learns of it by the first data.
    Established,
    /// A cookie for the next initiation.
    Cookie,
    /// Data: its plaintext's length, zero for a keepalive.
    Data(usize),
    /// Not for us, not genuine, or seen before.
    Ignored,
}

/// The initiator's side of one session.
#[derive(Debug)]
pub struct Peer {
    key: WgKey,
    router: WgKey,
    index: u32,
    stamp: u64,
    initiation: Option<Initiation>,
    cookie: Option<[u8; 16]>,
    /// The newest first; data is sealed under the first.
    keys: VecDeque<Key>,
}

impl Peer {
    /// A peer with this key, which speaks to this router. `index` begins its receiver indices.
    pub fn new(key: WgKey, router: WgKey, index: u32) -> Self {
        let keys = VecDeque::with_capacity(2);
        Self { key, router, index, stamp: 0, initiation: None, cookie: None, keys }
    }

    /// A handshake initiation. Stamps must grow over all lives of the key, and `ephemeral` must differ every time.
    pub fn initiate(&mut self, stamp: u64, ephemeral: &[u8; 32]) -> Initiation {
        self.index = self.index.wrapping_add(1);
        self.stamp = self.stamp.max(stamp);
        let mut out = [0; INITIATION_BYTES];
        out[0] = 1;
        out[4..8].copy_from_slice(&self.index.to_le_bytes());
        out[8..STATIC_AT].copy_from_slice(ephemeral);
        out[STATIC_AT..STATIC_AT + 32].copy_from_slice(&self.key.0);
        let tag = tag_of(&self.router, &out[..STAMP_AT - 16]);
        out[STAMP_AT - 16..STAMP_AT].copy_from_slice(&tag);
        out[STAMP_AT..STAMP_AT + 8].copy_from_slice(&self.stamp.to_be_bytes());
        let tag = tag_of(&self.router, &out[..MAC1_AT - 16]);
        out[MAC1_AT - 16..MAC1_AT].copy_from_slice(&tag);
        let mac1 = cookie::mac(&cookie::mac1_key(&self.router.0), &out[..MAC1_AT]);
        out[MAC1_AT..MAC2_AT].copy_from_slice(&mac1);
        if let Some(cookie) = self.cookie {
            let mac2 = cookie::mac(&cookie, &out[..MAC2_AT]);
            out[MAC2_AT..].copy_from_slice(&mac2);
        }
        self.initiation = Some(out);
        out
    }

    /// Takes a datagram of the router; a plaintext is written to `out`.
    pub fn receive(&mut self, datagram: &[u8], out: &mut [u8]) -> Received {
        match datagram {
            [2, ..] if datagram.len() == RESPONSE_BYTES => self.finish(datagram),
            [3, ..] => self.eat(datagram),
            [4, ..] if datagram.len() >= DATA_OVERHEAD => self.open(datagram, out),
            _ => Received::Ignored,
        }
    }

    /// Seals `frame` (empty for a keepalive) and returns the message's length; `None` without a session.
    pub fn seal(&mut self, frame: &[u8], out: &mut [u8]) -> Option<usize> {
        self.keys.front_mut().map(|key| key.seal(1, frame, out))
    }

    fn finish(&mut self, response: &[u8]) -> Received {
        let ours = |sent: &Initiation| response[8..12] == sent[4..8];
        let Some(sent) = self.initiation.filter(ours) else { return Received::Ignored };
        if tag_of(&self.key, &response[..44]) != response[44..60] {
            return Received::Ignored;
        }
        self.initiation = None;
        let [to_router, from_router] =
            secrets(&array(&sent[8..]), &self.key, &array(&response[12..]));
        let peer_index = u32::from_le_bytes(array(&response[4..]));
        self.keys.push_front(Key::new(self.index, peer_index, [from_router, to_router]));
        self.keys.truncate(2);
        Received::Established
    }

    fn eat(&mut self, reply: &[u8]) -> Received {
        let (Some(sent), Ok(reply)) = (&self.initiation, reply.try_into()) else {
            return Received::Ignored;
        };
        match cookie::open_reply(&self.router.0, sent, reply) {
            Some((cookie, _price)) => {
                self.cookie = Some(cookie);
                Received::Cookie
            }
            None => Received::Ignored,
        }
    }

    fn open(&mut self, datagram: &[u8], out: &mut [u8]) -> Received {
        let (index, counter) = header(datagram);
        let Some(key) = self.keys.iter_mut().find(|key| key.index == index) else {
            return Received::Ignored;
        };
        let opened = key.open(datagram, counter).and_then(|content| cut(content, out));
        opened.map_or(Received::Ignored, Received::Data)
    }
}

fn write_response(out: &mut [u8], index: u32, sent: &Initiation, answer: &[u8; 32], to: &WgKey) {
    out[..4].copy_from_slice(&[2, 0, 0, 0]);
    out[4..8].copy_from_slice(&index.to_le_bytes());
    out[8..12].copy_from_slice(&sent[4..8]);
    out[12..44].copy_from_slice(answer);
    let tag = tag_of(to, &out[..44]);
    out[44..60].copy_from_slice(&tag);
    let mac1 = cookie::mac(&cookie::mac1_key(&to.0), &out[..60]);
    out[60..76].copy_from_slice(&mac1);
    out[76..RESPONSE_BYTES].fill(0);
}

/// BoringTun's look at a plaintext: it must pass for an IP packet and is cut to the length it states.
fn cut(content: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
    let stated = |at: usize| usize::from(u16::from_be_bytes(array(&content[at..])));
    let len = match content {
        [] => return Ok(0),
        [0x40..=0x4f, ..] if content.len() >= 20 => stated(2),
        [0x60..=0x6f, ..] if content.len() >= 40 => stated(4) + 40,
        [..] => return Err(Drop::BadShim),
    };
    if len == 0 || len > content.len() {
        return Err(Drop::BadShim);
    }
    out[..len].copy_from_slice(&content[..len]);
    Ok(len)
}

/// Receiver index and counter of a data message; the caller has seen to its length.
fn header(datagram: &[u8]) -> (u32, u64) {
    (u32::from_le_bytes(array(&datagram[4..])), u64::from_le_bytes(array(&datagram[8..])))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().expect("offsets lie within the message")
}

/// Stands for an AEAD's tag.
fn tag_of(key: &WgKey, bytes: &[u8]) -> [u8; 16] {
    let (a, b) = (hash(&[1, 2], &key.0, bytes), hash(&[3, 4], &key.0, bytes));
    array(&[a.to_le_bytes(), b.to_le_bytes()].concat())
}

fn data_tag(secret: u64, counter: u64, content: &[u8]) -> [u8; 16] {
    let tag = hash(&[secret, counter], &[], content);
    array(&[tag.to_le_bytes(), (!tag).to_le_bytes()].concat())
}

fn secrets(ephemeral: &[u8; 32], key: &WgKey, answer: &[u8; 32]) -> [u64; 2] {
    let both = [ephemeral.as_slice(), answer].concat();
    [hash(&[5, 6], &key.0, &both), hash(&[7, 8], &key.0, &both)]
}

fn hash(seed: &[u64; 2], a: &[u8], b: &[u8]) -> u64 {
    // Small seeds are weak keys: what is multiplied by 1 differs by as little as it did before.
    let strong =
        seed.map(|word| (word ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9));
    Keyed::new(strong).hash(&(a, b))
}
