//! Mail rule by rule; against a model; and between threads.

mod model;
mod stress;

use super::*;
use crate::port::{Socket, SocketConfig};

/// A message that says which it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mail {
    Number(u32),
    /// Nothing comes after it.
    Last,
}

fn wakers(shards: usize) -> Vec<Waker> {
    let listen = SocketConfig::new("127.0.0.1:0".parse().unwrap());
    (0..shards).map(|_| Socket::bind(&listen).unwrap().waker()).collect()
}

fn small(depths: [usize; 3], backlogs: [usize; 3]) -> Config {
    Config { depths, bytes: [4 * PAYLOAD_MAX; 3], backlogs }
}

fn pair(depths: [usize; 3], backlogs: [usize; 3]) -> [Mailbox<u32>; 2] {
    let mut mailboxes = mesh(&small(depths, backlogs), wakers(2)).into_iter();
    [mailboxes.next().unwrap(), mailboxes.next().unwrap()]
}

/// Numbers that come out of a mailbox, by the order in which they do.
fn drain(mailbox: &mut Mailbox<u32>) -> Vec<u32> {
    let mut out = [0; PAYLOAD_MAX];
    std::iter::from_fn(|| mailbox.next(&mut out)).map(|received| received.mail).collect()
}

/// What holds at any time, for whatever class and reason.
fn assert_adds_up<M>(mailboxes: &[Mailbox<M>]) {
    for class in Class::ALL {
        let all = || mailboxes.iter().map(|mailbox| mailbox.stats().class(class));
        for s in all() {
            assert_eq!(s.offered, s.enqueued + s.coalesced + s.refused());
            assert_eq!(s.enqueued, s.sent + s.lost() + s.depth as u64);
            assert!(s.depth <= s.high_water);
        }
        let arrived: usize = mailboxes.iter().map(|mailbox| mailbox.arrived(class)).sum();
        let sent: u64 = all().map(|s| s.sent).sum();
        assert_eq!(sent, all().map(|s| s.received).sum::<u64>() + arrived as u64);
    }
}

#[test]
fn mail_arrives_with_its_bytes() {
    let mut mailboxes = mesh(&Config::default(), wakers(3));
    let longest: Vec<u8> = (0..PAYLOAD_MAX).map(|n| n.to_le_bytes()[0]).collect();
    for (n, len) in [(1, 0), (2, 1), (3, PAYLOAD_MAX)] {
        let posted = mailboxes[2].post(0, Class::Control, None, Mail::Number(n), &longest[..len]);
        assert_eq!(posted, Posted::Enqueued);
        let mut out = [0; PAYLOAD_MAX];
        let received = mailboxes[0].next(&mut out).unwrap();
        let expected = Received { from: 2, class: Class::Control, mail: Mail::Number(n), len };
        assert_eq!((received, &out[..len]), (expected, &longest[..len]));
    }
    assert_eq!(mailboxes[1].next(&mut [0; PAYLOAD_MAX]), None);
    assert_adds_up(&mailboxes);
}

#[test]
fn one_shard_has_nobody_to_write_to() {
    let mut mailboxes = mesh::<Mail>(&Config::default(), wakers(1));
    assert!(mailboxes[0].sleep());
    mailboxes[0].awake();
    assert_eq!(mailboxes[0].next(&mut [0; PAYLOAD_MAX]), None);
    assert!(mesh::<Mail>(&Config::default(), Vec::new()).is_empty());
}

#[test]
fn waiting_hints_of_a_key_are_one_and_the_oldest_goes_first() {
    let [mut a, mut b] = pair([1; 3], [1, 1, 2]);
    let mut post = |key, n| a.post(1, Class::Hints, key, n, &n.to_le_bytes());
    let posted = [
        post(Some(7), 0), // in the ring
        post(Some(7), 1),
        post(Some(8), 2),
        post(Some(7), 3), // in place of 1
        post(None, 4),    // and 3 goes
    ];
    let enqueued = Posted::Enqueued;
    assert_eq!(posted, [enqueued, enqueued, enqueued, Posted::Coalesced, enqueued]);
    let stats = *a.stats().class(Class::Hints);
    assert_eq!((stats.dropped(Reason::Evicted), stats.depth, stats.high_water), (1, 2, 2));
    let mut out = [0; PAYLOAD_MAX];
    for n in [0_u32, 2, 4] {
        let received = b.next(&mut out).unwrap();
        assert_eq!((received.mail, &out[..received.len]), (n, &n.to_le_bytes()[..]));
        a.flush();
    }
    assert_adds_up(&[a, b]);
}

