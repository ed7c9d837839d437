//! `cp`: into containers and out of them, mounted or not, by the rules of `docker cp`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Stdio;

use super::listing::Listing;
use super::mounts::Mounts;
use super::root_fs::{add, finish};

/// A container `c` with files, a directory, and links of which some lead to where the host has something else.
fn container(mounts: &Mounts) {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["d", "d/sub", "etc", "empty"] {
        add(&mut tar, dir, 0o755, None);
    }
    for path in ["f", "d/a", "d/sub/b", "etc/name"] {
        add(&mut tar, path, 0o644, Some(format!("{path} of the image\n").as_bytes()));
    }
    for (path, target) in [("out", "/etc"), ("up", "../../../../../../etc"), ("d/link", "../f"), ("loop", "loop")] {
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_mode(0o777);
        link.set_size(0);
        tar.append_link(&mut link, path, target).expect("a tar entry");
    }
    mounts.import("base", &finish(tar));
    mounts.mount(&["--name", "c", "base"]);
}

/// Both with the container mounted and without.
fn each(test: impl Fn(&Mounts, &dyn Fn(&str) -> String)) {
    for mounted in [true, false] {
        let mounts = Mounts::new();
        container(&mounts);
        if !mounted {
            mounts.umount("c");
        }
        // A file in the container, by way of a tar.
        let read = |path: &str| {
            let output = mounts.program(&["cp", &format!("c:{path}"), "-"]).output().expect("the program starts");
            assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
            let mut archive = tar::Archive::new(&output.stdout[..]);
            let mut entry = archive.entries().unwrap().next().expect("an entry").unwrap();
            let mut text = String::new();
            std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
            text
        };
        test(&mounts, &read);
    }
}

fn ok(mounts: &Mounts, words: &[&str]) {
    assert_eq!(mounts.run(&[&["cp"], words].concat()).ok(), "");
}

