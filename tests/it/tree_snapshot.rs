//! A whole tree at one moment, and how two of them differ.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path as FsPath;

use layerctl::index::Kind;
use layerctl::union::{Attr, FsResult, Ino};
use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use super::mounts::by_kernel;
use super::plain_driver;
use super::tree_op::{Name, Path, Stat, show};
use super::union_driver::{self, UnionTree};

/// One name, and all that its file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) stat: Stat,
    /// The first name of the same file: the names with an equal one are hard links.
    pub(crate) first_name: Path,
    pub(crate) target: Vec<u8>,
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: BTreeMap<Name, Vec<u8>>,
}

/// A tree: its names, and each one's inode number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) entries: BTreeMap<Path, Entry>,
    pub(crate) inodes: BTreeMap<Path, Inode>,
    /// Of a plain directory: when each file was changed in any way, but for being read (`st_ctime`).
    pub(crate) changes: BTreeMap<Path, (i64, i64)>,
}

/// What two ways of asking about one file must agree in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Numbers {
    ino: u64,
    mode: u32,
    nlink: u64,
    owner: (u32, u32),
    size: u64,
    mtime: (i64, u64),
}

/// What tells a file from others, also over time: its number, and on a plain file system (which gives numbers
/// anew) when it was made.
pub(crate) type Inode = (u64, i64, u32);

impl Snapshot {
    /// Reads a union's tree, and checks that readdir, lookup and getattr agree in every number on the way.
    pub(crate) fn of_union(tree: &UnionTree) -> Result<Self, String> {
        let mut snapshot = Self::default();
        let mut seen: HashMap<Ino, Path> = HashMap::new();
        snapshot.visit(tree, &Path::new(), Ino::ROOT, &mut seen)?;
        Ok(snapshot)
    }

    fn visit(
        &mut self,
        tree: &UnionTree,
        at: &[Name],
        parent: Ino,
        seen: &mut HashMap<Ino, Path>,
    ) -> Result<(), String> {
        let fail = |what: &str| format!("{what} of {} in the union", show(at));
        let held = tree.lookup(at).map_err(|errno| fail(&format!("lookup: errno {}", errno.0)))?;
        let ino = held.ino();
        let failed = |call: &str, errno: layerctl::union::Errno| fail(&format!("{call}: errno {}", errno.0));
        let attr = tree.union.getattr(ino).map_err(|errno| failed("getattr", errno))?;
        if timeless(attr) != timeless(held.attr) {
            return Err(fail(&format!("getattr {attr:?} is not lookup {:?}", held.attr)));
        }
        let first_name = seen.entry(ino).or_insert_with(|| at.to_vec()).clone();
        if first_name != at && attr.kind == Kind::Directory {
            return Err(fail(&format!("the number {} is also that of {}: lookup", ino.0, show(&first_name))));
        }
        let mut entry = Entry {
            stat: union_driver::stat_of(&attr),
            first_name,
            target: Vec::new(),
            content: Vec::new(),
            xattrs: union_xattrs(tree, ino).map_err(|errno| failed("xattrs", errno))?,
        };
        match attr.kind {
            Kind::File => {
                let size = usize::try_from(attr.size).map_err(|_| fail("size"))?;
                entry.content = tree.read(ino, 0, size + 1).map_err(|errno| failed("read", errno))?;
            }
            Kind::Symlink => entry.target = tree.union.readlink(ino).map_err(|errno| failed("readlink", errno))?,
            _ => {}
        }
        self.entries.insert(at.to_vec(), entry);
        self.inodes.insert(at.to_vec(), (ino.0, 0, 0));
        if attr.kind != Kind::Directory {
            return Ok(());
        }
        let names = tree.entries(ino).map_err(|errno| failed("readdir", errno))?;
        let plus = entries_plus(tree, ino).map_err(|errno| failed("readdirplus", errno))?;
        for (dot, expected) in [(&b"."[..], ino), (b"..", parent)] {
            if names.get(dot) != Some(&(expected, Kind::Directory)) {
                return Err(fail(&format!("{:?} must be {} in readdir", names.get(dot), expected.0)));
            }
        }
        if names.len() != plus.len() + 2 {
            return Err(fail("readdir and readdirplus give other names: readdir"));
        }
        for (name, (number, kind)) in &names {
            if name == b"." || name == b".." {
                continue;
            }
            let found = tree.held(tree.union.lookup(ino, name).map_err(|errno| failed("lookup in", errno))?);
            let expected = (found.attr.ino, found.attr.kind);
            if (*number, *kind) != expected
                || plus.get(name).copied().flatten().map(timeless) != Some(timeless(found.attr))
            {
                let wrong = format!("{}: readdir {number:?} {kind:?}, {:?}", name.escape_ascii(), plus.get(name));
                return Err(fail(&format!("{wrong}, lookup {:?}: entry", found.attr)));
            }
            self.visit(tree, &[at, std::slice::from_ref(name)].concat(), ino, seen)?;
        }
        Ok(())
    }

