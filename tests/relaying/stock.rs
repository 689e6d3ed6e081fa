//! Ports for unmodified WireGuard: who gets them, what goes through, and what a restart leaves.

use std::net::SocketAddr;

use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::PublicKey;
use molia_router::admission::cookie;
use molia_router::net::{Datagram, Local, Path, Transmit};
use molia_router::relay::stock::Ports;
use molia_router::router::{Config, Cursor, PortWish};
use molia_router::wire::body::{RelayAllocReq, RelayAllocResp};
use molia_router::wire::{Code, Kind};

use crate::known::{Known, Sent, config, join};
use crate::support::Bench;

fn with_ports() -> Config {
    Config { stock: Ports::new(50_000, 8), ..config() }
}

fn ask(bench: &mut Bench, who: &mut Known, other: &Known, consent: &[u8]) -> Sent {
    let peer = other.id();
    let request = RelayAllocReq { peer, consent, want_bps: 0, channel: 0, stock_wireguard: true };
    let mut sent = who.request(bench, Kind::RelayAllocReq, 5, |body| request.write(body));
    sent.extend(serve(bench, true).1);
    sent
}

/// Does what the router wishes for; its wishes, and what it sent then.
fn serve(bench: &mut Bench, done: bool) -> (Vec<PortWish>, Sent) {
    let (mut wishes, mut sent) = (Vec::new(), Vec::new());
    let now = bench.now;
    bench.router.serve_ports(now, |wish| {
        wishes.push(wish);
        done
    });
    bench.router.transmit(now, &mut |it: Transmit| sent.push((it.path.peer, it.buf.to_vec())));
    (wishes, sent)
}

/// The port that a peer was told of.
fn port(who: &mut Known, sent: &Sent, kind: Kind) -> u16 {
    let mine = sent.iter().find(|(to, _)| *to == who.peer.path().peer).unwrap();
    let (header, body) = who.peer.frame(&mine.1);
    assert_eq!(header.kind, kind.id());
    let told = RelayAllocResp::read(&body).unwrap();
    assert_eq!((told.channel, told.generation, told.inner_mtu), (0, 0, 1200));
    assert_eq!((told.lifetime_s, told.idle_timeout_s), (3600, 3600));
    told.relay_addrs.sockets().next().unwrap().port()
}

/// A tunnel of its own beside the session, with the key of the same identity.
struct Tunnel {
    tunn: Tunn,
    /// The other side's key.
    theirs: [u8; 32],
    at: SocketAddr,
    socket: u16,
}

impl Tunnel {
    fn new(who: &Known, other: &Known, at: &str, port: u16) -> Self {
        let theirs = other.identity.wg_key().0;
        let key = PublicKey::from(theirs);
        let tunn = Tunn::new(who.identity.wg_secret().clone(), key, None, None, 1, None);
        Self { tunn, theirs, at: at.parse().unwrap(), socket: port - 50_000 + 2 }
    }

    fn send(&self, bench: &mut Bench, bytes: &[u8]) -> Vec<(Path, Vec<u8>)> {
        let local = Local { socket: self.socket, ..Local::default() };
        bench.deliver(Path { peer: self.at, local }, bytes)
    }

    fn initiation(&mut self) -> Vec<u8> {
        written(self.tunn.format_handshake_initiation(&mut [0; 256], true))
    }

    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        written(self.tunn.decapsulate(None, bytes, &mut [0; 2048]))
    }

    fn seal(&mut self, packet: &[u8]) -> Vec<u8> {
        written(self.tunn.encapsulate(packet, &mut [0; 2048]))
    }

    fn open(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self.tunn.decapsulate(None, bytes, &mut [0; 2048]) {
            TunnResult::WriteToTunnelV4(packet, _) => packet.to_vec(),
            other => panic!("{other:?}"),
        }
    }
}

/// Somebody who sends to a port.
fn stranger(socket: u16) -> Tunnel {
    let [key, other] = [[1; 32], [2; 32]].map(boringtun::x25519::StaticSecret::from);
    let other = PublicKey::from(&other);
    let tunn = Tunn::new(key, other, None, None, 1, None);
    Tunnel { tunn, theirs: other.to_bytes(), at: "9.9.9.9:9".parse().unwrap(), socket }
}

