//! One node: the production router of one shard and the client library, at one address.
//!
//! What it does is what a real node would: at first, and every [`REFRESH`], it looks up its own id, and an
//! id of one of its farther buckets, in turn, of all of them at first. Whom it asks on the way hears who
//! it is and lists it. Its lookups begin at the nodes that answered it
//! lately, at those that its own router lists, and, if these are few, at the well-known ones. A key is
//! published to the [`WANTED`] closest nodes every [`REPUBLISH`].

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bufpool::{Buf, Hugepages, Pool, PoolConfig};
use molia_router::client::crowd::{self, Crowd, LookupId};
use molia_router::client::lookup::{self, Contact, Goal};
use molia_router::counters::Counters;
use molia_router::egress::ClassConfig;
use molia_router::identity::Identity;
use molia_router::ids::PeerId;
use molia_router::limits::{RX_SLOT_BYTES, SLOT_BYTES, SLOT_HEADROOM};
use molia_router::net::{Datagram, Local, Path, Transmit};
use molia_router::overlay::records::Share;
use molia_router::overlay::table::Closest;
use molia_router::router::{Config, Router};
use molia_router::time::{Moment, Now};
use molia_router::tunnel::Secrets;
use molia_router::tunnel::plain::Plain;
use molia_router::wire::body;

use super::dice::Dice;
use super::plain::PlainInitiator;

/// Between two lookups of the own id.
pub(crate) const REFRESH: Duration = Duration::from_secs(30);
/// Buckets that 200 nodes have: in a deeper one all are neighbours.
const BUCKETS: u32 = 5;
/// Between two publications of a key.
pub(crate) const REPUBLISH: Duration = Duration::from_secs(20);
/// Life of a published value: three publications may fail.
pub(crate) const TTL: Duration = Duration::from_secs(80);
/// Sessions of a node, in either role.
const SESSIONS: u32 = 512;
/// Receiver indices of the client side have this bit, those of the router do not.
const OURS: u32 = 1 << 31;
/// Indices of one session's lives.
const LIFE_BITS: u32 = 12;

pub(crate) struct Node {
    pub(crate) contact: Contact,
    pub(crate) identity: Arc<Identity>,
    router: Router<Plain>,
    pub(crate) crowd: Crowd<PlainInitiator>,
    rx: Pool,
    bootstraps: Vec<Contact>,
    /// Its first lookup of itself, and whether that is over.
    pub(crate) joining: Option<LookupId>,
    pub(crate) joined: bool,
    /// When it is looked at next.
    pub(crate) wake: Moment,
    /// How often it refreshed, and what it draws from for it.
    refreshed: u32,
    dice: Dice,
}

fn pool(slot_bytes: usize, slots: usize, headroom: usize) -> Pool {
    let hugepages = Hugepages::Off;
    let shape = PoolConfig { slot_bytes, slots, headroom, hugepages, prefault: false };
    Pool::new(shape).unwrap()
}

fn config(stamp_bits: u32) -> Config {
    let mut config = Config::default();
    config.tunnel.sessions_max = SESSIONS;
    config.tunnel.admission.table_entries = 1024;
    config.egress.sessions_max = SESSIONS as usize;
    let class = |class: &ClassConfig, depth| ClassConfig { depth, ..*class };
    let [control, coordination, hints] = &config.egress.classes;
    config.egress.classes = [class(control, 64), class(coordination, 128), class(hints, 16)];
    config.table.entries_max = 1024;
    let share = Share { entries: 256, bytes: 64 << 10 };
    let records = &mut config.records;
    for limits in [&mut records.table.values, &mut records.table.providers] {
        (limits.total, limits.peer, limits.network) = (share, share, share);
    }
    records.stamp_bits = stamp_bits;
    config
}

