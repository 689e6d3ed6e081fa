use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use rand_core::SeedableRng;

use super::cookie::{REPLY_BYTES, open_reply};
use super::puzzle::{Price, paid, solve};
use super::*;
use crate::net::Address;

const ROUTER: [u8; 32] = [0x42; 32];

/// The parts of an initiation that admission looks at, and clients that can fill them in.
struct Client {
    at: SocketAddr,
    cookie: Option<[u8; 16]>,
    sent: u32,
}

impl Client {
    fn at(addr: &str) -> Self {
        Self { at: addr.parse().unwrap(), cookie: None, sent: 0 }
    }

    fn initiate(&mut self) -> Initiation {
        self.sent += 1;
        let mut out = [0x5a; INITIATION_BYTES];
        out[..4].copy_from_slice(&[1, 0, 0, 0]);
        out[8..12].copy_from_slice(&self.sent.to_le_bytes());
        out[12..30].copy_from_slice(&Address::of(&self.at).0);
        self.authenticate(out)
    }

    fn authenticate(&self, mut out: Initiation) -> Initiation {
        let mac1 = cookie::mac(&cookie::mac1_key(&ROUTER), &out[..MAC1_AT]);
        out[MAC1_AT..MAC2_AT].copy_from_slice(&mac1);
        let mac2 = self.cookie.map_or([0; 16], |cookie| cookie::mac(&cookie, &out[..MAC2_AT]));
        out[MAC2_AT..].copy_from_slice(&mac2);
        out
    }

    /// Is refused, and takes the cookie.
    fn take_cookie(&mut self, door: &mut Door) -> Option<Price> {
        let initiation = self.initiate();
        let reply = door.admission.reply(door.now, &self.at, &initiation);
        let (cookie, price) = open_reply(&ROUTER, &initiation, &reply).expect("genuine");
        self.cookie = Some(cookie);
        price
    }
}

struct Door {
    admission: Admission,
    now: Now,
}

impl Door {
    fn new(config: Config) -> Self {
        Self::of_shard(config, 1, [7; 32])
    }

    fn of_shard(config: Config, seed: u64, node_secret: [u8; 32]) -> Self {
        let rng = ChaCha12Rng::seed_from_u64(seed);
        let admission = Admission::new(config, &ROUTER, node_secret, rng);
        let at = Moment::START + Duration::from_secs(100);
        Self { admission, now: Now { at, unix_ms: 29_000_000 * 60_000 + 1 } }
    }

    fn knock(&mut self, client: &mut Client, known: bool) -> Verdict {
        let initiation = client.initiate();
        self.judge(client, known, &initiation)
    }

    fn judge(&mut self, client: &Client, known: bool, initiation: &Initiation) -> Verdict {
        self.now.at = self.now.at + Duration::from_nanos(1);
        self.admission.judge(self.now, &client.at, known, initiation)
    }

    fn pass(&mut self, time: Duration) {
        self.now.at = self.now.at + time;
        self.now.unix_ms += u64::try_from(time.as_millis()).unwrap();
    }
}

fn small() -> Config {
    Config { table_entries: 1024, ..Config::default() }
}

#[test]
fn the_reply_carries_price_epoch_and_mark() {
    let mut door = Door::new(small());
    let mut client = Client::at("192.0.2.1:1000");
    let initiation = client.initiate();
    let reply = door.admission.reply(door.now, &client.at, &initiation);
    assert_eq!(reply[..4], [3, 0, 0, 0]);
    assert_eq!(reply[4..8], initiation[4..8]);
    assert_eq!(reply[8], 0, "no price is written as 0");
    assert_eq!(reply[9..13], 29_000_000_u32.to_le_bytes());
    assert_eq!(&reply[13..16], b"MOL");
    let again = door.admission.reply(door.now, &client.at, &initiation);
    assert_ne!(reply[16..32], again[16..32], "a nonce is used once");
    // Bound to the initiation it answers, and authentic as a whole.
    assert!(open_reply(&ROUTER, &initiation, &reply).is_some());
    assert!(open_reply(&ROUTER, &client.initiate(), &reply).is_none());
    for byte in 0..REPLY_BYTES {
        let mut forged = reply;
        forged[byte] ^= 1;
        assert!(open_reply(&ROUTER, &initiation, &forged).is_none(), "byte {byte}");
    }
}

#[test]
fn prices_need_the_mark() {
    let price = Price { difficulty_bits: 17, epoch: 0x0102_0304 };
    assert_eq!(price.encode(), [17, 4, 3, 2, 1, b'M', b'O', b'L']);
    assert_eq!(Price::decode(&price.encode()), Some(price));
    assert_eq!(Price::decode(&[17, 4, 3, 2, 1, b'M', b'O', b'l']), None);
}

