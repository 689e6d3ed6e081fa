//! An honest client: the client library over `Plain`, what it asks, and whether the answers are right.

mod pairs;
mod writes;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;

use molia_router::client::peer::{self, Peer, Raw};
use molia_router::client::requests::{Answer, Correlation};
use molia_router::identity::{self, Identity};
use molia_router::ids::{Key, PeerId, WgKey};
use molia_router::time::{Moment, Now};
use molia_router::wire::body::{
    Capabilities, FindNodeReq, IdentityBinding, NegotiateReq, Ping, ReflectReq, feature,
};
use molia_router::wire::{Class, Code, Flags, Header, Kind, channel, multiaddr, proto};
use prost::Message;

use super::dice::Dice;
use super::hostile::Hostile;
use super::keep::Keep;
use super::plain::PlainInitiator;
use super::scenario::Link;
use super::verdict::{Oracle, Violation, ensure};

pub(crate) use pairs::{Other, consent, encoded};
use pairs::{Pairs, Wish, connection};
use writes::{About, Said};

/// Seconds of validity around the world's time: nobody's binding runs out.
const BINDING_S: u64 = 30 * 86_400;

/// Before a binding's end there is a new one, mostly.
const RENEWAL_S: u64 = 50;

/// The router as its clients know it.
#[derive(Clone, Debug)]
pub(crate) struct RouterFacts {
    pub(crate) peer_id: PeerId,
    pub(crate) key: WgKey,
    /// One per address family.
    pub(crate) addrs: [SocketAddr; 2],
}

impl RouterFacts {
    /// Where a client at `from` sends to.
    pub(crate) fn addr_for(&self, from: &SocketAddr) -> SocketAddr {
        self.addrs[usize::from(from.is_ipv6())]
    }
}

/// A client to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    pub(crate) number: usize,
    pub(crate) at: SocketAddr,
    pub(crate) link: Link,
    /// How long what it signs is valid; `None` for longer than the world lasts.
    pub(crate) life_s: Option<u64>,
    /// How values are kept, if it has any.
    pub(crate) keep: Option<Keep>,
}

/// A question under way.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Ping {
        token: u64,
        unix_ms: u64,
    },
    /// With a binding that ends then.
    Negotiate {
        ends_s: u64,
    },
    Find(FindNodeReq),
    Reflect {
        nonce: u64,
    },
    About(About),
    Pair(Wish),
}

/// Something good that happened.
#[derive(Clone, Debug)]
pub(crate) enum Got {
    Pong,
    Negotiated,
    Reflected,
    Found(FindNodeReq, Vec<proto::Peer>),
    /// What became of a value that it asked to keep at `since`.
    Written {
        key: Key,
        sequence: u64,
        since: Moment,
        kept: bool,
        stale: bool,
    },
    /// What is kept under a key, in wire form.
    Looked {
        key: Key,
        since: Moment,
        record: Option<Vec<u8>>,
        providers: Vec<Vec<u8>>,
    },
}

/// One client through all its lives.
pub(crate) struct Honest {
    pub(crate) number: usize,
    pub(crate) wg_key: WgKey,
    pub(crate) peer_id: PeerId,
    pub(crate) link: Link,
    /// Reachable, and able to reach.
    pub(crate) online: bool,
    /// The router said so since the last handshake.
    pub(crate) negotiated: bool,
    /// What came back in the last round.
    pub(crate) last_pong: bool,
    pub(crate) last_found: bool,
    /// Where it was since when.
    addrs: Vec<(Moment, SocketAddr)>,
    identity: Identity,
    binding: IdentityBinding,
    life_s: Option<u64>,
    /// A binding of the router's that was checked already.
    checked: Option<[u8; 64]>,
    router: RouterFacts,
    peer: Peer<PlainInitiator>,
    asked: BTreeMap<u32, (Moment, Ask)>,
    pub(crate) said: Said,
    pub(crate) pairs: Pairs,
    /// Everybody is polite now.
    last_round: bool,
    wants_chunks: bool,
    clock: Rc<Cell<u64>>,
    lives: u32,
    dice: Dice,
}

