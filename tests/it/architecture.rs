//! The table of modules in `src/lib.rs` is true: what each may use, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A row of the table in `src/lib.rs`.
struct Row {
    modules: Vec<String>,
    uses: Uses,
}

enum Uses {
    AllBelow,
    Named(Vec<String>),
    /// The words that all share.
    Shared,
}

/// The words in backquotes.
fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn table() -> Vec<Row> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("read lib.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [")).map(|row| {
        let columns: Vec<&str> = row.split(" |").collect();
        let [modules, _, uses, ""] = columns[..] else { panic!("not a row of three columns: {row}") };
        let uses = match uses.trim() {
            "all below" => Uses::AllBelow,
            "each other" => Uses::Shared,
            named => Uses::Named(quoted(named)),
        };
        Row { modules: quoted(modules), uses }
    });
    rows.collect()
}

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
    let table = table();
    let shared: Vec<&String> =
        table.iter().filter(|row| matches!(row.uses, Uses::Shared)).flat_map(|row| &row.modules).collect();
    assert!(!shared.is_empty(), "no row of shared words");
    let mut allowed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (at, row) in table.iter().enumerate() {
        let below: BTreeSet<&str> = table[at + 1..].iter().flat_map(|row| &row.modules).map(String::as_str).collect();
        let uses = match &row.uses {
            Uses::AllBelow => below,
            Uses::Named(named) => {
                let upwards = named.iter().filter(|name| !below.contains(name.as_str()));
                wrong.extend(
                    upwards.map(|name| format!("the row of {:?} names {name}, which is not below it", row.modules)),
                );
                named.iter().map(String::as_str).collect()
            }
            Uses::Shared => BTreeSet::new(),
        };
        for module in &row.modules {
            assert!(allowed.insert(module, uses.clone()).is_none(), "{module} has two rows");
        }
    }
    let mut found = BTreeSet::new();
    let mut used_by: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources(&src) {
        let inner = file.strip_prefix(&src).expect("a file of src");
        let first = inner.iter().next().and_then(|name| name.to_str()).expect("a name");
        let module = first.trim_end_matches(".rs");
        if matches!(module, "lib" | "main") {
            continue;
        }
        found.insert(module.to_owned());
        let Some(may_use) = allowed.get(module) else {
            wrong.push(format!("{module} is not in the table"));
            continue;
        };
        let text = code(&std::fs::read_to_string(&file).expect("read a source"));
        for used in named(&text) {
            if !allowed.contains_key(used.as_str()) || used == module || shared.contains(&&used) {
                continue;
            }
            if !may_use.contains(used.as_str()) {
                wrong.push(format!("{} uses {used}", inner.display()));
            }
            used_by.entry(module.to_owned()).or_default().insert(used);
        }
    }
    // A permission that no source needs any more is a lie about the layout.
    for row in &table {
        if let Uses::Named(named) = &row.uses {
            let needed: BTreeSet<&String> =
                row.modules.iter().filter_map(|module| used_by.get(module)).flatten().collect();
            let idle = named.iter().filter(|name| !needed.contains(name));
            wrong.extend(idle.map(|name| format!("the row of {:?} names {name}, which it does not use", row.modules)));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(found, allowed.keys().map(|name| (*name).to_owned()).collect(), "modules of src, and of the table");
}

/// The most lines that a source file has, and a file of a command.
const MOST_LINES: usize = 400;
const MOST_LINES_OF_A_COMMAND: usize = 100;

/// Files that are larger all the same. One that is not any more has to leave this list.
const LARGE: [&str; 6] = [
    "fuse/filesystem.rs",
    "index/scan.rs",
    "tarball/compare.rs",
    "union/copy_up.rs",
    "union/lowers.rs",
    "union/upper.rs",
];

#[test]
fn source_files_are_small() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut large = BTreeSet::new();
    for file in sources(&src) {
        let lines = std::fs::read_to_string(&file).expect("read a source").lines().count();
        let most = if file.starts_with(src.join("commands")) { MOST_LINES_OF_A_COMMAND } else { MOST_LINES };
        if lines > most {
            large.insert(file.strip_prefix(&src).expect("a file of src").display().to_string());
        }
    }
    assert_eq!(large, LARGE.map(str::to_owned).into());
}

