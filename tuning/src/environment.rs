//! Environment variables: `MOLIA_ROUTER_` and the path in capitals, `/` as `_`.

use std::ffi::{OsStr, OsString};

use crate::attribute::Attribute;
use crate::error::{Error, Source};
use crate::registry::ATTRIBUTES;
use crate::suggest;
use crate::values::Values;

pub(crate) const PREFIX: &str = "MOLIA_ROUTER_";

/// Kubernetes puts these into every pod beside a service named `molia-router`.
const KUBERNETES: [&str; 3] = ["SERVICE_HOST", "SERVICE_PORT", "PORT"];

/// Applies the variables that carry our prefix; the others are nobody's business here.
pub(crate) fn apply(
    values: &mut Values,
    variables: &[(OsString, OsString)],
    errors: &mut Vec<Error>,
) {
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        if is_kubernetes(&name[PREFIX.len()..]) {
            continue;
        }
        if let Err(error) = set(values, name, value) {
            errors.push(error);
        }
    }
}

fn set(values: &mut Values, name: &str, value: &OsStr) -> Result<(), Error> {
    let source_of = Source::Variable(name.to_owned());
    match ATTRIBUTES.iter().find(|attribute| attribute.variable() == name) {
        Some(attribute) => values.set(attribute, source_of, &value.to_string_lossy()),
        None => Err(Error::Unknown { source_of, name: name.to_owned(), meant: similar(name) }),
    }
}

fn similar(name: &str) -> Option<String> {
    let wanted = name[PREFIX.len()..].to_lowercase();
    let same = |attribute: &&Attribute| attribute.path.replace('/', "_") == wanted;
    let near = ATTRIBUTES.iter().find(same).map(|attribute| attribute.path);
    let path = near.or_else(|| {
        // Any of the underscores may stand for the slash.
        wanted
            .match_indices('_')
            .find_map(|(at, _)| suggest::path(&format!("{}/{}", &wanted[..at], &wanted[at + 1..])))
    })?;
    ATTRIBUTES.iter().find(|attribute| attribute.path == path).map(Attribute::variable)
}

fn is_kubernetes(tail: &str) -> bool {
    KUBERNETES.iter().any(|known| {
        tail.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Name;
    use std::collections::BTreeSet;

    fn with(name: &str, value: &str) -> (Values, Vec<String>) {
        let (mut values, mut errors) = (Values::default(), Vec::new());
        apply(&mut values, &[(name.into(), value.into())], &mut errors);
        (values, errors.iter().map(Error::to_string).collect())
    }

    #[test]
    fn every_attribute_has_a_variable_of_its_own() {
        let names: BTreeSet<String> = ATTRIBUTES.iter().map(Attribute::variable).collect();
        assert_eq!(names.len(), ATTRIBUTES.len());
        assert!(names.contains("MOLIA_ROUTER_IO_ENGINE"));
        assert!(names.iter().all(|name| !is_kubernetes(&name[PREFIX.len()..])));
    }

    #[test]
    fn a_variable_sets_its_attribute() {
        let (values, errors) = with("MOLIA_ROUTER_QOS_HINTS_TTL_MS", "1s");
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(values.shown(Name::QosHintsTtl), "1000");
    }

    #[test]
    fn wrong_variables_are_named() {
        let (_, errors) = with("MOLIA_ROUTER_IO_RX_BATCH", "many");
        assert_eq!(
            errors,
            ["MOLIA_ROUTER_IO_RX_BATCH: io/rx_batch = \"many\": not understood, allowed: 1..256"]
        );
        let (_, errors) = with("MOLIA_ROUTER_IO_RX_BACH", "1");
        assert_eq!(
            errors,
            ["MOLIA_ROUTER_IO_RX_BACH: no attribute \"MOLIA_ROUTER_IO_RX_BACH\"; \
              did you mean MOLIA_ROUTER_IO_RX_BATCH?"]
        );
    }

    #[test]
    fn other_peoples_variables_are_left_alone() {
        for name in
            ["PATH", "MOLIA_ROUTER", "MOLIA_ROUTER_SERVICE_HOST", "MOLIA_ROUTER_PORT_7743_UDP"]
        {
            let (values, errors) = with(name, "x");
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(values, Values::default());
        }
    }
}
