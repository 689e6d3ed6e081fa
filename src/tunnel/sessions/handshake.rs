//! Initiations: admission, the turn's budget, a slot, the answer.

use rand_core::RngCore;

use super::newcomers::Place;
use super::{Config, Sessions};
use crate::admission::{Standing, Verdict, cookie};
use crate::drops::Drop;
use crate::ids::WgKey;
use crate::net::{Address, Path, Prefix};
use crate::time::{Moment, Now};
use crate::tunnel::pending::Waiting;
use crate::tunnel::session::Session;
use crate::tunnel::{Initiation, Moved, Opened, Tunnel};

/// What an initiation led to.
pub(super) enum Answer {
    /// A response of so many bytes.
    Response(usize),
    /// Its peer lives in another shard.
    Move { home: u16, key: WgKey },
    /// None without a cookie, for this reason.
    Prove(Drop),
}

impl<T: Tunnel> Sessions<T> {
    pub(super) fn initiation<'s>(
        &mut self,
        now: Now,
        path: &Path,
        datagram: &[u8],
        scratch: &'s mut [u8],
    ) -> Opened<'s> {
        let Ok(initiation) = <&Initiation>::try_from(datagram) else {
            return Opened::Dropped(Drop::BadLength);
        };
        let known = self.known.has(now.at, &Address::of(&path.peer));
        let standing = match self.admission.judge(now, &path.peer, known, initiation) {
            Verdict::Pass(standing) => standing,
            Verdict::Cookie(drop) => return self.cookie(now, path, initiation, drop, scratch),
            Verdict::Dropped(drop) => return Opened::Dropped(drop),
        };
        let waiting = Waiting { path: *path, initiation: *initiation, key: None };
        self.admitted(now, standing, waiting, scratch)
    }

    /// Takes an initiation that another shard has opened up to its static key and found this
    /// shard to be the peer's home. It has paid at that shard's admission.
    ///
    /// # Panics
    /// If `scratch` is shorter than [`SCRATCH_MIN`](crate::tunnel::SCRATCH_MIN).
    pub fn adopt<'s>(
        &mut self,
        now: Now,
        moved: &Moved,
        initiation: &Initiation,
        scratch: &'s mut [u8],
    ) -> Opened<'s> {
        if let Err(drop) = self.admission.vouched(initiation) {
            return Opened::Dropped(drop);
        }
        let (path, initiation) = (moved.path, *initiation);
        let waiting = Waiting { path, initiation, key: Some(moved.key) };
        self.admitted(now, moved.standing, waiting, scratch)
    }

    /// Answers what admission let through, now or when a turn has budget for it.
    fn admitted<'s>(
        &mut self,
        now: Now,
        standing: Standing,
        waiting: Waiting,
        scratch: &'s mut [u8],
    ) -> Opened<'s> {
        let Waiting { path, initiation, .. } = waiting;
        if self.pending.is_empty() && self.may_answer(now.at) {
            return match self.handshake(now, standing, &waiting, scratch) {
                Ok(Answer::Response(len)) => Opened::Reply { bytes: &scratch[..len], drop: None },
                Ok(Answer::Prove(drop)) => self.cookie(now, &path, &initiation, drop, scratch),
                Ok(Answer::Move { home, key }) => Opened::Move(Moved { home, key, standing, path }),
                Err(drop) => Opened::Dropped(drop),
            };
        }
        if self.pending.push(standing, waiting) {
            return Opened::Nothing;
        }
        match standing {
            Standing::Shown => Opened::Dropped(Drop::HandshakeBudget),
            // With a cookie it comes into the lane that is served first.
            Standing::Known | Standing::Stranger => {
                self.cookie(now, &path, &initiation, Drop::HandshakeBudget, scratch)
            }
        }
    }

    fn cookie<'s>(
        &mut self,
        now: Now,
        path: &Path,
        initiation: &Initiation,
        drop: Drop,
        scratch: &'s mut [u8],
    ) -> Opened<'s> {
        Opened::Reply { bytes: self.reply(now, path, initiation, scratch), drop: Some(drop) }
    }

    /// The cookie that `initiation` is to come again with.
    pub(super) fn reply<'s>(
        &mut self,
        now: Now,
        path: &Path,
        initiation: &Initiation,
        scratch: &'s mut [u8],
    ) -> &'s [u8] {
        let reply = scratch.first_chunk_mut().expect("scratch holds SCRATCH_MIN bytes");
        *reply = self.admission.reply(now, &path.peer, initiation);
        self.stats.cookies += 1;
        &scratch[..cookie::REPLY_BYTES]
    }

    /// Whether this turn has budget for another handshake; takes it. A turn is known by its moment.
    pub(super) fn may_answer(&mut self, now: Moment) -> bool {
        if now != self.turn {
            (self.turn, self.answered) = (now, 0);
        }
        let may = self.answered < self.config.handshakes_per_turn;
        self.answered += u32::from(may);
        may
    }

    /// Answers an initiation, or finds who has to: the one place where curve work is done.
    pub(super) fn handshake(
        &mut self,
        now: Now,
        standing: Standing,
        waiting: &Waiting,
        scratch: &mut [u8],
    ) -> Result<Answer, Drop> {
        let made = self.respond(now, standing, waiting, scratch);
        match made {
            Ok(Answer::Response(_)) => self.stats.handshakes += 1,
            Ok(Answer::Move { .. }) => self.stats.moved += 1,
            Ok(Answer::Prove(_)) => {}
            Err(_) => self.stats.handshakes_failed += 1,
        }
        made
    }

    fn respond(
        &mut self,
        now: Now,
        standing: Standing,
        waiting: &Waiting,
        scratch: &mut [u8],
    ) -> Result<Answer, Drop> {
        let Config { shard, partition, .. } = self.config;
        let Waiting { path, initiation, key } = waiting;
        let key = match *key {
            Some(key) => key,
            None => self.engine.static_key(initiation)?,
        };
        let home = partition.home(&key);
        if home != shard {
            return Ok(Answer::Move { home, key });
        }
        let known = self.by_key.get(&key).copied();
        let slot = match known {
            Some(slot) => slot,
            None => match self.place(now.at, standing, &Prefix::of(path.peer.ip()))? {
                Place::Slot(slot) => slot,
                Place::ForProof => return Ok(Answer::Prove(Drop::SessionsFull)),
            },
        };
        let index = partition.index(shard, slot);
        let made = match self.engine.respond(now.at, slot, &key, index, initiation, scratch) {
            Ok(made) => made,
            Err(drop) => {
                if known.is_none() {
                    self.engine.remove(slot);
                    self.free.push(slot);
                }
                return Err(drop);
            }
        };
        if known.is_none() {
            self.by_key.insert(key, slot);
            self.stats.begun += 1;
            let session = Session::new(now.at, key, *path, self.token);
            self.networks.enter(session.network());
            self.token = self.rng.next_u64();
            self.slots[slot as usize].session = Some(session);
        }
        if let Some(tenant) = &mut self.slots[slot as usize].session {
            if made.fresh {
                tenant.ring.clear();
            }
            tenant.ring.add(made.established, made.index, Address::of(&path.peer));
        }
        self.arm(now.at, slot);
        if made.len == 0 { Err(Drop::BadInitiation) } else { Ok(Answer::Response(made.len)) }
    }

    /// Empties a slot.
    pub(super) fn vacate(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        let Some(tenant) = place.session.take() else { return };
        place.generation = place.generation.wrapping_add(1);
        self.by_key.remove(tenant.key());
        self.networks.leave(tenant.network());
        self.wheel.cancel(slot);
        self.engine.remove(slot);
        self.free.push(slot);
        self.stats.ended += 1;
    }
}
