//! One router as a client sees it: the session, the requests over it, and what a
//! peer must answer itself. No socket, no clock: datagrams and `now` go in,
//! datagrams and [`Event`]s come out.
//!
//! A request starts a handshake if there are no keys, and an agreed NEGOTIATE is repeated after
//! every later one, unseen. PING is answered with PONG
//! (the router's liveness check and path challenge); any other request with ERROR.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::assembly::Place;
use super::introduction::Introduction;
use super::requests::{self, Answer, Correlation, Requests};
use super::session::{self, Initiator, Refused, Session};
use crate::drops::Drop;
use crate::limits::{HEADER_BYTES, PLAINTEXT_BASE, PLAINTEXT_MIN, SHIM_BYTES, WG_OVERHEAD};
use crate::time::{Moment, Now};
use crate::wire::body::{self, Overflow, Writer};
use crate::wire::check::{self, Refusal, Rules, Verdict};
use crate::wire::frame;
use crate::wire::header::{Header, VERSION};
use crate::wire::kind::{Kind, KindSet};
use crate::wire::multiaddr;

/// Largest datagram taken or made.
pub const DATAGRAM_BYTES_MAX: usize = 2048;
/// Largest plaintext taken: a link of 1500 bytes.
pub const PLAINTEXT_MAX: usize = 1472 - WG_OVERHEAD;

const RULES: Rules =
    Rules { handled: KindSet::of(&[Kind::Ping, Kind::Goaway]), plaintext_max: PLAINTEXT_MAX };
/// What a router says to those that it introduces and relays for.
const PAIRS: KindSet = KindSet::of(&[
    Kind::Ping,
    Kind::Goaway,
    Kind::RendezvousNotify,
    Kind::RelayOffer,
    Kind::RelayStatus,
    Kind::RelayClose,
]);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// There are (new) keys.
    Established,
    /// The handshake was given up after this many initiations, and with it every request.
    Unanswered(u32),
    /// The router asks for more work than we do.
    Price(u8),
    /// A request was answered.
    Answer(Answer),
    /// A request was not.
    TimedOut(Correlation),
    /// The router pinged us and was answered.
    Pinged,
    /// The router goes away.
    Goaway {
        /// Come back after this.
        reconnect_in: Duration,
        /// It still serves for so long.
        grace: Duration,
    },
    /// The router says or asks something of a type that [`Peer::for_pairs`] takes.
    Asked {
        /// Its type.
        kind: Kind,
        /// What [`Peer::respond`] answers to.
        correlation: Correlation,
        /// Its body.
        body: Vec<u8>,
    },
    /// A frame of the router led to nothing.
    Dropped(Drop),
}

/// A frame given byte by byte, for tests of a router.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    /// The header's version.
    pub version: u8,
    /// The rest of the header but for the correlation, which is chosen here.
    pub header: Header,
    /// Whatever shall stand for the body.
    pub body: &'a [u8],
}

/// See the module.
#[derive(Debug)]
pub struct Peer<I> {
    session: Session<I>,
    requests: Requests,
    introduction: Introduction,
    /// Where the router is, as PONG tells it.
    router: SocketAddr,
    outbox: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
    plaintext_max: usize,
    rules: Rules,
}

impl<I: Initiator> Peer<I> {
    /// A peer that does nothing before it is asked to.
    pub fn new(session: Session<I>, requests: Requests, router: SocketAddr) -> Self {
        Self {
            session,
            requests,
            introduction: Introduction::default(),
            router,
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            plaintext_max: PLAINTEXT_BASE,
            rules: RULES,
        }
    }

    /// The same, taking what a router says to those that it introduces and relays for.
    #[must_use]
    pub fn for_pairs(mut self) -> Self {
        self.rules.handled = PAIRS;
        self
    }

    /// Starts a handshake unless there are keys or one is under way.
    pub fn connect(&mut self, now: Moment) {
        if !self.session.is_established(now) {
            self.session.connect(now);
        }
    }

    /// The session below.
    pub const fn session(&self) -> &Session<I> {
        &self.session
    }