#[test]
fn shards_accept_each_others_cookies() {
    let strict = Config { cookie_threshold_pps: 0, ..small() };
    let mut doors: Vec<_> = [(1, [7; 32]), (2, [7; 32]), (3, [8; 32])]
        .map(|(seed, secret)| Door::of_shard(strict, seed, secret))
        .into();
    let mut client = Client::at("[2001:db8::1]:1000");
    client.take_cookie(&mut doors[0]);
    assert_eq!(doors[1].knock(&mut client, false), Verdict::Pass(Standing::Shown));
    assert_eq!(doors[2].knock(&mut client, false), Verdict::Cookie(Drop::NoCookie));
}

#[test]
fn cookies_last_their_epoch_and_the_next() {
    let mut door = Door::new(Config { cookie_threshold_pps: 0, ..small() });
    let mut client = Client::at("192.0.2.1:1000");
    client.take_cookie(&mut door);
    for (pause_s, verdict) in [
        (59, Verdict::Pass(Standing::Shown)),
        (60, Verdict::Pass(Standing::Shown)),
        (1, Verdict::Cookie(Drop::NoCookie)),
    ] {
        door.pass(Duration::from_secs(pause_s));
        assert_eq!(door.knock(&mut client, false), verdict);
    }
}

#[test]
fn the_price_is_paid_by_grinding_the_index() {
    let bits = 9;
    let strict = Config { cookie_threshold_pps: 0, difficulty_bits: bits, ..small() };
    let mut door = Door::new(strict);
    let mut client = Client::at("192.0.2.1:1000");
    assert_eq!(client.take_cookie(&mut door).unwrap().difficulty_bits, bits);
    let cookie = client.cookie.unwrap();
    let mut initiation = client.initiate();
    let ephemeral = *initiation[8..].first_chunk().unwrap();
    let index = solve(&ephemeral, &cookie, bits, 0, 1 << 16).expect("about one in 512 pays");
    assert_eq!(solve(&ephemeral, &cookie, bits, 0, index), None, "the first that pays");
    initiation[4..8].copy_from_slice(&index.wrapping_sub(1).to_le_bytes());
    let unpaid = client.authenticate(initiation);
    assert!(!paid(&unpaid, &cookie, bits) && paid(&unpaid, &cookie, 0));
    assert_eq!(door.judge(&client, false, &unpaid), Verdict::Cookie(Drop::NoCookie));
    initiation[4..8].copy_from_slice(&index.to_le_bytes());
    let solved = client.authenticate(initiation);
    assert!(paid(&solved, &cookie, bits));
    assert_eq!(door.judge(&client, false, &solved), Verdict::Pass(Standing::Shown));
    assert!(!paid(&solved, &[0; 16], bits), "a solution fits one cookie");
}

#[test]
fn forgers_cannot_lock_an_address_out() {
    let mut door = Door::new(small());
    let mut victim = Client::at("192.0.2.1:1000");
    let mut forger = Client::at("192.0.2.1:1000");
    forger.sent = 1 << 20;
    // Strangers, then forged packets of a known address: both buckets run dry and ask for the cookie.
    for (known, standing) in [(false, Standing::Stranger), (true, Standing::Known)] {
        for _ in 0..5 {
            assert_eq!(door.knock(&mut forger, known), Verdict::Pass(standing));
        }
        assert_eq!(door.knock(&mut forger, known), Verdict::Cookie(Drop::AddressRate));
    }
    victim.take_cookie(&mut door);
    for _ in 0..5 {
        assert_eq!(door.knock(&mut victim, true), Verdict::Pass(Standing::Shown));
    }
    assert_eq!(door.knock(&mut victim, true), Verdict::Dropped(Drop::AddressRate));
    door.pass(Duration::from_millis(50));
    assert_eq!(door.knock(&mut victim, true), Verdict::Pass(Standing::Shown));
    assert_eq!(door.knock(&mut victim, true), Verdict::Dropped(Drop::AddressRate));
}

#[test]
fn addresses_and_networks_have_buckets_of_their_own() {
    let few = Config { prefix: Rate::new(1, 20), ..small() };
    // Two sockets of one address, three more addresses of its network and one elsewhere.
    let families = [
        (
            ["192.0.2.1:1", "192.0.2.1:2"],
            ["192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"],
            "192.0.3.1:1",
        ),
        (
            ["[2001:db8:1:1::1]:1", "[2001:db8:1:1:ffff::2]:1"],
            ["[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1", "[2001:db8:1:ffff::1]:1"],
            "[2001:db8:2:1::1]:1",
        ),
    ];
    for (address, network, elsewhere) in families {
        let mut door = Door::new(few);
        let mut passed = |addr: &str| {
            let mut client = Client::at(addr);
            (0..20).filter(|_| matches!(door.knock(&mut client, false), Verdict::Pass(_))).count()
        };
        assert_eq!(address.map(&mut passed), [5, 0]);
        assert_eq!(network.map(&mut passed), [5, 5, 5]);
        let last = network[0].replace("2::", "4::").replace("2.2:", "2.5:");
        assert_eq!(passed(&last), 0, "the network's twenty are spent");
        assert_eq!(passed(elsewhere), 5);
    }
}

