//! Faults on purpose: each is one that some check exists for, put between router and world.
#![expect(clippy::wildcard_enum_match_arm, reason = "each hook knows the faults that are its own")]

use std::collections::BTreeMap;

use molia_router::drops::Drop;
use molia_router::ids::WgKey;
use molia_router::net::{Datagram, Path, Scope};
use molia_router::router::Mail;
use molia_router::wire::{Kind, proto};
use prost::Message;

use super::edits::{denial, dig, edit_peers, edited, expose, invent, retyped};
use super::listing::Listed;
use super::plain;
use super::post::Letter;
use super::tally::Tally;
use super::tap::Tap;
use super::verdict::Oracle;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A received datagram's slot never comes home.
    LeakReceived,
    /// What was sent keeps its slot for ever.
    LeakSent,
    /// A datagram is dropped before the router sees it, uncounted.
    Swallow,
    /// A stranger's garbage is answered.
    AnswerGarbage,
    /// Data leaves right behind the handshake response.
    SpeakFirst,
    /// A session's data goes to an address that proved nothing.
    Redirect,
    /// A session's data goes to an address that its peer has left.
    Astray,
    /// An answer leaves from another address of ours.
    WrongLocal,
    /// An answer is sent twice under the same counter.
    RepeatCounter,
    /// An answer is sealed and sent twice.
    AnswerTwice,
    /// A frame's body is cut.
    CutBody,
    /// The peers of an answer come in another order.
    Shuffle,
    /// The last peer of an answer is the first one again.
    Repeat,
    /// A wrong observed address is told.
    Misobserve,
    /// An answer vanishes between queue and wire, uncounted.
    LoseAnswer,
    /// A drop is counted twice.
    CountTwice,
    /// A queue forgets to count a frame.
    MiscountQueue,
    /// A control frame is dropped while hints are served.
    InvertPriority,
    /// A third peer of one network sits in a bucket.
    CrowdBucket,
    /// A peer stays listed that nobody heard of for long.
    KeepGone,
    /// A peer is listed at an address that it only claimed.
    Aim,
    /// Identities outlast what was signed.
    Outlast,
    /// A living peer loses its place.
    EvictLiving,
    /// One session more than slots.
    Overfill,
    /// A session is in another shard than its peer's home.
    Stray,
    /// A peer has a session in two shards.
    Twin,
    /// What came by mail goes on to a third shard.
    ForwardTwice,
    /// A letter vanishes between two shards, uncounted.
    Mislay,
    /// The owner of a peer's id is not told that it is there.
    Withhold,
    /// Nor that it is gone.
    Linger,
    /// Some shard is not told who is listed.
    Isolate,
    /// Nobody is told that a shard lost everything.
    Hush,
    /// Answers to one client are lost for good (and that is counted).
    Deafen,
    /// The closest peer is left out of answers.
    Omit,
    /// A client is not in the table.
    Unlist,
    /// The store says that it has synced what it has not even written.
    Lie,
    /// The first record of every value is not read back.
    Forget,
    /// The router is not told that the disk fails.
    Trust,
    /// Whoever looks for a value is told to come back.
    Deny,
    /// An old value is told in the place of the newest.
    Dig,
    /// A value is told that nobody stored.
    Invent,
    /// The disk fails for ever.
    Break,
    /// A relay does not say all that waits in it.
    Hoard,
    /// Relayed data goes to somebody else.
    Misdeliver,
    /// Relayed data comes out under the header of other data.
    Misname,
    /// Relayed data is changed.
    Garble,
    /// A relay has more to give than was said.
    Overspend,
    /// A peer is told of an address that nobody named.
    Expose,
    /// Channels outlast their peers.
    Orphan,
    /// Nothing that is relayed arrives.
    Mute,
    /// Something depends on what is not the seed.
    Whim,
}

