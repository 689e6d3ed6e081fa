//! Records of every kind, fixed ones and drawn ones, and logs made of them.

use std::net::IpAddr;
use std::num::NonZeroU16;

use peerstore::frame::{self, END, FRAME_BYTES_MAX};
use peerstore::record::{
    AllocatedLeg, Allocation, Ban, Binding, Host, NatBehaviour, PEER_BYTES_MAX, PROVIDER_BYTES_MAX,
    PathFacts, Peer, Provider, Score, Seal, Subject, Target, Tombstone, VALUE_BYTES_MAX, Value,
};
use peerstore::{
    Epoch, Frames, Key, Kind, Message, Network, PeerId, Record, SigningKey, Stop, WgKey,
};
use proptest::prelude::*;

pub(crate) const HOST: Host = Host { peer_id: PeerId([0xA1; 32]), wireguard: WgKey([0xA2; 32]) };
pub(crate) const KEY: Key = Key([0xB1; 32]);

/// Bytes that stand for a message; records borrow from them.
static MESSAGE: [u8; VALUE_BYTES_MAX] = [0xC5; VALUE_BYTES_MAX];

pub(crate) fn message<const MAX: usize>(len: usize) -> Message<'static, MAX> {
    Message::new(&MESSAGE[..len]).expect("within its bound")
}

pub(crate) fn value(len: usize) -> Record<'static> {
    Record::Value(Value { key: KEY, sequence: 7, expires_unix_s: 9, message: message(len) })
}

pub(crate) fn tombstone(subject: Subject) -> Record<'static> {
    Record::Tombstone(Tombstone { expires_unix_s: 5, subject })
}

pub(crate) fn ban(target: Target) -> Record<'static> {
    Record::Ban(Ban { expires_unix_s: u64::MAX, cause: 0x0102, target })
}

pub(crate) fn network(ip: &str, prefix_bits: u8) -> Network {
    Network::new(ip.parse().expect("an address"), prefix_bits).expect("a network")
}

/// Every kind, and every shape that a kind has, with messages of `len` bytes.
pub(crate) fn every_shape(len: usize) -> Vec<Record<'static>> {
    let (first_seen_unix_s, last_seen_unix_s) = (1, 0x0102_0304_0506_0708);
    let peer_id = PeerId([0xA3; 32]);
    vec![
        Record::Binding(Binding {
            host: HOST,
            signing: SigningKey([0xA4; 32]),
            not_before_unix_s: 2,
            not_after_unix_s: u64::MAX,
            signature: [0xA5; 64],
        }),
        Record::Peer(Peer {
            host: HOST,
            first_seen_unix_s,
            last_seen_unix_s,
            message: message(len.min(PEER_BYTES_MAX)),
        }),
        Record::Score(Score { host: HOST, last_seen_unix_s, score: -3 }),
        value(len),
        Record::Provider(Provider {
            key: KEY,
            peer_id,
            sequence: 3,
            expires_unix_s: 4,
            message: message(len.min(PROVIDER_BYTES_MAX)),
        }),
        tombstone(Subject::Host(HOST)),
        tombstone(Subject::Value { key: KEY, sequence: 6 }),
        tombstone(Subject::Provider { key: KEY, peer_id, sequence: 6 }),
        tombstone(Subject::Ban(Target::Peer(peer_id))),
        ban(Target::Peer(peer_id)),
        ban(Target::WireGuard(WgKey([0xA5; 32]))),
        ban(Target::Network(network("192.0.2.0", 24))),
        ban(Target::Network(network("2001:db8::", 48))),
        Record::PathFacts(PathFacts {
            host: HOST,
            observed_unix_s: 8,
            path_mtu: NonZeroU16::new(1472),
            mapping: Some(NatBehaviour::EndpointIndependent),
            filtering: Some(NatBehaviour::AddressAndPortDependent),
            hairpin: Some(false),
            port_preservation: Some(true),
            mapping_lifetime_s: NonZeroU16::new(30),
        }),
        Record::PathFacts(PathFacts {
            host: HOST,
            observed_unix_s: 8,
            path_mtu: None,
            mapping: None,
            filtering: Some(NatBehaviour::AddressDependent),
            hairpin: None,
            port_preservation: None,
            mapping_lifetime_s: None,
        }),
        Record::Seal(Seal { records: 11, bytes: 12 }),
        tombstone(Subject::Allocation(HOST.peer_id, peer_id)),
        Record::Allocation(Allocation {
            expires_unix_s: 13,
            legs: [
                leg(HOST, 50_001, Some("192.0.2.7:4567")),
                leg(Host { peer_id, ..HOST }, 50_002, None),
            ],
        }),
        Record::Allocation(Allocation {
            expires_unix_s: 13,
            legs: [
                leg(HOST, 50_001, Some("[2001:db8::7]:4567")),
                leg(Host { peer_id, ..HOST }, 50_002, None),
            ],
        }),
    ]
}

