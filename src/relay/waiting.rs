//! What waits: places for datagrams, shared, and the backlogs that hold them.
//!
//! A direction of a channel has a backlog from the time its data first has to wait until its sender
//! was told that it need no longer. All lists run through the tables themselves.

use bufpool::Buf;

use super::Config;
use super::channels::Leg;
use super::names::NIL;
use crate::time::Moment;
use crate::wire::kind::Class;

/// End of a list of backlogs.
const END: u16 = u16::MAX;
/// Bytes that a backlog may send before the next in turn: any datagram.
pub(super) const QUANTUM: i32 = 2048;
const _: () = assert!(QUANTUM as usize == crate::limits::SLOT_BYTES);

/// What a backlog does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Free,
    /// Without data, until its sender was told so and has been quiet for a while.
    Quiet,
    /// Until its sender's budgets can pay.
    Parked,
    /// In turn for the router's budget.
    InTurn,
}

#[derive(Clone, Copy, Debug)]
struct Fifo {
    head: u32,
    tail: u32,
}

const EMPTY: Fifo = Fifo { head: NIL, tail: NIL };

#[derive(Clone, Copy, Debug)]
pub(super) struct Backlog {
    pub(super) leg: Leg,
    /// Control first.
    queues: [Fifo; 2],
    pub(super) len: u32,
    pub(super) state: State,
    /// Bytes that it is owed of its turns, or owes.
    pub(super) deficit: i32,
    /// Bytes promised to it of its sender's budgets and not sent yet.
    pub(super) granted: u32,
    /// When those budgets can pay them.
    pub(super) ready: Moment,
    /// What its sender knows, and when it may be told otherwise.
    pub(super) throttled: bool,
    pub(super) tell_after: Moment,
    /// Whether it is to be told, and whether it stands in that list (perhaps for its last tenant).
    telling: bool,
    listed: bool,
}

const FREE: Backlog = Backlog {
    leg: Leg(NIL),
    queues: [EMPTY; 2],
    len: 0,
    state: State::Free,
    deficit: 0,
    granted: 0,
    ready: Moment::START,
    throttled: false,
    tell_after: Moment::START,
    telling: false,
    listed: false,
};

#[derive(Debug)]
struct Place {
    buf: Option<Buf>,
    offered: Moment,
    next: u32,
}

/// A list of backlogs.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u16,
    last: u16,
}

const NOBODY: List = List { first: END, last: END };

/// Neighbours in a list.
#[derive(Clone, Copy, Debug)]
struct Link {
    next: u16,
    prev: u16,
}

impl List {
    fn push(&mut self, links: &mut [Link], at: u16) {
        self.insert(links, at, self.last);
    }

    /// Puts `at` behind `before`, which is in the list, or in front of all.
    fn insert(&mut self, links: &mut [Link], at: u16, before: u16) {
        let next = match before {
            END => std::mem::replace(&mut self.first, at),
            before => std::mem::replace(&mut links[usize::from(before)].next, at),
        };
        links[usize::from(at)] = Link { next, prev: before };
        match next {
            END => self.last = at,
            next => links[usize::from(next)].prev = at,
        }
    }

    fn remove(&mut self, links: &mut [Link], at: u16) {
        let Link { next, prev } = links[usize::from(at)];
        match prev {
            END => self.first = next,
            prev => links[usize::from(prev)].next = next,
        }
        match next {
            END => self.last = prev,
            next => links[usize::from(next)].prev = prev,
        }
    }
}

/// Backlogs that are passed at most on the way to a place in turn: more than get ready in a tick.
const OVERTAKEN_MAX: u32 = 64;
/// Lists of backlogs by length.
const LENGTHS: usize = Config::WAITING_PER_FLOW_MAX as usize + 1;

/// All that waits in a shard.
#[derive(Debug)]
pub(super) struct Waiting {
    backlogs: Box<[Backlog]>,
    /// Neighbours in the list of the state (parked ones are in none).
    links: Box<[Link]>,
    free: List,
    quiet: List,
    turn: List,
    /// Neighbours in the list of the length.
    length_links: Box<[Link]>,
    lengths: [List; LENGTHS],
    /// A bit for each length above zero that some backlog has.
    long: u64,
    places: Box<[Place]>,
    free_place: u32,
    len: usize,
    /// Ring of those to be told.
    tell: std::collections::VecDeque<u16>,
}

impl Waiting {
    /// Backlogs of a configuration: one for each datagram that may wait, and as many that are quiet.
    pub(super) fn backlogs(config: &Config) -> usize {
        (2 * config.channels_max).min(2 * config.waiting_max).min(usize::from(END))
    }

