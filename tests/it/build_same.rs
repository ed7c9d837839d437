//! Same input, same bytes: images that are made in different stores, at different times and in different surroundings.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::generator::Tar;
use super::mounts::{Mounts, said};

/// Longer than the clock of any file system stands still, and than the seconds of a config.
const LATER: Duration = Duration::from_millis(1100);
const EPOCH: &str = "1000000000";

/// The program, among other words and with another umask, host name, time zone and place than the last time.
fn in_other_surroundings(mounts: &Mounts, number: usize, words: &str) -> String {
    let (umask, host, zone) = [("022", "one", "UTC"), ("077", "another", "Asia/Tokyo")][number];
    let script = format!("hostname {host}; umask {umask}; cd \"$DIR\"; $L --quiet {words}");
    let mut command: Command = mounts.command("unshare");
    command.args(["--uts", "sh", "-euc", &script]).env("L", super::mounts::PROGRAM);
    command.env("DIR", mounts.at("")).env("TZ", zone).env("SOURCE_DATE_EPOCH", EPOCH);
    said(&mut command).ok()
}

/// The same files; the order in which they are made is one of two.
fn fill(dir: &Path, number: usize) {
    let mut names: Vec<String> = (0..40).map(|number| format!("file-{number}")).collect();
    let mut links = ["b/link", "a/link", "link"];
    let mut dirs = ["a", "b"];
    if number == 1 {
        names.reverse();
        links.reverse();
        dirs.reverse();
    }
    dirs.iter().for_each(|name| fs::create_dir(dir.join(name)).expect("a directory"));
    names.iter().for_each(|name| fs::write(dir.join("a").join(name), name).expect("a file"));
    fs::write(dir.join(links[0]), "linked").expect("a file");
    links[1..].iter().for_each(|name| fs::hard_link(dir.join(links[0]), dir.join(name)).expect("a name"));
    let flags = rustix::fs::XattrFlags::empty();
    let mut attributes = ["user.one", "user.two", "user.three"];
    attributes.rotate_left(number);
    attributes.iter().for_each(|name| rustix::fs::setxattr(dir.join("a"), *name, name.as_bytes(), flags).expect("set"));
}

#[test]
fn a_build_gives_the_same_image_each_time() {
    let made = [0, 1].map(|number| {
        let mounts = Mounts::new();
        fill(&mounts.mkdir(["x", "some/other/place"][number]), number);
        fs::write(mounts.at("layer.tar"), Tar::new().file("f", b"f").finish()).expect("a tar");
        let dir = if number == 0 { "x".to_owned() } else { mounts.text("some/other/place/") };
        let words = format!("build -t made --config Labels=b=1 --config Labels=a=2 layer.tar '{dir}'");
        let id = in_other_surroundings(&mounts, number, &words);
        in_other_surroundings(&mounts, number, "save made -o saved.tar");
        std::thread::sleep(LATER);
        (id, fs::read(mounts.at("saved.tar")).expect("it is saved"))
    });
    assert_eq!(made[0].0, made[1].0);
    assert!(made[0].1 == made[1].1, "the archives differ");
}

#[test]
fn a_build_without_a_time_of_its_own_keeps_those_of_the_files() {
    let mounts = Mounts::new();
    let dir = mounts.mkdir("dir");
    fs::write(dir.join("f"), "f").expect("a file");
    let file = fs::File::options().write(true).open(dir.join("f")).expect("a file");
    let at = |seconds| std::time::UNIX_EPOCH + Duration::new(seconds, 500_000_000);
    let built = |epoch: Option<&str>| {
        let mut command = mounts.program(&["build", "dir"]);
        command.envs(epoch.map(|epoch| ("SOURCE_DATE_EPOCH", epoch)));
        let id = said(&mut command).ok();
        let exported = mounts.program(&["export", id.trim_end()]).output().expect("it runs").stdout;
        let mut archive = tar::Archive::new(&exported[..]);
        let mut entry = archive.entries().expect("a tar").nth(1).expect("two entries").expect("an entry");
        let pax = entry.pax_extensions().expect("they can be read");
        let pax = pax.into_iter().flatten().map(|record| record.expect("a record"));
        pax.filter(|record| record.key() == Ok("mtime"))
            .map(|record| record.value().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    file.set_modified(at(999_999_999)).expect("a time");
    assert_eq!((built(None), built(Some(EPOCH))), (vec!["999999999.5".to_owned()], vec!["999999999.5".to_owned()]));
    file.set_modified(at(1_000_000_000)).expect("a time");
    assert_eq!((built(None), built(Some(EPOCH))), (vec!["1000000000.5".to_owned()], vec![]));
}

#[test]
fn a_commit_gives_the_same_image_each_time() {
    let made = [0, 1].map(|number| {
        let mounts = Mounts::new();
        let below = Tar::new().dir("d").file("d/x", b"x").file("d/y", b"y").file("gone", b"g").file("kept", b"k");
        mounts.import("base", &below.finish());
        let container = mounts.mount(&["--name", "c", "base"]);
        let at = &container.mountpoint;
        fs::create_dir(at.join("new")).expect("a directory");
        if number == 0 {
            fs::remove_file(at.join("gone")).expect("it goes");
        }
        fill(&at.join("new"), number);
        fs::rename(at.join("d"), at.join("moved")).expect("it moves");
        fs::hard_link(at.join("kept"), at.join("moved/kept")).expect("a name");
        if number == 1 {
            fs::remove_file(at.join("gone")).expect("it goes");
        }
        mounts.umount("c");
        let id = in_other_surroundings(&mounts, number, "commit c -t made -m why -a me --config User=u");
        in_other_surroundings(&mounts, number, "save made -o saved.tar");
        std::thread::sleep(LATER);
        (id, fs::read(mounts.at("saved.tar")).expect("it is saved"))
    });
    assert_eq!(made[0].0, made[1].0);
    assert!(made[0].1 == made[1].1, "the archives differ");
}
