//! The attribute registry: everything an operator can set, in one table.
//!
//! An attribute has a path (`io/rx_batch`), a type with unit and range, a default
//! and one line of help ([`ATTRIBUTES`]). [`Values`] holds a value for every one of
//! them together with where it came from: the default, a file of a directory of
//! one-value files, an environment variable or `--set`, each overriding those before.
//! Everything wrong is reported at once, naming the source, the attribute and what
//! is allowed. The command line's help and ATTRIBUTES.md are printed from the table.
//!
//! This crate does not know what a value does; the router turns [`Values`] into
//! the configurations of its modules.
#![forbid(unsafe_code)]

mod attribute;
mod directory;
mod environment;
mod error;
mod registry;
mod rules;
mod suggest;
mod table;
mod value;
mod values;

pub use attribute::{Applies, Attribute, Kind, Scale, Unit, Word};
pub use directory::IDENTITY_FILE;
pub use error::{Error, Problem, Source};
pub use registry::{ATTRIBUTES, Name};
pub use table::{markdown, text};
pub use value::Value;
pub use values::{Difference, Directory, Layers, Values};
