//! What a tar has of the marks by which unions know their own files is data, everywhere: never a mark.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, lsetxattr};

use super::generator::{Image, docker_since_25, sha256};
use super::hostile_tar::Raw;
use super::listing::xattrs;
use super::mounts::{Mounts, said};

/// Marks of all unions, with values that would do harm.
const MARKS: [(&str, &str); 13] = [
    ("trusted.overlay.opaque", "y"),
    ("trusted.overlay.redirect", "/secret"),
    ("trusted.overlay.metacopy", ""),
    ("trusted.overlay.whiteout", "y"),
    ("trusted.overlay.overlay.opaque", "y"),
    ("trusted.layerctl.origin", "0.0000000000000000.0"),
    ("trusted.layerctl.metacopy", "y"),
    ("trusted.layerctl.discard", "y"),
    ("trusted.layerctl.escaped.trusted.layerctl.origin", "0.0000000000000000.0"),
    ("user.overlay.opaque", "y"),
    ("user.fuseoverlayfs.opaque", "y"),
    ("user.containers.override_stat", "0:0:04777:file"),
    ("user.layerctl.origin", "0.0000000000000000.0"),
];

/// Entries that all have the marks, over a layer with what they would hide or show.
fn image() -> Image {
    let zeros = |raw: Raw| raw.device("zero", 0, 0).device("dir/below2", 0, 0);
    image_with(zeros)
}

fn image_with(zeros: impl FnOnce(Raw) -> Raw) -> Image {
    let base = Raw::new().dir("dir").file("dir/below", b"below").dir("secret").file("secret/key", b"key");
    let keys = MARKS.map(|(name, _)| format!("SCHILY.xattr.{name}"));
    let records: Vec<(&str, &[u8])> =
        keys.iter().zip(MARKS).map(|(key, (_, value))| (key.as_str(), value.as_bytes())).collect();
    // Users' attributes are only on files and directories; a link can have root's.
    let roots: Vec<(&str, &[u8])> =
        records.iter().filter(|(key, _)| key.starts_with("SCHILY.xattr.trusted.")).copied().collect();
    let top = Raw::new()
        .pax(&records)
        .dir("dir")
        .pax(&records)
        .file("file", b"content")
        .pax(&records)
        .file("empty", b"")
        .pax(&roots)
        .link("link", "secret")
        .pax(&roots)
        .device("null", 1, 3);
    let top = zeros(top);
    Image::new("amd64", vec![base.end(), top.end()], &["marked:latest"])
}

