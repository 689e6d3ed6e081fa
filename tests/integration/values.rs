//! Values and providers over the wire: whoever brings them to whichever shard, the owner of the key
//! keeps them, and everybody finds them.

use std::time::Duration;

use molia_router::client::peer::Raw;
use molia_router::client::requests::Answer;
use molia_router::client::{Client, Error, Options, OwnedRecord, Written};
use molia_router::clock::Clock;
use molia_router::counters::layout::Id;
use molia_router::identity::Identity;
use molia_router::ids::Key;
use molia_router::router::Role;
use molia_router::wire::body::{
    AnnounceProviderReq, NegotiateReq, Provider, Stamp, StoreReq, StoreResp, Writer, feature,
};
use molia_router::wire::{Code, Header, Kind, StoreCode};

use super::server::{Server, Shape, engines, identity};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// What a router takes of a record (`overlay/record_bytes_max`).
const RECORD_BYTES_MAX: usize = 8 << 10;
/// A body that every router takes.
const BODY_BYTES_MAX: usize = 1184;

/// Runs `test` in every shape: one shard, and three whom the kernel steers to or not.
fn in_every_shape(test: impl Fn(&Server)) {
    for &engine in engines() {
        for (shards, steer) in [(1, true), (3, true), (3, false)] {
            let server =
                Server::with(Shape { engine, listen: "127.0.0.1:0", shards, steer }).unwrap();
            test(&server);
            server.stop();
        }
    }
}

/// A client of each shard, with its identity.
pub(crate) fn one_of_each_home(server: &Server) -> Vec<(Identity, Client)> {
    let at_home = |home| {
        let mut all = (1000..).map(identity);
        let who = all.find(|who| server.partition.home(&who.wg_key()) == home).unwrap();
        let client = server.connect_as(&who);
        (who, client)
    };
    server.numbers().map(at_home).collect()
}

/// A value of `len` bytes whose key belongs to `owner`.
pub(crate) fn value_of(server: &Server, owner: u16, len: usize) -> Vec<u8> {
    let mut all = (0..=u64::MAX).map(|n| n.to_be_bytes().into_iter().cycle().take(len).collect());
    let owned = |value: &Vec<u8>| server.partition.owner(&Key::of_value(value).0) == owner;
    all.find(owned).unwrap()
}

fn unix_s() -> u64 {
    Clock::start().now().unix_s()
}

/// A record named `salt`, valid from now on.
fn named(owner: &Identity, salt: &[u8], value: &[u8], sequence: u64) -> OwnedRecord {
    OwnedRecord::named(owner, salt, value.to_vec(), sequence, unix_s(), HOUR)
}

pub(crate) fn store(client: &mut Client, record: &OwnedRecord) -> StoreCode {
    client.store(&record.borrowed()).unwrap().code
}

pub(crate) fn found(client: &mut Client, key: &Key) -> Option<OwnedRecord> {
    client.find_value(key, 0).unwrap().record
}

fn body(fields: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = vec![0; RECORD_BYTES_MAX + 1024];
    let mut writer = Writer::new(&mut out);
    fields(&mut writer);
    writer.written().to_vec()
}

fn encoded(record: &OwnedRecord) -> Vec<u8> {
    body(|out| record.borrowed().write(out).unwrap())
}

fn store_body(record: &OwnedRecord, stamp: Option<Stamp>) -> Vec<u8> {
    let record = encoded(record);
    body(|out| StoreReq { record: &record, stamp, ..StoreReq::default() }.write(out).unwrap())
}

fn raw(kind: Kind, body: &[u8]) -> Raw<'_> {
    Raw { version: 1, header: Header::request(kind, 0), body }
}

/// The code and detail of an ERROR.
fn refusal(answer: &Answer) -> (Code, u32) {
    let refusal = answer.refusal().expect("an ERROR").unwrap();
    (refusal.code, refusal.detail)
}

fn stored(answer: &Answer) -> (StoreCode, &str) {
    assert_eq!(answer.kind, Kind::StoreResp, "{answer:?}");
    let response = StoreResp::read(&answer.bodies[0]).unwrap();
    (response.code, response.reason)
}

