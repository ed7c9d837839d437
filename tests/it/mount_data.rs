//! What is in files, through real mounts: the kernel's caches and the union together.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{SeekFrom, seek};

use super::mounts::Mounts;

fn union() -> Mounts {
    let mounts = Mounts::new();
    for dir in ["upper", "lower", "mnt"] {
        mounts.mkdir(dir);
    }
    mounts.write("lower/f", &"lower\n".repeat(1000));
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

#[test]
fn a_copy_of_a_file_that_is_being_written_has_all_its_data() {
    let mounts = union();
    let file = File::options().append(true).open(mounts.at("mnt/f")).unwrap();
    std::io::Write::write_all(&mut &file, b"appended\n").unwrap();
    // By its data and holes, as cp(1) does with what looks sparse.
    mounts.shell("cp --sparse=always mnt/f copy && cmp mnt/f copy && tail -n 1 copy").ok();
    assert!(mounts.read("copy").ends_with("lower\nappended\n"));
}
