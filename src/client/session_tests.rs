//! The session's timers in virtual time, over an initiator without cryptography.

use rand_core::SeedableRng;

use super::*;

/// Hands through what the tests say, and remembers what it was asked.
#[derive(Debug, Default)]
struct Script {
    has_keys: bool,
    expired: u32,
    abandoned: u32,
}

impl Initiator for Script {
    fn initiate(&mut self, _: u32, out: &mut [u8]) -> Result<usize, Refused> {
        out[0] = b'I';
        Ok(1)
    }

    fn receive<'o>(&mut self, datagram: &[u8], out: &'o mut [u8]) -> Result<Received<'o>, Refused> {
        match datagram {
            b"response" => {
                self.has_keys = true;
                out[0] = b'C';
                Ok(Received::Established(&out[..1]))
            }
            b"keepalive" => Ok(Received::Keepalive),
            b"cookie" => Ok(Received::Cookie),
            b"data" => Ok(Received::Plaintext(&out[..4])),
            _ => Err(Refused::Unauthentic),
        }
    }

    fn seal(&mut self, plaintext: &[u8], out: &mut [u8]) -> Option<usize> {
        out[0] = if plaintext.is_empty() { b'K' } else { b'D' };
        self.has_keys.then_some(1)
    }

    fn abandon(&mut self) {
        self.abandoned += 1;
    }

    fn expire(&mut self) {
        self.has_keys = false;
        self.expired += 1;
    }
}

struct World {
    session: Session<Script>,
    now: Moment,
    start: Moment,
}

impl World {
    fn new(config: Config) -> Self {
        let session = Session::new(Script::default(), config, ChaCha12Rng::seed_from_u64(1));
        let start = Moment::from_nanos(77_000_000_000);
        Self { session, now: start, start }
    }

    fn established(config: Config) -> Self {
        let mut world = Self::new(config);
        world.session.connect(world.now);
        assert_eq!(world.run(Duration::ZERO), ["0 I"]);
        world.receive(b"response");
        world
    }

    fn receive(&mut self, datagram: &[u8]) {
        self.session.receive(self.now, datagram, &mut [0; 8]).unwrap();
    }

    fn send(&mut self) -> bool {
        self.session.seal(self.now, b"data", &mut [0; 8]).is_some()
    }

    /// Follows the session's own deadlines for `span`; what came out, with whole seconds.
    fn run(&mut self, span: Duration) -> Vec<String> {
        let end = self.now + span;
        let mut log = vec![];
        loop {
            let mut out = [0; 8];
            if let Some(due) = self.session.poll(self.now, &mut out) {
                let second = self.now.since(self.start).as_secs();
                log.push(match due {
                    Due::Send(bytes) => format!("{second} {}", char::from(bytes[0])),
                    Due::Unanswered(tries) => format!("{second} unanswered {tries}"),
                });
                continue;
            }
            let next = self.session.next_deadline();
            assert!(next > self.now, "a deadline that passed without an act");
            if next > end {
                self.now = end;
                return log;
            }
            self.now = next;
        }
    }
}

const QUIET: Config = Config { handshake_patience: Duration::from_secs(90), keepalive: None };
const S: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn an_initiation_is_repeated_with_growing_pauses_and_given_up() {
    let config = Config { handshake_patience: S(20), ..QUIET };
    let mut world = World::new(config);
    assert_eq!(world.session.next_deadline(), Moment::NEVER);
    world.session.connect(world.now);
    world.session.connect(world.now);
    let log = world.run(S(60));
    assert_eq!(log.len(), 7, "{log:?}");
    assert_eq!(log[0], "0 I");
    assert_eq!(log[1], "1 I");
    assert_eq!(log[6], "20 unanswered 6");
    assert_eq!(world.session.initiator.abandoned, 1);
    assert!(!world.session.is_connecting());
    assert_eq!(world.session.initiations(), 6, "for who asks why");
}

#[test]
fn jitter_differs_between_clients() {
    let second = |seed| {
        let mut session = Session::new(Script::default(), QUIET, ChaCha12Rng::seed_from_u64(seed));
        session.connect(Moment::START);
        session.poll(Moment::START, &mut [0; 8]);
        session.next_deadline()
    };
    assert_ne!(second(1), second(2));
    assert!((1..50).all(|seed| {
        let pause = second(seed).since(Moment::START);
        pause >= RETRY_FIRST && pause <= RETRY_FIRST + RETRY_JITTER
    }));
}