    /// The requests under way and the peer's round-trip time.
    pub const fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Starts a request.
    ///
    /// # Errors
    /// The body does not fit a frame.
    pub fn request(
        &mut self,
        kind: Kind,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) -> Result<Correlation, Overflow> {
        let Self { plaintext_max, introduction, .. } = self;
        self.requests.start(kind, |correlation| {
            let header = Header::request(kind, correlation.0);
            let plaintext = encode(*plaintext_max, header, body)?;
            if kind == Kind::NegotiateReq {
                introduction.asked(correlation, &plaintext);
            }
            Ok(plaintext)
        })
    }

    /// The same, repeated more often than once, for what somebody waits for who sees a second.
    /// Only for types that a router answers once however often they come.
    ///
    /// # Errors
    /// The body does not fit a frame.
    pub fn request_eager(
        &mut self,
        kind: Kind,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) -> Result<Correlation, Overflow> {
        let max = self.plaintext_max;
        self.requests.start_eager(kind, |it| encode(max, Header::request(kind, it.0), body))
    }

    /// Answers what the router asked. Without keys it is as good as lost.
    pub fn respond(
        &mut self,
        now: Moment,
        kind: Kind,
        to: Correlation,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) {
        self.answer(now, Header::response(kind, to.0), body);
    }

    /// Says something that is never answered. Without keys it is as good as lost.
    pub fn tell(
        &mut self,
        now: Moment,
        kind: Kind,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) {
        self.answer(now, Header::request(kind, 0), body);
    }

    /// Starts a request of as many chunks as there are bodies; a single one is an ordinary frame.
    ///
    /// # Errors
    /// A body does not fit a frame.
    pub fn request_chunked(
        &mut self,
        kind: Kind,
        bodies: &[Vec<u8>],
    ) -> Result<Correlation, Overflow> {
        let max = self.plaintext_max;
        self.requests.start_chunked(kind, |correlation| {
            let plain = Header::request(kind, correlation.0);
            // A stream is of one request, so that one's number names it as well as another.
            let stream = correlation.0.max(1);
            let frame = |(at, body): (usize, &Vec<u8>)| {
                let header = match bodies {
                    [_] => plain,
                    _ => plain.chunk(stream, at + 1 < bodies.len()),
                };
                let frame = plaintext(correlation, Raw { version: VERSION, header, body })?;
                if frame.len() > max { Err(Overflow) } else { Ok(frame) }
            };
            bodies.iter().enumerate().map(frame).collect()
        })
    }

    /// Starts a request of whatever kind; any response counts as its answer.
    ///
    /// # Errors
    /// The plaintext would be longer than a datagram of ours.
    pub fn request_raw(&mut self, raw: Raw<'_>) -> Result<Correlation, Overflow> {
        self.requests.start_any(|correlation| plaintext(correlation, raw))
    }

    /// The same under the correlation of a request before.
    ///
    /// # Errors
    /// The plaintext would be longer than a datagram of ours.
    pub fn request_raw_as(
        &mut self,
        correlation: Correlation,
        raw: Raw<'_>,
    ) -> Result<Correlation, Overflow> {
        self.requests.start_any_as(correlation, |correlation| plaintext(correlation, raw))
    }

    /// Takes a datagram from the router's address.
    pub fn receive(&mut self, now: Now, datagram: &[u8]) {
        let mut out = [0; DATAGRAM_BYTES_MAX];
        if datagram.len() > out.len() {
            return self.dropped(Drop::TooLarge);
        }
        match self.session.receive(now.at, datagram, &mut out) {
            Ok(session::Received::Established(confirmation)) => {
                self.outbox.push_back(confirmation.to_vec());
                self.events.push_back(Event::Established);
                self.introduce_again();
            }
            Ok(session::Received::Plaintext(plaintext)) => self.plaintext(now, plaintext),
            Ok(session::Received::Keepalive | session::Received::Cookie) => {}
            Err(Refused::Price(bits)) => self.events.push_back(Event::Price(bits)),
            Err(Refused::NotForUs) => self.dropped(Drop::UnknownType),
            Err(Refused::UnknownIndex) => self.dropped(Drop::NoSession),
            Err(Refused::Unauthentic) => self.dropped(Drop::BadTag),
        }
    }