    /// Reads a plain directory.
    pub(crate) fn of_plain(dir: &FsPath) -> Self {
        Self::read(dir, false).expect("the directory can be read")
    }

    /// Reads a mount, and checks on the way that readdir, lookup, fstat and what its server says agree in every number,
    /// and that each file has as many names as it says.
    pub(crate) fn of_mount(dir: &FsPath) -> Result<Self, String> {
        let mut snapshot = Self::read(dir, true)?;
        let mut uncounted = Vec::new();
        for (path, entry) in &snapshot.entries {
            let names = if entry.stat.kind == Kind::Directory {
                let is_child = |(other, child): &(&Path, &Entry)| {
                    other.len() == path.len() + 1 && other.starts_with(path) && child.stat.kind == Kind::Directory
                };
                2 + snapshot
                    .entries
                    .range(path.clone()..)
                    .take_while(|(other, _)| other.starts_with(path))
                    .filter(is_child)
                    .count()
            } else {
                snapshot.entries.values().filter(|other| other.first_name == entry.first_name).count()
            };
            // Overlayfs counts no directories in a directory.
            let is_directory = entry.stat.kind == Kind::Directory;
            let is_uncounted = is_directory && entry.stat.nlink == 1 && by_kernel();
            if is_uncounted {
                uncounted.push((path.clone(), names));
            } else if names as u64 != u64::from(entry.stat.nlink) {
                return Err(format!("{}: nlink {}, must be {names}", show(path), entry.stat.nlink));
            }
        }
        for (path, names) in uncounted {
            if let Some(entry) = snapshot.entries.get_mut(&path) {
                entry.stat.nlink = u32::try_from(names).expect("a number of directories");
            }
        }
        Ok(snapshot)
    }

    fn read(dir: &FsPath, is_mount: bool) -> Result<Self, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dir, flags, Mode::empty()).map_err(|error| format!("open: {error}"))?;
        let mut snapshot = Self::default();
        snapshot.visit_plain(&root, b".", &Path::new(), is_mount, &mut HashMap::new())?;
        Ok(snapshot)
    }

    fn visit_plain(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        at: &[Name],
        is_mount: bool,
        seen: &mut HashMap<u64, Path>,
    ) -> Result<(), String> {
        let failed = |call: &str, error: rustix::io::Errno| format!("{call} of {}: {error}", show(at));
        let raw = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| failed("stat", error))?;
        let (mask, sync) = (StatxFlags::BASIC_STATS | StatxFlags::BTIME, AtFlags::STATX_FORCE_SYNC);
        let statx = rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW | sync, mask)
            .map_err(|error| failed("statx", error))?;
        // Two file systems may differ in a directory's size, and a kernel and its server in when they know of it.
        let is_dir = Kind::from_mode(raw.st_mode) == Some(Kind::Directory);
        let size = |size: u64| if is_dir { 0 } else { size };
        let of_stat = |stat: &rustix::fs::Stat| Numbers {
            ino: stat.st_ino,
            mode: stat.st_mode,
            nlink: stat.st_nlink,
            owner: (stat.st_uid, stat.st_gid),
            size: size(stat.st_size.cast_unsigned()),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
        };
        let numbers = of_stat(&raw);
        let asked = Numbers {
            ino: statx.stx_ino,
            mode: statx.stx_mode.into(),
            nlink: statx.stx_nlink.into(),
            owner: (statx.stx_uid, statx.stx_gid),
            size: size(statx.stx_size),
            mtime: (statx.stx_mtime.tv_sec, statx.stx_mtime.tv_nsec.into()),
        };
        if is_mount && numbers != asked {
            return Err(format!("{}: stat says {numbers:?}, its server {asked:?}", show(at)));
        }
        let proc = [format!("/proc/self/fd/{}/", dir.as_raw_fd()).as_bytes(), name].concat();
        let xattrs = layerctl::sys::read_xattrs(&proc).map_err(|error| format!("xattrs of {}: {error}", show(at)))?;
        let stat = plain_driver::stat_of(&raw).map_err(|error| failed("type", error))?;
        let kind = stat.kind;
        let first_name = seen.entry(raw.st_ino).or_insert_with(|| at.to_vec()).clone();
        if is_mount
            && first_name != at
            && self.entries.get(&first_name).map(|first| first.stat.clone()) != Some(stat.clone())
        {
            return Err(format!("{} and {} have one number and are not one file", show(at), show(&first_name)));
        }
        let mut entry =
            Entry { stat, first_name, target: Vec::new(), content: Vec::new(), xattrs: xattrs.into_iter().collect() };
        let open = |flags| rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC, Mode::empty());
        let same = |file: &OwnedFd| {
            let found = of_stat(&rustix::fs::fstat(file).map_err(|error| failed("fstat", error))?);
            if found == numbers { Ok(()) } else { Err(format!("{}: stat {numbers:?}, fstat {found:?}", show(at))) }
        };
        match kind {
            Kind::File => {
                let file = open(OFlags::RDONLY).map_err(|error| failed("open", error))?;
                same(&file)?;
                std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut entry.content)
                    .map_err(|error| format!("read of {}: {error}", show(at)))?;
            }
            Kind::Symlink => {
                let target =
                    rustix::fs::readlinkat(dir, name, Vec::new()).map_err(|error| failed("readlink", error))?;
                entry.target = target.into_bytes();
            }
            _ => {}
        }
        self.entries.insert(at.to_vec(), entry);
        self.inodes.insert(at.to_vec(), (raw.st_ino, statx.stx_btime.tv_sec, statx.stx_btime.tv_nsec));
        self.changes.insert(at.to_vec(), (raw.st_ctime, raw.st_ctime_nsec.cast_signed()));
        if kind != Kind::Directory {
            return Ok(());
        }
        let this = open(OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| failed("open", error))?;
        same(&this)?;
        let mut names = BTreeMap::new();
        for entry in rustix::fs::Dir::read_from(&this).map_err(|error| failed("readdir", error))? {
            let entry = entry.map_err(|error| failed("readdir", error))?;
            let name = entry.file_name().to_bytes().to_vec();
            if names.insert(name.clone(), (entry.ino(), entry.file_type())).is_some() {
                return Err(format!("readdir of {}: {} is there twice", show(at), name.escape_ascii()));
            }
        }
        let dot = names.remove(&b"."[..]).map(|(ino, _)| ino);
        names.remove(&b".."[..]);
        if is_mount && dot != Some(raw.st_ino) {
            return Err(format!("readdir of {}: . is {dot:?}, must be {}", show(at), raw.st_ino));
        }
        for (name, (ino, file_type)) in names {
            let below = [at, std::slice::from_ref(&name)].concat();
            self.visit_plain(&this, &name, &below, is_mount, seen)?;
            let found = (self.inodes[&below].0, self.entries[&below].stat.kind);
            if is_mount && found != (ino, Kind::from_mode(file_type.as_raw_mode()).unwrap_or(Kind::Directory)) {
                return Err(format!("{}: readdir says {ino} {file_type:?}, stat {found:?}", show(&below)));
            }
        }
        Ok(())
    }

    /// The first few differences, each as one line; none: the trees are equal.
    pub(crate) fn differences(&self, expected: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let both =
            || self.entries.keys().chain(expected.entries.keys().filter(|path| !self.entries.contains_key(*path)));
        for path in both() {
            match (self.entries.get(path), expected.entries.get(path)) {
                (Some(got), Some(want)) if got == want => {}
                (Some(got), Some(want)) => lines.extend(differences(path, got, want)),
                (Some(_), None) => lines.push(format!("{}: must not exist", show(path))),
                (None, _) => lines.push(format!("{}: is missing", show(path))),
            }
        }
        lines.truncate(12);
        lines
    }

    /// As it would be without times: a half-done operation may have moved one.
    pub(crate) fn timeless(mut self) -> Self {
        for entry in self.entries.values_mut() {
            entry.stat.mtime = super::tree_op::When::InThisTest;
        }
        self
    }
}

