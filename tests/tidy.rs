//! House rules that neither the compiler nor clippy know.
//!
//! Every check is a function of text that returns what is wrong with it, tested
//! on text that is wrong; the last test runs them all over the tree.

#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/source.rs"]
mod source;

use source::{File, code, line, tree, words};

/// Lines of a source file.
const FILE_LINES: usize = 500;
/// Lines of a script.
const SCRIPT_LINES: usize = 50;
/// Lines of the program's entry.
const MAIN_LINES: usize = 120;
/// Sources that a program writes.
const GENERATED: [&str; 1] = ["src/wire/proto.rs"];
/// Crates that may hold unsafe code, with the blocks each may have.
const UNSAFE_BLOCKS: [(&str, usize); 2] = [("bufpool/", 12), ("uring/", 60)];
/// Crate roots that forbid it altogether.
const FORBID_UNSAFE: [&str; 4] =
    ["src/lib.rs", "src/main.rs", "tuning/src/lib.rs", "peerstore/src/lib.rs"];

/// Offsets of unsafe blocks and implementations.
fn unsafe_blocks(code: &str) -> Vec<usize> {
    let opens = |at: &usize| {
        let rest = code[at + "unsafe".len()..].trim_start();
        rest.starts_with('{') || rest.starts_with("impl")
    };
    words(code, "unsafe").filter(opens).collect()
}

/// Unsafe where it has no business, or without the invariant that it rests on.
fn check_unsafe(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    if !UNSAFE_BLOCKS.iter().any(|(folder, _)| path.starts_with(folder)) {
        let places = words(&code, "unsafe").map(|at| line(&code, at));
        return places.map(|line| format!("{path}:{line}: unsafe outside its crates")).collect();
    }
    let lines: Vec<&str> = text.lines().collect();
    let mut wrong = Vec::new();
    for at in unsafe_blocks(&code) {
        let line = line(&code, at);
        let above = &lines[line.saturating_sub(8)..line];
        if !above.iter().any(|line| line.contains("SAFETY: ")) {
            wrong.push(format!("{path}:{line}: unsafe without its SAFETY comment"));
        }
    }
    wrong
}

/// More unsafe blocks in a crate than its budget.
fn check_unsafe_budget(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (folder, budget) in UNSAFE_BLOCKS {
        let files = files.iter().filter(|file| is_rust(file) && file.path.starts_with(folder));
        let count: usize = files.map(|file| unsafe_blocks(&code(&file.text)).len()).sum();
        if count > budget {
            wrong.push(format!("{folder}: {count} unsafe blocks, the budget is {budget}"));
        }
    }
    wrong
}

/// A crate root that does not forbid unsafe code.
fn check_forbids(path: &str, text: &str) -> Vec<String> {
    let needed = FORBID_UNSAFE.contains(&path) && !code(text).contains("#![forbid(unsafe_code)]");
    if needed { vec![format!("{path}: must forbid unsafe code")] } else { Vec::new() }
}

/// Marks of unfinished work.
fn check_markers(path: &str, text: &str) -> Vec<String> {
    // In two halves, so that this file passes.
    let marks = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["XX", "X"],
        ["HA", "CK"],
        ["todo", "!"],
        ["unimplemented", "!"],
        ["dbg", "!"],
        ["<<<<", "<<<"],
        [">>>>", ">>>"],
    ];
    let mut wrong = Vec::new();
    for mark in marks.map(|halves| halves.concat()) {
        let places = words(text, &mark).map(|at| line(text, at));
        wrong.extend(places.map(|line| format!("{path}:{line}: leftover {mark}")));
    }
    wrong
}

/// Paths of one machine.
fn check_machine_paths(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for folder in ["home", "root", "work"] {
        let needle = format!("/{folder}/");
        for (at, _) in text.match_indices(&needle) {
            let inside = text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~}".contains(c));
            if !inside {
                wrong.push(format!("{path}:{}: a machine's path {needle}", line(text, at)));
            }
        }
    }
    wrong
}

/// Packages that come from anywhere but the public index.
fn check_lock(path: &str, text: &str) -> Vec<String> {
    let public = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let strange = |line: &&str| line.starts_with("source = ") && *line != public;
    text.lines().filter(strange).map(|line| format!("{path}: {line}")).collect()
}

/// Cargo configuration that redirects downloads.
fn check_cargo_config(path: &str, text: &str) -> Vec<String> {
    let redirects = |line: &&str| {
        let line = line.trim_start();
        ["[source", "[registries", "[registry", "replace-with"].iter().any(|s| line.starts_with(s))
    };
    text.lines().filter(redirects).map(|line| format!("{path}: {line}")).collect()
}

