//! `announce`: tell a router that we have what a key names.

use std::time::Duration;

use serde_json::json;

use crate::ids::Key;
use crate::limits::META_BYTES_MAX;

use super::target::{self, key, span};
use super::{Failure, output, store};

/// Tell a router that this identity has what a key names
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    target: target::Args,
    /// 64 hex digits, as `store` prints them
    #[arg(value_name = "KEY", value_parser = key)]
    key: Key,
    /// Said to whoever asks
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true,
          value_parser = meta)]
    meta: String,
    /// So long: a number of s, m, h or d
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = span)]
    ttl: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Announces, and prints for how long it is kept.
///
/// # Errors
/// If the router cannot be reached, is another one, or refuses.
pub fn run(args: &Args) -> Result<(), Failure> {
    let (mut client, identity) = args.target.connect_as()?;
    let written = client.announce(&identity, &args.key, args.meta.as_bytes(), args.ttl)?;
    store::kept(&written)?;
    let (peer, ttl_s) = (identity.peer_id(), written.accepted_ttl.unwrap_or_default().as_secs());
    if args.json {
        let (key, peer) = (args.key.to_string(), peer.to_string());
        return output::json(&json!({ "key": key, "peer_id": peer, "accepted_ttl_s": ttl_s }));
    }
    output::line(format_args!("{peer}  listed for {ttl_s} s"))
}

fn meta(text: &str) -> Result<String, String> {
    if text.len() > META_BYTES_MAX {
        return Err(format!("{} bytes, of at most {META_BYTES_MAX}", text.len()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_is_as_long_as_the_protocol_lets_it() {
        assert!(meta(&"m".repeat(META_BYTES_MAX)).is_ok());
        assert!(meta(&"m".repeat(META_BYTES_MAX + 1)).is_err());
    }
}
