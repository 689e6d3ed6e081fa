//! The attribute registry.
#![forbid(unsafe_code)]
