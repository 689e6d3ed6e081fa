//! WireGuard's cryptography: BoringTun as it comes.
//!
//! BoringTun is made for one peer with its own timers and queue. Here it is only a
//! responder, and four of its habits are kept from doing harm:
//!
//! 1. **Stale time.** It stamps everything with the time of its last
//!    `update_timers`. Without that call before a handshake, a new key would get
//!    the time of the last one: the next update would throw it away at once (it
//!    looks 180 s old), and keys of equal age take the place of the current one
//!    in any order, so a late packet switches back to an old key. So the timers
//!    are updated before every handshake.
//! 2. **Timers that act.** `update_timers` may send keepalives, initiate, retry,
//!    give up and then clear all keys. All of that starts from "sent, or received,
//!    after ...", in stamps of point 1. Updated only before handshakes, which
//!    set both stamps at once, they never differ. An initiation that turns out bad (a
//!    replay, or one that names a peer's key without having it) would be the
//!    exception: its update is not followed by a handshake, and what is sent and
//!    received afterwards differs. So after a bad one the timers are not updated
//!    again until a handshake has succeeded; if the stamp is old by then, that one
//!    is not answered, and the peer's next try, 5 s later, is.
//! 3. **Sealing without a key** queues the packet and initiates. The caller mirrors
//!    the ring of keys and does not ask; should it happen nonetheless, the session's state
//!    is thrown away whole.
//! 4. **Panics.** `decapsulate` panics on a short output before it has authenticated anything:
//!    asserted here. Counters near 2^64 overflow in its window: the caller drops those above 2^63.
//!
//! About upstream's report 495, "one-way deaf" sessions 15 to 30 s after a handshake:
//! the state machine of 0.7.1 is that of 0.6.0 (they differ in error types and
//! in the width of a counter), so no other version is better. A session is deaf
//! for 15 s when one side has lost, or not selected, the key that the other seals
//! under: 15 s (KEEPALIVE + REKEY_TIMEOUT) is how long the other waits for an answer
//! before it shakes hands again. BoringTun as initiator also shakes hands whenever it
//! sends after 15 s of silence, which gives it many occasions. A responder goes
//! deaf by points 1 and 2, which are met here, and by eight handshakes without a
//! word, of which the peer then uses an older one (see `ring`): nothing is sealed
//! until it uses the newest or shakes hands again. `tests/clock` holds hundreds of sessions on stock clients through
//! their own timers, loss, reordering and replays, on a clock of its own.

use std::sync::Arc;
use std::time::Duration;

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};

use super::{DATA_OVERHEAD, Initiation, RESPONSE_BYTES, Responded, SCRATCH_MIN, Tunnel};
use crate::drops::Drop;
use crate::ids::WgKey;
use crate::time::Moment;

/// How old the stamp of a new key may be (see point 2) for the key to be worth answering with.
const STALE_MAX: Duration = Duration::from_secs(30);

/// Multiplications: decrypting an initiation's key, a peer's state, a bad initiation, a good one with its response.
const CURVE_PEEK: u64 = 1;
const CURVE_NEW: u64 = 2;
const CURVE_BAD: u64 = 1;
const CURVE_RESPOND: u64 = 4;

/// Stock BoringTun, one state per slot.
pub struct WireGuard {
    secret: StaticSecret,
    public: PublicKey,
    /// Never limits: admission stands in front.
    limiter: Arc<RateLimiter>,
    slots: Vec<Option<Box<State>>>,
    curve_operations: u64,
}

struct State {
    tunn: Tunn,
    /// When its timers were updated.
    updated: Moment,
    /// An initiation after that was bad.
    off_beat: bool,
}

impl WireGuard {
    /// The router's side, for `slots` sessions; allocates their states as they come.
    pub fn new(secret: StaticSecret, slots: usize) -> Self {
        let public = PublicKey::from(&secret);
        let limiter = Arc::new(RateLimiter::new(&public, u64::MAX));
        let slots = std::iter::repeat_with(|| None).take(slots).collect();
        Self { secret, public, limiter, slots, curve_operations: 0 }
    }

    /// Our public key.
    pub fn public(&self) -> WgKey {
        WgKey(self.public.to_bytes())
    }
}

