//! What is stored, found and announced: the oracle for those messages.

use molia_router::ids::{Key, PeerId};
use molia_router::wire::body::{
    AnnounceProviderReq, AnnounceProviderResp, BodyError, FindValueReq, FindValueResp, Found,
    Overflow, Provider, Record, Stamp, StoreReq, StoreResp, Writer, find_value,
};
use molia_router::wire::{StoreCode, proto};

use super::oracle::{LEAF, PEER, Schema, Twin, none_or, peer, written};

static PROVIDERS: Schema = Schema(&[(1, &LEAF)]);

fn key(bytes: &[u8]) -> Key {
    Key(bytes.try_into().unwrap())
}

/// As our structures have a key or a signature that may be absent.
fn some<const N: usize>(bytes: &[u8]) -> Option<&[u8; N]> {
    bytes.try_into().ok()
}

fn vec_of<const N: usize>(bytes: Option<&[u8; N]>) -> Vec<u8> {
    bytes.map_or(Vec::new(), |bytes| bytes.to_vec())
}

impl Twin for proto::Record {
    fn allowed(&self) -> bool {
        self.key.len() == 32
            && none_or(&self.owner_pubkey, 32)
            && none_or(&self.signature, 64)
            && self.salt.len() <= 64
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = Record::read(body)?;
        Ok(Self {
            key: ours.key.0.to_vec(),
            value: ours.value.to_vec(),
            sequence: ours.sequence,
            ttl_secs: ours.ttl_secs,
            not_before_unix: ours.not_before_unix,
            owner_pubkey: vec_of(ours.owner_pubkey),
            signature: vec_of(ours.signature),
            validators: Vec::new(),
            salt: ours.salt.to_vec(),
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        Record {
            key: key(&self.key),
            value: &self.value,
            sequence: self.sequence,
            ttl_secs: self.ttl_secs,
            not_before_unix: self.not_before_unix,
            owner_pubkey: some(&self.owner_pubkey),
            signature: some(&self.signature),
            salt: &self.salt,
        }
        .write(out)
    }
    /// Nobody's claim to have validated it is taken or passed on.
    fn blurred(self) -> Self {
        Self { validators: Vec::new(), ..self }
    }
}

fn provider(ours: &Provider<'_>) -> proto::Provider {
    proto::Provider {
        peer_id: ours.peer_id.0.to_vec(),
        meta: ours.meta.to_vec(),
        expires_unix_s: ours.expires_unix_s,
        sequence: ours.sequence,
        owner_pubkey: vec_of(ours.owner_pubkey),
        signature: vec_of(ours.signature),
    }
}

fn our_provider(theirs: &proto::Provider) -> Provider<'_> {
    Provider {
        peer_id: PeerId(theirs.peer_id[..].try_into().unwrap()),
        meta: &theirs.meta,
        expires_unix_s: theirs.expires_unix_s,
        sequence: theirs.sequence,
        owner_pubkey: some(&theirs.owner_pubkey),
        signature: some(&theirs.signature),
    }
}

impl Twin for proto::Provider {
    fn allowed(&self) -> bool {
        self.peer_id.len() == 32
            && self.meta.len() <= 128
            && none_or(&self.owner_pubkey, 32)
            && none_or(&self.signature, 64)
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        Provider::read(body).map(|ours| provider(&ours))
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        our_provider(self).write(out)
    }
}

fn stamp(ours: Stamp) -> proto::Stamp {
    let Stamp { epoch, nonce } = ours;
    proto::Stamp { epoch, nonce }
}

fn our_stamp(theirs: &proto::Stamp) -> Stamp {
    let &proto::Stamp { epoch, nonce } = theirs;
    Stamp { epoch, nonce }
}

impl Twin for proto::Stamp {
    fn allowed(&self) -> bool {
        true
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        Stamp::read(body).map(stamp)
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        our_stamp(self).write(out)
    }
}

impl Twin for proto::FindValueReq {
    fn allowed(&self) -> bool {
        self.key.len() == 32
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let FindValueReq { key, provider_limit } = FindValueReq::read(body)?;
        Ok(Self { key: key.0.to_vec(), provider_limit })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { key: ref wanted, provider_limit } = self;
        FindValueReq { key: key(wanted), provider_limit }.write(out)
    }
}

impl Twin for proto::FindValueResp {
    const SCHEMA: Schema = Schema(&[(2, &PROVIDERS), (3, &PEER)]);
    fn allowed(&self) -> bool {
        let value_allowed = match &self.value {
            Some(proto::find_value_resp::Value::Providers(providers)) => {
                providers.providers.len() <= 32 && providers.providers.iter().all(Twin::allowed)
            }
            Some(proto::find_value_resp::Value::Record(_)) | None => true,
        };
        value_allowed && self.closer_peers.len() <= 8 && self.closer_peers.iter().all(Twin::allowed)
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = FindValueResp::read(body)?;
        let value = ours.value.map(|found| match found {
            Found::Record(slice) => proto::find_value_resp::Value::Record(slice.to_vec()),
            Found::Providers(ours) => {
                let providers: Vec<_> = ours.iter().map(|ours| provider(&ours)).collect();
                assert_eq!((ours.len(), ours.is_empty()), (providers.len(), providers.is_empty()));
                proto::find_value_resp::Value::Providers(proto::Providers { providers })
            }
        });
        let closer_peers: Vec<_> = ours.closer_peers.iter().map(|ours| peer(&ours)).collect();
        assert_eq!(ours.closer_peers.len(), closer_peers.len());
        let (chunk_index, total_chunks) = (ours.chunk_index, ours.total_chunks);
        Ok(Self { value, closer_peers, chunk_index, total_chunks })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let mut response = find_value::RespWriter::new(out);
        match &self.value {
            Some(proto::find_value_resp::Value::Record(slice)) => response.record(slice)?,
            Some(proto::find_value_resp::Value::Providers(providers)) => {
                let entries: Vec<_> = providers.providers.iter().map(written).collect();
                response.providers(entries.iter().map(Vec::as_slice))?;
            }
            None => {}
        }
        self.closer_peers.iter().try_for_each(|peer| response.closer_peer(&written(peer)))?;
        response.finish_chunk(self.chunk_index, self.total_chunks)
    }
}

impl Twin for proto::StoreReq {
    const SCHEMA: Schema = Schema(&[(2, &LEAF)]);
    fn allowed(&self) -> bool {
        self.admission.len() <= 64
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = StoreReq::read(body)?;
        Ok(Self {
            record: ours.record.to_vec(),
            stamp: ours.stamp.map(stamp),
            admission: ours.admission.to_vec(),
            chunk_index: ours.chunk_index,
            total_chunks: ours.total_chunks,
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        StoreReq {
            record: &self.record,
            stamp: self.stamp.as_ref().map(our_stamp),
            admission: &self.admission,
            chunk_index: self.chunk_index,
            total_chunks: self.total_chunks,
        }
        .write(out)
    }
}

fn code(ours: StoreCode) -> i32 {
    i32::try_from(ours.to_wire()).unwrap()
}

fn our_code(theirs: i32) -> StoreCode {
    StoreCode::of_wire(u32::try_from(theirs).unwrap())
}

/// Codes that the page does not have say nothing.
fn known(code: i32) -> i32 {
    if proto::store_resp::Code::is_valid(code) { code } else { 0 }
}

impl Twin for proto::StoreResp {
    fn allowed(&self) -> bool {
        self.reason.len() <= 128
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = StoreResp::read(body)?;
        let (reason, retry_after_ms) = (ours.reason.to_owned(), ours.retry_after_ms);
        Ok(Self { code: code(ours.code), reason, retry_after_ms })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { code, ref reason, retry_after_ms } = self;
        StoreResp { code: our_code(code), reason, retry_after_ms }.write(out)
    }
    fn blurred(self) -> Self {
        Self { code: known(self.code), ..self }
    }
}

impl Twin for proto::AnnounceProviderReq {
    const SCHEMA: Schema = Schema(&[(2, &LEAF), (3, &LEAF)]);
    fn allowed(&self) -> bool {
        self.key.len() == 32
            && self.self_.as_ref().is_some_and(Twin::allowed)
            && self.admission.len() <= 64
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = AnnounceProviderReq::read(body)?;
        Ok(Self {
            key: ours.key.0.to_vec(),
            self_: Some(provider(&ours.provider)),
            stamp: ours.stamp.map(stamp),
            admission: ours.admission.to_vec(),
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        AnnounceProviderReq {
            key: key(&self.key),
            provider: our_provider(self.self_.as_ref().unwrap()),
            stamp: self.stamp.as_ref().map(our_stamp),
            admission: &self.admission,
        }
        .write(out)
    }
}

impl Twin for proto::AnnounceProviderResp {
    fn allowed(&self) -> bool {
        self.reason.len() <= 128
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = AnnounceProviderResp::read(body)?;
        Ok(Self {
            code: code(ours.code),
            reason: ours.reason.to_owned(),
            accepted_ttl_s: ours.accepted_ttl_s,
            retry_after_ms: ours.retry_after_ms,
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { code, ref reason, accepted_ttl_s, retry_after_ms } = self;
        AnnounceProviderResp { code: our_code(code), reason, accepted_ttl_s, retry_after_ms }
            .write(out)
    }
    fn blurred(self) -> Self {
        Self { code: known(self.code), ..self }
    }
}
