//! Crash-safe log of peers and records: for now its record types only.
#![forbid(unsafe_code)]