impl Honest {
    pub(crate) fn new(
        who: Who,
        now: Now,
        router: RouterFacts,
        clock: Rc<Cell<u64>>,
        mut dice: Dice,
    ) -> Self {
        let Who { number, at, link, life_s, keep } = who;
        let identity = Identity::generate(&mut dice.rng());
        let binding = signed(&identity, now, life_s);
        let wg_key = identity.wg_key();
        let (peer, side) = connection(number, 0, wg_key, &router, at, &clock, &mut dice);
        Self {
            number,
            wg_key,
            peer_id: identity.peer_id(),
            link,
            online: true,
            negotiated: false,
            last_pong: false,
            last_found: false,
            addrs: vec![(Moment::START, at)],
            identity,
            binding,
            life_s,
            checked: None,
            router,
            peer,
            asked: BTreeMap::new(),
            said: Said::new(keep),
            pairs: Pairs::new(&wg_key, side),
            last_round: false,
            wants_chunks: dice.permille(700),
            clock,
            lives: 0,
            dice,
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addrs.last().expect("it is somewhere").1
    }

    /// Whether it ever was at `addr`.
    pub(crate) fn was_at(&self, addr: &SocketAddr) -> bool {
        self.addrs.iter().any(|(_, at)| at == addr)
    }

    pub(crate) fn established(&self, now: Moment) -> bool {
        self.peer.session().is_established(now)
    }

    pub(crate) fn first_addr(&self) -> SocketAddr {
        self.addrs.first().expect("it is somewhere").1
    }

    /// Its NAT gives it another address.
    pub(crate) fn rebind(&mut self, now: Moment, addr: SocketAddr) {
        self.addrs.push((now, addr));
    }

    /// Begins a new life: keys and questions are forgotten, the identity is not.
    pub(crate) fn restart(&mut self) {
        self.lives += 1;
        let at = self.addr();
        let (key, lives) = (self.wg_key, self.lives);
        let (peer, side) =
            connection(self.number, lives, key, &self.router, at, &self.clock, &mut self.dice);
        self.peer = peer;
        self.pairs.restart(side);
        self.asked.clear();
        self.negotiated = false;
    }

    /// When the last identity that it showed ends.
    pub(crate) fn identity_ends_s(&self) -> u64 {
        self.binding.not_after_unix_s
    }

    /// Asks something at random.
    pub(crate) fn ask(&mut self, now: Now) {
        // Half of the mortal forget it.
        if self.number.is_multiple_of(2) && self.renew(now) {
            return self.negotiate(now);
        }
        match self.dice.below(10) {
            0..=2 => self.ping(now),
            3..=5 => self.find(now),
            6 => self.reflect(now),
            7 => self.negotiate(now),
            8 => self.find_lowly(now),
            _ => self.hint(),
        }
    }

    /// Asks what the end of the world is judged by.
    pub(crate) fn ask_last(&mut self, now: Now) {
        if !self.negotiated {
            self.negotiate(now);
        }
        if !self.last_pong {
            self.ping(now);
        }
        if !self.last_found {
            self.find(now);
        }
    }

    /// What came before does not count.
    pub(crate) fn begin_last_round(&mut self) {
        self.negotiated = false;
        self.last_pong = false;
        self.last_found = false;
        self.said.begin_last_round();
        self.pairs.begin_last_round();
        self.last_round = true;
    }

    pub(crate) fn takes_chunks(&self) -> bool {
        self.wants_chunks
    }

    /// What is to be sent now.
    pub(crate) fn transmit(&mut self, now: Moment) -> Vec<Vec<u8>> {
        self.clock.set(now.as_nanos());
        let sent = std::iter::from_fn(|| self.peer.poll_transmit(now));
        sent.chain(self.pairs.take_out()).collect()
    }

    pub(crate) fn deadline(&self, now: Moment) -> Moment {
        self.peer.next_deadline(now)
    }

    /// Takes a datagram.
    pub(crate) fn receive(&mut self, now: Now, datagram: &[u8]) {
        self.clock.set(now.at.as_nanos());
        if datagram.first() == Some(&channel::TYPE) {
            return self.pairs.carried(datagram);
        }
        self.peer.receive(now, datagram);
        self.take_notices();
    }

    /// What came of everything so far.
    pub(crate) fn events(&mut self, now: Now) -> Result<Vec<Got>, Violation> {
        let mut got = Vec::new();
        while let Some(event) = self.peer.poll_event() {
            match event {
                peer::Event::Established => {
                    self.negotiated = false;
                    self.negotiate(now);
                }
                peer::Event::Unanswered(_) => self.peer.connect(now.at),
                peer::Event::Answer(answer) => got.extend(self.judge(now, &answer)?),
                peer::Event::TimedOut(Correlation(correlation)) => {
                    if let Some((_, Ask::Negotiate { .. })) = self.asked.remove(&correlation) {
                        self.negotiate(now);
                    }
                }
                peer::Event::Price(bits) => {
                    let what = || format!("client {} is asked for {bits} bits", self.number);
                    ensure(false, Oracle::Answers, now.at, what)?;
                }
                peer::Event::Goaway { .. } | peer::Event::Asked { .. } => {}
                peer::Event::Pinged | peer::Event::Dropped(_) => {}
            }
        }
        Ok(got)
    }

    fn note(&mut self, now: Now, correlation: Correlation, ask: Ask) {
        self.asked.insert(correlation.0, (now.at, ask));
    }

    fn ping(&mut self, now: Now) {
        let padding = vec![0; if self.dice.permille(200) { self.dice.below(1100) } else { 0 }];
        let (token, unix_ms) = (self.dice.u64(), now.unix_ms);
        let ping = Ping { now_unix_ms: unix_ms, padding: &padding, token };
        let sent = self.peer.request(Kind::Ping, |out| ping.write(out)).expect("it fits");
        self.note(now, sent, Ask::Ping { token, unix_ms });
    }

    /// Signs a new binding if the last one has not long to go.
    fn renew(&mut self, now: Now) -> bool {
        let ends = now.unix_s() + RENEWAL_S > self.binding.not_after_unix_s;
        if ends {
            self.binding = signed(&self.identity, now, self.life_s);
        }
        ends
    }

    fn negotiate(&mut self, now: Now) {
        self.renew(now);
        let chunks = if self.wants_chunks { feature::STREAMING_CHUNKS } else { 0 };
        let bitmap = chunks | feature::REFLECT | feature::GOAWAY;
        let want = Capabilities { version: 1, bitmap, max_msg_bytes: 1300 };
        let request =
            NegotiateReq { want: Some(want), binding: Some(self.binding), admission: &[] };
        let sent =
            self.peer.request(Kind::NegotiateReq, |out| request.write(out)).expect("it fits");
        self.note(now, sent, Ask::Negotiate { ends_s: self.binding.not_after_unix_s });
    }

    fn find(&mut self, now: Now) {
        let target_id = PeerId(self.dice.bytes());
        let limit = *self.dice.pick(&[0, 1, 4, 8, 16, 16, 200]);
        let request = FindNodeReq { target_id, limit };
        let sent = self.peer.request(Kind::FindNodeReq, |out| request.write(out));
        self.note(now, sent.expect("it fits"), Ask::Find(request));
    }

    fn reflect(&mut self, now: Now) {
        let nonce = self.dice.u64();
        let request = ReflectReq { nonce, ..ReflectReq::default() };
        let sent = self.peer.request(Kind::ReflectReq, |out| request.write(out));
        self.note(now, sent.expect("it fits"), Ask::Reflect { nonce });
    }

    /// FIND_NODE at the lowest priority.
    fn find_lowly(&mut self, now: Now) {
        let request = FindNodeReq { target_id: PeerId(self.dice.bytes()), limit: 3 };
        let body = proto::FindNodeReq { target_id: request.target_id.0.to_vec(), limit: 3 };
        let header = Header::request(Kind::FindNodeReq, 0).in_class(Class::Hints);
        let sent = self.raw(header, &body.encode_to_vec());
        self.note(now, sent, Ask::Find(request));
    }

    fn hint(&mut self) {
        let header = Header { flags: Flags::PROBE, ..Header::request(Kind::CacheHint, 0) };
        let _never_answered = self.raw(header, &[]);
    }

    fn raw(&mut self, header: Header, body: &[u8]) -> Correlation {
        self.peer.request_raw(Raw { version: 1, header, body }).expect("it fits")
    }
}

fn signed(identity: &Identity, now: Now, life_s: Option<u64>) -> IdentityBinding {
    identity.binding(now.unix_s() - BINDING_S, now.unix_s() + life_s.unwrap_or(BINDING_S))
}

/// Whether answers are right.
impl Honest {
    fn judge(&mut self, now: Now, answer: &Answer) -> Result<Option<Got>, Violation> {
        let Some((since, ask)) = self.asked.remove(&answer.correlation.0) else { return Ok(None) };
        let body = answer.bodies.concat();
        let number = self.number;
        let right = |holds: bool, what: &str| {
            ensure(holds, Oracle::Answers, now.at, || {
                format!("client {number}: {what}: {answer:?}")
            })
        };
        if answer.kind == Kind::Error {
            // What waited for a session too long was signed too long ago.
            let outdated = matches!(ask, Ask::Negotiate { ends_s } if ends_s < now.unix_s());
            let code = proto::Error::decode(&body[..]).map_or(0, |error| error.code);
            let limited = code == Code::RateLimited.to_wire().cast_signed();
            let tolerated = matches!(ask, Ask::About(about) if self.said.tolerates(about, code));
            let busy = code == Code::Busy.to_wire().cast_signed();
            let denied = busy && matches!(ask, Ask::About(About::Look { .. }));
            ensure(!denied, Oracle::Refusal, now.at, || {
                format!("client {number} may not even look: {answer:?}")
            })?;
            right(
                limited || outdated || tolerated || matches!(ask, Ask::Pair(_)),
                "an honest question was refused",
            )?;
            if outdated {
                self.negotiate(now);
            }
            return Ok(None);
        }
        let seen = |observed: &[u8]| {
            let addr = multiaddr::decode(observed);
            // Or where a copy of the question claimed to come from.
            let true_of = |addr| self.was_at_since(since, &addr) || Hostile::is_nowhere(&addr);
            right(addr.is_ok_and(true_of), "a wrong observed address")
        };
        match ask {
            Ask::Ping { token, unix_ms } => {
                let pong = decode::<proto::Pong>(now, &body)?;
                right(pong.token == token && pong.echo_unix_ms == unix_ms, "a wrong echo")?;
                seen(&pong.observed)?;
                self.last_pong = true;
                Ok(Some(Got::Pong))
            }
            Ask::Negotiate { .. } => {
                let agreed = decode::<proto::NegotiateResp>(now, &body)?;
                seen(&agreed.observed)?;
                self.check_agreement(now, &body)?;
                self.negotiated = true;
                Ok(Some(Got::Negotiated))
            }
            Ask::Find(request) => {
                let mut peers = Vec::new();
                for body in &answer.bodies {
                    peers.extend(decode::<proto::FindNodeResp>(now, body)?.peers);
                }
                right(peers.len() <= request.wanted(), "more peers than asked for")?;
                let distance = |peer: &proto::Peer| id_of(peer).distance(&request.target_id);
                // Of those that are drawn, behind the closest, there are no more than of these.
                let half = &peers[..peers.len().div_ceil(2)];
                let ascending = half.windows(2).all(|two| distance(&two[0]) < distance(&two[1]));
                right(ascending, "peers out of order")?;
                let ids: BTreeSet<PeerId> = peers.iter().map(id_of).collect();
                right(ids.len() == peers.len(), "a peer twice")?;
                Ok(Some(Got::Found(request, peers)))
            }
            Ask::Reflect { nonce } => {
                let reflection = decode::<proto::ReflectResp>(now, &body)?;
                right(reflection.nonce == nonce, "another's reflection")?;
                seen(&reflection.observed)?;
                Ok(Some(Got::Reflected))
            }
            Ask::About(about) => self.judge_about(now, since, about, answer),
            Ask::Pair(wish) => right(self.judge_pair(wish, answer), "a pair").map(|()| None),
        }
    }

