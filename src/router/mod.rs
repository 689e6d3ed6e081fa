//! The router without its sockets: datagrams in, datagrams out, time as an argument.
//!
//! `Router` owns the state of one shard and connects the state machines, which do
//! not know each other. It never reads a clock, touches a socket or waits; the
//! shard's loop and the simulator drive the same code:
//!
//! 1. [`Router::receive`] for every receive slot,
//! 2. [`Router::poll`] for what time alone brings about,
//! 3. [`Router::transmit`] for what is to be sent,
//! 4. [`Router::take_mail`] for what other shards are to know, whose own
//!    mail comes by [`Router::deliver`],
//! 5. [`Router::take_changes`] for what the store is to know, which says how
//!    far it is by [`Router::stored`].
//!
//! Frames leave their queues only while the outlet has room. Without it, receiving stops before
//! a control answer would find no place: what is left of the slot is given back.
//!
//! Whatever a peer sends ends as an answer or as a counter.

mod config;
mod dispatch;
mod facts;
mod journal;
mod letters;
mod mail;
mod negotiate;
mod overlay;
mod peers;
mod probes;
mod records;
mod reflect;
mod relay;
mod rendezvous;
mod restore;
mod role;
mod send;
mod sharing;
mod stun;
mod values;

use std::collections::VecDeque;
use std::sync::Arc;

use bufpool::Pool;
use rand_chacha::ChaCha12Rng;
use rand_core::{RngCore, SeedableRng};

use crate::admission::cookie::Cookies;
use crate::admission::stamps::Stamps;
use crate::bucket::{BucketTable, Keyed};
use crate::counters::Counters;
use crate::drops::Drop;
use crate::egress::Egress;
use crate::identity::Identity;
use crate::identity::known::Known;
use crate::ids::{PeerId, SessionRef};
use crate::limits;
use crate::net::{Datagram, Outlet, Path, Prefix};
use crate::overlay::reassembly::Reassembly;
use crate::overlay::{Directory, Others, Publisher, Records, Sample, Table};
use crate::partition::{Partition, ShardSet};
use crate::relay::Relay;
use crate::relay::stock::{self, Stock};
use crate::rendezvous::{Attempts, FactTable};
use crate::time::{Moment, Now};
use crate::tunnel::{self, Event, Opened, Secrets, Session, Sessions, Tunnel};
use crate::wheel::Wheel;
use crate::wire::body::{IdentityBinding, Stamp};
use crate::wire::{self, Class, Header, Kind, channel};

use journal::Journal;
use letters::Letters;
use mail::Tray;
use peers::Peers;
use relay::Allocation;
use rendezvous::Introduction;
use send::Outbox;

pub use config::{Config, RecordsConfig};
pub use journal::{Cursor, Keeping};
pub use mail::Mail;
pub use overlay::RestoredPeer;
pub use probes::ProbedFrom;
pub use reflect::Wanted;
pub use relay::PortWish;
pub use role::Role;

/// Stamps that a shard remembers of each minute: a thousand writes a second.
const STAMPS_A_MINUTE: usize = 60_000;

