//! A value for every attribute, and who set it.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::attribute::{Attribute, Kind, Scale, Word};
use crate::error::{Error, Source};
use crate::registry::{ATTRIBUTES, Name};
use crate::value::Value;
use crate::{directory, environment, rules, suggest};

/// Everything that overrides the defaults, the weakest first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layers<'a> {
    /// Directory of one-value files; it has to exist.
    pub directory: Option<&'a Path>,
    /// Environment variables; only those of the router count.
    pub variables: &'a [(OsString, OsString)],
    /// `path=value` of `--set`, in order.
    pub sets: &'a [String],
}

/// A value for every attribute.
#[derive(Clone, PartialEq, Eq)]
pub struct Values {
    /// In the order of the registry.
    entries: Vec<(Value, Source)>,
}

/// An attribute that is not at its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    /// Which one.
    pub attribute: &'static Attribute,
    /// Its value, as its file shows it.
    pub value: String,
    /// Its default, likewise.
    pub default: String,
    /// Who set it.
    pub source_of: &'a Source,
}

impl Default for Values {
    /// Every attribute at its default.
    fn default() -> Self {
        let entry = |attribute: &Attribute| {
            let value = attribute.parse(attribute.default);
            (value.expect("the registry's defaults are values"), Source::Default)
        };
        Self { entries: ATTRIBUTES.iter().map(entry).collect() }
    }
}

impl Values {
    /// The defaults overridden by `layers`.
    ///
    /// # Errors
    /// Everything that is wrong with them, in the order of the layers.
    pub fn load(layers: &Layers<'_>) -> Result<Self, Vec<Error>> {
        let (mut values, mut errors) = (Self::default(), Vec::new());
        if let Some(root) = layers.directory {
            directory::apply(&mut values, root, &mut errors);
        }
        environment::apply(&mut values, layers.variables, &mut errors);
        for text in layers.sets {
            errors.extend(values.set_from(text).err());
        }
        if errors.is_empty() {
            rules::check(&values, &mut errors);
        }
        if errors.is_empty() { Ok(values) } else { Err(errors) }
    }

    /// Sets one attribute.
    ///
    /// # Errors
    /// If `text` is no allowed value; the old value stays.
    pub(crate) fn set(
        &mut self,
        attribute: &'static Attribute,
        source_of: Source,
        text: &str,
    ) -> Result<(), Error> {
        let index = ATTRIBUTES.iter().position(|other| other.path == attribute.path);
        let index = index.expect("attributes come from the registry");
        match attribute.parse(text) {
            Ok(value) => self.entries[index] = (value, source_of),
            Err(problem) => {
                return Err(Error::Value { source_of, attribute, text: text.to_owned(), problem });
            }
        }
        Ok(())
    }

    fn set_from(&mut self, text: &str) -> Result<(), Error> {
        let (path, value) = text.split_once('=').ok_or_else(|| Error::NoEquals(text.to_owned()))?;
        let path = path.trim();
        match ATTRIBUTES.iter().find(|attribute| attribute.path == path) {
            Some(attribute) => self.set(attribute, Source::Set, value),
            None => {
                let meant = suggest::path(path).map(str::to_owned);
                Err(Error::Unknown { source_of: Source::Set, name: path.to_owned(), meant })
            }
        }
    }

