//! `molia-router`: see `molia-router --help`.

fn main() {}
