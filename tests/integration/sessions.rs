//! Sessions through restarts, new addresses and many at once.

use std::time::Duration;

use molia_router::client::{Client, Options};
use molia_router::port::EngineChoice;

use super::server::{Server, identity, on_every_engine};

#[test]
fn a_peer_learns_its_address_and_keeps_its_session_on_a_new_one() {
    on_every_engine(|server| {
        let mut client = server.connect();
        let first = client.local_address().unwrap();
        assert_eq!(client.ping(0).unwrap().observed, Some(first));
        assert_eq!(client.reflect().unwrap().observed, first);
        client.change_address().unwrap();
        let second = client.local_address().unwrap();
        assert_eq!(client.ping(0).unwrap().observed, Some(second));
        client.idle(Duration::from_millis(300)).unwrap();
        assert!(client.pings_answered() > 0, "the new address was challenged");
        assert_eq!(client.reflect().unwrap().observed, second);
    });
}

#[test]
fn a_peer_that_restarts_gets_a_new_session_with_its_old_key() {
    on_every_engine(|server| {
        let identity = identity(400);
        for _ in 0..3 {
            let mut client = server.connect_as(&identity);
            client.ping(1000).unwrap();
            let found = client.find_node(&identity.peer_id(), 1).unwrap();
            assert_eq!(found[0].addresses, [client.local_address().unwrap()]);
        }
    });
}

#[test]
fn a_wrong_key_gets_no_answer() {
    on_every_engine(|server| {
        let mut link = server.link.clone();
        link.key = identity(500).wg_key();
        let patience = Duration::from_millis(300);
        let options = Options { patience, ..Options::default() };
        assert!(Client::connect(&link, None, options).is_err());
        server.connect().ping(0).unwrap();
    });
}

#[test]
fn both_families_share_a_socket() {
    for engine in [EngineChoice::Mmsg, EngineChoice::IoUring] {
        let Ok(server) = Server::start(engine, "[::]:0") else { continue };
        for host in ["127.0.0.1", "127.0.0.2", "::1"] {
            let mut link = server.link.clone();
            link.host = molia_router::client::link::Host::Ip(host.parse().unwrap());
            let mut client = Client::connect(&link, None, Options::default()).unwrap();
            let observed = client.ping(0).unwrap().observed.unwrap();
            assert_eq!(observed, client.local_address().unwrap(), "asked at {host}");
        }
        server.stop();
    }
}
