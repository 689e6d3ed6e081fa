//! Two legs, messages with WireGuard's shape, and whoever would like to have what is not theirs.

mod proofs;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{FIRST_SOCKET, Guard, PairId, PortWish, Ports, Side, Stock};
use crate::admission::cookie;
use crate::bucket::Keyed;
use crate::drops::Drop;
use crate::ids::{PeerId, WgKey};
use crate::net::{Local, Path, Prefix};
use crate::relay::{Budget, CloseReason, Config, Refused};
use crate::time::Moment;

const A: &str = "1.1.1.1:4000";
const B: &str = "2.2.2.2:5000";
const ELSEWHERE: &str = "7.7.7.7:7000";
/// Fills mac2 in place of a cookie's MAC.
const COOKIE: u8 = 0x55;
/// Sides of the pair under test.
const OF_A: usize = 0;
const OF_B: usize = 1;

fn side(n: u8) -> Side {
    Side { peer: PeerId([n; 32]), key: WgKey([n; 32]), factor: 1 }
}

/// The same with where its session is.
fn present(n: u8) -> (Side, Option<(IpAddr, Moment)>) {
    present_at(Moment::from_nanos(1_000_000_000), n)
}

fn present_at(proven: Moment, n: u8) -> (Side, Option<(IpAddr, Moment)>) {
    let home = [A, B].get(usize::from(n) - 1);
    (side(n), home.map(|home| (home.parse::<SocketAddr>().unwrap().ip(), proven)))
}

/// A network.
fn near(n: u8) -> Prefix {
    Prefix::of([n, 1, 1, 1].into())
}

/// Lets everything through, but to one port that nothing goes to.
struct Open;

impl Guard for Open {
    fn allows(&self, to: &SocketAddr) -> bool {
        to.port() != 9
    }

    fn has_cookie(&mut self, _: &Path, message: &[u8]) -> bool {
        message.ends_with(&[COOKIE; 16])
    }

    fn pay(&mut self, _: usize, _: bool) -> bool {
        true
    }
}

fn config() -> Config {
    let free = Budget { bits_per_s: None, burst_bytes: 0 };
    Config { peer: free, prefix: free, ..Config::default() }
}

fn stock(config: Config, ports: u16) -> Stock {
    let mut seed = 0;
    Stock::new(config, Ports::new(50_000, ports), || {
        seed += 1;
        Keyed::new([seed, seed])
    })
}

/// A pair with open ports.
struct Bench {
    stock: Stock,
    now: Moment,
    /// Bytes from and to each address.
    books: std::collections::BTreeMap<SocketAddr, (usize, usize)>,
}

impl Bench {
    fn new() -> Self {
        Self::with(config())
    }

    fn with(config: Config) -> Self {
        let mut stock = stock(config, 8);
        let now = Moment::from_nanos(1_000_000_000);
        assert!(stock.allocate(now, near(1), [present(1), present(2)]).is_ok());
        open_all(&mut stock);
        Self { stock, now, books: std::collections::BTreeMap::new() }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now + Duration::from_secs(seconds);
    }

    /// Sends to the port of a side; where it went, which is by the other side's socket.
    fn send(&mut self, side: usize, from: &str, message: &[u8]) -> Result<String, Drop> {
        let socket = FIRST_SOCKET + u16::from(side == OF_B);
        let peer: SocketAddr = from.parse().unwrap();
        let path = Path { peer, local: Local { socket, ..Local::default() } };
        let all = (message, message.len(), 1);
        let to = self.stock.route(self.now, &path, all, &mut Open);
        self.books.entry(peer).or_default().0 += message.len();
        if to == Err(Drop::RelayCookie) {
            self.books.entry(peer).or_default().1 += cookie::REPLY_BYTES;
        }
        to.map(|to| {
            assert_ne!(to.local.socket, socket);
            self.books.entry(to.peer).or_default().1 += message.len();
            to.peer.to_string()
        })
    }

    fn ok(&mut self, side: usize, from: &str, message: &[u8], to: &str) {
        assert_eq!(self.send(side, from, message), Ok(to.to_owned()));
    }

    fn sent_to(&self, address: &str) -> usize {
        self.books.get(&address.parse().unwrap()).map_or(0, |book| book.1)
    }

