//! Whose a store is, and that nothing in it can be written by others.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::mounts::{Mounts, PROGRAM, said};
use super::root_fs::plain;

/// All below `dir`, without what is in layers: their modes are those of their tars.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let is_directory = path.symlink_metadata().unwrap().is_dir();
        if is_directory && !path.parent().is_some_and(|parent| parent.ends_with("diff") || parent.ends_with("mnt")) {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn others_can_write_to_nothing_that_the_store_makes() {
    let mounts = Mounts::new();
    let image = mounts.import("image", &plain());
    mounts.mount(&["--name", "live", &image]);
    mounts.mount(&["--name", "ended", &image]);
    mounts.umount("ended");
    mounts.run(&["commit", "live", "made"]).ok();
    let all = below(&mounts.at("store"));
    assert!(all.iter().any(|path| path.ends_with("br0")) && all.iter().any(|path| path.ends_with("mount.json")));
    for path in all {
        let mode = path.symlink_metadata().unwrap().mode();
        // A link has no mode of its own.
        if path.is_symlink() {
            continue;
        }
        assert_eq!(mode & 0o022, 0, "{}: {mode:o}", path.display());
    }
    mounts.umount("live");
}

#[test]
fn a_store_that_others_may_write_to_is_refused() {
    let mounts = Mounts::new();
    let image = mounts.import("image", &plain());
    let store = mounts.at("store");
    for mode in [0o777, 0o770, 0o1777] {
        fs::set_permissions(&store, fs::Permissions::from_mode(mode)).unwrap();
        mounts.run(&["images"]).fails(125, &[store.to_str().unwrap(), "others may write", "chmod go-w"]);
    }
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(mounts.run(&["images", "--quiet", "--no-trunc"]).ok().trim_end(), image);
    // Root has named it.
    std::os::unix::fs::chown(&store, Some(65534), None).unwrap();
    mounts.run(&["images"]).ok();
}

#[test]
fn a_user_has_a_store_of_its_own_or_none() {
    let mounts = Mounts::new();
    fs::set_permissions(mounts.at(""), fs::Permissions::from_mode(0o755)).unwrap();
    let program = mounts.at("layerctl");
    fs::copy(PROGRAM, &program).unwrap();
    let run = |uid: u32, set: &[&str]| {
        let mut command = mounts.command("setpriv");
        command.arg(format!("--reuid={uid}")).args(["--regid=65534", "--clear-groups", "env"]);
        command.args(["-u", "HOME", "-u", "XDG_DATA_HOME", "-u", "LAYERCTL_ROOT"]).args(set);
        said(command.arg(&program).arg("images"))
    };
    run(65534, &[]).fails(2, &["HOME is not set", "--root"]);
    run(65534, &["HOME=relative"]).fails(2, &["HOME"]);
    let home = mounts.mkdir("home");
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    let home = format!("HOME={}", home.display());
    run(65534, &[&home]).ok();
    assert!(mounts.at("home/.local/share/layerctl/meta.json").exists());
    // Another user's, though it could be read.
    for dir in ["home/.local", "home/.local/share", "home/.local/share/layerctl"] {
        fs::set_permissions(mounts.at(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
    run(65533, &[&home]).fails(125, &["belongs to user 65534"]);
}
