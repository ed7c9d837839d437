//! The working directory of a container's command.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, mkdir, readlink};
use rustix::io::Errno;
use rustix::process::chdir;

use crate::error::{Context as _, Result};

/// As many links as the kernel follows in a path (`MAXSYMLINKS`, include/linux/namei.h).
const LINKS_MAX: usize = 40;

/// Changes to `dir`, which is made when it is missing. To be called inside the container, where no link leads out.
///
/// # Errors
/// When something else than a directory is there, or it cannot be made.
pub(super) fn enter(dir: &[u8]) -> Result<()> {
    let path = Path::new("/").join(OsStr::from_bytes(dir));
    if chdir(&path) == Err(Errno::NOENT) {
        make(&path).doing("create the working directory", &path)?;
    }
    chdir(&path).doing("change to the working directory", &path)
}

/// Makes all directories of an absolute path that are missing. A link that leads to nothing is followed, and what it leads to
/// is made, as Docker does.
fn make(path: &Path) -> rustix::io::Result<()> {
    let mut at = PathBuf::from("/");
    let mut left = names(path);
    let mut links = 0;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        match mkdir(&next, Mode::from_raw_mode(0o755)) {
            Err(Errno::EXIST) => {}
            made => {
                made?;
                at = next;
                continue;
            }
        }
        let target = match readlink(&next, Vec::new()) {
            // No link. If it is no directory either, that is told by what comes next.
            Err(Errno::INVAL) => {
                at = next;
                continue;
            }
            target => PathBuf::from(OsString::from_vec(target?.into_bytes())),
        };
        links += 1;
        if links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        if target.is_absolute() {
            at = "/".into();
        }
        let mut all = names(&target);
        all.append(&mut left);
        left = all;
    }
    Ok(())
}

fn names(path: &Path) -> VecDeque<OsString> {
    let is_name = |component: &Component<'_>| matches!(component, Component::Normal(_) | Component::ParentDir);
    path.components().filter(is_name).map(|component| component.as_os_str().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_a_link_leads_to_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir(at("real")).unwrap();
        symlink("data/missing", at("relative")).unwrap();
        symlink(at("absolute/deep"), at("real/link")).unwrap();
        symlink("../real/link", at("real/again")).unwrap();
        symlink("loop", at("loop")).unwrap();
        fs::write(at("file"), "").unwrap();
        for (path, made) in [
            ("relative/sub", "data/missing/sub"),
            ("real/again/x/y", "absolute/deep/x/y"),
            ("real/../new/z", "new/z"),
            ("real", "real"),
        ] {
            make(&at(path)).unwrap();
            assert!(at(made).is_dir(), "{path}");
        }
        assert_eq!(make(&at("loop/x")), Err(Errno::LOOP));
        assert_eq!(make(&at("file/x")), Err(Errno::NOTDIR));
    }
}
