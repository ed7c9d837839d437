//! `--io passthrough`: the kernel reads and writes files of the upper itself.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};

use super::mounts::Mounts;
use super::processes::eventually;

fn union() -> Mounts {
    union_with(|_| ())
}

/// With what is put into the directories before it is mounted.
fn union_with(prepare: impl FnOnce(&Mounts)) -> Mounts {
    let mounts = Mounts::new();
    for dir in ["upper", "lower", "mnt"] {
        mounts.mkdir(dir);
    }
    for name in ["f", "set-id"] {
        mounts.write(&format!("lower/{name}"), &"lower\n".repeat(1000));
    }
    fs::set_permissions(mounts.at("lower/set-id"), fs::Permissions::from_mode(0o4777)).unwrap();
    prepare(&mounts);
    mounts.run(&["union", "-o", "dirs=upper:lower,io=passthrough", "mnt"]).ok();
    mounts
}

/// How many messages of these kinds have come.
fn messages<const N: usize>(mounts: &Mounts, kinds: [&str; N]) -> [u64; N] {
    let all = mounts.inspect(mounts.at("mnt"))["Messages"].clone();
    kinds.map(|kind| all[kind].as_u64().unwrap_or_default())
}

/// Whether all that were opened have been closed, as the server knows it.
fn all_are_closed(mounts: &Mounts) -> bool {
    let [opened, created, released] = messages(mounts, ["OPEN", "CREATE", "RELEASE"]);
    opened + created == released
}

#[test]
fn large_data_are_no_messages() {
    let mounts = union();
    let block = vec![b'x'; 1 << 20];
    let file = File::options().read(true).write(true).create_new(true).open(mounts.at("mnt/new")).unwrap();
    for at in 0..32 {
        file.write_all_at(&block, at << 20).unwrap();
    }
    let mut found = vec![0; 1 << 20];
    file.read_exact_at(&mut found, 31 << 20).unwrap();
    assert_eq!(found, block);
    drop(file);
    // One for making it and having it open.
    assert_eq!(messages(&mounts, ["CREATE", "MKNOD", "OPEN", "WRITE", "READ"]), [1, 0, 0, 0, 0]);
    assert!(eventually(|| messages(&mounts, ["RELEASE"]) == [1]));
    assert_eq!(fs::metadata(mounts.at("upper/new")).unwrap().len(), 32 << 20);
    // A lower file is copied up to be written, and read through the page cache otherwise: once.
    for _ in 0..3 {
        assert_eq!(fs::read(mounts.at("mnt/f")).unwrap().len(), 6000);
    }
    let read = messages(&mounts, ["READ"]);
    assert!(read[0] > 0);
    File::options().append(true).open(mounts.at("mnt/f")).unwrap().write_all_at(b"more", 0).unwrap();
    assert!(fs::read_to_string(mounts.at("mnt/f")).unwrap().ends_with("lower\nmore"));
    assert_eq!((messages(&mounts, ["READ"]), messages(&mounts, ["WRITE"])), (read, [0]));
    assert_eq!(mounts.read("lower/f").len(), 6000);
}

#[test]
fn a_new_file_that_is_closed_is_as_any_other() {
    let mounts = union();
    fs::write(mounts.at("mnt/new"), "written").unwrap();
    assert!(eventually(|| all_are_closed(&mounts)));
    // Its attributes are those of after the writing, and its data are read without a message.
    assert_eq!(fs::metadata(mounts.at("mnt/new")).unwrap().len(), 7);
    assert_eq!(mounts.read("mnt/new"), "written");
    assert_eq!(messages(&mounts, ["READ", "WRITE"]), [0, 0]);
    assert!(File::options().write(true).create_new(true).open(mounts.at("mnt/new")).is_err());
    // Set-user-id from the beginning: by the page cache, which takes the bit away.
    let set_id = File::options().write(true).create_new(true).mode(0o4777).open(mounts.at("mnt/made")).unwrap();
    set_id.write_all_at(b"x", 0).unwrap();
    assert_eq!(messages(&mounts, ["CREATE", "WRITE"]), [2, 1]);
    // One that is made to be read has nothing to read, until another writes it.
    let reader = File::options().read(true).custom_flags(libc::O_CREAT).open(mounts.at("mnt/read")).unwrap();
    fs::write(mounts.at("mnt/read"), "later").unwrap();
    let mut found = [0; 5];
    reader.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(&found, b"later");
}