fn differences(path: &[Name], got: &Entry, want: &Entry) -> Vec<String> {
    let mut lines = Vec::new();
    let mut push = |what: &str, got: String, want: String| {
        if got != want {
            lines.push(format!("{}: {what} is {got}, must be {want}", show(path)));
        }
    };
    push("stat", format!("{:?}", got.stat), format!("{:?}", want.stat));
    push("first name", show(&got.first_name), show(&want.first_name));
    push("target", got.target.escape_ascii().to_string(), want.target.escape_ascii().to_string());
    push("content", summary(&got.content), summary(&want.content));
    push("xattrs", format!("{:?}", got.xattrs), format!("{:?}", want.xattrs));
    lines
}

/// Runs of equal bytes, so that a message stays short.
fn summary(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let run = rest.iter().take_while(|byte| *byte == first).count();
        text += &format!("{run}*{} ", first.escape_ascii());
        rest = &rest[run..];
    }
    text
}

/// Without the time of the last access: that it stays is a claim of its own.
fn timeless(attr: Attr) -> Attr {
    Attr { atime: layerctl::index::Time::default(), ..attr }
}

fn union_xattrs(tree: &UnionTree, ino: Ino) -> FsResult<BTreeMap<Name, Vec<u8>>> {
    let list = tree.union.listxattr(ino)?;
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| tree.union.getxattr(ino, name).map(|value| (name.to_vec(), value))).collect()
}

/// The names of a directory but `.` and `..`, with what `readdir_plus` says of each; references are given back.
fn entries_plus(tree: &UnionTree, ino: Ino) -> FsResult<BTreeMap<Name, Option<Attr>>> {
    let mut names = BTreeMap::new();
    tree.union.readdir(ino, 0, true, &mut |entry| {
        if entry.name != b"." && entry.name != b".." {
            names.insert(entry.name.to_vec(), entry.attr);
        }
        true
    })?;
    for attr in names.values().flatten() {
        tree.union.forget(attr.ino, 1);
    }
    Ok(names)
}
