//! Stores that an earlier version has made, as they are in `fixtures/`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::mounts::{Mounts, PROGRAM, Said, said};

/// The user that has made the user's store, and runs the program here.
pub(crate) const USER: u32 = 65534;

/// Puts a store of `fixtures/` into a directory, with its owners, modes and attributes.
fn unpack(fixture: &str, into: &Path) {
    let packed = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture)).unwrap();
    let tar = into.with_extension("tar");
    fs::write(&tar, zstd::decode_all(&*packed).unwrap()).unwrap();
    fs::create_dir_all(into).unwrap();
    let mut command = Command::new("tar");
    command.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"]).arg(&tar).arg("-C").arg(into);
    assert_eq!(said(&mut command).code, 0);
    fs::remove_file(tar).unwrap();
}

/// The program as an ordinary user, in a directory that it can reach.
pub(crate) struct AsUser {
    pub(crate) mounts: Mounts,
    program: PathBuf,
}

impl AsUser {
    pub(crate) fn new() -> Self {
        let mounts = Mounts::new();
        fs::set_permissions(mounts.at(""), fs::Permissions::from_mode(0o755)).unwrap();
        let program = mounts.at("layerctl");
        fs::copy(PROGRAM, &program).unwrap();
        let home = mounts.mkdir("home");
        std::os::unix::fs::chown(&home, Some(USER), Some(USER)).unwrap();
        Self { mounts, program }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.mounts.at("home/store")
    }

    pub(crate) fn run(&self, words: &[&str]) -> Said {
        let mut command = self.mounts.command("setpriv");
        command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]).arg(&self.program);
        said(command.current_dir(self.mounts.at("home")).arg("--root").arg(self.root()).args(words))
    }

    /// What is in a directory of the store.
    pub(crate) fn names(&self, dir: &str) -> usize {
        fs::read_dir(self.root().join(dir)).unwrap().count()
    }
}

#[test]
fn a_store_of_an_earlier_version_is_opened_verified_and_mounted() {
    let mounts = Mounts::new();
    unpack("store-1.tar.zst", &mounts.at("store"));
    mounts.run(&["verify"]).ok();
    assert!(mounts.run(&["images"]).ok().contains("old"));
    let again = mounts.mount(&["--name", "box"]);
    assert!(again.mountpoint.starts_with(mounts.at("store")), "{again:?}");
    let read = |path: &str| fs::read_to_string(again.mountpoint.join(path)).unwrap();
    assert_eq!((read("top"), read("new/file"), read("twice")), ("changed\n".into(), "n\n".into(), "second\n".into()));
    assert!(!again.mountpoint.join("hard").exists() && !again.mountpoint.join("open/file").exists());
    mounts.umount("box");
    let new = mounts.mount(&["old:1"]);
    assert_eq!(new.mountpoint.join("closed").metadata().unwrap().mode() & 0o7777, 0);
    assert_eq!(fs::read_to_string(new.mountpoint.join("closed/below/deep")).unwrap(), "deep\n");
    mounts.umount(&new.id);
    mounts.run(&["commit", "box", "new:1"]).ok();
    mounts.run(&["rm", "box", &new.id]).ok();
    mounts.run(&["rmi", "old:1", "new:1"]).ok();
    assert_eq!(fs::read_dir(mounts.at("store/diff")).unwrap().count(), 0);
}

#[test]
fn a_user_can_remove_what_an_earlier_version_has_made() {
    for words in [&["rmi", "old:1"][..], &["prune", "--all"]] {
        let user = AsUser::new();
        unpack("store-1-user.tar.zst", &user.root());
        assert_eq!(user.names("diff"), 2);
        assert_eq!(user.run(words).code, 0, "{words:?}");
        assert_eq!((user.names("diff"), user.names("layers"), user.names("tmp")), (0, 0, 0), "{words:?}");
    }
}

#[test]
fn what_cannot_be_removed_is_reported_and_the_rest_goes() {
    for words in [&["rmi", "old:1"][..], &["prune", "--all"]] {
        let user = AsUser::new();
        unpack("store-1-user.tar.zst", &user.root());
        // Another user's directory, which is not empty.
        let diff = user.root().join("diff");
        let with_open = fs::read_dir(&diff).unwrap().map(|entry| entry.unwrap().path());
        let layer = with_open.into_iter().find(|dir| dir.join("closed").exists()).unwrap();
        for others in ["closed/below/others", "open/others"] {
            fs::create_dir_all(layer.join(others).join("full")).unwrap();
            fs::set_permissions(layer.join(others), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let failed = user.run(words);
        assert_eq!(failed.code, 125, "{failed:?}");
        assert!(failed.err.contains("others/full: Permission denied"), "{failed:?}");
        assert!(failed.err.contains("neither can 1 more"), "{failed:?}");
        assert!(failed.out.contains("eleted"), "{failed:?}");
        // All else is gone, and the next command says it again.
        let tmp = user.root().join("tmp");
        assert_eq!((user.names("diff"), user.names("layers"), user.names("tmp")), (0, 0, 1));
        let mut left = Command::new("find");
        let left = said(left.arg(&tmp).args(["-type", "f", "-not", "-name", "owner"])).out;
        assert_eq!(left, "", "{words:?}");
        assert_eq!(user.run(&["prune"]).code, 125);
        assert_eq!(user.run(&["images"]).code, 0);
        fs::remove_dir_all(&tmp).unwrap();
    }
}
