//! Places in the tree of a container, reached without being led out of it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount};

use crate::error::{Context as _, Result};
use crate::sys::call;

/// What nothing in the container needs to find at a mount of system files.
pub(super) const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// The root directory of a container, not yet that of this process.
#[derive(Debug)]
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        call::openat(CWD, path, flags, Mode::empty()).map(Self).doing("open", path)
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// The file at `path`, with what is mounted there, and its type. No symbolic link is followed, for an image may
    /// have one in any place; each component is opened by itself, so that also none can come in between.
    fn find(&self, path: &str) -> rustix::io::Result<(OwnedFd, FileType)> {
        let mut at = rustix::io::fcntl_dupfd_cloexec(&self.0, 0)?;
        for name in path.split('/') {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = call::openat(&at, name, flags, Mode::empty())?;
        }
        let kind = FileType::from_raw_mode(call::fstat(&at)?.st_mode);
        Ok((at, kind))
    }

    /// The directory at `path`, made when missing. `None` when it can be neither found nor made, in a read-only tree.
    pub(super) fn dir(&self, path: &str) -> Result<Option<OwnedFd>> {
        let found = match self.find(path) {
            Err(Errno::NOENT) => self.make_dir(path),
            found => found,
        };
        match found {
            Ok((dir, FileType::Directory)) => Ok(Some(dir)),
            Ok(_) => Err(Errno::NOTDIR).doing("mount on the container's", Path::new("/").join(path)),
            Err(Errno::ROFS) => Ok(None),
            Err(error) => Err(error).doing("find the container's", Path::new("/").join(path)),
        }
    }

    /// All directories that something is mounted on are at the root or in one that is mounted before.
    fn make_dir(&self, path: &str) -> rustix::io::Result<(OwnedFd, FileType)> {
        let (parent, name) = match path.rsplit_once('/') {
            Some((parent, name)) => (self.find(parent)?.0, name),
            None => (rustix::io::fcntl_dupfd_cloexec(&self.0, 0)?, path),
        };
        call::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
        self.find(path)
    }

    /// Mounts a new file system on the directory at `path`. Whether it is there then.
    pub(super) fn mount(&self, kind: &str, path: &str, flags: MountFlags, data: &CStr) -> Result<bool> {
        let Some(dir) = self.dir(path)? else { return Ok(false) };
        mount(kind, name_of(&dir), kind, flags, data).doing("mount", Path::new("/").join(path))?;
        Ok(true)
    }

    /// Hides what is at `path`, if anything is: a directory behind an empty one, a file behind the
    /// host's `/dev/null`, whose mode the container cannot change as the mount is read-only.
    pub(super) fn mask(&self, path: &str) -> Result<()> {
        let covered = match self.find(path) {
            Ok((dir, FileType::Directory)) => {
                mount("tmpfs", name_of(&dir), "tmpfs", PLAIN | MountFlags::RDONLY, c"size=0,mode=555")
            }
            Ok((file, _)) => mount_bind("/dev/null", name_of(&file))
                .and_then(|()| self.seal(path, MountFlags::NOSUID | MountFlags::NOEXEC)),
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => Err(error),
        };
        covered.doing("hide the container's", Path::new("/").join(path))
    }

    /// Makes what is at `path`, if anything is, a mount that cannot be written to.
    pub(super) fn freeze(&self, path: &str) -> Result<()> {
        let frozen = match self.find(path) {
            Ok((file, _)) => {
                let name = name_of(&file);
                mount_bind_recursive(&name, &name).and_then(|()| self.seal(path, PLAIN))
            }
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => Err(error),
        };
        frozen.doing("make read-only the container's", Path::new("/").join(path))
    }

    /// The names in the directory at `path`; none when there is no such directory.
    pub(super) fn names(&self, path: &str) -> Result<Vec<CString>> {
        let doing = "list the container's";
        let dir = match self.find(path) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            found => found.and_then(|(dir, _)| {
                call::openat(&dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            }),
        };
        let inner = Path::new("/").join(path);
        let entries = dir.and_then(Dir::new).doing(doing, &inner)?;
        entries.map(|entry| entry.map(|entry| entry.file_name().to_owned()).doing(doing, &inner)).collect()
    }

    /// Makes the bind mount at `path` read-only. It is looked for once more, for what was found before is under it.
    fn seal(&self, path: &str, flags: MountFlags) -> rustix::io::Result<()> {
        let (file, _) = self.find(path)?;
        mount_remount(name_of(&file), MountFlags::BIND | MountFlags::RDONLY | flags, c"")
    }
}

/// A name for mount(2) of what a descriptor is open on.
fn name_of(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_of_the_image_leads_nowhere() {
        let temporary = tempfile::tempdir().unwrap();
        let (tree, host) = (temporary.path().join("tree"), temporary.path().join("host"));
        for dir in [&tree, &host, &tree.join("real"), &host.join("pts")] {
            fs::create_dir(dir).unwrap();
        }
        fs::write(tree.join("file"), "").unwrap();
        symlink(&host, tree.join("dev")).unwrap();
        symlink("real", tree.join("proc")).unwrap();
        let root = Root::open(&tree).unwrap();
        for path in ["dev", "dev/pts", "dev/shm", "proc", "file", "file/x"] {
            assert!(root.dir(path).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(&host).unwrap().count(), 1);
        assert!(root.dir("real").unwrap().is_some());
        assert!(root.dir("sys").unwrap().is_some());
        assert!(tree.join("sys").is_dir());
        // Nothing to hide or freeze is nothing to do.
        root.mask("real/kcore").unwrap();
        root.mask("none/kcore").unwrap();
        root.freeze("real/sys").unwrap();
        assert_eq!(root.names("none").unwrap(), Vec::<CString>::new());
    }

    #[test]
    fn what_cannot_be_looked_for_is_not_absent() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("file"), "").unwrap();
        let root = Root::open(temporary.path()).unwrap();
        let long = "n".repeat(300);
        for path in ["file/x", &long] {
            assert!(root.mask(path).is_err(), "{path}");
            assert!(root.freeze(path).is_err(), "{path}");
            assert!(root.names(path).is_err(), "{path}");
        }
    }
}
