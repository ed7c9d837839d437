//! Names beside a target for what is not yet whole: `.TARGET.layerctl-N`. Each is locked for as long as its process
//! lives, so the next run for the same target removes what a killed one has left.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, Result};
use rustix::process::geteuid;

use crate::sys::{call, fs};

/// How many processes may write to one target at once.
const NAMES: u32 = 64;
/// Bytes of a target's name that are kept: the whole must be a name too (`NAME_MAX`).
const LONGEST: usize = 200;

/// A file or directory with a temporary name, which goes with this unless it got another name.
#[derive(Debug)]
pub(crate) struct Temporary {
    /// The file itself, or the open directory; its lock is this process's.
    pub(crate) file: File,
    path: PathBuf,
    is_directory: bool,
    has_moved: bool,
}

impl Temporary {
    /// Makes an empty file beside `target`.
    ///
    /// # Errors
    /// As `open(2)`; `EEXIST` when too many processes write there.
    pub(crate) fn file(target: &Path) -> Result<Self> {
        Self::new(target, false, &|path| {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            call::open(path, flags, Mode::from_raw_mode(0o666)).map(File::from)
        })
    }

    /// Makes an empty directory beside `target`.
    ///
    /// # Errors
    /// As [`Temporary::file`].
    pub(crate) fn directory(target: &Path) -> Result<Self> {
        Self::new(target, true, &|path| {
            call::mkdirat(CWD, path, Mode::from_raw_mode(0o755))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            call::open(path, flags, Mode::empty()).map(File::from)
        })
    }

    /// Gives a file without a name (`O_TMPFILE`) one beside `target`.
    ///
    /// # Errors
    /// As `linkat(2)`; `EEXIST` when too many processes write there.
    pub(crate) fn named(file: &File, target: &Path) -> Result<Self> {
        Self::new(target, false, &|path| {
            link(file, path)?;
            rustix::io::fcntl_dupfd_cloexec(file, 0).map(File::from)
        })
    }

    fn new(target: &Path, is_directory: bool, make: &dyn Fn(&Path) -> Result<File>) -> Result<Self> {
        for number in 0..NAMES {
            let path = name(target, number);
            // Twice, since the first time may find what a killed process has left.
            for _ in 0..2 {
                match make(&path) {
                    Err(Errno::EXIST) if remove_left(&path)? => {}
                    Err(Errno::EXIST) => break,
                    made => {
                        // Between the two another process may have taken it for a dead one's, and have made its own there.
                        let mut made = Self { file: made?, path, is_directory, has_moved: true };
                        if call::flock(&made.file, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
                            && is_at(&made.file, &made.path)?
                        {
                            made.has_moved = false;
                            return Ok(made);
                        }
                        break;
                    }
                }
            }
        }
        Err(Errno::EXIST)
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it the name `target`, in place of what has it; it stays open.
    ///
    /// # Errors
    /// As `rename(2)`, and as `fcntl(2)`.
    pub(crate) fn rename(mut self, target: &Path) -> io::Result<File> {
        let file = self.file.try_clone()?;
        fs::rename(&self.path, target)?;
        self.has_moved = true;
        Ok(file)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // error: what may be another process's stays, and goes with the next run if it is not
        if self.has_moved || !is_at(&self.file, &self.path).unwrap_or(false) {
            return;
        }
        #[expect(clippy::let_underscore_must_use, reason = "what cannot go now goes with the next run")]
        let _ = if self.is_directory { fs::remove_dir_all(&self.path) } else { fs::remove_file(&self.path) };
    }
}

/// Gives a file without a name the name `to`, which must be free.
pub(crate) fn link(file: &File, to: &Path) -> Result<()> {
    use std::os::fd::AsRawFd as _;
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    call::linkat(CWD, &from, CWD, to, AtFlags::SYMLINK_FOLLOW)
}

/// Makes the name `target` of the open `file` durable.
///
/// # Errors
/// As `fsync(2)`.
pub(crate) fn flush_name(file: &File, target: &Path) -> Result<()> {
    let dir = target.parent().filter(|dir| *dir != Path::new("")).unwrap_or(Path::new("."));
    match call::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        // A directory that may be written to and not read cannot be opened to be flushed.
        Err(Errno::ACCESS) => call::syncfs(file),
        opened => match call::fsync(opened?) {
            // A directory of a file system that has nothing to flush.
            Err(Errno::INVAL) => Ok(()),
            flushed => flushed,
        },
    }
}

fn name(target: &Path, number: u32) -> PathBuf {
    let own = target.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let own = own.get(..LONGEST).unwrap_or(own);
    let name = [b".", own, format!(".layerctl-{number}").as_bytes()].concat();
    target.with_file_name(std::ffi::OsStr::from_bytes(&name))
}

/// Whether the name `path` is that of this file.
fn is_at(file: &File, path: &Path) -> Result<bool> {
    let mine = call::fstat(file)?;
    match call::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(false),
        there => there.map(|there| (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)),
    }
}

