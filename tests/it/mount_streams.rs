//! `run-mount IMAGE -- CMD` with files, devices and FIFOs of the host as standard input, output and error.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use rustix::fs::{CWD, MemfdFlags, Mode, memfd_create, mkfifoat};

use super::disk::Disk;
use super::mount_command::containers;
use super::mounts::{Mounts, Said, said};

/// `run-mount programs -- sh -c SCRIPT`.
fn inside(mounts: &Mounts, script: &str) -> Command {
    mounts.program(&["run-mount", "--rm", "programs", "--", "sh", "-c", script])
}

#[test]
fn a_file_that_is_read_is_not_written() {
    let mounts = Mounts::with_programs();
    mounts.write("secret", "one\ntwo\n");
    let path = mounts.at("secret");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let script = "read x; for fd in /proc/self/fd/0 /dev/stdin; do echo bad > $fd; echo bad >> $fd; chmod 4777 $fd; done; \
                  cat; cat /proc/self/fd/0";
    // Also when the caller could write.
    for file in [File::open(&path).unwrap(), File::options().read(true).write(true).open(&path).unwrap()] {
        let before = fs::metadata(&path).unwrap();
        let said = said(inside(&mounts, script).stdin(file));
        // Opened anew it begins at its beginning.
        assert_eq!((said.code, said.out.as_str()), (0, "two\none\ntwo\n"), "{said:?}");
        assert_eq!(said.err.matches("Read-only file system").count(), 6, "{said:?}");
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.mode(), after.ctime_nsec()), (before.mode(), before.ctime_nsec()));
        assert_eq!(mounts.read("secret"), "one\ntwo\n");
    }
}

