//! A directory in memory for one layer, with files beside it that nothing may touch.

use std::cell::Cell;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use layerctl::index::Index;
use layerctl::tarball::{Modes, compare, compare_content};
use tempfile::TempDir;

/// `layer/`, `other/` and `scratch/` are empty; `outside/` is what a hostile tar would like to have.
#[derive(Debug)]
pub(crate) struct Sandbox {
    /// There until it is dropped.
    made: Option<Made>,
}

#[derive(Debug)]
struct Made {
    dir: TempDir,
    before: Vec<Seen>,
}

thread_local! {
    /// One that was used, and is as it was before: to make it takes longer than most inputs do.
    static USED: Cell<Option<Made>> = const { Cell::new(None) };
}

/// What is in the files outside.
pub(crate) const SECRET: &[u8] = b"what no layer can say, as it is not in it";

/// All that would change in a file that is read, changed or linked to.
type Seen = (PathBuf, u64, u32, (u32, u32), u64, (i64, i64), Vec<u8>);

/// A directory of its own: in memory, where there is such a place.
pub(crate) fn temporary() -> TempDir {
    let place = Path::new("/dev/shm");
    let place = if place.is_dir() { place.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("layerctl-fuzz.").tempdir_in(place).expect("a directory can be made")
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        if let Some(made) = USED.take() {
            return Self { made: Some(made) };
        }
        let dir = temporary();
        for name in ["layer", "other", "scratch", "outside", "outside/dir"] {
            fs::create_dir(dir.path().join(name)).expect("a directory can be made");
        }
        for name in ["outside/file", "outside/dir/file"] {
            fs::write(dir.path().join(name), SECRET).expect("a file can be made");
        }
        let before = seen(dir.path());
        Self { made: Some(Made { dir, before }) }
    }

    fn made(&self) -> &Made {
        self.made.as_ref().expect("it is there until it is dropped")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.made().dir.path().join(name)
    }

    pub(crate) fn open(&self, name: &str) -> OwnedFd {
        File::open(self.path(name)).expect("the directory is there").into()
    }

    /// Nothing was made, changed, linked or removed beside the layer.
    pub(crate) fn is_untouched(&self) {
        let Made { dir, before } = self.made();
        assert_eq!(*before, seen(dir.path()), "something outside of the layer was changed");
        assert!(fs::read_dir(self.path("scratch")).expect("it is there").next().is_none(), "scratch is not empty");
    }

    /// The files in `name` are what the index says, bit for bit.
    pub(crate) fn has(&self, name: &str, index: &Index) {
        let (dir, scratch) = (self.open(name), self.open("scratch"));
        let mut found = Vec::new();
        let mut copy = || scratch.try_clone().map(Some);
        compare(index, dir.as_fd(), (false, Modes::Exact), &mut copy, &mut |other| found.push(other))
            .expect("it can be read");
        compare_content(index, dir.as_fd(), |_| true, &mut |other| found.push(other)).expect("it can be read");
        assert!(found.is_empty(), "the files are not what the index says: {found:?}");
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.is_untouched();
        for name in ["layer", "other"] {
            // With the attributes that it was given.
            fs::remove_dir_all(self.path(name)).expect("it can be removed");
            fs::create_dir(self.path(name)).expect("a directory can be made");
        }
        // At the end of a thread there is nobody to keep it.
        let _ = USED.try_with(|used| used.set(self.made.take()));
    }
}

fn seen(dir: &Path) -> Vec<Seen> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("it can be read").path()).collect();
    names.retain(|path| path.ends_with("outside"));
    names.extend(["outside/file", "outside/dir", "outside/dir/file"].map(|name| dir.join(name)));
    let mut beside: Vec<PathBuf> = Vec::new();
    for inner in [dir.to_owned(), dir.join("outside"), dir.join("outside/dir")] {
        beside.extend(fs::read_dir(inner).expect("it is there").map(|entry| entry.expect("it can be read").path()));
    }
    beside.sort();
    let one = |path: PathBuf| {
        let stat = fs::symlink_metadata(&path).expect("it is there");
        let content = if stat.is_file() { fs::read(&path).expect("it can be read") } else { Vec::new() };
        (
            path,
            stat.nlink(),
            stat.mode(),
            (stat.uid(), stat.gid()),
            stat.size(),
            (stat.ctime(), stat.ctime_nsec()),
            content,
        )
    };
    let listed = beside.into_iter().map(|path| (path, 0, 0, (0, 0), 0, (0, 0), Vec::new()));
    names.into_iter().map(one).chain(listed).collect()
}