/// The files of one module that a file of it names, by their module paths. Its parent is not among them: a file and the `mod.rs`
/// above it are one thing.
fn siblings_named(text: &str, own: &[String], all: &BTreeSet<Vec<String>>) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let mut add = |base: Vec<String>, path: &str| {
        let mut full = base;
        full.extend(path.split("::").map(str::to_owned));
        // The longest part that is a file.
        while full.len() > 1 {
            if all.contains(&full) {
                if full != own && !own.starts_with(&full) {
                    found.insert(full);
                }
                return;
            }
            full.pop();
        }
    };
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (start, base) in [("crate::", Vec::new()), ("super::", own[..own.len() - 1].to_vec())] {
        for (at, _) in flat.match_indices(start) {
            let before = flat[..at].chars().next_back();
            if before.is_some_and(|c| c == ':' || c.is_alphanumeric() || c == '_') {
                continue;
            }
            let mut base = base.clone();
            let mut rest = &flat[at + start.len()..];
            while let Some(further) = rest.strip_prefix("super::") {
                base.pop();
                rest = further;
            }
            let path: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || matches!(c, '_' | ':')).collect();
            let group = rest[path.len()..].strip_prefix('{').map(|group| group.split('}').next().unwrap_or_default());
            match group {
                Some(group) => {
                    for word in group.split(',') {
                        add(base.clone(), &format!("{path}{}", word.trim()));
                    }
                }
                None => add(base, path.trim_end_matches(':')),
            }
        }
    }
    found
}

/// Files that use each other in a circle all the same. One that does not any more has to leave this list.
const IN_A_CIRCLE: &[&str] = &[
    "fuse::filesystem",
    "fuse::replies",
    "index::overlay_upper",
    "index::scan",
    "mount::kernel::command",
    "mount::kernel::end",
    "mount::kernel::image_mount",
    "mount::kernel::image_server",
    "mount::kernel::overlay",
    "tarball::place",
    "tarball::tree",
    "union::attr",
    "union::change_time",
    "union::copy_data",
    "union::copy_up",
    "union::descriptors",
    "union::durable",
    "union::handles",
    "union::lookup",
    "union::lowers",
    "union::marks",
    "union::recovery",
    "union::references",
    "union::rename",
    "union::time_limits",
    "union::times_mark",
    "union::tree",
    "union::upper",
    "union::xattr",
];

#[test]
fn no_files_of_a_module_use_each_other_in_a_circle() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let module = |file: &Path| -> Vec<String> {
        let inner = file.strip_prefix(&src).expect("a file of src").with_extension("");
        let parts = inner.iter().map(|part| part.to_str().expect("a name").to_owned());
        parts.filter(|part| part != "mod").collect()
    };
    let files = sources(&src);
    let all: BTreeSet<Vec<String>> = files.iter().map(|file| module(file)).collect();
    let mut uses: BTreeMap<Vec<String>, BTreeSet<Vec<String>>> = BTreeMap::new();
    for file in &files {
        let text = code(&std::fs::read_to_string(file).expect("read a source"));
        // Tests may look at all.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        let own = module(file);
        let named = siblings_named(text, &own, &all);
        let inside = named.into_iter().filter(|other| other[0] == own[0] && !other.starts_with(&own));
        uses.insert(own.clone(), inside.collect());
    }
    let mut circles: BTreeSet<String> = BTreeSet::new();
    for file in uses.keys() {
        let mut seen = BTreeSet::new();
        let mut left: Vec<&Vec<String>> = uses[file].iter().collect();
        while let Some(next) = left.pop() {
            if seen.insert(next) {
                left.extend(uses.get(next).into_iter().flatten());
            }
        }
        if seen.contains(file) {
            circles.insert(file.join("::"));
        }
    }
    let known: BTreeSet<String> = IN_A_CIRCLE.iter().map(|file| (*file).to_owned()).collect();
    assert_eq!(circles, known);
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

/// The most comment lines of `src` that may have one of [`VAGUE`].
const MOST_VAGUE: usize = 10;

/// Words in the place of an actor: the caller, the server, another process, the kernel.
const VAGUE: [&str; 6] = ["who", "whoever", "whom", "nobody", "somebody", "anybody"];

#[test]
fn comments_name_their_actors() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut vague = Vec::new();
    for file in sources(&src) {
        let inner = file.strip_prefix(&src).expect("a file of src");
        let text = std::fs::read_to_string(&file).expect("read a source");
        for (at, line) in text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//")) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_lowercase);
            if words.any(|word| VAGUE.contains(&word.as_str())) {
                vague.push(format!("{}:{}: {}", inner.display(), at + 1, line.trim()));
            }
        }
    }
    assert!(vague.len() <= MOST_VAGUE, "{} comment lines do not name their actor:\n{}", vague.len(), vague.join("\n"));
}
