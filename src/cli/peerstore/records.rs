//! A record as JSON: ids in hex, keys and contents in base64, addresses as text.

use peerstore::Record;
use peerstore::record::{self as stored, Host, NatBehaviour, Subject, Target};
use serde_json::{Value, json};

use crate::cli::{find_node, output};
use crate::ids::{Key, PeerId};
use crate::wire::body;

/// What a record says. A message that cannot be read is there as it is (`message_base64`).
pub(super) fn document(record: &Record<'_>) -> Value {
    let mut document = match record {
        Record::Binding(it) => {
            let mut document = host(it.host);
            document["signing_key"] = output::base64(&it.signing.0).into();
            document["not_before_unix_s"] = it.not_before_unix_s.into();
            document["not_after_unix_s"] = it.not_after_unix_s.into();
            document["signature_base64"] = output::base64(&it.signature).into();
            document
        }
        Record::Peer(it) => peer(it),
        Record::Score(it) => {
            let mut document = host(it.host);
            document["last_seen_unix_s"] = it.last_seen_unix_s.into();
            document["score"] = it.score.into();
            document
        }
        Record::Value(it) => value(it),
        Record::Provider(it) => provider(it),
        Record::Tombstone(it) => {
            json!({ "expires_unix_s": it.expires_unix_s, "subject": subject(&it.subject) })
        }
        Record::Ban(it) => json!({
            "expires_unix_s": it.expires_unix_s, "cause": it.cause, "target": target(&it.target),
        }),
        Record::PathFacts(it) => path_facts(it),
        Record::Allocation(it) => allocation(it),
        Record::Seal(it) => json!({ "records": it.records, "bytes": it.bytes }),
    };
    document["kind"] = record.kind().label().into();
    document
}

fn host(host: Host) -> Value {
    json!({
        "peer_id": PeerId(host.peer_id.0).to_string(),
        "wireguard_key": output::base64(&host.wireguard.0),
    })
}

fn peer(peer: &stored::Peer<'_>) -> Value {
    let mut document = host(peer.host);
    document["first_seen_unix_s"] = peer.first_seen_unix_s.into();
    document["last_seen_unix_s"] = peer.last_seen_unix_s.into();
    match body::Peer::read(peer.message.bytes()) {
        Ok(said) => {
            let addresses = said.addrs.sockets().map(|addr| addr.to_string());
            document["addresses"] = addresses.collect();
            document["flags"] = find_node::flags(said.flags).collect();
        }
        Err(_) => unreadable(&mut document, peer.message.bytes()),
    }
    document
}

fn value(value: &stored::Value<'_>) -> Value {
    let mut document = json!({
        "key": Key(value.key.0).to_string(),
        "sequence": value.sequence,
        "expires_unix_s": value.expires_unix_s,
    });
    match body::Record::read(value.message.bytes()) {
        Ok(said) => {
            let owner = said.owner_pubkey.map(|public| PeerId::of_public(public).to_string());
            document["value_base64"] = output::base64(said.value).into();
            document["owner"] = owner.into();
            document["name"] = std::str::from_utf8(said.salt).ok().into();
        }
        Err(_) => unreadable(&mut document, value.message.bytes()),
    }
    document
}

fn provider(provider: &stored::Provider<'_>) -> Value {
    let mut document = json!({
        "key": Key(provider.key.0).to_string(),
        "peer_id": PeerId(provider.peer_id.0).to_string(),
        "sequence": provider.sequence,
        "expires_unix_s": provider.expires_unix_s,
    });
    match body::Provider::read(provider.message.bytes()) {
        Ok(said) => document["meta_base64"] = output::base64(said.meta).into(),
        Err(_) => unreadable(&mut document, provider.message.bytes()),
    }
    document
}

fn unreadable(document: &mut Value, message: &[u8]) {
    document["message_base64"] = output::base64(message).into();
}

fn subject(subject: &Subject) -> Value {
    match subject {
        Subject::Host(gone) => json!({ "host": host(*gone) }),
        Subject::Value { key, sequence } => {
            json!({ "value": { "key": Key(key.0).to_string(), "sequence": sequence } })
        }
        Subject::Provider { key, peer_id, sequence } => json!({ "provider": {
            "key": Key(key.0).to_string(),
            "peer_id": PeerId(peer_id.0).to_string(),
            "sequence": sequence,
        } }),
        Subject::Ban(whom) => json!({ "ban": target(whom) }),
        Subject::Allocation(one, other) => {
            let pair = [one, other].map(|id| PeerId(id.0).to_string());
            json!({ "allocation": pair })
        }
    }
}

fn target(target: &Target) -> Value {
    match target {
        Target::Peer(id) => json!({ "peer_id": PeerId(id.0).to_string() }),
        Target::WireGuard(key) => json!({ "wireguard_key": output::base64(&key.0) }),
        Target::Network(network) => {
            json!({ "network": format!("{}/{}", network.ip(), network.prefix_bits()) })
        }
    }
}

fn allocation(allocation: &stored::Allocation) -> Value {
    let legs = allocation.legs.map(|leg| {
        let mut document = host(leg.host);
        document["port"] = leg.port.into();
        document["bound"] = leg.bound.map(|it| it.to_string()).into();
        document["factor"] = leg.factor.into();
        document
    });
    json!({ "expires_unix_s": allocation.expires_unix_s, "legs": legs })
}

fn path_facts(facts: &stored::PathFacts) -> Value {
    let mut document = host(facts.host);
    document["observed_unix_s"] = facts.observed_unix_s.into();
    document["path_mtu"] = facts.path_mtu.map(u16::from).into();
    document["mapping"] = facts.mapping.map(behaviour).into();
    document["filtering"] = facts.filtering.map(behaviour).into();
    document["hairpin"] = facts.hairpin.into();
    document["port_preservation"] = facts.port_preservation.into();
    document["mapping_lifetime_s"] = facts.mapping_lifetime_s.map(u16::from).into();
    document
}

const fn behaviour(behaviour: NatBehaviour) -> &'static str {
    match behaviour {
        NatBehaviour::EndpointIndependent => "endpoint_independent",
        NatBehaviour::AddressDependent => "address_dependent",
        NatBehaviour::AddressAndPortDependent => "address_and_port_dependent",
    }
}
