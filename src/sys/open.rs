//! Opening files that somebody else has named, without being led elsewhere.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// How often an open is tried again that a rename elsewhere has disturbed (openat2(2), `EAGAIN`).
const TRIES: usize = 100;

fn resolve(dir: impl AsFd, path: &[u8], flags: OFlags, mode: Mode, how: ResolveFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        match rustix::fs::openat2(&dir, path, flags, mode, how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens `name` in `dir`, where nothing but a file of this very directory will do: no link, and no mount on it.
///
/// # Errors
/// As `openat2(2)`; `EINVAL` when `name` is a path.
pub fn open_in(dir: impl AsFd, name: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    if name.contains(&b'/') || matches!(name, b"" | b"..") {
        return Err(Errno::INVAL);
    }
    match resolve(&dir, name, flags | OFlags::NOFOLLOW, mode, how) {
        // Before Linux 5.6, or in a sandbox that does not know the call: of one name this is nearly the same.
        Err(Errno::NOSYS | Errno::PERM) => {
            rustix::fs::openat(&dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)
        }
        result => result,
    }
}

/// Opens the file at `path` below `dir` for reading. Links are followed as long as they stay below `dir`.
///
/// # Errors
/// As `openat2(2)`; `EXDEV` when the path leads out of `dir`.
pub fn open_below(dir: impl AsFd, path: &[u8]) -> Result<OwnedFd> {
    // It may be a fifo, which must not block, or a terminal.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    resolve(dir, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_paths_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/f"), b"x").unwrap();
        for (link, target) in [("in", "d/f"), ("out", "/etc/passwd"), ("up", "../.."), ("dir", "d")] {
            std::os::unix::fs::symlink(target, at(link)).unwrap();
        }
        let root = std::fs::File::open(dir.path()).unwrap();
        let opened = |name: &str| open_in(&root, name.as_bytes(), OFlags::RDONLY, Mode::empty());
        assert!(opened("d").is_ok());
        for (name, errno) in [("in", Errno::LOOP), ("out", Errno::LOOP), ("d/f", Errno::INVAL), ("..", Errno::INVAL)] {
            assert_eq!(opened(name).err(), Some(errno), "{name}");
        }
        for (path, errno) in [
            ("in", None),
            ("dir/f", None),
            ("out", Some(Errno::XDEV)),
            ("up", Some(Errno::XDEV)),
            ("d/../../x", Some(Errno::XDEV)),
            ("/etc/passwd", Some(Errno::XDEV)),
        ] {
            assert_eq!(open_below(&root, path.as_bytes()).err(), errno, "{path}");
        }
    }
}