#[test]
fn a_lost_response_costs_a_retry_and_a_duplicate_nothing() {
    let mut world = World::new(QUIET);
    world.session.connect(world.now);
    assert_eq!(world.run(S(2)), ["0 I", "1 I"]);
    world.receive(b"response");
    assert!(world.send());
    assert_eq!(world.run(S(5)), [] as [&str; 0]);
}

#[test]
fn a_cookie_repeats_the_initiation_at_once_but_only_once() {
    let mut world = World::new(QUIET);
    world.session.connect(world.now);
    assert_eq!(world.run(Duration::ZERO), ["0 I"]);
    world.receive(b"cookie");
    assert_eq!(world.run(Duration::ZERO), ["0 I"]);
    world.receive(b"cookie");
    assert_eq!(world.run(Duration::ZERO), [] as [&str; 0]);
}

#[test]
fn keys_are_renewed_at_120_s_when_something_is_sent() {
    let mut world = World::established(QUIET);
    assert_eq!(world.run(S(119)), [] as [&str; 0]);
    assert!(world.send());
    world.receive(b"keepalive");
    assert_eq!(world.run(S(1)), [] as [&str; 0]);
    assert!(world.send());
    assert_eq!(world.run(Duration::ZERO), ["120 I"]);
    assert!(world.send(), "the old keys serve meanwhile");
    world.receive(b"response");
    assert_eq!(world.run(S(100)), [] as [&str; 0]);
    assert_eq!(world.session.initiator.expired, 0);
}

#[test]
fn keys_are_renewed_at_165_s_when_we_only_receive() {
    let mut world = World::established(QUIET);
    world.run(S(164));
    world.receive(b"data");
    assert!(!world.session.is_connecting());
    world.run(S(1));
    world.receive(b"data");
    assert!(world.session.is_connecting());
}

#[test]
fn keys_end_at_180_s() {
    let mut world = World::established(QUIET);
    world.run(S(179));
    assert!(world.session.is_established(world.now));
    world.run(S(1));
    assert!(!world.session.is_established(world.now));
    assert_eq!(world.session.initiator.expired, 1);
    assert!(!world.send());
    assert!(world.session.is_connecting(), "sending without keys asks for new ones");
}

#[test]
fn received_data_is_acknowledged_within_10_s() {
    let mut world = World::established(QUIET);
    world.receive(b"data");
    assert_eq!(world.run(S(30)), ["10 K"]);
    world.receive(b"data");
    assert!(world.send());
    world.receive(b"keepalive");
    assert_eq!(world.run(S(30)), [] as [&str; 0], "an answer is acknowledgement enough");
}

#[test]
fn keepalives_keep_the_session_for_ever() {
    let mut world = World::established(Config::default());
    let mut log = vec![];
    for _ in 0..600 {
        let events = world.run(S(1));
        for event in &events {
            match event.chars().last() {
                Some('I') => world.receive(b"response"),
                Some('K') => world.receive(b"keepalive"),
                _ => panic!("{event}"),
            }
        }
        log.extend(events);
        assert!(world.session.is_established(world.now));
    }
    let count = |what| log.iter().filter(|event| event.ends_with(what)).count();
    assert!((28..=32).contains(&count('K')), "{log:?}");
    assert_eq!(count('I'), 5, "every 120 s: {log:?}");
}

#[test]
fn silence_after_data_starts_a_handshake() {
    let mut world = World::established(QUIET);
    assert!(world.send());
    world.run(S(14));
    assert!(!world.session.is_connecting());
    assert_eq!(world.run(S(1)), ["15 I"]);
}

#[test]
fn without_an_answer_to_a_rekey_the_keys_still_end() {
    let mut world = World::established(Config { handshake_patience: S(30), ..QUIET });
    world.run(S(120));
    assert!(world.send());
    let log = world.run(S(120));
    assert_eq!(log.iter().filter(|event| event.contains("unanswered")).count(), 1, "{log:?}");
    assert_eq!(world.session.initiator.expired, 1);
}
