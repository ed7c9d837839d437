//! One tree from a stack of layers: the rules of the union, without FUSE.
//!
//! Two facts carry it: the layers never change, and only the union writes to its upper directory.
//! So a lower inode is answered from the indexes ([`lowers`]) without a look at the disk and without a
//! table, and what is remembered of the upper ([`tree`]) is never out of step with it.
//!
//! Every inode has one number, from one rule, for `lookup`, `getattr` and `readdir` alike:
//!
//! | inode | number |
//! |---|---|
//! | the root | 1 |
//! | a lower file or directory, copied up or not | its place in the chain of indexes |
//! | a mount point that no layer has | 2^47 and its place among them |
//! | anything else | 2^48 and its inode number in the upper |
//!
//! | operation | what happens on disk, in this order; the step that counts is in **bold** |
//! |---|---|
//! | change of a lower file's attributes | a copy without data in the work directory, **renamed to its place** |
//! | change of a lower file's data | the same with data |
//! | a lower file of several names | the copy **into the link journal**, then a link per visible name |
//! | create | **the file**, then its whiteout goes |
//! | mkdir over a whiteout | an opaque directory in the work directory, **renamed to its place**, then as above |
//! | unlink | a whiteout if a lower has the name, **unlink** |
//! | rmdir | a whiteout if a lower has the name, **rename into the work directory**, removal |
//! | rename | marks on directories, a whiteout at the old name if a lower has it, **rename** |
//!
//! A name and its own whiteout beside each other mean: the name is there, and the whiteout is the rest
//! of an operation that was cut short. Opening the union after that ends what was begun ([`recovery`]).
//! Reading a file never changes its access time.

mod ahead;
mod attr;
mod change_time;
mod changed;
mod changes;
mod copy_data;
mod copy_up;
mod data;
mod descriptors;
mod disk_dir;
mod durable;
mod errno;
mod file;
mod group;
mod handles;
mod lookup;
mod lowers;
mod make;
mod marks;
mod merge;
mod outdated;
mod path;
mod privileges;
mod readdir;
mod recovery;
mod references;
mod remove;
mod rename;
mod time_limits;
mod times_mark;
mod tree;
mod types;
mod upper;
mod xattr;

pub use changes::Change;
pub use errno::{Errno, FsResult};
pub use outdated::Outdated;
pub use references::Unresolved;
pub use types::{Attr, Branch, Caller, DirEntry, Ino, NewFile, RenameMode, SetAttr, SetTime, Statfs, Times};

use std::os::fd::OwnedFd;

use parking_lot::RwLock;

use crate::index::Kind;
use crate::stack::Stack;
use crate::whiteout;
use descriptors::Descriptors;
use handles::HomesWalk;
use lowers::Lowers;
use tree::{InodeLocks, NameHash, Node, References, Tree};
use upper::{Readable, Upper};

/// A union that is open. All operations may be called from several threads at once.
///
/// An operation that makes or finds an inode for the caller counts one reference to it, which
/// [`Union::forget`] takes back; an inode stays usable as long as it is referred to, also without a name.
#[derive(Debug)]
pub struct Union {
    lowers: Lowers,
    /// The layers without the nearest, where that is a rw layer ([`changed`]).
    below: Option<Lowers>,
    upper: Option<Upper>,
    /// Held, though it has nothing.
    _unused: Option<OwnedFd>,
    /// Whether a mark may stand for a lower file's data.
    metacopy: bool,
    /// Whether a copy-up's data are on the disk before its name is.
    flushes_copies: bool,
    branches: Vec<Branch>,
    descriptors: Descriptors,
    references: References,
    copying: InodeLocks,
    names: NameHash,
    homes_walk: HomesWalk,
    tree: RwLock<Tree>,
}

impl Union {
    /// Opens the stack, and ends what an unclean end of the last union left in its upper.
    ///
    /// # Errors
    /// When the upper directory cannot be opened or written; [`Unresolved`] inside the error when a lower layer refers to
    /// what the layers below it do not have.
    pub fn open(stack: Stack) -> std::io::Result<Self> {
        match &stack.upper {
            Some(path) => {
                let (upper, unclean) = Upper::open(path, stack.lowers_are_immutable)?;
                Self::of(stack, None, Some(upper), None, unclean)
            }
            None => Self::of(stack, None, None, None, false),
        }
    }

