//! `--limit` where it is not `import`'s, and what has no limit.

use std::fs;

use rustix::fs::{XattrFlags, lsetxattr};

use super::cli::Sandbox;
use super::generator::Tar;
use super::hostile_tar::Raw;
use super::mounts::Mounts;

#[test]
fn a_tar_for_build_has_the_limits_of_import() {
    let sandbox = Sandbox::new();
    let tar = sandbox.write("two.tar", &Tar::new().file("a", b"a").file("b", b"b").finish());
    let build = |limit: &str| sandbox.run(&["--quiet", "build", "--limit", limit, &tar]);
    build("entries=1")
        .assert_refused(125, &["two.tar: b: has more than 1 entries", "(`--limit entries=` allows more)"]);
    build("layers=1").assert_refused(2, &["layers=1", "is no limit"]);
    assert_eq!(build("entries=2,depth=1").lines().len(), 1);
}

#[test]
fn a_tar_for_cp_has_the_limits_of_import() {
    let mounts = Mounts::new();
    fs::write(mounts.at("root.tar"), Tar::new().file("f", b"f").finish()).expect("it is written");
    mounts.run(&["--quiet", "import", "-t", "i", "root.tar"]).ok();
    mounts.run(&["run-mount", "--name", "c", "i"]).ok();
    mounts.umount("c");
    let tar = Raw::new().pax(&[("SCHILY.xattr.user.x", &[b'v'; 94])]).file("new", b"").end();
    fs::write(mounts.at("in.tar"), tar).expect("it is written");
    let cp = |limit: &str| mounts.shell(&format!(r#""$L" cp --limit {limit} - c:/ <in.tar"#));
    cp("xattrs=99").fails(125, &["-: new: has more than 99 bytes", "(`--limit xattrs=` allows more)"]);
    mounts.run(&["cp", "c:/new", "-"]).fails(1, &["c:/new"]);
    assert_eq!(cp("xattrs=100").ok(), "");
    assert_eq!(mounts.run(&["cp", "c:/new", "./new"]).ok(), "");
}

#[test]
fn what_is_packed_here_has_no_limit() {
    // Where a file may have so many attributes.
    let memory = tempfile::tempdir_in("/dev/shm").expect("there is memory");
    let at = |name: &str| memory.path().join(name).into_os_string().into_string().expect("it is text");
    fs::create_dir(at("dir")).expect("it is made");
    fs::write(at("dir/f"), "x").expect("it is made");
    for number in 0..20 {
        let name = format!("trusted.large.{number}");
        lsetxattr(at("dir/f"), name, &[b'v'; 60_000], XattrFlags::empty()).expect("it is set");
    }
    let sandbox = Sandbox::new();
    let run = |words: &[&str]| sandbox.run(&[&["--quiet", "--root", &at("store")], words].concat());
    let id = run(&["build", "-t", "large", &at("dir")]).lines()[0].to_owned();
    run(&["save", "large", "-o", &at("saved.tar")]).lines();
    assert_eq!(run(&["verify"]).lines(), Vec::<&str>::new());
    run(&["rmi", "large"]).lines();
    run(&["import", &at("saved.tar")]).assert_refused(125, &["saved.tar", "(`--limit headers=` allows more)"]);
    assert_eq!(run(&["import", &at("saved.tar"), "--limit", "headers=2m,xattrs=2m"]).lines(), [id]);
}
