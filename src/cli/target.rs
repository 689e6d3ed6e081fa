//! The router that a client command talks to, and who it talks as.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::{Agreement, Client, Error, Link, Options};
use crate::config::Surroundings;
use crate::config::key::{self, KeyError};
use crate::identity::Identity;

use super::{Exit, Failure};

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
        let identity = self.identity()?;
        let options = Options { patience: self.timeout, ..Options::default() };
        let mut client = Client::connect(&self.link, identity.as_ref(), options)?;
        let agreement = client.negotiate(identity.as_ref())?;
        Ok((client, agreement))
    }

    fn identity(&self) -> Result<Option<Identity>, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
