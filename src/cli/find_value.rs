//! `find-value`: what does a router have under a key?

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::client::{FoundValue, OwnedProvider, OwnedRecord};
use crate::ids::{Key, PeerId};

use super::target::{self, key};
use super::{Exit, Failure, find_node, output};

/// Ask a router for the value of a key, or who has it
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: target::Args,
    /// 64 hex digits, as `store` prints them
    #[arg(value_name = "KEY", value_parser = key)]
    key: Key,
    /// Write the value to this file, byte for byte
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Providers that are asked for.
const PROVIDERS: u32 = 64;

/// Prints the value, or the providers.
///
/// # Errors
/// If the router cannot be reached, is another one, refuses, or forges; if there is no value to
/// write to the file.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (mut client, _) = args.target.connect()?;
    let found = client.find_value(&args.key, PROVIDERS)?;
    if let Some(path) = &args.out {
        let nothing = || Failure::new(Exit::Unavailable, "the router has no value under this key");
        let record = found.record.as_ref().ok_or_else(nothing)?;
        fs::write(path, &record.value).map_err(|error| {
            Failure::new(Exit::CannotCreate, format_args!("{}: {error}", path.display()))
        })?;
    }
    if args.json {
        return output::json(&document(&args.key, &found));
    }
    match &found.record {
        Some(_) if args.out.is_some() => Ok(()),
        Some(record) => output::line(text(&record.value)),
        None => found.providers.iter().try_for_each(|it| output::line(line(it))),
    }?;
    if found.record.is_some() || !found.providers.is_empty() {
        return Ok(());
    }
    output::line("the router has nothing under this key")
}

/// A value for people; what is no text is only counted.
pub(super) fn text(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) => output::printable(text),
        Err(_) => format!("{} bytes that are no text: --out FILE takes them", value.len()),
    }
}

pub(super) fn line(provider: &OwnedProvider) -> String {
    let mut line = format!("{}  until {}", provider.peer, provider.expires_unix_s);
    if !provider.meta.is_empty() {
        line += "  ";
        line += &output::printable(&String::from_utf8_lossy(&provider.meta));
    }
    line
}

fn document(key: &Key, found: &FoundValue) -> Value {
    json!({
        "key": key.to_string(),
        "record": found.record.as_ref().map(record),
        "providers": found.providers.iter().map(provider).collect::<Vec<_>>(),
        "forged_providers": found.forged,
        "closer_peers": found.closer.iter().map(find_node::document).collect::<Vec<_>>(),
    })
}

pub(super) fn record(record: &OwnedRecord) -> Value {
    json!({
        "value_base64": output::base64(&record.value),
        "text": std::str::from_utf8(&record.value).ok(),
        "sequence": record.sequence,
        "ttl_s": record.ttl_secs,
        "not_before_unix_s": record.not_before_unix,
        "owner": record.owner.map(|public| PeerId::of_public(&public).to_string()),
        "name": std::str::from_utf8(&record.salt).ok(),
    })
}

pub(super) fn provider(provider: &OwnedProvider) -> Value {
    json!({
        "peer_id": provider.peer.to_string(),
        "meta_base64": output::base64(&provider.meta),
        "expires_unix_s": provider.expires_unix_s,
        "sequence": provider.sequence,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_does_not_command_the_terminal() {
        assert_eq!(text(b"\x1b[2J"), "\\u001b[2J");
        assert_eq!(text(b"\xff\x1b"), "2 bytes that are no text: --out FILE takes them");
        let (peer, meta) = (PeerId([0xAB; 32]), b"\x07v=1".to_vec());
        let provider = OwnedProvider { peer, meta, expires_unix_s: 7, sequence: 1 };
        assert_eq!(line(&provider), format!("{}  until 7  \\u0007v=1", "ab".repeat(32)));
    }
}
