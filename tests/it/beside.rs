//! A union through a real mount, and beside it a plain directory that holds the same: what programs see in one
//! they must see in the other.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use super::mounts::Mounts;
use super::processes::kill;

/// Fills a directory that is to be a layer.
pub(crate) type Fill<'a> = &'a dyn Fn(&Path);

pub(crate) struct Beside {
    pub(crate) mounts: Mounts,
    options: String,
}

/// The number of an error, so that it can be compared.
pub(crate) fn raw<T>(result: std::io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

impl Beside {
    /// Mounts the layers, uppermost first.
    pub(crate) fn over(layers: &[Fill<'_>]) -> Self {
        let mounts = Mounts::new();
        for dir in ["upper", "mnt", "plain"] {
            mounts.mkdir(dir);
        }
        let mut options = "dirs=upper".to_owned();
        for (number, fill) in layers.iter().enumerate() {
            fill(&mounts.mkdir(&format!("lower{number}")));
            options.push_str(&format!(":lower{number}"));
        }
        layers.iter().rev().for_each(|fill| fill(&mounts.at("plain")));
        let beside = Self { mounts, options };
        beside.mount();
        beside
    }

    fn mount(&self) {
        self.mounts.run(&["union", "-o", &self.options, "mnt"]).ok();
    }

    pub(crate) fn mnt(&self, path: &str) -> PathBuf {
        self.mounts.at("mnt").join(path)
    }

    /// Does the same in both places, which must come to the same.
    #[track_caller]
    pub(crate) fn both<T: PartialEq + Debug>(&self, run: impl Fn(&Path) -> T) -> T {
        let union = run(&self.mounts.at("mnt"));
        assert_eq!(union, run(&self.mounts.at("plain")), "left in the union, right in a plain directory");
        union
    }

    /// The same, where what it comes to is of no further interest.
    #[track_caller]
    pub(crate) fn same<T: PartialEq + Debug>(&self, run: impl Fn(&Path) -> T) {
        drop(self.both(run));
    }

    /// That the trees are the same: now, when the kernel has forgotten what it knew, and mounted again.
    #[track_caller]
    pub(crate) fn assert_same_trees(&self) {
        self.both(tree);
        forget();
        self.both(tree);
        self.mount_again();
        self.both(tree);
    }

    pub(crate) fn mount_again(&self) {
        self.mounts.umount("mnt");
        self.mount();
    }

    /// `kill -9` of the server, unmount and mount.
    pub(crate) fn kill_and_mount_again(&self) {
        let servers = self.mounts.servers();
        assert_eq!(servers.len(), 1);
        kill(servers[0]);
        self.mount_again();
    }
}

/// Makes the kernel drop the dentries and inodes that nobody uses.
pub(crate) fn forget() {
    fs::write("/proc/sys/vm/drop_caches", "2").expect("root may");
}

/// Runs something in a thread of another user and group, without further groups. All paths must be found from
/// open directories: the tests' own directory is for root alone.
pub(crate) fn as_user<T: Send>(uid: u32, gid: u32, run: impl FnOnce() -> T + Send) -> T {
    as_groups(uid, gid, &[], run)
}

/// The same with further groups.
pub(crate) fn as_groups<T: Send>(uid: u32, gid: u32, groups: &[u32], run: impl FnOnce() -> T + Send) -> T {
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let run = || {
        set_thread_groups(&groups).expect("root may");
        set_thread_gid(Gid::from_raw(gid)).expect("root may");
        set_thread_uid(Uid::from_raw(uid)).expect("root may");
        run()
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("the thread ends well"))
}

/// Everything below a directory by its path: type and mode, owner, number of names, size or target, content; and
/// which names are one file.
pub(crate) fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    fn walk(top: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, String>, first: &mut BTreeMap<u64, PathBuf>) {
        let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
        let mut paths: Vec<PathBuf> = entries.collect();
        paths.sort();
        for path in paths {
            let meta = fs::symlink_metadata(&path).expect("an entry");
            let name = path.strip_prefix(top).expect("below").to_owned();
            let same = first.entry(meta.ino()).or_insert_with(|| name.clone()).clone();
            let content = if meta.is_file() {
                String::from_utf8_lossy(&fs::read(&path).expect("a file")).into_owned()
            } else {
                fs::read_link(&path).map(|target| target.display().to_string()).unwrap_or_default()
            };
            let (mode, uid, gid, nlink, rdev) = (meta.mode(), meta.uid(), meta.gid(), meta.nlink(), meta.rdev());
            // The names are those of small files.
            let size = if meta.is_dir() { 0 } else { meta.size() };
            found.insert(name, format!("{mode:o} {uid}:{gid} {nlink} {rdev} {size} {same:?} {content}"));
            if meta.is_dir() {
                walk(top, &path, found, first);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found, &mut BTreeMap::new());
    found
}

/// 512-byte blocks of all files below a directory.
pub(crate) fn blocks(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries.fold(0, |sum, entry| {
        let meta = entry.metadata().expect("lstat");
        sum + meta.blocks() + if meta.is_dir() { blocks(&entry.path()) } else { 0 }
    })
}