/// The state of one shard.
pub struct Router<T: Tunnel> {
    config: Config,
    /// This shard, of those of `partition`.
    shard: u16,
    partition: Partition,
    identity: Arc<Identity>,
    /// Our binding as it is told; signed when first asked for and again before it ends.
    own_binding: Option<IdentityBinding>,
    /// Bindings of others that need not be checked again.
    known: Known,
    sessions: Sessions<T>,
    peers: Peers,
    /// Who is listed, of those whose ids this shard owns.
    table: Table,
    /// Where the peers are whose ids this shard owns, listed or not.
    directory: Directory,
    publisher: Publisher,
    /// Who is listed elsewhere.
    others: Others,
    /// Some of all who are listed.
    sample: Sample,
    /// Values and providers of the keys that this shard owns.
    records: Records,
    /// What is left of the writes of every network.
    network_writes: BucketTable<Prefix>,
    /// What is left of the introductions and channels that every network may ask for.
    network_asks: BucketTable<Prefix>,
    /// Stamps that paid for them.
    stamps: Stamps,
    /// Channels of pairs of peers.
    relay: Relay,
    /// Sessions whose legs are to be told of again.
    restless: relay::Restless,
    /// Whether there was no room for more when last something was sent.
    blocked: bool,
    /// Ports of pairs of peers that use unmodified WireGuard.
    stock: Stock,
    /// Requests that wait for theirs to be opened.
    #[expect(clippy::vec_box, reason = "the boxes are letters, which go on")]
    opening: Vec<Box<Allocation>>,
    /// Of ports for unmodified WireGuard peers.
    cookies: Cookies,
    /// Filter probes by the other router that networks may ask for.
    probes_via: BucketTable<Prefix>,
    /// Cookies that were sent this turn, which is known by its moment.
    cookies_sent: (Moment, [u32; 2]),
    /// Introductions that wait for the word of a peer whose session is here.
    attempts: Attempts<Box<Introduction>>,
    /// What is known of the NATs of peers whose home this shard is.
    facts: FactTable,
    /// How often peers may be asked for it.
    notified: BucketTable<(PeerId, Option<Prefix>)>,
    /// Filter probes on their way.
    probes: probes::Probes,
    /// What the other router is to do, if there is one.
    cooperation: reflect::Cooperation,
    /// What is left of the STUN requests of every address.
    stun_budget: stun::Budget,
    /// Records that come in chunks, with the stamp on the first.
    reassembly: Reassembly<SessionRef, Stamp>,
    /// A record that came in chunks; grows to the largest one.
    whole: Vec<u8>,
    /// What was signed, or is to be kept, put together; grows likewise.
    signed: Vec<u8>,
    /// What is noted for the store.
    journal: Journal,
    letters: Letters,
    /// Shards to be told again who is here, and the next slot to look at.
    telling: VecDeque<(u16, u32)>,
    tray: Tray,
    /// Shards that control mail to got lost, and when to make up for it.
    lost: (ShardSet, Moment),
    outbox: Outbox,
    /// Where a datagram is decrypted; lent out while its frame is handled.
    scratch: Box<[u8]>,
    rng: ChaCha12Rng,
    /// When a session's identity ends, by slot.
    identity_ends: Wheel,
    /// How busy the shard is, told in every PONG.
    load_permille: u32,
}

/// A request that passed every check in front of its body's parser.
struct Request<'a> {
    from: Source,
    /// Class that its answer travels in.
    class: Class,
    header: Header,
    body: &'a [u8],
}

impl Request<'_> {
    /// Its type, if the protocol has such a one.
    fn kind(&self) -> Option<Kind> {
        Kind::try_from(self.header.kind).ok()
    }
}

/// Who sent a frame and where from.
#[derive(Clone, Copy)]
struct Source {
    session: SessionRef,
    /// Path of the datagram at hand; the session's endpoint may be another.
    path: Path,
    /// Network of the session's endpoint, where answers go and what they are charged to.
    prefix: Prefix,
}

impl<T: Tunnel> Router<T> {
    /// Memory that the tables of this configuration take. Whoever cannot have it would be ended
    /// by the constructors, which do not ask.
    pub fn bytes(config: &Config) -> usize {
        let sessions = config.tunnel.sessions_max as usize;
        let peers = Peers::bytes(sessions) + Wheel::bytes(sessions) + limits::RX_SLOT_BYTES;
        let kept = Sessions::<T>::bytes(&config.tunnel) + Table::bytes(&config.table);
        let records = Records::bytes(&config.records.table) + Stamps::bytes(STAMPS_A_MINUTE);
        let whole = Reassembly::<SessionRef, Stamp>::bytes(&config.records.reassembly());
        let kept = kept + records + whole + Known::bytes(sessions) + Directory::bytes(sessions);
        let kept = kept + Relay::bytes(&config.relay_of_shard()) + FactTable::bytes(sessions);
        let kept = kept + Stock::bytes(config.ports_of_shard());
        peers + kept + Egress::bytes(&config.egress)
    }

