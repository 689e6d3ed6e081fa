//! Values and providers: checked by the shard that holds the peer's session, kept by the one that
//! owns the key.
//!
//! A write is checked in the page's order where it arrives: parse, maxima, stamp, meaning
//! (the signature last, it costs most). Then it is the owner's: of the same shard at once, of
//! another one by mail, which takes the record's bytes along in one piece. The owner alone knows
//! which stamps were spent and what the key has; it sends back what became of the write, and the
//! session's shard answers. A lookup goes the same way; the closer peers of its answer are those
//! that the session's shard knows of.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::stamps;
use crate::bucket::{BucketTable, Keyed, Rate, TokenBucket};
use crate::ids::{Key, PeerId, SessionRef};
use crate::limits::PROVIDER_BYTES_MAX;
use crate::net::{Prefix, Scope};
use crate::overlay::reassembly::{self, Place, Slice, Taken};
use crate::overlay::records::{Announcement, Offer, Outcome, Payer, Version, left};
use crate::signing::{self, stamp};
use crate::time::Now;
use crate::tunnel::{Session, Tunnel};
use crate::wire::body::{AnnounceProviderReq, Overflow, Record, Stamp, StoreReq, Writer};
use crate::wire::{Class, Code, Header, Kind};

use super::journal::Note;
use super::{Mail, Request, Router, Source};

/// Writes of one session.
const WRITES: Rate = Rate::new(20, 100);
/// Writes from one network, wherever in it its sessions began: a fifth of the stamps that a shard
/// remembers.
const NETWORK_WRITES: Rate = Rate::new(200, 1000);
/// Networks whose writes are kept apart.
const WRITING_NETWORKS: usize = 4096;

/// What is left of the writes of every network.
pub(super) fn network_writes(keyed: Keyed) -> BucketTable<Prefix> {
    BucketTable::new(WRITING_NETWORKS, NETWORK_WRITES, keyed)
}

/// Introductions and channels asked for from one network: each may be a signature check, and takes
/// a place among those that wait.
const NETWORK_ASKS: Rate = Rate::new(100, 400);

/// What is left of what every network may ask of other peers.
pub(super) fn network_asks(keyed: Keyed) -> BucketTable<Prefix> {
    BucketTable::new(WRITING_NETWORKS, NETWORK_ASKS, keyed)
}

/// How far a peer's clock may be ahead of ours, in seconds.
const CLOCK_SKEW_S: u64 = 300;

/// Where a frame belongs that is a whole message.
const WHOLE: Place = Place { stream: 0, more: false, index: 0, total: 0 };

/// Whom to answer, once it is known what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Of the shard that is to answer.
    pub(super) session: SessionRef,
    pub(super) kind: Kind,
    pub(super) correlation: u32,
    pub(super) class: Class,
}

/// A write that was checked, for the owner of its key. To another shard it goes as a letter, which
/// comes back with what became of it.
#[derive(Debug)]
pub struct Write {
    pub(super) asker: Asker,
    key: Key,
    /// The stamp that pays for it, if one has to.
    stamp: Option<Stamp>,
    payer: Payer,
    /// How long it is to be kept.
    ttl: Duration,
    what: What,
    /// The `Record` or `Provider` message, if there is something to keep.
    encoded: Option<Arc<[u8]>>,
    /// On the way back.
    pub(super) written: Written,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Not what it says it is, and why: all that it does is to spend its stamp.
    Nothing(&'static str),
    Value(Version),
    Provider {
        peer: PeerId,
        sequence: u64,
    },
}

/// What became of a write, for who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The records' word, and for how many seconds it is kept at most.
    Done(Outcome, u32),
    /// Its stamp does not pay for it.
    Unpaid(stamps::Refused),
    /// It is not what it says it is.
    Refused(&'static str),
    /// Its chunks are not put together.
    Apart(reassembly::Why),
    /// The store cannot take it now, or could not keep it.
    Busy,
}

impl<T: Tunnel> Router<T> {
    pub(super) fn store(&mut self, now: Now, request: &Request<'_>) {
        let Ok(asked) = StoreReq::read(request.body) else {
            return self.refuse(now, request, Code::Invalid, 0);
        };
        let Header { correlation, stream, flags, .. } = request.header;
        let (index, total) = (asked.chunk_index, asked.total_chunks);
        let place = Place { stream, more: flags.more_chunks(), index, total };
        if self.repeated(now, request, !place.more) {
            return;
        }
        if place == WHOLE {
            return self.store_record(now, request, asked.record, asked.stamp);
        }
        let slice = Slice { place, bytes: asked.record, rider: asked.stamp };
        let session = request.from.session;
        match self.reassembly.insert(now.at, session, correlation, &slice) {
            Taken::Whole { bytes, rider } => {
                let mut record = std::mem::take(&mut self.whole);
                record.clear();
                record.extend_from_slice(bytes);
                self.store_record(now, request, &record, rider);
                self.whole = record;
            }
            Taken::Kept | Taken::Ignored => {}
            // Remembered, lest the slices that follow begin a stream that never ends.
            Taken::Refused(why) => self.written(now, &asker(request), Written::Apart(why)),
        }
    }

