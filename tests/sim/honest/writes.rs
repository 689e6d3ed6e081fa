//! What an honest client keeps at the router and looks up there.

use std::time::Duration;

use molia_router::client::OwnedRecord;
use molia_router::client::requests::Answer;
use molia_router::ids::Key;
use molia_router::limits::{HEADER_BYTES, PLAINTEXT_BASE, SHIM_BYTES};
use molia_router::signing::{self, stamp};
use molia_router::time::{Moment, Now};
use molia_router::wire::body::{
    AnnounceProviderReq, AnnounceProviderResp, FindValueReq, FindValueResp, Found, Overflow,
    Provider, Stamp, StoreReq, StoreResp, Writer,
};
use molia_router::wire::{Code, Kind, StoreCode};

use super::{Ask, Got, Honest, decode};
use crate::keep::Keep;
use crate::promises::{Promises, Version};
use crate::verdict::{Oracle, Violation, ensure};

/// Values of its own that each client has names for.
const NAMES: usize = 2;
/// Keys that clients provide.
const CONTENTS: usize = 6;
const BODY_MAX: usize = PLAINTEXT_BASE - SHIM_BYTES - HEADER_BYTES;
/// Nonces in which a stamp is found.
const TRIES: u64 = 1 << 16;
/// Longer than a world lasts, however its clock jumps.
const LONG: Duration = Duration::from_secs(4 * 3600);

/// A question about values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About {
    Store { key: Key, sequence: u64, chunked: bool },
    Announce,
    Look { key: Key },
}

/// What a client said so far.
#[derive(Debug)]
pub(crate) struct Said {
    keep: Option<Keep>,
    sequences: [u64; NAMES],
    /// The last signed value of each name.
    newest: [Option<OwnedRecord>; NAMES],
    /// The key of the last round's value, and its first sequence.
    last: Option<(Key, u64)>,
    /// What came back in the last round.
    pub(crate) last_stored: bool,
    pub(crate) last_looked: bool,
}

impl Said {
    pub(crate) fn new(keep: Option<Keep>) -> Self {
        let newest = std::array::from_fn(|_| None);
        let (last_stored, last_looked) = (false, false);
        Self { keep, sequences: [0; NAMES], newest, last: None, last_stored, last_looked }
    }

    pub(crate) fn begin_last_round(&mut self) {
        (self.last_stored, self.last_looked) = (false, false);
    }

    /// Whether an error is an answer that one has to live with.
    pub(crate) fn tolerates(&self, about: About, code: i32) -> bool {
        let is = |wanted: Code| code == wanted.to_wire().cast_signed();
        let stamps = self.keep.is_some_and(|keep| keep.stamp_bits > 0);
        let store = self.keep.is_some_and(|keep| keep.has_store());
        // A new session, or an identity that ended, is a stranger's until it says who it is.
        let write = (store && is(Code::Busy))
            || (stamps && is(Code::StampRequired))
            || is(Code::Unauthorized);
        match about {
            About::Store { chunked, .. } => {
                write || (chunked && (is(Code::Busy) || is(Code::Invalid)))
            }
            About::Announce => write,
            About::Look { .. } => is(Code::TooLarge),
        }
    }
}

/// What it asks.
impl Honest {
    /// Asks something at random; what is said is noted before it is.
    pub(crate) fn wish(&mut self, now: Now, promises: &mut Promises) {
        let what = self.dice.below(20);
        if !self.negotiated && what > 8 {
            return;
        }
        match what {
            0..=8 if !promises.keys().is_empty() => {
                let key = *self.dice.pick(promises.keys());
                self.look(now, key);
            }
            0..=15 if self.negotiated => self.store_named(now, promises),
            0..=15 => {}
            16 | 17 => self.store_immutable(now, promises),
            _ => self.announce(now, promises),
        }
    }

