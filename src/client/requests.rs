//! Requests to one peer: correlation, timeout, one retry, and the answer put together.
//!
//! A request is kept as the plaintexts that are sent (more than one if it is chunked), so that a
//! retry is the same bytes under the same correlation. The timeout is 2 x SRTT within 50..600 ms
//! ([`Rtt`]), one second at first contact, plus up to 10 % jitter; after it the
//! request is repeated once, after another it has failed.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

use super::assembly::{Assembly, Chunk, Place};
use super::rtt::Rtt;
use super::session::jitter;
use crate::drops::Drop;
use crate::time::Moment;
use crate::wire::kind::Kind;

/// Timeout of requests whose answer needs a third node.
const THIRD_NODE: Duration = Duration::from_secs(3);
/// A request goes out this often at most.
const SENDS_MAX: u32 = 2;
/// An eager one does: together they wait for as long as a router waits for a third node.
const EAGER_SENDS_MAX: u32 = 8;
/// Shortest pause between two of them.
const EAGER_PAUSE_MIN: Duration = Duration::from_millis(400);

/// Names a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Correlation(pub u32);

/// A complete answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's.
    pub correlation: Correlation,
    /// The type of the answer, [`Kind::Error`] for a refusal.
    pub kind: Kind,
    /// Its body, one per chunk in their order.
    pub bodies: Vec<Vec<u8>>,
    /// Since the request was sent for the first time.
    pub elapsed: Duration,
    /// How often the request was sent.
    pub sends: u32,
}

/// What became of a response.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// The answer is complete.
    Answer(Answer),
    /// A chunk of it.
    Chunk,
    /// Nobody waits for it, or not like this.
    Dropped(Drop),
}

/// Something that is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due<'a> {
    /// Send these plaintexts, all at once: one, or the chunks of a request.
    Send(&'a [Vec<u8>]),
    /// No answer to either transmission.
    TimedOut(Correlation),
}

/// See the module.
#[derive(Debug)]
pub struct Requests {
    rtt: Rtt,
    rng: ChaCha12Rng,
    last: u32,
    pending: Vec<Pending>,
    failures: u32,
}

#[derive(Debug)]
struct Pending {
    correlation: Correlation,
    /// Type of the response; `None` takes any.
    expects: Option<Kind>,
    plaintexts: Vec<Vec<u8>>,
    timeout_min: Duration,
    sends_max: u32,
    sent: Option<Sent>,
    assembly: Assembly,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    first: Moment,
    /// When this transmission counts as unanswered.
    deadline: Moment,
    times: u32,
}

impl Requests {
    /// No request under way; correlations begin at random.
    pub fn new(mut rng: ChaCha12Rng) -> Self {
        let last = rng.next_u32();
        Self { rtt: Rtt::default(), rng, last, pending: Vec::new(), failures: 0 }
    }

    /// The peer's round-trip time.
    pub const fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// Requests in a row that were not answered.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Requests under way.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Starts a request of type `kind`; `encode` writes its plaintext for the correlation.
    pub fn start<E>(
        &mut self,
        kind: Kind,
        encode: impl FnOnce(Correlation) -> Result<Vec<u8>, E>,
    ) -> Result<Correlation, E> {
        self.start_chunked(kind, |correlation| Ok(vec![encode(correlation)?]))
    }

    /// Starts a request that takes as many plaintexts as `encode` returns.
    pub fn start_chunked<E>(
        &mut self,
        kind: Kind,
        encode: impl FnOnce(Correlation) -> Result<Vec<Vec<u8>>, E>,
    ) -> Result<Correlation, E> {
        let third_node = matches!(kind, Kind::ReachReq | Kind::RendezvousReq | Kind::RelayAllocReq);
        let timeout_min = if third_node { THIRD_NODE } else { Duration::ZERO };
        let expects = Kind::try_from(kind.id().wrapping_add(1)).ok();
        let correlation = self.next();
        self.push(correlation, expects, timeout_min, encode)
    }

