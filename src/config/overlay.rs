//! The routing table's configuration.

use tuning::{Name, Values};

use crate::overlay::Config;

pub(super) fn config(values: &Values) -> Config {
    Config {
        entries_max: values.size(Name::OverlayEntriesMax),
        per_prefix: values.size(Name::OverlayPeersPerPrefix),
        ..Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_modules_own() {
        let (ours, theirs) = (config(&Values::default()), Config::default());
        assert_eq!((ours.entries_max, ours.per_prefix), (theirs.entries_max, theirs.per_prefix));
        assert_eq!(Values::default().size(Name::OverlayK), crate::overlay::table::K);
    }
}
