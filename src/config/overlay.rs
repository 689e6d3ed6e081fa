//! The configuration of the routing table and of the records.

use tuning::{Name, Values};

use crate::overlay::{Config, records};
use crate::router::{RecordsConfig, Role};

pub(super) fn config(values: &Values) -> Config {
    Config {
        entries_max: values.size(Name::OverlayEntriesMax),
        per_prefix: values.size(Name::OverlayPeersPerPrefix),
        ..Config::default()
    }
}

pub(super) fn role(values: &Values) -> Role {
    let word = values.choice(Name::OverlayRole);
    let named = Role::ALL.into_iter().find(|role| role.label() == word);
    named.unwrap_or_else(|| super::settings::unlisted(word))
}

/// Shares of peers and networks are the module's own.
pub(super) fn records(values: &Values) -> RecordsConfig {
    let mut table = records::Config::default();
    let record_bytes_max = values.size(Name::OverlayRecordBytesMax);
    table.values.entry_bytes_max = record_bytes_max;
    table.values.total.entries = values.size(Name::OverlayValuesMax);
    table.values.total.bytes = values.size(Name::OverlayValueBytesMax);
    table.providers.total.entries = values.size(Name::OverlayProvidersMax);
    table.providers.total.bytes = values.size(Name::OverlayProvidersMax) * PROVIDER_BYTES;
    let stamp_bits = super::settings::narrow(values, Name::StampBits);
    RecordsConfig { table, record_bytes_max, stamp_bits, ..RecordsConfig::default() }
}

/// Bytes of a provider that keep its share of the space.
const PROVIDER_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_modules_own() {
        let (ours, theirs) = (config(&Values::default()), Config::default());
        assert_eq!((ours.entries_max, ours.per_prefix), (theirs.entries_max, theirs.per_prefix));
        let (ours, theirs) = (records(&Values::default()), RecordsConfig::default());
        assert_eq!(ours.table, theirs.table);
        assert_eq!(
            (ours.stamp_bits, ours.record_bytes_max),
            (theirs.stamp_bits, theirs.record_bytes_max)
        );
        assert_eq!(role(&Values::default()), Role::default());
        assert_eq!(Values::default().size(Name::OverlayK), crate::overlay::table::K);
    }
}