#[test]
fn who_has_a_lower_file_open_sees_what_is_written_later() {
    let mounts = union();
    let reader = File::open(mounts.at("mnt/f")).unwrap();
    let mut found = [0; 5];
    reader.read_exact_at(&mut found, 0).unwrap();
    let writer = File::options().write(true).open(mounts.at("mnt/f")).unwrap();
    writer.write_all_at(b"upper", 0).unwrap();
    reader.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(&found, b"upper");
    // The reader has it in the page cache, so the writer must go that way too, and nobody after them.
    drop((reader, writer));
    let before = messages(&mounts, ["WRITE"]);
    assert_eq!(before, [1]);
    assert!(eventually(|| all_are_closed(&mounts)));
    File::options().write(true).open(mounts.at("mnt/f")).unwrap().write_all_at(b"again", 0).unwrap();
    assert!(fs::read_to_string(mounts.at("mnt/f")).unwrap().starts_with("again\n"));
    assert_eq!(messages(&mounts, ["WRITE"]), before);
}

#[test]
fn a_file_that_is_cut_off_when_it_is_opened_is_not_copied_first() {
    let mounts = union();
    fs::write(mounts.at("mnt/f"), "short").unwrap();
    assert_eq!(mounts.read("upper/f"), "short");
    assert_eq!(fs::metadata(mounts.at("mnt/f")).unwrap().len(), 5);
    // It comes with the open.
    assert_eq!(messages(&mounts, ["SETATTR"]), [0]);
}

#[test]
fn an_open_that_fails_leaves_what_it_would_have_cut_off() {
    let mounts = union_with(|mounts| {
        for place in ["lower/sleep", "upper/sleeps"] {
            fs::copy("/bin/sleep", mounts.at(place)).unwrap();
        }
    });
    for name in ["mnt/sleep", "mnt/sleeps"] {
        let length = fs::metadata(mounts.at(name)).unwrap().len();
        let empty = |writes| File::options().read(true).write(writes).custom_flags(libc::O_TRUNC).open(mounts.at(name));
        // It is executed when this returns.
        let mut running = std::process::Command::new(mounts.at(name)).arg("60").spawn().unwrap();
        for writes in [false, true] {
            assert_eq!(empty(writes).unwrap_err().raw_os_error(), Some(libc::ETXTBSY));
        }
        assert!(length > 0 && fs::metadata(mounts.at(name)).unwrap().len() == length);
        running.kill().unwrap();
        running.wait().unwrap();
        assert!(eventually(|| empty(false).is_ok()));
        assert_eq!(fs::metadata(mounts.at(name)).unwrap().len(), 0);
    }
}

#[test]
fn a_write_takes_the_set_user_id_bit_away() {
    let mounts = union();
    fs::set_permissions(mounts.at(""), fs::Permissions::from_mode(0o755)).unwrap();
    let write = "exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'echo x >> mnt/set-id'";
    mounts.shell(write).ok();
    assert_eq!(fs::metadata(mounts.at("mnt/set-id")).unwrap().mode() & 0o7777, 0o777);
    assert_eq!(fs::metadata(mounts.at("upper/set-id")).unwrap().mode() & 0o7777, 0o777);
}

#[test]
fn a_write_takes_the_set_user_id_bit_away_while_another_reads() {
    let mounts = union();
    fs::set_permissions(mounts.at(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(mounts.at("mnt/set-id"), "in the upper\n").unwrap();
    fs::set_permissions(mounts.at("mnt/set-id"), fs::Permissions::from_mode(0o4777)).unwrap();
    assert!(eventually(|| all_are_closed(&mounts)));
    let mut reader = File::open(mounts.at("mnt/set-id")).unwrap();
    let write = "exec setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'echo x >> mnt/set-id'";
    mounts.shell(write).ok();
    assert_eq!(fs::metadata(mounts.at("mnt/set-id")).unwrap().mode() & 0o7777, 0o777);
    let mut read = String::new();
    std::io::Read::read_to_string(&mut reader, &mut read).unwrap();
    assert_eq!(read, "in the upper\nx\n");
}

#[test]
fn another_way_is_refused() {
    let mounts = union();
    mounts.mkdir("other");
    mounts.run(&["union", "-o", "dirs=upper:lower,io=fast", "other"]).fails(2, &["fast"]);
    let said =
        super::mounts::said(mounts.program(&["union", "-o", "dirs=upper:lower", "other"]).env("LAYERCTL_IO", "fast"));
    said.fails(2, &["fast"]);
}
