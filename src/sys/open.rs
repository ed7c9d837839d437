//! Opens files by names from outside (a user, an archive, a program in a container) without following them elsewhere.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

use super::call;

/// How often an open is tried again that a rename elsewhere has disturbed (openat2(2), `EAGAIN`).
const TRIES: usize = 100;

fn resolve(dir: impl AsFd, path: &[u8], flags: OFlags, mode: Mode, how: ResolveFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        match call::openat2(&dir, path, flags, mode, how) {
            Err(Errno::AGAIN) => {}
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
        Err(Errno::NOSYS | Errno::PERM) => call::openat(&dir, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode),
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

/// Opens what is at `path` below `dir`, on the way to which there is no link.
///
/// # Errors
/// As `openat2(2)`: `ELOOP` for a link, `ENAMETOOLONG` for a path of more than 4095 bytes.
pub fn open_beneath(dir: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    resolve(dir, path, flags, Mode::empty(), how)
}

/// Finds what is at `path` when `root` is the root directory, without opening it (`O_PATH`): links lead where they lead there.
///
/// # Errors
/// As `openat2(2)`.
pub fn find_in_root(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd> {
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    resolve(root, path, flags | OFlags::PATH, Mode::empty(), how)
}

/// Opens the regular file at `path`; `None` when something else stands there. A link is not followed, and the open does not
/// wait for the other end of a fifo. A file that is made has the mode 0644, whatever the umask is (a mount's server has none).
///
/// # Errors
/// As `open(2)`.
pub fn open_regular(path: &Path, flags: OFlags) -> Result<Option<File>> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match call::open(path, flags, Mode::from_raw_mode(0o644)) {
        // A link, a socket, a fifo without a reader, a directory.
        Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => Ok(None),
        opened => {
            let file = opened?;
            let is_regular = FileType::from_raw_mode(call::fstat(&file)?.st_mode) == FileType::RegularFile;
            Ok(Some(file.into()).filter(|_| is_regular))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), b"x").unwrap();
        std::os::unix::fs::symlink("file", at("link")).unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), Mode::RWXU).unwrap();
        for flags in [OFlags::RDONLY, OFlags::WRONLY | OFlags::CREATE] {
            assert!(open_regular(&at("file"), flags).unwrap().is_some());
            for name in ["link", "dir", "socket", "fifo"] {
                assert!(open_regular(&at(name), flags).unwrap().is_none(), "{name}");
            }
        }
        assert_eq!(open_regular(&at("none"), OFlags::RDONLY).err(), Some(Errno::NOENT));
    }

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

    #[test]
    fn a_link_leads_where_it_does_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("root/etc")).unwrap();
        for (path, content) in [("file", "outside"), ("root/file", "inside")] {
            std::fs::write(at(path), content).unwrap();
        }
        for (link, target) in [("up", "../../file"), ("absolute", "/file"), ("out", at("file").to_str().unwrap())] {
            std::os::unix::fs::symlink(target, at("root/etc").join(link)).unwrap();
        }
        std::os::unix::fs::symlink("/proc/self/fd/0", at("root/etc/magic")).unwrap();
        let root = std::fs::File::open(at("root")).unwrap();
        for path in ["etc/up", "etc/absolute", "/etc/up", "../../file"] {
            let found = find_in_root(&root, path.as_bytes(), OFlags::empty()).unwrap();
            let content = std::fs::read(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found))).unwrap();
            assert_eq!(content, b"inside", "{path}");
        }
        for path in ["etc/out", "etc/magic"] {
            assert_eq!(find_in_root(&root, path.as_bytes(), OFlags::empty()).unwrap_err(), Errno::NOENT, "{path}");
        }
        assert_eq!(find_in_root(&root, b"file", OFlags::DIRECTORY).unwrap_err(), Errno::NOTDIR);
    }
}
