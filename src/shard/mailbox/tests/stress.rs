//! Three shards on threads of their own, with rings far too small, waiting in real ports.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel};
use std::thread;
use std::time::Duration;

use bufpool::{Hugepages, Pool, PoolConfig};

use super::*;
use crate::clock::Clock;
use crate::limits::RX_SLOT_BYTES;
use crate::port::{AnyPort, EngineChoice, EngineConfig, Port};

const SHARDS: u16 = 3;
/// Messages of each class from each shard to each other one.
const MESSAGES: u32 = 20_000;
/// Keys of hints.
const KEYS: u32 = 5;
/// Messages posted in a turn, at most.
const BURST: u32 = 16;
/// So long that nothing but a lost wake-up lets a wait with mail last to its end.
const WAIT: Duration = Duration::from_secs(60);

const CONTROL_FULL: Posted = Posted::Dropped(Reason::ControlFull);

/// What one shard has posted and seen.
struct Shard {
    mailbox: Mailbox<Mail>,
    /// By destination and class: the next number to post.
    posted: [[u32; 3]; SHARDS as usize],
    /// By sender: the next number of control, the last one of coordination and of each key of hints.
    control: [u32; SHARDS as usize],
    coordination: [Option<u32>; SHARDS as usize],
    hints: [[Option<u32>; KEYS as usize]; SHARDS as usize],
    /// Senders that are done with control.
    ended: u16,
    out: [u8; PAYLOAD_MAX],
    seed: u32,
}

impl Shard {
    fn new(mailbox: Mailbox<Mail>) -> Self {
        Self {
            seed: u32::from(mailbox.shard()) + 1,
            mailbox,
            posted: Default::default(),
            control: Default::default(),
            coordination: Default::default(),
            hints: Default::default(),
            ended: 0,
            out: [0; PAYLOAD_MAX],
        }
    }

    fn random(&mut self) -> u32 {
        self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.seed >> 16
    }

    /// Posts a few messages of each class to each other shard; whether one takes no more control.
    fn post(&mut self) -> bool {
        let mut full = false;
        let own = self.mailbox.shard();
        for to in (0..SHARDS).filter(|to| *to != own) {
            for class in Class::ALL {
                for _ in 0..self.random() % BURST {
                    full |= self.post_one(to, class) == Some(CONTROL_FULL);
                }
            }
        }
        full
    }

    fn post_one(&mut self, to: u16, class: Class) -> Option<Posted> {
        let number = self.posted[usize::from(to)][class as usize];
        if number > MESSAGES || (number == MESSAGES && class != Class::Control) {
            return None;
        }
        let mail = if number == MESSAGES { Mail::Last } else { Mail::Number(number) };
        let payload = [number.to_le_bytes()[0]; 64];
        let len = number as usize % payload.len();
        let key = (class == Class::Hints).then_some(u64::from(number % KEYS));
        let posted = self.mailbox.post(to, class, key, mail, &payload[..len]);
        // Only control is worth another attempt.
        if posted != CONTROL_FULL {
            self.posted[usize::from(to)][class as usize] += 1;
        }
        Some(posted)
    }

    /// Takes all mail that is there, and looks at it.
    fn receive(&mut self) {
        while let Some(received) = self.mailbox.next(&mut self.out) {
            let from = usize::from(received.from);
            let Mail::Number(number) = received.mail else {
                assert_eq!(self.control[from], MESSAGES, "control comes to its end");
                self.ended += 1;
                continue;
            };
            let last = match received.class {
                Class::Control => {
                    assert_eq!(self.control[from], number, "all of it, in order");
                    self.control[from] += 1;
                    None
                }
                Class::Coordination => self.coordination[from].replace(number),
                // A newer hint takes the place of the older one of its key, not of others.
                Class::Hints => self.hints[from][(number % KEYS) as usize].replace(number),
            };
            assert!(last.is_none_or(|last| last < number), "{last:?} came before {number}");
            assert_eq!(received.len, number as usize % 64);
            assert!(self.out[..received.len].iter().all(|byte| *byte == number.to_le_bytes()[0]));
        }
    }

