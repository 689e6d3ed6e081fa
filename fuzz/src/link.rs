//! Links, which people paste from anywhere.

use molia_router::client::Link;

/// What parses prints as a link that parses to the same.
pub fn link(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(link) = text.parse::<Link>() else { return };
    assert_eq!(link.to_string().parse(), Ok(link));
}