#[test]
fn a_hint_grows_where_it_waits() {
    let [mut a, mut b] = pair([1; 3], [1, 1, 2]);
    for (n, len) in [(0, 0), (1, 10), (1, PAYLOAD_MAX)] {
        let _ = a.post(1, Class::Hints, Some(n), 0, &[0xAA; PAYLOAD_MAX][..len]);
    }
    let mut out = [0; PAYLOAD_MAX];
    assert_eq!(b.next(&mut out).map(|received| received.len), Some(0));
    a.flush();
    assert_eq!(b.next(&mut out).map(|received| received.len), Some(PAYLOAD_MAX));
    assert_eq!(out, [0xAA; PAYLOAD_MAX]);
}

#[test]
fn waiting_coordination_keeps_its_first_and_refuses_the_rest() {
    let [mut a, mut b] = pair([1; 3], [1, 2, 1]);
    let mut post = |key, n| a.post(1, Class::Coordination, key, n, &[]);
    let posted = [post(None, 0), post(Some(7), 1), post(Some(7), 2), post(None, 3), post(None, 4)];
    let dropped = Posted::Dropped;
    let enqueued = Posted::Enqueued;
    let refused = [dropped(Reason::Duplicate), enqueued, dropped(Reason::QueueFull)];
    assert_eq!((&posted[..2], &posted[2..]), (&[enqueued; 2][..], &refused[..]));
    let mut got = Vec::new();
    for _ in 0..4 {
        got.extend(drain(&mut b));
        a.flush();
    }
    assert_eq!(got, [0, 1, 3]);
    // Nothing with the key waits any more.
    assert_eq!(a.post(1, Class::Coordination, Some(7), 5, &[]), Posted::Enqueued);
    assert_adds_up(&[a, b]);
}

#[test]
fn control_that_waits_sheds_what_waits_below_it() {
    let [mut a, mut b] = pair([1; 3], [2, 2, 2]);
    for class in [Class::Coordination, Class::Hints] {
        for n in 0..3 {
            assert_eq!(a.post(1, class, None, n, &[]), Posted::Enqueued);
        }
    }
    assert_eq!(a.post(1, Class::Control, None, 10, &[]), Posted::Enqueued);
    assert_eq!(a.stats().alarms, 0);
    let mut control = |n| a.post(1, Class::Control, None, n, &[]);
    assert_eq!([control(11), control(12)], [Posted::Enqueued; 2]);
    assert_eq!(control(13), Posted::Dropped(Reason::ControlFull));
    for class in [Class::Coordination, Class::Hints] {
        assert_eq!(a.stats().class(class).dropped(Reason::Shed), 2, "{class:?}");
    }
    assert_eq!(a.stats().alarms, 3);
    assert_eq!(drain(&mut b), [10, 0, 0]);
    for n in [11, 12] {
        a.flush();
        assert_eq!(drain(&mut b), [n]);
    }
    assert_adds_up(&[a, b]);
}

#[test]
fn a_full_shard_takes_nothing_from_others() {
    let mut mailboxes = mesh(&small([1; 3], [1; 3]), wakers(3));
    let [a, _, c] = &mut mailboxes[..] else { panic!("three of them") };
    for n in 0..2 {
        let _ = a.post(1, Class::Hints, None, n, &[]);
        let _ = a.post(1, Class::Control, None, n, &[]);
    }
    assert_eq!(a.post(2, Class::Hints, None, 5, &[]), Posted::Enqueued);
    assert_eq!(a.post(2, Class::Hints, None, 6, &[]), Posted::Enqueued);
    // What waits for shard 2 is none of the business of control for shard 1.
    assert_eq!(a.stats().class(Class::Hints).depth, 1);
    assert_eq!(drain(c), [5]);
    a.flush();
    assert_eq!(drain(c), [6]);
}

#[test]
fn bytes_without_room_keep_their_message_waiting() {
    let config = Config { bytes: [PAYLOAD_MAX; 3], ..Config::default() };
    let mut mailboxes = mesh(&config, wakers(2));
    let [a, b] = &mut mailboxes[..] else { panic!("two of them") };
    let _ = a.post(1, Class::Coordination, None, 0, &[1; 1000]);
    let _ = a.post(1, Class::Coordination, None, 1, &[2; 1000]);
    // It would fit; but not before its elders.
    let _ = a.post(1, Class::Coordination, None, 2, &[]);
    assert_eq!(a.stats().class(Class::Coordination).depth, 2);
    assert_eq!(drain(b), [0]);
    a.flush();
    assert_eq!(drain(b), [1, 2]);
}

