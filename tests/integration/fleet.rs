//! Many clients with keys and sockets of their own, all driven by the one thread of a test.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use molia_router::client::peer::{DATAGRAM_BYTES_MAX, Event, Peer};
use molia_router::client::requests::{Answer, Requests};
use molia_router::client::session::{Config, Session};
use molia_router::client::wireguard::WireGuard;
use molia_router::clock::Clock;
use molia_router::drops::Drop;
use molia_router::identity::Identity;
use molia_router::ids::{PeerId, WgKey};
use molia_router::time::{Moment, Now};
use molia_router::wire::body::{FindNodeReq, FindNodeResp, NegotiateReq, Ping};
use molia_router::wire::body::{ReflectReq, ReflectResp};
use molia_router::wire::kind::Kind;
use molia_router::wire::multiaddr;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use super::server::{PATIENCE, Server, identity};

/// Between two looks at all sockets when nothing came.
const PAUSE: Duration = Duration::from_micros(300);
/// First byte of a WireGuard data message.
const DATA: u8 = 4;

/// What a member asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Ping,
    Negotiate,
    FindNode(PeerId),
    Reflect,
}

/// What became of a member's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    /// Sent twice and not answered.
    pub(crate) lost: u64,
    /// Answers that came after the request was sent again or given up: nothing was lost, but the
    /// machine was busy elsewhere.
    pub(crate) late: u64,
    pub(crate) handshakes: u64,
    /// Data messages that went to the router.
    pub(crate) data: u64,
}

/// One client.
pub(crate) struct Member {
    pub(crate) identity: Identity,
    /// The shard that holds its session.
    pub(crate) home: u16,
    /// The shard that lists it.
    pub(crate) owner: u16,
    pub(crate) tally: Tally,
    /// Whom the last answer to FIND_NODE lists.
    pub(crate) found: Vec<PeerId>,
    /// Asks for something so long after each answer.
    pub(crate) pace: Option<Duration>,
    /// Requests in a row that were not answered.
    pub(crate) unheard: u64,
    router: (SocketAddr, WgKey),
    socket: UdpSocket,
    peer: Peer<WireGuard>,
    rng: ChaCha12Rng,
    next_ask: Moment,
    /// How far its clock is ahead of the router's.
    ahead: Duration,
}

impl Member {
    /// A client that reaches the router at `host` and has not said anything yet.
    pub(crate) fn new(server: &Server, host: IpAddr, seed: u64) -> Self {
        let identity = identity(seed);
        let router = (SocketAddr::new(host, server.link.port), server.link.key);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        Self {
            home: server.partition.home(&identity.wg_key()),
            owner: server.partition.owner(&identity.peer_id().0),
            tally: Tally::default(),
            found: Vec::new(),
            pace: None,
            unheard: 0,
            router,
            socket: socket(router.0),
            peer: peer(&identity, router, &mut rng),
            identity,
            rng,
            next_ask: Moment::START,
            ahead: Duration::ZERO,
        }
    }

    pub(crate) fn ask(&mut self, ask: Ask) {
        self.tally.asked += 1;
        let unix_ms = Clock::start().now().unix_ms;
        let sent = match ask {
            Ask::Ping => {
                let ping = Ping { now_unix_ms: unix_ms, ..Ping::default() };
                self.peer.request(Kind::Ping, |body| ping.write(body))
            }
            Ask::Negotiate => {
                let binding = Some(self.identity.binding(0, u64::from(u32::MAX)));
                let request = NegotiateReq { binding, ..NegotiateReq::default() };
                self.peer.request(Kind::NegotiateReq, |body| request.write(body))
            }
            Ask::FindNode(target_id) => {
                self.found.clear();
                let request = FindNodeReq { target_id, limit: 8 };
                self.peer.request(Kind::FindNodeReq, |body| request.write(body))
            }
            Ask::Reflect => {
                let request = ReflectReq { nonce: self.rng.next_u64(), ..ReflectReq::default() };
                self.peer.request(Kind::ReflectReq, |body| request.write(body))
            }
        };
        sent.unwrap();
    }

    /// Goes on from another port, as behind a NAT that forgot.
    pub(crate) fn move_away(&mut self) {
        self.socket = socket(self.router.0);
    }

    /// Forgets its session and shakes hands anew, as after a restart.
    pub(crate) fn start_over(&mut self) {
        self.peer = peer(&self.identity, self.router, &mut self.rng);
        self.unheard = 0;
    }

