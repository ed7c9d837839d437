//! One case of the model test: layers, a union of them, its plain twin, and what must hold of the two.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use layerctl::index::{Kind, scan};
use layerctl::stack::{Lower, Stack};
use layerctl::tarball::{Limits, unpack};
use layerctl::union::Union;
use rustix::fs::{Mode, OFlags};

use super::layer_tree::{LayerTree, flatten};
use super::plain_driver::PlainTree;
use super::tree_op::{Op, Outcome, Path, Tree as _, show};
use super::tree_snapshot::{Inode, Snapshot};
use super::union_driver::UnionTree;

/// How many rw layers were taken as a layer, and how many could not be, since they hold marks.
pub(crate) static PROVEN: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// How many operations were done, and how many were refused.
pub(crate) static DONE: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// Where the indexes of the lower layers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexFrom {
    /// The directory is scanned.
    Scan,
    /// Entry by entry, as from a tar.
    Builder,
}

/// Layers on disk with a union of them and, where it is wanted, their flattened twin.
#[derive(Debug)]
pub(crate) struct Fixture {
    dir: tempfile::TempDir,
    stack: Stack,
}

/// Where the tests work: memory, unless the environment names a directory on a disk.
pub(crate) fn work_dir() -> tempfile::TempDir {
    let named = std::env::var_os("LAYERCTL_MODEL_DIR").map(PathBuf::from);
    // In a container there may be little of it.
    let has_room = |dir: &PathBuf| rustix::fs::statvfs(dir).is_ok_and(|room| room.f_bavail * room.f_frsize >= 1 << 30);
    let memory = Some(PathBuf::from("/dev/shm")).filter(|dir| dir.is_dir() && has_room(dir));
    match named.or(memory) {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .expect("a temporary directory")
}

impl Fixture {
    /// Writes layers, lowest first. The upper directory starts with the root's attributes.
    pub(crate) fn new(layers: &[LayerTree], from: IndexFrom) -> Self {
        let dir = work_dir();
        let mut lowers = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let path = dir.path().join(format!("lower{number}"));
            std::fs::create_dir(&path).expect("a directory");
            layer.write(&path);
            let index = match from {
                IndexFrom::Scan => scan(&path).expect("the layer can be scanned"),
                IndexFrom::Builder => layer.index(),
            };
            lowers.insert(0, Lower { dir: path, index: Arc::new(index) });
        }
        let flat = flatten(layers);
        let upper = dir.path().join("upper");
        let mut root = LayerTree::default();
        root.put(Path::new(), flat.item(&[]).expect("a root").clone());
        for (name, tree) in [("upper", &root), ("plain", &flat)] {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).expect("a directory");
            tree.write(&path);
        }
        Self { dir, stack: Stack { upper: Some(upper), lowers, lowers_are_immutable: true, mount_points: None } }
    }

    /// The stack of a fixture with these layers that another process has made in `dir`.
    pub(crate) fn stack_in(dir: &FsPath, layers: &[LayerTree]) -> Stack {
        let lower = |(number, layer): (usize, &LayerTree)| Lower {
            dir: dir.join(format!("lower{number}")),
            index: Arc::new(layer.index()),
        };
        let lowers = layers.iter().enumerate().map(lower).rev().collect();
        Stack { upper: Some(dir.join("upper")), lowers, lowers_are_immutable: true, mount_points: None }
    }

    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.dir.path().join("upper")
    }

    pub(crate) fn plain(&self) -> PathBuf {
        self.dir.path().join("plain")
    }

    pub(crate) fn dir(&self) -> &FsPath {
        self.dir.path()
    }

    pub(crate) fn open(&self) -> UnionTree {
        self.open_keeping(false)
    }

    pub(crate) fn open_keeping(&self, keep: bool) -> UnionTree {
        UnionTree::new(Arc::new(Union::open(self.stack.clone()).expect("the union opens")), keep)
    }

    pub(crate) fn open_plain(&self) -> PlainTree {
        PlainTree::open(&self.plain())
    }

    /// All that the layers' directories hold, and when each file there was last changed.
    pub(crate) fn lowers(&self) -> Vec<Snapshot> {
        self.stack.lowers.iter().map(|lower| Snapshot::of_plain(&lower.dir)).collect()
    }
}

/// Numbers that were once given: a plain file's, and the union's for the same file.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    union_of_plain: BTreeMap<Inode, Inode>,
}

impl Numbers {
    /// A file keeps its number as long as it lives: through copy-up, rename, link, and opening again.
    pub(crate) fn check(&mut self, union: &Snapshot, plain: &Snapshot) -> Result<(), String> {
        for (path, twin) in &plain.inodes {
            let Some(number) = union.inodes.get(path) else { continue };
            let known = self.union_of_plain.entry(*twin).or_insert(*number);
            if known != number {
                return Err(format!("{}: its number was {}, and is {}", show(path), known.0, number.0));
            }
        }
        Ok(())
    }
}

/// Says nothing when the trees are equal.
pub(crate) fn equal(got: &Snapshot, want: &Snapshot, when: &str) -> Result<(), String> {
    let lines = got.differences(want);
    if lines.is_empty() { Ok(()) } else { Err(format!("{when}:\n  {}", lines.join("\n  "))) }
}

/// How a case's union is opened and used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) from: IndexFrom,
    /// References are kept until the union is closed.
    pub(crate) keep: bool,
    /// The lowers may stand for data (`Stack::lowers_are_immutable`).
    pub(crate) immutable: bool,
}