    /// B asks A, who is a candidate; then A asks B.
    fn bound() -> Self {
        let mut bench = Self::new();
        assert_eq!(bench.send(OF_A, A, &initiation(2, 10)), Err(Drop::RelayUnbound));
        bench.ok(OF_B, B, &initiation(1, 20), A);
        bench.ok(OF_A, A, &response(2, 11, 20), B);
        bench.ok(OF_B, B, &data(11), A);
        bench.ok(OF_A, A, &data(20), B);
        bench
    }
}

fn open_all(stock: &mut Stock) {
    while let Some(wish) = stock.take_wish() {
        stock.served(wish, true);
    }
}

/// A handshake message for the peer with key `n`.
fn handshake(kind: u8, len: usize, n: u8, words: [u32; 2]) -> Vec<u8> {
    let mut message = vec![COOKIE; len];
    message[..4].copy_from_slice(&[kind, 0, 0, 0]);
    message[4..8].copy_from_slice(&words[0].to_le_bytes());
    message[8..12].copy_from_slice(&words[1].to_le_bytes());
    let at = len - 32;
    let mac1 = cookie::mac(&cookie::mac1_key(&[n; 32]), &message[..at]);
    message[at..at + 16].copy_from_slice(&mac1);
    message
}

fn initiation(to: u8, index: u32) -> Vec<u8> {
    handshake(1, 148, to, [index, 0])
}

/// The same message from who has no cookie.
fn bare(mut message: Vec<u8>) -> Vec<u8> {
    let at = message.len() - 16;
    message[at..].fill(0);
    message
}

fn response(to: u8, index: u32, receiver: u32) -> Vec<u8> {
    handshake(2, 92, to, [index, receiver])
}

fn indexed(kind: u8, len: usize, receiver: u32) -> Vec<u8> {
    let mut message = vec![0x77; len];
    message[..4].copy_from_slice(&[kind, 0, 0, 0]);
    message[4..8].copy_from_slice(&receiver.to_le_bytes());
    message
}

fn data(receiver: u32) -> Vec<u8> {
    indexed(4, 500, receiver)
}

#[test]
fn two_unbound_peers_get_together() {
    let bench = Bench::bound();
    assert_eq!(bench.stock.stats().bound, 2);
}

#[test]
fn a_leg_moves_by_mac1_the_answer_and_what_was_in_it() {
    let mut bench = Bench::bound();
    bench.ok(OF_A, ELSEWHERE, &initiation(2, 30), B);
    assert_eq!(bench.send(OF_A, ELSEWHERE, &data(31)), Err(Drop::RelaySource), "no answer yet");
    bench.ok(OF_B, B, &response(1, 31, 30), ELSEWHERE);
    // It is not known yet that the answer arrived.
    bench.ok(OF_B, B, &data(11), A);
    assert_eq!(bench.send(OF_A, ELSEWHERE, &data(32)), Err(Drop::RelaySource));
    bench.ok(OF_A, ELSEWHERE, &data(31), B);
    bench.ok(OF_B, B, &data(11), ELSEWHERE);
    assert_eq!(bench.send(OF_A, A, &data(31)), Err(Drop::RelaySource), "it left there");
}

#[test]
fn answers_count_only_from_where_the_initiation_went() {
    let mut bench = Bench::bound();
    bench.ok(OF_A, ELSEWHERE, &initiation(2, 30), B);
    let others = [(OF_B, ELSEWHERE), (OF_B, "2.2.2.2:5001"), (OF_B, A)];
    for (side, from) in others {
        assert_eq!(bench.send(side, from, &response(1, 31, 30)), Err(Drop::RelaySource), "{from}");
    }
    assert_eq!(bench.send(OF_B, B, &response(1, 31, 29)), Err(Drop::RelaySource), "another index");
    assert_eq!(bench.send(OF_B, B, &response(2, 31, 30)), Err(Drop::BadMac1));
    assert_eq!(bench.sent_to(ELSEWHERE), 0);
}

