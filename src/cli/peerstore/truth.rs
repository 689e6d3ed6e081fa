//! Whether a record is what it says: the signatures and digests that were checked before it was
//! kept. Times do not count here: what has expired was true once.

use peerstore::Record;
use peerstore::record as stored;

use crate::identity;
use crate::ids::{Key, PeerId, WgKey};
use crate::signing::{self, Refused};
use crate::wire::body::{self, IdentityBinding};

const MALFORMED: &str = "its message cannot be read";
const ANOTHER: &str = "its message is about another";

/// What is wrong with a record beyond its bytes.
pub(super) fn check(record: &Record<'_>, scratch: &mut Vec<u8>) -> Result<(), &'static str> {
    match record {
        Record::Binding(binding) => check_binding(binding),
        Record::Peer(peer) => check_peer(peer),
        Record::Value(value) => check_value(value, scratch),
        Record::Provider(provider) => check_provider(provider, scratch),
        // Nobody signs these.
        Record::Score(_)
        | Record::PathFacts(_)
        | Record::Allocation(_)
        | Record::Tombstone(_)
        | Record::Ban(_)
        | Record::Seal(_) => Ok(()),
    }
}

fn check_binding(binding: &stored::Binding) -> Result<(), &'static str> {
    let key = WgKey(binding.host.wireguard.0);
    let said = IdentityBinding {
        ed25519_public: binding.signing.0,
        x25519_public: key,
        not_before_unix_s: binding.not_before_unix_s,
        not_after_unix_s: binding.not_after_unix_s,
        signature: binding.signature,
    };
    match identity::verify(&said, &key, binding.not_before_unix_s) {
        Ok(id) if id.0 == binding.host.peer_id.0 => Ok(()),
        Ok(_) => Err("the signing key is another peer's"),
        Err(identity::Refused::BadSignature) => Err("the signature is wrong"),
        Err(
            identity::Refused::WrongKey
            | identity::Refused::NotYetValid
            | identity::Refused::Expired,
        ) => Err("it never holds"),
    }
}

fn check_peer(peer: &stored::Peer<'_>) -> Result<(), &'static str> {
    let said = body::Peer::read(peer.message.bytes()).map_err(|_| MALFORMED)?;
    let host = peer.host;
    let same = said.peer_id.0 == host.peer_id.0 && said.wg_public.0 == host.wireguard.0;
    if same { Ok(()) } else { Err(ANOTHER) }
}

fn check_value(value: &stored::Value<'_>, scratch: &mut Vec<u8>) -> Result<(), &'static str> {
    let said = body::Record::read(value.message.bytes()).map_err(|_| MALFORMED)?;
    let sequence = if said.owner_pubkey.is_some() { said.sequence } else { 0 };
    if said.key.0 != value.key.0 || sequence != value.sequence {
        return Err(ANOTHER);
    }
    signing::verify_record(&said, scratch).map_err(why)
}

fn check_provider(
    provider: &stored::Provider<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(), &'static str> {
    let said = body::Provider::read(provider.message.bytes()).map_err(|_| MALFORMED)?;
    if said.peer_id.0 != provider.peer_id.0 || said.sequence != provider.sequence {
        return Err(ANOTHER);
    }
    if said.owner_pubkey.map(PeerId::of_public) != Some(said.peer_id) {
        return Err("the signing key is another peer's");
    }
    signing::verify_provider(&Key(provider.key.0), &said, scratch).map_err(why)
}

const fn why(refused: Refused) -> &'static str {
    match refused {
        Refused::WrongKey => "its key is another record's",
        Refused::Unsigned => "the signature is missing",
        Refused::BadSignature => "the signature is wrong",
    }
}
