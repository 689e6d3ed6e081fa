//! What an attribute is: its type in the grammar of one-value files.

use std::fmt;

/// Unit of a time, named by the suffix of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `_us`
    Micros,
    /// `_ms`
    Millis,
    /// `_s`
    Seconds,
}

impl Unit {
    /// The suffix, as people write it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Micros => "us",
            Self::Millis => "ms",
            Self::Seconds => "s",
        }
    }

    /// Microseconds in one.
    pub(crate) const fn micros(self) -> u64 {
        match self {
            Self::Micros => 1,
            Self::Millis => 1_000,
            Self::Seconds => 1_000_000,
        }
    }
}

/// What a number counts, and so which suffixes it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Things; no suffix.
    Count,
    /// Bytes; k, M and G are powers of 1024.
    Bytes,
    /// Bits a second; k, M and G are powers of 1000.
    Bits,
    /// A time; us, ms, s, m and h, and without a suffix the unit of the path.
    Time(Unit),
}

/// A word that an attribute takes instead of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `max`: no limit.
    Max,
    /// `auto`: the router chooses.
    Auto,
}

impl Word {
    /// As it is written.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Auto => "auto",
        }
    }
}

/// Type and range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Number {
        /// What it counts.
        scale: Scale,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
        /// A word allowed in its place.
        word: Option<Word>,
    },
    /// `0` or `1`.
    Flag,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// An IP address with a port.
    Address {
        /// Whether `off` is allowed in its place.
        off: bool,
    },
    /// A list of CPUs such as `0-3,8`, or `auto`.
    Cpus,
    /// An absolute path of a directory, `auto` or `off`.
    Directory,
    /// The `molia://` link of a router, or `off`.
    Link,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// It can change while the router runs.
    Live,
    /// It is fixed when the router starts.
    Restart,
    /// It is checked and kept; what it is for is not part of this version.
    Reserved,
}

impl Applies {
    /// As the tables print it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
            Self::Reserved => "reserved",
        }
    }
}

/// One thing an operator can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Path in the directory, e.g. `qos/hints/depth`.
    pub path: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// Default, as one would write it.
    pub default: &'static str,
    /// When a change takes effect.
    pub applies: Applies,
    /// One line of help.
    pub help: &'static str,
}

impl Attribute {
    /// Name of its environment variable: `io/engine` is `MOLIA_ROUTER_IO_ENGINE`.
    pub fn variable(&self) -> String {
        let tail = self.path.replace('/', "_").to_uppercase();
        format!("{}{tail}", crate::environment::PREFIX)
    }
}

/// What is allowed, in words: `1..256`, `auto, io_uring or mmsg`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Number { scale, min, max, word } => {
                write!(f, "{}..{}", short(scale, min), short(scale, max))?;
                f.write_str(match scale {
                    Scale::Count => "",
                    Scale::Bytes => " bytes",
                    Scale::Bits => " bits/s",
                    Scale::Time(Unit::Micros) => " us",
                    Scale::Time(Unit::Millis) => " ms",
                    Scale::Time(Unit::Seconds) => " s",
                })?;
                word.map_or(Ok(()), |word| write!(f, " or {}", word.label()))
            }
            Self::Flag => f.write_str("0 or 1"),
            Self::Choice(words) => alternatives(words, f),
            Self::Address { off } => {
                f.write_str("IP:PORT or [IPv6]:PORT")?;
                f.write_str(if off { ", or off" } else { "" })
            }
            Self::Cpus => f.write_str("CPU numbers such as 0-3,8, or auto"),
            Self::Directory => f.write_str("an absolute path, auto or off"),
            Self::Link => f.write_str("molia://PEER-ID@HOST:PORT?k=KEY, or off"),
        }
    }
}

fn alternatives(words: &[&str], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let last = words.len().saturating_sub(1);
    words.iter().enumerate().try_for_each(|(i, word)| {
        f.write_str(match i {
            0 => "",
            _ if i == last => " or ",
            _ => ", ",
        })?;
        f.write_str(word)
    })
}

/// `n` with the largest suffix that divides it.
fn short(scale: Scale, n: u64) -> String {
    let step = match scale {
        Scale::Count | Scale::Time(_) => return n.to_string(),
        Scale::Bytes => 1024_u64,
        Scale::Bits => 1000,
    };
    [("G", step.pow(3)), ("M", step.pow(2)), ("k", step)]
        .into_iter()
        .find(|(_, unit)| n > 0 && n.is_multiple_of(*unit))
        .map_or_else(|| n.to_string(), |(suffix, unit)| format!("{}{suffix}", n / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_reads_like_a_sentence() {
        let bytes = Kind::Number { scale: Scale::Bytes, min: 4096, max: 1 << 30, word: None };
        assert_eq!(bytes.to_string(), "4k..1G bytes");
        let rate =
            Kind::Number { scale: Scale::Bits, min: 64_000, max: 1500, word: Some(Word::Max) };
        assert_eq!(rate.to_string(), "64k..1500 bits/s or max");
        assert_eq!(
            Kind::Choice(&["auto", "io_uring", "mmsg"]).to_string(),
            "auto, io_uring or mmsg"
        );
        assert_eq!(Kind::Address { off: true }.to_string(), "IP:PORT or [IPv6]:PORT, or off");
    }
}
