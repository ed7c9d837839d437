//! A store as it is on disk, byte for byte, without what is another each time: times of now, ids of containers, paths.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use super::tree::{Tree, entry, hash};

/// What stands for what differs: container ids, and the directory of the point.
#[derive(Clone, Default)]
pub(crate) struct Names(Vec<(String, String)>);

impl Names {
    pub(crate) fn of(dir: &Path) -> Self {
        Self::default().and(dir)
    }

    /// And what is there now.
    pub(crate) fn and(self, dir: &Path) -> Self {
        let entries = fs::read_dir(dir.join("store/containers/names")).into_iter().flatten().flatten();
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Ok(id) = fs::read_to_string(entry.path()) {
                let id = id.trim().to_owned();
                // A container that was given no name is called as its id begins.
                let name = if name.len() >= 12 && id.starts_with(&name) { "unnamed".to_owned() } else { name };
                known.insert(id, format!("<{name}>"));
            }
        }
        let mut names = self.0;
        names.push((dir.display().to_string(), "@".to_owned()));
        for (id, name) in known {
            names.push((id.clone(), name.clone()));
            if let Some(short) = id.get(..12) {
                names.push((short.to_owned(), name));
            }
        }
        Self(names)
    }

    /// What was printed.
    pub(crate) fn printed(&self, bytes: &[u8]) -> String {
        let text = self.plain(&String::from_utf8_lossy(bytes));
        match serde_json::from_str::<Value>(&text) {
            Ok(mut value) => {
                timeless(&mut value);
                value.to_string()
            }
            Err(_) => text,
        }
    }

    fn plain(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, name)| text.replace(word, name))
    }
}

/// Keys of records whose values are of this run.
const OF_NOW: [&str; 11] = [
    "created",
    "imported",
    "started",
    "pid",
    "live",
    "Created",
    "Imported",
    "CreatedAt",
    "Started",
    "StartedAt",
    "LastTagTime",
];

fn timeless(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| {
            if OF_NOW.contains(&key.as_str()) { *value = Value::Null } else { timeless(value) }
        }),
        Value::Array(values) => values.iter_mut().for_each(timeless),
        _ => {}
    }
}

/// A hash of content; of records, without what is of this run.
fn content_hash(path: &Path, bytes: &[u8], names: &Names) -> u64 {
    let is_record = path.extension().is_some_and(|extension| extension == "json");
    if !is_record && bytes.len() > 4096 {
        return hash(bytes);
    }
    let text = names.plain(&String::from_utf8_lossy(bytes));
    match serde_json::from_str::<Value>(&text) {
        Ok(mut value) if is_record => {
            timeless(&mut value);
            hash(value.to_string().as_bytes())
        }
        _ => hash(text.as_bytes()),
    }
}

/// All of the store and of `out/`. What was changed after `start` has no time.
pub(crate) fn read(dir: &Path, start: SystemTime) -> Tree {
    let names = Names::of(dir);
    let mut tree = Tree::default();
    let mut rest = vec![dir.join("store"), dir.join("out"), dir.join("u")];
    while let Some(path) = rest.pop() {
        let Ok(meta) = path.symlink_metadata() else { continue };
        let below = path.strip_prefix(dir).expect("below the point's directory");
        let text = names.plain(&below.display().to_string());
        // Made once and for all, or of one run, or private to the union until it opens the directory again. What is in
        // tmp/ and run/ is judged by itself.
        if text.ends_with("/.wh..wh.work") || text.ends_with("/.wh..wh.plnk") || text.starts_with("store/run/") {
            continue;
        }
        if text == "store/lock" || text.starts_with("store/tmp/") || text.ends_with("/log") {
            continue;
        }
        let mut found = entry(&path, &meta, |bytes| content_hash(&path, &bytes, &names))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if path.extension().is_some_and(|extension| extension == "json") && text.starts_with("store/") {
            // Numbers of processes have one digit or more.
            found.content = found.content.map(|(_, hash)| (0, hash));
        }
        let is_content = below.components().count() > 2
            && (below.starts_with("store/diff") || below.starts_with("out") || below.starts_with("u"));
        found.mtime = meta.modified().ok().filter(|mtime| is_content && *mtime < start);
        if meta.is_dir() {
            let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            rest.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        tree.0.insert(text.into(), found);
    }
    tree
}
