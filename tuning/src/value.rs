//! Values: parsing and printing by the grammar of one-value files.
//!
//! Decimal numbers; sizes take k, M, G and print bytes; times take us, ms, s, m, h
//! and print the unit of their path; flags are `0` and `1`; choices print
//! `auto [io_uring] mmsg`. What is printed can be read back.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::attribute::{Attribute, Kind, Scale, Word};
use crate::error::Problem;

/// CPUs are numbered below this (`CPU_SETSIZE`).
const CPUS_MAX: u16 = 1024;

/// The value of an attribute, of the type that its [`Kind`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number in bytes, bits/s, things or the time unit of the path.
    Number(u64),
    /// `max` or `auto` in place of a number or a list.
    Word(Word),
    /// `0` or `1`.
    Flag(bool),
    /// One of the choices.
    Choice(&'static str),
    /// An address.
    Address(SocketAddr),
    /// `off` in place of an address, a directory or a link.
    Off,
    /// CPU numbers, ascending.
    Cpus(Vec<u16>),
    /// An absolute path.
    Directory(PathBuf),
    /// A link, of the right shape; whoever connects reads the rest.
    Link(String),
}

impl Attribute {
    /// Reads a value; surrounding white space is ignored.
    ///
    /// # Errors
    /// [`Problem::Syntax`] if it is no value of this type, [`Problem::Range`] if it is out of range.
    pub fn parse(&self, text: &str) -> Result<Value, Problem> {
        let text = text.trim();
        match self.kind {
            Kind::Number { scale, min, max, word } => match word {
                Some(word) if text == word.label() => Ok(Value::Word(word)),
                Some(_) | None => number(scale, text)
                    .and_then(
                        |n| if (min..=max).contains(&n) { Ok(n) } else { Err(Problem::Range) },
                    )
                    .map(Value::Number),
            },
            Kind::Flag => match text {
                "0" => Ok(Value::Flag(false)),
                "1" => Ok(Value::Flag(true)),
                _ => Err(Problem::Syntax),
            },
            Kind::Choice(words) => words
                .iter()
                .find(|word| text == **word || text == bracketed(words, word))
                .map(|word| Value::Choice(word))
                .ok_or(Problem::Syntax),
            Kind::Address { off: true } if text == "off" => Ok(Value::Off),
            Kind::Address { .. } => text.parse().map(Value::Address).map_err(|_| Problem::Syntax),
            Kind::Cpus if text == Word::Auto.label() => Ok(Value::Word(Word::Auto)),
            Kind::Cpus => cpus(text).map(Value::Cpus),
            Kind::Directory => match text {
                "auto" => Ok(Value::Word(Word::Auto)),
                "off" => Ok(Value::Off),
                // One line: it is printed as one.
                path if Path::new(path).is_absolute() && !path.contains(char::is_control) => {
                    Ok(Value::Directory(path.into()))
                }
                _ => Err(Problem::Syntax),
            },
            Kind::Link => match text {
                "off" => Ok(Value::Off),
                link if is_link(link) => Ok(Value::Link(link.to_owned())),
                _ => Err(Problem::Syntax),
            },
        }
    }

    /// The value as its file shows it: choices with all alternatives, the one in force in brackets.
    pub fn show(&self, value: &Value) -> String {
        match (self.kind, value) {
            (Kind::Choice(words), Value::Choice(chosen)) => bracketed(words, chosen),
            _ => value.to_string(),
        }
    }
}

/// The value alone, as one would write it.
impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Word(word) => f.write_str(word.label()),
            Self::Flag(on) => write!(f, "{}", u8::from(*on)),
            Self::Choice(word) => f.write_str(word),
            Self::Address(address) => write!(f, "{address}"),
            Self::Off => f.write_str("off"),
            Self::Cpus(list) => f.write_str(&ranges(list)),
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Link(link) => f.write_str(link),
        }
    }
}

/// Longer than any link can be that somebody means.
const LINK_BYTES_MAX: usize = 512;

/// Whether `text` has the parts of a link, on one line.
fn is_link(text: &str) -> bool {
    let parts = text.strip_prefix("molia://").and_then(|rest| rest.split_once('@'));
    let parts = parts.and_then(|(peer, rest)| Some((peer, rest.split_once("?k=")?)));
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    let whole = |(peer, (place, key)): (&str, (&str, &str))| {
        !peer.is_empty() && place.contains(':') && !key.is_empty()
    };
    printable && text.len() <= LINK_BYTES_MAX && parts.is_some_and(whole)
}

fn bracketed(words: &[&str], chosen: &str) -> String {
    let shown = words
        .iter()
        .map(|word| if *word == chosen { format!("[{word}]") } else { (*word).to_owned() });
    shown.collect::<Vec<_>>().join(" ")
}

fn number(scale: Scale, text: &str) -> Result<u64, Problem> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (digits, suffix) = text.split_at(digits);
    if digits.is_empty() {
        return Err(Problem::Syntax);
    }
    let (times, over) = factor(scale, suffix).ok_or(Problem::Syntax)?;
    // Only digits are left: what does not parse is too large.
    let n: u64 = digits.parse().map_err(|_| Problem::Range)?;
    let scaled = n.checked_mul(times).ok_or(Problem::Range)?;
    if scaled.is_multiple_of(over) { Ok(scaled / over) } else { Err(Problem::Fraction) }
}

