//! What is done in a mount: steps, each in a directory of its own, so that each is judged by itself.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{CWD, FallocateFlags, FileType, Mode, XattrFlags};

use super::tree::{Tree, copy_content};

/// One change.
pub(crate) enum Op {
    Create(&'static str, usize),
    Append(&'static str, usize),
    Put(&'static str, u64),
    Sync(&'static str),
    Unlink(&'static str),
    Rmdir(&'static str),
    Rename(&'static str, &'static str),
    Mkdir(&'static str),
    Chmod(&'static str),
    Truncate(&'static str),
    Symlink(&'static str),
    Link(&'static str, &'static str),
    Attribute(&'static str),
    Fifo(&'static str),
    Room(&'static str),
    Copy(&'static str, &'static str),
    Walk,
}
use Op::{
    Append, Attribute, Chmod, Copy, Create, Fifo, Link, Mkdir, Put, Rename, Rmdir, Room, Symlink, Sync, Truncate,
    Unlink, Walk,
};

/// The steps; the layers have [`LOWER`] in each one's directory.
pub(crate) const STEPS: &[(&str, &[Op])] = &[
    ("new", &[Create("file", 5000), Sync("file"), Sync(".")]),
    ("unsynced", &[Create("file", 70_000), Append("low", 10)]),
    ("change", &[Put("low", 3), Sync("low")]),
    ("append", &[Append("low", 100_000), Sync("low")]),
    ("unlink", &[Unlink("low"), Unlink("one/first")]),
    ("rename", &[Rename("low", "moved"), Rename("moved", "one/moved")]),
    ("rename-dir", &[Rename("one", "two"), Create("two/new", 10), Sync("two/new")]),
    ("mkdir", &[Mkdir("sub"), Mkdir("sub/deep"), Create("sub/deep/file", 10), Sync("sub/deep/file")]),
    ("chmod", &[Chmod("low"), Chmod("one"), Put("low", 0), Sync("low")]),
    ("pair", &[Put("pair", 0), Sync("pair"), Put("other", 1), Sync("other"), Unlink("pair")]),
    ("truncate", &[Truncate("low"), Sync("low")]),
    ("links", &[Symlink("link"), Link("low", "third"), Link("other", "fourth")]),
    ("rmdir", &[Unlink("one/first"), Unlink("one/second"), Rmdir("one"), Mkdir("one"), Create("one/again", 3)]),
    ("attribute", &[Attribute("low"), Fifo("fifo"), Room("low"), Sync("low")]),
    ("replace", &[Create("temporary", 3000), Sync("temporary"), Rename("temporary", "low")]),
    ("copy", &[Create("file", 0), Copy("low", "file"), Sync("file")]),
    ("read", &[Walk]),
];

/// Files of the lower layers: `pair` and `other` are one.
pub(crate) const LOWER: [(&str, usize); 4] = [("low", 9000), ("pair", 4000), ("one/first", 10), ("one/second", 0)];

/// The content of a file of this size.
pub(crate) fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| b'a' + u8::try_from(at / 7 % 26).unwrap_or(0)).collect()
}

fn open(path: &Path) -> io::Result<File> {
    File::options().read(true).write(!path.is_dir()).open(path)
}

/// Writes and closes, which may be what tells that the write has failed.
fn write(mut file: File, content: &[u8]) -> io::Result<()> {
    file.write_all(content)?;
    Ok(nix::unistd::close(file)?)
}

impl Op {
    fn apply(&self, dir: &Path) -> io::Result<()> {
        let at = |name: &str| dir.join(name);
        let mode = Mode::from_raw_mode;
        match self {
            Create(name, size) => write(File::create(at(name))?, &content(*size)),
            Append(name, size) => write(File::options().append(true).open(at(name))?, &content(*size)),
            Put(name, offset) => {
                let file = open(&at(name))?;
                file.write_all_at(b"CHANGED", *offset)?;
                Ok(nix::unistd::close(file)?)
            }
            Sync(name) => open(&at(name))?.sync_all(),
            Unlink(name) => std::fs::remove_file(at(name)),
            Rmdir(name) => std::fs::remove_dir(at(name)),
            Rename(from, to) => std::fs::rename(at(from), at(to)),
            Mkdir(name) => Ok(rustix::fs::mkdir(at(name), mode(0o750))?),
            Chmod(name) => std::fs::set_permissions(at(name), Permissions::from_mode(0o711)),
            Truncate(name) => open(&at(name))?.set_len(4500),
            Symlink(name) => std::os::unix::fs::symlink("low", at(name)),
            Link(from, to) => std::fs::hard_link(at(from), at(to)),
            Attribute(name) => Ok(rustix::fs::setxattr(at(name), "user.step", b"value", XattrFlags::empty())?),
            Fifo(name) => Ok(rustix::fs::mknodat(CWD, at(name), FileType::Fifo, mode(0o640), 0)?),
            Room(name) => Ok(rustix::fs::fallocate(open(&at(name))?, FallocateFlags::empty(), 0, 50_000)?),
            Copy(from, to) => copy_content(&open(&at(from))?, &open(&at(to))?),
            Walk => Tree::read(dir).map(drop),
        }
    }
}

/// How far a step came: how many of its changes were made, and whether the next one failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) made: usize,
    pub(crate) failed: bool,
}

/// `load DIR`: makes all steps, and prints how far each came. One that fails does not keep the others from being made.
pub(crate) fn run(args: &[String]) -> ExitCode {
    let [dir] = args else { return ExitCode::from(2) };
    for (name, ops) in STEPS {
        let dir = Path::new(dir).join(name);
        let failure = ops.iter().enumerate().find_map(|(made, op)| Some((made, op.apply(&dir).err()?)));
        match failure {
            None => println!("{name} {} done", ops.len()),
            Some((made, error)) => println!("{name} {made} {error}"),
        }
    }
    ExitCode::SUCCESS
}

/// Reads what [`run`] has printed.
pub(crate) fn progress(printed: &str) -> BTreeMap<&str, Progress> {
    let read = |line: &'_ str| {
        let mut words = line.splitn(3, ' ');
        let (name, made, how) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        let (name, _) = STEPS.iter().find(|(known, _)| *known == name)?;
        Some((*name, Progress { made, failed: how != "done" }))
    };
    printed.lines().filter_map(read).collect()
}

/// The tree of each step before its first change, and after each; made in a mount that nothing disturbs.
pub(crate) fn reference(top: &Path) -> BTreeMap<&'static str, Vec<Tree>> {
    let tree = |dir: &Path| Tree::read(dir).expect("a tree that nothing disturbs");
    let step = |(name, ops): &(&'static str, &[Op])| {
        let dir = top.join(name);
        let mut trees = vec![tree(&dir)];
        for op in *ops {
            op.apply(&dir).unwrap_or_else(|error| panic!("{name}: {error}"));
            trees.push(tree(&dir));
        }
        (*name, trees)
    };
    STEPS.iter().map(step).collect()
}

/// What is lost, or never was: each step must be as it was when it ended, or before or after the change that failed.
/// What was not synced may be missing: an unmount has failed, or its server was killed.
pub(crate) fn judge(
    top: &Path,
    reference: &BTreeMap<&'static str, Vec<Tree>>,
    progress: &BTreeMap<&str, Progress>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, ops) in STEPS {
        let trees = &reference[name];
        let found = match Tree::read(&top.join(name)) {
            Ok(found) => found,
            Err(error) => {
                wrong.push(format!("step {name} cannot be read: {error}"));
                continue;
            }
        };
        let is_all_synced =
            ops.iter().all(|op| !matches!(op, Create(..) | Append(..))) || matches!(ops.last(), Some(Sync(_)));
        let fits = match progress.get(name) {
            Some(Progress { made, failed: false }) if is_all_synced => found == trees[*made],
            Some(Progress { made, failed: false }) => found.sizeless() == trees[*made].sizeless(),
            // A change can be several calls, as creating a file and writing to it.
            Some(Progress { made, failed: true }) => {
                found.sizeless() == trees[*made].sizeless() || found.sizeless() == trees[*made + 1].sizeless()
            }
            None => trees.iter().any(|tree| found.sizeless() == tree.sizeless()),
        };
        if !fits {
            let made = progress.get(name).map_or(0, |progress| progress.made);
            wrong.push(format!("step {name}, {:?}: {}", progress.get(name), trees[made].difference(&found)));
        }
    }
    wrong
}