    /// Opens the stack of a container that is only to be read: nothing is written to the upper, unless its last union did not
    /// end well.
    ///
    /// # Errors
    /// As [`Union::open`].
    pub fn open_to_read(stack: Stack) -> std::io::Result<Self> {
        let opened = match &stack.upper {
            Some(path) if stack.lowers_are_immutable => Upper::open_to_read(path)?,
            _ => return Self::open(stack),
        };
        match opened {
            Readable::InOrder(upper) => Self::of(stack, None, Some(upper), None, false),
            Readable::Unused(root) => Self::of(stack, None, None, Some(root), false),
            Readable::Untidy => Self::open(stack),
        }
    }

    fn of(
        stack: Stack,
        below: Option<Lowers>,
        upper: Option<Upper>,
        unused: Option<OwnedFd>,
        unclean: bool,
    ) -> std::io::Result<Self> {
        let branches = Branch::of_stack(stack.upper.clone(), stack.lowers.iter().map(|lower| lower.dir.clone()));
        let lowers = Lowers::new(stack.lowers, stack.mount_points)?;
        let mut tree = Tree::default();
        if upper.is_some() {
            // The root is always known, and in no directory.
            let root = Node { lower: Some(lowers.root().clone()), moved: true, ..Node::new(Kind::Directory) };
            tree.nodes.insert(Ino::ROOT, root);
        }
        let union = Self {
            lowers,
            below,
            metacopy: stack.lowers_are_immutable && upper.as_ref().is_some_and(Upper::has_marks),
            upper,
            flushes_copies: true,
            _unused: unused,
            branches,
            descriptors: Descriptors::new(Descriptors::capacity_of_process()),
            references: References::new(),
            copying: InodeLocks::default(),
            names: NameHash::default(),
            homes_walk: HomesWalk::default(),
            tree: RwLock::new(tree),
        };
        union.recover(unclean)?;
        Ok(union)
    }

    /// The same union, whose upper need not outlive a power cut: a copy-up does not wait for the disk.
    #[must_use]
    pub fn without_flushes(mut self) -> Self {
        self.flushes_copies = false;
        self
    }

    /// The directories of the stack, uppermost first.
    #[must_use]
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// Whether the upper has the inode, at least its attributes: only then has a write come to it.
    #[must_use]
    pub fn is_in_upper(&self, ino: Ino) -> bool {
        self.tree.read().nodes.contains_key(&ino)
    }

    /// A name of an inode of the upper, with its directory, if one is known.
    #[must_use]
    pub fn name_of(&self, ino: Ino) -> Option<(Ino, Vec<u8>)> {
        let tree = self.tree.read();
        tree.nodes.get(&ino)?.names.first().map(|(parent, name)| (*parent, name.to_vec()))
    }

    /// Whether the inode has references, of the kernel or of this program, see [`Union::forget`].
    #[must_use]
    pub fn is_referred_to(&self, ino: Ino) -> bool {
        self.references.has(ino)
    }

    /// The number of the first inode of a layer, counted from the base, or the first that no layer has.
    #[must_use]
    pub fn first_of_layer(&self, layer: usize) -> u64 {
        self.lowers.first(layer)
    }

    fn upper(&self) -> FsResult<&Upper> {
        self.upper.as_ref().ok_or(Errno::EROFS)
    }

    /// Takes back `count` references to an inode, and says whether those were the last ones.
    pub fn forget(&self, ino: Ino, count: u64) -> bool {
        if !self.references.remove(ino, count) {
            return false;
        }
        {
            let tree = self.tree.read();
            if !tree.nodes.contains_key(&ino) && !tree.gone.contains(&ino) && !tree.links.contains_key(&ino) {
                return true;
            }
        }
        let mut tree = self.tree.write();
        self.release(&mut tree, ino);
        true
    }
}

impl Drop for Union {
    fn drop(&mut self) {
        if let Some(upper) = &self.upper {
            // error: the next union that opens the directory brings into order what is left.
            recovery::close(upper).unwrap_or_default();
        }
    }
}

/// Refuses what can be no name, or none of a program's.
fn check_new_name(name: &[u8]) -> FsResult<()> {
    check_name(name)?;
    if whiteout::is_reserved(name) { Err(Errno::EPERM) } else { Ok(()) }
}

