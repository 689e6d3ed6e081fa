//! The alternate port serves as the main one does, and answers from itself: the clients' sockets
//! are connected, and take nothing from any other port.

use std::net::Ipv4Addr;

use molia_router::client::link::Host;
use molia_router::client::{Client, Link, Options};

use super::server::{Server, Shape, engines, eventually};

const CLIENTS: usize = 12;

fn connect(link: &Link) -> Client {
    Client::connect(link, None, Options::default()).unwrap()
}

#[test]
fn who_asks_the_alternate_port_is_answered_from_there() {
    for &engine in engines() {
        for (listen, shards, steer) in
            [("127.0.0.1:0", 1, true), ("[::]:0", 2, true), ("127.0.0.1:0", 2, false)]
        {
            let server = Server::with(Shape { engine, listen, shards, steer }).unwrap();
            answers_from_both(&server);
            server.stop();
        }
    }
}

/// Sessions through both ports at once, each client at home in some shard or other.
fn answers_from_both(server: &Server) {
    let host = |link: &Link| Link { host: Host::Ip(Ipv4Addr::LOCALHOST.into()), ..link.clone() };
    let (main, alternate) = (host(&server.link), host(&server.alternate));
    assert_ne!(main.port, alternate.port);
    let links = [&main, &alternate].into_iter().cycle();
    let mut clients: Vec<Client> = links.take(CLIENTS).map(connect).collect();
    for padding in [0, 1000, 0] {
        for client in &mut clients {
            client.ping(padding).unwrap();
            client.reflect().unwrap();
        }
    }
}

/// The port outlives the shard that served it.
#[test]
fn a_shard_that_begins_again_serves_the_alternate_port_too() {
    for &engine in engines() {
        let shape = Shape { engine, listen: "127.0.0.1:0", shards: 2, steer: true };
        let server = Server::with(shape).unwrap();
        connect(&server.alternate).ping(0).unwrap();
        (0..2).for_each(|shard| server.shards().panic(shard));
        for _ in 0..8 {
            // A handshake may still have been the last thing that a shard did.
            eventually("an answer", || {
                connect(&server.alternate).ping(0).map(drop).map_err(|error| error.to_string())
            });
        }
        server.stop();
    }
}