    /// Starts a request that is repeated until it was answered or three seconds are over: its
    /// timeout waits for a third node, but what was lost is not missed for so long.
    pub fn start_eager<E>(
        &mut self,
        kind: Kind,
        encode: impl FnOnce(Correlation) -> Result<Vec<u8>, E>,
    ) -> Result<Correlation, E> {
        let correlation = self.start(kind, encode)?;
        if let Some(pending) = self.pending.last_mut() {
            pending.timeout_min = EAGER_PAUSE_MIN;
            pending.sends_max = EAGER_SENDS_MAX;
        }
        Ok(correlation)
    }

    /// Starts a request that any response answers (for tests of a router).
    pub fn start_any<E>(
        &mut self,
        encode: impl FnOnce(Correlation) -> Result<Vec<u8>, E>,
    ) -> Result<Correlation, E> {
        let correlation = self.next();
        self.start_any_as(correlation, encode)
    }

    /// The same under the correlation of an earlier request, as if its answer had been lost.
    pub fn start_any_as<E>(
        &mut self,
        correlation: Correlation,
        encode: impl FnOnce(Correlation) -> Result<Vec<u8>, E>,
    ) -> Result<Correlation, E> {
        self.push(correlation, None, Duration::ZERO, |it| Ok(vec![encode(it)?]))
    }

    fn next(&mut self) -> Correlation {
        self.last = self.last.wrapping_add(1);
        Correlation(self.last)
    }

    fn push<E>(
        &mut self,
        correlation: Correlation,
        expects: Option<Kind>,
        timeout_min: Duration,
        encode: impl FnOnce(Correlation) -> Result<Vec<Vec<u8>>, E>,
    ) -> Result<Correlation, E> {
        let plaintexts = encode(correlation)?;
        let assembly = Assembly::default();
        let sends_max = SENDS_MAX;
        let pending = Pending {
            correlation,
            expects,
            plaintexts,
            timeout_min,
            sends_max,
            sent: None,
            assembly,
        };
        self.pending.push(pending);
        Ok(correlation)
    }

    /// Takes a frame with the response bit.
    pub fn receive(
        &mut self,
        now: Moment,
        correlation: Correlation,
        kind: Kind,
        place: Place,
        body: &[u8],
    ) -> Received {
        let waiting = self.pending.iter_mut().enumerate();
        let mut waiting = waiting.filter_map(|(at, pending)| Some((at, pending.sent?, pending)));
        let Some((at, sent, pending)) = waiting.find(|(.., it)| it.correlation == correlation)
        else {
            return Received::Dropped(Drop::UnknownCorrelation);
        };
        let expected = kind == Kind::Error || pending.expects.is_none_or(|kinds| kinds == kind);
        if !expected {
            return Received::Dropped(Drop::Malformed);
        }
        let bodies = match pending.assembly.insert(now, place, body) {
            Chunk::Complete(bodies) => bodies,
            Chunk::Kept | Chunk::Ignored => return Received::Chunk,
            Chunk::Malformed => return Received::Dropped(Drop::Malformed),
        };
        self.pending.remove(at);
        self.failures = 0;
        let elapsed = now.since(sent.first);
        if sent.times == 1 {
            self.rtt.sample(elapsed);
        }
        Received::Answer(Answer { correlation, kind, bodies, elapsed, sends: sent.times })
    }

    /// What is due, until `None`. Nothing is sent unless `ready`: the session has keys.
    pub fn poll(&mut self, now: Moment, ready: bool) -> Option<Due<'_>> {
        let at = self.pending.iter().position(|pending| pending.due(ready) <= now)?;
        let times = self.pending[at].sent.map_or(0, |sent| sent.times);
        if times > 0 {
            self.rtt.missed();
        }
        if times >= self.pending[at].sends_max {
            self.failures = self.failures.saturating_add(1);
            return Some(Due::TimedOut(self.pending.remove(at).correlation));
        }
        let timeout = self.rtt.timeout().max(self.pending[at].timeout_min);
        let deadline = now + timeout + jitter(&mut self.rng, timeout / 10);
        let pending = &mut self.pending[at];
        let first = pending.sent.map_or(now, |sent| sent.first);
        pending.sent = Some(Sent { first, deadline, times: times + 1 });
        Some(Due::Send(&pending.plaintexts))
    }

    /// When [`Requests::poll`] has something to do next.
    pub fn next_deadline(&self, ready: bool) -> Moment {
        let due = self.pending.iter().map(|pending| pending.due(ready));
        due.min().unwrap_or(Moment::NEVER)
    }

    /// Gives up one request (the session cannot be had), if one is under way.
    pub fn give_up(&mut self) -> Option<Correlation> {
        let pending = self.pending.pop()?;
        self.failures = self.failures.saturating_add(1);
        Some(pending.correlation)
    }
}

