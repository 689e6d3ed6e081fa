//! Values and providers: FIND_VALUE, STORE and ANNOUNCE_PROVIDER as calls.
//!
//! What a router answers is believed only as far as it can be checked: a record is what its key
//! names, a provider is signed by the peer that it names. That there is nothing newer nobody can
//! prove; whoever needs to know asks several routers.
//!
//! A write is paid with a stamp of as many bits as NEGOTIATE told. If the router wants another
//! number by then it says so, and the write is paid and sent a second time, no more.

use std::time::Duration;

use rand_core::RngCore;

use super::blocking::Client;
use super::calls::{Found, sole};
use super::error::Error;
use super::requests::Answer;
use crate::identity::Identity;
use crate::ids::{Key, PeerId};
use crate::limits::{HEADER_BYTES, PLAINTEXT_BASE, SHIM_BYTES};
use crate::signing::{self, stamp};
use crate::wire::body::{
    self, AnnounceProviderReq, AnnounceProviderResp, FindValueReq, FindValueResp, Overflow,
    Provider, Record, Stamp, StoreReq, StoreResp, Writer,
};
use crate::wire::code::{Code, StoreCode};
use crate::wire::kind::Kind;

/// Bodies that every router and every path take.
const BODY_BYTES_MAX: usize = PLAINTEXT_BASE - SHIM_BYTES - HEADER_BYTES;
/// All of a record but its value: key 34, signature and salt 66 each, owner 34, three numbers 11
/// each, and up to 11 in front of the value.
const BESIDE_VALUE_BYTES_MAX: usize = 244;
/// Most work for a stamp, a second or two.
const STAMP_BITS_MAX: u32 = 24;
/// Nonces that are tried before the clock is looked at again.
const TRIES: u64 = 1 << 16;

/// A record of one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// What it is found under.
    pub key: Key,
    /// Empty in a tombstone.
    pub value: Vec<u8>,
    /// Grows with every value of a name.
    pub sequence: u64,
    /// Life from `not_before_unix` on.
    pub ttl_secs: u64,
    /// In seconds; 0: from whenever it is stored.
    pub not_before_unix: u64,
    /// Who signs; `None`: immutable.
    pub owner: Option<[u8; 32]>,
    /// By the owner.
    pub signature: Option<[u8; 64]>,
    /// What the owner calls it.
    pub salt: Vec<u8>,
}

impl OwnedRecord {
    /// A value under its own digest.
    pub fn immutable(value: Vec<u8>, ttl: Duration) -> Self {
        Self {
            key: Key::of_value(&value),
            value,
            sequence: 0,
            ttl_secs: ttl.as_secs(),
            not_before_unix: 0,
            owner: None,
            signature: None,
            salt: Vec::new(),
        }
    }

    /// A value under what its owner calls it; an empty one is a tombstone.
    pub fn named(
        owner: &Identity,
        salt: &[u8],
        value: Vec<u8>,
        sequence: u64,
        not_before_unix: u64,
        ttl: Duration,
    ) -> Self {
        let public = owner.signing_key().verifying_key().to_bytes();
        let mut record = Self {
            key: Key::of_name(&public, salt),
            value,
            sequence,
            ttl_secs: ttl.as_secs(),
            not_before_unix,
            owner: Some(public),
            signature: None,
            salt: salt.to_vec(),
        };
        let signed = record.borrowed();
        let signature = signing::sign_record(owner.signing_key(), &signed, &mut Vec::new());
        record.signature = Some(signature);
        record
    }

    /// As it is written.
    pub fn borrowed(&self) -> Record<'_> {
        Record {
            key: self.key,
            value: &self.value,
            sequence: self.sequence,
            ttl_secs: self.ttl_secs,
            not_before_unix: self.not_before_unix,
            owner_pubkey: self.owner.as_ref(),
            signature: self.signature.as_ref(),
            salt: &self.salt,
        }
    }

    fn of(record: &Record<'_>) -> Self {
        Self {
            key: record.key,
            value: record.value.to_vec(),
            sequence: record.sequence,
            ttl_secs: record.ttl_secs,
            not_before_unix: record.not_before_unix,
            owner: record.owner_pubkey.copied(),
            signature: record.signature.copied(),
            salt: record.salt.to_vec(),
        }
    }
}

/// Who has what a key names, by its own signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedProvider {
    /// Who.
    pub peer: PeerId,
    /// Free for applications.
    pub meta: Vec<u8>,
    /// End of the claim.
    pub expires_unix_s: u64,
    /// Grows with every claim.
    pub sequence: u64,
}