#[test]
fn what_a_client_of_any_shard_stores_clients_of_all_shards_find() {
    in_every_shape(|server| {
        let mut clients = one_of_each_home(server);
        let mut anonymous = server.connect();
        let mut kept = vec![0; server.numbers().len()];
        for home in server.numbers() {
            for owner in server.numbers() {
                let value = value_of(server, owner, 40 + usize::from(home));
                let record = OwnedRecord::immutable(value, HOUR);
                assert_eq!(found(&mut anonymous, &record.key), None);
                let (_, client) = &mut clients[usize::from(home)];
                assert_eq!(store(client, &record), StoreCode::Ok);
                for (_, finder) in &mut clients {
                    assert_eq!(found(finder, &record.key).as_ref(), Some(&record));
                }
                assert_eq!(found(&mut anonymous, &record.key).as_ref(), Some(&record));
                kept[usize::from(owner)] += 1;
            }
        }
        // Each is kept once, where its key belongs.
        server.await_each(Id::Values, &[], &kept);
    });
}

#[test]
fn a_name_has_its_owners_newest_value() {
    in_every_shape(|server| {
        let mut clients = one_of_each_home(server);
        let last = clients.len() - 1;
        let owner = identity(1);
        for shard in server.numbers() {
            // A name whose key each shard owns.
            let salt = (0..=u64::MAX)
                .map(u64::to_be_bytes)
                .find(|salt| server.partition.owner(&named(&owner, salt, b"", 1).key.0) == shard);
            let salt = salt.unwrap();
            let record = |value, sequence| named(&owner, &salt, value, sequence);
            let (first, second) = (record(b"first", 5), record(b"second", 6));
            let mut write = |at: usize, record: &OwnedRecord| store(&mut clients[at].1, record);
            assert_eq!(write(0, &first), StoreCode::Ok);
            assert_eq!(write(last, &second), StoreCode::Ok);
            assert_eq!(write(0, &record(b"other", 6)), StoreCode::Equivocation);
            assert_eq!(write(last, &first), StoreCode::Stale);
            assert_eq!(write(0, &second), StoreCode::Ok, "the same again is no other");
            for (_, client) in &mut clients {
                assert_eq!(found(client, &second.key).as_ref(), Some(&second));
            }
            let mut write = |at: usize, record: &OwnedRecord| store(&mut clients[at].1, record);
            assert_eq!(write(last, &record(b"", 7)), StoreCode::Ok, "a tombstone");
            assert_eq!(write(0, &second), StoreCode::Stale);
            for (_, client) in &mut clients {
                assert_eq!(found(client, &second.key), None);
            }
        }
    });
}

#[test]
fn the_largest_record_comes_and_goes_in_chunks() {
    in_every_shape(|server| {
        let mut clients = one_of_each_home(server);
        for owner in server.numbers() {
            for at in 0..clients.len() {
                let beside = encoded(&OwnedRecord::immutable(vec![1; 8000], HOUR)).len() - 8000;
                // No two of the same length, so that none is stored twice.
                let value = value_of(server, owner, RECORD_BYTES_MAX - beside - at);
                let record = OwnedRecord::immutable(value, HOUR);
                assert_eq!(encoded(&record).len(), RECORD_BYTES_MAX - at);
                assert_eq!(store(&mut clients[at].1, &record), StoreCode::Ok);
                for (_, finder) in &mut clients {
                    assert_eq!(found(finder, &record.key).as_ref(), Some(&record));
                }
                // Who agreed to nothing takes no chunks, and is told so.
                let request = body(|out| out.bytes(1, &record.key.0).unwrap());
                let answer = server.connect().raw(raw(Kind::FindValueReq, &request)).unwrap();
                assert_eq!(refusal(&answer), (Code::TooLarge, Kind::FindValueReq.id().into()));
            }
        }
    });
}

#[test]
fn a_record_above_the_maximum_is_too_large_and_leaves_nothing() {
    in_every_shape(|server| {
        let mut clients = one_of_each_home(server);
        let (_, client) = &mut clients[0];
        let largest = value_of(server, 0, RECORD_BYTES_MAX - 100);
        // More often than a session may have requests under way that are not whole.
        for n in 0..6_u8 {
            for bytes in [RECORD_BYTES_MAX - 36, RECORD_BYTES_MAX + 900, 2 * RECORD_BYTES_MAX] {
                let record = OwnedRecord::immutable(vec![n; bytes], HOUR);
                let refused = client.store(&record.borrowed());
                let Err(Error::Refused { refusal, .. }) = refused else { panic!("{refused:?}") };
                let wanted = (Code::TooLarge, Kind::StoreReq.id().into());
                assert_eq!((refusal.code, refusal.detail), wanted, "{bytes} bytes, round {n}");
            }
            let mut value = largest.clone();
            value[0] = n;
            let record = OwnedRecord::immutable(value, HOUR);
            assert_eq!(store(client, &record), StoreCode::Ok);
        }
    });
}

