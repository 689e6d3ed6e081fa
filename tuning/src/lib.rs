//! The attribute registry.