impl Node {
    pub(crate) fn new(
        now: Now,
        address: SocketAddr,
        clock: &Rc<Cell<u64>>,
        stamp_bits: u32,
        bootstraps: &[Contact],
        dice: &mut Dice,
    ) -> Self {
        let identity = Arc::new(Identity::generate(&mut dice.rng()));
        let (peer, key) = (identity.peer_id(), identity.wg_key());
        let config = config(stamp_bits);
        let secrets = Secrets { cookies: dice.bytes(), seed: dice.bytes() };
        let router = Router::new(
            config.clone(),
            Arc::clone(&identity),
            Plain::new(key, SESSIONS as usize),
            pool(SLOT_BYTES, config.slots(), SLOT_HEADROOM),
            Counters::anonymous(0).unwrap(),
            &secrets,
        );
        let (clock, mut fork, mut lives) = (Rc::clone(clock), dice.fork(), 0);
        let dial = move |to: &Contact| {
            lives += 1;
            let index = OURS | lives << LIFE_BITS;
            PlainInitiator::new(key, to.key, index, Rc::clone(&clock), fork.fork())
        };
        let crowd = Crowd::new(Some(Arc::clone(&identity)), Box::new(dial), dice.rng());
        Self {
            contact: Contact { peer, key, address },
            identity,
            router,
            crowd,
            rx: pool(RX_SLOT_BYTES, 1, 0),
            bootstraps: bootstraps.to_vec(),
            joining: None,
            joined: false,
            wake: now.at,
            refreshed: 0,
            dice: dice.fork(),
        }
    }

    /// What it looks up to know its neighbours, and nodes elsewhere.
    pub(crate) fn refresh(&mut self, now: Moment) -> Vec<LookupId> {
        let ours = self.contact.peer;
        let turn = self.refreshed % BUCKETS;
        let buckets = if self.refreshed == 0 { 0..BUCKETS } else { turn..turn + 1 };
        self.refreshed += 1;
        let mut ids = vec![self.look_up(now, Goal::Node(ours))];
        for bucket in buckets {
            let target = lookup::bucket_target(&ours, bucket, self.dice.bytes());
            ids.push(self.look_up(now, Goal::Node(target)));
        }
        ids
    }

    /// Starts a lookup.
    pub(crate) fn look_up(&mut self, now: Moment, goal: Goal) -> LookupId {
        let mut known = self.listed(&goal.target());
        if known.len() < lookup::WANTED {
            known.extend(&self.bootstraps);
        }
        let config = lookup::Config::default();
        self.crowd.look_up(now, goal, config, known)
    }

    /// Whom its own router lists close to `target`.
    fn listed(&self, target: &PeerId) -> Vec<Contact> {
        let (table, mut closest) = (self.router.table(), Closest::new());
        table.closest(target, lookup::WANTED, &mut closest);
        let contact = |at: &_| {
            let peer = body::Peer::read(table.encoded(*at)).unwrap();
            let address = peer.addrs.sockets().next().unwrap();
            Contact { peer: peer.peer_id, key: peer.wg_public, address }
        };
        closest.iter().map(contact).collect()
    }

    /// Takes a datagram; what goes out because of it is sent by `send`.
    pub(crate) fn receive(
        &mut self,
        now: Now,
        from: SocketAddr,
        bytes: &[u8],
        send: &mut impl FnMut(SocketAddr, &[u8]),
    ) {
        if is_for_client(bytes) {
            return self.crowd.receive(now, from, bytes);
        }
        let mut buf: Buf = self.rx.take().unwrap();
        assert!(buf.extend(bytes));
        let path = Path { peer: from, local: Local::default() };
        let datagram = Datagram { path, segment: buf.len(), buf };
        let mut outlet = |it: Transmit| send(it.path.peer, &it.buf);
        let left = self.router.receive(now, datagram, &mut outlet);
        assert!(left.is_none(), "there is always room");
    }

    /// Does what is due.
    pub(crate) fn poll(&mut self, now: Now, send: &mut impl FnMut(SocketAddr, &[u8])) {
        self.router.poll(now, &mut |it: Transmit| send(it.path.peer, &it.buf));
        while let Some((to, bytes)) = self.crowd.poll_transmit(now) {
            send(to, &bytes);
        }
    }

    pub(crate) fn next_event(&mut self) -> Option<crowd::Event> {
        self.crowd.poll_event()
    }

    pub(crate) fn next_deadline(&self) -> Moment {
        self.router.next_deadline().min(self.crowd.next_deadline())
    }
}

/// Whether a datagram belongs to a session that the client side began.
fn is_for_client(bytes: &[u8]) -> bool {
    match bytes {
        [2 | 3, ..] => true,
        [4, 0, 0, 0, index @ ..] => index.get(3).is_some_and(|high| high >> 7 == 1),
        _ => false,
    }
}