    /// Sends a keepalive now, if there are keys: from it the router learns where we are.
    pub fn show_address(&mut self, now: Moment) {
        let mut out = [0; DATAGRAM_BYTES_MAX];
        if self.session.is_established(now)
            && let Some(len) = self.session.seal(now, &[], &mut out)
        {
            self.outbox.push_back(out[..len].to_vec());
        }
    }

    /// The next datagram to send to the router, until `None`.
    pub fn poll_transmit(&mut self, now: Moment) -> Option<Vec<u8>> {
        loop {
            if let Some(datagram) = self.outbox.pop_front() {
                return Some(datagram);
            }
            if !self.poll_session(now) && !self.poll_requests(now) {
                return None;
            }
        }
    }

    /// The next event, until `None`.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether [`Peer::poll_event`] has something.
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// When [`Peer::poll_transmit`] is to be called next, if no datagram comes before.
    pub fn next_deadline(&self, now: Moment) -> Moment {
        let requests = self.requests.next_deadline(self.session.is_established(now));
        self.session.next_deadline().min(requests)
    }

    /// Whether there was something to do.
    fn poll_session(&mut self, now: Moment) -> bool {
        let mut out = [0; DATAGRAM_BYTES_MAX];
        match self.session.poll(now, &mut out) {
            Some(session::Due::Send(datagram)) => self.outbox.push_back(datagram.to_vec()),
            Some(session::Due::Unanswered(initiations)) => {
                self.events.push_back(Event::Unanswered(initiations));
                if !self.session.is_established(now) {
                    self.give_up();
                }
            }
            None => return false,
        }
        true
    }

    fn poll_requests(&mut self, now: Moment) -> bool {
        let ready = self.session.is_established(now);
        if !ready && !self.requests.is_empty() && !self.session.is_connecting() {
            self.session.connect(now);
            return true;
        }
        match self.requests.poll(now, ready) {
            Some(requests::Due::Send(plaintexts)) => {
                let mut out = [0; DATAGRAM_BYTES_MAX];
                for plaintext in plaintexts {
                    if let Some(len) = self.session.seal(now, plaintext, &mut out) {
                        self.outbox.push_back(out[..len].to_vec());
                    }
                }
            }
            Some(requests::Due::TimedOut(it)) => self.timed_out(it),
            None => return false,
        }
        true
    }

    fn give_up(&mut self) {
        while let Some(correlation) = self.requests.give_up() {
            self.timed_out(correlation);
        }
    }

    fn timed_out(&mut self, correlation: Correlation) {
        if self.introduction.ended(correlation) {
            self.events.push_back(Event::TimedOut(correlation));
        }
    }

    /// There are new keys, and perhaps a router that has forgotten whose they are.
    fn introduce_again(&mut self) {
        let Some(body) = self.introduction.due() else { return };
        let header = Header::request(Kind::NegotiateReq, 0);
        let raw = Raw { version: VERSION, header, body: &body };
        let started = self.requests.start(Kind::NegotiateReq, |it| plaintext(it, raw));
        // What fitted once fits again.
        if let Ok(correlation) = started {
            self.introduction.repeated(correlation);
        }
    }

    fn plaintext(&mut self, now: Now, plaintext: &[u8]) {
        let frame = match crate::wire::open(plaintext) {
            Ok(frame) => frame,
            Err(drop) => return self.dropped(drop),
        };
        let (version, header, body) = crate::wire::split(frame);
        match check::check(&self.rules, version, &header, frame.len(), true) {
            Verdict::Request(Kind::Goaway, _) => self.goaway(body),
            Verdict::Request(Kind::Ping, _) => self.pong(now, &header, body),
            Verdict::Request(kind, _) => self.events.push_back(Event::Asked {
                kind,
                correlation: Correlation(header.correlation),
                body: body.to_vec(),
            }),
            Verdict::Response(kind) => self.response(now.at, kind, &header, body),
            Verdict::Refuse(refusal) => self.refuse(now.at, &header, refusal),
            Verdict::Ignore(drop) => self.dropped(drop),
        }
    }