#[test]
fn a_turn_looks_at_so_many() {
    let mut door = Door::new(Config { initiations_per_turn: 3, ..small() });
    let mut client = Client::at("192.0.2.1:1000");
    let mut in_turn = |door: &mut Door| {
        let initiation = client.initiate();
        door.admission.judge(door.now, &client.at, false, &initiation)
    };
    for _ in 0..3 {
        assert_eq!(in_turn(&mut door), Verdict::Pass(Standing::Stranger));
    }
    assert_eq!(in_turn(&mut door), Verdict::Dropped(Drop::PacketBudget));
    door.pass(Duration::from_micros(10));
    assert_eq!(in_turn(&mut door), Verdict::Pass(Standing::Stranger));
}

#[test]
fn load_begins_at_once_and_ends_after_a_quiet_second() {
    let mut door = Door::new(Config { cookie_threshold_pps: 10, ..small() });
    let knock = |door: &mut Door, n: u16| {
        let mut stranger = Client::at("192.0.2.1:1");
        stranger.at = SocketAddr::from(([198, 51, 100, n.to_le_bytes()[0]], n + 1));
        door.knock(&mut stranger, false)
    };
    for n in 0..10 {
        assert_eq!(knock(&mut door, n), Verdict::Pass(Standing::Stranger));
    }
    assert!(!door.admission.under_load(door.now.at));
    assert_eq!(knock(&mut door, 10), Verdict::Cookie(Drop::NoCookie));
    assert!(door.admission.under_load(door.now.at));
    // Who has shown a cookie or is known does not count, and is not asked.
    let mut known = Client::at("203.0.113.1:1");
    assert_eq!(door.knock(&mut known, true), Verdict::Pass(Standing::Known));
    known.take_cookie(&mut door);
    assert_eq!(door.knock(&mut known, false), Verdict::Pass(Standing::Shown));
    door.pass(Duration::from_millis(1500));
    assert_eq!(knock(&mut door, 11), Verdict::Cookie(Drop::NoCookie), "the last second was full");
    door.pass(Duration::from_secs(1));
    assert_eq!(knock(&mut door, 12), Verdict::Pass(Standing::Stranger));
    door.pass(Duration::from_secs(60));
    assert!(!door.admission.under_load(door.now.at));
}

#[test]
fn limits_change_while_running() {
    let mut door = Door::new(small());
    let mut client = Client::at("192.0.2.1:1000");
    assert_eq!(door.knock(&mut client, false), Verdict::Pass(Standing::Stranger));
    door.admission.configure(Config { cookie_threshold_pps: 0, ..small() });
    assert_eq!(door.knock(&mut client, false), Verdict::Cookie(Drop::NoCookie));
}

proptest! {
    /// No initiation that was not remembered is ever taken for a repeat, and the last ones of a set always are.
    #[test]
    fn the_memory_of_repeats_never_errs(picks in prop::collection::vec(0_u32..64, 1..300)) {
        let mut replays = Replays::new(4, Keyed::new([3, 4]));
        let mut newest: VecDeque<u32> = VecDeque::new();
        let mut ever = [false; 64];
        let identity = |n: u32| [n.to_le_bytes(); 9].concat();
        for pick in picks {
            let seen = replays.seen(&identity(pick));
            prop_assert!(!seen || ever[pick as usize]);
            prop_assert_eq!(seen, newest.contains(&pick));
            if !seen {
                replays.remember(&identity(pick));
                ever[pick as usize] = true;
                newest.push_front(pick);
                newest.truncate(4);
            }
        }
    }

    /// Whatever the bytes, a datagram without a valid mac1 gets nothing at all.
    #[test]
    fn garbage_gets_nothing(bytes in prop::collection::vec(any::<u8>(), INITIATION_BYTES)) {
        let mut door = Door::new(Config { cookie_threshold_pps: 0, ..small() });
        let client = Client::at("192.0.2.1:1000");
        let mut garbage = [0; INITIATION_BYTES];
        garbage.copy_from_slice(&bytes);
        prop_assert_eq!(door.judge(&client, true, &garbage), Verdict::Dropped(Drop::BadMac1));
    }
}

#[test]
fn a_cookie_is_of_use_where_it_was_sent_for() {
    use super::cookie::{Cookies, Place, cookie_key};
    let (mut cookies, mut client) = (Cookies::new([1; 32]), Client::at("192.0.2.1:1000"));
    let (now, initiation) = (Door::new(small()).now, client.initiate());
    let (here, key) = (Place::Port(1, 7), cookie_key(&ROUTER));
    let mut rng = ChaCha12Rng::from_seed([3; 32]);
    let reply = cookies.reply(now, (&client.at, here), &initiation, &key, 0, &mut rng).unwrap();
    client.cookie = open_reply(&ROUTER, &initiation, &reply).map(|(cookie, _)| cookie);
    let initiation = client.initiate();
    let mut shown = |at| cookies.shown(now, &client.at, at, &initiation).is_some();
    assert!(shown(here));
    assert!(![Place::Router, Place::Port(1, 8), Place::Port(2, 7)].into_iter().any(shown));
    assert!(cookies.reply(now, (&client.at, here), &[1; 31], &key, 0, &mut rng).is_none());
}
