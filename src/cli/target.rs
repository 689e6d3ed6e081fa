//! The router that a client command talks to, and who it talks as.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::link::parse_peer_id;
use crate::client::{Agreement, Client, Error, Link, Options};
use crate::config::Surroundings;
use crate::config::key::{self, KeyError};
use crate::identity::Identity;
use crate::ids::Key;

use super::{Exit, Failure};

/// Nothing is kept for longer than a year.
const SPAN_SECONDS_MAX: u64 = 365 * 86_400;

/// Which router, and as whom.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Args {
    /// The router: its molia:// link, as `run` prints it
    pub link: Link,
    /// Show this identity (a key file of `keygen`); without it the session is anonymous
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Give up on the handshake after this many seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub timeout: Duration,
}

impl Args {
    /// A session with the router, which proved to be the peer of the link.
    ///
    /// # Errors
    /// If there is no handshake or the router is another one.
    pub fn connect(&self) -> Result<(Client, Agreement), Failure> {
        self.session(self.identity()?.as_ref())
    }

    /// The same as somebody: a router keeps nothing for those who stay anonymous.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and without `--identity`.
    pub fn connect_as(&self) -> Result<(Client, Identity), Failure> {
        let anonymous = || {
            let text = "a router keeps nothing for strangers: --identity FILE says who you are";
            Failure::new(Exit::Usage, text)
        };
        let identity = self.identity()?.ok_or_else(anonymous)?;
        let (client, _) = self.session(Some(&identity))?;
        Ok((client, identity))
    }

    fn session(&self, identity: Option<&Identity>) -> Result<(Client, Agreement), Failure> {
        let options = Options { patience: self.timeout, ..Options::default() };
        let mut client = Client::connect(&self.link, identity, options)?;
        let agreement = client.negotiate(identity)?;
        Ok((client, agreement))
    }

    /// Who to be, if anybody.
    ///
    /// # Errors
    /// If the key file cannot be read, or others can read it.
    pub fn identity(&self) -> Result<Option<Identity>, Failure> {
        let Some(path) = &self.identity else { return Ok(None) };
        key::open(path, &Surroundings::here()).map(Some).map_err(|error| match error {
            KeyError::Read { path, error } => Failure::io(path.display(), &error),
            other @ (KeyError::Mode { .. }
            | KeyError::Owner { .. }
            | KeyError::NotAKey { .. }
            | KeyError::Exists { .. }
            | KeyError::Write { .. }) => Failure::new(Exit::Permission, other),
        })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Socket { doing, error } => return Self::io(doing, error),
            Error::Link(_) | Error::TooLarge { .. } => Exit::Usage,
            Error::NoAnswer(silence) if !silence.refused => Exit::Timeout,
            Error::Timeout { .. } => Exit::Timeout,
            Error::NoAnswer(_)
            | Error::Resolve { .. }
            | Error::Price { .. }
            | Error::StampPrice { .. }
            | Error::Refused { .. } => Exit::Unavailable,
            Error::Malformed { .. }
            | Error::WrongPeer { .. }
            | Error::Unproven(_)
            | Error::Forged(_)
            | Error::NoBinding => Exit::Protocol,
        };
        Self::new(exit, error)
    }
}

/// A positive number of seconds, fractions allowed.
///
/// # Errors
/// What is wrong with it.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|span| !span.is_zero() && *span <= Duration::from_secs(86_400))
        .ok_or_else(|| "more than 0 and at most 86400 seconds".to_owned())
}

/// A whole number of seconds, minutes, hours or days, above zero and up to a year.
///
/// # Errors
/// What is wrong with it.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "not a number followed by s, m, h or d".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit_s: u64 = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    // Only digits are left: what does not parse is too large.
    let seconds = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit_s));
    seconds
        .filter(|seconds| (1..=SPAN_SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "more than 0 and at most 365d".to_owned())
}

/// A key of the overlay in hex, in either case.
///
/// # Errors
/// What is wrong with it.
pub fn key(text: &str) -> Result<Key, String> {
    parse_peer_id(text).map(|id| Key(id.0)).map_err(|_| "a key is 64 hex digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h", 3600), ("2d", 172_800)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in
            ["", "1", "h", "+1h", "1.5h", "1 h", "1hh", "0s", "366d", "99999999999999999999d"]
        {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_hex() {
        assert_eq!(key(&"aB".repeat(32)), Ok(Key([0xAB; 32])));
        assert!(key(&"ab".repeat(31)).is_err() && key(&"zz".repeat(32)).is_err());
    }

    #[test]
    fn seconds_may_have_fractions_and_are_never_zero() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["", "x", "0", "-1", "NaN", "inf", "1e9"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn scripts_can_tell_why_a_client_failed() {
        let code = |error: Error| Failure::from(error).exit();
        let waited = Duration::from_secs(1);
        let request = crate::wire::kind::Kind::Ping;
        assert_eq!(code(Error::Timeout { request, waited }), Exit::Timeout);
        assert_eq!(code(Error::NoBinding), Exit::Protocol);
        let address = ([127, 0, 0, 1], 1).into();
        let silent =
            crate::client::error::NoAnswer { address, waited, initiations: 1, refused: false };
        assert_eq!(code(Error::NoAnswer(silent.clone())), Exit::Timeout);
        let dead = crate::client::error::NoAnswer { refused: true, ..silent };
        assert_eq!(code(Error::NoAnswer(dead)), Exit::Unavailable);
    }
}