#[test]
fn a_file_goes_into_a_directory_or_to_a_name() {
    each(|mounts, read| {
        mounts.write("new", "new\n");
        ok(mounts, &["new", "c:/d"]);
        assert_eq!(read("/d/new"), "new\n");
        ok(mounts, &["new", "c:other"]);
        assert_eq!(read("other"), "new\n");
        ok(mounts, &["./new", "c:/f"]);
        assert_eq!(read("f"), "new\n");
        ok(mounts, &["new", "c:/d/sub/"]);
        assert_eq!(read("d/sub/new"), "new\n");
        // A link to a file is gone through, as is one to a directory.
        mounts.write("new", "newer\n");
        ok(mounts, &["new", "c:/d/link"]);
        assert_eq!(read("f"), "newer\n");
        let cp = |from: &str, to: &str| mounts.run(&["cp", from, to]);
        cp("new", "c:/none/").fails(1, &["no such directory", "c:/none/"]);
        cp("new", "c:/none/x").fails(1, &["c:/none/x"]);
        cp("new", "c:/f/").fails(125, &["c:/f/", "Not a directory"]);
        cp("new", "c:/f/x").fails(125, &["c:/f/x", "Not a directory"]);
        cp("new", "c:/loop").fails(125, &["c:/loop", "symbolic links"]);
        cp("none", "c:/x").fails(1, &["no such file", "none"]);
        cp("new/", "c:/x").fails(125, &["new/", "Not a directory"]);
        fs::create_dir(mounts.at("d")).unwrap();
        fs::write(mounts.at("sub"), "").unwrap();
        cp("sub", "c:/d").fails(125, &["sub", "Is a directory"]);
        cp("d", "c:/f").fails(125, &["c:/f", "Not a directory"]);

        // The other way.
        ok(mounts, &["c:/etc/name", "got"]);
        assert_eq!(mounts.read("got"), "etc/name of the image\n");
        ok(mounts, &["c:/etc/name", "got"]);
        ok(mounts, &["c:/etc/../etc/name", "d/"]);
        assert_eq!(mounts.read("d/name"), "etc/name of the image\n");
        cp("c:/none", "x").fails(1, &["no such file", "c:/none"]);
        cp("c:/f", "none/").fails(1, &["no such directory", "none/"]);
        cp("c:/f", "none/x").fails(1, &["none/x"]);
        let mut names: Vec<_> = fs::read_dir(mounts.at("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["d", "got", "new", "store", "sub"], "nothing is left of what failed");
    });
}

#[test]
fn a_directory_goes_into_one_or_becomes_one() {
    each(|mounts, read| {
        mounts.write("src/x", "x\n");
        mounts.write("src/sub/y", "y\n");
        ok(mounts, &["src", "c:/d"]);
        assert_eq!(read("d/src/sub/y"), "y\n");
        ok(mounts, &["src", "c:/fresh"]);
        assert_eq!(read("fresh/sub/y"), "y\n");
        ok(mounts, &["src/.", "c:/d"]);
        assert_eq!(
            (read("d/x"), read("d/sub/y"), read("d/sub/b")),
            ("x\n".into(), "y\n".into(), "d/sub/b of the image\n".into())
        );
        ok(mounts, &["src/.", "c:/fresh2/"]);
        assert_eq!(read("fresh2/x"), "x\n");

        ok(mounts, &["c:/d/sub", "new"]);
        assert_eq!(mounts.read("new/b"), "d/sub/b of the image\n");
        ok(mounts, &["c:/d/sub", "new"]);
        assert_eq!(mounts.read("new/sub/y"), "y\n");
        ok(mounts, &["c:/d/sub/.", "src"]);
        assert_eq!(mounts.read("src/b"), "d/sub/b of the image\n");
        ok(mounts, &["c:/", "all"]);
        assert_eq!(mounts.read("all/f"), "f of the image\n");
        assert_eq!(fs::read_link(mounts.at("all/out")).unwrap(), Path::new("/etc"));
    });
}

#[test]
fn no_link_leads_out_of_a_container() {
    each(|mounts, read| {
        mounts.write("layerctl-cp-test", "of the host\n");
        for link in ["out", "up"] {
            ok(mounts, &["layerctl-cp-test", &format!("c:/{link}")]);
            assert_eq!(read("etc/layerctl-cp-test"), "of the host\n");
            ok(mounts, &[&format!("c:{link}/name"), "got"]);
            assert_eq!(mounts.read("got"), "etc/name of the image\n");
        }
        assert!(!Path::new("/etc/layerctl-cp-test").exists());
        ok(mounts, &["c:../../etc/name", "got2"]);
        assert_eq!(mounts.read("got2"), "etc/name of the image\n");
        // A link is copied as such, or what it leads to.
        ok(mounts, &["c:/d/link", "link"]);
        assert_eq!(fs::read_link(mounts.at("link")).unwrap(), Path::new("../f"));
        ok(mounts, &["-L", "c:/d/link", "file"]);
        assert_eq!(mounts.read("file"), "f of the image\n");
        ok(mounts, &["c:/out/.", "dir"]);
        assert_eq!(mounts.read("dir/name"), "etc/name of the image\n");
        symlink("layerctl-cp-test", mounts.at("host-link")).unwrap();
        ok(mounts, &["host-link", "c:/d/host-link"]);
        ok(mounts, &["c:d/host-link", "back"]);
        assert_eq!(fs::read_link(mounts.at("back")).unwrap(), Path::new("layerctl-cp-test"));
    });
}

#[test]
fn a_tree_comes_back_as_it_was() {
    each(|mounts, _| {
        let src = mounts.mkdir("src");
        mounts.write("src/one", "one\n");
        fs::hard_link(src.join("one"), src.join("two")).unwrap();
        mounts.write("src/sub/deep", "deep\n");
        fs::hard_link(src.join("one"), src.join("sub/three")).unwrap();
        symlink("nowhere", src.join("sub/link")).unwrap();
        let sparse = fs::File::create(src.join("sparse")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 1 << 20).unwrap();
        rustix::fs::setxattr(src.join("one"), "user.x", b"\0y", rustix::fs::XattrFlags::empty()).unwrap();
        chown(src.join("sub/deep"), Some(1234), Some(567)).unwrap();
        fs::set_permissions(src.join("sub/deep"), fs::Permissions::from_mode(0o6750)).unwrap();
        fs::set_permissions(&src, fs::Permissions::from_mode(0o700)).unwrap();
        let expected = Listing::of(&src);
        // Twice: what is there is replaced, also by another name of itself.
        for target in ["c:/", "c:/", "c:/empty", "c:/empty/"] {
            ok(mounts, &["-a", "src", target]);
        }
        for (from, to) in [("c:/src", "back"), ("c:/empty/src", "back2")] {
            for _ in 0..2 {
                let _ = fs::remove_dir_all(mounts.at(to));
                ok(mounts, &["-a", from, to]);
            }
            Listing::of(&mounts.at(to)).assert_same(&expected, from);
        }
        assert!(fs::metadata(mounts.at("back/sparse")).unwrap().blocks() < 100);

        // Without -a it is ours, and gives nobody any right.
        ok(mounts, &["c:/src/sub/deep", "mine"]);
        let meta = fs::metadata(mounts.at("mine")).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (0, 0o750));
        ok(mounts, &["src/sub/deep", "c:/theirs"]);
        ok(mounts, &["-a", "c:/theirs", "theirs"]);
        let meta = fs::metadata(mounts.at("theirs")).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, 0, 0o750));

        // As a tar, and from one.
        let tar = mounts.program(&["cp", "c:/src", "-"]).output().unwrap();
        assert!(tar.status.success());
        for archive in [tar.stdout.clone(), zstd::encode_all(&tar.stdout[..], 1).unwrap()] {
            mounts.mkdir("into");
            ok(mounts, &["into", "c:/into"]);
            let mut command = mounts.program(&["cp", "-a", "-", "c:/into"]);
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), &archive).unwrap();
            assert!(child.wait().unwrap().success());
            let _ = fs::remove_dir_all(mounts.at("from-tar"));
            ok(mounts, &["-a", "c:/into/src", "from-tar"]);
            Listing::of(&mounts.at("from-tar")).assert_same(&expected, "through a tar");
        }
        fs::write(mounts.at("in.tar"), &tar.stdout).unwrap();
        let from_tar = |to: &str| mounts.shell(&format!(r#""$L" cp - {to} <in.tar"#));
        from_tar("c:/none").fails(1, &["no such directory", "c:/none"]);
        from_tar("c:/f").fails(125, &["c:/f", "Not a directory"]);
        from_tar("none:/").fails(1, &["no such container"]);
    });
}

