//! All mailboxes of a mesh on one thread, against vectors that are searched from end to end.

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const SHARDS: usize = 3;
const WEIGHTS: [u32; 3] = [8, 4, 1];

#[derive(Clone, Debug)]
enum Op {
    Post { from: usize, to: usize, class: usize, key: Option<u64>, len: usize },
    Flush(usize),
    Next(usize),
    Sleep(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let shard = || 0..SHARDS;
    // Most traffic on one way, so that its backlogs fill.
    let way = prop_oneof![3 => Just((0, 1)), 1 => (shard(), 1..SHARDS).prop_map(|(from, step)| (from, (from + step) % SHARDS))];
    let len = prop_oneof![Just(0_usize), 1..40_usize, 1000..=PAYLOAD_MAX];
    let post = (way, 0..3_usize, option::of(0..3_u64), len)
        .prop_map(|((from, to), class, key, len)| Op::Post { from, to, class, key, len });
    let op = prop_oneof![
        6 => post,
        1 => shard().prop_map(Op::Flush),
        3 => shard().prop_map(Op::Next),
        1 => shard().prop_map(Op::Sleep),
    ];
    vec(op, 0..500)
}

/// One message of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message {
    key: Option<u64>,
    number: u32,
    len: usize,
}

/// One way and class.
#[derive(Clone, Debug, Default)]
struct Lane {
    ring: VecDeque<Message>,
    backlog: VecDeque<Message>,
}

/// Lanes by sender, receiver and class.
struct Model {
    config: Config,
    lanes: Vec<Vec<[Lane; 3]>>,
    credits: [[u32; 3]; SHARDS],
    /// By receiver and class, who was served last.
    served: [[usize; 3]; SHARDS],
}

impl Model {
    fn new(config: Config) -> Self {
        let lanes = vec![vec![Default::default(); SHARDS]; SHARDS];
        Self { config, lanes, credits: [WEIGHTS; SHARDS], served: [[SHARDS - 1; 3]; SHARDS] }
    }

    fn fits(&self, lane: &Lane, class: usize, message: &Message) -> bool {
        let bytes: usize = lane.ring.iter().map(|message| message.len).sum();
        lane.ring.len() < self.config.depths[class]
            && bytes + message.len <= self.config.bytes[class]
    }

    fn advance(&mut self, from: usize, to: usize, class: usize) {
        let mut lane = std::mem::take(&mut self.lanes[from][to][class]);
        while let Some(first) = lane.backlog.front().copied()
            && self.fits(&lane, class, &first)
        {
            lane.ring.extend(lane.backlog.pop_front());
        }
        self.lanes[from][to][class] = lane;
    }

    fn post(&mut self, from: usize, to: usize, class: usize, message: Message) -> Posted {
        self.advance(from, to, class);
        let lane = &self.lanes[from][to][class];
        if lane.backlog.is_empty() && self.fits(lane, class, &message) {
            self.lanes[from][to][class].ring.push_back(message);
            return Posted::Enqueued;
        }
        let lanes = &mut self.lanes[from][to];
        if class == 0 {
            lanes[1].backlog.clear();
            lanes[2].backlog.clear();
        }
        let backlog = &mut lanes[class].backlog;
        let keyed = message.key.is_some() && class > 0;
        let same = backlog.iter_mut().find(|waiting| keyed && waiting.key == message.key);
        match (class, same) {
            (1, Some(_)) => return Posted::Dropped(Reason::Duplicate),
            (_, Some(waiting)) => {
                *waiting = message;
                return Posted::Coalesced;
            }
            (_, None) => {}
        }
        if backlog.len() == self.config.backlogs[class] {
            match class {
                0 => return Posted::Dropped(Reason::ControlFull),
                1 => return Posted::Dropped(Reason::QueueFull),
                _ => drop(backlog.pop_front()),
            }
        }
        backlog.push_back(message);
        Posted::Enqueued
    }

    fn flush(&mut self, from: usize) {
        for to in 0..SHARDS {
            for class in 0..3 {
                self.advance(from, to, class);
            }
        }
    }

    /// Sender, class and message.
    fn next(&mut self, to: usize) -> Option<(usize, usize, Message)> {
        let sender = |model: &Self, class: usize| {
            let after = model.served[to][class] + 1;
            let mut turns = (0..SHARDS).map(|step| (after + step) % SHARDS);
            turns.find(|from| !model.lanes[*from][to][class].ring.is_empty())
        };
        let ready: Vec<_> =
            (0..3).filter_map(|class| Some((class, sender(self, class)?))).collect();
        let first = *ready.first()?;
        let paid = ready.iter().copied().find(|(class, _)| self.credits[to][*class] > 0);
        let (class, from) = paid.unwrap_or_else(|| {
            self.credits[to] = WEIGHTS;
            first
        });
        self.credits[to][class] -= 1;
        self.served[to][class] = from;
        Some((from, class, self.lanes[from][to][class].ring.pop_front()?))
    }

    fn has_mail(&self, to: usize) -> bool {
        (0..SHARDS).any(|from| self.lanes[from][to].iter().any(|lane| !lane.ring.is_empty()))
    }
}

fn payload(message: &Message) -> Vec<u8> {
    let bytes = message.number.to_le_bytes();
    (0..message.len).map(|at| bytes[at % 4] ^ at.to_le_bytes()[0]).collect()
}

proptest! {
    #[test]
    fn mailboxes_do_as_the_model(
        ops in ops(),
        depths in [1..4_usize, 1..6, 1..8],
        backlogs in [1..6_usize, 1..6, 1..6],
        bytes in [PAYLOAD_MAX..3000, PAYLOAD_MAX..3000, PAYLOAD_MAX..3000],
    ) {
        let config = Config { depths, bytes, backlogs };
        let mut mailboxes = mesh::<u32>(&config, wakers(SHARDS));
        let mut model = Model::new(config);
        let mut out = [0; PAYLOAD_MAX];
        for (number, op) in (0..).zip(ops) {
            match op {
                Op::Post { from, to, class, key, len } => {
                    let message = Message { key, number, len };
                    let (to16, bytes) = (u16::try_from(to).unwrap(), payload(&message));
                    let ours = mailboxes[from].post(to16, Class::ALL[class], key, number, &bytes);
                    prop_assert_eq!(ours, model.post(from, to, class, message));
                }
                Op::Flush(shard) => {
                    mailboxes[shard].flush();
                    model.flush(shard);
                }
                Op::Next(shard) => {
                    let ours = mailboxes[shard].next(&mut out);
                    let models = model.next(shard);
                    let plain = |(from, class, message): &(usize, usize, Message)| Received {
                        from: u16::try_from(*from).unwrap(),
                        class: Class::ALL[*class],
                        mail: message.number,
                        len: message.len,
                    };
                    prop_assert_eq!(ours, models.as_ref().map(plain));
                    if let Some((.., message)) = models {
                        prop_assert_eq!(&out[..message.len], &payload(&message)[..]);
                    }
                }
                Op::Sleep(shard) => {
                    model.flush(shard);
                    prop_assert_eq!(mailboxes[shard].sleep(), !model.has_mail(shard));
                    mailboxes[shard].awake();
                }
            }
            assert_adds_up(&mailboxes);
            for (mailbox, lanes) in mailboxes.iter().zip(&model.lanes) {
                for class in Class::ALL {
                    let depth: usize =
                        lanes.iter().map(|lanes| lanes[class as usize].backlog.len()).sum();
                    prop_assert_eq!(mailbox.stats().class(class).depth, depth);
                }
            }
        }
    }
}
