//! The functions of [`std::fs`] that do not make an interrupted call again by themselves, under their names, with
//! [`retry()`]. clippy refuses the originals outside of `sys` (`clippy.toml`).
//!
//! `read`, `write`, `File::open`, `sync_all` and `set_len` of the standard library repeat `EINTR` themselves.
#![allow(clippy::disallowed_methods, reason = "these are the wrappers that are used in their place")]
#![allow(clippy::missing_errors_doc, reason = "those of the standard library's functions of the same names")]

use std::fs::{DirBuilder, File, Metadata};
use std::io::{ErrorKind, Result, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::retry;

/// As [`std::fs::metadata`].
pub fn metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    retry(|| std::fs::metadata(&path))
}

/// As [`std::fs::symlink_metadata`].
pub fn symlink_metadata(path: impl AsRef<Path>) -> Result<Metadata> {
    retry(|| std::fs::symlink_metadata(&path))
}

/// As [`File::metadata`].
pub fn metadata_of(file: &File) -> Result<Metadata> {
    retry(|| file.metadata())
}

/// What stands at `path`, a link as itself; `None` when nothing does.
///
/// In place of [`Path::exists`], for which a path that cannot be looked at is one that is not there.
pub fn found(path: impl AsRef<Path>) -> Result<Option<Metadata>> {
    absent(symlink_metadata(path))
}

/// Whether something stands at `path`, also a link that leads nowhere.
pub fn is_there(path: impl AsRef<Path>) -> Result<bool> {
    Ok(found(path)?.is_some())
}

/// Makes `NotFound` the answer `None`; every other error stays one.
pub fn absent<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`std::fs::read_link`].
pub fn read_link(path: impl AsRef<Path>) -> Result<PathBuf> {
    retry(|| std::fs::read_link(&path))
}

/// As [`std::fs::canonicalize`].
pub fn canonicalize(path: impl AsRef<Path>) -> Result<PathBuf> {
    retry(|| std::fs::canonicalize(&path))
}

/// As [`std::fs::create_dir`], with the mode 0755 at most: a mount's server has no umask.
pub fn create_dir(path: impl AsRef<Path>) -> Result<()> {
    retry(|| DirBuilder::new().mode(0o755).create(&path))
}

/// As [`std::fs::create_dir_all`], with the mode of [`create_dir`].
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<()> {
    retry(|| DirBuilder::new().recursive(true).mode(0o755).create(&path))
}

/// As [`File::create`], with the mode 0644 at most.
pub fn create(path: impl AsRef<Path>) -> Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o644).open(path)
}

/// As [`File::create_new`], with the mode 0644 at most.
pub fn create_new(path: impl AsRef<Path>) -> Result<File> {
    File::options().read(true).write(true).create_new(true).mode(0o644).open(path)
}

/// As [`std::fs::write`], with the mode 0644 at most.
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
    create(path)?.write_all(content.as_ref())
}

/// As [`std::fs::hard_link`].
pub fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> Result<()> {
    retry(|| std::fs::hard_link(&original, &link))
}

/// As [`std::os::unix::fs::symlink`].
pub fn symlink(target: impl AsRef<Path>, link: impl AsRef<Path>) -> Result<()> {
    retry(|| std::os::unix::fs::symlink(&target, &link))
}

/// As [`std::fs::rename`].
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
    retry(|| std::fs::rename(&from, &to))
}

/// As [`std::fs::remove_file`].
pub fn remove_file(path: impl AsRef<Path>) -> Result<()> {
    retry(|| std::fs::remove_file(&path))
}

/// As [`std::fs::remove_dir`].
pub fn remove_dir(path: impl AsRef<Path>) -> Result<()> {
    retry(|| std::fs::remove_dir(&path))
}

/// As [`std::fs::remove_dir_all`].
pub fn remove_dir_all(path: impl AsRef<Path>) -> Result<()> {
    retry(|| std::fs::remove_dir_all(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), b"").unwrap();
        symlink("nowhere", dir.path().join("link")).unwrap();
        for (name, there) in [("file", true), ("link", true), ("none", false), ("none/below", false)] {
            assert_eq!(is_there(dir.path().join(name)).unwrap(), there, "{name}");
        }
        assert_eq!(is_there(dir.path().join("file/below")).unwrap_err().raw_os_error(), Some(libc::ENOTDIR));
        assert_eq!(is_there(dir.path().join("x".repeat(300))).unwrap_err().raw_os_error(), Some(libc::ENAMETOOLONG));
    }
}