    /// Lets its clock jump: keys and timers are older than they were. Not in the middle of a handshake,
    /// whose patience would be over.
    pub(crate) fn age(&mut self, by: Duration) {
        if !self.peer.session().is_connecting() {
            self.ahead += by;
        }
    }

    /// Whether nothing is under way: no request, no handshake.
    pub(crate) fn is_quiet(&self) -> bool {
        self.peer.requests().is_empty() && !self.peer.session().is_connecting()
    }

    fn now(&self, clock: &Clock) -> Now {
        let now = clock.now();
        Now { at: now.at + self.ahead, ..now }
    }

    /// Sends what is due and takes what came; whether there was anything.
    pub(crate) fn step(&mut self, clock: &Clock) -> bool {
        let now = self.now(clock);
        let mut busy = self.send(now.at);
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        while let Ok(len) = self.socket.recv(&mut datagram) {
            busy = true;
            self.peer.receive(now, &datagram[..len]);
        }
        while let Some(event) = self.peer.poll_event() {
            self.note(now.at, event);
        }
        if let Some(pace) = self.pace
            && self.is_quiet()
            && now.at >= self.next_ask
        {
            self.next_ask = now.at + pace;
            let ask = match self.rng.next_u32() % 3 {
                0 => Ask::Ping,
                1 => Ask::FindNode(self.identity.peer_id()),
                _ => Ask::Reflect,
            };
            self.ask(ask);
        }
        busy | self.send(now.at)
    }

    fn send(&mut self, now: Moment) -> bool {
        let mut busy = false;
        while let Some(datagram) = self.peer.poll_transmit(now) {
            busy = true;
            self.tally.data += u64::from(datagram[0] == DATA);
            // What the kernel does not take is as good as lost; it takes all on loopback.
            let _ = self.socket.send(&datagram);
        }
        busy
    }

    fn note(&mut self, now: Moment, event: Event) {
        match event {
            Event::Established => self.tally.handshakes += 1,
            Event::Answer(answer) => {
                self.tally.answered += 1;
                self.unheard = 0;
                self.next_ask = now + self.pace.unwrap_or_default();
                self.check(&answer);
            }
            Event::TimedOut(_) => {
                self.tally.lost += 1;
                self.unheard += 1;
            }
            Event::Dropped(Drop::UnknownCorrelation) => self.tally.late += 1,
            Event::Pinged | Event::Asked { .. } | Event::Dropped(_) => {}
            Event::Unanswered(_) | Event::Price(_) | Event::Goaway { .. } => {
                panic!("no router of a test says or does that: {event:?}")
            }
        }
    }

    fn check(&mut self, answer: &Answer) {
        assert!(answer.refusal().is_none(), "{:?}", answer.refusal());
        if answer.kind == Kind::FindNodeResp {
            let found = FindNodeResp::read(&answer.bodies[0]).unwrap();
            self.found = found.peers.iter().map(|peer| peer.peer_id).collect();
        }
        // What was sent twice may have been sent from two ports.
        if answer.kind == Kind::ReflectResp && answer.sends == 1 {
            let reflected = ReflectResp::read(&answer.bodies[0]).unwrap();
            let here = self.socket.local_addr().unwrap();
            assert_eq!(multiaddr::decode(reflected.observed).unwrap(), here);
        }
    }
}

fn peer(
    identity: &Identity,
    router: (SocketAddr, WgKey),
    rng: &mut ChaCha12Rng,
) -> Peer<WireGuard> {
    let fork = |rng: &mut ChaCha12Rng| ChaCha12Rng::seed_from_u64(rng.next_u64());
    let initiator = WireGuard::new(identity.wg_secret().clone(), router.1);
    let session = Session::new(initiator, Config::default(), fork(rng));
    Peer::new(session, Requests::new(fork(rng)), router.0)
}

fn socket(router: SocketAddr) -> UdpSocket {
    let any = if router.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.connect(router).unwrap();
    socket
}

/// Clients of one router.
pub(crate) struct Fleet {
    pub(crate) clock: Clock,
    pub(crate) members: Vec<Member>,
}

impl Fleet {
    /// So many, by turns at the router's `hosts`. Their identities follow from `seed`.
    pub(crate) fn new(server: &Server, hosts: &[&str], count: u64, seed: u64) -> Self {
        let hosts = hosts.iter().map(|host| host.parse().unwrap()).cycle();
        let members = (seed..seed + count).zip(hosts);
        let members = members.map(|(seed, host)| Member::new(server, host, seed)).collect();
        Self { clock: Clock::start(), members }
    }

