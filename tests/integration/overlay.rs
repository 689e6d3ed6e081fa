//! Who is listed, and in what order.

use std::collections::BTreeSet;

use molia_router::client::Error;
use molia_router::ids::PeerId;
use molia_router::wire::Code;

use super::server::{identity, on_every_engine};

#[test]
fn half_of_an_answer_is_closest_and_half_is_drawn_in_as_many_chunks_as_it_takes() {
    on_every_engine(|server| {
        let identities: Vec<_> = (0..30).map(|n| identity(100 + n)).collect();
        let peers: Vec<_> = identities.iter().map(|identity| server.connect_as(identity)).collect();
        let mut asking = server.connect();
        asking.negotiate(None).unwrap();
        let mut drawn = BTreeSet::new();
        for (seed, (limit, expected)) in (0u8..).zip([(0, 8), (1, 1), (8, 8), (16, 16), (99, 16)]) {
            let target = PeerId([seed.wrapping_mul(77); 32]);
            let found = asking.find_node(&target, limit).unwrap();
            let mut closest: Vec<_> = identities.iter().map(|it| it.peer_id()).collect();
            closest.sort_by_key(|id| id.distance(&target));
            let ids: Vec<_> = found.iter().map(|found| found.peer).collect();
            let half = usize::div_ceil(expected, 2);
            assert_eq!((ids.len(), &ids[..half]), (expected, &closest[..half]), "limit {limit}");
            let others = BTreeSet::from_iter(&ids[half..]);
            assert_eq!(others.len(), expected - half, "{ids:?}");
            assert!(others.iter().all(|id| closest[half..].contains(id)), "{ids:?}");
            drawn.extend(ids[half..].to_vec());
        }
        assert!(drawn.len() > 8, "not always the same: {drawn:?}");
        let target = identities[7].peer_id();
        let found = asking.find_node(&target, 1).unwrap().remove(0);
        assert_eq!(found.key, identities[7].wg_key());
        assert_eq!(found.addresses, [peers[7].local_address().unwrap()]);
    });
}

#[test]
fn without_chunks_agreed_an_answer_is_one_frame() {
    on_every_engine(|server| {
        let peers: Vec<_> = (0..20).map(|n| server.connect_as(&identity(200 + n))).collect();
        let found = server.connect().find_node(&PeerId([3; 32]), 16).unwrap();
        assert!((9..16).contains(&found.len()), "{} fit one frame", found.len());
        drop(peers);
    });
}

#[test]
fn a_binding_of_another_key_is_refused() {
    on_every_engine(|server| {
        let mut client = server.connect();
        let stolen = identity(300);
        assert!(client.negotiate(Some(&stolen)).is_err());
        let found = client.find_node(&stolen.peer_id(), 16).unwrap();
        assert!(found.iter().all(|found| found.peer != stolen.peer_id()));
    });
}

#[test]
fn signature_checks_run_out_and_come_back() {
    on_every_engine(|server| {
        let mut client = server.connect();
        let stolen = identity(301);
        let codes: Vec<_> = (0..40)
            .map(|_| match client.negotiate(Some(&stolen)) {
                Err(Error::Refused { refusal, .. }) => refusal.code,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(codes[..16], [Code::Unauthorized; 16]);
        assert!(codes.contains(&Code::RateLimited));
    });
}