#[test]
fn providers_are_announced_and_listed() {
    in_every_shape(|server| {
        let mut clients = one_of_each_home(server);
        for owner in server.numbers() {
            let key = Key::of_value(&value_of(server, owner, 33));
            for (who, client) in &mut clients {
                let Written { code, accepted_ttl, .. } =
                    client.announce(who, &key, b"meta", HOUR).unwrap();
                assert_eq!(code, StoreCode::Ok);
                let ttl = accepted_ttl.unwrap();
                assert!(ttl <= HOUR && ttl + Duration::from_secs(2) >= HOUR, "{ttl:?}");
            }
            let mut newest_first: Vec<_> = clients.iter().map(|(who, _)| who.peer_id()).collect();
            newest_first.reverse();
            for (_, client) in &mut clients {
                let found = client.find_value(&key, 0).unwrap();
                let peers: Vec<_> = found.providers.iter().map(|provider| provider.peer).collect();
                assert_eq!((peers, found.forged), (newest_first.clone(), 0));
                assert!(found.providers.iter().all(|provider| provider.meta == b"meta"));
                assert_eq!(client.find_value(&key, 1).unwrap().providers.len(), 1);
            }
        }
    });
}

#[test]
fn more_providers_than_a_frame_holds_come_in_chunks() {
    for &engine in engines() {
        let server = Server::start(engine, "127.0.0.1:0").unwrap();
        let key = Key([7; 32]);
        // Four to a frame, and one.
        let mut all: Vec<_> = (0..41).map(|n| identity(2000 + n)).collect();
        for who in &all {
            let written = server.connect_as(who).announce(who, &key, &[1; 128], HOUR).unwrap();
            assert_eq!(written.code, StoreCode::Ok);
        }
        all.reverse();
        let mut client = server.connect_as(&all[0]);
        let found = client.find_value(&key, 64).unwrap();
        let peers: Vec<_> = found.providers.iter().map(|provider| provider.peer).collect();
        assert_eq!(peers, all.iter().map(Identity::peer_id).collect::<Vec<_>>());
        assert!(!found.closer.is_empty(), "the last frame has room for whom to ask next");
        server.stop();
    }
}

#[test]
fn a_write_is_paid_once() {
    in_every_shape(|server| {
        let mut clients = one_of_each_home(server);
        let (_, client) = &mut clients[0];
        for owner in server.numbers() {
            let record = OwnedRecord::immutable(value_of(server, owner, 50), HOUR);
            let mut ask =
                |stamp| client.raw(raw(Kind::StoreReq, &store_body(&record, stamp))).unwrap();
            assert_eq!(refusal(&ask(None)), (Code::StampRequired, 12));
            let unpaid = Stamp { epoch: 0, nonce: 1 };
            assert_eq!(refusal(&ask(Some(unpaid))), (Code::StampRequired, 12));
            let stamp = client.stamp(&record.key).unwrap();
            let mut ask =
                |stamp| client.raw(raw(Kind::StoreReq, &store_body(&record, stamp))).unwrap();
            assert_eq!(stored(&ask(stamp)), (StoreCode::Ok, ""));
            assert_eq!(refusal(&ask(stamp)), (Code::StampRequired, 12), "spent");
            let stamp = client.stamp(&record.key).unwrap();
            let again = client.raw(raw(Kind::StoreReq, &store_body(&record, stamp))).unwrap();
            assert_eq!(stored(&again), (StoreCode::Ok, ""));
        }
    });
}

#[test]
fn a_client_that_was_told_no_price_learns_it_from_the_refusal() {
    in_every_shape(|server| {
        let who = identity(3000);
        let mut client = Client::connect(&server.link, Some(&who), Options::default()).unwrap();
        // By hand, so that the client does not read what a write costs.
        let binding = Some(who.binding(unix_s() - 60, unix_s() + 3600));
        let request = NegotiateReq { binding, ..NegotiateReq::default() };
        let request = body(|out| request.write(out).unwrap());
        client.raw(raw(Kind::NegotiateReq, &request)).unwrap();
        let record = OwnedRecord::immutable(value_of(server, 0, 70), HOUR);
        assert_eq!(client.stamp(&record.key).unwrap(), None);
        assert_eq!(store(&mut client, &record), StoreCode::Ok);
        assert!(client.stamp(&record.key).unwrap().is_some());
        assert_eq!(client.announce(&who, &record.key, b"", HOUR).unwrap().code, StoreCode::Ok);
        let mut refused = vec![0; server.numbers().len()];
        refused[usize::from(server.partition.home(&who.wg_key()))] = 1;
        server.await_each(Id::Errors, &["stamp_required"], &refused);
    });
}