#[test]
fn a_tar_says_nothing_of_directories_that_it_only_passes_through() {
    each(|mounts, read| {
        let mode = |to: &str| {
            ok(mounts, &["-a", "c:/d", to]);
            let meta = fs::metadata(mounts.at(to)).unwrap();
            (meta.mode(), meta.mtime())
        };
        let before = mode("one");
        let mut tar = tar::Builder::new(Vec::new());
        add(&mut tar, "d/sub/from-tar", 0o600, Some(b"z\n"));
        fs::write(mounts.at("in.tar"), finish(tar)).unwrap();
        assert_eq!(mounts.shell(r#""$L" cp - c:/ <in.tar"#).ok(), "");
        assert_eq!(read("d/sub/from-tar"), "z\n");
        assert_eq!(mode("two"), before);
    });
}

#[test]
fn what_cannot_be_copied_is_said_in_one_sentence() {
    let mounts = Mounts::new();
    container(&mounts);
    mounts.umount("c");
    let cp = |from: &str, to: &str| mounts.run(&["cp", from, to]);
    cp("no:/x", "y").fails(1, &["no such container", "no"]);
    cp("x", "no:/y").fails(1, &["no"]);
    cp("c:/f", "c:/g").fails(2, &["container"]);
    cp("./f", "/g").fails(2, &["CONTAINER:PATH"]);
    cp("-", "-").fails(2, &["CONTAINER:PATH"]);
    fs::write(mounts.at("bad.tar"), [7; 2000]).unwrap();
    mounts.shell(r#""$L" cp - c:/ <bad.tar"#).fails(125, &["-: "]);
    // A full disk: what was to be replaced is there, and nothing else.
    fs::write(mounts.at("big"), vec![1; 4 << 20]).unwrap();
    assert_eq!(cp("big", "c:/big").ok(), "");
    fs::create_dir(mounts.at("disk")).unwrap();
    let script = r#"mount -t tmpfs -o size=1m none disk && echo old >disk/big || exit 99
        "$L" cp c:/big disk; echo "$?"; ls -A disk; cat disk/big"#;
    let mut command = mounts.command("unshare");
    let output = command.env("L", env!("CARGO_BIN_EXE_layerctl")).args(["--mount", "sh", "-c", script]).output();
    let output = output.expect("unshare(1) starts");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "125\nbig\nold\n");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("c:/big: No space left on device") && said.lines().count() == 1, "{said}");
    // A path of the host with a colon.
    fs::write(mounts.at("c:f"), "host\n").unwrap();
    assert_eq!(cp("./c:f", "c:/colon").ok(), "");
    // Nothing was mounted for any of it.
    assert!(mounts.mounted().is_empty());
}

#[test]
fn what_is_no_tar_is_refused_while_its_writer_still_waits() {
    let mounts = Mounts::new();
    container(&mounts);
    let mut command = mounts.command("timeout");
    command.args(["30", env!("CARGO_BIN_EXE_layerctl"), "cp", "-", "c:/d"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut pipe = child.stdin.take().expect("there is a pipe");
    // All of it may not be taken.
    let _ = std::io::Write::write_all(&mut pipe, &[b'x'; 600_000]);
    let output = child.wait_with_output().expect("the program ends");
    drop(pipe);
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error: -: has a header with a wrong checksum\n");
}
