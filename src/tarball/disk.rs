//! System calls on a layer's directory, none of which follows a link.

use std::borrow::Cow;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::{Errno, Result};

use super::{BLOCK, Modes};
use crate::index::{Kind, Meta, Xattrs};
use crate::sys::call;
use crate::{private_xattr, sys};

/// Descriptors that are kept open: at most so many, whatever the depth of the tree.
const OPEN: usize = 16;
/// What of a file's content is left out when it is all zero.
const HOLE: usize = 4096;
/// `XATTR_NAME_MAX` (linux/limits.h).
const XATTR_NAME_MAX: usize = 255;
/// Labels of the machine are not the tar's: they are in the index, and not on disk.
const LABELS: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// Whether an attribute is a label: what a machine's policy says of its files, and nothing of their content.
#[must_use]
pub fn is_label(name: &[u8]) -> bool {
    LABELS.iter().any(|prefix| name.starts_with(prefix))
}

/// The name on disk of an attribute of the index: one that some union would take for its own mark is escaped. `None`
/// when it is not to be there.
pub(super) fn on_disk(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    Some(private_xattr::escape(name))
        .filter(|on_disk| !is_label(name) && !on_disk.contains(&0) && on_disk.len() <= XATTR_NAME_MAX)
}

/// Opens directories by their components, with the last ones kept open: entries come in order.
pub(super) struct Walk {
    root: Rc<OwnedFd>,
    names: Vec<Vec<u8>>,
    /// Directories of the current path, by their depth.
    open: Vec<(usize, Rc<OwnedFd>)>,
}

impl Walk {
    pub(super) fn new(root: BorrowedFd<'_>) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = Rc::new(call::openat(root, ".", flags, Mode::empty())?);
        Ok(Self { root, names: Vec::new(), open: Vec::new() })
    }

    /// Must be called before a directory is moved or removed.
    pub(super) fn forget(&mut self) {
        self.names.clear();
        self.open.clear();
    }

    /// The directory at these components.
    pub(super) fn open(&mut self, dirs: &[&[u8]]) -> Result<Rc<OwnedFd>> {
        let common = self.names.iter().zip(dirs).take_while(|(known, wanted)| known == *wanted).count();
        self.names.truncate(common);
        while self.open.last().is_some_and(|(depth, _)| *depth > common) {
            self.open.pop();
        }
        let (depth, mut dir) = self.open.last().cloned().unwrap_or_else(|| (0, Rc::clone(&self.root)));
        for (below, name) in dirs.iter().enumerate().skip(depth) {
            dir = Rc::new(open_directory(&dir, name)?);
            self.names.truncate(below);
            self.names.push(name.to_vec());
            if self.open.len() >= OPEN {
                self.open.remove(OPEN / 2);
            }
            self.open.push((below.saturating_add(1), Rc::clone(&dir)));
        }
        Ok(dir)
    }
}

