//! Shares of a budget that is not enough for all.

use super::*;

/// A sender: bytes a second that it offers, in datagrams of so many bytes.
#[derive(Clone, Copy, Debug)]
struct Load {
    rate: u64,
    bytes: usize,
}

/// What each could have of `capacity` if all were served fairly: water is poured until it is gone.
fn max_min(loads: &[Load], capacity: u64) -> Vec<f64> {
    let mut left = capacity as f64;
    let mut order: Vec<usize> = (0..loads.len()).collect();
    order.sort_by_key(|at| loads[*at].rate);
    let mut shares = vec![0.0; loads.len()];
    for (served, at) in order.iter().enumerate() {
        let fair = left / (loads.len() - served) as f64;
        shares[*at] = fair.min(loads[*at].rate as f64);
        left -= shares[*at];
    }
    shares
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }
}

/// Serves all loads for `seconds`, and returns each one's bytes a second, once all have settled.
fn serve(config: Config, loads: &[Load], subnet: Option<u8>, seed: u64, seconds: u64) -> Vec<f64> {
    const SETTLE_S: u64 = 4;
    let (mut relay, pool, mut dice) = (relay(config), pool(config.waiting_max + 1), Dice(seed));
    let mut senders = Vec::new();
    for (n, load) in loads.iter().enumerate() {
        let n = u16::try_from(n).unwrap();
        let mut sender = member(n);
        if let Some(subnet) = subnet {
            sender.path = path(subnet, u8::try_from(n).unwrap());
        }
        let receiver = member(1000 + n);
        let made = relay.allocate(at(0), &sender, &receiver, 0, seed + 1).unwrap();
        senders.push((sender, made, receiver, *load, dice.roll(1_000_000_000)));
    }
    let mut got = vec![0_u64; loads.len()];
    let end = at((SETTLE_S + seconds) * 1000);
    let mut now = at(0);
    while now < end {
        now = now + MS;
        let counted = now > at(SETTLE_S * 1000);
        // Whose turn it is to speak first is drawn anew every time.
        let first = usize::try_from(dice.roll(loads.len() as u64)).unwrap();
        for turn in 0..loads.len() {
            let n = (first + turn) % loads.len();
            let (sender, made, _, load, due) = &mut senders[n];
            while *due <= now.as_nanos() {
                *due += load.bytes as u64 * 1_000_000_000 / load.rate;
                let channel = made.requester.channel;
                let route = relay.route(now, &sender.path, channel, load.bytes, 1).unwrap();
                match route.verdict {
                    Verdict::Send => got[n] += if counted { load.bytes as u64 } else { 0 },
                    Verdict::Wait => {
                        let buf = data(&pool, load.bytes, u32::try_from(n).unwrap());
                        let _ = relay.enqueue(now, route.flow, Class::Coordination, buf);
                    }
                }
            }
        }
        while let Some(ready) = relay.next(now) {
            let n = content(&ready.buf) as usize;
            got[n] += if counted { ready.buf.len() as u64 } else { 0 };
        }
        let _ = events(&mut relay, now);
    }
    got.iter().map(|bytes| *bytes as f64 / seconds as f64).collect()
}

fn mixes(dice: &mut Dice) -> Vec<Vec<Load>> {
    let load = |rate: u64, bytes: usize| Load { rate, bytes };
    let mut mixes = vec![
        // One that wants all, of large or of small datagrams, and modest ones.
        [vec![load(2_000_000, 1400)], vec![load(4_000, 200); 20]].concat(),
        [vec![load(1_000_000, 100)], vec![load(4_000, 1400); 20]].concat(),
        // Several greedy ones, whose sizes differ.
        vec![load(500_000, 1400), load(500_000, 100), load(500_000, 600), load(5_000, 1200)],
        [vec![load(400_000, 1400); 5], vec![load(8_000, 120); 10], vec![load(60_000, 300); 3]]
            .concat(),
    ];
    for _ in 0..4 {
        let one = |dice: &mut Dice| {
            load(1_000 << dice.roll(10), 60 + usize::try_from(dice.roll(1400)).unwrap())
        };
        mixes.push((0..4 + dice.roll(20)).map(|_| one(dice)).collect());
    }
    mixes
}

fn all_have_their_share(config: Config, capacity: u64, subnet: Option<u8>) {
    for seed in 1..=3 {
        for loads in mixes(&mut Dice(seed)) {
            let got = serve(config, &loads, subnet, seed, 20);
            let total: f64 = got.iter().sum();
            assert!(total <= 1.01 * capacity as f64, "{total} of {capacity}");
            for (n, fair) in max_min(&loads, capacity).into_iter().enumerate() {
                let share = got[n] / fair;
                assert!(
                    share >= 0.9,
                    "seed {seed}: {:?} had {share} of its share: {got:?}",
                    loads[n]
                );
            }
        }
    }
}

#[test]
fn nobody_takes_more_than_a_share_of_the_router() {
    let router = budget(100_000, 20_000);
    all_have_their_share(
        Config { router, waiting_per_flow: 64, waiting_max: 2048, ..config() },
        100_000,
        None,
    );
}

#[test]
fn nobody_takes_more_than_a_share_of_a_prefix() {
    let prefix = budget(100_000, 20_000);
    all_have_their_share(
        Config { prefix, waiting_per_flow: 64, waiting_max: 2048, ..config() },
        100_000,
        Some(9),
    );
}

#[test]
fn who_is_held_by_a_budget_of_its_own_holds_nobody_else() {
    let config = Config { peer: budget(10_000, 4096), router: budget(60_000, 4096), ..config() };
    let loads = [
        Load { rate: 100_000, bytes: 1400 },
        Load { rate: 9_000, bytes: 900 },
        Load { rate: 9_000, bytes: 90 },
    ];
    let got = serve(config, &loads, None, 5, 30);
    for (got, fair) in got.iter().zip([10_000.0, 9_000.0, 9_000.0]) {
        assert!((0.95..1.05).contains(&(got / fair)), "{got} of {fair}");
    }
}
