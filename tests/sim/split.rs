//! How a seed splits the router into shards: how many, which socket a datagram reaches, what
//! happens to the mail between them and how often one of them dies.

use std::net::SocketAddr;
use std::time::Duration;

use molia_router::bucket::Keyed;
use molia_router::partition::Partition;
use molia_router::wire::multiaddr;

use super::dice::Dice;

/// Letters that a turn handles in production.
const TURN_MAX: usize = 256;

/// How datagrams find their shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steering {
    /// By the number in the datagram where it has one, as the kernel's program does.
    Kernel,
    /// By their source alone.
    Off,
    /// As by the kernel, but for so many in a thousand, which end up anywhere.
    Wrong(u64),
}

/// What happens to mail between shards; shares are permille.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Posting {
    /// Letters that take longer than a moment, and how long at most.
    pub(crate) slow: u64,
    pub(crate) slow_max: Duration,
    /// Letters arrive together, that far apart.
    pub(crate) batch: Option<Duration>,
    /// Losses of what is not control.
    pub(crate) loss: u64,
    /// Letters that one turn handles.
    turn_max: usize,
}

impl Posting {
    /// Letters that one turn handles.
    pub(crate) fn turn_max(&self, calm: bool) -> usize {
        if calm { TURN_MAX } else { self.turn_max }
    }
}

/// The whole draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    pub(crate) shards: u16,
    pub(crate) steering: Steering,
    pub(crate) posting: Posting,
    /// Between two deaths of a shard on average; zero for never.
    pub(crate) restart: Duration,
    /// How long a shard is dead.
    pub(crate) rest: Duration,
    /// How long after everything has settled one more shard dies.
    pub(crate) last_restart: Option<Duration>,
    homes: [u64; 2],
    hash: [u64; 2],
}

impl Split {
    /// Drawn apart, so that the rest of a world does not depend on it.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Dice::of(seed ^ 0x5AAD);
        let shards = *dice.pick(&[1, 1, 2, 3, 4]);
        let steering = match dice.below(4) {
            0 => Steering::Off,
            1 => Steering::Wrong(dice.within(1..500)),
            _ => Steering::Kernel,
        };
        let posting = Posting {
            slow: dice.within(0..200),
            slow_max: dice.millis(1..1_500),
            batch: dice.permille(300).then(|| dice.millis(1..40)),
            loss: if dice.permille(600) { dice.within(1..100) } else { 0 },
            turn_max: *dice.pick(&[16, 64, TURN_MAX, TURN_MAX]),
        };
        let dies = shards > 1 && dice.permille(600);
        let restart = if dies { dice.millis(8_000..60_000) } else { Duration::ZERO };
        let last_restart = (shards > 1 && dice.permille(600)).then(|| dice.millis(1_000..30_000));
        Self {
            shards,
            steering,
            posting,
            restart,
            rest: dice.millis(1..640),
            last_restart,
            homes: [dice.u64(), dice.u64()],
            hash: [dice.u64(), dice.u64()],
        }
    }

    pub(crate) fn partition(&self, router: &molia_router::ids::PeerId) -> Partition {
        Partition::new(self.shards, self.homes, router)
    }

    /// The socket that a datagram reaches.
    pub(crate) fn socket(&self, dice: &mut Dice, from: &SocketAddr, bytes: &[u8]) -> u16 {
        let by_hash = || {
            let hash = Keyed::new(self.hash).hash(multiaddr::encode(*from).as_ref());
            u16::try_from(hash % u64::from(self.shards)).expect("a shard")
        };
        match self.steering {
            Steering::Off => by_hash(),
            Steering::Wrong(share) if dice.permille(share) => {
                u16::try_from(dice.below(self.shards.into())).expect("a shard")
            }
            Steering::Kernel | Steering::Wrong(_) => self.named(bytes).unwrap_or_else(by_hash),
        }
    }

    /// The shard in the top bits of the number that a datagram begins with.
    fn named(&self, bytes: &[u8]) -> Option<u16> {
        let at = match bytes.first()? {
            2 => 11,
            3 | 4 => 7,
            5 => 4,
            _ => return None,
        };
        let least = if at == 11 { 12 } else { 8 };
        let top = *bytes.get(at).filter(|_| bytes.len() >= least)?;
        let bits = molia_router::partition::bits(self.shards);
        let shard = u16::from(top).checked_shr(u8::BITS - bits)?;
        (shard < self.shards).then_some(shard)
    }
}