    /// A router with empty tables that writes into slots of `pool`.
    pub fn new(
        config: Config,
        identity: Arc<Identity>,
        tunnel: T,
        pool: Pool,
        counters: Counters,
        secrets: &Secrets,
    ) -> Self {
        // Another stream of the same key than the sessions draw from.
        let mut rng = ChaCha12Rng::from_seed(secrets.seed);
        rng.set_stream(1);
        let sessions = Sessions::new(config.tunnel, tunnel, &identity.wg_key(), secrets);
        let egress = Egress::new(&config.egress, rng.next_u64());
        let channel_seed = [rng.next_u64(), rng.next_u64()];
        let mut keyed = || Keyed::new([rng.next_u64(), rng.next_u64()]);
        let tunnel::Config { shard, partition, .. } = config.tunnel;
        Self {
            shard,
            partition,
            directory: Directory::new(sessions.capacity(), keyed()),
            publisher: Publisher::default(),
            others: Others::default(),
            sample: Sample::default(),
            records: Records::new(config.records.table, keyed()),
            network_writes: records::network_writes(keyed()),
            network_asks: records::network_asks(keyed()),
            stamps: Stamps::new(identity.peer_id(), STAMPS_A_MINUTE, keyed()),
            relay: Relay::new(config.relay_of_shard(), channel_seed),
            facts: FactTable::new(sessions.capacity(), keyed()),
            restless: VecDeque::new(),
            blocked: false,
            stock: Stock::new(config.relay_of_shard(), config.ports_of_shard(), &mut keyed),
            opening: Vec::new(),
            cookies: Cookies::new(secrets.cookies),
            cookies_sent: (Moment::START, [0; 2]),
            attempts: Attempts::default(),
            notified: BucketTable::new(rendezvous::NOTIFIED_PEERS, rendezvous::NOTIFIED, keyed()),
            probes: probes::Probes::default(),
            probes_via: reflect::probes_via(keyed()),
            cooperation: reflect::Cooperation::default(),
            stun_budget: stun::budget(config.stun, keyed()),
            reassembly: Reassembly::new(config.records.reassembly(), keyed()),
            whole: Vec::new(),
            signed: Vec::new(),
            journal: Journal::new(config.records.keeping),
            letters: Letters::default(),
            known: Known::new(sessions.capacity(), keyed()),
            telling: VecDeque::with_capacity(partition.shards().into()),
            tray: Tray::new(partition.shards()),
            lost: (ShardSet::default(), Moment::NEVER),
            own_binding: None,
            peers: Peers::new(sessions.capacity()),
            table: Table::new(config.table),
            outbox: Outbox { egress, pool, counters, dscp_control: config.dscp_control },
            scratch: vec![0; limits::RX_SLOT_BYTES].into_boxed_slice(),
            rng,
            identity_ends: Wheel::new(sessions.capacity()),
            load_permille: 0,
            config,
            identity,
            sessions,
        }
    }

    /// Handles what one receive slot brought; answers that are due go to `outlet`. What is left
    /// comes back when the router [is stalled](Self::is_stalled), to be handed in again when the
    /// outlet has room.
    pub fn receive(
        &mut self,
        now: Now,
        mut datagram: Datagram,
        outlet: &mut impl Outlet,
    ) -> Option<Datagram> {
        if datagram.buf.is_empty() {
            // It has no segments, and is still one datagram.
            self.outbox.counters.drop(Drop::Empty);
            return None;
        }
        if datagram.path.local.socket >= stock::FIRST_SOCKET {
            self.through_port(now, datagram, outlet);
            return None;
        }
        if self.is_run(&datagram) {
            self.forward_run(now, datagram, outlet);
            return None;
        }
        let mut handled = 0;
        for segment in datagram.segments() {
            if self.crowded() {
                self.transmit(now, outlet);
                if self.is_stalled(outlet.room()) {
                    datagram.buf.advance(handled);
                    return Some(datagram);
                }
            }
            self.datagram(now, &datagram.path, segment, outlet);
            handled += segment.len();
        }
        None
    }

    /// Whether a control answer could be lost for want of a place, because nothing leaves: the
    /// outlet has no `room`. Then datagrams had better wait in front of the router, where the
    /// kernel drops what is too much, and not what is most urgent.
    pub fn is_stalled(&self, room: usize) -> bool {
        room == 0 && self.crowded()
    }

    fn datagram(&mut self, now: Now, path: &Path, bytes: &[u8], outlet: &mut impl Outlet) {
        match bytes.first() {
            Some(1..=4) => self.wireguard(now, path, bytes, outlet),
            Some(0) if wire::stun::is_request(bytes) => self.stun(now, path, bytes, outlet),
            Some(&channel::TYPE) => self.forward(now, path, bytes, outlet),
            Some(6 | 7) => self.outbox.counters.drop(Drop::Probe),
            Some(_) => self.outbox.counters.drop(Drop::UnknownType),
            None => self.outbox.counters.drop(Drop::Empty),
        }
    }