fn written(result: TunnResult<'_>) -> Vec<u8> {
    match result {
        TunnResult::WriteToNetwork(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// An IPv4 packet of some bytes.
fn packet(fill: u8) -> Vec<u8> {
    let mut packet = vec![fill; 120];
    packet[..4].copy_from_slice(&[0x45, 0, 0, 120]);
    packet
}

fn one(sent: Vec<(Path, Vec<u8>)>, to: &str) -> Vec<u8> {
    let [(path, bytes)] = &sent[..] else { panic!("one datagram, not {}", sent.len()) };
    assert_eq!(path.peer, to.parse().unwrap());
    bytes.clone()
}

const AT_A: &str = "1.1.1.1:51820";
const AT_B: &str = "2.2.2.2:51820";

/// Two peers, and a tunnel between them.
fn tunnels(bench: &mut Bench) -> [Tunnel; 2] {
    let mut a = join(bench, 1, "1.1.1.1:4000");
    let mut b = join(bench, 2, "2.2.2.2:5000");
    let sent = ask(bench, &mut a, &b, &b.consent(None));
    let ports = [port(&mut a, &sent, Kind::RelayAllocResp), port(&mut b, &sent, Kind::RelayOffer)];
    assert_ne!(ports[0], ports[1]);
    let (to_b, to_a) = (Tunnel::new(&a, &b, AT_A, ports[0]), Tunnel::new(&b, &a, AT_B, ports[1]));
    [to_b, to_a]
}

fn shake_hands(bench: &mut Bench, [a, b]: &mut [Tunnel; 2]) {
    let initiation = a.initiation();
    assert_eq!(a.send(bench, &initiation), [], "B is nowhere");
    let initiation = b.initiation();
    let got = one(b.send(bench, &initiation), &a.at.to_string());
    let answer = a.take(&got);
    let got = one(a.send(bench, &answer), &b.at.to_string());
    let keepalive = b.take(&got);
    let got = one(b.send(bench, &keepalive), &a.at.to_string());
    assert!(matches!(a.tunn.decapsulate(None, &got, &mut [0; 2048]), TunnResult::Done));
}

/// One packet each way.
fn talk(bench: &mut Bench, [a, b]: &mut [Tunnel; 2]) {
    for n in 0..3 {
        let sealed = a.seal(&packet(n));
        assert_eq!(b.open(&one(a.send(bench, &sealed), &b.at.to_string())), packet(n));
        let sealed = b.seal(&packet(n + 100));
        assert_eq!(a.open(&one(b.send(bench, &sealed), &a.at.to_string())), packet(n + 100));
    }
}

#[test]
fn two_stock_peers_talk_and_roam() {
    let mut bench = Bench::with(with_ports());
    let mut tunnels = tunnels(&mut bench);
    shake_hands(&mut bench, &mut tunnels);
    talk(&mut bench, &mut tunnels);
    // A has another port: what it sends is dropped until it shakes hands from there.
    tunnels[0].at.set_port(7777);
    let sealed = tunnels[0].seal(&packet(9));
    assert_eq!(tunnels[0].send(&mut bench, &sealed), []);
    let [a, b] = &mut tunnels;
    let initiation = a.initiation();
    let got = one(a.send(&mut bench, &initiation), AT_B);
    let answer = b.take(&got);
    let got = one(b.send(&mut bench, &answer), "1.1.1.1:7777");
    let keepalive = a.take(&got);
    one(a.send(&mut bench, &keepalive), AT_B);
    talk(&mut bench, &mut tunnels);
    assert!(bench.all_slots_home());
}

/// The address is one that A's session never proved, so that it has to prove it now.
#[test]
fn a_stock_peer_roams_to_another_network() {
    let mut bench = Bench::with(with_ports());
    let mut tunnels = tunnels(&mut bench);
    shake_hands(&mut bench, &mut tunnels);
    let [a, b] = &mut tunnels;
    a.at = "7.7.7.7:7777".parse().unwrap();
    let initiation = a.initiation();
    let cookie = one(a.send(&mut bench, &initiation), "7.7.7.7:7777");
    assert_eq!(cookie.len(), 64);
    assert!(matches!(a.tunn.decapsulate(None, &cookie, &mut [0; 2048]), TunnResult::Done));
    // Another one's cookie is of no use: it names the address.
    let initiation = a.initiation();
    let spied = Tunnel { at: "8.8.8.8:7777".parse().unwrap(), ..stranger(a.socket) };
    assert_eq!(one(spied.send(&mut bench, &initiation), "8.8.8.8:7777").len(), 64);
    let got = one(a.send(&mut bench, &initiation), AT_B);
    let answer = b.take(&got);
    let got = one(b.send(&mut bench, &answer), "7.7.7.7:7777");
    let keepalive = a.take(&got);
    one(a.send(&mut bench, &keepalive), AT_B);
    talk(&mut bench, &mut tunnels);
    assert!(bench.all_slots_home());
}

/// A cookie is for the port that it came from: one at another port buys nothing.
#[test]
fn a_cookie_is_for_one_port() {
    let mut bench = Bench::with(with_ports());
    let [mut a, mut b] = tunnels(&mut bench);
    (a.at, b.at) = ("7.7.7.7:7777".parse().unwrap(), "7.7.7.7:7777".parse().unwrap());
    let mut cookie_at = |tunnel: &mut Tunnel| {
        let initiation = tunnel.initiation();
        let reply = one(tunnel.send(&mut bench, &initiation), "7.7.7.7:7777");
        let initiation = initiation.try_into().unwrap();
        cookie::open_reply(&tunnel.theirs, &initiation, &reply.try_into().unwrap()).unwrap().0
    };
    let cookies = [cookie_at(&mut a), cookie_at(&mut b)];
    let mut shown = |tunnel: &mut Tunnel, with: [u8; 16]| {
        let mut initiation = tunnel.initiation();
        let mac2 = cookie::mac(&with, &initiation[..132]);
        initiation[132..].copy_from_slice(&mac2);
        tunnel.send(&mut bench, &initiation).first().map(|(_, bytes)| bytes.len())
    };
    assert_eq!((shown(&mut a, cookies[1]), shown(&mut b, cookies[0])), (Some(64), Some(64)));
    assert_eq!(shown(&mut a, cookies[0]), None, "B is nowhere");
    assert_eq!(shown(&mut b, cookies[1]), Some(148), "A is there");
}

/// Both peers are one's own, and the source of what the one sends is forged: nothing but the
/// question for a cookie goes there, though every word of a handshake is known.
#[test]
fn two_peers_of_one_owner_are_aimed_at_nobody() {
    const VICTIM: &str = "7.7.7.7:7777";
    let mut bench = Bench::with(with_ports());
    let mut tunnels = tunnels(&mut bench);
    shake_hands(&mut bench, &mut tunnels);
    let [a, b] = &mut tunnels;
    let home = std::mem::replace(&mut a.at, VICTIM.parse().unwrap());
    for _ in 0..5 {
        let initiation = a.initiation();
        assert_eq!(one(a.send(&mut bench, &initiation), VICTIM).len(), 64);
        let answer = b.take(&initiation);
        assert_eq!(b.send(&mut bench, &answer), []);
        let keepalive = a.take(&answer);
        assert_eq!(a.send(&mut bench, &keepalive), []);
        let sealed = b.seal(&packet(1));
        let to = b.send(&mut bench, &sealed);
        assert!(to.iter().all(|(path, _)| path.peer == home), "{to:?}");
    }
}

#[test]
fn a_run_of_data_goes_on_in_its_own_slot() {
    let mut bench = Bench::with(with_ports());
    let mut tunnels = tunnels(&mut bench);
    shake_hands(&mut bench, &mut tunnels);
    let [a, b] = &mut tunnels;
    let mut buf = bench.receive_slot();
    for n in 0..5 {
        assert!(buf.extend(&a.seal(&packet(n))));
    }
    let (slot, segment) = (buf.as_ptr(), buf.len() / 5);
    let local = Local { socket: a.socket, ..Local::default() };
    let datagram = Datagram { path: Path { peer: a.at, local }, buf, segment };
    let (mut out, now) = (Vec::new(), bench.now);
    assert!(bench.router.receive(now, datagram, &mut |it: Transmit| out.push(it)).is_none());
    let [run] = &out[..] else { panic!("one run, not {}", out.len()) };
    assert_eq!((run.segment, run.buf.as_ptr(), run.path.peer), (segment, slot, b.at));
    let packets: Vec<_> = run.buf.chunks(segment).map(|it| b.open(it)).collect();
    assert_eq!(packets, (0..5).map(packet).collect::<Vec<_>>());
}

#[test]
fn ports_take_a_consent_and_are_the_same_when_asked_for_again() {
    let mut bench = Bench::with(with_ports());
    let mut a = join(&mut bench, 1, "1.1.1.1:4000");
    let mut b = join(&mut bench, 2, "2.2.2.2:5000");
    let told = ask(&mut bench, &mut a, &b, &[]);
    assert_eq!(a.refusal(&told), Code::Unauthorized);
    let consent = b.consent(Some(a.id()));
    let sent = ask(&mut bench, &mut a, &b, &consent);
    let of_a = port(&mut a, &sent, Kind::RelayAllocResp);
    let of_b = port(&mut b, &sent, Kind::RelayOffer);
    let sent = ask(&mut bench, &mut a, &b, &[]);
    assert_eq!((port(&mut a, &sent, Kind::RelayAllocResp), sent.len()), (of_a, 1));
    let sent = ask(&mut bench, &mut b, &a, &[]);
    assert_eq!((port(&mut b, &sent, Kind::RelayAllocResp), sent.len()), (of_b, 1));
    assert_eq!(bench.router.stock().stats().pairs, 1);
}

#[test]
fn without_a_port_to_open_the_answer_is_busy() {
    let mut bench = Bench::with(with_ports());
    let mut a = join(&mut bench, 1, "1.1.1.1:4000");
    let b = join(&mut bench, 2, "2.2.2.2:5000");
    let consent = b.consent(None);
    let request = RelayAllocReq {
        peer: b.id(),
        consent: &consent,
        want_bps: 0,
        channel: 0,
        stock_wireguard: true,
    };
    let sent = a.request(&mut bench, Kind::RelayAllocReq, 5, |body| request.write(body));
    assert_eq!(sent, [], "it waits for the ports");
    let (wishes, told) = serve(&mut bench, false);
    assert_eq!(wishes.len(), 1, "without the first one, the second is of no use");
    assert_eq!(a.refusal(&told), Code::Busy);
    assert_eq!(bench.router.stock().stats().pairs, 0);
}

#[test]
fn a_restart_keeps_ports_and_addresses() {
    let mut bench = Bench::with(with_ports());
    let mut tunnels = tunnels(&mut bench);
    shake_hands(&mut bench, &mut tunnels);
    let now = bench.now;
    let mut changes = Vec::new();
    bench.router.take_changes(now, |record| changes.push((record.kind(), record.payload())));
    let mut walked = Vec::new();
    let mut at = Cursor::default();
    while at != Cursor::End {
        at = bench.router.walk(now, at, |record| {
            walked.push((record.kind(), record.payload()));
            true
        });
    }
    for kept in [changes, walked] {
        let mut again = Bench::with(with_ports());
        again.advance(3_000_000_000);
        for (kind, payload) in kept {
            let record = peerstore::Record::decode(kind, &payload).unwrap();
            again.router.restore(again.now, &record);
        }
        let (wishes, _) = serve(&mut again, true);
        let open = |socket, port| PortWish::Open { socket, port };
        assert_eq!(wishes, [open(2, 50_000), open(3, 50_001)]);
        talk(&mut again, &mut tunnels);
    }
}