/// Removes what a killed process of this user has left at `path`, and says whether the name is free.
fn remove_left(path: &Path) -> Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let left = match call::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(true),
        // A link, a socket, or another user's: none of ours.
        Err(Errno::LOOP | Errno::NXIO | Errno::ACCESS | Errno::PERM) => return Ok(false),
        left => File::from(left?),
    };
    let stat = call::fstat(&left)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_ours = stat.st_uid == geteuid().as_raw()
        && (kind == FileType::Directory || kind == FileType::RegularFile && stat.st_nlink == 1);
    if !is_ours {
        return Ok(false);
    }
    // A living process has it; or it cannot be known whether one does (NFSv4 locks nothing that is open for reading).
    match call::flock(&left, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        // error: the next number is as good
        Err(_) => return Ok(false),
    }
    // It may have been renamed to its target since it was opened, and the name be another process's.
    if !is_at(&left, path)? {
        return Ok(false);
    }
    let removed = if kind == FileType::Directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_dead_process_has_left_is_removed_and_what_a_living_one_has_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let first = Temporary::file(&target).unwrap();
        let second = Temporary::directory(&target).unwrap();
        assert_eq!(names(dir.path()), [".out.layerctl-0", ".out.layerctl-1"]);
        // As a kill leaves them: there, and without a lock.
        std::fs::write(second.path().join("part"), "x").unwrap();
        let left = [first.path().to_owned(), second.path().to_owned()];
        drop((first, second));
        std::fs::write(&left[0], "part").unwrap();
        std::fs::create_dir(&left[1]).unwrap();
        std::fs::write(left[1].join("part"), "part").unwrap();
        let (first, second) = (Temporary::file(&target).unwrap(), Temporary::file(&target).unwrap());
        assert_eq!([first.path(), second.path()], [left[0].as_path(), left[1].as_path()]);
        first.rename(&target).unwrap();
        drop(second);
        assert_eq!(names(dir.path()), ["out"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"");
    }

    #[test]
    fn who_loses_a_name_to_another_process_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("out");
        let made = Temporary::new(&target, false, &|path| {
            let made = File::options().write(true).create_new(true).open(path).unwrap();
            if path == name(&target, 0) {
                // The other one takes it for a dead one's, and makes its own.
                std::fs::remove_file(path).unwrap();
                std::fs::write(path, "another's").unwrap();
            }
            Ok(made)
        });
        assert_eq!(made.unwrap().path(), name(&target, 1));
        assert_eq!(std::fs::read(name(&target, 0)).unwrap(), b"another's");
    }

    #[test]
    fn a_file_that_only_looks_like_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x".repeat(255));
        std::fs::write(dir.path().join("own"), "mine").unwrap();
        std::fs::hard_link(dir.path().join("own"), name(&target, 0)).unwrap();
        std::os::unix::fs::symlink("own", name(&target, 1)).unwrap();
        let made = Temporary::file(&target).unwrap();
        assert_eq!(made.path(), name(&target, 2));
        drop(made);
        assert_eq!(std::fs::read(dir.path().join("own")).unwrap(), b"mine");
        assert_eq!(names(dir.path()).len(), 3);
    }
}