/// A dependency of a member that names its version or place itself.
fn check_manifest(path: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut section = "";
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with('[') {
            section = line;
            continue;
        }
        let dependency = section.contains("dependencies") && section != "[workspace.dependencies]";
        let blank = line.trim().is_empty() || line.starts_with('#');
        let inherited = line.contains(".workspace = true") || line.contains("{ workspace = true");
        let own = ["version =", "path =", "git ="].iter().any(|key| line.contains(key));
        if dependency && !blank && (!inherited || own) {
            wrong.push(format!("{path}:{number}: not inherited: {line}"));
        }
    }
    wrong
}

/// Ignored tests without a reason.
fn check_ignored(path: &str, text: &str) -> Vec<String> {
    let code = code(text);
    let places = code.match_indices("ignore]").filter(|(at, _)| {
        code[..*at].trim_end().ends_with("#[") || code[..*at].trim_end().ends_with(',')
    });
    places.map(|(at, _)| format!("{path}:{}: ignored without a reason", line(&code, at))).collect()
}

/// A library that prints.
fn check_prints(path: &str, text: &str) -> Vec<String> {
    let library = path.contains("src/") && !path.starts_with("fuzz/");
    let speaks = path.starts_with("src/cli/") || path == "src/main.rs";
    if !library || speaks {
        return Vec::new();
    }
    let code = code(text);
    let mut wrong = Vec::new();
    for name in ["print", "println", "eprint", "eprintln"] {
        let calls = words(&code, name).filter(|at| code[at + name.len()..].starts_with('!'));
        wrong.extend(calls.map(|at| format!("{path}:{}: prints", line(&code, at))));
    }
    wrong
}

/// Files that grew beyond what one reads at a sitting.
fn check_length(path: &str, text: &str) -> Vec<String> {
    let most = if path == "src/main.rs" { MAIN_LINES } else { FILE_LINES };
    let lines = text.lines().count();
    let long = lines > most && !GENERATED.contains(&path);
    if long { vec![format!("{path}: {lines} lines, at most {most}")] } else { Vec::new() }
}

/// Scripts that are long, or go on after a failed command.
fn check_script(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    let mut wrong = Vec::new();
    if path.starts_with("scripts/") && lines > SCRIPT_LINES {
        wrong.push(format!("{path}: {lines} lines, at most {SCRIPT_LINES}"));
    }
    let strict = [("#!/usr/bin/env bash\n", "set -euo pipefail"), ("#!/bin/sh\n", "set -eu")];
    match strict.iter().find(|(shell, _)| text.starts_with(shell)) {
        None => {
            wrong.push(format!("{path}: begins with neither #!/usr/bin/env bash nor #!/bin/sh"))
        }
        Some((_, set)) if !text.lines().any(|line| line == *set) => {
            wrong.push(format!("{path}: without {set}"));
        }
        Some(_) => {}
    }
    wrong
}

fn is_rust(file: &File) -> bool {
    file.path.ends_with(".rs")
}

fn is_script(file: &File) -> bool {
    let name = ["scripts/", ".ci/"].iter().find_map(|folder| file.path.strip_prefix(folder));
    name.is_some_and(|name| !name.contains('/') && (!name.contains('.') || name.ends_with(".sh")))
}

fn check(file: &File) -> Vec<String> {
    type Check = fn(&str, &str) -> Vec<String>;
    let mut checks: Vec<Check> = vec![check_markers];
    if is_rust(file) {
        checks.extend([check_unsafe, check_forbids, check_ignored, check_prints, check_length]);
        checks.push(layers::check);
    }
    if is_script(file) {
        checks.push(check_script);
    }
    let own_workspace = ["benches/rivals/", "fuzz/", "scripts/", "tests/clock/", "tests/loom/"]
        .iter()
        .any(|folder| file.path.starts_with(folder));
    if file.path.ends_with("Cargo.toml") && !own_workspace {
        checks.push(check_manifest);
    }
    if file.path.ends_with("Cargo.lock") {
        checks.push(check_lock);
    }
    match file.path.as_str() {
        ".cargo/config.toml" => checks.push(check_cargo_config),
        "src/lib.rs" => checks.push(|_, text| layers::check_list(text)),
        _ => {}
    }
    if file.path != "tests/tidy.rs" {
        checks.push(check_machine_paths);
    }
    checks.iter().flat_map(|check| check(&file.path, &file.text)).collect()
}