#[test]
fn a_repeat_gets_the_same_answer_and_does_nothing() {
    in_every_shape(|server| {
        let mut clients = one_of_each_home(server);
        let (_, client) = &mut clients[0];
        for owner in server.numbers() {
            let record = OwnedRecord::immutable(value_of(server, owner, 60), HOUR);
            let stamp = client.stamp(&record.key).unwrap();
            let request = store_body(&record, stamp);
            let first = client.raw(raw(Kind::StoreReq, &request)).unwrap();
            for _ in 0..3 {
                // Its stamp is spent: were it executed again, it would be refused.
                let again =
                    client.raw_as(first.correlation, raw(Kind::StoreReq, &request)).unwrap();
                assert_eq!((again.kind, &again.bodies), (first.kind, &first.bodies));
            }
            assert_eq!(stored(&first), (StoreCode::Ok, ""));
            // What was refused for its stamp is refused again, and nothing else.
            let unpaid = client.raw(raw(Kind::StoreReq, &request)).unwrap();
            let again = client.raw_as(unpaid.correlation, raw(Kind::StoreReq, &request)).unwrap();
            assert_eq!([refusal(&unpaid), refusal(&again)], [(Code::StampRequired, 12); 2]);
        }
        server.await_each(Id::Values, &[], &vec![1; server.numbers().len()]);
        server.await_each(Id::Written, &["stored"], &vec![1; server.numbers().len()]);
        assert_eq!(server.sum(Id::Written, &["unchanged"]), 0);
    });
}

#[test]
fn a_lie_is_rejected_and_a_stranger_not_heard() {
    in_every_shape(|server| {
        let mut clients = one_of_each_home(server);
        let (who, client) = &mut clients[0];
        let good = named(&identity(1), b"salt", b"value", 1);
        let forged = OwnedRecord { value: b"other".to_vec(), ..good.clone() };
        let (wrong, unsigned) = (
            OwnedRecord { salt: b"pepper".to_vec(), ..good.clone() },
            OwnedRecord { signature: None, ..good.clone() },
        );
        for (record, why) in
            [(&forged, "bad_signature"), (&wrong, "wrong_key"), (&unsigned, "unsigned")]
        {
            let Written { code, reason, .. } = client.store(&record.borrowed()).unwrap();
            assert_eq!((code, reason.as_str()), (StoreCode::Rejected, why));
        }
        let expired = OwnedRecord::named(&identity(1), b"", vec![1], 1, unix_s() - 9, HOUR / 3600);
        assert_eq!(client.store(&expired.borrowed()).unwrap().reason, "expired");
        let early = OwnedRecord::named(&identity(1), b"", vec![1], 1, unix_s() + 999, HOUR);
        assert_eq!(client.store(&early.borrowed()).unwrap().reason, "not_yet_valid");
        assert_eq!(found(client, &good.key), None);

        let other = identity(2);
        let written = client.announce(&other, &good.key, b"", HOUR).unwrap();
        assert_eq!(
            (written.code, written.reason.as_str()),
            (StoreCode::Rejected, "not_the_sender")
        );
        assert_eq!(client.find_value(&good.key, 0).unwrap().providers, []);
        assert_eq!(client.announce(who, &good.key, b"", HOUR).unwrap().code, StoreCode::Ok);

        let mut anonymous = server.connect();
        anonymous.negotiate(None).unwrap();
        let stamp = anonymous.stamp(&good.key).unwrap();
        let request = store_body(&good, stamp);
        let answer = anonymous.raw(raw(Kind::StoreReq, &request)).unwrap();
        assert_eq!(refusal(&answer).0, Code::Unauthorized);
        let provider = Provider {
            peer_id: who.peer_id(),
            meta: &[],
            expires_unix_s: unix_s() + 60,
            sequence: 1,
            owner_pubkey: None,
            signature: None,
        };
        let request = AnnounceProviderReq { key: good.key, provider, stamp, admission: &[] };
        let request = body(|out| request.write(out).unwrap());
        let answer = anonymous.raw(raw(Kind::AnnounceProviderReq, &request)).unwrap();
        assert_eq!(refusal(&answer).0, Code::Unauthorized);
        assert_eq!(found(&mut anonymous, &good.key), None);
    });
}

