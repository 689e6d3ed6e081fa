//! The wire protocol's bytes: values in, values out, no state.
//!
//! A decrypted plaintext goes through [`open`] (the shim), [`split`] (the
//! header) and [`check()`] (may it be served); then the handler reads the body
//! with the borrowed reader of its type in [`body`]. An answer is written by
//! [`encode`] straight into the buffer that is sent.
//!
//! Nothing here allocates, whatever the bytes. The readers and writers of
//! [`body`] agree with the generated types of [`proto`] on every input, but for
//! groups, which the protocol refuses, and the protocol's maxima; tests hold
//! them to it. [`proto`] itself serves cold paths and tests.

pub mod body;
pub mod channel;
pub mod check;
pub mod code;
pub mod frame;
pub mod header;
pub mod kind;
pub mod multiaddr;
pub mod probe;
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    reason = "generated from proto/molia.proto"
)]
pub mod proto;
mod shim;
pub mod stun;

pub use check::{Refusal, Rules, Verdict, check};
pub use code::{Code, StoreCode};
pub use frame::encode;
pub use header::{Flags, Header, VERSION};
pub use kind::{Class, Kind, KindSet, Needs, Role};
pub use multiaddr::Multiaddr;
pub use shim::open;

use crate::limits::HEADER_BYTES;

/// Version, header and body of a frame that [`open`] returned.
///
/// # Panics
/// If `frame` is shorter than a header, which [`open`] never returns.
#[inline]
pub fn split(frame: &[u8]) -> (u8, Header, &[u8]) {
    let Some((bytes, body)) = frame.split_first_chunk::<HEADER_BYTES>() else {
        panic!("a frame has a header: the shim's length was checked");
    };
    let (version, header) = Header::of_bytes(bytes);
    (version, header, body)
}