/// What FIND_VALUE told.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FoundValue {
    /// The record of the key, which it proved to be.
    pub record: Option<OwnedRecord>,
    /// Who has it, each by its own word; the one that said so last first.
    pub providers: Vec<OwnedProvider>,
    /// Providers that are left out because they said no such thing.
    pub forged: usize,
    /// Whom to ask next.
    pub closer: Vec<Found>,
}

impl FoundValue {
    /// Reads the chunks of an answer and checks what they say of `key`.
    pub(super) fn read(key: &Key, bodies: &[Vec<u8>]) -> Result<Self, Error> {
        let malformed = |_| Error::Malformed { request: Kind::FindValueReq };
        let (mut found, mut record, mut scratch) = (Self::default(), None, Vec::new());
        for body in bodies {
            let chunk = FindValueResp::read(body).map_err(malformed)?;
            found.closer.extend(chunk.closer_peers.iter().map(|peer| Found::of(&peer)));
            match chunk.value {
                Some(body::Found::Record(slice)) => {
                    record.get_or_insert_with(Vec::new).extend_from_slice(slice);
                }
                Some(body::Found::Providers(providers)) => {
                    for provider in providers.iter() {
                        match verified(key, &provider, &mut scratch) {
                            Some(provider) => found.providers.push(provider),
                            None => found.forged += 1,
                        }
                    }
                }
                None => {}
            }
        }
        if let Some(encoded) = record {
            let record = Record::read(&encoded).map_err(malformed)?;
            if record.key != *key {
                return Err(Error::Forged(signing::Refused::WrongKey));
            }
            signing::verify_record(&record, &mut scratch).map_err(Error::Forged)?;
            found.record = Some(OwnedRecord::of(&record));
        }
        Ok(found)
    }
}