    /// As [`new`](Self::new); all have shaken hands and shown who they are.
    pub(crate) fn connected(server: &Server, hosts: &[&str], count: u64, seed: u64) -> Self {
        let mut fleet = Self::new(server, hosts, count, seed);
        fleet.ask_all(|_| Ask::Negotiate);
        fleet
    }

    /// How many have their home in each shard.
    pub(crate) fn homes(&self, server: &Server) -> Vec<u64> {
        self.by_home(server, |_| 1)
    }

    /// The sum of something by home.
    pub(crate) fn by_home(&self, server: &Server, what: impl Fn(&Member) -> u64) -> Vec<u64> {
        let of = |home| self.members.iter().filter(move |member| member.home == home);
        server.numbers().map(|home| of(home).map(&what).sum()).collect()
    }

    /// The sum of something.
    pub(crate) fn sum(&self, what: impl Fn(&Tally) -> u64) -> u64 {
        self.members.iter().map(|member| what(&member.tally)).sum()
    }

    /// Lets everybody ask until all are answered; more than once only who was not heard for long.
    pub(crate) fn ask_all(&mut self, ask: impl Fn(&Member) -> Ask) {
        let everybody: Vec<_> = (0..self.members.len()).collect();
        self.ask_some(&everybody, ask);
    }

    fn ask_some(&mut self, some: &[usize], ask: impl Fn(&Member) -> Ask) {
        let answered = |member: &Member| member.tally.answered;
        let before: Vec<_> = self.members.iter().map(answered).collect();
        let end = self.clock.moment() + PATIENCE;
        loop {
            let unheard = |at: &&usize| answered(&self.members[**at]) == before[**at];
            let left: Vec<_> = some.iter().filter(unheard).copied().collect();
            if left.is_empty() {
                return;
            }
            assert!(self.clock.moment() < end, "{} members are not answered", left.len());
            for at in left {
                let member = &mut self.members[at];
                member.ask(ask(member));
            }
            self.go_on_until("requests come to an end", Member::is_quiet);
        }
    }

    /// Lets all go on until each is `done`.
    pub(crate) fn go_on_until(&mut self, what: &str, mut done: impl FnMut(&Member) -> bool) {
        let end = self.clock.moment() + PATIENCE;
        loop {
            let busy = self.step();
            let left = self.members.iter().filter(|member| !done(member));
            let left: Vec<_> = left.map(|member| (member.home, member.tally)).collect();
            if left.is_empty() {
                return;
            }
            assert!(self.clock.moment() < end, "{what}: not for {left:?}");
            pause(busy);
        }
    }

    /// Lets all go on for a while; `each` is called after every round.
    pub(crate) fn go_on(&mut self, span: Duration, mut each: impl FnMut(&mut Self)) {
        let end = self.clock.moment() + span;
        while self.clock.moment() < end {
            let busy = self.step();
            each(self);
            pause(busy);
        }
    }

    fn step(&mut self) -> bool {
        let clock = &self.clock;
        self.members.iter_mut().fold(false, |busy, member| busy | member.step(clock))
    }

    /// Waits until every member is found by clients of all shards: one from each home.
    pub(crate) fn find_each_other(&mut self, server: &Server) {
        let finders: Vec<usize> = server
            .numbers()
            .map(|home| self.members.iter().position(|member| member.home == home).unwrap())
            .collect();
        for wanted in 0..self.members.len() {
            let Member { home, owner, ref identity, .. } = self.members[wanted];
            let what = format!("a peer of home {home} and owner {owner} is found by all");
            self.look_up(&finders, identity.peer_id(), &what, |found| found);
        }
    }

    /// Lets one client of each home look for `id` until each finds what is `right`.
    pub(crate) fn look_up(
        &mut self,
        finders: &[usize],
        id: PeerId,
        what: &str,
        right: impl Fn(bool) -> bool,
    ) {
        let end = self.clock.moment() + PATIENCE;
        loop {
            self.ask_some(finders, |_| Ask::FindNode(id));
            if finders.iter().all(|&at| right(self.members[at].found.contains(&id))) {
                return;
            }
            assert!(self.clock.moment() < end, "not so: {what}");
        }
    }
}

fn pause(busy: bool) {
    if !busy {
        thread::park_timeout(PAUSE);
    }
}
