//! The name that was probably meant.

use crate::registry::ATTRIBUTES;

/// The attribute whose path is nearest to `name`, if one is near enough.
///
/// `rx_batch` finds `io/rx_batch`, `io/rx-bach` too.
pub(crate) fn path(name: &str) -> Option<&'static str> {
    let name = name.trim_matches('/').to_lowercase().replace(['-', ' '], "_").replace('.', "/");
    let tail_of = |path: &'static str| path.rsplit_once('/').map_or(path, |(_, tail)| tail);
    let distance_to = |path: &'static str| {
        let whole = distance(&name, path);
        // A bare last part counts as one step away from its path.
        if name.contains('/') { whole } else { whole.min(distance(&name, tail_of(path)) + 1) }
    };
    ATTRIBUTES
        .iter()
        .map(|attribute| (distance_to(attribute.path), attribute.path))
        .min()
        .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
        .map(|(_, path)| path)
}

/// Single-character edits between two names (Levenshtein). Long names are far from everything.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    if a.len() > LONGEST {
        return usize::MAX / 2;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(path("io/rx_bach"), Some("io/rx_batch"));
        assert_eq!(path("io/rx-batch"), Some("io/rx_batch"));
        assert_eq!(path("io.engine"), Some("io/engine"));
        assert_eq!(path("rx_batch"), Some("io/rx_batch"));
        assert_eq!(path("engine"), Some("io/engine"));
        assert_eq!(path("/udp/listn"), Some("udp/listen"));
        assert_eq!(path("qos/hint/depth"), Some("qos/hints/depth"));
        assert_eq!(path("favourite/colour"), None);
        assert_eq!(path(&"x".repeat(1 << 20)), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