    fn response(&mut self, now: Moment, kind: Kind, header: &Header, body: &[u8]) {
        let Some(place) = place(kind, header, body) else {
            return self.dropped(Drop::Malformed);
        };
        let correlation = Correlation(header.correlation);
        match self.requests.receive(now, correlation, kind, place, body) {
            requests::Received::Answer(answer) => {
                if self.introduction.answered(&answer) {
                    self.events.push_back(Event::Answer(answer));
                }
            }
            requests::Received::Chunk => {}
            requests::Received::Dropped(drop) => self.dropped(drop),
        }
    }

    fn pong(&mut self, now: Now, header: &Header, body: &[u8]) {
        let Ok(ping) = body::Ping::read(body) else { return self.dropped(Drop::Malformed) };
        let observed = multiaddr::encode(self.router);
        let pong = body::Pong {
            now_unix_ms: now.unix_ms,
            observed: observed.as_ref(),
            load_permille: 0,
            token: ping.token,
            echo_unix_ms: ping.now_unix_ms,
        };
        self.answer(now.at, Header::response(Kind::Pong, header.correlation), |out| {
            pong.write(out)
        });
        self.events.push_back(Event::Pinged);
    }

    fn refuse(&mut self, now: Moment, header: &Header, refusal: Refusal) {
        let error = body::Error {
            code: refusal.code,
            reason: "",
            retry_after_ms: 0,
            detail: refusal.detail,
        };
        let header = Header::response(Kind::Error, header.correlation).in_class(refusal.class);
        self.answer(now, header, |out| error.write(out));
    }

    fn goaway(&mut self, body: &[u8]) {
        let Ok(goaway) = body::Goaway::read(body) else { return self.dropped(Drop::Malformed) };
        self.events.push_back(Event::Goaway {
            reconnect_in: Duration::from_millis(goaway.reconnect_in_ms.into()),
            grace: Duration::from_millis(goaway.grace_ms.into()),
        });
    }

    fn answer(
        &mut self,
        now: Moment,
        header: Header,
        body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
    ) {
        let mut out = [0; DATAGRAM_BYTES_MAX];
        let sealed = encode(self.plaintext_max, header, body)
            .ok()
            .and_then(|plaintext| self.session.seal(now, &plaintext, &mut out));
        match sealed {
            Some(len) => self.outbox.push_back(out[..len].to_vec()),
            None => self.dropped(Drop::Unconfirmed),
        }
    }

    fn dropped(&mut self, drop: Drop) {
        self.events.push_back(Event::Dropped(drop));
    }
}

fn encode(
    max: usize,
    header: Header,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), Overflow>,
) -> Result<Vec<u8>, Overflow> {
    let mut plaintext = vec![0; max];
    let len = frame::encode(&mut plaintext, header, body)?;
    plaintext.truncate(len);
    Ok(plaintext)
}

/// A frame byte by byte.
fn plaintext(Correlation(correlation): Correlation, raw: Raw<'_>) -> Result<Vec<u8>, Overflow> {
    let mut header = Header { correlation, ..raw.header }.to_bytes();
    header[0] = raw.version;
    let total = SHIM_BYTES + HEADER_BYTES + raw.body.len();
    if total > DATAGRAM_BYTES_MAX - WG_OVERHEAD {
        return Err(Overflow);
    }
    let [high, low] = u16::try_from(total).map_err(|_| Overflow)?.to_be_bytes();
    let mut plaintext = [&[b'M', 0, high, low], &header[..], raw.body].concat();
    plaintext.resize(total.max(PLAINTEXT_MIN), 0);
    Ok(plaintext)
}

/// Where a response belongs in its answer.
fn place(kind: Kind, header: &Header, body: &[u8]) -> Option<Place> {
    let (index, total) = if kind == Kind::FindNodeResp {
        let chunk = body::FindNodeResp::read(body).ok()?;
        (chunk.chunk_index, chunk.total_chunks)
    } else if kind == Kind::FindValueResp {
        let chunk = body::FindValueResp::read(body).ok()?;
        (chunk.chunk_index, chunk.total_chunks)
    } else {
        (0, 0)
    };
    Some(Place { stream: header.stream, more: header.flags.more_chunks(), index, total })
}