    /// Whether `addr` was its address at `since` or later.
    fn was_at_since(&self, since: Moment, addr: &SocketAddr) -> bool {
        let ended = self.addrs.iter().skip(1).map(|(at, _)| *at).chain([Moment::NEVER]);
        self.addrs.iter().zip(ended).any(|((_, at), ended)| at == addr && ended >= since)
    }

    fn check_agreement(&mut self, now: Now, body: &[u8]) -> Result<(), Violation> {
        let agreed = molia_router::wire::body::NegotiateResp::read(body).ok();
        let binding = agreed.and_then(|agreed| agreed.binding);
        let known = binding.is_some_and(|binding| Some(binding.signature) == self.checked);
        let genuine = known
            || binding.is_some_and(|binding| {
                identity::verify(&binding, &self.router.key, now.unix_s())
                    == Ok(self.router.peer_id)
            });
        self.checked = binding.map(|binding| binding.signature);
        ensure(genuine, Oracle::Answers, now.at, || {
            format!("client {}: the router cannot say who it is", self.number)
        })
    }
}

/// The id of a listed peer; all zero if it is none, which no check passes.
pub(crate) fn id_of(peer: &proto::Peer) -> PeerId {
    PeerId(peer.peer_id.as_slice().try_into().unwrap_or_default())
}

fn decode<M: Message + Default>(now: Now, body: &[u8]) -> Result<M, Violation> {
    M::decode(body).map_err(|error| Violation {
        oracle: Oracle::Frames,
        at: now.at,
        what: format!("an answer does not decode: {error}"),
    })
}
