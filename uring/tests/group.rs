//! Several sockets at one port: who gets what, and who is kept out. Real sockets
//! of every address family, since each has its own way through the kernel.

mod common;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::ErrorKind;
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd;
    use std::time::Duration;

    use uring::{EngineConfig, Group, MmsgEngine, Reason, Socket, SocketConfig, Steering};

    use crate::common::*;

    /// Where the group is bound, where senders are, and the address they know.
    const FAMILIES: [[&str; 3]; 5] = [
        ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1"],
        ["0.0.0.0:0", "127.0.0.1:0", "127.0.0.1"],
        ["[::1]:0", "[::1]:0", "::1"],
        ["[::]:0", "127.0.0.1:0", "127.0.0.1"],
        ["[::]:0", "[::1]:0", "::1"],
    ];
    const SENDERS: usize = 40;

    fn group(listen: &str, shards: usize, steer: bool) -> Group {
        Socket::bind_group(&SocketConfig::new(addr(listen)), shards, 2, steer).unwrap()
    }

    fn engines(group: Group) -> Vec<MmsgEngine> {
        let engine = |socket| MmsgEngine::new(socket, EngineConfig::default(), pool(2048, 128));
        group.sockets.into_iter().map(engine).collect()
    }

    /// What came, `count` datagrams: each one's shard, sender and bytes.
    fn arrivals(engines: &mut [MmsgEngine], count: usize) -> Vec<(usize, SocketAddr, Vec<u8>)> {
        let (mut came, mut wait) = (Vec::new(), Duration::ZERO);
        for _ in 0..500 {
            for (shard, engine) in engines.iter_mut().enumerate() {
                let mut sink = Vec::new();
                engine.turn(wait, &mut sink).unwrap();
                came.extend(sink.iter().map(|one| (shard, one.path.peer, one.buf.to_vec())));
            }
            if came.len() >= count {
                break;
            }
            wait = Duration::from_millis(1);
        }
        assert_eq!(came.len(), count, "all that was sent, and once");
        came
    }

    /// A datagram of every kind with an index of `shard` of up to four.
    fn indexed(shard: usize, noise: u32) -> Vec<Vec<u8>> {
        let index = u32::try_from(shard).unwrap() << 30 | noise >> 2;
        let wireguard =
            [(2, 8, 92), (3, 4, 64), (4, 4, 32), (4, 4, 1200)].map(|(kind, at, len)| {
                let mut bytes = pattern(index as usize, len);
                bytes[0] = kind;
                bytes[at..at + 4].copy_from_slice(&index.to_le_bytes());
                bytes
            });
        let mut channel = pattern(index as usize, 300);
        channel[0] = 5;
        channel[4..8].copy_from_slice(&index.to_be_bytes());
        wireguard.into_iter().chain([channel]).collect()
    }

    #[test]
    fn what_has_an_index_reaches_its_shard_from_anywhere() {
        for [listen, from, ip] in FAMILIES {
            for shards in 2..=4 {
                let group = group(listen, shards, true);
                assert_eq!(group.steering, Steering::Bpf, "{listen}");
                let to =
                    (ip.parse::<std::net::IpAddr>().unwrap(), group.sockets[0].local_addr().port());
                assert!(group.sockets.iter().all(|one| one.local_addr().port() == to.1));
                let mut engines = engines(group);
                for sender in 0..SENDERS {
                    let peer = peer(from);
                    let mut wanted = HashMap::new();
                    for shard in 0..shards {
                        for bytes in indexed(shard, u32::try_from(sender).unwrap() * 0x0357_9BDF) {
                            peer.send_to(&bytes, to).unwrap();
                            wanted.insert(bytes, shard);
                        }
                    }
                    for (shard, _, bytes) in arrivals(&mut engines, wanted.len()) {
                        assert_eq!(wanted.get(&bytes), Some(&shard), "{listen} {:?}", &bytes[..12]);
                    }
                }
            }
        }
    }

    /// Sends `payload` twice from many ports. How many shards got any, each port's own.
    fn spread(engines: &mut [MmsgEngine], from: &str, to: (&str, u16), payload: &[u8]) -> usize {
        let mut homes = HashMap::new();
        for _ in 0..SENDERS {
            let peer = peer(from);
            for _ in 0..2 {
                peer.send_to(payload, to).unwrap();
            }
            for (shard, peer, bytes) in arrivals(engines, 2) {
                assert_eq!(bytes, payload);
                assert_eq!(*homes.entry(peer).or_insert(shard), shard, "one sender, one shard");
            }
        }
        let shards: std::collections::HashSet<usize> = homes.into_values().collect();
        shards.len()
    }

    #[test]
    fn what_names_no_shard_is_spread_by_sender() {
        for [listen, from, ip] in FAMILIES {
            let group = group(listen, 3, true);
            let to = (ip, group.sockets[0].local_addr().port());
            let mut engines = engines(group);
            let fourth = indexed(3, 0).swap_remove(2);
            for payload in [&[1; 148][..], &[4, 0, 0], &[], &fourth] {
                let shards = spread(&mut engines, from, to, payload);
                assert!(shards > 1, "{listen}: all in one of three, {} bytes", payload.len());
            }
        }
    }

    #[test]
    fn without_steering_everything_arrives_all_the_same() {
        for [listen, from, ip] in FAMILIES {
            let group = group(listen, 4, false);
            assert_eq!(group.steering, Steering::Hash(Reason::Disabled));
            let to = (ip, group.sockets[0].local_addr().port());
            let mut engines = engines(group);
            for payload in indexed(1, 77) {
                assert!(spread(&mut engines, from, to, &payload) > 1, "{listen}");
            }
        }
    }

    #[test]
    fn a_port_in_use_is_refused_to_everybody() {
        for [listen, _, _] in FAMILIES {
            for shards in [1, 3] {
                let ours = group(listen, shards, true);
                let taken = SocketConfig::new(ours.sockets[0].local_addr());
                assert_eq!(Socket::bind(&taken).unwrap_err().kind(), ErrorKind::AddrInUse);
                for others in [1, 2] {
                    let refused = Socket::bind_group(&taken, others, 2, true).unwrap_err();
                    assert_eq!(refused.kind(), ErrorKind::AddrInUse, "{listen} {shards} {others}");
                }
            }
        }
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let taken = SocketConfig::new(stranger.local_addr().unwrap());
        let refused = Socket::bind_group(&taken, 2, 1, true).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn one_shard_has_a_plain_socket() {
        let group = group("127.0.0.1:0", 1, true);
        assert_eq!((group.sockets.len(), group.steering), (1, Steering::None));
        let option = rustix::net::sockopt::socket_reuseport(&group.sockets[0]).unwrap();
        assert!(!option, "nobody may join");
        assert_eq!(group.steering.label(), "none");
    }

    #[test]
    #[should_panic(expected = "every shard has a number of its own")]
    fn shards_without_a_number_are_a_mistake() {
        let _ = Socket::bind_group(&SocketConfig::new(addr("127.0.0.1:0")), 5, 2, true);
    }

    /// The engine of a shard ends in the middle; another goes on where it was.
    fn a_shard_begins_anew(kind: Kind) {
        let group = group("127.0.0.1:0", 2, true);
        let to = group.sockets[0].local_addr();
        let [first, second] = <[Socket; 2]>::try_from(group.sockets).unwrap();
        let kept = second.try_clone().unwrap();
        let small = pool(2048, 8);
        let engine = some!(open_on(kind, second));
        let mut first = some!(open_on(kind, first));
        let peer = peer("127.0.0.1:0");
        let send = |shard: u8, n: u8| {
            peer.send_to(&[4, 0, 0, 0, 0, 0, 0, shard << 6, n], to).unwrap();
        };
        let numbers =
            |came: &[uring::Datagram]| came.iter().map(|one| one.buf[8]).collect::<Vec<_>>();
        drop(engine);
        for n in 0..3 {
            send(1, n);
            send(0, 10 + n);
        }
        let waker = kept.waker();
        let mut engine = some!(open_on(kind, kept));
        let came = collect(&mut *engine, 3);
        assert_eq!(numbers(&came), [0, 1, 2], "what came meanwhile is there");
        engine.send(single(&small, came[0].path, b"back"));
        engine.flush();
        let mut answer = [0; 16];
        assert_eq!(peer.recv_from(&mut answer).unwrap(), (4, to));
        // It has kept its place, and its waker.
        send(1, 3);
        assert_eq!(numbers(&collect(&mut *engine, 1)), [3]);
        assert_eq!(numbers(&collect(&mut *first, 3)), [10, 11, 12]);
        waker.wake();
        engine.turn(Duration::from_secs(1000), &mut Vec::new()).unwrap();
        assert_eq!(engine.stats().wakes, 1);
    }

    #[test]
    fn a_shard_begins_anew_on_mmsg() {
        a_shard_begins_anew(Kind::Mmsg);
    }

    #[test]
    fn a_shard_begins_anew_on_io_uring() {
        a_shard_begins_anew(Kind::Uring);
    }

    #[test]
    fn both_handles_are_one_socket() {
        let socket = Socket::bind(&SocketConfig::new(addr("[::]:0"))).unwrap();
        let clone = socket.try_clone().unwrap();
        assert_eq!(clone.local_addr(), socket.local_addr());
        assert_eq!(clone.receive_buffer(), socket.receive_buffer());
        assert_eq!(clone.missing(), socket.missing());
        let cookie = |one: &Socket| rustix::net::sockopt::socket_cookie(one.as_fd()).unwrap();
        assert_eq!(cookie(&clone), cookie(&socket));
    }
}
