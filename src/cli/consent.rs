//! `consent`: our signed word that another peer may reach us.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use clap::ValueEnum;
use serde_json::json;

use crate::client::link::parse_peer_id;
use crate::clock::Clock;
use crate::config::Surroundings;
use crate::config::key;
use crate::ids::PeerId;
use crate::limits::CONSENT_BYTES_MAX;
use crate::signing::consent;
use crate::wire::body::{Writer, consent_scope};

use super::{Exit, Failure, keygen, output};

/// Sign a consent: another peer may reach us in one way, for a while
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Whose word it is (a key file of `keygen`)
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,
    /// Who may: a peer id, or `anyone` who has the consent
    #[arg(long = "for", value_name = "PEER-ID", value_parser = subject)]
    subject: Subject,
    /// What for
    #[arg(long, value_name = "SCOPE")]
    scope: Scope,
    /// For so long
    #[arg(long, value_name = "MINUTES", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=consent::LIFE_S_MAX / 60))]
    minutes: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Who may.
#[derive(Clone, Copy, Debug)]
struct Subject(Option<PeerId>);

/// What a consent is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scope {
    /// Data by way of a router
    Relay,
    /// A way through both NATs
    Punch,
}

/// Prints the consent, in base64url.
///
/// # Errors
/// If the key file cannot be read, or others can read it.
pub fn run(args: &Args) -> Result<(), Failure> {
    let identity = key::open(&args.identity, &Surroundings::here()).map_err(keygen::failure)?;
    let scope = match args.scope {
        Scope::Relay => consent_scope::RELAY,
        Scope::Punch => consent_scope::PUNCH,
    };
    let life = Duration::from_secs(args.minutes * 60);
    let expires_unix_s = Clock::start().now().unix_s() + life.as_secs();
    let token = consent::sign(identity.signing_key(), args.subject.0, scope, expires_unix_s);
    let mut bytes = [0; CONSENT_BYTES_MAX];
    let mut out = Writer::new(&mut bytes);
    let written = token.write(&mut out).map(|()| out.len());
    let len = written.map_err(|_| Failure::new(Exit::System, "the consent does not fit"))?;
    let text = BASE64URL.encode(&bytes[..len]);
    if args.json {
        return output::json(&json!({
            "consent": text,
            "issuer": identity.peer_id().to_string(),
            "subject": args.subject.0.map(|id| id.to_string()),
            "expires_unix_s": expires_unix_s,
        }));
    }
    output::line(text)
}

/// A consent as [`run`] prints it, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token(pub Vec<u8>);

/// Reads one.
///
/// # Errors
/// If it is none.
pub fn parse(text: &str) -> Result<Token, String> {
    let bytes = BASE64URL.decode(text.trim().trim_end_matches('=')).ok();
    let fits = |bytes: &Vec<u8>| (1..=CONSENT_BYTES_MAX).contains(&bytes.len());
    let wrong = || "not a consent as `molia-router consent` prints it".to_owned();
    bytes.filter(fits).map(Token).ok_or_else(wrong)
}

fn subject(text: &str) -> Result<Subject, String> {
    if text == "anyone" {
        return Ok(Subject(None));
    }
    let id = parse_peer_id(text).map_err(|_| "neither a peer id nor `anyone`".to_owned())?;
    Ok(Subject(Some(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_consent_is_refused() {
        assert_eq!(parse("AQID"), Ok(Token(vec![1, 2, 3])));
        for wrong in ["", "a b", "*", &"A".repeat(400)] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(subject("anyone").is_ok_and(|it| it.0.is_none()));
        assert!(subject(&"ab".repeat(32)).is_ok_and(|it| it.0.is_some()));
        assert!(subject("everyone").is_err());
    }
}
