//! The pool's promises: slots are conserved, never shared, and hold what was put in.

use bufpool::{Buf, Hugepages, Loan, Pool, PoolConfig};
use proptest::prelude::*;

const SLOT_BYTES: usize = 256;
const HEADROOM: usize = 32;

fn pool(slots: usize) -> Pool {
    // Normal pages without prefault: what Miri can map too.
    let hugepages = Hugepages::Off;
    let prefault = false;
    let config =
        PoolConfig { slot_bytes: SLOT_BYTES, slots, headroom: HEADROOM, hugepages, prefault };
    Pool::new(config).expect("a small mapping")
}

/// Takes a loan back that no kernel was ever told of.
fn reclaim(loan: Loan) -> Buf {
    // SAFETY: no kernel knows the slot.
    unsafe { loan.reclaim() }
}

#[test]
fn a_dropped_buffer_comes_home_last_in_first_out() {
    let pool = pool(2);
    let first = pool.take().unwrap();
    let second = pool.take().unwrap();
    assert_ne!(first.slot(), second.slot());
    assert!(pool.take().is_none());
    let slot = second.slot();
    drop(second);
    assert_eq!(pool.take().unwrap().slot(), slot);
    assert_eq!(pool.free(), 1);
    drop(first);
    assert_eq!(pool.free(), 2);
}

#[test]
fn content_moves_within_head_and_tailroom() {
    let pool = pool(1);
    let mut buf = pool.take().unwrap();
    assert!(buf.extend(b"body"));
    buf.prepend(4).copy_from_slice(b"head");
    assert_eq!(&buf[..], b"headbody");
    assert_eq!((buf.headroom(), buf.tailroom()), (28, 220));
    buf.advance(4);
    buf.truncate(2);
    buf.truncate(100);
    assert_eq!(&buf[..], b"bo");
    assert!(!buf.extend(&[0; 256]));
    assert_eq!(&buf[..], b"bo");
    buf.set_window(0, SLOT_BYTES);
    assert_eq!((buf.headroom(), buf.tailroom(), buf.len()), (0, 0, SLOT_BYTES));
    assert_eq!(&buf[28..36], b"headbody", "truncating gives bytes up, it does not erase them");
}

#[test]
fn buffers_and_loans_outlive_their_pool() {
    let pool = pool(2);
    let mut buf = pool.take().unwrap();
    let loan = pool.take().unwrap().lend();
    drop(pool);
    assert!(buf.extend(b"still mine"));
    drop(buf);
    assert_eq!(reclaim(loan).len(), 0);
}

#[test]
fn a_lent_slot_is_not_free_and_keeps_its_bounds() {
    let pool = pool(1);
    let mut buf = pool.take().unwrap();
    assert!(buf.extend(b"on its way"));
    let loan = buf.lend();
    let (content, len) = loan.content();
    let (whole, bytes) = loan.whole();
    assert_eq!((pool.free(), len, bytes), (0, 10, SLOT_BYTES));
    assert_eq!(content.addr() - whole.addr(), HEADROOM);
    assert_eq!(&reclaim(loan)[..], b"on its way");
    assert_eq!(pool.free(), 1);
}

#[test]
fn a_dropped_loan_leaks_its_slot_and_nothing_else() {
    let pool = pool(2);
    drop(pool.take().unwrap().lend());
    assert_eq!(pool.free(), 1);
    drop(pool.take());
    assert_eq!((pool.free(), pool.slots()), (1, 2));
}

#[test]
fn slots_lie_in_the_region_without_overlap() {
    let pool = pool(3);
    let (base, bytes) = pool.region();
    let bufs = [pool.take().unwrap(), pool.take().unwrap(), pool.take().unwrap()];
    for buf in bufs {
        let at = buf.as_ptr().addr() - HEADROOM - base.as_ptr().addr();
        assert_eq!(at, buf.slot() as usize * SLOT_BYTES);
        assert!(at + SLOT_BYTES <= bytes);
    }
}

#[test]
fn debug_says_where_the_slots_are() {
    let pool = pool(2);
    let buf = pool.take().unwrap();
    let text = format!("{pool:?} {buf:?} {:?}", pool.take().unwrap().lend());
    assert!(text.contains("slots: 2, slot_bytes: 256, free: 0"), "{text}");
    assert!(text.contains("Buf(slot 0, 32 + 0 of 256) Loan(slot 1)"), "{text}");
}