    /// The attributes that differ from their defaults, in the order of the registry.
    pub fn differences(&self) -> Vec<Difference<'_>> {
        ATTRIBUTES.iter().zip(&self.entries).filter_map(|(a, entry)| difference(a, entry)).collect()
    }

    /// Who set `name`.
    pub fn source(&self, name: Name) -> &Source {
        &self.entries[name as usize].1
    }

    /// `name`'s value as its file shows it.
    pub fn shown(&self, name: Name) -> String {
        name.attribute().show(self.value(name))
    }

    /// `name`'s value.
    pub fn value(&self, name: Name) -> &Value {
        &self.entries[name as usize].0
    }

    /// A number that is always one.
    ///
    /// # Panics
    /// If the registry gives `name` another type; likewise below.
    pub fn number(&self, name: Name) -> u64 {
        let Value::Number(n) = self.value(name) else { mistyped(name) };
        *n
    }

    /// A number, or `None` for `max` or `auto`.
    pub fn number_or_word(&self, name: Name) -> Option<u64> {
        if let Value::Word(_) = self.value(name) { None } else { Some(self.number(name)) }
    }

    /// A number for an index or a capacity.
    pub fn size(&self, name: Name) -> usize {
        usize::try_from(self.number(name)).expect("ranges in the registry fit a usize")
    }

    /// A time.
    pub fn time(&self, name: Name) -> Duration {
        duration(name, self.number(name))
    }

    /// A time, or `None` for `max`.
    pub fn time_or_max(&self, name: Name) -> Option<Duration> {
        self.number_or_word(name).map(|n| duration(name, n))
    }

    /// Whether a flag is set.
    pub fn flag(&self, name: Name) -> bool {
        let Value::Flag(on) = self.value(name) else { mistyped(name) };
        *on
    }

    /// The word that was chosen.
    pub fn choice(&self, name: Name) -> &'static str {
        let Value::Choice(word) = self.value(name) else { mistyped(name) };
        word
    }

    /// An address, or `None` for `off`.
    pub fn address(&self, name: Name) -> Option<SocketAddr> {
        if *self.value(name) == Value::Off {
            return None;
        }
        let Value::Address(address) = self.value(name) else { mistyped(name) };
        Some(*address)
    }

    /// A list of CPUs, or `None` for `auto`.
    pub fn cpus(&self, name: Name) -> Option<&[u16]> {
        if *self.value(name) == Value::Word(Word::Auto) {
            return None;
        }
        let Value::Cpus(list) = self.value(name) else { mistyped(name) };
        Some(list)
    }

    /// Where a directory is to be.
    pub fn directory(&self, name: Name) -> Directory<'_> {
        match self.value(name) {
            Value::Off => Directory::Off,
            Value::Word(Word::Auto) => Directory::Auto,
            Value::Directory(path) => Directory::At(path),
            Value::Number(_)
            | Value::Word(_)
            | Value::Flag(_)
            | Value::Choice(_)
            | Value::Address(_)
            | Value::Cpus(_)
            | Value::Link(_) => mistyped(name),
        }
    }

    /// A link, or `None` for `off`.
    pub fn link(&self, name: Name) -> Option<&str> {
        if *self.value(name) == Value::Off {
            return None;
        }
        let Value::Link(link) = self.value(name) else { mistyped(name) };
        Some(link)
    }
}

/// The value of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory<'a> {
    /// Nowhere.
    Off,
    /// Where the router thinks best.
    Auto,
    /// There.
    At(&'a Path),
}

impl fmt::Debug for Values {
    /// Only what differs from the defaults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.differences().into_iter().map(|d| (d.attribute.path, d.value));
        f.debug_map().entries(shown).finish()
    }
}

fn difference<'a>(
    attribute: &'static Attribute,
    (value, source_of): &'a (Value, Source),
) -> Option<Difference<'a>> {
    let default = attribute.parse(attribute.default).ok()?;
    (*value != default).then(|| Difference {
        attribute,
        value: attribute.show(value),
        default: attribute.show(&default),
        source_of,
    })
}

fn duration(name: Name, n: u64) -> Duration {
    let Kind::Number { scale: Scale::Time(unit), .. } = name.attribute().kind else {
        mistyped(name)
    };
    Duration::from_micros(n * unit.micros())
}

/// Asked for a type that the registry does not give this attribute: a mistake in our own code.
fn mistyped(name: Name) -> ! {
    unreachable!("{} has another type", name.attribute().path)
}
