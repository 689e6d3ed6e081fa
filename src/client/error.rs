//! What can go wrong between a client and a router, each with what to check.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::link::{Host, LinkError};
use crate::identity;
use crate::ids::PeerId;
use crate::signing;
use crate::wire::code::Code;
use crate::wire::kind::Kind;

/// Why a client did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The link does not parse.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The host of the link is unknown.
    #[error("cannot resolve {host}: {error}")]
    Resolve {
        /// The host.
        host: Host,
        /// What the resolver says.
        error: io::Error,
    },
    /// A system call failed.
    #[error("{doing}: {error}")]
    Socket {
        /// What was tried.
        doing: &'static str,
        /// What the kernel says.
        error: io::Error,
    },
    /// No handshake came about.
    #[error("{0}")]
    NoAnswer(NoAnswer),
    /// The router wants more work than this client does.
    #[error(
        "router under load asks for a proof of work of {bits} bits, more than this client does: try later"
    )]
    Price {
        /// What it asks for.
        bits: u8,
    },
    /// The session works, but a request was not answered.
    #[error("no answer to {} within {waited:.0?} (sent twice)", label(.request))]
    Timeout {
        /// The request.
        request: Kind,
        /// Since it was sent first.
        waited: Duration,
    },
    /// The router answered with ERROR.
    #[error("{} refused: {}", label(.request), .refusal)]
    Refused {
        /// The request.
        request: Kind,
        /// What ERROR said.
        refusal: Refusal,
    },
    /// The answer does not parse or does not fit the request.
    #[error("answer to {} that makes no sense", label(.request))]
    Malformed {
        /// The request.
        request: Kind,
    },
    /// The key of the link belongs to someone else than the link says.
    #[error("wrong peer id: the link says {expected}, the router is {found}")]
    WrongPeer {
        /// The link's.
        expected: PeerId,
        /// The router's, proven by its signature.
        found: PeerId,
    },
    /// The router's proof of its identity does not hold.
    #[error("the router does not prove its peer id: {0}")]
    Unproven(identity::Refused),
    /// The router says nothing of its identity.
    #[error("the router does not prove its peer id: no binding in its answer")]
    NoBinding,
    /// The record in an answer is none.
    #[error("the router answers with a record that is not what its key names: {0}")]
    Forged(signing::Refused),
    /// The router wants a dearer stamp than this client pays.
    #[error("the router asks for a stamp of {bits} bits, more than this client pays")]
    StampPrice {
        /// What it asks for.
        bits: u32,
    },
    /// The request does not fit a datagram, or the chunks that it may have.
    #[error("{} does not fit what may be sent", label(.request))]
    TooLarge {
        /// The request.
        request: Kind,
    },
}

/// What ERROR said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its code.
    pub code: Code,
    /// For people, possibly empty.
    pub reason: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// Depends on the code: offending type, missing bit, wanted bits.
    pub detail: u32,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.label())?;
        // Routers have no more to say than the code most of the time.
        if !self.reason.is_empty() && self.reason != self.code.label() {
            // What a peer wrote is shown without its control characters.
            write!(f, " ({})", self.reason.escape_debug())?;
        }
        if let Some(pause) = self.retry_after {
            write!(f, ", try again in {pause:?}")?;
        }
        Ok(())
    }
}

/// A handshake that nobody answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoAnswer {
    /// Where it was tried.
    pub address: SocketAddr,
    /// For how long.
    pub waited: Duration,
    /// How many initiations were sent.
    pub initiations: u32,
    /// The host said that nothing listens on that port.
    pub refused: bool,
}

impl fmt::Display for NoAnswer {
    /// A router is silent towards whoever does not know its key, so a wrong key
    /// cannot be told from a dead router: say both.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, waited, initiations, refused } = self;
        if *refused {
            return write!(
                f,
                "nothing listens on {address} (port unreachable): is the router running there?"
            );
        }
        write!(
            f,
            "no answer from {address} to {initiations} handshakes in {waited:.1?}: check that the \
             router runs, that UDP port {} is open, and the key in the link (a router never \
             answers a wrong one)",
            address.port()
        )
    }
}

fn label(kind: &Kind) -> String {
    kind.name().trim_end_matches("_req").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_what_the_router_said_in_one_line() {
        let refusal = Refusal {
            code: Code::RateLimited,
            reason: "slow\ndown".into(),
            retry_after: Some(Duration::from_millis(1500)),
            detail: 0,
        };
        let terse = Refusal { reason: "rate_limited".into(), ..refusal.clone() };
        assert_eq!(terse.to_string(), "rate_limited, try again in 1.5s");
        let error = Error::Refused { request: Kind::FindNodeReq, refusal };
        assert_eq!(
            error.to_string(),
            "FIND_NODE refused: rate_limited (slow\\ndown), try again in 1.5s"
        );
    }

    #[test]
    fn silence_says_what_to_check() {
        let silent = NoAnswer {
            address: "[::1]:7743".parse().unwrap(),
            waited: Duration::from_secs(5),
            initiations: 3,
            refused: false,
        };
        let text = silent.to_string();
        assert!(text.contains("UDP port 7743") && text.contains("key"), "{text}");
        let dead = NoAnswer { refused: true, ..silent };
        assert!(dead.to_string().contains("nothing listens on [::1]:7743"));
    }
}