#[test]
fn the_tree_is_tidy() {
    let files = tree();
    let mut wrong: Vec<String> = files.iter().flat_map(check).collect();
    wrong.extend(check_unsafe_budget(&files));
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_confined_and_explained() {
    let block = "fn f() {\n    unsafe { g() };\n}\n";
    let explained = "fn f() {\n    // SAFETY: g asks for nothing.\n    unsafe { g() };\n}\n";
    assert_eq!(check_unsafe("src/net.rs", explained).len(), 1);
    assert_eq!(check_unsafe("tests/sim/main.rs", "unsafe fn f() {}").len(), 1);
    assert_eq!(check_unsafe("uring/src/lib.rs", block).len(), 1);
    assert_eq!(check_unsafe("uring/src/lib.rs", "unsafe impl Send for X {}").len(), 1);
    assert!(check_unsafe("uring/src/lib.rs", explained).is_empty());
    assert!(check_unsafe("src/lib.rs", "#![forbid(unsafe_code)] // unsafe\n").is_empty());
    assert_eq!(check_forbids("src/lib.rs", "//! #![forbid(unsafe_code)]\n").len(), 1);
    assert!(check_forbids("src/lib.rs", "#![forbid(unsafe_code)]\n").is_empty());
    let file = |blocks: usize| File { path: "bufpool/src/a.rs".into(), text: block.repeat(blocks) };
    assert!(check_unsafe_budget(&[file(6), file(6)]).is_empty());
    assert_eq!(check_unsafe_budget(&[file(6), file(7)]).len(), 1);
}

#[test]
fn leftovers_are_found() {
    for mark in [["TO", "DO: later"], ["// FIX", "ME"], ["todo", "!()"], ["<<<<", "<<< HEAD"]] {
        assert_eq!(check_markers("a.rs", &mark.concat()).len(), 1, "{mark:?}");
    }
    assert!(check_markers("a", &["mktemp a.XX", "XXXX"].concat()).is_empty());
    for text in ["see /root/x", "\"/home/me\"", "cd /work/it"] {
        assert_eq!(check_machine_paths("a.md", text).len(), 1, "{text}");
    }
    assert!(check_machine_paths("a.md", "https://a.example/home/x ./root/y").is_empty());
}

#[test]
fn dependencies_come_from_one_place() {
    let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
    assert!(check_lock("Cargo.lock", lock).is_empty());
    assert_eq!(check_lock("Cargo.lock", "source = \"git+https://a.example/b\"\n").len(), 1);
    assert_eq!(check_cargo_config("c", "[source.crates-io]\nreplace-with = \"x\"\n").len(), 2);
    assert!(check_cargo_config("c", "[alias]\n").is_empty());
    let good = "[dependencies]\na.workspace = true\nb = { workspace = true, features = [] }\n";
    assert!(check_manifest("a", good).is_empty());
    assert!(check_manifest("a", "[workspace.dependencies]\na = \"1\"\n").is_empty());
    assert_eq!(check_manifest("a", "[dependencies]\na = \"1\"\n").len(), 1);
    assert_eq!(check_manifest("a", "[dev-dependencies]\na = { path = \"b\" }\n").len(), 1);
}

#[test]
fn tests_and_libraries_behave() {
    assert_eq!(check_ignored("a", "#[ignore]\nfn f() {}").len(), 1);
    assert_eq!(check_ignored("a", "#[cfg_attr(miri, ignore]").len(), 1);
    assert!(check_ignored("a", "#[ignore = \"takes 10 minutes\"]\nfn f() {}").is_empty());
    assert_eq!(check_prints("src/net.rs", "println!(\"x\"); eprint!()").len(), 2);
    assert!(check_prints("src/cli/run.rs", "println!()").is_empty());
    assert!(check_prints("src/net.rs", "// println!()\nfn print() {}").is_empty());
    assert_eq!(check_length("src/a.rs", &"\n".repeat(501)).len(), 1);
    assert_eq!(check_length("src/main.rs", &"\n".repeat(121)).len(), 1);
    assert!(check_length("src/a.rs", &"\n".repeat(500)).is_empty());
    assert!(check_length(GENERATED[0], &"\n".repeat(501)).is_empty());
    let head = "#!/usr/bin/env bash\nset -euo pipefail\n";
    assert!(check_script("scripts/a", head).is_empty());
    assert_eq!(check_script("scripts/a", &(head.to_owned() + &"\n".repeat(49))).len(), 1);
    assert_eq!(check_script("scripts/a", "#!/bin/sh\necho\n").len(), 1);
    assert_eq!(check_script("scripts/a", "#!/bin/zsh\nset -eu\n").len(), 1);
    assert!(is_script(&File { path: "scripts/soak".into(), text: String::new() }));
    assert!(!is_script(&File { path: "scripts/results/soak.txt".into(), text: String::new() }));
}
