//! The search for the longest silence that a mapping survives: several at once, round by round.

use super::report::Lifetime;

/// Sockets that stay silent at the same time.
const AT_ONCE: u32 = 8;

/// Bounds that come closer with every round, to one second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    most_s: u32,
    alive_s: u32,
    dead_s: Option<u32>,
    done: bool,
}

impl Search {
    /// Nothing is known but that nobody wants to wait for longer than `most_s`.
    pub(super) const fn new(most_s: u32) -> Self {
        Self { most_s, alive_s: 0, dead_s: None, done: most_s == 0 }
    }

    /// Silences to try next, shortest first; none when the answer is known.
    pub(super) fn next(&self) -> Vec<u32> {
        if self.done {
            return Vec::new();
        }
        let (from, to) = (self.alive_s, self.dead_s.unwrap_or(self.most_s + 1));
        // As many steps as there are sockets, all of them between what is known.
        let steps = (to - from - 1).min(AT_ONCE);
        (1..=steps)
            .map(|step| from + ((to - from) * step).div_euclid(steps + 1).max(step))
            .collect()
    }

    /// Takes what came of some of them, shortest first.
    pub(super) fn learn(&mut self, lived: &[(u32, bool)]) {
        for &(after_s, alive) in lived {
            if !alive {
                self.dead_s = Some(after_s);
                break;
            }
            self.alive_s = self.alive_s.max(after_s);
        }
        let next = self.dead_s.unwrap_or(self.most_s + 1);
        self.done = lived.is_empty() || next <= self.alive_s + 1;
    }

    /// What is known, if anything is.
    pub(super) fn lifetime(&self) -> Option<Lifetime> {
        let Self { alive_s, dead_s, .. } = *self;
        (alive_s > 0 || dead_s.is_some()).then_some(Lifetime { alive_s, dead_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lifetime_is_found_to_the_second_in_few_rounds() {
        for most_s in [1, 2, 8, 9, 30, 120, 300] {
            for lifetime_s in 0..=most_s + 1 {
                let mut search = Search::new(most_s);
                let mut rounds = 0;
                loop {
                    let tried = search.next();
                    if tried.is_empty() {
                        break;
                    }
                    assert!(tried.is_sorted() && tried.iter().all(|it| (1..=most_s).contains(it)));
                    let mut once = tried.clone();
                    once.dedup();
                    assert_eq!(once, tried);
                    let lived = tried.iter().map(|&it| (it, it <= lifetime_s));
                    search.learn(&lived.collect::<Vec<_>>());
                    rounds += 1;
                    assert!(rounds <= 4, "{lifetime_s} of {most_s}");
                }
                let dead_s = (lifetime_s < most_s).then_some(lifetime_s + 1);
                let wanted = Lifetime { alive_s: lifetime_s.min(most_s), dead_s };
                assert_eq!(search.lifetime(), Some(wanted), "{lifetime_s} of {most_s}");
            }
        }
    }

    #[test]
    fn a_round_that_fails_ends_the_search() {
        let mut search = Search::new(30);
        search.learn(&[]);
        assert!(search.next().is_empty() && search.lifetime().is_none());
    }
}
