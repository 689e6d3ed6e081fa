//! What has to hold between attributes.

use crate::error::{Error, Source};
use crate::registry::Name;
use crate::values::Values;

/// Reports every pair of values that contradict each other.
pub(crate) fn check(values: &Values, errors: &mut Vec<Error>) {
    let at_most = "must not be larger than";
    for (small, large) in [
        (Name::IoRxBatch, Name::IoRxBuffers),
        (Name::IoTxBatch, Name::IoRingEntries),
        (Name::AdmissionPuzzleBitsMin, Name::AdmissionPuzzleBitsMax),
        (Name::PmtuFloor, Name::PmtuCeiling),
    ] {
        if values.number(small) > values.number(large) {
            errors.push(conflict(values, small, at_most, large));
        }
    }
    check_shards(values, errors);
}

fn check_shards(values: &Values, errors: &mut Vec<Error>) {
    let Some(cpus) = values.cpus(Name::ShardsCpus) else { return };
    // As many as there are CPUs, where nothing else is said.
    let Some(shards) = values.number_or_word(Name::ShardsCount) else { return };
    if u64::try_from(cpus.len()).is_ok_and(|cpus| cpus < shards) {
        errors.push(conflict(values, Name::ShardsCpus, "has fewer CPUs than", Name::ShardsCount));
    }
}

/// Blames whichever of the two was set last by someone.
fn conflict(values: &Values, name: Name, why: &'static str, other: Name) -> Error {
    let blamed = if *values.source(name) == Source::Default { other } else { name };
    Error::Conflict {
        source_of: values.source(blamed).clone(),
        attribute: name.attribute(),
        value: values.value(name).to_string(),
        why,
        other: other.attribute(),
        other_value: values.value(other).to_string(),
    }
}
