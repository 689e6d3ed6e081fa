//! The wire protocol's bytes.
pub mod kind;