fn leg(host: Host, port: u16, bound: Option<&str>) -> AllocatedLeg {
    let bound = bound.map(|it| it.parse().expect("an address"));
    AllocatedLeg { host, factor: 2, port, bound }
}

/// One frame.
pub(crate) fn sealed(epoch: Epoch, record: &Record<'_>) -> Vec<u8> {
    let mut bytes = vec![0xEE; frame::frame_len(record)];
    assert_eq!(frame::encode(&mut bytes, epoch, record), Ok(bytes.len()));
    assert!(bytes.len() <= FRAME_BYTES_MAX);
    bytes
}

/// A log and where its frames begin; the last offset is that of the end mark.
pub(crate) struct Log {
    pub(crate) bytes: Vec<u8>,
    pub(crate) starts: Vec<usize>,
}

impl Log {
    pub(crate) fn new(epoch: Epoch, records: &[Record<'_>]) -> Self {
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for record in records {
            bytes.extend(sealed(epoch, record));
            starts.push(bytes.len());
        }
        bytes.extend(END);
        Self { bytes, starts }
    }

    /// Offset behind the last frame.
    pub(crate) fn end(&self) -> usize {
        *self.starts.last().expect("the end mark's")
    }

    /// How many frames end at or before `offset`.
    pub(crate) fn whole_before(&self, offset: usize) -> usize {
        self.starts[1..].iter().filter(|end| **end <= offset).count()
    }
}

/// The records of `bytes` and why there are no more; checks that they lie without holes.
pub(crate) fn read(bytes: &[u8], epoch: Epoch) -> (Vec<Record<'_>>, Stop) {
    let mut frames = Frames::new(bytes, epoch);
    assert_eq!(frames.stop(), None);
    let (mut records, mut at) = (Vec::new(), 0);
    for frame in frames.by_ref() {
        assert_eq!((frame.start, frame.end), (at, at + frame::frame_len(&frame.record)));
        at = frame.end;
        records.push(frame.record);
    }
    let stop = frames.stop().expect("a reason to stop");
    assert_eq!(stop.offset, at);
    assert!(frames.next().is_none(), "what has stopped does not go on");
    assert_eq!(frames.stop(), Some(stop));
    (records, stop)
}

/// What a record is drawn from: it borrows its message from here.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    kind: Kind,
    ids: [[u8; 32]; 3],
    numbers: [u64; 2],
    small: [u16; 3],
    score: i32,
    choices: [usize; 5],
    ip: IpAddr,
    message: Vec<u8>,
}

pub(crate) fn drawn(message_max: usize) -> impl Strategy<Value = Drawn> {
    (
        prop::sample::select(&Kind::ALL[..]),
        any::<[[u8; 32]; 3]>(),
        any::<[u64; 2]>(),
        any::<[u16; 3]>(),
        any::<i32>(),
        any::<[usize; 5]>(),
        any::<IpAddr>(),
        prop::collection::vec(any::<u8>(), 0..=message_max),
    )
        .prop_map(|(kind, ids, numbers, small, score, choices, ip, message)| Drawn {
            kind,
            ids,
            numbers,
            small,
            score,
            choices,
            ip,
            message,
        })
}

