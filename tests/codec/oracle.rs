//! What a body means according to prost and to the protocol's page, and how to
//! ask our codec the same.

use std::fmt::Debug;

use molia_router::ids::{PeerId, WgKey};
use molia_router::wire::body::{
    Addrs, BodyError, Capabilities, Error, FindNodeReq, FindNodeResp, Goaway, IdentityBinding,
    NegotiateReq, NegotiateResp, Overflow, Peer, Ping, Pong, Puzzle, ReflectReq, ReflectResp,
    Writer, find_node,
};
use molia_router::wire::{Code, Multiaddr, multiaddr, proto};
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Where a message has sub-messages.
pub(crate) struct Schema(pub(crate) &'static [(u32, &'static Schema)]);

pub(crate) static LEAF: Schema = Schema(&[]);
pub(crate) static PEER: Schema = Schema(&[(2, &LEAF)]);

/// A message in both forms.
pub(crate) trait Twin: Message + Default + Clone + PartialEq + Debug {
    /// For the search for groups.
    const SCHEMA: Schema = Schema(&[]);
    /// Whether the page's maxima and exact lengths hold.
    fn allowed(&self) -> bool;
    /// As our reader sees a body.
    fn ours(body: &[u8]) -> Result<Self, BodyError>;
    /// Our writer on the same values, which are allowed.
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow>;
    /// What our reader cannot tell apart, made equal.
    fn blurred(self) -> Self {
        self
    }
}

/// What the page makes of a body: refused if it is no message or has a group
/// (`Malformed`) or is above a maximum (anything else).
pub(crate) fn expected<T: Twin>(body: &[u8]) -> Result<T, bool> {
    let message = T::decode(body).map_err(|_| true)?;
    if has_group(body, &T::SCHEMA) {
        return Err(true);
    }
    if message.allowed() { Ok(message.blurred()) } else { Err(false) }
}

/// What our reader makes of it, told the same way.
pub(crate) fn found<T: Twin>(body: &[u8]) -> Result<T, bool> {
    T::ours(body).map_err(|fault| fault == BodyError::Malformed)
}

/// Whether a body that prost accepts has a group in a place that is read.
fn has_group(mut body: &[u8], schema: &Schema) -> bool {
    while !body.is_empty() {
        let (tag, wire_type) = decode_key(&mut body).unwrap();
        let nested = schema.0.iter().find(|(nested, _)| *nested == tag);
        match (wire_type, nested) {
            (WireType::StartGroup | WireType::EndGroup, _) => return true,
            (WireType::LengthDelimited, Some((_, schema))) => {
                let len = usize::try_from(decode_varint(&mut body).unwrap()).unwrap();
                let (inner, rest) = body.split_at(len);
                if has_group(inner, schema) {
                    return true;
                }
                body = rest;
            }
            _ => skip_field(wire_type, tag, &mut body, DecodeContext::default()).unwrap(),
        }
    }
    false
}

/// The encoding that our writer gives.
pub(crate) fn written<T: Twin>(message: &T) -> Vec<u8> {
    let mut room = vec![0xEE; message.encoded_len()];
    let mut out = Writer::new(&mut room);
    message.write(&mut out).expect("as much room as prost needs");
    let len = out.len();
    room.truncate(len);
    room
}

/// Absent or exactly `len` bytes.
pub(crate) fn none_or(bytes: &[u8], len: usize) -> bool {
    bytes.is_empty() || bytes.len() == len
}

pub(crate) fn addrs_allowed(addrs: &[proto::Addr], max: usize) -> bool {
    addrs.len() <= max && addrs.iter().all(|addr| addr.multiaddr.len() <= 64)
}

pub(crate) fn addrs_of(addrs: Addrs<'_>) -> Vec<proto::Addr> {
    addrs.iter().map(|addr| proto::Addr { multiaddr: addr.to_vec() }).collect()
}

/// Addresses that our writer can be given: those that are multiaddrs.
pub(crate) fn multiaddrs(addrs: &[proto::Addr]) -> Vec<Multiaddr> {
    let decoded = addrs.iter().map(|addr| multiaddr::decode(&addr.multiaddr));
    decoded.map(|addr| multiaddr::encode(addr.expect("generated as an address"))).collect()
}

pub(crate) fn id(bytes: &[u8]) -> Option<PeerId> {
    bytes.try_into().ok().map(PeerId)
}

impl Twin for proto::Ping {
    fn allowed(&self) -> bool {
        self.padding.len() <= 1400
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let Ping { now_unix_ms, padding, token } = Ping::read(body)?;
        Ok(Self { now_unix_ms, padding: padding.to_vec(), token })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let Self { now_unix_ms, padding, token } = self;
        Ping { now_unix_ms: *now_unix_ms, padding, token: *token }.write(out)
    }
}

impl Twin for proto::Pong {
    fn allowed(&self) -> bool {
        self.observed.len() <= 64
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let Pong { now_unix_ms, observed, load_permille, token, echo_unix_ms } = Pong::read(body)?;
        Ok(Self { now_unix_ms, observed: observed.to_vec(), load_permille, token, echo_unix_ms })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { now_unix_ms, ref observed, load_permille, token, echo_unix_ms } = self;
        Pong { now_unix_ms, observed, load_permille, token, echo_unix_ms }.write(out)
    }
}