#[test]
#[should_panic(expected = "window outside the slot")]
fn a_window_beyond_the_slot_panics() {
    pool(1).take().unwrap().set_window(200, 57);
}

#[test]
#[should_panic(expected = "prepended beyond the slot")]
fn headroom_is_finite() {
    pool(1).take().unwrap().prepend(33);
}

/// What a test does to one of the buffers it holds.
#[derive(Clone, Debug)]
enum Op {
    Take,
    Drop(usize),
    Lend(usize),
    Reclaim(usize),
    Extend(usize, Vec<u8>),
    Prepend(usize, Vec<u8>),
    Advance(usize, usize),
    Truncate(usize, usize),
    Grow(usize, Vec<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    let which = 0..8usize;
    let bytes = || proptest::collection::vec(any::<u8>(), 0..120);
    prop_oneof![
        4 => Just(Op::Take),
        1 => which.clone().prop_map(Op::Drop),
        1 => which.clone().prop_map(Op::Lend),
        1 => which.clone().prop_map(Op::Reclaim),
        2 => (which.clone(), bytes()).prop_map(|(n, b)| Op::Extend(n, b)),
        2 => (which.clone(), bytes()).prop_map(|(n, b)| Op::Prepend(n, b)),
        1 => (which.clone(), 0..200usize).prop_map(|(n, k)| Op::Advance(n, k)),
        1 => (which.clone(), 0..200usize).prop_map(|(n, k)| Op::Truncate(n, k)),
        2 => (which, bytes()).prop_map(|(n, b)| Op::Grow(n, b)),
    ]
}

/// The same content in a slot and in a plain vector.
struct Twin {
    buf: Buf,
    model: Vec<u8>,
}

impl Twin {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Extend(_, bytes) => {
                let fits = bytes.len() <= self.buf.tailroom();
                assert_eq!(self.buf.extend(&bytes), fits);
                if fits {
                    self.model.extend(bytes);
                }
            }
            Op::Prepend(_, bytes) if bytes.len() <= self.buf.headroom() => {
                self.buf.prepend(bytes.len()).copy_from_slice(&bytes);
                self.model.splice(0..0, bytes);
            }
            Op::Advance(_, n) if n <= self.buf.len() => {
                self.buf.advance(n);
                self.model.drain(..n);
            }
            Op::Truncate(_, n) => {
                self.buf.truncate(n);
                self.model.truncate(n);
            }
            Op::Grow(_, bytes) if bytes.len() <= self.buf.tailroom() => {
                self.buf.spare_mut()[..bytes.len()].copy_from_slice(&bytes);
                self.buf.grow(bytes.len());
                self.model.extend(bytes);
            }
            Op::Prepend(..) | Op::Advance(..) | Op::Grow(..) => {}
            Op::Take | Op::Drop(_) | Op::Lend(_) | Op::Reclaim(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn slots_are_conserved_and_hold_what_was_put_in(ops in proptest::collection::vec(op(), 1..200)) {
        let pool = pool(6);
        let mut held: Vec<Twin> = Vec::new();
        let mut lent: Vec<(Loan, Vec<u8>)> = Vec::new();
        for op in ops {
            match op {
                Op::Take => match pool.take() {
                    Some(buf) => held.push(Twin { buf, model: Vec::new() }),
                    None => prop_assert_eq!(held.len() + lent.len(), 6),
                },
                Op::Drop(n) if n < held.len() => drop(held.swap_remove(n)),
                Op::Lend(n) if n < held.len() => {
                    let twin = held.swap_remove(n);
                    lent.push((twin.buf.lend(), twin.model));
                }
                Op::Reclaim(n) if n < lent.len() => {
                    let (loan, model) = lent.swap_remove(n);
                    held.push(Twin { buf: reclaim(loan), model });
                }
                Op::Drop(_) | Op::Lend(_) | Op::Reclaim(_) => {}
                Op::Extend(n, _) | Op::Prepend(n, _) | Op::Advance(n, _) | Op::Truncate(n, _)
                | Op::Grow(n, _) => {
                    if let Some(twin) = held.get_mut(n) {
                        twin.apply(op);
                    }
                }
            }
            prop_assert_eq!(pool.free() + held.len() + lent.len(), 6);
            for twin in &held {
                prop_assert_eq!(&twin.buf[..], &twin.model[..]);
                let room = twin.buf.headroom() + twin.buf.len() + twin.buf.tailroom();
                prop_assert_eq!(room, SLOT_BYTES);
            }
        }
        for (loan, _) in lent {
            drop(reclaim(loan));
        }
    }
}