/// Runs operations on a union and on its plain twin, and checks all that must hold.
pub(crate) fn run(
    layers: &[LayerTree],
    Setting { from, keep, immutable }: Setting,
    mut next: impl FnMut(usize, &PlainTree) -> Option<Op<Path>>,
) -> Result<(), String> {
    let mut fixture = Fixture::new(layers, from);
    fixture.stack.lowers_are_immutable = immutable;
    let lowers = fixture.lowers();
    let mut plain = fixture.open_plain();
    let mut union = fixture.open_keeping(keep);
    let mut numbers = Numbers::default();
    let compare = |union: &UnionTree, numbers: &mut Numbers, when: &str| {
        let got = Snapshot::of_union(union).map_err(|wrong| format!("{when}: {wrong}"))?;
        let want = Snapshot::of_plain(&fixture.plain());
        equal(&got, &want, when)?;
        numbers.check(&got, &want).map_err(|wrong| format!("{when}: {wrong}"))
    };
    compare(&union, &mut numbers, "before the first operation")?;
    let mut log = Vec::new();
    let mut step = 0;
    while let Some(op) = next(step, &plain) {
        step += 1;
        let want = plain.apply(&op);
        let got = union.apply(&op);
        DONE[usize::from(want.is_err())].fetch_add(1, Ordering::Relaxed);
        log.push(format!("{} -> {}", brief(&op), outcome(&want)));
        if matches!(op, Op::Reopen) {
            drop(union);
            union = fixture.open_keeping(keep);
        }
        if got != want {
            return Err(format!(
                "gave {}, must give {}, in the last of\n  {}",
                outcome(&got),
                outcome(&want),
                log.join("\n  ")
            ));
        }
    }
    let with_log = |wrong: String| format!("{wrong}\n after\n  {}", log.join("\n  "));
    compare(&union, &mut numbers, "at the end").map_err(with_log)?;
    union.close();
    drop(union);
    let mut union = fixture.open();
    compare(&union, &mut numbers, "opened again").map_err(with_log)?;
    union.close();
    drop(union);
    if fixture.lowers() != lowers {
        return Err(with_log("a lower layer was changed".to_owned()));
    }
    rw_layer_is_a_layer(&fixture).map_err(with_log)?;
    packed_rw_layer_is_a_layer(&fixture).map_err(with_log)
}

/// The rw layer, taken as one more lower layer, gives the same tree: unless it holds marks that are ours alone.
fn rw_layer_is_a_layer(fixture: &Fixture) -> Result<(), String> {
    let upper = Snapshot::of_plain(&fixture.upper());
    // A mark for data that are still a lower file's, and one for a lower directory of another name.
    let is_mark = |name: &[u8], kind| {
        name.ends_with(b".layerctl.metacopy") || kind == Kind::Directory && name.ends_with(b".layerctl.origin")
    };
    let cannot = upper.entries.values().any(|entry| {
        let stat = &entry.stat;
        let zero_device = stat.kind == Kind::CharDevice && stat.rdev == (0, 0);
        zero_device || entry.xattrs.keys().any(|name| is_mark(name, stat.kind))
    });
    PROVEN[usize::from(cannot)].fetch_add(1, Ordering::Relaxed);
    if cannot {
        return Ok(());
    }
    let index = scan(&fixture.upper()).map_err(|error| format!("the rw layer cannot be scanned: {error}"))?;
    let mut lowers = vec![Lower { dir: fixture.upper(), index: Arc::new(index) }];
    lowers.extend(fixture.stack.lowers.iter().cloned());
    let stack = Stack { upper: None, lowers, lowers_are_immutable: true, mount_points: None };
    let union = Union::open(stack).map_err(|error| format!("the rw layer as a layer: {error}"))?;
    let got = Snapshot::of_union(&UnionTree::new(Arc::new(union), false))?;
    equal(&got, &Snapshot::of_plain(&fixture.plain()), "the rw layer as a layer")
}

/// The rw layer, packed as a tar, unpacked and put on top of the lowers, gives the same tree, whatever marks it holds.
fn packed_rw_layer_is_a_layer(fixture: &Fixture) -> Result<(), String> {
    let plain = Snapshot::of_plain(&fixture.plain());
    if plain.entries.values().any(|entry| entry.stat.kind == Kind::Socket) {
        // No tar can hold one.
        return Ok(());
    }
    let mut tar = Vec::new();
    let union = Union::open(fixture.stack().clone()).map_err(|error| format!("to be packed: {error}"))?;
    layerctl::commands::pack(&union, &mut tar, FsPath::new("the tar"), None)
        .map_err(|error| format!("packed: {error}"))?;
    drop(union);
    let into = work_dir();
    let dir = rustix::fs::open(into.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).expect("open");
    let mut split = Vec::new();
    let unpacked = unpack(&mut tar.as_slice(), dir.as_fd(), &mut split, &Limits::default())
        .map_err(|failure| format!("the packed rw layer: {failure}"))?;
    let mut lowers = vec![Lower { dir: into.path().to_owned(), index: Arc::new(unpacked.index) }];
    lowers.extend(fixture.stack.lowers.iter().cloned());
    let stack = Stack { upper: None, lowers, lowers_are_immutable: true, mount_points: None };
    let union = Union::open(stack).map_err(|error| format!("the packed rw layer as a layer: {error}"))?;
    let got = Snapshot::of_union(&UnionTree::new(Arc::new(union), false))?;
    equal(&got, &plain, "the packed rw layer as a layer")
}

/// A result as text.
pub(crate) fn outcome(outcome: &Outcome) -> String {
    let text = match outcome {
        Ok(value) => format!("{value:?}"),
        Err(number) => format!("errno {number} ({})", std::io::Error::from_raw_os_error(*number)),
    };
    text.chars().take(300).collect()
}

/// An operation with its paths as text.
pub(crate) fn brief(op: &Op<Path>) -> String {
    let text = format!("{:?}", op.map(|path| show(path)));
    text.chars().take(400).collect()
}
