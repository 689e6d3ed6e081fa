//! FIND_VALUE, and the answers to writes: what the owner of a key said, put into frames.

use std::ops::Range;
use std::sync::Arc;

use arrayvec::ArrayVec;
use rand_core::RngCore;

use crate::admission::stamps;
use crate::ids::Key;
use crate::limits::{CHUNKS_MAX, CLOSER_PEERS_MAX, HEADER_BYTES, SHIM_BYTES};
use crate::net::Scope;
use crate::overlay;
use crate::overlay::reassembly;
use crate::overlay::records::Outcome;
use crate::time::Now;
use crate::tunnel::Tunnel;
use crate::wire::body::chunks::{fitting, fitting_providers};
use crate::wire::body::find_value::RespWriter;
use crate::wire::body::{
    AnnounceProviderResp, Chunks, FindValueReq, Overflow, StoreResp, Writer, feature,
};
use crate::wire::{Code, Header, Kind, StoreCode};

use super::overlay::chunk;
use super::records::{Asker, Written, asker};
use super::{Mail, Request, Router};

/// When a peer may try again what there is no room for now.
const RETRY_FULL_MS: u32 = 60_000;

/// A lookup on its way to the owner of its key, and what was found on the way back. To another
/// shard it goes as a letter.
#[derive(Debug)]
pub struct Lookup {
    pub(super) asker: Asker,
    key: Key,
    /// Providers, if there is no value.
    wanted: usize,
    pub(super) found: Found,
}

/// The `Record` message that is kept, or the `Provider` messages, if there are any.
#[derive(Debug, Default)]
pub(super) struct Found {
    record: Option<Arc<[u8]>>,
    providers: Vec<Arc<[u8]>>,
}

impl<T: Tunnel> Router<T> {
    /// Answers a write.
    pub(super) fn written(&mut self, now: Now, asker: &Asker, written: Written) {
        let Some(request) = self.request_of(asker) else { return };
        // Refused for its stamp, it had no effect: another try may bring another stamp. If it is a
        // repeat of one that was under way, though, its stamp was spent on what was done then.
        let known = self.recall_write(now, asker);
        let written = match (written, known) {
            (Written::Unpaid(_), Some(done)) => done,
            (written, _) => written,
        };
        if known.is_none() && !matches!(written, Written::Unpaid(_) | Written::Busy) {
            self.remember_write(now, asker, written);
        }
        let (code, reason, ttl_s) = match written {
            Written::Unpaid(stamps::Refused::Full) => {
                return self.refuse(now, &request, Code::Busy, 0);
            }
            Written::Unpaid(_) => {
                let bits = self.config.records.stamp_bits;
                return self.refuse(now, &request, Code::StampRequired, bits);
            }
            Written::Apart(reassembly::Why::Malformed) => {
                return self.refuse(now, &request, Code::Invalid, 0);
            }
            Written::Apart(reassembly::Why::TooLarge) => return self.too_large(now, &request),
            Written::Busy | Written::Apart(reassembly::Why::Busy) => {
                return self.refuse(now, &request, Code::Busy, 0);
            }
            Written::Refused(why) => {
                self.outbox.counters.write_refused();
                (StoreCode::Rejected, why, 0)
            }
            Written::Done(outcome, ttl_s) => {
                let (code, reason) = told(outcome);
                (code, reason, ttl_s)
            }
        };
        let retry_after_ms = match written {
            Written::Done(Outcome::Rejected(why), _) if why.passes() => RETRY_FULL_MS,
            Written::Done(..)
            | Written::Refused(_)
            | Written::Unpaid(_)
            | Written::Apart(_)
            | Written::Busy => 0,
        };
        if asker.kind == Kind::StoreReq {
            let answer = StoreResp { code, reason, retry_after_ms };
            self.answer(now, &request, Kind::StoreResp, |body| answer.write(body));
        } else {
            let accepted_ttl_s = if code == StoreCode::Ok { ttl_s } else { 0 };
            let answer = AnnounceProviderResp { code, reason, accepted_ttl_s, retry_after_ms };
            self.answer(now, &request, Kind::AnnounceProviderResp, |body| answer.write(body));
        }
    }

    pub(super) fn find_value(&mut self, now: Now, request: &Request<'_>) {
        let Ok(asked) = FindValueReq::read(request.body) else {
            return self.refuse(now, request, Code::Invalid, 0);
        };
        let mut lookup = self.letters.lookup(Lookup {
            asker: asker(request),
            key: asked.key,
            wanted: asked.wanted(),
            found: Found::default(),
        });
        match self.partition.owner(&asked.key.0) {
            _ if !self.config.role.stores() => self.answer_value(now, lookup),
            owner if owner == self.shard => {
                self.look_up(now, &mut lookup);
                self.answer_value(now, lookup);
            }
            owner => self.tray.post(owner, Mail::Find(lookup), &[]),
        }
    }

