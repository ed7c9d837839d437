//! A big copy-up, and all the others.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::beside::{blocks, forget};
use super::mounts::{Mounts, eventually};

const SIZE: u64 = 384 << 20;

/// Whether this file system shares data between files, so that no copy takes any time.
fn clones(dir: &Path) -> bool {
    let (from, to) = (File::create(dir.join("from")).unwrap(), File::create(dir.join("to")).unwrap());
    from.write_all_at(&[b'x'; 8192], 0).unwrap();
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[test]
fn a_big_copy_up_keeps_nobody_waiting() {
    let mounts = Mounts::new();
    for dir in ["upper", "mnt", "lower/d"] {
        mounts.mkdir(dir);
    }
    let big = File::create(mounts.at("lower/big")).unwrap();
    let megabyte = vec![b'x'; 1 << 20];
    (0..SIZE >> 20).for_each(|number| big.write_all_at(&megabyte, number << 20).unwrap());
    big.sync_all().unwrap();
    for number in 0..2000 {
        mounts.write(&format!("lower/d/f{number}"), "content");
    }
    mounts.run(&["union", "-o", "dirs=upper:lower", "mnt"]).ok();
    let (done, clones) = (AtomicBool::new(false), clones(&mounts.mkdir("try")));
    let finished = std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options().write(true).open(mounts.at("mnt/big")).unwrap();
            file.write_all_at(b"y", SIZE - 1).unwrap();
            file.sync_all().unwrap();
            done.store(true, Ordering::SeqCst);
        });
        // From when the first data are there.
        let began = eventually(|| blocks(&mounts.at("upper")) > 1000 || done.load(Ordering::SeqCst));
        assert!(began);
        let mut finished = 0;
        for number in 0..2000 {
            if done.load(Ordering::SeqCst) {
                break;
            }
            // Nothing of it is known to the kernel yet.
            let path = mounts.at(&format!("mnt/d/f{number}"));
            assert_eq!(fs::metadata(&path).unwrap().len(), 7);
            assert_eq!(fs::read(&path).unwrap(), b"content");
            fs::write(mounts.at(&format!("mnt/new{number}")), "new").unwrap();
            fs::rename(&path, path.with_extension("renamed")).unwrap();
            // And the very file that is being copied can be looked at.
            assert_eq!(fs::metadata(mounts.at("mnt/big")).unwrap().len(), SIZE);
            if number % 20 == 0 {
                forget();
            }
            finished += usize::from(!done.load(Ordering::SeqCst));
        }
        finished
    });
    assert!(finished > 3 || clones, "only {finished} rounds of others while it was copied");
    let copy = File::open(mounts.at("upper/big")).unwrap();
    let mut end = [0; 3];
    copy.read_exact_at(&mut end, SIZE - 3).unwrap();
    assert_eq!((end, copy.metadata().unwrap().size()), (*b"xxy", SIZE));
    mounts.umount("mnt");
    mounts.assert_nothing_is_live();
}