/// A provider, if it is the one who says so.
fn verified(key: &Key, said: &Provider<'_>, scratch: &mut Vec<u8>) -> Option<OwnedProvider> {
    signing::verify_provider(key, said, scratch).ok()?;
    (said.owner_pubkey.map(PeerId::of_public) == Some(said.peer_id)).then(|| OwnedProvider {
        peer: said.peer_id,
        meta: said.meta.to_vec(),
        expires_unix_s: said.expires_unix_s,
        sequence: said.sequence,
    })
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// In one word.
    pub code: StoreCode,
    /// For people, possibly empty.
    pub reason: String,
    /// How long it is kept, if the answer tells: that to an announcement does.
    pub accepted_ttl: Option<Duration>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Written {
    fn new(code: StoreCode, reason: &str, retry_after_ms: u32) -> Self {
        let pause = Duration::from_millis(retry_after_ms.into());
        let retry_after = (!pause.is_zero()).then_some(pause);
        Self { code, reason: reason.to_owned(), accepted_ttl: None, retry_after }
    }
}

impl Client {
    /// FIND_VALUE: what the router has under `key`, and whom it would ask. Of providers it names
    /// `provider_limit` at most, 0: as many as one frame may hold.
    ///
    /// # Errors
    /// As [`Client::ping`]; [`Error::Forged`].
    pub fn find_value(&mut self, key: &Key, provider_limit: u32) -> Result<FoundValue, Error> {
        let request = FindValueReq { key: *key, provider_limit };
        let answer = self.call(Kind::FindValueReq, |out| request.write(out))?;
        FoundValue::read(key, &answer.bodies)
    }

    /// STORE: asks the router to keep `record`.
    ///
    /// # Errors
    /// As [`Client::ping`]; [`Error::StampPrice`], [`Error::TooLarge`].
    pub fn store(&mut self, record: &Record<'_>) -> Result<Written, Error> {
        let answer = self.pay(Kind::StoreReq, &record.key, |stamp| store_bodies(record, stamp))?;
        let malformed = |_| Error::Malformed { request: Kind::StoreReq };
        let response = StoreResp::read(sole(&answer)).map_err(malformed)?;
        Ok(Written::new(response.code, response.reason, response.retry_after_ms))
    }

    /// ANNOUNCE_PROVIDER: tells the router that we, who have shown `identity`, have what `key`
    /// names, for `ttl` from now on.
    ///
    /// # Errors
    /// As [`Client::store`].
    pub fn announce(
        &mut self,
        identity: &Identity,
        key: &Key,
        meta: &[u8],
        ttl: Duration,
    ) -> Result<Written, Error> {
        let now = self.clock.now();
        let public = identity.signing_key().verifying_key().to_bytes();
        let said = Provider {
            peer_id: identity.peer_id(),
            meta,
            expires_unix_s: now.unix_s().saturating_add(ttl.as_secs()),
            // Grows from one announcement to the next, whichever program makes it.
            sequence: now.unix_ms,
            owner_pubkey: Some(&public),
            signature: None,
        };
        let by_us = signing::sign_provider(identity.signing_key(), key, &said, &mut Vec::new());
        let provider = Provider { signature: Some(&by_us), ..said };
        let answer = self.pay(Kind::AnnounceProviderReq, key, |stamp| {
            let request = AnnounceProviderReq { key: *key, provider, stamp, admission: &[] };
            Ok(vec![body_of(|out| request.write(out))?])
        })?;
        let malformed = |_| Error::Malformed { request: Kind::AnnounceProviderReq };
        let response = AnnounceProviderResp::read(sole(&answer)).map_err(malformed)?;
        let accepted = Duration::from_secs(response.accepted_ttl_s.into());
        let written = Written::new(response.code, response.reason, response.retry_after_ms);
        Ok(Written { accepted_ttl: Some(accepted), ..written })
    }

    /// A write with a stamp of as many bits as the router told, and once more if it tells another
    /// number now.
    fn pay(
        &mut self,
        request: Kind,
        key: &Key,
        bodies: impl Fn(Option<Stamp>) -> Result<Vec<Vec<u8>>, Overflow>,
    ) -> Result<Answer, Error> {
        let bits = self.stamp_bits;
        match self.pay_once(request, key, &bodies) {
            Err(Error::Refused { refusal, .. })
                if refusal.code == Code::StampRequired && refusal.detail != bits =>
            {
                self.stamp_bits = refusal.detail;
                self.pay_once(request, key, &bodies)
            }
            answer => answer,
        }
    }

    fn pay_once(
        &mut self,
        request: Kind,
        key: &Key,
        bodies: impl Fn(Option<Stamp>) -> Result<Vec<Vec<u8>>, Overflow>,
    ) -> Result<Answer, Error> {
        let stamp = self.stamp(key)?;
        let bodies = bodies(stamp).map_err(|Overflow| Error::TooLarge { request })?;
        self.exchange_chunked(request, &bodies)?.unless_refused(request)
    }

    /// A stamp that pays for one write of `key` now, if one is asked for.
    ///
    /// # Errors
    /// [`Error::StampPrice`].
    pub fn stamp(&mut self, key: &Key) -> Result<Option<Stamp>, Error> {
        let clock = self.clock;
        solve(&mut self.rng, key, &self.link.peer, self.stamp_bits, || clock.now().unix_s())
    }
}

/// A stamp of so many bits that pays `router` for one write of `key` at the time that the clock
/// says when it is done, if one is asked for.
pub(super) fn solve(
    rng: &mut impl RngCore,
    key: &Key,
    router: &PeerId,
    bits: u32,
    unix_s: impl Fn() -> u64,
) -> Result<Option<Stamp>, Error> {
    if bits == 0 {
        return Ok(None);
    }
    if bits > STAMP_BITS_MAX {
        return Err(Error::StampPrice { bits });
    }
    // Drawn at random, lest the second stamp for a key be the first, which is spent.
    let mut start = rng.next_u64();
    loop {
        let solved = stamp::solve(key, router, stamp::epoch(unix_s()), bits, start, TRIES);
        if solved.is_some() {
            return Ok(solved);
        }
        start = start.wrapping_add(TRIES);
    }
}

/// The bodies of a STORE, one for each chunk.
pub(super) fn store_bodies(
    record: &Record<'_>,
    stamp: Option<Stamp>,
) -> Result<Vec<Vec<u8>>, Overflow> {
    let mut encoded = vec![0; record.value.len() + BESIDE_VALUE_BYTES_MAX];
    let len = written(&mut encoded, |out| record.write(out))?;
    encoded.truncate(len);
    let request = StoreReq { record: &encoded, stamp, ..StoreReq::default() };
    request.chunks(BODY_BYTES_MAX)?.map(|chunk| body_of(|out| chunk.write(out))).collect()
}

/// A body of one frame.
fn body_of(
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
) -> Result<Vec<u8>, Overflow> {
    let mut body = vec![0; BODY_BYTES_MAX];
    let len = written(&mut body, write)?;
    body.truncate(len);
    Ok(body)
}

fn written(
    out: &mut [u8],
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
) -> Result<usize, Overflow> {
    let mut writer = Writer::new(out);
    write(&mut writer)?;
    Ok(writer.len())
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::wire::body::find_value::RespWriter;

    fn identity(n: u64) -> Identity {
        Identity::generate(&mut ChaCha20Rng::seed_from_u64(n))
    }

    fn encoded(record: &OwnedRecord) -> Vec<u8> {
        body_of(|out| record.borrowed().write(out)).unwrap()
    }

    fn with_record(slices: &[&[u8]]) -> Vec<Vec<u8>> {
        let total = u32::try_from(slices.len()).unwrap();
        let body = |(index, slice): (u32, &&[u8])| {
            body_of(|out| {
                let mut answer = RespWriter::new(out);
                answer.record(slice)?;
                answer.finish_chunk(index, total)
            })
        };
        (0..).zip(slices).map(|chunk| body(chunk).unwrap()).collect()
    }

    #[test]
    fn a_record_is_put_together_and_proved() {
        let ttl = Duration::from_secs(60);
        let record = OwnedRecord::named(&identity(1), b"name", b"value".to_vec(), 7, 8, ttl);
        let bytes = encoded(&record);
        let (head, tail) = bytes.split_at(20);
        let found = FoundValue::read(&record.key, &with_record(&[head, tail])).unwrap();
        assert_eq!(found, FoundValue { record: Some(record), ..FoundValue::default() });
    }

    #[test]
    fn what_a_key_does_not_name_is_no_answer() {
        let forged = |record: &OwnedRecord, key: &Key| {
            let answer = FoundValue::read(key, &with_record(&[&encoded(record)]));
            let Err(Error::Forged(why)) = answer else { panic!("{answer:?}") };
            why
        };
        let ttl = Duration::from_secs(60);
        let good = OwnedRecord::immutable(b"good".to_vec(), ttl);
        let other = OwnedRecord::immutable(b"other".to_vec(), ttl);
        assert_eq!(forged(&other, &good.key), signing::Refused::WrongKey, "good, but not asked");
        let renamed = OwnedRecord { key: good.key, ..other };
        assert_eq!(forged(&renamed, &good.key), signing::Refused::WrongKey);
        let signed = OwnedRecord::named(&identity(1), b"", b"mine".to_vec(), 7, 0, ttl);
        let changed = OwnedRecord { value: b"yours".to_vec(), ..signed };
        assert_eq!(forged(&changed, &changed.key), signing::Refused::BadSignature);
        let torn = FoundValue::read(&good.key, &with_record(&[&encoded(&good)[..9]]));
        assert!(matches!(torn, Err(Error::Malformed { .. })), "{torn:?}");
    }

    #[test]
    fn a_provider_speaks_for_itself_only() {
        let (key, ours, theirs) = (Key([3; 32]), identity(1), identity(2));
        let said = |signer: &Identity, peer: &Identity, key: &Key| {
            let public = signer.signing_key().verifying_key().to_bytes();
            let unsigned = Provider {
                peer_id: peer.peer_id(),
                meta: b"meta",
                expires_unix_s: 9,
                sequence: 5,
                owner_pubkey: Some(&public),
                signature: None,
            };
            let signed =
                signing::sign_provider(signer.signing_key(), key, &unsigned, &mut Vec::new());
            body_of(|out| Provider { signature: Some(&signed), ..unsigned }.write(out)).unwrap()
        };
        let all = [
            said(&ours, &ours, &key),
            said(&ours, &theirs, &key),
            said(&theirs, &theirs, &Key([4; 32])),
        ];
        let body = body_of(|out| RespWriter::new(out).providers(all.iter().map(Vec::as_slice)));
        let found = FoundValue::read(&key, &[body.unwrap()]).unwrap();
        let [one] = &found.providers[..] else { panic!("{found:?}") };
        assert_eq!((one.peer, &one.meta[..], found.forged), (ours.peer_id(), &b"meta"[..], 2));
    }

    #[test]
    fn the_largest_record_beside_its_value() {
        let record = OwnedRecord {
            sequence: u64::MAX,
            ttl_secs: u64::MAX,
            not_before_unix: u64::MAX,
            salt: vec![1; crate::limits::SALT_BYTES_MAX],
            ..OwnedRecord::named(&identity(1), b"", vec![1; 9], 0, 0, Duration::ZERO)
        };
        assert!(encoded(&record).len() - 9 <= BESIDE_VALUE_BYTES_MAX);
    }
}