#[test]
fn a_stranger_cannot_answer_for_a_peer_that_is_alive() {
    let mut bench = Bench::bound();
    bench.ok(OF_A, ELSEWHERE, &initiation(2, 30), B);
    bench.ok(OF_B, B, &initiation(1, 40), A);
    assert_eq!(bench.send(OF_A, ELSEWHERE, &response(2, 41, 40)), Err(Drop::RelaySource));
    bench.ok(OF_A, A, &response(2, 42, 40), B);
}

#[test]
fn both_may_move_at_once() {
    let other_port = "2.2.2.2:80";
    let mut bench = Bench::bound();
    bench.pass(31);
    // A's may go where B was; B's finds A's new place, and its answer comes back.
    bench.ok(OF_A, ELSEWHERE, &initiation(2, 30), B);
    bench.ok(OF_B, other_port, &initiation(1, 50), ELSEWHERE);
    bench.ok(OF_A, ELSEWHERE, &response(2, 33, 50), other_port);
    bench.ok(OF_B, other_port, &data(33), ELSEWHERE);
    bench.ok(OF_A, ELSEWHERE, &data(50), other_port);
}

#[test]
fn who_moved_without_knowing_is_asked_where_it_is() {
    let mut bench = Bench::bound();
    let keepalive = |index| indexed(4, 32, index);
    // A's NAT has another port for it now, and it sends nothing but keepalives.
    for _ in 0..5 {
        bench.pass(7);
        bench.ok(OF_B, B, &data(11), A);
        assert_eq!(bench.send(OF_A, ELSEWHERE, &keepalive(20)), Err(Drop::RelaySource));
        assert_eq!(bench.send(OF_A, "6.6.6.6:6", &keepalive(21)), Err(Drop::RelaySource));
        assert_eq!(bench.send(OF_A, "5.5.5.5:9", &keepalive(20)), Err(Drop::RelaySource));
    }
    bench.ok(OF_B, B, &initiation(1, 50), ELSEWHERE);
    bench.ok(OF_A, ELSEWHERE, &response(2, 51, 50), B);
    bench.ok(OF_B, B, &data(51), ELSEWHERE);
    bench.ok(OF_A, ELSEWHERE, &data(50), B);
}

#[test]
fn another_port_of_a_proven_address_is_asked_after_one_keepalive() {
    let mut bench = Bench::bound();
    bench.pass(31);
    assert_eq!(bench.send(OF_A, "1.1.1.1:9999", &indexed(4, 32, 20)), Err(Drop::RelaySource));
    bench.ok(OF_B, B, &initiation(1, 50), "1.1.1.1:9999");
    bench.ok(OF_A, "1.1.1.1:9999", &bare(response(2, 51, 50)), B);
    bench.ok(OF_B, B, &data(51), "1.1.1.1:9999");
}

#[test]
fn an_initiation_goes_to_one_address() {
    let mut bench = Bench::new();
    assert!(bench.send(OF_A, A, &initiation(2, 10)).is_err());
    assert!(bench.send(OF_A, ELSEWHERE, &initiation(2, 11)).is_err());
    bench.ok(OF_B, B, &initiation(1, 20), ELSEWHERE);
    // Who answers for another one does not know the index, or is not believed.
    assert_eq!(bench.send(OF_A, A, &response(2, 12, 20)), Err(Drop::RelaySource));
    // The next goes to the other, and so on.
    bench.ok(OF_B, B, &initiation(1, 21), A);
    bench.ok(OF_B, B, &initiation(1, 22), ELSEWHERE);
    bench.pass(60);
    assert_eq!(bench.send(OF_B, B, &initiation(1, 23)), Err(Drop::RelayUnbound), "they are gone");
}

#[test]
fn forbidden_addresses_are_nobodys() {
    let mut bench = Bench::bound();
    bench.pass(31);
    assert_eq!(bench.send(OF_A, "3.3.3.3:9", &initiation(2, 30)), Err(Drop::RelayTarget));
    assert_eq!(bench.send(OF_B, B, &initiation(1, 31)), Ok(A.to_owned()));
}

#[test]
fn what_has_not_wireguards_shape_is_dropped() {
    let mut bench = Bench::bound();
    for message in [&[4, 0, 0, 0][..], &[0; 100], &[5; 60], &[1; 148], &indexed(2, 93, 1)] {
        assert_eq!(bench.send(OF_A, A, message), Err(Drop::RelayShape));
    }
    let mut bad = initiation(2, 3);
    bad[120] ^= 1;
    assert_eq!(bench.send(OF_A, A, &bad), Err(Drop::BadMac1));
}