    pub(super) fn too_large(&mut self, now: Now, request: &Request<'_>) {
        self.refuse(now, request, Code::TooLarge, request.header.kind.into());
    }

    /// Whether what became of a write is known already; then it is said again if `answer` says so.
    fn repeated(&mut self, now: Now, request: &Request<'_>, answer: bool) -> bool {
        let asker = asker(request);
        let known = self.recall_write(now, &asker);
        if let Some(written) = known
            && answer
        {
            self.written(now, &asker, written);
        }
        known.is_some()
    }

    pub(super) fn recall_write(&mut self, now: Now, asker: &Asker) -> Option<Written> {
        let writes = self.peers.at(asker.session).writes.as_ref()?;
        writes.recall(now.at, asker.correlation)
    }

    pub(super) fn remember_write(&mut self, now: Now, asker: &Asker, written: Written) {
        let writes = self.peers.at(asker.session).writes.get_or_insert_default();
        writes.remember(now.at, asker.correlation, written);
    }

    /// Goes on with a record that is complete.
    fn store_record(
        &mut self,
        now: Now,
        request: &Request<'_>,
        encoded: &[u8],
        stamp: Option<Stamp>,
    ) {
        if encoded.len() > self.config.records.record_bytes_max {
            return self.too_large(now, request);
        }
        let Ok(record) = Record::read(encoded) else {
            return self.refuse(now, request, Code::Invalid, 0);
        };
        if !self.paid(now, &record.key, stamp) {
            return self.refuse(now, request, Code::StampRequired, self.config.records.stamp_bits);
        }
        if !self.may_write(now, request) {
            return self.refuse(now, request, Code::RateLimited, 0);
        }
        let asker = asker(request);
        let from = if record.not_before_unix == 0 { now.unix_s() } else { record.not_before_unix };
        let ttl = left(now, from.saturating_add(record.ttl_secs));
        let refused = if from > now.unix_s() + CLOCK_SKEW_S {
            Some("not_yet_valid")
        } else if ttl.is_zero() {
            Some("expired")
        } else {
            let verified = signing::verify_record(&record, &mut self.signed);
            verified.err().map(signing::Refused::label)
        };
        let payer = self.payer(request);
        if let Some(why) = refused {
            return self.write_nothing(now, asker, record.key, stamp, payer, why);
        }
        let version = match record.owner_pubkey {
            Some(_) => Version::Signed {
                sequence: record.sequence,
                digest: Key::of_value(record.value).0,
                tombstone: record.value.is_empty(),
            },
            None => Version::Immutable,
        };
        // Written anew: what others claim of it, and fields we do not know, are not passed on.
        let Some(encoded) = self.canonical(encoded.len(), |out| record.write(out)) else {
            return self.refuse(now, request, Code::Internal, 0);
        };
        let (key, encoded) = (record.key, Some(encoded));
        let (what, written) = (What::Value(version), Written::Busy);
        self.write(now, Write { asker, key, stamp, payer, ttl, what, encoded, written });
    }