fn capabilities(ours: Capabilities) -> proto::Capabilities {
    let Capabilities { version, bitmap, max_msg_bytes } = ours;
    proto::Capabilities { version, bitmap, max_msg_bytes }
}

fn our_capabilities(theirs: &proto::Capabilities) -> Capabilities {
    let &proto::Capabilities { version, bitmap, max_msg_bytes } = theirs;
    Capabilities { version, bitmap, max_msg_bytes }
}

impl Twin for proto::Capabilities {
    fn allowed(&self) -> bool {
        true
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        Capabilities::read(body).map(capabilities)
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        our_capabilities(self).write(out)
    }
}

fn binding(ours: &IdentityBinding) -> proto::IdentityBinding {
    proto::IdentityBinding {
        ed25519_public: ours.ed25519_public.to_vec(),
        x25519_public: ours.x25519_public.0.to_vec(),
        not_before_unix_s: ours.not_before_unix_s,
        not_after_unix_s: ours.not_after_unix_s,
        signature: ours.signature.to_vec(),
    }
}

fn our_binding(theirs: &proto::IdentityBinding) -> IdentityBinding {
    IdentityBinding {
        ed25519_public: theirs.ed25519_public[..].try_into().unwrap(),
        x25519_public: WgKey(theirs.x25519_public[..].try_into().unwrap()),
        not_before_unix_s: theirs.not_before_unix_s,
        not_after_unix_s: theirs.not_after_unix_s,
        signature: theirs.signature[..].try_into().unwrap(),
    }
}

impl Twin for proto::IdentityBinding {
    fn allowed(&self) -> bool {
        let lens = [&self.ed25519_public, &self.x25519_public, &self.signature].map(Vec::len);
        lens == [32, 32, 64]
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        IdentityBinding::read(body).map(|ours| binding(&ours))
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        our_binding(self).write(out)
    }
}

fn puzzle(ours: &Puzzle) -> proto::Puzzle {
    let &Puzzle { ref nonce, difficulty_bits, expires_in_s } = ours;
    proto::Puzzle { nonce: nonce.to_vec(), difficulty_bits, expires_in_s }
}

fn our_puzzle(theirs: &proto::Puzzle) -> Puzzle {
    let &proto::Puzzle { ref nonce, difficulty_bits, expires_in_s } = theirs;
    Puzzle { nonce: nonce[..].try_into().unwrap(), difficulty_bits, expires_in_s }
}

impl Twin for proto::Puzzle {
    fn allowed(&self) -> bool {
        self.nonce.len() == 16
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        Puzzle::read(body).map(|ours| puzzle(&ours))
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        our_puzzle(self).write(out)
    }
}