impl std::fmt::Debug for WireGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireGuard").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Tunnel for WireGuard {
    fn static_key(&mut self, initiation: &Initiation) -> Result<WgKey, Drop> {
        let Ok(Packet::HandshakeInit(packet)) = Tunn::parse_incoming_packet(initiation) else {
            return Err(Drop::BadInitiation);
        };
        self.curve_operations += CURVE_PEEK;
        let half = parse_handshake_anon(&self.secret, &self.public, &packet);
        half.map(|half| WgKey(half.peer_static_public)).map_err(|_| Drop::BadInitiation)
    }

    fn respond(
        &mut self,
        now: Moment,
        slot: u32,
        key: &WgKey,
        index: u32,
        initiation: &Initiation,
        out: &mut [u8],
    ) -> Result<Responded, Drop> {
        assert!(out.len() >= SCRATCH_MIN, "room for any handshake message");
        let place = &mut self.slots[slot as usize];
        if place.is_none() {
            self.curve_operations += CURVE_NEW;
        }
        let state = place.get_or_insert_with(|| {
            let (secret, limiter) = (self.secret.clone(), Arc::clone(&self.limiter));
            let tunn = Tunn::new(secret, PublicKey::from(key.0), None, None, index, Some(limiter));
            Box::new(State { tunn, updated: now, off_beat: false })
        });
        let mut fresh = false;
        if !state.off_beat {
            // What it would send is not sent; by point 2 it has nothing to.
            let update = state.tunn.update_timers(out);
            fresh = matches!(update, TunnResult::Err(WireGuardError::ConnectionExpired));
            state.updated = now;
        }
        let index = match state.tunn.decapsulate(None, initiation, out) {
            TunnResult::WriteToNetwork(&mut [2, _, _, _, a, b, c, d, ..]) => {
                u32::from_le_bytes([a, b, c, d])
            }
            TunnResult::WriteToNetwork(_)
            | TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {
                self.curve_operations += CURVE_BAD;
                state.off_beat = true;
                return Err(Drop::BadInitiation);
            }
        };
        self.curve_operations += CURVE_RESPOND;
        state.off_beat = false;
        let stale = now.since(state.updated) > STALE_MAX;
        let len = if stale { 0 } else { RESPONSE_BYTES };
        Ok(Responded { len, index, established: state.updated, fresh })
    }

    #[inline]
    fn open(&mut self, slot: u32, datagram: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
        assert!(out.len() + 16 >= datagram.len(), "the plaintext and its tag fit");
        let state = self.slots[slot as usize].as_mut().ok_or(Drop::NoSession)?;
        match state.tunn.decapsulate(None, datagram, out) {
            TunnResult::Done => Ok(0),
            // Cut to nothing by its own length field.
            TunnResult::WriteToTunnelV4([], _) | TunnResult::WriteToTunnelV6([], _) => {
                Err(Drop::BadShim)
            }
            TunnResult::WriteToTunnelV4(plaintext, _)
            | TunnResult::WriteToTunnelV6(plaintext, _) => Ok(plaintext.len()),
            TunnResult::Err(error) => Err(open_error(&error)),
            TunnResult::WriteToNetwork(_) => Err(Drop::NoSession),
        }
    }

    #[inline]
    fn seal(&mut self, slot: u32, frame: &[u8], out: &mut [u8]) -> Result<usize, Drop> {
        assert!(
            out.len() >= frame.len() + DATA_OVERHEAD && out.len() >= SCRATCH_MIN,
            "the message fits"
        );
        let place = &mut self.slots[slot as usize];
        let state = place.as_mut().ok_or(Drop::Unconfirmed)?;
        match state.tunn.encapsulate(frame, out) {
            TunnResult::WriteToNetwork(&mut [4, ..]) => Ok(frame.len() + DATA_OVERHEAD),
            TunnResult::WriteToNetwork(_)
            | TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {
                *place = None;
                Err(Drop::Unconfirmed)
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        self.slots[slot as usize] = None;
    }

    fn curve_operations(&self) -> u64 {
        self.curve_operations
    }
}

fn open_error(error: &WireGuardError) -> Drop {
    match error {
        WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter => Drop::Replayed,
        // Past the parser, only for a plaintext that is no IP packet: it was authentic.
        WireGuardError::InvalidPacket => Drop::BadShim,
        WireGuardError::NoCurrentSession | WireGuardError::WrongIndex => Drop::NoSession,
        WireGuardError::InvalidAeadTag
        | WireGuardError::DestinationBufferTooSmall
        | WireGuardError::IncorrectPacketLength
        | WireGuardError::UnexpectedPacket
        | WireGuardError::WrongPacketType
        | WireGuardError::WrongKey
        | WireGuardError::InvalidTai64nTimestamp
        | WireGuardError::WrongTai64nTimestamp
        | WireGuardError::InvalidMac
        | WireGuardError::LockFailed
        | WireGuardError::ConnectionExpired
        | WireGuardError::UnderLoad => Drop::BadTag,
    }
}