impl Fault {
    pub(crate) const ALL: [(Self, Oracle); 51] = [
        (Self::LeakReceived, Oracle::Buffers),
        (Self::LeakSent, Oracle::Buffers),
        (Self::Swallow, Oracle::Sums),
        (Self::AnswerGarbage, Oracle::Silence),
        (Self::SpeakFirst, Oracle::Silence),
        (Self::Redirect, Oracle::Amplification),
        (Self::Astray, Oracle::Endpoint),
        (Self::WrongLocal, Oracle::Silence),
        (Self::RepeatCounter, Oracle::Silence),
        (Self::AnswerTwice, Oracle::Unasked),
        (Self::CutBody, Oracle::Frames),
        (Self::Shuffle, Oracle::Answers),
        (Self::Repeat, Oracle::Answers),
        (Self::Misobserve, Oracle::Answers),
        (Self::LoseAnswer, Oracle::Sums),
        (Self::CountTwice, Oracle::Sums),
        (Self::MiscountQueue, Oracle::Sums),
        (Self::InvertPriority, Oracle::Priority),
        (Self::CrowdBucket, Oracle::Networks),
        (Self::KeepGone, Oracle::Listing),
        (Self::Aim, Oracle::Listing),
        (Self::Outlast, Oracle::Listing),
        (Self::EvictLiving, Oracle::Listing),
        (Self::Overfill, Oracle::Capacity),
        (Self::Stray, Oracle::Home),
        (Self::Twin, Oracle::Home),
        (Self::ForwardTwice, Oracle::Forwards),
        (Self::Mislay, Oracle::Sums),
        (Self::Withhold, Oracle::Listing),
        (Self::Linger, Oracle::Listing),
        (Self::Isolate, Oracle::Listing),
        (Self::Hush, Oracle::Listing),
        (Self::Deafen, Oracle::Liveness),
        (Self::Omit, Oracle::Answers),
        (Self::Unlist, Oracle::Liveness),
        (Self::Lie, Oracle::Lasting),
        (Self::Forget, Oracle::Lasting),
        (Self::Trust, Oracle::Refusal),
        (Self::Deny, Oracle::Refusal),
        (Self::Dig, Oracle::Forged),
        (Self::Invent, Oracle::Forged),
        (Self::Break, Oracle::Liveness),
        (Self::Hoard, Oracle::Buffers),
        (Self::Misdeliver, Oracle::Relaying),
        (Self::Misname, Oracle::Relaying),
        (Self::Garble, Oracle::Relaying),
        (Self::Overspend, Oracle::Budget),
        (Self::Expose, Oracle::Introduction),
        (Self::Orphan, Oracle::Channels),
        (Self::Mute, Oracle::Liveness),
        (Self::Whim, Oracle::Determinism),
    ];
}

/// A datagram on its way out, its slot apart: what is sent may be changed, the slot is still parked.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) path: Path,
    pub(crate) bytes: Vec<u8>,
}

/// Who does it.
#[derive(Debug)]
pub(crate) struct Saboteur {
    fault: Fault,
    /// Occasions so far.
    count: u64,
    /// Not from the seed.
    whim: bool,
    retorts: Vec<Parcel>,
    /// The first answer about each key's value.
    first: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The header of the last relayed data.
    header: Vec<u8>,
}

/// Every so many occasions: the world is under way by then.
const EVERY: u64 = 97;

impl Saboteur {
    /// `whim` decides what no seed decides.
    pub(crate) fn new(fault: Fault, whim: bool) -> Self {
        Self {
            fault,
            count: 0,
            whim,
            retorts: Vec::new(),
            first: BTreeMap::new(),
            header: Vec::new(),
        }
    }