/// What a suffix multiplies by, and what that is divided by afterwards.
fn factor(scale: Scale, suffix: &str) -> Option<(u64, u64)> {
    let thousand: u64 = match scale {
        Scale::Count => return suffix.is_empty().then_some((1, 1)),
        Scale::Bytes => 1024,
        Scale::Bits => 1000,
        Scale::Time(unit) => {
            let micros = match suffix {
                "" => unit.micros(),
                "us" => 1,
                "ms" => 1_000,
                "s" => 1_000_000,
                "m" => 60_000_000,
                "h" => 3_600_000_000,
                _ => return None,
            };
            return Some((micros, unit.micros()));
        }
    };
    let power = match suffix {
        "" => 0,
        "k" => 1,
        "M" => 2,
        "G" => 3,
        _ => return None,
    };
    Some((thousand.pow(power), 1))
}

fn cpus(text: &str) -> Result<Vec<u16>, Problem> {
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (cpu(first)?, cpu(last)?);
        if first > last {
            return Err(Problem::Syntax);
        }
        list.extend(first..=last);
        // Bounds the work on a text that repeats itself.
        if list.len() > usize::from(CPUS_MAX) {
            return Err(Problem::Range);
        }
    }
    list.sort_unstable();
    list.dedup();
    Ok(list)
}

fn cpu(text: &str) -> Result<u16, Problem> {
    let n = number(Scale::Count, text.trim())?;
    u16::try_from(n).ok().filter(|n| *n < CPUS_MAX).ok_or(Problem::Range)
}