    /// Asks what the end of the world is judged by.
    pub(crate) fn wish_last(&mut self, now: Now, promises: &mut Promises) {
        let public = self.identity.signing_key().verifying_key().to_bytes();
        let key = Key::of_name(&public, &[0]);
        if !self.negotiated {
            // Nothing is kept for strangers.
        } else if !self.said.last_stored {
            self.said.last.get_or_insert((key, self.said.sequences[0] + 1));
            let value = self.dice.blob(40);
            self.store_as(now, promises, 0, value, LONG);
        } else if !self.said.last_looked {
            self.look(now, key);
        }
    }

    fn look(&mut self, now: Now, key: Key) {
        let provider_limit = *self.dice.pick(&[0, 1, 30]);
        let request = FindValueReq { key, provider_limit };
        let sent = self.peer.request(Kind::FindValueReq, |out| request.write(out));
        self.note(now, sent.expect("it fits"), Ask::About(About::Look { key }));
    }

    fn ttl(&mut self) -> Duration {
        if self.dice.permille(300) { self.dice.millis(40_000..120_000) } else { LONG }
    }

    fn value(&mut self) -> Vec<u8> {
        let len = match self.dice.below(20) {
            0 => self.dice.below(1_800) + 1_200,
            1..=4 => self.dice.below(800) + 1,
            _ => self.dice.below(100) + 1,
        };
        self.dice.blob(len)
    }

    fn store_named(&mut self, now: Now, promises: &mut Promises) {
        let name = self.dice.below(NAMES);
        if self.dice.permille(350)
            && let Some(record) = self.said.newest[name].clone()
        {
            // Once more, as who got no answer does.
            return self.store(now, promises, &record);
        }
        let value = if self.dice.permille(100) { Vec::new() } else { self.value() };
        let ttl = self.ttl();
        self.store_as(now, promises, name, value, ttl);
    }

    fn store_as(
        &mut self,
        now: Now,
        promises: &mut Promises,
        name: usize,
        value: Vec<u8>,
        ttl: Duration,
    ) {
        self.said.sequences[name] += 1;
        let salt = [u8::try_from(name).expect("few names")];
        let ttl = Duration::from_secs(ttl.as_secs());
        let sequence = self.said.sequences[name];
        let record = OwnedRecord::named(&self.identity, &salt, value, sequence, 0, ttl);
        self.said.newest[name] = Some(record.clone());
        self.store(now, promises, &record);
    }

    fn store_immutable(&mut self, now: Now, promises: &mut Promises) {
        // Some are several clients'.
        let value =
            if self.dice.permille(300) { vec![self.dice.byte() % 4; 9] } else { self.value() };
        let record = OwnedRecord::immutable(value, self.ttl());
        self.store(now, promises, &record);
    }

    fn store(&mut self, now: Now, promises: &mut Promises, record: &OwnedRecord) {
        let (key, sequence) = (record.key, record.sequence);
        let borrowed = record.borrowed();
        let encoded = written(record.value.len() + 300, |out| borrowed.write(out));
        let stamp = self.stamp(now, &key);
        let request = StoreReq { record: &encoded, stamp, ..StoreReq::default() };
        let chunks = request.chunks(BODY_MAX).expect("few chunks");
        let bodies: Vec<Vec<u8>> =
            chunks.map(|chunk| written(BODY_MAX, |out| chunk.write(out))).collect();
        let version = Version {
            sequence,
            asked: now.at,
            ttl: Duration::from_secs(record.ttl_secs),
            tombstone: record.owner.is_some() && record.value.is_empty(),
            encoded,
        };
        promises.offer(key, version);
        let sent = self.peer.request_chunked(Kind::StoreReq, &bodies).expect("it fits");
        let about = About::Store { key, sequence, chunked: bodies.len() > 1 };
        self.note(now, sent, Ask::About(about));
    }