#[test]
fn a_peer_pays_for_all_its_legs() {
    let peer = Budget { bits_per_s: Some(8000), burst_bytes: 70_000 };
    let mut bench = Bench::with(Config { peer, ..config() });
    bench.stock.put_back(bench.now, &kept(&bench, Some(A), Some(B)), |_| true);
    open_all(&mut bench.stock);
    let run = data(1);
    let through = (0..1000).filter(|_| bench.send(OF_A, A, &run).is_ok()).count();
    assert_eq!(through, 140);
    assert_eq!(bench.send(OF_A, A, &run), Err(Drop::RelayBudget));
    bench.ok(OF_B, B, &run, A);
    bench.pass(1);
    let through = (0..1000).filter(|_| bench.send(OF_A, A, &run).is_ok()).count();
    assert_eq!(through, 2);
}

fn kept(bench: &Bench, a: Option<&str>, b: Option<&str>) -> super::Kept {
    let mut kept = bench.stock.kept(PairId::of(side(1).peer, side(2).peer)).unwrap();
    kept.legs[0].bound = a.map(|it| it.parse().unwrap());
    kept.legs[1].bound = b.map(|it| it.parse().unwrap());
    kept
}

#[test]
fn a_pair_is_taken_back_as_it_was() {
    let bench = Bench::bound();
    let kept = kept(&bench, Some(A), Some(B));
    let mut again = Bench { stock: stock(config(), 8), ..Bench::new() };
    assert!(again.stock.put_back(again.now, &kept, |_| true));
    let ports = [again.stock.take_wish(), again.stock.take_wish()];
    let open = |socket, port| Some(PortWish::Open { socket, port });
    assert_eq!(ports, [open(2, 50_000), open(3, 50_001)]);
    again.ok(OF_A, A, &data(20), B);
    again.ok(OF_B, B, &data(11), A);
    // Nobody else gets these ports.
    let other = again.stock.allocate(again.now, near(1), [present(3), present(4)]).unwrap();
    open_all(&mut again.stock);
    assert_eq!(again.stock.granted(other, &side(3).peer).unwrap().port, 50_002);
    // Out of range, or over.
    let mut small = stock(config(), 8);
    let late = super::Kept { expires: Moment::START, ..kept };
    assert!(!small.put_back(again.now, &late, |_| true));
    let mut small = Stock::new(config(), Ports::new(40_000, 8), || Keyed::new([1, 2]));
    assert!(!small.put_back(again.now, &kept, |_| true));
}

#[test]
fn a_silent_pair_ends_and_traffic_keeps_one() {
    let mut bench = Bench::bound();
    for n in 100..140 {
        bench.pass(170);
        assert_eq!(bench.stock.poll(bench.now), None);
        bench.ok(OF_A, A, &initiation(2, n), B);
        bench.ok(OF_B, B, &response(1, n, n), A);
        bench.ok(OF_A, A, &data(n), B);
        bench.ok(OF_B, B, &data(n), A);
    }
    // Whoever was silent for three minutes may be somebody else by now.
    bench.pass(181);
    assert_eq!(bench.send(OF_A, A, &data(1)), Err(Drop::RelayUnbound));
    while bench.stock.take_change().is_some() {}
    bench.pass(7 * 24 * 3600);
    assert!(bench.stock.next_deadline() <= bench.now);
    assert_eq!(bench.stock.poll(bench.now), Some(CloseReason::Idle));
    assert_eq!(bench.stock.stats().pairs, 0);
    let id = PairId::of(side(1).peer, side(2).peer);
    assert_eq!((bench.stock.take_change(), bench.stock.kept(id)), (Some(id), None));
    let closed = [bench.stock.take_wish(), bench.stock.take_wish()];
    assert_eq!(closed, [2, 3].map(|socket| Some(PortWish::Close { socket })));
    assert_eq!(bench.send(OF_A, A, &data(1)), Err(Drop::RelayChannel));
}