    pub(super) fn bytes(config: &Config) -> usize {
        let each = size_of::<Backlog>() + 2 * size_of::<Link>() + size_of::<u16>();
        Self::backlogs(config) * each + config.waiting_max * size_of::<Place>()
    }

    pub(super) fn new(config: &Config) -> Self {
        let backlogs = Self::backlogs(config);
        let places = u32::try_from(config.waiting_max).unwrap_or(NIL);
        let place = |at: u32| {
            let next = if at + 1 < places { at + 1 } else { NIL };
            Place { buf: None, offered: Moment::START, next }
        };
        let alone = Link { next: END, prev: END };
        let mut waiting = Self {
            backlogs: vec![FREE; backlogs].into(),
            links: vec![alone; backlogs].into(),
            free: NOBODY,
            quiet: NOBODY,
            turn: NOBODY,
            length_links: vec![alone; backlogs].into(),
            lengths: [NOBODY; LENGTHS],
            long: 0,
            places: (0..places).map(place).collect(),
            free_place: 0,
            len: 0,
            tell: std::collections::VecDeque::with_capacity(backlogs),
        };
        let all = 0..u16::try_from(backlogs).unwrap_or(END);
        all.for_each(|at| waiting.free.push(&mut waiting.links, at));
        waiting
    }

