//! What the checks look through: Rust source without comments and literals, and the tree's files.

use std::fs;
use std::path::Path;

/// A file of the tree, named by its path from the root.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every text file of the tree except build output, hidden folders and recorded corpora.
pub(crate) fn tree() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(root, root, &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the walk found the sources");
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let hidden = name.starts_with('.') && !matches!(name.as_str(), ".ci" | ".cargo");
        if hidden || matches!(name.as_str(), "target" | "corpus" | "artifacts") {
            continue;
        }
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path =
                path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            files.push(File { path, text });
        }
    }
}

/// `text` with comments, strings and character literals turned to blanks; line breaks stay.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = skip(bytes, at);
        if end == at {
            at += 1;
            continue;
        }
        out[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8(out).expect("whole literals and comments were blanked")
}

/// End of the comment or literal that begins at `at`; `at` itself where there is none.
fn skip(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let raw_allowed = at == 0 || !is_word(bytes[at - 1]) || matches!(bytes[at - 1], b'b' | b'c');
    match rest {
        [b'/', b'/', ..] => at + find(rest, b"\n").unwrap_or(rest.len()),
        [b'/', b'*', ..] => at + block_comment(rest),
        [b'r', b'"' | b'#', ..] if raw_allowed => at + raw_string(rest),
        [b'"', ..] => at + quoted(rest, b'"'),
        [b'\'', b'\\', ..] => at + quoted(rest, b'\''),
        [b'\'', ..] => at + char_literal(rest),
        _ => at,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Zero for a raw identifier.
fn raw_string(rest: &[u8]) -> usize {
    let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
    let open = 1 + hashes;
    if rest.get(open) != Some(&b'"') {
        return 0;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    find(&rest[open + 1..], &close).map_or(rest.len(), |end| open + 1 + end + close.len())
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    rest.len().min(at + 1)
}

/// Zero for a lifetime: a literal closes after one character.
fn char_literal(rest: &[u8]) -> usize {
    let text = std::str::from_utf8(&rest[1..rest.len().min(6)]);
    let valid = text.map_or_else(|error| error.valid_up_to(), str::len);
    let character = std::str::from_utf8(&rest[1..1 + valid]).ok().and_then(|s| s.chars().next());
    match character.map(char::len_utf8) {
        Some(len) if rest.get(1 + len) == Some(&b'\'') => len + 2,
        _ => 0,
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

pub(crate) const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Offsets at which `word` stands alone in `text`; one that ends in `::` or `!` is open behind.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at == 0 || !is_word(bytes[at - 1]);
        let open = word.as_bytes().last().is_none_or(|byte| !is_word(*byte));
        let after = open || bytes.get(at + word.len()).is_none_or(|byte| !is_word(*byte));
        before && after
    })
}

/// Line number, from 1, of offset `at`.
pub(crate) fn line(text: &str, at: usize) -> usize {
    text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1
}

#[test]
fn code_blanks_exactly_comments_and_literals() {
    for (source, wanted) in [
        ("a // unsafe\nb", "a          \nb"),
        ("a /* x /* y */ z */ b", "a                   b"),
        (r#"f("un\"safe") + g"#, "f(          ) + g"),
        ("r#\"a\"b\"# + r\"\\\" + r#type", "         +      + r#type"),
        ("br\"x\" c", "b     c"),
        ("'a' '\\'' '\"' &'a str 'é'", "             &'a str     "),
        ("for r in x {}", "for r in x {}"),
    ] {
        let got = code(source);
        assert_eq!(got, wanted, "{source}");
        assert_eq!(got.len(), source.len());
    }
}

#[test]
fn words_stand_alone() {
    assert_eq!(words("unsafe unsafe_code un unsafe", "unsafe").collect::<Vec<_>>(), [0, 22]);
    assert_eq!(line("a\nb\nc", 4), 3);
}
