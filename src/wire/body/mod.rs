//! Bodies: borrowed readers and direct writers, one pair per message.
//!
//! `read` parses the whole body first and then holds it against the protocol's
//! maxima; what it returns borrows from the body and can be used without
//! further checks. `write` is the inverse; it does not check maxima (the caller
//! built the values), only that everything fits. Messages without a pair here
//! are read and written through [`proto`](super::proto).

pub mod chunks;
mod consent;
mod entries;
mod error;
pub mod find_node;
pub mod find_value;
mod goaway;
mod negotiate;
mod peer;
mod ping;
mod provider;
mod reader;
mod record;
mod reflect;
mod relay;
mod rendezvous;
mod store;
mod writer;

pub use chunks::Chunks;
pub use consent::{ConsentToken, consent_scope};
pub use error::Error;
pub use find_node::{FindNodeReq, FindNodeResp};
pub use find_value::{FindValueReq, FindValueResp, Found, Providers};
pub use goaway::Goaway;
pub use negotiate::{Capabilities, IdentityBinding, NegotiateReq, NegotiateResp, Puzzle, feature};
pub use peer::{Addrs, Entry, Peer, Peers, flag};
pub use ping::{Ping, Pong};
pub use provider::{AnnounceProviderReq, AnnounceProviderResp, Provider};
pub use record::Record;
pub use reflect::{ReflectReq, ReflectResp};
pub use relay::{RelayAllocReq, RelayAllocResp, RelayClose, RelayStatus};
pub use rendezvous::{
    Outcome, RendezvousAck, RendezvousNotify, RendezvousReq, RendezvousResp, RendezvousResult,
    RendezvousStatus,
};
pub use store::{Stamp, StoreReq, StoreResp};
pub use writer::{Overflow, Writer};

/// Why a body was refused; ERROR INVALID either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Not a message of this type.
    Malformed,
    /// A field longer, or repeated more often, than the protocol allows.
    AboveMaximum,
    /// A key, id, nonce or signature that has not its exact length.
    WrongLength,
}

impl BodyError {
    /// Every reason.
    pub const ALL: &[Self] = &[Self::Malformed, Self::AboveMaximum, Self::WrongLength];

    /// Value of the `reason` label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::AboveMaximum => "above_maximum",
            Self::WrongLength => "wrong_length",
        }
    }
}

/// `bytes` unless there are more than `max`.
fn at_most(bytes: &[u8], max: usize) -> Result<&[u8], BodyError> {
    if bytes.len() > max { Err(BodyError::AboveMaximum) } else { Ok(bytes) }
}

/// `bytes` if there are exactly `N`.
fn exactly<const N: usize>(bytes: &[u8]) -> Result<&[u8; N], BodyError> {
    bytes.try_into().map_err(|_| BodyError::WrongLength)
}

/// `bytes` if there are exactly `N`, `None` if the field is absent.
fn exactly_if_present<const N: usize>(bytes: &[u8]) -> Result<Option<&[u8; N]>, BodyError> {
    if bytes.is_empty() { Ok(None) } else { exactly(bytes).map(Some) }
}