    pub(super) fn announce(&mut self, now: Now, request: &Request<'_>) {
        let Ok(asked) = AnnounceProviderReq::read(request.body) else {
            return self.refuse(now, request, Code::Invalid, 0);
        };
        if self.repeated(now, request, true) {
            return;
        }
        if !self.paid(now, &asked.key, asked.stamp) {
            return self.refuse(now, request, Code::StampRequired, self.config.records.stamp_bits);
        }
        if !self.may_write(now, request) {
            return self.refuse(now, request, Code::RateLimited, 0);
        }
        let (asker, payer, provider) = (asker(request), self.payer(request), asked.provider);
        let ttl = left(now, provider.expires_unix_s);
        let own = provider.owner_pubkey.map(PeerId::of_public) == Some(provider.peer_id)
            && payer.peer == Some(provider.peer_id);
        let refused = if !own {
            Some("not_the_sender")
        } else if ttl.is_zero() {
            Some("expired")
        } else {
            let verified = signing::verify_provider(&asked.key, &provider, &mut self.signed);
            verified.err().map(signing::Refused::label)
        };
        if let Some(why) = refused {
            return self.write_nothing(now, asker, asked.key, asked.stamp, payer, why);
        }
        let Some(encoded) = self.canonical(PROVIDER_BYTES_MAX, |out| provider.write(out)) else {
            return self.refuse(now, request, Code::Internal, 0);
        };
        let what = What::Provider { peer: provider.peer_id, sequence: provider.sequence };
        let (key, stamp, encoded, written) = (asked.key, asked.stamp, Some(encoded), Written::Busy);
        self.write(now, Write { asker, key, stamp, payer, ttl, what, encoded, written });
    }

    /// What `write` makes of at most `bytes_max`: the bytes that are kept, the one allocation of a write.
    fn canonical(
        &mut self,
        bytes_max: usize,
        write: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) -> Option<Arc<[u8]>> {
        self.signed.clear();
        self.signed.resize(bytes_max, 0);
        let mut out = Writer::new(&mut self.signed);
        write(&mut out).ok()?;
        let len = out.len();
        Some(Arc::from(&self.signed[..len]))
    }

    /// Whether a stamp pays for a write of `key`, as far as is known without its owner.
    fn paid(&self, now: Now, key: &Key, stamp: Option<Stamp>) -> bool {
        let bits = self.config.records.stamp_bits;
        bits == 0
            || stamp.is_some_and(|paid| {
                stamp::is_current(paid.epoch, now.unix_s())
                    && stamp::paid(&paid, key, &self.identity.peer_id(), bits)
            })
    }

    /// Whether a session and its network have writes left: each costs up to a signature check, and
    /// the memory of spent stamps is everybody's.
    fn may_write(&mut self, now: Now, request: &Request<'_>) -> bool {
        let session = request.from.session;
        let Some(network) = self.sessions.session(session).map(|tenant| *tenant.network()) else {
            return false;
        };
        let left = &mut self.peers.at(session).writes_left;
        let left = left.get_or_insert_with(|| TokenBucket::full(&WRITES, now.at));
        left.take(now.at, &WRITES, 1) && self.network_writes.take(now.at, &network, 1)
    }

    /// Whom a write counts against: never the address it came from, which anybody can forge, but
    /// the one that was proven, or that the session began at.
    fn payer(&mut self, request: &Request<'_>) -> Payer {
        let session = request.from.session;
        let network = self.sessions.session(session).and_then(|tenant| {
            let ip = tenant.path().peer.ip();
            match (tenant.proven(), Scope::of(ip)) {
                (true, Scope::Global) => Some(Prefix::of(ip)),
                (true, Scope::Private | Scope::Loopback) => None,
                (false, _) => Some(*tenant.network()),
            }
        });
        let identity = self.peers.at(session).identity;
        Payer { peer: identity.map(|bound| bound.peer_id), network }
    }