    fn announce(&mut self, now: Now, promises: &mut Promises) {
        let key = Key([u8::try_from(40 * self.dice.below(CONTENTS)).expect("few"); 32]);
        let public = self.identity.signing_key().verifying_key().to_bytes();
        let meta_len = self.dice.below(100);
        let meta = self.dice.blob(meta_len);
        let said = Provider {
            peer_id: self.peer_id,
            meta: &meta,
            expires_unix_s: now.unix_s() + self.ttl().as_secs(),
            sequence: now.at.as_nanos(),
            owner_pubkey: Some(&public),
            signature: None,
        };
        let key_of = self.identity.signing_key();
        let by_us = signing::sign_provider(key_of, &key, &said, &mut Vec::new());
        let provider = Provider { signature: Some(&by_us), ..said };
        promises.announce(key, written(500, |out| provider.write(out)));
        let stamp = self.stamp(now, &key);
        let request = AnnounceProviderReq { key, provider, stamp, admission: &[] };
        let sent = self.peer.request(Kind::AnnounceProviderReq, |out| request.write(out));
        self.note(now, sent.expect("it fits"), Ask::About(About::Announce));
    }

    fn stamp(&mut self, now: Now, key: &Key) -> Option<Stamp> {
        let bits = self.said.keep.map_or(0, |keep| keep.stamp_bits);
        if bits == 0 {
            return None;
        }
        let epoch = stamp::epoch(now.unix_s());
        stamp::solve(key, &self.router.peer_id, epoch, bits, self.dice.u64(), TRIES)
    }
}

/// Whether the answers are right.
impl Honest {
    pub(super) fn judge_about(
        &mut self,
        now: Now,
        since: Moment,
        about: About,
        answer: &Answer,
    ) -> Result<Option<Got>, Violation> {
        let right = |holds: bool, what: &str| {
            ensure(holds, Oracle::Answers, now.at, || {
                format!("client {}: {what}: {about:?} {answer:?}", self.number)
            })
        };
        match about {
            About::Store { key, sequence, .. } => {
                let stored = StoreResp::read(&answer.bodies[0]);
                right(stored.is_ok(), "no STORE_RESP")?;
                let StoreResp { code, reason, .. } = stored.unwrap_or_default();
                let full = matches!(reason, "full" | "peer_share" | "network_share");
                let fair = match code {
                    StoreCode::Ok | StoreCode::Stale => true,
                    StoreCode::Rejected => full,
                    StoreCode::Equivocation | StoreCode::Unspecified => false,
                };
                right(fair, "a value was refused")?;
                let (kept, stale) = (code == StoreCode::Ok, code == StoreCode::Stale);
                let last = self.said.last.is_some_and(|(of, from)| of == key && from <= sequence);
                self.said.last_stored |= kept && last;
                Ok(Some(Got::Written { key, sequence, since, kept, stale }))
            }
            About::Announce => {
                let kept = AnnounceProviderResp::read(&answer.bodies[0]);
                right(kept.is_ok(), "no ANNOUNCE_PROVIDER_RESP")?;
                Ok(None)
            }
            About::Look { key } => {
                let (mut record, mut providers) = (Vec::new(), Vec::new());
                for body in &answer.bodies {
                    decode::<molia_router::wire::proto::FindValueResp>(now, body)?;
                    let chunk = FindValueResp::read(body).ok().and_then(|chunk| chunk.value);
                    match chunk {
                        Some(Found::Record(slice)) => record.extend_from_slice(slice),
                        Some(Found::Providers(some)) => providers
                            .extend(some.iter().map(|one| written(600, |out| one.write(out)))),
                        None => {}
                    }
                }
                self.said.last_looked |= !record.is_empty();
                let record = (!record.is_empty()).then_some(record);
                Ok(Some(Got::Looked { key, since, record, providers }))
            }
        }
    }
}

fn written(
    bytes_max: usize,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
) -> Vec<u8> {
    let mut bytes = vec![0; bytes_max];
    let mut out = Writer::new(&mut bytes);
    write(&mut out).expect("there is room");
    let len = out.len();
    bytes.truncate(len);
    bytes
}
