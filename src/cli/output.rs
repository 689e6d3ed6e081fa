//! What commands print: to standard output, without a panic when nobody reads it.

use std::fmt;
use std::io::{self, Write};

use super::{Exit, Failure};

/// Prints one line (or several).
///
/// # Errors
/// That of writing; a reader that has gone away (`| head`) is none.
pub fn line(text: impl fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Io, format_args!("standard output: {error}")))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Prints a JSON document, indented, for `--json`.
///
/// # Errors
/// That of writing.
pub fn json(document: &serde_json::Value) -> Result<(), Failure> {
    line(format_args!("{document:#}"))
}

/// A key as WireGuard's tools print it.
pub fn base64(key: &[u8; 32]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(key)
}
