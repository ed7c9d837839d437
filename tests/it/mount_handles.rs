//! File handles of a mount: they find the inode that the names find, or nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::beside::{Beside, forget};
use super::fanotify::Watch;
use super::file_handle::Handle;
use super::mount_semantics::put;
use super::mounts::Mounts;
use super::processes::eventually;

/// Drops what the kernel knows of the mount, so that a handle is looked up.
fn forget_all(mount: &Path) {
    File::open(mount).and_then(|dir| Ok(rustix::fs::syncfs(dir)?)).unwrap();
    forget();
}

fn content(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// The handles of all names below a directory.
fn handles(dir: &Path) -> BTreeMap<PathBuf, Handle> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            found.insert(entry.path(), Handle::of(&entry.path()));
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
            }
        }
    }
    found
}

/// What a name and a handle must agree on.
fn shown(meta: &fs::Metadata) -> (u64, u32, u64, u64, u32) {
    (meta.ino(), meta.mode(), meta.nlink(), if meta.is_dir() { 0 } else { meta.size() }, meta.uid())
}

/// That each handle opens what its name stands for. The handle comes first: nothing else has told the kernel of the inode.
#[track_caller]
fn assert_found(mount: &Path, handles: &BTreeMap<PathBuf, Handle>) {
    let mut wrong = Vec::new();
    for (path, handle) in handles {
        let opened = match handle.open(mount, libc::O_PATH | libc::O_NOFOLLOW) {
            Ok(opened) => opened,
            Err(error) => {
                wrong.push(format!("{}: {error}", path.display()));
                continue;
            }
        };
        let (by_handle, by_name) = (opened.metadata().unwrap(), fs::symlink_metadata(path).unwrap());
        if shown(&by_handle) != shown(&by_name) {
            wrong.push(format!("{}: {:?}, and by name {:?}", path.display(), shown(&by_handle), shown(&by_name)));
        } else if by_name.is_file()
            && content(handle.open(mount, libc::O_RDONLY).unwrap()) != fs::read_to_string(path).unwrap()
        {
            wrong.push(format!("{}: another content", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Layers, and changes of all kinds on top of them.
fn changed() -> Beside {
    let beside = Beside::over(&[
        &|dir| {
            put(dir, "d/near", "near");
            put(dir, "both", "of the upper layer");
        },
        &|dir| {
            for name in ["d/f", "d/s/g", "d/s/t/deep", "both", "written", "mode", "moved", "gone", "old/in", "old/s/in"]
            {
                put(dir, name, name);
            }
            put(dir, "h1", "several names");
            for name in ["h2", "d/h3"] {
                fs::hard_link(dir.join("h1"), dir.join(name)).unwrap();
            }
            symlink("f", dir.join("d/link")).unwrap();
        },
    ]);
    let at = |name: &str| beside.mnt(name);
    fs::write(at("written"), "written anew").unwrap();
    fs::set_permissions(at("mode"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(at("h2"), "written through one of several names").unwrap();
    fs::remove_file(at("h1")).unwrap();
    fs::rename(at("moved"), at("d/s/moved")).unwrap();
    fs::rename(at("old"), at("d/new")).unwrap();
    put(&at(""), "d/new/s/made", "made in a moved directory");
    put(&at(""), "made/below/file", "made");
    fs::hard_link(at("made/below/file"), at("made/again")).unwrap();
    symlink("nowhere", at("made/link")).unwrap();
    fs::rename(at("made/below"), at("d/s/below")).unwrap();
    fs::rename(at("d/s/g"), at("made/g")).unwrap();
    beside
}

#[test]
fn handles_find_what_the_names_find() {
    let beside = changed();
    let mount = beside.mnt("");
    let before = handles(&mount);
    assert!(before.len() > 20, "{before:?}");
    assert_found(&mount, &before);
    forget_all(&mount);
    assert_found(&mount, &before);
    beside.mount_again();
    assert_found(&mount, &before);
    beside.kill_and_mount_again();
    assert_found(&mount, &before);
    forget_all(&mount);
    assert_eq!(handles(&mount), before);

    // What is made and moved after a handle has been looked for on the disk is found as well.
    fs::rename(mount.join("made/g"), mount.join("g")).unwrap();
    fs::rename(mount.join("d/s"), mount.join("made/s")).unwrap();
    put(&mount, "made/s/later", "later");
    put(&mount, "later/dir/file", "later");
    fs::rename(mount.join("made/s/later"), mount.join("made/s/much-later")).unwrap();
    fs::hard_link(mount.join("later/dir/file"), mount.join("later/second")).unwrap();
    fs::remove_file(mount.join("later/dir/file")).unwrap();
    let after = handles(&mount);
    forget_all(&mount);
    assert_found(&mount, &after);
}

#[test]
fn a_write_through_a_handle_goes_to_the_file_that_the_names_show() {
    let beside = Beside::over(&[&|dir| put(dir, "d/f", "lower content, which is longer than the other")]);
    let (mount, file) = (beside.mnt(""), beside.mnt("d/f"));
    fs::write(&file, "upper").unwrap();
    let handle = Handle::of(&file);
    forget_all(&mount);
    let opened = handle.open(&mount, libc::O_RDWR).unwrap();
    opened.write_all_at(b"U", 0).unwrap();
    opened.sync_all().unwrap();
    drop(opened);
    assert_eq!(fs::read_to_string(&file).unwrap(), "Upper");
    beside.mount_again();
    assert_eq!(content(handle.open(&mount, libc::O_RDONLY).unwrap()), "Upper");
    assert_eq!(fs::read_to_string(&file).unwrap(), "Upper");
    // And one that is copied up only through the handle.
    let other = Beside::over(&[&|dir| put(dir, "d/f", "lower")]);
    let handle = Handle::of(&other.mnt("d/f"));
    forget_all(&other.mnt(""));
    handle.open(&other.mnt(""), libc::O_RDWR).unwrap().write_all_at(b"L", 0).unwrap();
    assert_eq!(fs::read_to_string(other.mnt("d/f")).unwrap(), "Lower");
    other.mount_again();
    assert_eq!(fs::read_to_string(other.mnt("d/f")).unwrap(), "Lower");
}

#[test]
fn what_is_removed_opens_no_more_whatever_has_its_number_now() {
    let beside = Beside::over(&[&|dir| {
        for name in ["low", "copied", "d/in", "d/s/in"] {
            put(dir, name, name);
        }
    }]);
    let mount = beside.mnt("");
    fs::write(beside.mnt("copied"), "copied up").unwrap();
    put(&mount, "made", "made");
    put(&mount, "dir/made", "made");
    let gone = ["low", "copied", "d/in", "d/s/in", "d/s", "d", "made", "dir/made", "dir"];
    let removed: Vec<Handle> = gone.iter().map(|name| Handle::of(&beside.mnt(name))).collect();
    for name in ["low", "copied", "made"] {
        fs::remove_file(beside.mnt(name)).unwrap();
    }
    for name in ["d", "dir"] {
        fs::remove_dir_all(beside.mnt(name)).unwrap();
    }
    let are_stale = |when: &str| {
        for (handle, name) in removed.iter().zip(gone) {
            let opened = handle.open(&mount, libc::O_PATH).map(|file| file.metadata().unwrap().ino());
            assert_eq!(opened, Err(Errno::STALE), "{name}, {when}");
        }
    };
    forget_all(&mount);
    are_stale("forgotten");
    // A file system gives the numbers of removed files to new ones.
    for number in 0..300 {
        put(&mount, &format!("new/{number}"), "another file");
    }
    for name in gone {
        if !beside.mnt(name).exists() {
            put(&mount, name, "another file of this name");
            fs::remove_file(beside.mnt(name)).unwrap();
        }
    }
    are_stale("with new files");
    forget_all(&mount);
    are_stale("with new files, forgotten");
    beside.mount_again();
    are_stale("mounted again");
}

#[test]
fn a_file_that_is_open_without_a_name_stays_and_its_handle_goes_with_it() {
    let beside = Beside::over(&[&|dir| put(dir, "f", "lower")]);
    let mount = beside.mnt("");
    fs::write(beside.mnt("f"), "upper").unwrap();
    let handle = Handle::of(&beside.mnt("f"));
    let open = File::open(beside.mnt("f")).unwrap();
    fs::remove_file(beside.mnt("f")).unwrap();
    forget_all(&mount);
    assert_eq!(content(open), "upper");
    // The kernel closes a file for good a moment later.
    let is_stale = || {
        forget_all(&mount);
        handle.open(&mount, libc::O_RDONLY).map(|_| ()) == Err(Errno::STALE)
    };
    assert!(eventually(is_stale));
}

#[test]
fn handles_of_other_layers_are_stale() {
    let beside = Beside::over(&[&|dir| {
        for name in ["a", "b", "d/c"] {
            put(dir, name, name);
        }
    }]);
    let mount = beside.mnt("");
    let before = handles(&mount);
    beside.mounts.umount("mnt");
    // All numbers of the layer move by one.
    put(&beside.mounts.at("lower0"), "0", "another layer now");
    beside.mounts.run(&["union", "-o", "dirs=upper:lower0", "mnt"]).ok();
    for (path, handle) in before {
        let opened = handle.open(&mount, libc::O_PATH).map(|file| file.metadata().unwrap().ino());
        assert_eq!(opened, Err(Errno::STALE), "{}", path.display());
    }
}

/// A union of two directories that takes no changes, and its options.
fn read_only_union() -> (Mounts, String) {
    let mounts = Mounts::new();
    for dir in ["upper", "work", "mnt", "top"] {
        mounts.mkdir(dir);
    }
    let (low, high) = (mounts.mkdir("low"), mounts.mkdir("high"));
    for name in ["d/f", "d/s/g", "hidden", "h1"] {
        put(&low, name, name);
    }
    for name in ["h2", "d/h3"] {
        fs::hard_link(low.join("h1"), low.join(name)).unwrap();
    }
    put(&high, "hidden", "of the upper layer");
    put(&high, "d/near", "near");
    let options = "dirs=high=ro:low=ro".to_owned();
    mounts.run(&["union", "-o", &options, "mnt"]).ok();
    (mounts, options)
}

#[test]
fn a_read_only_union_has_handles() {
    let (mounts, options) = read_only_union();
    let mount = mounts.at("mnt");
    let before = handles(&mount);
    assert_found(&mount, &before);
    forget_all(&mount);
    assert_found(&mount, &before);
    mounts.umount("mnt");
    mounts.run(&["union", "-o", &options, "mnt"]).ok();
    assert_found(&mount, &before);
    assert_eq!(handles(&mount), before);
}

/// The version of the kernel.
fn kernel() -> (u32, u32) {
    let release = rustix::system::uname().release().to_str().unwrap().to_owned();
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or_default());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn overlayfs_with_an_index_stands_on_a_read_only_union() {
    let (mounts, options) = read_only_union();
    let (mount, top) = (mounts.at("mnt"), mounts.at("top"));
    let overlay = || {
        let data = format!(
            "lowerdir={},upperdir={},workdir={},index=on,redirect_dir=on,metacopy=on,xino=on",
            mount.display(),
            mounts.text("upper"),
            mounts.text("work")
        );
        let data = std::ffi::CString::new(data).unwrap();
        rustix::mount::mount("overlay", &top, "overlay", MountFlags::empty(), data.as_c_str()).unwrap();
    };
    overlay();
    fs::write(top.join("h2"), "written through one name").unwrap();
    fs::set_permissions(top.join("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(top.join("d"), top.join("e")).unwrap();
    fs::write(top.join("hidden"), "written").unwrap();
    let seen = || {
        let names = ["h1", "h2", "e/h3", "e/f", "e/s/g", "e/near", "hidden"];
        // A kernel since 6.16 lets no file system on top of FUSE use a file again that it found by its handle alone: only a
        // lookup by name sets the dentry's epoch (fs/fuse/dir.c, `fuse_dentry_revalidate`).
        let known = names.into_iter().filter(|name| *name != "hidden" || kernel() < (6, 16));
        known
            .map(|name| {
                let meta = fs::metadata(top.join(name)).unwrap();
                (name, meta.ino(), meta.nlink(), meta.mode(), fs::read_to_string(top.join(name)).unwrap())
            })
            .collect::<Vec<_>>()
    };
    let before = seen();
    assert_eq!((before[0].2, before[0].1, &before[0].4), (3, before[2].1, &before[2].4), "{before:?}");
    forget_all(&top);
    assert_eq!(seen(), before);
    rustix::mount::unmount(&top, UnmountFlags::empty()).unwrap();
    mounts.umount("mnt");
    mounts.run(&["union", "-o", &options, "mnt"]).ok();
    overlay();
    assert_eq!(seen(), before, "both mounted again");
    fs::write(top.join("h1"), "and again").unwrap();
    assert_eq!(fs::read_to_string(top.join("e/h3")).unwrap(), "and again");
    rustix::mount::unmount(&top, UnmountFlags::empty()).unwrap();
}

#[test]
fn events_of_marked_inodes_name_the_files_that_the_names_find() {
    let beside = Beside::over(&[&|dir| {
        for name in ["f", "d/low", "d/s/in"] {
            put(dir, name, name);
        }
    }]);
    let (mount, at) = (beside.mnt(""), |name: &str| beside.mnt(name));
    let watch = Watch::new();
    watch.mark(&at("f"), libc::FAN_MODIFY);
    watch.mark(&at("d"), libc::FAN_MODIFY | libc::FAN_EVENT_ON_CHILD);
    put(&mount, "d/made", "made");
    assert!(!watch.events().is_empty());
    forget_all(&mount);
    for name in ["f", "d/low", "d/made"] {
        let handle = Handle::of(&at(name));
        // The first write of a file of a layer copies it up.
        File::options()
            .append(true)
            .open(at(name))
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"!"))
            .unwrap();
        let events = watch.events();
        assert_eq!(events, [(libc::FAN_MODIFY, handle.clone())], "{name}");
        assert_eq!(Handle::of(&at(name)), handle, "{name}");
        forget_all(&mount);
        assert_eq!(
            content(events[0].1.open(&mount, libc::O_RDONLY).unwrap()),
            format!("{}!", if name == "d/made" { "made" } else { name })
        );
    }
}