#[test]
fn the_offset_is_where_the_command_has_stopped_reading() {
    let mounts = Mounts::with_programs();
    mounts.write("list", "1\n2\n3\n4\n5\n");
    let run = "\"$L\" run-mount --rm programs -- sh -c";
    let script = format!("while read -r x; do {run} \"echo in-$x\"; done < list");
    assert_eq!(mounts.shell(&script).ok(), "in-1\nin-2\nin-3\nin-4\nin-5\n");
    let script = format!("{{ read -r x; {run} 'read -r y; echo $y'; read -r z; echo $z; }} < list");
    assert_eq!(mounts.shell(&script).ok(), "2\n3\n");
    // A file that no mount has is copied.
    let mut file = File::from(memfd_create("x", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(b"1\n2\n3\n").unwrap();
    file.seek(SeekFrom::Start(2)).unwrap();
    let said = said(inside(&mounts, "read -r x; echo $x").stdin(file.try_clone().unwrap()));
    assert_eq!(said.ok(), "2\n");
    assert_eq!((file.stream_position().unwrap(), file.metadata().unwrap().len()), (4, 6));
    // What is not read of a FIFO stays in it.
    mkfifoat(CWD, mounts.at("fifo"), Mode::RWXU).unwrap();
    let script = format!(
        "{{ echo 1; echo 2; echo 3; }} > fifo & {{ read -r x; {run} :; {run} 'read -r y; echo $y'; read -r z; echo $x$z; }} < fifo"
    );
    assert_eq!(mounts.shell(&script).ok(), "2\n13\n");
}

#[test]
fn a_file_that_is_written_is_written_by_the_caller() {
    let mounts = Mounts::with_programs();
    let run = "\"$L\" run-mount --rm programs -- sh -c";
    // One pipe for both, so that all is in order; opened again nothing is cut off.
    let many = "for x in 1 2 3; do echo out-$x; echo err-$x >&2; done; echo more > /proc/self/fd/1";
    mounts.shell(&format!("{{ echo begin; {run} '{many}'; echo end; }} > log 2>&1")).ok();
    let lines = "begin\nout-1\nerr-1\nout-2\nerr-2\nout-3\nerr-3\nmore\nend\n";
    assert_eq!(mounts.read("log"), lines);
    mounts.shell(&format!("{run} 'echo added' >> log")).ok();
    assert_eq!(mounts.read("log"), format!("{lines}added\n"));
    mounts.shell(&format!("umask 022; {run} 'chmod 777 /proc/self/fd/1' > new")).ok();
    assert_eq!(fs::metadata(mounts.at("new")).unwrap().mode() & 0o7777, 0o644);
    mounts.shell(&format!("{run} 'cat /bin/sh /bin/sh /bin/sh /bin/sh' > large")).ok();
    assert_eq!(fs::metadata(mounts.at("large")).unwrap().len(), 4 * fs::metadata("/bin/sh").unwrap().len());
}

#[test]
fn what_has_no_room_is_told() {
    let mounts = Mounts::with_programs();
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::new(dir.path(), "disk", 16, "mkfs.ext4", &["-q"]);
    let target = disk.path().join("out");
    let write = "while cat /bin/sh; do :; done 2> /dev/null";
    let run = |script: &str| said(inside(&mounts, script).stdout(File::create(&target).unwrap()));
    run(write).fails(125, &["standard output", "No space left on device"]);
    let failed = run(&format!("{write}; exit 7"));
    assert!(failed.code == 7 && failed.err.contains("No space left on device"), "{failed:?}");
    // A limit of the caller ends neither it nor its mount.
    let said = mounts.shell("ulimit -S -f 8; \"$L\" run-mount --rm programs -- cat /bin/sh /bin/sh > small");
    said.fails(125, &["standard output", "File too large"]);
    mounts.assert_nothing_is_live();
    assert_eq!(containers(&mounts), 0);
}

#[test]
fn devices_are_the_containers_and_a_directory_is_refused() {
    let mounts = Mounts::with_programs();
    let null = fs::metadata("/dev/null").unwrap();
    let script = "for fd in 0 1 2; do chmod 600 /proc/self/fd/$fd; done; ls -l /dev/null > /file; echo x";
    let mut command = mounts.program(&["run-mount", "--name", "box", "programs", "--", "sh", "-c", script]);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let out = said(command.stdout(full()).stderr(File::options().write(true).open("/dev/null").unwrap()));
    assert_ne!(out.code, 0, "it is full");
    let now = fs::metadata("/dev/null").unwrap();
    assert_eq!((now.mode(), now.ctime()), (null.mode(), null.ctime()));
    assert!(super::mounts::read(&super::mount_command::upper(&mounts, "file")).starts_with("crw------- "));
    mounts.run(&["rm", "box"]).ok();
    let dir = File::open("/").unwrap();
    said(inside(&mounts, "ls /proc/self/fd/0/").stdin(dir)).fails(2, &["standard input", "directory"]);
    assert_eq!(containers(&mounts), 0);
    mounts.assert_nothing_is_live();
}

#[test]
fn a_user_opens_its_output_anew() {
    let mounts = Mounts::with_programs();
    mounts.run(&["build", "--from", "programs", "-t", "user", "--config", "User=web"]);
    let script = "id -u; echo out > /dev/stdout; echo err > /dev/stderr; read x < /dev/stdin; echo $x";
    let run = || mounts.program(&["run-mount", "--rm", "user", "--", "sh", "-c", script]);
    let said = super::mounts::said_with_input(&mut run(), "in\n");
    assert_eq!(said, Said { code: 0, out: "33\nout\nin\n".into(), err: "err\n".into() });
    mounts.write("in", "file\n");
    let (out, err) = (File::create(mounts.at("out")).unwrap(), File::create(mounts.at("err")).unwrap());
    let status = run().stdin(File::open(mounts.at("in")).unwrap()).stdout(out).stderr(err).status().unwrap();
    assert_eq!(
        (status.code(), mounts.read("out"), mounts.read("err")),
        (Some(0), "33\nout\nfile\n".into(), "err\n".into())
    );
}