#[test]
fn ports_and_pairs_of_a_peer_are_limited() {
    let now = Moment::START;
    let mut stock = stock(Config { channels_per_peer: 2, ..config() }, 7);
    let id = stock.allocate(now, near(1), [present(1), present(2)]).unwrap();
    assert_eq!(stock.allocate(now, near(1), [present(2), present(1)]), Ok(id));
    assert_eq!(stock.granted(id, &side(1).peer), None, "not open yet");
    assert_eq!(stock.allocate(now, near(1), [present(1), present(1)]), Err(Refused::SamePeer));
    assert!(stock.allocate(now, near(1), [present(1), present(3)]).is_ok());
    assert_eq!(stock.allocate(now, near(1), [present(1), present(4)]), Err(Refused::PeerFull));
    assert!(stock.allocate(now, near(1), [present(5), present(4)]).is_ok());
    assert_eq!(stock.allocate(now, near(1), [present(6), present(7)]), Err(Refused::ChannelsFull));
}

#[test]
fn a_network_gets_no_more_than_its_share_of_the_ports() {
    let now = Moment::START;
    let mut stock = stock(config(), 16);
    let mut ask = |network, n| stock.allocate(now, near(network), [present(n), present(n + 1)]);
    for n in 0..4 {
        assert!(ask(1, 10 + 2 * n).is_ok());
    }
    assert_eq!(ask(1, 20), Err(Refused::ChannelsFull), "half are taken");
    assert!(ask(1, 10).is_ok(), "what it has is no news");
    for n in 0..4 {
        assert!(ask(2 + n, 30 + 2 * n).is_ok());
    }
}

#[test]
fn who_is_silent_for_longest_makes_room() {
    let mut now = Moment::START;
    let mut stock = stock(config(), 4);
    let mut ask = |now, n| stock.allocate(now, near(n), [present(n), present(n + 1)]);
    assert!(ask(now, 10).is_ok());
    now = now + Duration::from_secs(1000);
    assert!(ask(now, 20).is_ok());
    now = now + Duration::from_secs(2599);
    assert_eq!(ask(now, 30), Err(Refused::ChannelsFull), "not for an hour");
    now = now + Duration::from_secs(1);
    assert!(ask(now, 30).is_ok());
    assert_eq!(ask(now, 40), Err(Refused::ChannelsFull));
    assert!(
        stock.has(&side(20).peer, &side(21).peer) && !stock.has(&side(10).peer, &side(11).peer)
    );
}

#[test]
fn strangers_spend_nothing_of_a_peer() {
    let peer = Budget { bits_per_s: Some(8000), burst_bytes: 70_000 };
    let mut bench = Bench::with(Config { peer, ..config() });
    bench.stock.put_back(bench.now, &kept(&bench, Some(A), Some(B)), |_| true);
    open_all(&mut bench.stock);
    for n in 0..200 {
        let _ = bench.send(OF_A, &format!("7.7.{n}.7:7"), &initiation(2, n));
    }
    let through = (0..1000).filter(|_| bench.send(OF_A, A, &data(1)).is_ok()).count();
    assert_eq!(through, 140);
}

#[test]
fn without_its_port_a_pair_ends() {
    let mut stock = stock(config(), 8);
    let id = stock.allocate(Moment::START, near(1), [present(1), present(2)]).unwrap();
    let [first, second] = [stock.take_wish(), stock.take_wish()].map(Option::unwrap);
    stock.served(first, true);
    stock.served(second, false);
    assert_eq!(
        (stock.granted(id, &side(1).peer), stock.has(&side(1).peer, &side(2).peer)),
        (None, false)
    );
    assert_eq!(stock.take_wish(), Some(PortWish::Close { socket: 2 }));
    assert_eq!(stock.take_wish(), None);
}

#[test]
fn another_key_is_another_tunnel() {
    let mut bench = Bench::bound();
    let changed = Side { key: WgKey([9; 32]), ..side(1) };
    assert!(bench.stock.allocate(bench.now, near(1), [(changed, None), present(2)]).is_ok());
    assert_eq!(bench.send(OF_A, A, &data(1)), Err(Drop::RelaySource));
    assert_eq!(bench.send(OF_B, B, &initiation(1, 3)), Err(Drop::BadMac1));
}