    /// Datagrams that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn in_turn(&self) -> bool {
        self.turn.first != END
    }

    #[inline]
    pub(super) fn has_data(&self, at: u16) -> bool {
        self.get(at).len > 0
    }

    #[inline]
    pub(super) fn get(&self, at: u16) -> &Backlog {
        &self.backlogs[usize::from(at)]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u16) -> &mut Backlog {
        &mut self.backlogs[usize::from(at)]
    }

    /// A backlog for a leg, in no list; `None` if none is free.
    pub(super) fn open(&mut self, leg: Leg) -> Option<u16> {
        let at = self.free.first;
        let listed = self.backlogs.get(usize::from(at))?.listed;
        self.free.remove(&mut self.links, at);
        *self.get_mut(at) = Backlog { leg, state: State::Parked, listed, ..FREE };
        Some(at)
    }

    /// Puts a backlog into the list of its new state.
    pub(super) fn put(&mut self, at: u16, state: State) {
        let before = std::mem::replace(&mut self.get_mut(at).state, state);
        if let Some(list) = self.list(before) {
            let mut taken = *list;
            taken.remove(&mut self.links, at);
            self.set_list(before, taken);
        }
        if let Some(list) = self.list(state) {
            let mut longer = *list;
            longer.push(&mut self.links, at);
            self.set_list(state, longer);
        }
    }

    fn list(&self, state: State) -> Option<&List> {
        match state {
            State::Free => Some(&self.free),
            State::Quiet => Some(&self.quiet),
            State::InTurn => Some(&self.turn),
            State::Parked => None,
        }
    }

    fn set_list(&mut self, state: State, list: List) {
        match state {
            State::Free => self.free = list,
            State::Quiet => self.quiet = list,
            State::InTurn => self.turn = list,
            State::Parked => {}
        }
    }

    /// Puts a backlog in turn, before those that became ready later than it: a timer fires late
    /// by a tick, and who lost its place for that would lose a part of its share.
    pub(super) fn put_in_turn(&mut self, at: u16) {
        self.put(at, State::Parked);
        let ready = self.get(at).ready;
        let mut before = self.turn.last;
        for _ in 0..OVERTAKEN_MAX {
            if before == END || self.get(before).ready <= ready {
                break;
            }
            before = self.links[usize::from(before)].prev;
        }
        self.turn.insert(&mut self.links, at, before);
        self.get_mut(at).state = State::InTurn;
    }

    /// The first in turn for the router's budget.
    pub(super) fn first(&self) -> Option<u16> {
        (self.turn.first != END).then_some(self.turn.first)
    }

    /// The backlog that has been quiet for longest.
    pub(super) fn quietest(&self) -> Option<u16> {
        (self.quiet.first != END).then_some(self.quiet.first)
    }

    /// A backlog with the most datagrams.
    pub(super) fn longest(&self) -> Option<u16> {
        let length = self.long.checked_ilog2()? as usize + 1;
        Some(self.lengths[length].first)
    }

    /// Whether no place is left.
    pub(super) fn full(&self) -> bool {
        self.free_place == NIL
    }

    /// Appends a datagram.
    ///
    /// # Panics
    /// If no place is left.
    pub(super) fn push(&mut self, now: Moment, at: u16, class: Class, buf: Buf) {
        let number = self.free_place;
        let place = &mut self.places[number as usize];
        self.free_place = place.next;
        *place = Place { buf: Some(buf), offered: now, next: NIL };
        let fifo = &mut self.backlogs[usize::from(at)].queues[queue(class)];
        match fifo.tail {
            NIL => fifo.head = number,
            tail => self.places[tail as usize].next = number,
        }
        fifo.tail = number;
        self.len += 1;
        self.resize(at, self.get(at).len + 1);
    }

    /// Takes the oldest datagram of a class.
    pub(super) fn pop(&mut self, at: u16, class: Class) -> Option<Buf> {
        let fifo = &mut self.backlogs[usize::from(at)].queues[queue(class)];
        let number = fifo.head;
        let place = self.places.get_mut(number as usize)?;
        fifo.head = std::mem::replace(&mut place.next, self.free_place);
        if fifo.head == NIL {
            fifo.tail = NIL;
        }
        self.free_place = number;
        let buf = place.buf.take();
        self.len -= 1;
        self.resize(at, self.get(at).len - 1);
        buf
    }

    fn resize(&mut self, at: u16, len: u32) {
        let before = std::mem::replace(&mut self.get_mut(at).len, len);
        for (length, enters) in [(before as usize, false), (len as usize, true)] {
            if length == 0 {
                continue;
            }
            let list = &mut self.lengths[length];
            match enters {
                true => list.push(&mut self.length_links, at),
                false => list.remove(&mut self.length_links, at),
            }
            let bit = 1 << (length - 1);
            self.long = if list.first == END { self.long & !bit } else { self.long | bit };
        }
    }

    fn oldest(&self, at: u16, class: Class) -> Option<&Place> {
        self.places.get(self.get(at).queues[queue(class)].head as usize)
    }

    /// When the oldest datagram of a class was offered.
    pub(super) fn offered(&self, at: u16, class: Class) -> Option<Moment> {
        self.oldest(at, class).map(|place| place.offered)
    }

    /// What a backlog sends next, and its bytes.
    pub(super) fn head(&self, at: u16) -> Option<(Class, u32)> {
        BOTH.into_iter().find_map(|class| {
            let buf = self.oldest(at, class)?.buf.as_ref()?;
            Some((class, bytes(buf)))
        })
    }

    /// Bytes of the datagrams that `deficit` is enough for, in the order in which they would be
    /// sent, and what is left of it: the last one may overdraw it.
    pub(super) fn batch(&self, at: u16, mut deficit: i32) -> (u32, i32) {
        let mut total = 0;
        for fifo in self.get(at).queues {
            let mut number = fifo.head;
            while let Some(place) = self.places.get(number as usize).filter(|_| deficit > 0) {
                let bytes = place.buf.as_ref().map_or(0, bytes);
                total += bytes;
                deficit = deficit.saturating_sub_unsigned(bytes);
                number = place.next;
            }
        }
        (total, deficit)
    }

    /// A backlog's sender is to be told how it stands.
    pub(super) fn announce(&mut self, at: u16) {
        let backlog = &mut self.backlogs[usize::from(at)];
        backlog.telling = true;
        if !std::mem::replace(&mut backlog.listed, true) {
            self.tell.push_back(at);
        }
    }

    /// Whether anybody is to be told.
    pub(super) fn to_tell(&self) -> bool {
        !self.tell.is_empty()
    }

    /// Who is to be told next, whether it is throttled, and until when.
    pub(super) fn tell(&mut self) -> Option<(Leg, bool, Moment)> {
        loop {
            let at = self.tell.pop_front()?;
            let backlog = self.get_mut(at);
            backlog.listed = false;
            if std::mem::take(&mut backlog.telling) {
                return Some((backlog.leg, backlog.throttled, backlog.ready));
            }
        }
    }

    /// Frees a backlog without data.
    pub(super) fn free(&mut self, at: u16) {
        assert!(self.get(at).len == 0, "what waits was taken out");
        self.put(at, State::Free);
        let listed = self.get(at).listed;
        *self.get_mut(at) = Backlog { listed, ..FREE };
    }
}

/// The classes that are told apart, the more urgent first.
pub(super) const BOTH: [Class; 2] = [Class::Control, Class::Coordination];

const fn queue(class: Class) -> usize {
    match class {
        Class::Control => 0,
        Class::Coordination | Class::Hints => 1,
    }
}

fn bytes(buf: &Buf) -> u32 {
    u32::try_from(buf.len()).unwrap_or(u32::MAX)
}
