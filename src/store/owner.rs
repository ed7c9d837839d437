//! Which user may own a store: it has set-user-id programs, and a user that can write to it is root in its containers.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::error::{Context as _, Error, Result};
use crate::sys::fs;

/// Others than the owner may write.
const OTHERS_WRITE: u32 = 0o022;

/// Where the store is when none is named: `/var/lib/layerctl` for root, and `$XDG_DATA_HOME/layerctl` or
/// `$HOME/.local/share/layerctl` otherwise (XDG Base Directory Specification).
pub(super) fn default_root() -> Result<PathBuf> {
    if geteuid().is_root() {
        return Ok("/var/lib/layerctl".into());
    }
    let given = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = given("XDG_DATA_HOME").or_else(|| given("HOME").map(|home| home.join(".local/share")));
    let missing = || "HOME is not set to an absolute path, so there is no place for a store: set HOME, or name the store with --root";
    data.map(|data| data.join("layerctl")).ok_or_else(|| Error::Usage(missing().into()))
}

/// Refuses the store at `root` when its owner is neither the caller nor root, or when others may write to it. Root may
/// use any user's that is named.
pub(super) fn check(root: &Path) -> Result<()> {
    let there = fs::metadata(root).doing("open", root)?;
    let (caller, shown) = (geteuid().as_raw(), root.display());
    if there.uid() != 0 && caller != 0 && there.uid() != caller {
        return Err(Error::Unsupported(format!(
            "{shown}: this store belongs to user {}: only that user and root can use it",
            there.uid()
        )));
    }
    if there.mode() & OTHERS_WRITE != 0 {
        return Err(Error::Unsupported(format!(
            "{shown}: others may write to this directory (mode {:04o}): no store is used there before `chmod go-w {shown}`",
            there.mode() & 0o7777
        )));
    }
    Ok(())
}

/// Refuses another user's store, if the process runs as root and `--root` does not name the store.
pub(super) fn check_default(root: &Path) -> Result<()> {
    match fs::absent(fs::metadata(root)).doing("open", root)? {
        Some(there) if geteuid().is_root() && there.uid() != 0 => Err(Error::Unsupported(format!(
            "{}: this store belongs to user {}: name it with --root to use it as root",
            root.display(),
            there.uid()
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_store_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let set_mode = |mode| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        for (mode, is_right) in [(0o700, true), (0o755, true), (0o775, false), (0o757, false), (0o1777, false)] {
            set_mode(mode);
            assert_eq!(check(dir.path()).is_ok(), is_right, "{mode:o}");
        }
        set_mode(0o755);
        assert!(check(&dir.path().join("none")).is_err() && check_default(&dir.path().join("none")).is_ok());
        if geteuid().is_root() {
            std::os::unix::fs::chown(dir.path(), Some(65534), None).unwrap();
            assert!(check(dir.path()).is_ok(), "root has named it");
            let error = check_default(dir.path()).unwrap_err().to_string();
            assert!(error.contains("user 65534") && error.contains("--root"), "{error}");
        }
    }
}