fn marks(path: &str) -> BTreeMap<String, Vec<u8>> {
    let is_plain = ["dir", "file", "empty"].contains(&path);
    let its = MARKS.iter().filter(|(name, _)| is_plain || name.starts_with("trusted."));
    its.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

const MARKED: [&str; 5] = ["dir", "file", "empty", "link", "null"];

fn is_live(name: &str) -> bool {
    let prefixes = ["trusted.overlay.", "user.overlay.", "user.fuseoverlayfs.", "user.containers."];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
        || (name.starts_with("trusted.layerctl.") && !name.starts_with("trusted.layerctl.escaped."))
        || (name.starts_with("user.layerctl.") && !name.starts_with("user.layerctl.escaped."))
}

fn setup() -> (Mounts, Image, PathBuf) {
    let (mounts, image) = (Mounts::new(), image());
    mounts.import_archive(&docker_since_25(std::slice::from_ref(&image)).tar());
    let diff = mounts.at("store/diff").join(sha256(&image.layers[1]));
    (mounts, image, diff)
}

/// What a mount must show, however often the files were changed.
#[track_caller]
fn assert_shown(at: &Path, what: &str) {
    for path in MARKED {
        assert_eq!(xattrs(&at.join(path)), marks(path), "{what}: {path}");
    }
    assert_eq!(fs::read(at.join("dir/below")).expect("it is not hidden"), b"below", "{what}");
    assert_eq!(fs::read(at.join("file")).expect("it is there"), b"content", "{what}");
    assert_eq!(fs::read(at.join("empty")).expect("it is no whiteout"), b"", "{what}");
    if !what.starts_with("by the kernel") {
        assert_zero(at, what);
    }
}

#[track_caller]
fn assert_zero(at: &Path, what: &str) {
    let zero = fs::symlink_metadata(at.join("zero")).expect("it is there");
    assert!(zero.file_type().is_char_device() && zero.rdev() == 0, "{what}: {zero:?}");
}

#[test]
fn on_disk_no_mark_of_a_tar_is_live() {
    let (mounts, _, diff) = setup();
    for path in MARKED {
        let on_disk = xattrs(&diff.join(path));
        assert_eq!(on_disk.len(), marks(path).len(), "{path}: {on_disk:?}");
        for (name, value) in &on_disk {
            assert!(!is_live(name), "{path} has {name}");
            let (_, content) = name.split_once(".escaped.").expect("it is escaped");
            assert_eq!(marks(path)[content], *value, "{path}: {name}");
        }
    }
    for path in ["zero", "dir/below2"] {
        let kind = fs::symlink_metadata(diff.join(path)).expect("it is there").file_type();
        assert!(!kind.is_char_device(), "{path} would hide a file of the layer below");
    }
    // overlayfs, as a judge: nothing is hidden and nothing shown that is not there.
    let base = mounts.at("store/diff").join(sha256(&image().layers[0]));
    let mnt = mounts.mkdir("overlay");
    let options = format!("lowerdir={}:{}", diff.display(), base.display());
    let mut mount = mounts.command("mount");
    said(mount.args(["-t", "overlay", "overlay", "-o", &options]).arg(&mnt)).ok();
    assert_eq!(mounts.read("overlay/dir/below"), "below");
    assert_eq!(mounts.read("overlay/secret/key"), "key");
    assert_eq!(mounts.read("overlay/file"), "content");
    assert_eq!(fs::read(mnt.join("empty")).expect("it is no whiteout"), b"");
    rustix::mount::unmount(&mnt, rustix::mount::UnmountFlags::empty()).expect("nobody uses it");
    // Our own union of the plain directories, too.
    let dirs = format!("dirs={}=ro:{}=ro", diff.display(), base.display());
    mounts.run(&["union", "-o", &dirs, &mounts.text("overlay")]).ok();
    for path in MARKED {
        assert_eq!(xattrs(&mnt.join(path)), marks(path), "{path}");
    }
    assert_eq!(mounts.read("overlay/dir/below"), "below");
    mounts.umount(&mounts.text("overlay"));
}

#[test]
fn a_mount_shows_the_tars_attributes_before_and_after_a_change() {
    let (mounts, _, _) = setup();
    let container = mounts.mount(&["--name", "box", "marked"]);
    let at = &container.mountpoint;
    assert_shown(at, "untouched");
    let change = |at: &Path| {
        for path in MARKED {
            std::os::unix::fs::lchown(at.join(path), Some(7), Some(8)).expect(path);
        }
        fs::set_permissions(at.join("file"), fs::Permissions::from_mode(0o640)).expect("it is ours");
        std::os::unix::fs::lchown(at.join("zero"), Some(7), Some(8)).expect("it is ours");
    };
    change(at);
    assert_shown(at, "copied up");
    let upper = mounts.inspect("box")["GraphDriver"]["Data"]["UpperDir"].as_str().expect("it has one").to_owned();
    let upper = Path::new(&upper);
    for path in MARKED {
        let on_disk = xattrs(&upper.join(path));
        let escaped = on_disk.keys().filter(|name| name.contains(".escaped."));
        assert_eq!(escaped.count(), marks(path).len(), "{path}: {on_disk:?}");
        for (name, value) in on_disk.iter().filter(|(name, _)| is_live(name)) {
            assert!(name.starts_with("trusted.layerctl."), "{path} has {name}");
            assert!(!MARKS.contains(&(name.as_str(), "0.0000000000000000.0")) || value != b"0.0000000000000000.0");
        }
    }
    mounts.umount("box");
    mounts.mount(&["--name", "box"]);
    assert_shown(at, "mounted again");
    // What a program sets is the program's, and no mark either.
    lsetxattr(at.join("secret"), "trusted.layerctl.origin", b"0.0000000000000000.1", XattrFlags::empty())
        .expect("it is set");
    lsetxattr(at.join("secret"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).expect("it is set");
    assert!(!xattrs(&upper.join("secret")).contains_key("trusted.overlay.opaque"));
    mounts.umount("box");
    mounts.mount(&["--name", "box"]);
    assert_eq!(fs::read(at.join("secret/key")).expect("it is not hidden"), b"key");
    assert_eq!(xattrs(&at.join("secret")).len(), 2);
    mounts.umount("box");
}

#[test]
fn overlayfs_over_a_mount_of_ours_shows_the_tars_attributes_too() {
    let mounts = Mounts::new();
    let image = image_with(|raw| raw);
    mounts.import_archive(&docker_since_25(std::slice::from_ref(&image)).tar());
    let mount = || mounts.mount(&["--io", "kernel", "--name", "box", "marked"]).mountpoint;
    let at = mount();
    assert_shown(&at, "by the kernel, untouched");
    for path in MARKED {
        std::os::unix::fs::lchown(at.join(path), Some(7), Some(8)).expect(path);
    }
    assert_shown(&at, "by the kernel, copied up");
    fs::write(at.join("file"), "content").expect("its data are copied up");
    lsetxattr(at.join("secret"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).expect("it is set");
    mounts.umount("box");
    assert_eq!(mount(), at);
    assert_shown(&at, "by the kernel, mounted again");
    assert_eq!(fs::read(at.join("secret/key")).expect("it is not hidden"), b"key");
    mounts.run(&["export", "box", "-o", "exported.tar"]).ok();
    let exported = attributes(&fs::read(mounts.at("exported.tar")).expect("it was written"));
    for path in MARKED {
        assert_eq!(exported[path], marks(path), "exported {path} of a mount");
    }
    mounts.umount("box");
    let at = mounts.mount(&["--io", "cached", "--name", "box"]).mountpoint;
    assert_shown(&at, "by the kernel, and then by ours");
    assert_eq!(xattrs(&at.join("secret")).len(), 1);
    mounts.umount("box");
    super::kernel_mount::assert_nothing_stays(&mounts);
}

/// The attributes of the entries of a tar.
fn attributes(tar: &[u8]) -> BTreeMap<String, BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().expect("it is a tar") {
        let mut entry = entry.expect("it is a tar");
        let path = entry.path().expect("a path").to_str().expect("UTF-8").trim_end_matches('/').to_owned();
        let mut its = BTreeMap::new();
        for extension in entry.pax_extensions().expect("they can be read").into_iter().flatten() {
            let extension = extension.expect("it is whole");
            if let Some(name) = extension.key().expect("UTF-8").strip_prefix("SCHILY.xattr.") {
                its.insert(name.to_owned(), extension.value_bytes().to_vec());
            }
        }
        found.insert(path, its);
    }
    found
}

#[test]
fn what_goes_out_has_the_tars_names() {
    let (mounts, image, diff) = setup();
    mounts.run(&["verify"]).ok();
    // save: the same tar.
    mounts.run(&["save", "marked", "-o", "saved.tar"]).ok();
    let saved = fs::read(mounts.at("saved.tar")).expect("it was written");
    assert!(saved.windows(image.layers[1].len()).any(|window| window == image.layers[1]), "the layer is not the same");
    // export: of the lower files.
    mounts.run(&["export", "marked", "-o", "exported.tar"]).ok();
    let exported = attributes(&fs::read(mounts.at("exported.tar")).expect("it was written"));
    for path in MARKED {
        assert_eq!(exported[path], marks(path), "exported {path}");
    }
    // commit: of copies.
    let container = mounts.mount(&["--name", "box", "marked"]);
    for path in MARKED {
        std::os::unix::fs::lchown(container.mountpoint.join(path), Some(7), Some(8)).expect(path);
    }
    // export and diff: of a mount, where a mark of some union would be content too.
    mounts.run(&["export", "box", "-o", "exported.tar"]).ok();
    let exported = attributes(&fs::read(mounts.at("exported.tar")).expect("it was written"));
    for path in MARKED {
        assert_eq!(exported[path], marks(path), "exported {path} of a mount");
    }
    assert!(exported.contains_key("dir/below"), "no mark hides it");
    let changed = mounts.run(&["diff", "box"]).ok();
    assert_eq!(changed, "C /dir\nC /empty\nC /file\nC /link\nC /null\n");
    mounts.umount("box");
    mounts.run(&["commit", "box", "-t", "again"]).ok();
    mounts.run(&["rm", "box"]).ok();
    let again = mounts.mount(&["again"]);
    assert_shown(&again.mountpoint, "committed");
    mounts.umount(&again.id);
    mounts.run(&["verify"]).ok();
    mounts.run(&["export", "again", "-o", "exported.tar"]).ok();
    let exported = attributes(&fs::read(mounts.at("exported.tar")).expect("it was written"));
    for path in MARKED {
        assert_eq!(exported[path], marks(path), "exported {path} of the committed image");
    }
    // verify: an escaped attribute is a part of the file.
    rustix::fs::lremovexattr(diff.join("file"), "user.layerctl.escaped.user.overlay.opaque").expect("it is there");
    let said = mounts.run(&["verify"]);
    assert_eq!((said.code, said.err.as_str()), (3, ""), "{said:?}");
    assert!(said.out.contains("xattr") && said.out.contains("user.layerctl.escaped.user.overlay.opaque"), "{said:?}");
}