    fn now_and_then(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(EVERY)
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Before the router sees it.
    pub(crate) fn received(
        &mut self,
        datagram: Datagram,
        spare: &bufpool::Pool,
    ) -> Option<Datagram> {
        if self.is(Fault::Swallow) && self.now_and_then() {
            return None;
        }
        if self.is(Fault::AnswerGarbage) && datagram.buf.first().is_some_and(|first| *first > 4) {
            self.retorts.push(Parcel { path: datagram.path, bytes: vec![0x2A] });
        }
        if self.is(Fault::LeakReceived) && self.now_and_then() {
            std::mem::forget(spare.take());
        }
        Some(datagram)
    }

    /// Whether the kernel never gives the slot back.
    pub(crate) fn keeps(&mut self) -> bool {
        self.is(Fault::LeakSent) && self.now_and_then()
    }

    /// Instead of what was to leave.
    pub(crate) fn alter(&mut self, tap: &Tap, parcel: Parcel) -> Option<Parcel> {
        let Parcel { mut path, mut bytes } = parcel;
        let data = plain::header(&bytes).is_some() && bytes.len() > plain::DATA_OVERHEAD;
        let fault = self.fault;
        let relayed = bytes.first() == Some(&5);
        match fault {
            Fault::Misdeliver if relayed => path = tap.stranger(&path).unwrap_or(path),
            Fault::Misname if relayed => {
                let header = std::mem::replace(&mut self.header, bytes[..8].to_vec());
                bytes.splice(..header.len(), header);
            }
            Fault::Garble if relayed => bytes.push(0),
            Fault::Expose => bytes = edited(tap, bytes, expose),
            Fault::LoseAnswer if data && self.now_and_then() => return None,
            Fault::Redirect if data && self.now_and_then() => {
                path = tap.stranger(&path).unwrap_or(path);
            }
            Fault::Astray if data => {
                let (index, _) = plain::header(&bytes)?;
                path = tap.former(index, &path.peer).unwrap_or(path);
            }
            Fault::WrongLocal if data && self.now_and_then() => path.local.ifindex += 1,
            Fault::CutBody if data && self.now_and_then() => {
                bytes = edited(tap, bytes, |_, body| body.truncate(body.len().saturating_sub(1)));
            }
            Fault::Shuffle => {
                bytes = edited(tap, bytes, |kind, body| {
                    edit_peers(kind, body, |peers| peers.reverse())
                });
            }
            Fault::Repeat => {
                bytes = edited(tap, bytes, |kind, body| {
                    edit_peers(kind, body, |peers| {
                        let first = peers[0].clone();
                        *peers.last_mut().expect("there are two") = first;
                    });
                });
            }
            Fault::Omit => {
                bytes = edited(tap, bytes, |kind, body| {
                    edit_peers(kind, body, |peers| drop(peers.remove(0)));
                });
            }
            Fault::Dig | Fault::Invent => {
                let first = &mut self.first;
                bytes = edited(tap, bytes, |kind, body| {
                    if fault == Fault::Dig { dig(kind, body, first) } else { invent(kind, body) }
                });
            }
            Fault::Misobserve => {
                bytes = edited(tap, bytes, |kind, body| {
                    if kind == Kind::Pong
                        && let Ok(mut pong) = proto::Pong::decode(&body[..])
                        && let Some(last) = pong.observed.last_mut()
                    {
                        *last ^= 1;
                        *body = pong.encode_to_vec();
                    }
                });
            }
            _ => {}
        }
        Some(Parcel { path, bytes })
    }

    /// On top of what left.
    pub(crate) fn extra(&mut self, tap: &Tap, left: &Parcel) -> Option<Vec<u8>> {
        let index =
            |at: usize| u32::from_le_bytes(left.bytes[at..at + 4].try_into().expect("four"));
        let data =
            plain::header(&left.bytes).is_some_and(|_| left.bytes.len() > plain::DATA_OVERHEAD);
        let fault = self.fault;
        match fault {
            Fault::SpeakFirst if left.bytes[0] == 2 => {
                let mut lane = *tap.lane_to(index(8))?;
                Some(lane.seal(&[]))
            }
            Fault::RepeatCounter if data && self.now_and_then() => Some(left.bytes.clone()),
            Fault::AnswerTwice if data && self.now_and_then() => {
                let mut lane = *tap.lane_to(index(4))?;
                let content = lane.open(&left.bytes)?.to_vec();
                Some(lane.seal(&content))
            }
            _ => None,
        }
    }

    /// What arrives in the place of what left.
    pub(crate) fn replaces(&self, tap: &Tap, bytes: &[u8]) -> Vec<u8> {
        let bytes = bytes.to_vec();
        if self.is(Fault::Deny) { retyped(tap, bytes, denial) } else { bytes }
    }

    /// Whether the tap is told of smaller budgets than there are.
    pub(crate) fn overspends(&self) -> bool {
        self.is(Fault::Overspend)
    }

    /// Whether peers are taken for gone.
    pub(crate) fn orphans(&self) -> bool {
        self.is(Fault::Orphan)
    }

    /// Whether what left is lost.
    pub(crate) fn mutes(&self, bytes: &[u8]) -> bool {
        self.is(Fault::Mute) && bytes.first() == Some(&5)
    }

    /// What a shard says waits in its relay.
    pub(crate) fn waiting(&mut self, waiting: usize) -> usize {
        if self.is(Fault::Hoard) && waiting > 0 { waiting - 1 } else { waiting }
    }

    /// Replies to who sent what no router answers.
    pub(crate) fn retorts(&mut self) -> Vec<Parcel> {
        std::mem::take(&mut self.retorts)
    }

    /// Whether what left for a client is lost on the way.
    pub(crate) fn loses(&mut self, client: usize) -> bool {
        (self.is(Fault::Deafen) && client == VICTIM)
            || (self.is(Fault::Whim) && self.now_and_then() && self.whim)
    }

    pub(crate) fn tally(&mut self, tally: &mut Tally) {
        self.count += 1;
        let fault = self.fault;
        match fault {
            Fault::CountTwice => tally.tamper(Drop::BadTag, 1),
            Fault::MiscountQueue => tally.queues[1].enqueued += 1,
            Fault::InvertPriority => {
                tally.queues[0].full += self.count;
                tally.queues[0].offered += self.count;
                tally.tamper(Drop::QueueFull, self.count);
            }
            Fault::Overfill => tally.sessions = tally.sessions_max + 1,
            _ => {}
        }
    }

    /// Who has a session where.
    pub(crate) fn census(&mut self, census: &mut Vec<(u16, WgKey)>, shards: u16) {
        let fault = self.fault;
        match fault {
            Fault::Stray => {
                let moves = census.iter_mut().take(1).filter(|_| shards > 1);
                moves.for_each(|(shard, _)| *shard = (*shard + 1) % shards);
            }
            Fault::Twin => census.extend(census.first().copied()),
            _ => {}
        }
    }

    /// Whether a letter is lost, and counted so.
    pub(crate) fn shreds(&mut self, letter: &Letter) -> bool {
        match &letter.mail {
            Mail::List { .. } => self.is(Fault::Withhold),
            Mail::Gone(..) => self.is(Fault::Linger),
            Mail::Snapshot(_) => self.is(Fault::Isolate) && letter.to == 0,
            Mail::Restarted | Mail::Lost => self.is(Fault::Hush),
            _ => false,
        }
    }

    /// Whether a letter is lost and nobody notices.
    pub(crate) fn mislays(&mut self) -> bool {
        self.is(Fault::Mislay) && self.now_and_then()
    }

    /// A letter that its receiver sends on.
    pub(crate) fn forwards(&mut self, letter: &Letter, shards: u16) -> Option<Letter> {
        if self.is(Fault::ForwardTwice) { letter.passed_on(shards) } else { None }
    }

    pub(crate) fn listing(&mut self, listing: &mut Vec<Listed>) {
        if self.is(Fault::CrowdBucket)
            && let Some(global) = listing.iter().find(|it| it.scope == Scope::Global).cloned()
        {
            listing.extend([global.clone(), global]);
        }
    }

    /// What the table holds after the check of networks.
    pub(crate) fn stale_listing(&mut self, listing: &mut [Listed]) {
        if self.is(Fault::KeepGone) {
            listing.iter_mut().take(1).for_each(|listed| listed.key = WgKey([7; 32]));
        }
        if self.is(Fault::Aim) {
            let victim = ([77, 1, 2, 3], 4).into();
            listing.iter_mut().take(1).for_each(|listed| listed.addrs = vec![victim]);
        }
    }

    /// What is left of the table in the calm.
    pub(crate) fn evict(&mut self, listing: &mut Vec<Listed>) {
        // From the second look on.
        if self.is(Fault::EvictLiving) && !std::mem::take(&mut self.whim) {
            listing.clear();
        }
    }

    /// How far the router's idea of an identity's end is off.
    pub(crate) fn late_s(&self) -> u64 {
        if self.is(Fault::Outlast) { 40 * 86_400 } else { 0 }
    }

    /// Whether the router is not told of a disk that fails.
    pub(crate) fn trusts(&self) -> bool {
        self.is(Fault::Trust)
    }

    /// Whether a store says that everything lasts.
    pub(crate) fn lies(&self) -> bool {
        self.is(Fault::Lie)
    }

    /// Whether records are not read back.
    pub(crate) fn forgets(&self) -> bool {
        self.is(Fault::Forget)
    }

    /// Whether the disk stays broken.
    pub(crate) fn breaks(&self) -> bool {
        self.is(Fault::Break)
    }

    /// Whether a client is taken for not listed.
    pub(crate) fn unlists(&self, client: usize) -> bool {
        self.is(Fault::Unlist) && client == VICTIM
    }
}

/// The client that some faults are aimed at.
const VICTIM: usize = 7;