impl Twin for proto::NegotiateReq {
    const SCHEMA: Schema = Schema(&[(1, &LEAF), (2, &LEAF)]);
    fn allowed(&self) -> bool {
        self.binding.iter().all(Twin::allowed) && self.admission.len() <= 64
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = NegotiateReq::read(body)?;
        Ok(Self {
            want: ours.want.map(capabilities),
            binding: ours.binding.as_ref().map(binding),
            admission: ours.admission.to_vec(),
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let want = self.want.as_ref().map(our_capabilities);
        let binding = self.binding.as_ref().map(our_binding);
        NegotiateReq { want, binding, admission: &self.admission }.write(out)
    }
}

impl Twin for proto::NegotiateResp {
    const SCHEMA: Schema = Schema(&[(1, &LEAF), (2, &LEAF), (5, &LEAF)]);
    fn allowed(&self) -> bool {
        self.binding.iter().all(Twin::allowed)
            && self.puzzle.iter().all(Twin::allowed)
            && self.admission.len() <= 64
            && self.observed.len() <= 64
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = NegotiateResp::read(body)?;
        Ok(Self {
            agreed: ours.agreed.map(capabilities),
            binding: ours.binding.as_ref().map(binding),
            admission: ours.admission.to_vec(),
            observed: ours.observed.to_vec(),
            puzzle: ours.puzzle.as_ref().map(puzzle),
            stamp_bits: ours.stamp_bits,
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        NegotiateResp {
            agreed: self.agreed.as_ref().map(our_capabilities),
            binding: self.binding.as_ref().map(our_binding),
            admission: &self.admission,
            observed: &self.observed,
            puzzle: self.puzzle.as_ref().map(our_puzzle),
            stamp_bits: self.stamp_bits,
        }
        .write(out)
    }
}

pub(crate) fn peer(ours: &Peer<'_>) -> proto::Peer {
    proto::Peer {
        peer_id: ours.peer_id.0.to_vec(),
        addrs: addrs_of(ours.addrs),
        rtt_ms: ours.rtt_ms,
        wg_public: ours.wg_public.0.to_vec(),
        flags: ours.flags,
    }
}

impl Twin for proto::Peer {
    const SCHEMA: Schema = Schema(&[(2, &LEAF)]);
    fn allowed(&self) -> bool {
        let lens = [&self.peer_id, &self.wg_public].map(Vec::len);
        lens == [32, 32] && addrs_allowed(&self.addrs, 4)
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        Peer::read(body).map(|ours| peer(&ours))
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        Peer {
            peer_id: id(&self.peer_id).unwrap(),
            addrs: Addrs::of(&multiaddrs(&self.addrs)),
            rtt_ms: self.rtt_ms,
            wg_public: WgKey(self.wg_public[..].try_into().unwrap()),
            flags: self.flags,
        }
        .write(out)
    }
}

impl Twin for proto::FindNodeReq {
    fn allowed(&self) -> bool {
        self.target_id.len() == 32
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let FindNodeReq { target_id, limit } = FindNodeReq::read(body)?;
        Ok(Self { target_id: target_id.0.to_vec(), limit })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        FindNodeReq { target_id: id(&self.target_id).unwrap(), limit: self.limit }.write(out)
    }
}

impl Twin for proto::FindNodeResp {
    const SCHEMA: Schema = Schema(&[(1, &PEER)]);
    fn allowed(&self) -> bool {
        self.peers.len() <= 16 && self.peers.iter().all(Twin::allowed)
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = FindNodeResp::read(body)?;
        let peers: Vec<_> = ours.peers.iter().map(|ours| peer(&ours)).collect();
        assert_eq!(ours.peers.len(), peers.len());
        assert_eq!(ours.peers.is_empty(), peers.is_empty());
        Ok(Self { peers, chunk_index: ours.chunk_index, total_chunks: ours.total_chunks })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let mut response = find_node::RespWriter::new(out);
        self.peers.iter().try_for_each(|peer| response.push(&written(peer)))?;
        response.finish_chunk(self.chunk_index, self.total_chunks)
    }
}

impl Twin for proto::ReflectReq {
    fn allowed(&self) -> bool {
        none_or(&self.via_router, 32)
            && self.probe_target.len() <= 64
            && none_or(&self.probe_key, 32)
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = ReflectReq::read(body)?;
        let ReflectReq { nonce, from_alt_port, after_s, .. } = ours;
        let via_router = ours.via_router.map_or(Vec::new(), |id| id.0.to_vec());
        let probe_key = ours.probe_key.map_or(Vec::new(), |key| key.0.to_vec());
        let probe_target = ours.probe_target.to_vec();
        Ok(Self { nonce, from_alt_port, via_router, probe_target, probe_key, after_s })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { nonce, from_alt_port, after_s, .. } = self;
        let via_router = id(&self.via_router);
        let probe_key = id(&self.probe_key).map(|id| WgKey(id.0));
        let probe_target = &self.probe_target;
        ReflectReq { nonce, from_alt_port, via_router, probe_target, probe_key, after_s }.write(out)
    }
}

impl Twin for proto::ReflectResp {
    fn allowed(&self) -> bool {
        self.observed.len() <= 64 && self.alternate.len() <= 64 && none_or(&self.other_router, 32)
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let ours = ReflectResp::read(body)?;
        Ok(Self {
            nonce: ours.nonce,
            observed: ours.observed.to_vec(),
            alternate: ours.alternate.to_vec(),
            other_router: ours.other_router.map_or(Vec::new(), |id| id.0.to_vec()),
        })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let other_router = id(&self.other_router);
        let Self { nonce, observed, alternate, .. } = self;
        ReflectResp { nonce: *nonce, observed, alternate, other_router }.write(out)
    }
}

impl Twin for proto::Error {
    fn allowed(&self) -> bool {
        self.reason.len() <= 128
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let Error { code, reason, retry_after_ms, detail } = Error::read(body)?;
        let code = i32::try_from(code.to_wire()).unwrap();
        Ok(Self { code, reason: reason.to_owned(), retry_after_ms, detail })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { code, ref reason, retry_after_ms, detail } = self;
        let code = Code::of_wire(u32::try_from(code).unwrap());
        Error { code, reason, retry_after_ms, detail }.write(out)
    }
    /// Codes that the page does not have say nothing.
    fn blurred(self) -> Self {
        let code = if proto::error::Code::is_valid(self.code) { self.code } else { 0 };
        Self { code, ..self }
    }
}

impl Twin for proto::Goaway {
    const SCHEMA: Schema = Schema(&[(3, &LEAF)]);
    fn allowed(&self) -> bool {
        addrs_allowed(&self.alternates, 8)
    }
    fn ours(body: &[u8]) -> Result<Self, BodyError> {
        let Goaway { reconnect_in_ms, grace_ms, alternates } = Goaway::read(body)?;
        Ok(Self { reconnect_in_ms, grace_ms, alternates: addrs_of(alternates) })
    }
    fn write(&self, out: &mut Writer<'_>) -> Result<(), Overflow> {
        let &Self { reconnect_in_ms, grace_ms, ref alternates } = self;
        let alternates = multiaddrs(alternates);
        Goaway { reconnect_in_ms, grace_ms, alternates: Addrs::of(&alternates) }.write(out)
    }
}
