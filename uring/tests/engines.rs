//! Both engines over real sockets: the same tests for each.

mod common;

use common::{Kind, addr, at, collect, open, peer, pool, single};

macro_rules! for_every_engine {
    ($($name:ident,)*) => {
        mod mmsg {
            $(#[test] fn $name() { super::$name(super::Kind::Mmsg); })*
        }
    };
}

for_every_engine! {
    answers_leave_from_the_address_that_was_asked,
}

/// IPv4 and IPv6 peers of one dual-stack socket, each by the address it asked.
fn answers_leave_from_the_address_that_was_asked(kind: Kind) {
    let mut engine = open(kind, "[::]:0");
    let small = pool(2048, 8);
    for (bind, asked) in
        [("127.0.0.1:0", "127.0.0.1"), ("127.0.0.1:0", "127.0.0.2"), ("[::1]:0", "::1")]
    {
        let peer = peer(bind);
        peer.send_to(b"hello", at(&*engine, asked)).unwrap();
        let came = collect(&mut *engine, 1);
        assert_eq!(&came[0].buf[..], b"hello");
        assert_eq!(came[0].path.peer, peer.local_addr().unwrap());
        assert_eq!(came[0].path.local.ip, Some(asked.parse().unwrap()));
        engine.send(single(&small, came[0].path, b"you too"));
        engine.flush();
        let mut answer = [0; 64];
        let (len, from) = peer.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..len], from), (&b"you too"[..], at(&*engine, asked)));
    }
    assert_eq!(engine.stats().rx_packets, 3);
    assert_eq!(engine.stats().tx_packets, 3);
    let _ = addr("127.0.0.1:1");
}
