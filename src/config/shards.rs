//! How many shards there are, and where they run.

use tuning::{Name, Values};

use super::Error;
use crate::partition::{self, SHARDS_MAX};

/// The shards of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// How many.
    pub count: u16,
    /// The CPU of each; none if it is not known which there are.
    pub cpus: Vec<usize>,
}

/// Shards on the CPUs that were named, or else on those that are `usable`. More shards than CPUs
/// share them in turn.
pub(super) fn placement(values: &Values, usable: &[usize]) -> Placement {
    let named = values.cpus(Name::ShardsCpus);
    let named = named.map(|cpus| cpus.iter().map(|cpu| usize::from(*cpu)).collect::<Vec<_>>());
    let cpus = named.as_deref().unwrap_or(usable);
    let count = match values.number_or_word(Name::ShardsCount) {
        Some(count) => u16::try_from(count).unwrap_or(SHARDS_MAX),
        None => u16::try_from(cpus.len()).unwrap_or(SHARDS_MAX),
    };
    let count = count.clamp(1, SHARDS_MAX);
    Placement { count, cpus: cpus.iter().copied().cycle().take(count.into()).collect() }
}

/// Whether every session of a shard has an index of its own.
pub(super) fn check(values: &Values, placement: &Placement) -> Result<(), Error> {
    let (sessions, most) =
        (values.number(Name::WireguardSessionsMax), partition::slots_max(placement.count).into());
    if sessions <= most {
        return Ok(());
    }
    Err(Error::TooManySessions { sessions, most, shards: placement.count })
}

/// The CPUs that this process may use: those it is allowed on, as many as its control group pays for.
pub(super) fn usable() -> Vec<usize> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    let paid = std::thread::available_parallelism().map_or(1, usize::from);
    allowed.into_iter().map(|core| core.id).take(paid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tuning::Layers;

    fn with(sets: &[&str], usable: &[usize]) -> (u16, Vec<usize>) {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let values = Values::load(&Layers { sets: &sets, ..Layers::default() }).unwrap();
        let Placement { count, cpus } = placement(&values, usable);
        (count, cpus)
    }

    #[test]
    fn a_shard_for_every_cpu_unless_told_otherwise() {
        assert_eq!(with(&[], &[1, 3, 4]), (3, vec![1, 3, 4]));
        assert_eq!(with(&[], &[]), (1, vec![]));
        assert_eq!(with(&["shards/count=2"], &[1, 3, 4]), (2, vec![1, 3]));
        assert_eq!(with(&["shards/count=5"], &[1, 3]), (5, vec![1, 3, 1, 3, 1]));
        assert_eq!(with(&["shards/cpus=7,2"], &[0]), (2, vec![2, 7]));
        assert_eq!(with(&["shards/cpus=2,7", "shards/count=1"], &[0]), (1, vec![2]));
        let crowd: Vec<usize> = (0..100).collect();
        assert_eq!(with(&[], &crowd), (64, crowd[..64].to_vec()));
    }

    #[test]
    fn an_index_names_every_session() {
        let values = |sessions: u32| {
            let sets = vec![format!("wireguard/sessions_max={sessions}")];
            Values::load(&Layers { sets: &sets, ..Layers::default() }).unwrap()
        };
        let on = |count| Placement { count, cpus: vec![] };
        assert!(check(&values(1 << 20), &on(16)).is_ok());
        let error = check(&values(1 << 20), &on(17)).unwrap_err();
        let text =
            "wireguard/sessions_max = 1048576: with 17 shards (shards/count) allowed: 1..524288";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn this_process_runs_somewhere() {
        assert!(!usable().is_empty());
    }
}
