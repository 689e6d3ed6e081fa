//! The registry as people read it.

use std::fmt::Write;

use crate::attribute::{Applies, Attribute};
use crate::registry::ATTRIBUTES;

const INTRODUCTION: &str = "\
# Attributes

Everything that can be set, printed from the registry (`tuning/src/registry.rs`);
`molia-router --help-attributes` prints the same.

Each attribute is a file with one value in the configuration directory
(`/etc/molia-router`, for other users `~/.config/molia-router`, or `--config DIR`): `io/engine`
is the file `engine` in the directory `io`. A missing file means the default; a file that is no attribute is an
error. An environment variable (`MOLIA_ROUTER_IO_ENGINE`: the path in capitals, `/` as `_`)
overrides the file, `--set io/engine=mmsg` overrides both. `molia-router check` says whether
everything fits together, without starting anything.

Numbers are decimal. Bytes take k, M and G (powers of 1024), bit rates too (powers of 1000),
times take us, ms, s, m and h. `max` is no limit, `auto` leaves it to the router, flags are 0 or 1.

This version reads its configuration when it starts and changes nothing afterwards. *live*: could
change in a running router once that is possible, until then at a restart; *restart*: fixed for the life of the process; *reserved*: checked and kept, but what it is for
is not part of this version (`check` warns).
";

/// ATTRIBUTES.md.
pub fn markdown() -> String {
    let mut text = INTRODUCTION.to_owned();
    for group in groups() {
        let name = group[0].path.split('/').next().unwrap_or_default();
        let _ = write!(text, "\n## {name}\n\n");
        text.push_str("| attribute | default | allowed | applies | |\n|---|---|---|---|---|\n");
        for Attribute { path, kind, default, applies, help } in group {
            let applies = applies.label();
            let _ = writeln!(text, "| `{path}` | {default} | {kind} | {applies} | {help} |");
        }
    }
    text
}

/// The table for a terminal, two lines an attribute.
pub fn text() -> String {
    let mut text = String::new();
    for group in groups() {
        for Attribute { path, kind, default, applies, help } in group {
            let note = match applies {
                Applies::Live => "",
                Applies::Restart => "  (restart)",
                Applies::Reserved => "  (reserved)",
            };
            let _ = writeln!(text, "{path} = {default}  [{kind}]{note}\n    {help}");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn groups() -> impl Iterator<Item = &'static [Attribute]> {
    let group = |attribute: &Attribute| attribute.path.split('/').next();
    ATTRIBUTES.chunk_by(move |a, b| group(a) == group(b))
}