    fn wireguard(&mut self, now: Now, path: &Path, bytes: &[u8], outlet: &mut impl Outlet) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let opened = self.sessions.receive(now, path, bytes, &mut scratch);
        self.opened(now, path, bytes, opened, outlet);
        self.scratch = scratch;
        self.legs_follow(now);
    }

    /// Goes on with what the tunnel made of a datagram.
    #[inline]
    fn opened(
        &mut self,
        now: Now,
        path: &Path,
        bytes: &[u8],
        opened: Opened<'_>,
        outlet: &mut impl Outlet,
    ) {
        match opened {
            Opened::Frame { session, plaintext } => {
                self.outbox.counters.decrypt_ok();
                let endpoint = self.sessions.session(session).map_or(path, Session::path);
                let prefix = Prefix::of(endpoint.peer.ip());
                self.plaintext(now, Source { session, path: *path, prefix }, plaintext);
            }
            Opened::Reply { bytes, drop } => {
                if let Some(reason) = drop {
                    self.outbox.counters.drop(reason);
                }
                self.outbox.send_raw(*path, bytes, outlet);
            }
            Opened::Nothing if is_data(bytes) => self.outbox.counters.decrypt_ok(),
            Opened::Nothing => {}
            Opened::Dropped(reason) => {
                // The one reason of the tunnel's that authentic data is dropped for.
                if reason == Drop::BadShim {
                    self.outbox.counters.decrypt_ok();
                }
                self.outbox.counters.drop(reason);
            }
            Opened::Elsewhere(shard) if bytes.len() <= limits::MAIL_BYTES_MAX => {
                self.outbox.counters.forwarded_datagram();
                self.tray.post(shard, Mail::Datagram(*path), bytes);
            }
            Opened::Elsewhere(_) => self.outbox.counters.drop(Drop::BadLength),
            Opened::Move(moved) => self.tray.post(moved.home, Mail::Initiation(moved), bytes),
        }
    }

    /// Does what is due by now: deferred handshakes, keepalives, challenges, expiry.
    pub fn poll(&mut self, now: Now, outlet: &mut impl Outlet) {
        let mut scratch = std::mem::take(&mut self.scratch);
        while self.tray.is_light()
            && let Some(event) = self.sessions.poll(now, &mut scratch)
        {
            match event {
                Event::Send(path, bytes) => self.outbox.send_raw(path, bytes, outlet),
                Event::Ended(session, _) => self.session_ended(now, session),
                Event::Move(moved, initiation) => {
                    self.tray.post(moved.home, Mail::Initiation(moved), initiation);
                }
                Event::Dropped(reason) => self.outbox.counters.drop(reason),
                Event::Refused(path, cookie, reason) => {
                    self.outbox.counters.drop(reason);
                    self.outbox.send_raw(path, cookie, outlet);
                }
            }
        }
        self.scratch = scratch;
        self.poll_overlay(now);
        self.poll_introductions(now);
        self.poll_relay(now);
        self.poll_probes(now);
        self.poll_sharing(now);
        self.poll_journal(now);
        self.transmit(now, outlet);
    }

    /// When [`poll`](Self::poll) has something to do next.
    pub fn next_deadline(&self) -> Moment {
        let own = self.sessions.next_deadline().min(self.introductions_deadline());
        let own = own.min(self.relay_deadline());
        let own = own.min(self.probes_deadline());
        own.min(self.overlay_deadline()).min(self.journal_deadline())
    }

    /// Tells every peer that asks how busy the shard is.
    pub fn set_load(&mut self, permille: u32) {
        self.load_permille = permille;
    }

    /// Copies into the counters what is counted elsewhere or is a state, not an event.
    /// `receive_slots` are the free ones and all of the port's.
    pub fn publish(&self, now: Now, receive_slots: (usize, usize)) {
        let Outbox { egress, pool, counters, .. } = &self.outbox;
        for class in Class::ALL {
            counters.queue(class, egress.stats(class));
        }
        counters.pools((pool.free(), pool.slots()), receive_slots);
        counters.sessions(self.sessions.len(), self.sessions.capacity());
        counters.table(self.table.len(), self.table.buckets());
        counters.records(self.records.values(), self.records.providers());
        counters.load_permille(self.load_permille);
        counters.tunnel(self.sessions.stats());
        counters.under_load(self.sessions.under_load(now));
        counters.relay(&self.relay.stats());
        counters.stock(&self.stock.stats());
    }

    /// The counters this router writes.
    pub fn counters(&self) -> &Counters {
        &self.outbox.counters
    }

    /// Free slots of the router's pool, and all of them.
    pub fn buffers(&self) -> (usize, usize) {
        (self.outbox.pool.free(), self.outbox.pool.slots())
    }

    /// Multiplications on the curve so far: what strangers would like to make us spend.
    pub fn curve_operations(&self) -> u64 {
        self.sessions.engine().curve_operations()
    }

    /// Who has a session here.
    pub fn sessions(&self) -> &Sessions<T> {
        &self.sessions
    }

    /// Who is listed, of those whose ids this shard owns.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Channels of pairs of peers.
    pub fn relay(&self) -> &Relay {
        &self.relay
    }

    /// Ports of pairs of peers that use unmodified WireGuard.
    pub fn stock(&self) -> &Stock {
        &self.stock
    }

    /// Who is listed elsewhere, as far as this shard knows.
    pub fn others(&self) -> &Others {
        &self.others
    }

    /// Frames that wait in the queues.
    pub fn queued(&self) -> usize {
        self.outbox.egress.len()
    }
}

/// What is no handshake: nothing to do for it means a keepalive.
fn is_data(bytes: &[u8]) -> bool {
    bytes.first() == Some(&4)
}