#[test]
fn mail_is_served_8_to_4_to_1_and_senders_in_turn() {
    let mut mailboxes = mesh(&small([64; 3], [1; 3]), wakers(4));
    for from in [0, 1, 3] {
        for class in Class::ALL {
            for n in 0..[32, 16, 8][class as usize] {
                assert_eq!(mailboxes[from].post(2, class, None, n, &[]), Posted::Enqueued);
            }
        }
    }
    let mut out = [0; PAYLOAD_MAX];
    let mut froms = [const { Vec::new() }; 3];
    for _round in 0..12 {
        let mut served = [0; 3];
        for _ in 0..13 {
            let received = mailboxes[2].next(&mut out).unwrap();
            served[received.class as usize] += 1;
            froms[received.class as usize].push(received.from);
        }
        assert_eq!(served, [8, 4, 1]);
    }
    for from in froms {
        assert!(from.chunks(3).all(|turn| turn == &[0, 1, 3][..turn.len()]), "{from:?}");
    }
    // Who is alone is served alone.
    assert_eq!(mailboxes[2].next(&mut out).map(|received| received.class), Some(Class::Hints));
}

#[test]
fn only_who_waits_is_woken_and_once() {
    let mut mailboxes = mesh(&Config::default(), wakers(3));
    let [a, b, c] = &mut mailboxes[..] else { panic!("three of them") };
    let send = |from: &mut Mailbox<u32>| {
        let _ = from.post(2, Class::Hints, None, 0, &[]);
        from.flush();
    };
    send(a);
    assert_eq!(a.stats().wakes, 0, "it is awake");
    assert!(!c.sleep(), "mail is there");
    send(b);
    assert_eq!(b.stats().wakes, 0, "it did not go to sleep");
    assert_eq!(drain(c).len(), 2);
    assert!(c.sleep());
    a.flush();
    assert_eq!(a.stats().wakes, 0, "there is nothing new for it");
    send(a);
    send(b);
    send(a);
    assert_eq!((a.stats().wakes, b.stats().wakes), (1, 0));
    c.awake();
    assert_eq!(drain(c).len(), 3);
    assert!(c.sleep());
    c.awake();
    send(b);
    assert_eq!(b.stats().wakes, 0, "something else woke it");
}

#[test]
fn room_wakes_who_waits_for_it() {
    let [mut a, mut b] = pair([1; 3], [4; 3]);
    for n in 0..3 {
        let _ = a.post(1, Class::Hints, None, n, &[]);
    }
    assert!(a.sleep(), "nothing can move");
    b.flush();
    assert_eq!(b.stats().wakes, 0, "no room was made");
    assert_eq!(drain(&mut b), [0]);
    // A receiver that goes to sleep tells as one that flushes.
    assert!(b.sleep());
    assert_eq!((a.stats().wakes, b.stats().wakes), (0, 1));
    a.awake();
    a.flush();
    assert_eq!(a.stats().wakes, 1);
    b.awake();
    assert_eq!(drain(&mut b), [1]);
    assert!(!a.sleep() || a.stats().class(Class::Hints).depth == 0);
    a.flush();
    assert_eq!(drain(&mut b), [2]);
    assert!(a.sleep());
    b.flush();
    assert_eq!(b.stats().wakes, 1, "it holds nothing back");
}

#[test]
fn a_shard_that_panicked_goes_on_with_its_mail() {
    let [mut a, mut b] = pair([2; 3], [4; 3]);
    let panicked = std::thread::scope(|scope| {
        let turn = || {
            for n in 0..5 {
                let _ = a.post(1, Class::Control, None, n, &[1, 2, 3]);
            }
            // Not the hook: a test that prints a backtrace looks like a failure.
            std::panic::resume_unwind(Box::new("between two calls"));
        };
        scope.spawn(turn).join().is_err()
    });
    assert!(panicked && !b.sleep());
    let mut got = drain(&mut b);
    while a.stats().class(Class::Control).depth > 0 {
        a.flush();
        got.extend(drain(&mut b));
    }
    assert_eq!(got, [0, 1, 2, 3, 4]);
    assert_adds_up(&[a, b]);
}

#[test]
fn memory_is_that_of_all_pairs() {
    let config = Config { depths: [1; 3], bytes: [PAYLOAD_MAX; 3], backlogs: [1; 3] };
    assert_eq!(config.bytes::<u64>(1), 0);
    let pair = config.bytes::<u64>(2) / 2;
    assert!(pair > 6 * PAYLOAD_MAX && pair < 7 * PAYLOAD_MAX);
    assert_eq!(config.bytes::<u64>(8), 8 * 7 * pair);
}

#[test]
#[should_panic(expected = "needs no mail")]
fn a_shard_writes_to_others() {
    let [mut a, _b] = pair([1; 3], [1; 3]);
    let _ = a.post(0, Class::Control, None, 0, &[]);
}

#[test]
fn many_shards_have_shorter_backlogs() {
    let backlogs = |shards| Config::among(shards).backlogs;
    assert_eq!((backlogs(2), backlogs(4)), ([1024, 256, 256], [1024, 256, 256]));
    assert_eq!((backlogs(16), backlogs(64)), ([256, 64, 64], [128, 32, 32]));
}