fn ranges(list: &[u16]) -> String {
    list.chunk_by(|a, b| a + 1 == *b)
        .map(|run| match run {
            [one] => one.to_string(),
            [first, .., last] => format!("{first}-{last}"),
            [] => String::new(),
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::{Applies, Unit};
    use crate::registry::ATTRIBUTES;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn of(kind: Kind) -> Attribute {
        Attribute { path: "a/b", kind, default: "", applies: Applies::Live, help: "" }
    }

    fn parsed(kind: Kind, text: &str) -> Result<String, Problem> {
        let attribute = of(kind);
        attribute.parse(text).map(|value| attribute.show(&value))
    }

    fn number_of(scale: Scale) -> Kind {
        Kind::Number { scale, min: 0, max: u64::MAX, word: Some(Word::Max) }
    }

    #[test]
    fn sizes_take_suffixes_and_print_plain_numbers() {
        assert_eq!(parsed(number_of(Scale::Bytes), "8M"), Ok("8388608".into()));
        assert_eq!(parsed(number_of(Scale::Bytes), " 4k\n"), Ok("4096".into()));
        assert_eq!(parsed(number_of(Scale::Bits), "4M"), Ok("4000000".into()));
        assert_eq!(parsed(number_of(Scale::Bits), "max"), Ok("max".into()));
        assert_eq!(parsed(number_of(Scale::Count), "4k"), Err(Problem::Syntax));
    }

    #[test]
    fn times_take_units_and_print_the_unit_of_the_path() {
        let ms = number_of(Scale::Time(Unit::Millis));
        assert_eq!(parsed(ms, "2000"), Ok("2000".into()));
        assert_eq!(parsed(ms, "2s"), Ok("2000".into()));
        assert_eq!(parsed(ms, "1h"), Ok("3600000".into()));
        assert_eq!(parsed(number_of(Scale::Time(Unit::Seconds)), "120000ms"), Ok("120".into()));
        assert_eq!(parsed(number_of(Scale::Time(Unit::Seconds)), "1500ms"), Err(Problem::Fraction));
        assert_eq!(parsed(ms, "2 s"), Err(Problem::Syntax));
    }

    #[test]
    fn what_is_no_number_is_bad_syntax_and_what_is_too_large_is_out_of_range() {
        for text in ["", "-1", "+1", "0x10", "1.5", "1_000", "one", "1kk", "1K"] {
            assert_eq!(parsed(number_of(Scale::Bytes), text), Err(Problem::Syntax), "{text}");
        }
        for text in ["18446744073709551616", "99999999999999999999999G", "18446744073709551615G"] {
            assert_eq!(parsed(number_of(Scale::Bytes), text), Err(Problem::Range), "{text}");
        }
        let small = Kind::Number { scale: Scale::Count, min: 1, max: 256, word: None };
        assert_eq!(parsed(small, "257"), Err(Problem::Range));
        assert_eq!(parsed(small, "0"), Err(Problem::Range));
        assert_eq!(parsed(small, "max"), Err(Problem::Syntax));
    }

    #[test]
    fn a_choice_shows_its_alternatives_and_takes_either_form() {
        let kind = Kind::Choice(&["auto", "io_uring", "mmsg"]);
        assert_eq!(parsed(kind, "io_uring"), Ok("auto [io_uring] mmsg".into()));
        assert_eq!(parsed(kind, "auto [io_uring] mmsg\n"), Ok("auto [io_uring] mmsg".into()));
        assert_eq!(parsed(kind, "auto io_uring mmsg"), Err(Problem::Syntax));
        assert_eq!(parsed(kind, "Auto"), Err(Problem::Syntax));
    }

    #[test]
    fn cpu_lists_are_sorted_and_merged() {
        assert_eq!(parsed(Kind::Cpus, "8,0-3,2"), Ok("0-3,8".into()));
        assert_eq!(parsed(Kind::Cpus, "auto"), Ok("auto".into()));
        for text in ["", "3-1", "a", "1,", "1-2-3"] {
            assert_eq!(parsed(Kind::Cpus, text), Err(Problem::Syntax), "{text}");
        }
        assert_eq!(parsed(Kind::Cpus, "0-4096"), Err(Problem::Range));
        assert_eq!(parsed(Kind::Cpus, &"0-1023,".repeat(1000)), Err(Problem::Range));
    }

    #[test]
    fn flags_and_addresses() {
        assert_eq!(parsed(Kind::Flag, "1\n"), Ok("1".into()));
        assert_eq!(parsed(Kind::Flag, "true"), Err(Problem::Syntax));
        let address = Kind::Address { off: false };
        assert_eq!(parsed(address, "[::]:7743"), Ok("[::]:7743".into()));
        assert_eq!(parsed(address, "localhost:7743"), Err(Problem::Syntax));
        assert_eq!(parsed(address, "off"), Err(Problem::Syntax));
        assert_eq!(parsed(Kind::Address { off: true }, "off"), Ok("off".into()));
    }

    #[test]
    fn directories_are_absolute_or_a_word() {
        let parsed = |text| parsed(Kind::Directory, text);
        assert_eq!(parsed("/var/lib/a b"), Ok("/var/lib/a b".into()));
        assert_eq!(parsed("auto\n"), Ok("auto".into()));
        assert_eq!(parsed("off"), Ok("off".into()));
        for wrong in ["", "var/lib", "./a", "~/a", "/a\nb"] {
            assert_eq!(parsed(wrong), Err(Problem::Syntax), "{wrong:?}");
        }
    }

    #[test]
    fn a_link_has_all_its_parts() {
        let link = "molia://aa@[2001:db8::1]:7743?k=bb";
        assert_eq!(parsed(Kind::Link, &format!("{link}\n")), Ok(link.into()));
        assert_eq!(parsed(Kind::Link, "off"), Ok("off".into()));
        let long = format!("{link}{}", "b".repeat(512));
        for wrong in ["", "aa@host:1?k=bb", "molia://host:1?k=bb", "molia://aa@host:1", &long] {
            assert_eq!(parsed(Kind::Link, wrong), Err(Problem::Syntax), "{wrong:?}");
        }
    }

    fn value_of(kind: Kind) -> BoxedStrategy<Value> {
        match kind {
            Kind::Number { min, max, word, .. } => {
                let number = (min..=max).prop_map(Value::Number);
                match word {
                    Some(word) => prop_oneof![number, Just(Value::Word(word))].boxed(),
                    None => number.boxed(),
                }
            }
            Kind::Flag => any::<bool>().prop_map(Value::Flag).boxed(),
            Kind::Choice(words) => proptest::sample::select(words).prop_map(Value::Choice).boxed(),
            Kind::Address { .. } => {
                any::<(IpAddr, u16)>().prop_map(|parts| Value::Address(parts.into())).boxed()
            }
            Kind::Directory => {
                "(/[a-z .]{0,8}[a-z]){1,4}".prop_map(|path| Value::Directory(path.into())).boxed()
            }
            Kind::Link => "molia://[0-9a-f]{64}@[a-z.]{1,20}:[1-9][0-9]{0,3}[?]k=[a-zA-Z0-9_-]{43}"
                .prop_map(Value::Link)
                .boxed(),
            Kind::Cpus => proptest::collection::btree_set(0..CPUS_MAX, 1..40)
                .prop_map(|set| Value::Cpus(set.into_iter().collect()))
                .boxed(),
        }
    }

    fn attribute_and_value() -> impl Strategy<Value = (Attribute, Value)> {
        any::<proptest::sample::Index>().prop_flat_map(|i| {
            let attribute = *i.get(ATTRIBUTES);
            (Just(attribute), value_of(attribute.kind))
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back((attribute, value) in attribute_and_value()) {
            prop_assert_eq!(attribute.parse(&value.to_string()), Ok(value.clone()));
            prop_assert_eq!(attribute.parse(&format!("{}\n", attribute.show(&value))), Ok(value));
        }

        #[test]
        fn no_text_panics_or_leaves_the_range(i: proptest::sample::Index, text in ".{0,24}") {
            let attribute = i.get(ATTRIBUTES);
            if let (Ok(Value::Number(n)), Kind::Number { min, max, .. }) =
                (attribute.parse(&text), attribute.kind)
            {
                prop_assert!((min..=max).contains(&n));
            }
        }
    }
}
