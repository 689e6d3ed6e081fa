//! What can be wrong with a setting, said in one line.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::attribute::Attribute;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The registry.
    Default,
    /// A file of the configuration directory.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// `--set` on the command line.
    Set,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Set => f.write_str("--set"),
        }
    }
}

/// What is wrong with a text that should be a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// No value of this type (`EINVAL`).
    Syntax,
    /// Out of range (`ERANGE`).
    Range,
    /// A time that is not a whole number of the attribute's unit.
    Fraction,
}

impl Problem {
    const fn label(self) -> &'static str {
        match self {
            Self::Syntax => "not understood",
            Self::Range => "out of range",
            Self::Fraction => "not a whole number of its unit",
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no allowed value of the attribute.
    #[error("{source_of}: {} = {}: {}, allowed: {}", .attribute.path, Quoted(.text), .problem.label(), .attribute.kind)]
    Value {
        /// Who said it.
        source_of: Source,
        /// What was meant.
        attribute: &'static Attribute,
        /// What was written.
        text: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// There is no such attribute.
    #[error("{source_of}: no attribute {}{}", Quoted(.name), Meant(.meant.as_deref()))]
    Unknown {
        /// Who named it.
        source_of: Source,
        /// The name that was used.
        name: String,
        /// A similar name that exists, in the form that the source uses.
        meant: Option<String>,
    },
    /// `--set` without `=`.
    #[error("--set {}: expected path=value, e.g. io/engine=mmsg", Quoted(.0))]
    NoEquals(String),
    /// Two values that contradict each other.
    #[error("{source_of}: {} = {value}: {why} {} = {other_value}", .attribute.path, .other.path)]
    Conflict {
        /// Who set the first of them that is not a default.
        source_of: Source,
        /// The attribute that was set there.
        attribute: &'static Attribute,
        /// Its value.
        value: String,
        /// What has to hold.
        why: &'static str,
        /// The attribute that it contradicts.
        other: &'static Attribute,
        /// The other's value.
        other_value: String,
    },
    /// A file or directory that cannot be read.
    #[error("{}: {error}", .path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Something in the directory that is no small text file.
    #[error("{}: {what}", .path.display())]
    NotAFile {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Text in quotes, harmless to a terminal and not longer than a line.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        let text = self.0.trim_end_matches('\n');
        match text.char_indices().nth(SHOWN) {
            Some((cut, _)) => write!(f, "{:?}…", &text[..cut]),
            None => write!(f, "{text:?}"),
        }
    }
}

struct Meant<'a>(Option<&'a str>);

impl fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, "; did you mean {name}?"),
            None => f.write_str("; `molia-router --help-attributes` lists them"),
        }
    }
}