pub(super) fn open_directory(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    sys::open_in(dir, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
}

/// Makes an empty regular file that only its owner can open.
pub(super) fn create(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd> {
    sys::open_in(dir, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)
}

/// Writes `bytes` at `offset`, and leaves out what is zero. Gives the end of what was written, and how much it was;
/// without a file, of what would have been.
pub(super) fn write_data(file: Option<&OwnedFd>, offset: u64, bytes: &[u8]) -> Result<(Option<u64>, u64)> {
    let zeros = [0; HOLE];
    let (mut at, mut rest) = (offset, bytes);
    let (mut end, mut written) = (None, 0u64);
    while !rest.is_empty() {
        // Runs of data, and of zeros, in pieces that end where the file's blocks do.
        let (mut data, mut length) = (None, 0usize);
        while length < rest.len() {
            let position = at.wrapping_add(length as u64) % HOLE as u64;
            let left = rest.get(length..).unwrap_or_default();
            let piece = left.get(..HOLE.saturating_sub(position as usize)).unwrap_or(left);
            let is_data = Some(piece) != zeros.get(..piece.len());
            if *data.get_or_insert(is_data) != is_data {
                break;
            }
            length = length.saturating_add(piece.len());
        }
        let (run, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if data == Some(true) {
            file.map_or(Ok(()), |file| write_all(file, at, run))?;
            written = written.saturating_add(run.len() as u64);
            end = at.checked_add(run.len() as u64);
        }
        at = at.saturating_add(run.len() as u64);
        rest = after;
    }
    Ok((end, written))
}

fn write_all(file: &OwnedFd, mut at: u64, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match call::pwrite(file, bytes, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                at = at.saturating_add(count as u64);
                bytes = bytes.get(count..).unwrap_or_default();
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a file that is neither regular nor a directory nor a link. Where that is forbidden an empty
/// regular file takes its place, as it does for the device 0:0, which overlayfs takes for a whiteout.
pub(super) fn make_special(dir: &OwnedFd, name: &[u8], meta: &Meta) -> Result<()> {
    let (kind, (major, minor)) = (rustix::fs::FileType::from_raw_mode(meta.kind.mode_bits()), meta.rdev);
    if meta.kind != Kind::CharDevice || meta.rdev != (0, 0) {
        match call::mknodat(dir, name, kind, Mode::RUSR | Mode::WUSR, rustix::fs::makedev(major, minor)) {
            Err(Errno::PERM) => {}
            result => return result,
        }
    }
    create(dir, name).map(drop)
}

fn owner(meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw_unchecked(meta.uid)), Some(Gid::from_raw_unchecked(meta.gid)))
}

fn times(meta: &Meta) -> Timestamps {
    let time = Timespec { tv_sec: meta.mtime.sec, tv_nsec: meta.mtime.nsec.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// The mode to set once the owner was. Without the owner the suid bits would be ours to give, and not theirs.
fn mode(meta: &Meta, owned: Result<()>, modes: Modes) -> Result<Mode> {
    let mode = modes.on_disk(meta.kind, meta.mode);
    match owned {
        Ok(()) => Ok(Mode::from_raw_mode(mode)),
        Err(Errno::PERM) => Ok(Mode::from_raw_mode(mode & 0o1777)),
        Err(error) => Err(error),
    }
}

fn set_xattrs(xattrs: &Xattrs, mut set: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    for (name, value) in xattrs {
        let Some(name) = on_disk(name) else { continue };
        match set(&name, value) {
            // The file system or our rights do not do: the index has them all the same. ext4 says NOSPC
            // of attributes that are too large for it.
            Err(
                Errno::NOTSUP
                | Errno::PERM
                | Errno::ACCESS
                | Errno::INVAL
                | Errno::NOSPC
                | Errno::TOOBIG
                | Errno::RANGE,
            )
            | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an access list among the attributes may take from the owner what the modes on disk are to give.
fn changes_mode(xattrs: &Xattrs, modes: Modes) -> bool {
    modes == Modes::Usable && xattrs.iter().any(|(name, _)| name == b"system.posix_acl_access")
}

/// Sets owner, mode, attributes and times of an open file or directory.
pub(super) fn describe(file: &OwnedFd, meta: &Meta, xattrs: &Xattrs, modes: Modes) -> Result<()> {
    let (uid, gid) = owner(meta);
    let mode = mode(meta, call::fchown(file, uid, gid), modes)?;
    call::fchmod(file, mode)?;
    set_xattrs(xattrs, |name, value| call::fsetxattr(file, name, value, XattrFlags::empty()))?;
    if changes_mode(xattrs, modes) {
        call::fchmod(file, mode)?;
    }
    call::futimens(file, &times(meta))
}

/// Sets the same of a link or special file, which cannot be opened.
pub(super) fn describe_at(dir: &OwnedFd, name: &[u8], meta: &Meta, xattrs: &Xattrs, modes: Modes) -> Result<()> {
    let (uid, gid) = owner(meta);
    let mode = mode(meta, call::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW), modes)?;
    let chmod = || {
        let file = sys::open_in(dir, name, OFlags::PATH, Mode::empty())?;
        call::chmod(&format!("/proc/self/fd/{}", file.as_raw_fd()), mode)
    };
    if meta.kind != Kind::Symlink {
        chmod()?;
    }
    let path = sys::proc_path(dir.as_fd(), name);
    set_xattrs(xattrs, |name, value| call::lsetxattr(&*path, name, value, XattrFlags::empty()))?;
    if meta.kind != Kind::Symlink && changes_mode(xattrs, modes) {
        chmod()?;
    }
    call::utimensat(dir, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW)
}

/// How many 512-byte blocks hold `bytes`.
pub(super) const fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_finds_the_same_directories_as_a_fresh_one() {
        let dir = tempfile::TempDir::new().unwrap();
        let deep: Vec<&[u8]> = (0..40).map(|depth| if depth % 2 == 0 { &b"a"[..] } else { b"b" }).collect();
        let path = |parts: &[&[u8]]| dir.path().join(String::from_utf8(parts.join(&b'/')).unwrap());
        std::fs::create_dir_all(path(&deep)).unwrap();
        for depth in 0..40 {
            std::fs::create_dir_all(path(&[&deep[..depth], &[b"c", b"a", b"b"]].concat())).unwrap();
        }
        let root = std::fs::File::open(dir.path()).unwrap();
        let mut walk = Walk::new(root.as_fd()).unwrap();
        for step in 0..400 {
            let depth = step * 17 % 41;
            let branch: &[&[u8]] = if depth < 40 && step % 3 == 0 { &[b"c", b"a", b"b"] } else { &[] };
            let parts = [&deep[..depth], branch].concat();
            let fresh = Walk::new(root.as_fd()).unwrap().open(&parts).unwrap();
            let found = walk.open(&parts).unwrap();
            let inode = |dir: &OwnedFd| rustix::fs::fstat(dir).unwrap().st_ino;
            assert_eq!(inode(&found), inode(&fresh), "{parts:?}");
            assert!(walk.open.len() <= OPEN);
        }
        std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
        assert!(walk.open(&[b"link", b"b"]).is_err());
    }

    #[test]
    fn only_what_is_not_zero_is_written() {
        let dir = tempfile::TempDir::new().unwrap();
        let root = OwnedFd::from(std::fs::File::open(dir.path()).unwrap());
        let file = create(&root, b"f").unwrap();
        let mut content = vec![0; 30_000];
        content[9000] = 1;
        content[29_999] = 2;
        // From 1000 on, so that no piece begins at a block.
        assert_eq!(write_data(Some(&file), 1000, &content).unwrap(), (Some(31_000), 4096 + 31_000 - 28_672));
        assert_eq!(std::fs::read(dir.path().join("f")).unwrap(), [&[0; 1000][..], &content].concat());
        assert_eq!(write_data(Some(&file), 0, &[0; 5000]).unwrap(), (None, 0));
        assert_eq!(write_data(Some(&file), 0, &[]).unwrap(), (None, 0));
    }
}
