//! Random messages, and random bytes that look like messages.

use std::net::{IpAddr, SocketAddr};

use molia_router::wire::{multiaddr, proto};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::encoding::encode_varint;

/// Random values of a message, nearly all within its maxima.
pub(crate) trait Values: Sized {
    fn values() -> BoxedStrategy<Self>;
}

/// Of every encoded length.
fn u64s() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![Just(0), Just(u64::MAX), (0_u32..64, any::<u64>()).prop_map(|(by, x)| x >> by)]
}

fn u32s() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), (0_u32..32, any::<u32>()).prop_map(|(by, x)| x >> by)]
}

/// Up to `max` bytes, rarely one more.
fn up_to(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let any = || any::<u8>();
    prop_oneof![
        4 => Just(Vec::new()),
        8 => vec(any(), 1..=max.min(40)),
        4 => vec(any(), 1..=max),
        4 => vec(any(), max),
        1 => vec(any(), max + 1),
    ]
}

/// `len` bytes, rarely another number.
fn exactly(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![60 => vec(any::<u8>(), len), 1 => vec(any::<u8>(), 0..2 * len)]
}

/// Nothing or `len` bytes, rarely another number.
fn none_or(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(Vec::new()), exactly(len)]
}

fn reasons() -> impl Strategy<Value = String> {
    prop_oneof![20 => "\\PC{0,30}", 4 => "[a-z]{128}", 1 => "[a-z]{129}"]
}

fn found() -> impl Strategy<Value = proto::find_value_resp::Value> {
    let providers = prop_oneof![
        20 => vec(proto::Provider::values(), 0..=4),
        4 => vec(proto::Provider::values(), 0..=32),
        1 => vec(proto::Provider::values(), 33),
    ];
    let providers = providers.prop_map(|providers| proto::Providers { providers });
    prop_oneof![
        up_to(1100).prop_map(proto::find_value_resp::Value::Record),
        providers.prop_map(proto::find_value_resp::Value::Providers),
    ]
}

