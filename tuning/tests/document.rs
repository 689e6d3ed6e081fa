//! ATTRIBUTES.md is the registry's; `UPDATE_DOCS=1 cargo test -p tuning` rewrites it.

use std::fs;
use std::path::Path;

#[test]
fn attributes_md_says_what_the_registry_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ATTRIBUTES.md");
    let wanted = tuning::markdown();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == wanted,
        "ATTRIBUTES.md is out of date: UPDATE_DOCS=1 cargo test -p tuning rewrites it"
    );
}

#[test]
fn help_lists_every_attribute_with_its_default() {
    let text = tuning::text();
    for attribute in tuning::ATTRIBUTES {
        let line = format!("{} = {}", attribute.path, attribute.default);
        assert!(text.contains(&line), "{line}");
    }
}
