//! `store`: ask a router to keep a value.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::client::{OwnedRecord, Written};
use crate::clock::Clock;
use crate::limits::SALT_BYTES_MAX;
use crate::wire::code::StoreCode;

use super::target::{self, span};
use super::{Exit, Failure, output};

/// Ask a router to keep a value, and print the key that it is found under
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: target::Args,
    /// The value is in this file, `-`: comes from standard input
    #[arg(value_name = "FILE", required_unless_present = "value", conflicts_with = "value")]
    file: Option<PathBuf>,
    /// The value
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
    /// Sign it under this name, to put newer values in its place later; an empty one takes it back
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// Number of this value of the name, above that of the one before [default: unix time in ms]
    #[arg(long, value_name = "N", requires = "name")]
    sequence: Option<u64>,
    /// Keep it so long: a number of s, m, h or d
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = span)]
    ttl: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Above what the chunks of a request can hold.
const VALUE_BYTES_MAX: u64 = 32 << 10;

/// Stores the value and prints its key.
///
/// # Errors
/// If the value cannot be read, or the router cannot be reached, is another one, or refuses.
pub fn run(args: &Args) -> Result<(), Failure> {
    let value = match (&args.value, &args.file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => read(file)?,
        (None, None) => return Err(Failure::new(Exit::Usage, "nothing to store")),
    };
    let (mut client, identity) = args.target.connect_as()?;
    let now = Clock::start().now();
    let record = match &args.name {
        None => OwnedRecord::immutable(value, args.ttl),
        Some(name) => {
            let sequence = args.sequence.unwrap_or(now.unix_ms);
            let (salt, from) = (name.as_bytes(), now.unix_s());
            OwnedRecord::named(&identity, salt, value, sequence, from, args.ttl)
        }
    };
    kept(&client.store(&record.borrowed())?)?;
    let key = record.key.to_string();
    if args.json {
        let ttl_s = args.ttl.as_secs();
        return output::json(&json!({ "key": key, "sequence": record.sequence, "ttl_s": ttl_s }));
    }
    output::line(key)
}

/// A failure unless the router keeps what it was asked to.
pub(super) fn kept(written: &Written) -> Result<(), Failure> {
    if written.code == StoreCode::Ok {
        return Ok(());
    }
    let mut why = format!("the router does not keep it: {}", written.code.label());
    // What a stale or contradicting value is refused for is its code.
    if !written.reason.is_empty() && written.reason != written.code.label() {
        why += &format!(" ({})", output::printable(&written.reason));
    }
    if let Some(pause) = written.retry_after {
        why += &format!(", try again in {pause:?}");
    }
    Err(Failure::new(Exit::Unavailable, why))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::io(file.display(), &error);
    let mut value = Vec::new();
    if file.as_os_str() == "-" {
        io::stdin().lock().take(VALUE_BYTES_MAX + 1).read_to_end(&mut value)
    } else {
        File::open(file).map_err(failed)?.take(VALUE_BYTES_MAX + 1).read_to_end(&mut value)
    }
    .map_err(failed)?;
    Ok(value)
}

fn name(text: &str) -> Result<String, String> {
    if text.len() > SALT_BYTES_MAX {
        return Err(format!("{} bytes, of at most {SALT_BYTES_MAX}", text.len()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_that_says_why_and_when() {
        let said = |code, reason: &str, pause: u64| {
            let retry_after = (pause > 0).then(|| Duration::from_secs(pause));
            let reason = reason.to_owned();
            kept(&Written { code, reason, accepted_ttl: None, retry_after })
        };
        assert_eq!(said(StoreCode::Ok, "", 0), Ok(()));
        let line = |code, reason, pause| {
            let failure = said(code, reason, pause).unwrap_err();
            (failure.exit(), failure.to_string())
        };
        let unavailable = |text: &str| (Exit::Unavailable, text.to_owned());
        assert_eq!(
            line(StoreCode::Stale, "stale", 0),
            unavailable("the router does not keep it: stale")
        );
        assert_eq!(
            line(StoreCode::Rejected, "full\n", 60),
            unavailable("the router does not keep it: rejected (full\\u000a), try again in 60s")
        );
    }

    #[test]
    fn a_name_has_room_for_its_bytes() {
        assert!(name(&"é".repeat(32)).is_ok());
        assert!(name(&"é".repeat(33)).is_err());
    }
}