fn check_name(name: &[u8]) -> FsResult<()> {
    if name.len() > whiteout::NAME_MAX { Err(Errno::ENAMETOOLONG) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::index::{Kind, scan};
    use crate::stack::Lower;
    use crate::whiteout;

    struct Made {
        dir: tempfile::TempDir,
        union: Union,
    }

    impl Made {
        /// Over a lower directory that `fill` fills.
        fn over(fill: impl FnOnce(&std::path::Path)) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let (lower, upper) = (dir.path().join("lower"), dir.path().join("upper"));
            std::fs::create_dir(&lower).unwrap();
            std::fs::create_dir(&upper).unwrap();
            fill(&lower);
            let index = Arc::new(scan(&lower).unwrap());
            let lowers = vec![Lower { dir: lower, index }];
            let stack = Stack { upper: Some(upper), lowers, lowers_are_immutable: true, mount_points: None };
            Self { dir, union: Union::open(stack).unwrap() }
        }

        fn upper(&self, name: &[u8]) -> std::path::PathBuf {
            use std::os::unix::ffi::OsStrExt as _;
            self.dir.path().join("upper").join(std::ffi::OsStr::from_bytes(name))
        }
    }

    #[test]
    fn what_the_kernel_has_forgotten_needs_no_memory() {
        let made = Made::over(|lower| {
            for number in 0..50 {
                std::fs::write(lower.join(format!("f{number}")), "").unwrap();
                std::fs::hard_link(lower.join(format!("f{number}")), lower.join(format!("g{number}"))).unwrap();
            }
        });
        let union = &made.union;
        let known: Vec<Ino> = (0..50)
            .map(|number| {
                let attr = union.lookup(Ino::ROOT, format!("f{number}").as_bytes()).unwrap();
                assert_eq!(attr.nlink, 2);
                attr.ino
            })
            .collect();
        assert_eq!(union.tree.read().links.len(), 50);
        assert!(known.into_iter().all(|ino| union.forget(ino, 1)));
        let tree = union.tree.read();
        // The root is always known.
        assert_eq!((tree.links.len(), tree.nodes.len(), tree.gone.len()), (0, 1, 0));
    }

    #[test]
    fn a_directory_that_cannot_be_copied_up_leaves_nothing_in_the_work_directory() {
        let made = Made::over(|lower| std::fs::create_dir(lower.join("d")).unwrap());
        let dir = made.union.lookup(Ino::ROOT, b"d").unwrap().ino;
        // Something stands at the place of the copy.
        std::fs::write(made.upper(b"d"), "").unwrap();
        let caller = Caller { uid: 0, gid: 0, process: None };
        let new = NewFile { kind: Kind::File, mode: 0o600, umask: 0, rdev: (0, 0) };
        assert_eq!(made.union.create(dir, b"f", new, caller).unwrap_err(), Errno::ENOTDIR);
        assert_eq!(std::fs::read_dir(made.upper(whiteout::WORK)).unwrap().count(), 0);
    }

    #[test]
    fn what_could_not_go_at_its_time_goes_at_the_end() {
        for is_untidy in [false, true] {
            let Made { dir, union } = Made::over(|_| ());
            let caller = Caller { uid: 0, gid: 0, process: None };
            union.mkdir(Ino::ROOT, b"d", 0o755, 0, caller).unwrap();
            let upper = dir.path().join("upper");
            let name = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
            let left = upper.join("d").join(name(whiteout::NEW));
            let in_work = upper.join(name(whiteout::WORK)).join("t0");
            std::fs::create_dir_all(left.join("deeper")).unwrap();
            std::fs::create_dir(&in_work).unwrap();
            let time = std::fs::metadata(upper.join("d")).unwrap().modified().unwrap();
            if is_untidy {
                union.upper.as_ref().unwrap().clean_up(|| Err(Errno::EIO));
            }
            drop(union);
            assert_eq!(left.exists(), !is_untidy, "only then the tree is walked");
            assert!(!upper.join(name(whiteout::WORK)).exists(), "nothing of the union's own stays");
            assert_eq!(std::fs::metadata(upper.join("d")).unwrap().modified().unwrap(), time);
        }
    }
}