    /// Whether all is posted, all control is under way, and nobody sends more control.
    fn is_done(&self) -> bool {
        self.has_all_posted()
            && self.ended == SHARDS - 1
            && self.mailbox.stats().class(Class::Control).depth == 0
    }

    fn has_all_posted(&self) -> bool {
        let own = usize::from(self.mailbox.shard());
        let mut others = self.posted.iter().enumerate().filter(|(to, _)| *to != own);
        others.all(|(_, posted)| *posted == [MESSAGES + 1, MESSAGES, MESSAGES])
    }

    /// Turns as a shard's.
    fn run(mut self, mut port: AnyPort, failed: &AtomicBool) -> Mailbox<Mail> {
        let _alarm = Alarm(failed);
        let clock = Clock::start();
        while !self.is_done() {
            assert!(!failed.load(Ordering::Relaxed), "another shard failed");
            let full = self.post();
            self.mailbox.flush();
            self.receive();
            // Nothing to post until something comes or goes; or a short rest, so that it has to
            // be woken at other times too.
            let rests = full || self.has_all_posted() || self.random().is_multiple_of(64);
            if rests && self.mailbox.sleep() {
                // Sleeping may have sent all that found no room: then nobody has to wake it for that.
                let waits = self.mailbox.stats().class(Class::Control).depth > 0;
                let blocked = (full && waits) || self.has_all_posted();
                let wait = if blocked { WAIT } else { Duration::from_micros(50) };
                let before = clock.moment();
                // Sleeping flushes, and what it sent may have been the last.
                if !self.is_done() {
                    port.turn(wait, &mut Vec::new()).unwrap();
                }
                assert!(clock.moment().since(before) < WAIT, "a lost wake-up");
                self.mailbox.awake();
            }
        }
        self.mailbox.flush();
        self.mailbox
    }
}

/// Tells the others that a shard failed, which would wait for its mail.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}

fn port() -> AnyPort {
    let socket = Socket::bind(&SocketConfig::new("127.0.0.1:0".parse().unwrap())).unwrap();
    let pool = PoolConfig {
        slot_bytes: RX_SLOT_BYTES,
        slots: 64,
        headroom: 0,
        hugepages: Hugepages::Off,
        prefault: false,
    };
    let pool = Pool::new(pool).unwrap();
    AnyPort::open(EngineChoice::Mmsg, socket, EngineConfig::default(), pool).unwrap()
}

#[test]
fn between_threads_control_is_complete_and_all_is_in_order() {
    let (ports, ready) = channel();
    let failed = AtomicBool::new(false);
    let mailboxes: Vec<_> = thread::scope(|scope| {
        // Ports belong to the threads that made them; their wakers do not.
        let run = |number: u16| {
            let (ports, failed) = (ports.clone(), &failed);
            let (give, take) = sync_channel(1);
            let thread = scope.spawn(move || {
                let port = port();
                ports.send((number, port.waker())).unwrap();
                Shard::new(take.recv().unwrap()).run(port, failed)
            });
            (give, thread)
        };
        let threads: Vec<_> = (0..SHARDS).map(run).collect();
        let mut wakers: Vec<_> = ready.iter().take(SHARDS.into()).collect();
        wakers.sort_by_key(|(number, _)| *number);
        let wakers = wakers.into_iter().map(|(_, waker)| waker).collect();
        let mailboxes = mesh(&small([4, 16, 16], [8, 16, 16]), wakers);
        for ((give, _), mailbox) in threads.iter().zip(mailboxes) {
            give.send(mailbox).unwrap();
        }
        threads.into_iter().map(|(_, thread)| thread.join().unwrap()).collect()
    });
    assert_adds_up(&mailboxes);
    for mailbox in &mailboxes {
        let control = mailbox.stats().class(Class::Control);
        assert_eq!(control.received, u64::from((MESSAGES + 1) * u32::from(SHARDS - 1)));
        assert_eq!(control.lost(), 0);
        assert!(mailbox.stats().alarms > 0, "rings so small are full at times");
    }
    assert!(mailboxes.iter().any(|mailbox| mailbox.stats().wakes > 0), "somebody slept");
}
