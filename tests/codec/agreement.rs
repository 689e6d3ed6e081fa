//! Our codec and prost's agree on every message.

use molia_router::wire::body::{Overflow, Writer};
use molia_router::wire::proto;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use super::oracle::{Twin, expected, found, written};
use super::values::{Mutation, Values, soup};

fn read_and_written_alike<T: Twin>(message: &T) {
    let body = message.encode_to_vec();
    assert_eq!(found::<T>(&body), expected(&body), "{body:02x?}");
    if !message.allowed() {
        return;
    }
    // What our reader passes over, our writer has no field for.
    let body = message.clone().blurred().encode_to_vec();
    assert_eq!(written(message), body);
    for room in 0..body.len() {
        let mut room = vec![0; room];
        assert_eq!(message.write(&mut Writer::new(&mut room)), Err(Overflow), "{message:?}");
    }
}

fn read_alike<T: Twin>(body: &[u8]) {
    assert_eq!(found::<T>(body), expected(body), "{body:02x?}");
}

macro_rules! agreement {
    ($($message:ident $name:ident)*) => {
        $(mod $name {
            use super::*;

            proptest! {
                #[test]
                fn values(message in proto::$message::values()) {
                    read_and_written_alike(&message);
                }

                /// Two messages in one body: scalars are replaced, sub-messages merge, lists grow.
                #[test]
                fn two_in_one(a in proto::$message::values(), b in proto::$message::values()) {
                    read_alike::<proto::$message>(&[a.encode_to_vec(), b.encode_to_vec()].concat());
                }

                #[test]
                fn mutated(
                    message in proto::$message::values(),
                    mutations in vec(Mutation::any(), 1..4),
                ) {
                    let mut body = message.encode_to_vec();
                    mutations.iter().for_each(|mutation| mutation.apply(&mut body));
                    read_alike::<proto::$message>(&body);
                }

                /// Fields that the schema does not know, or knows otherwise, between those it does.
                #[test]
                fn mixed_with_others(
                    before in soup(),
                    message in proto::$message::values(),
                    after in soup(),
                ) {
                    let body = [before, message.encode_to_vec(), after].concat();
                    read_alike::<proto::$message>(&body);
                }

                #[test]
                fn fields_of_any_kind(body in soup()) {
                    read_alike::<proto::$message>(&body);
                }

                #[test]
                fn random_bytes(body in vec(any::<u8>(), 0..200)) {
                    read_alike::<proto::$message>(&body);
                }
            }
        })*
    };
}

agreement! {
    Ping ping
    Pong pong
    Capabilities capabilities
    IdentityBinding identity_binding
    Puzzle puzzle
    NegotiateReq negotiate_req
    NegotiateResp negotiate_resp
    Peer peer
    FindNodeReq find_node_req
    FindNodeResp find_node_resp
    Record record
    Provider provider
    Stamp stamp
    FindValueReq find_value_req
    FindValueResp find_value_resp
    StoreReq store_req
    StoreResp store_resp
    AnnounceProviderReq announce_provider_req
    AnnounceProviderResp announce_provider_resp
    ReflectReq reflect_req
    ReflectResp reflect_resp
    Error error
    Goaway goaway
    RendezvousReq rendezvous_req
    RendezvousResp rendezvous_resp
    RendezvousNotify rendezvous_notify
    RendezvousAck rendezvous_ack
    RendezvousResult rendezvous_result
    RelayAllocReq relay_alloc_req
    RelayAllocResp relay_alloc_resp
    RelayStatus relay_status
    RelayClose relay_close
    ConsentToken consent_token
}