impl Drawn {
    pub(crate) fn record(&self) -> Record<'_> {
        let [id, other, third] = self.ids;
        let [now, later] = self.numbers;
        let host = Host { peer_id: PeerId(id), wireguard: WgKey(other) };
        let (key, peer_id, sequence) = (Key(id), PeerId(other), now);
        match self.kind {
            Kind::Binding => Record::Binding(Binding {
                host,
                signing: SigningKey(third),
                not_before_unix_s: now,
                not_after_unix_s: later,
                signature: [third[0]; 64],
            }),
            Kind::Peer => Record::Peer(Peer {
                host,
                first_seen_unix_s: now,
                last_seen_unix_s: later,
                message: self.message(),
            }),
            Kind::Score => Record::Score(Score { host, last_seen_unix_s: now, score: self.score }),
            Kind::Value => Record::Value(Value {
                key,
                sequence,
                expires_unix_s: later,
                message: self.message(),
            }),
            Kind::Provider => Record::Provider(Provider {
                key,
                peer_id,
                sequence,
                expires_unix_s: later,
                message: self.message(),
            }),
            Kind::Tombstone => Record::Tombstone(Tombstone {
                expires_unix_s: later,
                subject: match self.choices[0] % 5 {
                    0 => Subject::Host(host),
                    1 => Subject::Value { key, sequence },
                    2 => Subject::Provider { key, peer_id, sequence },
                    3 => Subject::Allocation(PeerId(id), PeerId(third)),
                    _ => Subject::Ban(self.target()),
                },
            }),
            Kind::Ban => Record::Ban(Ban {
                expires_unix_s: later,
                cause: self.small[0],
                target: self.target(),
            }),
            Kind::PathFacts => Record::PathFacts(PathFacts {
                host,
                observed_unix_s: now,
                path_mtu: NonZeroU16::new(self.small[1]),
                mapping: behaviour(self.choices[1]),
                filtering: behaviour(self.choices[2]),
                hairpin: answer(self.choices[3]),
                port_preservation: answer(self.choices[4]),
                mapping_lifetime_s: NonZeroU16::new(self.small[2]),
            }),
            Kind::Seal => Record::Seal(Seal { records: now, bytes: later }),
            Kind::Allocation => {
                let bound = Some((self.ip, self.small[1].max(1)).into());
                let first = AllocatedLeg { host, factor: 3, port: self.small[0], bound };
                let host = Host { peer_id: PeerId(third), ..host };
                let second = AllocatedLeg { host, bound: None, ..first };
                Record::Allocation(Allocation { expires_unix_s: later, legs: [first, second] })
            }
        }
    }

    fn message<const MAX: usize>(&self) -> Message<'_, MAX> {
        Message::new(&self.message[..self.message.len().min(MAX)]).expect("within its bound")
    }

    fn target(&self) -> Target {
        match self.choices[1] % 3 {
            0 => Target::Peer(PeerId(self.ids[1])),
            1 => Target::WireGuard(WgKey(self.ids[1])),
            _ => Target::Network(self.network()),
        }
    }

    /// A network that the drawn address is in.
    fn network(&self) -> Network {
        let bytes: &mut [u8] = match self.ip {
            IpAddr::V4(v4) => &mut v4.octets(),
            IpAddr::V6(v6) => &mut v6.octets(),
        };
        let prefix_bits = self.choices[2] % (bytes.len() * 8 + 1);
        for bit in prefix_bits..bytes.len() * 8 {
            bytes[bit / 8] &= !(0x80 >> (bit % 8));
        }
        let ip = match <[u8; 4]>::try_from(&*bytes) {
            Ok(v4) => IpAddr::from(v4),
            Err(_) => IpAddr::from(<[u8; 16]>::try_from(&*bytes).expect("of IPv6")),
        };
        let prefix_bits = u8::try_from(prefix_bits).expect("at most 128");
        Network::new(ip, prefix_bits).expect("nothing behind the prefix")
    }
}

fn behaviour(choice: usize) -> Option<NatBehaviour> {
    [
        None,
        Some(NatBehaviour::EndpointIndependent),
        Some(NatBehaviour::AddressDependent),
        Some(NatBehaviour::AddressAndPortDependent),
    ][choice % 4]
}

fn answer(choice: usize) -> Option<bool> {
    [None, Some(false), Some(true)][choice % 3]
}