    /// Finds what this shard, which owns it, has under the key.
    pub(super) fn look_up(&self, now: Now, lookup: &mut Lookup) {
        let there = self.records.find(now.at, &lookup.key);
        let found = &mut lookup.found;
        found.record = there.value.map(Arc::clone);
        if found.record.is_none() {
            found.providers.extend(there.providers.take(lookup.wanted).map(Arc::clone));
        }
    }
}

/// One frame of an answer: a part of the record, or some of the providers.
type Parts = ArrayVec<Range<usize>, CHUNKS_MAX>;

impl<T: Tunnel> Router<T> {
    /// Answers a lookup: one frame, or as many chunks as it takes if the peer agreed to chunks. The
    /// last one names closer peers in the room that it has left.
    pub(super) fn answer_value(&mut self, now: Now, mut lookup: Box<Lookup>) {
        self.answer_lookup(now, &lookup);
        lookup.found.clear();
        self.letters.put_lookup(lookup);
    }

    fn answer_lookup(&mut self, now: Now, answer: &Lookup) {
        let Some(request) = self.request_of(&answer.asker) else { return };
        let peer = self.peers.at(request.from.session);
        let limit = peer.plaintext_limit();
        let room = limit - SHIM_BYTES - HEADER_BYTES;
        let chunked = peer.capabilities & feature::STREAMING_CHUNKS != 0;
        let Some((parts, left)) = plan(&answer.found, room, chunked) else {
            return self.refuse(now, &request, Code::TooLarge, Kind::FindValueReq.id().into());
        };
        let asker = Scope::of(request.from.path.peer.ip());
        let target = crate::ids::PeerId(answer.key.0);
        let closer = overlay::closest(&self.table, &self.others, &target, CLOSER_PEERS_MAX, asker);
        let closer = &closer[..fitting(closer.iter().map(|found| found.encoded), left)];
        let stream = self.rng.next_u32().max(1);
        let plain = Header::response(Kind::FindValueResp, request.header.correlation)
            .in_class(request.class);
        let total = parts.len();
        let mut queued = true;
        for (index, part) in parts.into_iter().enumerate() {
            let more = index + 1 < total;
            let header = if total > 1 { plain.chunk(stream, more) } else { plain };
            let closer = if more { &[] } else { closer };
            let fill = |body: &mut Writer<'_>| {
                let mut out = RespWriter::new(body);
                answer.found.write(part, &mut out)?;
                closer.iter().try_for_each(|found| out.closer_peer(found.encoded))?;
                if total == 1 {
                    out.finish();
                    return Ok(());
                }
                out.finish_chunk(chunk(index), chunk(total))
            };
            queued &= self.outbox.offer(now, &request.from, request.class, limit, header, fill);
        }
        if !queued {
            self.outbox.counters.message_dropped(request.kind());
        }
    }
}

impl Found {
    /// Forgets what was found, and keeps the room for it.
    fn clear(&mut self) {
        self.record = None;
        self.providers.clear();
    }

    fn providers(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.providers.iter().map(|one| &**one)
    }

    fn write(&self, part: Range<usize>, out: &mut RespWriter<'_, '_>) -> Result<(), Overflow> {
        match &self.record {
            Some(record) => out.record(&record[part]),
            None if part.is_empty() => Ok(()),
            None => out.providers(self.providers[part].iter().map(|one| &**one)),
        }
    }
}

/// Which part goes into which frame, and the bytes that the last one has left. `None` if a record
/// does not fit what the peer takes.
fn plan(found: &Found, room: usize, chunked: bool) -> Option<(Parts, usize)> {
    let planned = match &found.record {
        Some(record) => Chunks::of_record(record.len(), 0, room),
        None if found.providers.is_empty() => {
            return Some((std::iter::once(0..0).collect(), room));
        }
        None => Chunks::of_providers(found.providers(), room),
    };
    match planned {
        Ok(chunks) if chunked || chunks.len() == 1 => {
            Some((chunks.iter().collect(), chunks.left()))
        }
        Ok(_) | Err(Overflow) if found.record.is_some() => None,
        Ok(_) | Err(Overflow) => {
            let fit = fitting_providers(found.providers(), room);
            Some((std::iter::once(0..fit).collect(), 0))
        }
    }
}

/// What the records' word means to who asked: a code and, for people, a reason.
fn told(outcome: Outcome) -> (StoreCode, &'static str) {
    match outcome {
        Outcome::Stored | Outcome::Refreshed | Outcome::Unchanged | Outcome::Displaced(_) => {
            (StoreCode::Ok, "")
        }
        Outcome::Stale => (StoreCode::Stale, "stale"),
        Outcome::Equivocation => (StoreCode::Equivocation, "equivocation"),
        Outcome::Rejected(why) => (StoreCode::Rejected, why.label()),
    }
}
