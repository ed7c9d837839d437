//! What is in files, through real mounts: the kernel's caches and the union together.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, XattrFlags, getxattr, seek, setxattr};

use super::mounts::Mounts;

fn union() -> Mounts {
    union_with(|_| ())
}

/// With what is put into the directories before it is mounted.
fn union_with(prepare: impl FnOnce(&Mounts)) -> Mounts {
    let mounts = Mounts::new();
    for dir in ["upper", "lower", "mnt"] {
        mounts.mkdir(dir);
    }
    mounts.write("lower/f", &"lower\n".repeat(1000));
    prepare(&mounts);
    mounts.run(&["union", "-o", "dirs=upper:lower", "mnt"]).ok();
    mounts
}

#[test]
fn data_that_were_just_written_are_no_hole() {
    let mounts = union();
    let file = File::create_new(mounts.at("mnt/new")).unwrap();
    file.write_all_at(&[b'x'; 4096], 1 << 20).unwrap();
    // The kernel has written nothing of it out yet.
    assert_eq!(seek(&file, SeekFrom::Data(0)), Ok(1 << 20));
    assert_eq!(seek(&file, SeekFrom::Hole(1 << 20)), Ok((1 << 20) + 4096));
    assert_eq!(seek(&file, SeekFrom::Data(2 << 20)), Err(rustix::io::Errno::NXIO));
    // Also while it goes on being written, from several sides.
    std::thread::scope(|scope| {
        for number in 0..12_u64 {
            let file = &file;
            scope.spawn(move || {
                for step in 0..50 {
                    let at = (2 << 20) + (number * 50 + step) * 65_536;
                    file.write_all_at(&[b'y'; 4096], at).unwrap();
                    assert_eq!(seek(file, SeekFrom::Data(at)), Ok(at));
                }
            });
        }
    });
}

/// The first that is heard of it is the question for its data.
#[test]
fn data_that_were_just_written_to_a_layers_file_are_no_hole() {
    let mounts = union_with(|mounts| {
        for name in ["before", "between", "behind"] {
            let file = File::create_new(mounts.at(&format!("lower/{name}"))).unwrap();
            file.write_all_at(&[b'x'; 4096], 2 << 20).unwrap();
            file.set_len(4 << 20).unwrap();
        }
    });
    let written = |name: &str, at: u64| {
        let file = File::options().read(true).write(true).open(mounts.at(&format!("mnt/{name}"))).unwrap();
        file.write_all_at(b"y", at).unwrap();
        file
    };
    let file = written("before", 1 << 20);
    assert_eq!(seek(&file, SeekFrom::Data(0)), Ok(1 << 20));
    assert_eq!(seek(&file, SeekFrom::Data((1 << 20) + 4096)), Ok(2 << 20));
    let file = written("between", (2 << 20) + 4096);
    assert_eq!(seek(&file, SeekFrom::Data(2 << 20)), Ok(2 << 20));
    assert_eq!(seek(&file, SeekFrom::Hole(2 << 20)), Ok((2 << 20) + 8192));
    let file = written("behind", 6 << 20);
    assert_eq!(seek(&file, SeekFrom::Data(3 << 20)), Ok(6 << 20));
    assert_eq!(seek(&file, SeekFrom::Hole(6 << 20)), Ok((6 << 20) + 1));
}

#[test]
fn a_copy_of_a_file_that_is_being_written_has_all_its_data() {
    let mounts = union();
    let file = File::options().append(true).open(mounts.at("mnt/f")).unwrap();
    std::io::Write::write_all(&mut &file, b"appended\n").unwrap();
    // By its data and holes, as cp(1) does with what looks sparse.
    mounts.shell("cp --sparse=always mnt/f copy && cmp mnt/f copy && tail -n 1 copy").ok();
    assert!(mounts.read("copy").ends_with("lower\nappended\n"));
}

/// What `tar` and `cp -a` do: the data are still the kernel's when the capability is set, and their late arrival took
/// it away.
#[test]
fn a_capability_that_is_set_right_after_a_write_stays() {
    let mounts = union();
    // `cap_net_raw=ep`, VFS_CAP_REVISION_2.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let get = |name: &str| {
        let mut value = [0; 64];
        getxattr(mounts.at(name), "security.capability", &mut value).map(|length| value[..length].to_vec())
    };
    for name in ["mnt/new", "mnt/f"] {
        let file = File::options().create(true).truncate(false).write(true).open(mounts.at(name)).unwrap();
        file.write_all_at(&[b'x'; 70_000], 10).unwrap();
        setxattr(mounts.at(name), "security.capability", &capability, XattrFlags::empty()).unwrap();
        file.sync_all().unwrap();
        assert_eq!(get(name).as_deref(), Ok(&capability[..]), "{name}");
        // Another write is one that takes it.
        file.write_all_at(b"y", 20).unwrap();
        assert_eq!(get(name), Err(rustix::io::Errno::NODATA), "{name}");
        setxattr(mounts.at(name), "security.capability", &capability, XattrFlags::empty()).unwrap();
    }
    mounts.umount("mnt");
    mounts.run(&["union", "-o", "dirs=upper:lower", "mnt"]).ok();
    for name in ["mnt/new", "mnt/f"] {
        assert_eq!(get(name).as_deref(), Ok(&capability[..]), "{name}");
    }
}