#[test]
fn chunks_that_contradict_themselves_are_invalid() {
    in_every_shape(|server| {
        let mut clients = one_of_each_home(server);
        let (_, client) = &mut clients[0];
        let chunk = |index, total| {
            let slice = StoreReq {
                record: &[0; BODY_BYTES_MAX / 2],
                chunk_index: index,
                total_chunks: total,
                ..StoreReq::default()
            };
            body(|out| slice.write(out).unwrap())
        };
        let plain = Header::request(Kind::StoreReq, 0);
        for (header, body) in [
            (plain.chunk(7, true), chunk(1, 2)),
            (plain.chunk(7, false), chunk(0, 2)),
            (plain.chunk(7, true), chunk(0, 17)),
            (plain.chunk(7, false), chunk(2, 2)),
            (plain.chunk(7, false), chunk(0, 0)),
            (plain, chunk(0, 2)),
        ] {
            let answer = client.raw(Raw { version: 1, header, body: &body }).unwrap();
            assert_eq!(refusal(&answer).0, Code::Invalid, "{header:?}");
        }
    });
}

#[test]
fn one_stamp_does_not_buy_signature_checks_without_end() {
    in_every_shape(|server| {
        let mut clients = one_of_each_home(server);
        let (_, client) = &mut clients[0];
        let good = named(&identity(1), b"salt", b"value", 1);
        let forged = OwnedRecord { value: b"other".to_vec(), ..good };
        let request = store_body(&forged, client.stamp(&forged.key).unwrap());
        let mut ask = || client.raw(raw(Kind::StoreReq, &request)).unwrap();
        assert_eq!(stored(&ask()), (StoreCode::Rejected, "bad_signature"));
        // It paid for being looked at; to find that out, it is looked at again, but not for ever.
        let spent = |answer: &Answer| refusal(answer).0 == Code::StampRequired;
        let looked_at = (0..300).map(|_| ask()).take_while(spent).count();
        // A burst of 100, and 20 a second for as long as it took.
        assert!((90..290).contains(&looked_at), "{looked_at}");
        assert_eq!(refusal(&ask()).0, Code::RateLimited);
        // Others have their own.
        let mut other = server.connect_as(&identity(4000));
        let record = OwnedRecord::immutable(value_of(server, 0, 30), HOUR);
        assert_eq!(store(&mut other, &record), StoreCode::Ok);
    });
}

#[test]
fn a_boot_router_brings_peers_together_and_keeps_nothing() {
    for &engine in engines() {
        for shards in [1, 3] {
            let shape = Shape { engine, listen: "127.0.0.1:0", shards, steer: true };
            let server = Server::in_role(shape, Role::Boot).unwrap();
            let mut clients = one_of_each_home(&server);
            for owner in server.numbers() {
                let record = OwnedRecord::immutable(value_of(&server, owner, 30), HOUR);
                let (_, client) = &mut clients[0];
                let answer = client.raw(raw(Kind::StoreReq, &store_body(&record, None))).unwrap();
                assert_eq!(refusal(&answer), (Code::WrongRole, Kind::StoreReq.id().into()));
                let found = client.find_value(&record.key, 0).unwrap();
                assert!(found.record.is_none() && found.providers.is_empty());
                assert!(!found.closer.is_empty(), "whom to ask instead");
            }
            for (who, client) in &mut clients {
                let refused = client.announce(who, &Key([7; 32]), b"", HOUR).unwrap_err();
                let Error::Refused { refusal, .. } = refused else { panic!("{refused:?}") };
                assert_eq!(refusal.code, Code::WrongRole);
                let agreed = client.negotiate(Some(who)).unwrap().capabilities;
                assert_ne!(agreed & feature::BOOT_ONLY, 0);
            }
            server.stop();
        }
    }
}

#[test]
fn a_router_that_stores_does_not_say_that_it_is_for_newcomers_only() {
    for role in [Role::Route, Role::Relay] {
        let engine = engines()[0];
        let shape = Shape { engine, listen: "127.0.0.1:0", shards: 1, steer: true };
        let server = Server::in_role(shape, role).unwrap();
        let agreed = server.connect().negotiate(None).unwrap().capabilities;
        assert_eq!(agreed & feature::BOOT_ONLY, 0, "{role:?}");
        let record = OwnedRecord::immutable(b"value".to_vec(), HOUR);
        assert_eq!(store(&mut server.connect_as(&identity(1)), &record), StoreCode::Ok);
        server.stop();
    }
}
