//! The store of an ordinary user: whatever modes an image has, they are shown, and its owner can use the files on disk.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::generator::sha256;
use super::hostile_tar::{Raw, field};
use super::mounts::Mounts;
use super::store_old::{AsUser, USER};

const MODES: [(&str, &[u8], u32); 8] = [
    (".", b"0000555\0", 0o555),
    ("read-only", b"0000555\0", 0o555),
    ("blind", b"0000311\0", 0o311),
    ("closed", b"0000000\0", 0),
    ("sticky", b"0001777\0", 0o1777),
    ("secret", b"0000000\0", 0),
    ("setuid", b"0004111\0", 0o4111),
    ("listed", b"0000640\0", 0o640),
];

fn is_directory(name: &str) -> bool {
    !["secret", "setuid", "listed"].contains(&name)
}

/// A layer whose modes forbid much.
fn layer() -> Vec<u8> {
    let mut tar = Raw::new();
    for (name, mode, _) in MODES {
        let over = [(field::MODE, mode)];
        if is_directory(name) {
            tar = tar.header(b'5', name.as_bytes(), b"", 0, &over);
            tar = tar.header(b'0', format!("{name}/file").as_bytes(), b"", 4, &over).data(b"file");
            tar = tar.header(b'5', format!("{name}/below").as_bytes(), b"", 0, &over);
            tar = tar.file(&format!("{name}/below/deep"), b"deep");
        } else {
            if name == "listed" {
                // An access list that gives its owner nothing.
                tar = tar.pax(&[("SCHILY.acl.access", b"user::---\nuser:7:r--\ngroup::r--\nmask::r--\nother::---\n")]);
            }
            tar = tar.header(b'0', name.as_bytes(), b"", 4, &over).data(b"file");
        }
    }
    tar.file("twice", b"1").header(b'0', b"twice", b"", 1, &[(field::MODE, b"0000000\0")]).data(b"2").end()
}

fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            found.extend(below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn filled() -> (AsUser, PathBuf) {
    let user = AsUser::new();
    let tar = user.mounts.at("layer.tar");
    fs::write(&tar, layer()).unwrap();
    fs::set_permissions(&tar, fs::Permissions::from_mode(0o644)).unwrap();
    user.run(&["build", "-t", "modes:1", "../layer.tar"]).ok();
    let diff = user.root().join("diff").join(sha256(&layer()));
    (user, diff)
}

#[test]
fn each_command_works_in_the_store_of_a_user() {
    let (user, diff) = filled();
    let meta = fs::read_to_string(user.root().join("meta.json")).unwrap();
    assert!(meta.contains("\"layer-modes\""), "{meta}");
    for path in below(&diff) {
        let stat = path.symlink_metadata().unwrap();
        let wanted = if stat.is_dir() { 0o700 } else { 0o600 };
        assert_eq!((stat.uid(), stat.mode() & wanted, stat.mode() & 0o7000), (USER, wanted, 0), "{}", path.display());
    }
    user.run(&["verify"]).ok();
    user.run(&["df", "-v"]).ok();
    user.run(&["save", "modes:1", "--oci", "--compress", "none", "-o", "saved"]).ok();
    let (saved, tar) = (fs::read(user.mounts.at("home/saved")).unwrap(), layer());
    assert!(saved.windows(tar.len()).any(|window| window == tar), "the tar is not the same");
    user.run(&["export", "modes:1", "-o", "exported.tar"]).ok();
    let exported = fs::read(user.mounts.at("home/exported.tar")).unwrap();
    let modes: Vec<_> = tar::Archive::new(&*exported)
        .entries()
        .unwrap()
        .map(|entry| entry.map(|entry| (entry.path().unwrap().into_owned(), entry.header().mode().unwrap())).unwrap())
        .collect();
    for (name, _, mode) in MODES.iter().filter(|(name, ..)| *name != "listed") {
        let path = Path::new(name);
        assert!(modes.iter().any(|one| *one == (path.to_owned(), *mode)), "{name} is not in {modes:?}");
    }
    user.run(&["prune", "--all"]).ok();
    assert_eq!((user.names("diff"), user.names("layers"), user.names("tmp")), (0, 0, 0));
}

#[test]
fn a_changed_mode_is_found_and_mended() {
    let (user, diff) = filled();
    let mode = |name: &str| diff.join(name).symlink_metadata().unwrap().mode() & 0o7777;
    for (name, bad, good) in [("secret", 0o644, 0o600), ("setuid", 0o4711, 0o711), ("sticky", 0o755, 0o777)] {
        assert_eq!(mode(name), good, "{name}");
        fs::set_permissions(diff.join(name), fs::Permissions::from_mode(bad)).unwrap();
        let found = user.run(&["verify"]);
        assert_eq!((found.code, found.out.lines().any(|line| line.contains(name))), (3, true), "{found:?}");
        assert!(found.out.contains(&format!("{bad:o} and not {good:o}")), "{found:?}");
        assert_eq!(user.run(&["verify", "--repair"]).code, 0);
        assert_eq!(mode(name), good, "{name}");
    }
    // Content comes from the archive, with modes as they are to be.
    fs::write(diff.join("closed/below/deep"), "damaged").unwrap();
    fs::remove_file(diff.join("secret")).unwrap();
    assert_eq!(user.run(&["verify", "--repair", "--from", "../layer.tar"]).code, 0);
    assert_eq!((mode("secret"), fs::read(diff.join("closed/below/deep")).unwrap()), (0o600, b"deep".to_vec()));
    user.run(&["verify"]).ok();
}

#[test]
fn a_mount_shows_the_modes_of_the_image() {
    let (user, _) = filled();
    // Root may use a user's store that it names.
    let root = user.root();
    let mounts = &user.mounts;
    let run = |words: &[&str]| mounts.run(&[&["--root", root.to_str().unwrap()], words].concat());
    let out = run(&["run-mount", "--name", "box", "modes:1"]).ok();
    let at = PathBuf::from(out.split_whitespace().nth(1).unwrap());
    for (name, _, mode) in MODES {
        let shown = at.join(name).symlink_metadata().unwrap();
        assert_eq!(shown.mode() & 0o7777, mode, "{name}");
    }
    assert_eq!(fs::read_to_string(at.join("twice")).unwrap(), "2");
    // A copy of a file has the mode that it shows.
    fs::write(at.join("setuid"), "changed").unwrap();
    std::os::unix::fs::chown(at.join("closed"), Some(7), Some(7)).unwrap();
    assert_eq!(at.join("closed").metadata().unwrap().mode() & 0o7777, 0);
    run(&["umount", "box"]).ok();
}

#[test]
fn a_store_of_root_is_as_it_was() {
    let mounts = Mounts::new();
    fs::write(mounts.at("layer.tar"), layer()).unwrap();
    mounts.run(&["build", "-t", "modes:1", "layer.tar"]).ok();
    assert!(!mounts.read("store/meta.json").contains("layer-modes"));
    let diff = mounts.at("store/diff").join(sha256(&layer()));
    for (name, _, mode) in MODES.iter().filter(|(name, ..)| *name != "listed") {
        assert_eq!(diff.join(name).metadata().unwrap().mode() & 0o7777, *mode, "{name}");
    }
    mounts.run(&["verify"]).ok();
    // A feature that is not known is named.
    let meta = mounts.read("store/meta.json").replace("\"incompatible\": []", "\"incompatible\": [\"layer-moods\"]");
    mounts.write("store/meta.json", &meta);
    mounts.run(&["images"]).fails(125, &["this store needs layer-moods, which is not known here"]);
}
