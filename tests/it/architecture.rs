//! The table of modules in `src/lib.rs` is true: what each may use, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Words that all share.
const SHARED: [&str; 7] = ["whiteout", "mark", "id", "error", "progress", "json", "sys"];

/// What each module may use beside the shared words.
const TABLE: [(&str, &[&str]); 17] = [
    ("cli", &["ops", "container", "archive", "store", "fuse", "union", "tarball", "stack", "index"]),
    ("ops", &["container", "archive", "store", "fuse", "union", "tarball", "stack", "index"]),
    ("container", &[]),
    ("archive", &["tarball"]),
    ("store", &["stack", "index"]),
    ("fuse", &["union", "index"]),
    ("union", &["stack", "index"]),
    ("tarball", &["index"]),
    ("stack", &["index"]),
    ("index", &[]),
    ("whiteout", &[]),
    ("mark", &[]),
    ("id", &[]),
    ("error", &[]),
    ("progress", &[]),
    ("json", &[]),
    ("sys", &[]),
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("read a directory") {
        let path = entry.expect("read an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The modules that `text` names: `crate::x`, and each of `crate::{x, y}`.
fn named(text: &str) -> BTreeSet<String> {
    let mut modules = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let words = match rest.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap_or_default().split(',').collect(),
            None => vec![rest],
        };
        for word in words {
            let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
            let word: String = word.trim().chars().take_while(|c| is_part(*c)).collect();
            modules.insert(word);
        }
    }
    modules
}

/// Only code counts: documentation may point anywhere.
fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn modules_use_only_what_the_table_gives_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let table: BTreeMap<_, _> = TABLE.into_iter().collect();
    let mut found = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in sources(&src) {
        let inner = file.strip_prefix(&src).expect("a file of src");
        let first = inner.iter().next().and_then(|name| name.to_str()).expect("a name");
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        found.insert(module.to_owned());
        let Some(allowed) = table.get(module) else {
            wrong.push(format!("{module} is not in the table"));
            continue;
        };
        let text = code(&std::fs::read_to_string(&file).expect("read a source"));
        for used in named(&text) {
            let is_module = table.contains_key(used.as_str());
            if is_module && used != module && !SHARED.contains(&used.as_str()) && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", inner.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(found, table.keys().map(|name| (*name).to_owned()).collect(), "modules of src, and of the table");
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allows = |file: &PathBuf| {
        let text = code(&std::fs::read_to_string(file).expect("read a source"));
        text.contains("allow(unsafe_code)") && !file.starts_with(src.join("sys"))
    };
    assert_eq!(sources(&src).into_iter().filter(allows).collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

#[test]
fn one_file_spells_the_whiteout_prefix() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut spelling = Vec::new();
    for file in sources(&src) {
        let text = std::fs::read_to_string(&file).expect("read a source");
        let file = file.strip_prefix(&src).expect("a file of src").to_owned();
        // Tests write tars as others do.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let is_test = file.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
        if code(text).contains("\".wh.") && !is_test {
            spelling.push(file);
        }
    }
    assert_eq!(spelling, [PathBuf::from("whiteout.rs")]);
}