impl Pending {
    fn due(&self, ready: bool) -> Moment {
        match self.sent {
            None if ready => Moment::START,
            None => Moment::NEVER,
            // A retry waits for keys, giving up does not.
            Some(sent) if !ready && sent.times < SENDS_MAX => Moment::NEVER,
            Some(sent) => sent.deadline,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use rand_core::SeedableRng;

    use super::*;

    const WHOLE: Place = Place { stream: 0, more: false, index: 0, total: 0 };

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn requests() -> Requests {
        Requests::new(ChaCha12Rng::seed_from_u64(3))
    }

    fn start(requests: &mut Requests, kind: Kind) -> Correlation {
        let encode = |Correlation(number)| Ok::<_, Infallible>(number.to_be_bytes().to_vec());
        requests.start(kind, encode).unwrap()
    }

    fn sends(requests: &mut Requests, now: Moment) -> usize {
        let mut count = 0;
        while let Some(Due::Send(_)) = requests.poll(now, true) {
            count += 1;
        }
        count
    }

    fn answer(requests: &mut Requests, now: Moment, to: Correlation) -> Answer {
        let received = requests.receive(now, to, Kind::Pong, WHOLE, b"pong");
        let Received::Answer(answer) = received else { panic!("{received:?}") };
        answer
    }

    #[test]
    fn an_answer_is_measured_and_handed_out_once() {
        let mut requests = requests();
        let ping = start(&mut requests, Kind::Ping);
        assert_eq!(requests.poll(at(5), true), Some(Due::Send(&[ping.0.to_be_bytes().to_vec()])));
        assert_eq!(requests.poll(at(5), true), None);
        let answer = answer(&mut requests, at(45), ping);
        assert_eq!((answer.elapsed, answer.sends), (ms(40), 1));
        assert_eq!(answer.bodies, [b"pong".to_vec()]);
        assert_eq!(requests.rtt().smoothed(), Some(ms(40)));
        assert_eq!(
            requests.receive(at(46), ping, Kind::Pong, WHOLE, b"pong"),
            Received::Dropped(Drop::UnknownCorrelation)
        );
        assert!(requests.is_empty());
    }

    #[test]
    fn a_request_waits_for_keys() {
        let mut requests = requests();
        start(&mut requests, Kind::Ping);
        assert_eq!(requests.poll(at(5), false), None);
        assert_eq!(requests.next_deadline(false), Moment::NEVER);
        assert_eq!(requests.next_deadline(true), Moment::START);
        assert_eq!(sends(&mut requests, at(9)), 1);
    }

    #[test]
    fn first_contact_is_two_sends_a_second_apart_and_then_fails() {
        let mut requests = requests();
        let ping = start(&mut requests, Kind::Ping);
        assert_eq!(sends(&mut requests, at(0)), 1);
        let retry = requests.next_deadline(true);
        assert!(retry >= at(1000) && retry <= at(1100), "{retry:?}");
        let before = retry - Duration::from_nanos(1);
        assert_eq!(requests.poll(before, true), None);
        assert_eq!(requests.poll(retry, true), Some(Due::Send(&[ping.0.to_be_bytes().to_vec()])));
        let end = requests.next_deadline(true);
        assert!(end >= retry + ms(1000) && end <= retry + ms(1100));
        assert_eq!(requests.poll(end, true), Some(Due::TimedOut(ping)));
        assert_eq!(requests.poll(end, true), None);
        assert_eq!((requests.failures(), requests.len()), (1, 0));
    }

    #[test]
    fn an_answer_to_a_retry_is_no_sample() {
        let mut requests = requests();
        let ping = start(&mut requests, Kind::Ping);
        sends(&mut requests, at(0));
        sends(&mut requests, at(1100));
        let answer = answer(&mut requests, at(1120), ping);
        assert_eq!((answer.elapsed, answer.sends), (ms(1120), 2));
        assert_eq!(requests.rtt().smoothed(), None);
        assert_eq!(requests.failures(), 0);
    }

    #[test]
    fn the_timeout_follows_the_path() {
        let mut requests = requests();
        for round in 0..20 {
            let now = at(round * 1000);
            let ping = start(&mut requests, Kind::Ping);
            sends(&mut requests, now);
            answer(&mut requests, now + ms(100), ping);
        }
        start(&mut requests, Kind::Ping);
        sends(&mut requests, at(20_000));
        let wait = requests.next_deadline(true).since(at(20_000));
        assert!(wait >= ms(199) && wait <= ms(220), "{wait:?}");
        start(&mut requests, Kind::RendezvousReq);
        sends(&mut requests, at(20_000));
        let far = requests.pending[1].sent.unwrap().deadline.since(at(20_000));
        assert!(far >= ms(3000) && far <= ms(3300), "{far:?}");
    }

    #[test]
    fn correlations_differ_and_find_their_request() {
        let mut requests = requests();
        let all: Vec<_> = (0..50).map(|_| start(&mut requests, Kind::Ping)).collect();
        assert_eq!(sends(&mut requests, at(1)), 50);
        for &each in all.iter().rev() {
            assert_eq!(answer(&mut requests, at(2), each).correlation, each);
        }
    }

    #[test]
    fn an_answer_of_another_type_does_not_count_but_an_error_does() {
        let mut requests = requests();
        let ping = start(&mut requests, Kind::Ping);
        assert_eq!(
            requests.receive(at(1), ping, Kind::Pong, WHOLE, b""),
            Received::Dropped(Drop::UnknownCorrelation),
            "an answer before the question"
        );
        sends(&mut requests, at(1));
        assert_eq!(
            requests.receive(at(2), ping, Kind::ReflectResp, WHOLE, b""),
            Received::Dropped(Drop::Malformed)
        );
        let Received::Answer(answer) = requests.receive(at(2), ping, Kind::Error, WHOLE, b"e")
        else {
            panic!("an error is an answer");
        };
        assert_eq!(answer.kind, Kind::Error);
    }

    #[test]
    fn chunks_of_a_retried_request_come_together() {
        let mut requests = requests();
        let find = start(&mut requests, Kind::FindNodeReq);
        sends(&mut requests, at(0));
        let chunk = |stream, index| Place { stream, more: index == 0, index, total: 2 };
        let lost_half = requests.receive(at(9), find, Kind::FindNodeResp, chunk(1, 0), b"a");
        assert_eq!(lost_half, Received::Chunk);
        sends(&mut requests, at(1100));
        requests.receive(at(1110), find, Kind::FindNodeResp, chunk(2, 1), b"b");
        let Received::Answer(answer) =
            requests.receive(at(1111), find, Kind::FindNodeResp, chunk(2, 0), b"a")
        else {
            panic!("both chunks came");
        };
        assert_eq!(answer.bodies, [b"a".to_vec(), b"b".to_vec()]);
    }

    #[test]
    fn the_chunks_of_a_request_go_out_together_and_so_they_do_again() {
        let mut requests = requests();
        let chunks = vec![b"a".to_vec(), b"b".to_vec()];
        let encode = |_| Ok::<_, Infallible>(chunks.clone());
        let store = requests.start_chunked(Kind::StoreReq, encode).unwrap();
        for now in [0, 1100] {
            assert_eq!(requests.poll(at(now), true), Some(Due::Send(&chunks)));
            assert_eq!(requests.poll(at(now), true), None);
        }
        let received = requests.receive(at(1101), store, Kind::StoreResp, WHOLE, b"");
        assert!(matches!(received, Received::Answer(Answer { sends: 2, .. })), "{received:?}");
    }

    #[test]
    fn a_request_that_failed_to_encode_leaves_nothing() {
        let mut requests = requests();
        assert_eq!(requests.start(Kind::Ping, |_| Err::<Vec<u8>, _>("no")), Err("no"));
        assert!(requests.is_empty());
        let given = start(&mut requests, Kind::Ping);
        assert_eq!(requests.give_up(), Some(given));
        assert_eq!(requests.give_up(), None);
    }
}