    /// A write that is refused takes its stamp along: each pays once, whatever for.
    fn write_nothing(
        &mut self,
        now: Now,
        asker: Asker,
        key: Key,
        stamp: Option<Stamp>,
        payer: Payer,
        why: &'static str,
    ) {
        let (ttl, what, encoded) = (Duration::ZERO, What::Nothing(why), None);
        let written = Written::Busy;
        self.write(now, Write { asker, key, stamp, payer, ttl, what, encoded, written });
    }

    /// Hands a write to the owner of its key.
    fn write(&mut self, now: Now, mut write: Write) {
        match self.partition.owner(&write.key.0) {
            owner if owner == self.shard => {
                let written = self.keep(now, &mut write);
                self.conclude(now, write.asker, written);
            }
            owner => {
                let letter = self.letters.write(write);
                self.tray.post(owner, Mail::Write(letter), &[]);
            }
        }
    }

    /// Keeps what this shard owns the key of.
    pub(super) fn keep(&mut self, now: Now, write: &mut Write) -> Written {
        let Write { key, stamp, payer, ttl, what, .. } = *write;
        // Without the bytes there is nothing to keep, and nothing for the store.
        let Some(encoded) = write.encoded.take() else {
            return self.spend(now, &key, stamp).err().unwrap_or(match what {
                What::Nothing(why) => Written::Refused(why),
                What::Value(_) | What::Provider { .. } => Written::Busy,
            });
        };
        if !self.journal.reserve(encoded.len()) {
            return Written::Busy;
        }
        if let Err(unpaid) = self.spend(now, &key, stamp) {
            return unpaid;
        }
        let outcome = match what {
            What::Nothing(why) => return Written::Refused(why),
            What::Value(version) => {
                self.records.store(now.at, &Offer { key, payer, version, ttl, encoded })
            }
            What::Provider { peer, sequence } => {
                let network = payer.network;
                let offer = Announcement { key, peer, network, sequence, ttl, encoded };
                self.records.announce(now.at, &offer)
            }
        };
        self.outbox.counters.written(outcome);
        if let Outcome::Displaced(peer) = outcome {
            self.journal.note(Note::NoProvider(key, peer));
        }
        if matches!(outcome, Outcome::Stored | Outcome::Refreshed | Outcome::Displaced(_)) {
            self.journal.note(match what {
                What::Provider { peer, .. } => Note::Provider(key, peer),
                What::Value(_) | What::Nothing(_) => Note::Value(key),
            });
        }
        let ttl = ttl.min(self.config.records.table.ttl_max).as_secs();
        Written::Done(outcome, u32::try_from(ttl).unwrap_or(u32::MAX))
    }

    /// Spends the stamp of a write, if writes take one.
    fn spend(&mut self, now: Now, key: &Key, stamp: Option<Stamp>) -> Result<(), Written> {
        let bits = self.config.records.stamp_bits;
        match stamp.filter(|_| bits > 0) {
            Some(stamp) => self.stamps.spend(now, key, &stamp, bits).map_err(Written::Unpaid),
            None => Ok(()),
        }
    }
}

pub(super) fn asker(request: &Request<'_>) -> Asker {
    let Header { correlation, .. } = request.header;
    let kind = request.kind().unwrap_or(Kind::Error);
    Asker { session: request.from.session, kind, correlation, class: request.class }
}

impl<T: Tunnel> Router<T> {
    /// The request that an asker made, to answer it now; nothing if the session is gone.
    pub(super) fn request_of(&self, asker: &Asker) -> Option<Request<'static>> {
        let path = *self.sessions.session(asker.session).map(Session::path)?;
        let from = Source { session: asker.session, path, prefix: Prefix::of(path.peer.ip()) };
        let header = Header::request(asker.kind, asker.correlation);
        Some(Request { from, class: asker.class, header, body: &[] })
    }
}