pub(crate) fn sockets() -> impl Strategy<Value = SocketAddr> + Clone {
    let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
    let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
    (prop_oneof![v4, v6], any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn addrs(max: usize) -> impl Strategy<Value = Vec<proto::Addr>> {
    let addr =
        sockets().prop_map(|at| proto::Addr { multiaddr: multiaddr::encode(at).as_ref().into() });
    let many = vec(addr.clone(), max + 1);
    prop_oneof![30 => vec(addr, 0..=max), 1 => many]
}

macro_rules! values {
    ($($message:ident { $($field:ident: $strategy:expr,)* })*) => {
        $(impl Values for proto::$message {
            fn values() -> BoxedStrategy<Self> {
                ($($strategy,)*).prop_map(|($($field,)*)| Self { $($field),* }).boxed()
            }
        })*
    };
}

values! {
    Ping { now_unix_ms: u64s(), padding: up_to(1400), token: u64s(), }
    Pong {
        now_unix_ms: u64s(), observed: up_to(64), load_permille: u32s(), token: u64s(),
        echo_unix_ms: u64s(),
    }
    Capabilities { version: u32s(), bitmap: u64s(), max_msg_bytes: u32s(), }
    IdentityBinding {
        ed25519_public: exactly(32), x25519_public: exactly(32), not_before_unix_s: u64s(),
        not_after_unix_s: u64s(), signature: exactly(64),
    }
    Puzzle { nonce: exactly(16), difficulty_bits: u32s(), expires_in_s: u32s(), }
    NegotiateReq {
        want: option::of(proto::Capabilities::values()),
        binding: option::of(proto::IdentityBinding::values()), admission: up_to(64),
    }
    NegotiateResp {
        agreed: option::of(proto::Capabilities::values()),
        binding: option::of(proto::IdentityBinding::values()), admission: up_to(64),
        observed: up_to(64), puzzle: option::of(proto::Puzzle::values()), stamp_bits: u32s(),
    }
    Peer {
        peer_id: exactly(32), addrs: addrs(4), rtt_ms: u32s(), wg_public: exactly(32),
        flags: u32s(),
    }
    FindNodeReq { target_id: exactly(32), limit: u32s(), }
    FindNodeResp {
        peers: prop_oneof![
            30 => vec(proto::Peer::values(), 0..=4),
            10 => vec(proto::Peer::values(), 0..=16),
            1 => vec(proto::Peer::values(), 17),
        ],
        chunk_index: u32s(), total_chunks: u32s(),
    }
    Record {
        key: exactly(32), value: up_to(1000), sequence: u64s(), ttl_secs: u64s(),
        not_before_unix: u64s(), owner_pubkey: none_or(32), signature: none_or(64),
        validators: up_to(64), salt: up_to(64),
    }
    Provider {
        peer_id: exactly(32), meta: up_to(128), expires_unix_s: u64s(), sequence: u64s(),
        owner_pubkey: none_or(32), signature: none_or(64),
    }
    Stamp { epoch: u32s(), nonce: u64s(), }
    FindValueReq { key: exactly(32), provider_limit: u32s(), }
    FindValueResp {
        closer_peers: prop_oneof![
            30 => vec(proto::Peer::values(), 0..=8),
            1 => vec(proto::Peer::values(), 9),
        ],
        chunk_index: u32s(), total_chunks: u32s(), value: option::of(found()),
    }
    StoreReq {
        record: up_to(1100), stamp: option::of(proto::Stamp::values()), admission: up_to(64),
        chunk_index: u32s(), total_chunks: u32s(),
    }
    StoreResp { code: 0..=4_i32, reason: reasons(), retry_after_ms: u32s(), }
    AnnounceProviderReq {
        key: exactly(32), self_: option::weighted(0.9, proto::Provider::values()),
        stamp: option::of(proto::Stamp::values()), admission: up_to(64),
    }
    AnnounceProviderResp {
        code: 0..=4_i32, reason: reasons(), accepted_ttl_s: u32s(), retry_after_ms: u32s(),
    }
    ReflectReq {
        nonce: u64s(), from_alt_port: any::<bool>(),
        via_router: none_or(32), probe_target: up_to(64), probe_key: none_or(32),
        after_s: u32s(),
    }
    ReflectResp {
        nonce: u64s(), observed: up_to(64), alternate: up_to(64),
        other_router: none_or(32),
    }
    Error {
        code: 0..=11_i32, reason: reasons(), retry_after_ms: u32s(), detail: u32s(),
    }
    Goaway { reconnect_in_ms: u32s(), grace_ms: u32s(), alternates: addrs(8), }
    RendezvousReq {
        target_peer_id: exactly(32), candidates: addrs(8), nat_mapping: u32s(),
        nat_filtering: u32s(), consent: up_to(256),
    }
    RendezvousResp {
        status: 0..=5_i32, candidates: addrs(8), attempt_secret: none_or(32),
        fire_after_ms: u32s(), windows: u32s(), window_ms: u32s(), consent: up_to(256),
    }
    RendezvousNotify {
        requester_peer_id: exactly(32), wg_public: exactly(32), candidates: addrs(8),
        attempt_secret: exactly(32), fire_after_ms: u32s(), windows: u32s(), window_ms: u32s(),
        consent: up_to(256),
    }
    RendezvousAck {
        accept: any::<bool>(), candidates: addrs(8), nat_mapping: u32s(), nat_filtering: u32s(),
        consent: up_to(256),
    }
    RendezvousResult { other_peer_id: exactly(32), outcome: 0..=3_i32, rtt_ms: u32s(), }
    RelayAllocReq {
        peer_id: exactly(32), consent: up_to(256), want_bps: u64s(), channel: u32s(),
        stock_wireguard: any::<bool>(),
    }
    RelayAllocResp {
        channel: u32s(), relay_addrs: addrs(4), lifetime_s: u32s(), idle_timeout_s: u32s(),
        rate_bps: u64s(), burst_bytes: u64s(), inner_mtu: u32s(), peer_id: exactly(32),
        generation: u32s(),
    }
    RelayStatus {
        channel: u32s(), used_bytes: u64s(), rate_bps: u64s(), throttled: any::<bool>(),
        retry_after_ms: u32s(),
    }
    RelayClose { channel: u32s(), reason: u32s(), }
    ConsentToken {
        issuer_pubkey: exactly(32), subject_peer_id: none_or(32), scope: u32s(),
        expires_unix_s: u64s(), signature: exactly(64),
    }
}

/// A varint, sometimes longer than it need be, sometimes longer than it may be.
pub(crate) fn varints() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![4 => 0_u64..20, 2 => u64s()];
    let shortest = value.prop_map(|value| {
        let mut bytes = Vec::new();
        encode_varint(value, &mut bytes);
        bytes
    });
    let overlong = (shortest.clone(), 1..11_usize).prop_map(|(mut bytes, by)| {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.extend(vec![0x80; by - 1]);
        bytes.push(0);
        bytes
    });
    let overflowing = (0_u8..0x80).prop_map(|last| [&[0xFF; 9][..], &[last]].concat());
    prop_oneof![12 => shortest, 1 => overlong, 1 => overflowing]
}

/// Fields of any tag and wire type, nested, right and wrong: messages to no schema.
pub(crate) fn soup() -> BoxedStrategy<Vec<u8>> {
    let key = |wire_type: u64| {
        let tag = prop_oneof![16 => 0_u64..10, 2 => 13_u64..17, 1 => 0_u64..1 << 30];
        tag.prop_map(move |tag| {
            let mut bytes = Vec::new();
            encode_varint(tag << 3 | wire_type, &mut bytes);
            bytes
        })
    };
    let delimited = move |content: BoxedStrategy<Vec<u8>>| {
        let lied = prop_oneof![30 => Just(0), 1 => -2..3_i64];
        (key(2), content, lied).prop_map(|(mut bytes, content, lie)| {
            let len = i64::try_from(content.len()).unwrap().saturating_add(lie).max(0);
            encode_varint(u64::try_from(len).unwrap(), &mut bytes);
            bytes.extend(content);
            bytes
        })
    };
    let content = prop_oneof![
        vec(any::<u8>(), 0..70),
        vec(any::<u8>(), 32),
        vec(any::<u8>(), 64),
        "\\PC{0,8}".prop_map(String::into_bytes),
    ];
    let field = prop_oneof![
        8 => (key(0), varints()).prop_map(|(key, value)| [key, value].concat()),
        8 => delimited(content.boxed()),
        1 => (key(1), vec(any::<u8>(), 8)).prop_map(|(key, value)| [key, value].concat()),
        1 => (key(5), vec(any::<u8>(), 4)).prop_map(|(key, value)| [key, value].concat()),
    ];
    let nested = field.prop_recursive(3, 40, 6, move |inner| {
        let fields = vec(inner, 0..6).prop_map(|fields| fields.concat()).boxed();
        let group = (0_u64..10, fields.clone(), 0..20_u64).prop_map(|(tag, inner, wrong)| {
            let mut bytes = Vec::new();
            encode_varint(tag << 3 | 3, &mut bytes);
            bytes.extend(inner);
            encode_varint((tag + u64::from(wrong == 0)) << 3 | 4, &mut bytes);
            bytes
        });
        prop_oneof![12 => delimited(fields), 1 => group]
    });
    vec(nested, 0..8).prop_map(|fields| fields.concat()).boxed()
}

/// One change that a hostile or broken sender could make.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Cut(prop::sample::Index),
    Repeat(prop::sample::Index, prop::sample::Index),
}

impl Mutation {
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        let at = any::<prop::sample::Index>;
        prop_oneof![
            (at(), any::<u8>()).prop_map(|(at, byte)| Self::Set(at, byte)),
            (at(), 0_u8..8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            (at(), any::<u8>()).prop_map(|(at, byte)| Self::Insert(at, byte)),
            at().prop_map(Self::Remove),
            at().prop_map(Self::Cut),
            (at(), at()).prop_map(|(from, to)| Self::Repeat(from, to)),
        ]
    }

    pub(crate) fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        match self {
            Self::Set(at, byte) => bytes[at.index(len)] = *byte,
            Self::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Self::Insert(at, byte) => bytes.insert(at.index(len + 1), *byte),
            Self::Remove(at) => drop(bytes.remove(at.index(len))),
            Self::Cut(at) => bytes.truncate(at.index(len)),
            Self::Repeat(from, to) => {
                let (from, to) = (from.index(len), to.index(len + 1));
                bytes.extend_from_within(from.min(to)..from.max(to));
            }
        }
    }
}
