//! What commands print: to standard output, without a panic when nobody reads it.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

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
    // Between strings there is nothing but line feeds, in them there is none.
    line(escaped(&format!("{document:#}"), |c| c.is_control() && c != '\n'))
}

/// A JSON document in one line, without a line's end.
pub fn json_line(document: &serde_json::Value) -> String {
    escaped(&document.to_string(), char::is_control)
}

/// Text that came from elsewhere, with nothing in it that a terminal would obey.
pub fn printable(text: &str) -> String {
    escaped(text, char::is_control)
}

/// Escapes as JSON does; all control characters have four digits at most.
fn escaped(text: &str, which: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if which(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Bytes as WireGuard's tools print a key.
pub fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printed_commands_the_terminal() {
        assert_eq!(printable("a\u{1b}[2J\n\u{9b}é"), "a\\u001b[2J\\u000a\\u009bé");
    }

    #[test]
    fn escaped_json_says_the_same() {
        let value = serde_json::json!({"a": ["\u{7f}\u{9b}1m\u{1b}\n"]});
        let text = escaped(&format!("{value:#}"), |c| c.is_control() && c != '\n');
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
