//! A copy-up that takes its time, and all the others.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::{AtomicBool, Ordering};

use layerctl::whiteout;
use rustix::process::Signal;

use super::beside::forget;
use super::layer_tree::os;
use super::mounts::Mounts;
use super::processes::{eventually, signal};

const SIZE: u64 = 24 << 20;
const FILES: usize = 400;

/// A server that answers nothing until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn new(server: u32) -> Self {
        signal(server, Signal::STOP);
        Self(server)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal(self.0, Signal::CONT);
    }
}

#[test]
fn a_big_copy_up_keeps_nobody_waiting() {
    let mounts = Mounts::new();
    for dir in ["upper", "mnt", "slow", "disk", "empty", "lower/d"] {
        mounts.mkdir(dir);
    }
    let big = File::create(mounts.at("disk/big")).unwrap();
    let megabyte = vec![b'x'; 1 << 20];
    (0..SIZE >> 20).for_each(|number| big.write_all_at(&megabyte, number << 20).unwrap());
    for number in 0..FILES {
        mounts.write(&format!("lower/d/f{number}"), "content");
    }
    // The file comes from a disk that can be stopped, so that its copy takes as long as is wanted.
    mounts.run(&["union", "-o", "lowerdir=disk:empty", "slow"]).ok();
    mounts.run(&["union", "-o", "dirs=upper:slow:lower", "mnt"]).ok();
    let disk = u32::try_from(mounts.inspect(mounts.at("slow"))["Pid"].as_u64().unwrap()).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopped = Stopped::new(disk);
        scope.spawn(|| {
            let file = File::options().write(true).open(mounts.at("mnt/big")).unwrap();
            // Whole pages, so that nothing has to be read first, and no two of them are one message: more of them than the
            // server has threads wait for the copy.
            (0..SIZE >> 21).for_each(|number| file.write_all_at(&[b'y'; 4096], number << 21).unwrap());
            file.sync_all().unwrap();
            done.store(true, Ordering::SeqCst);
        });
        let copies = || fs::read_dir(mounts.at("upper").join(os(whiteout::WORK))).map(Iterator::count).unwrap_or(0);
        assert!(eventually(|| copies() > 0), "it is being copied");
        let others = scope.spawn(|| {
            for number in 0..FILES {
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
            }
        });
        assert!(eventually(|| others.is_finished()), "all others are served");
        assert!(!done.load(Ordering::SeqCst), "it is still being copied");
        drop(stopped);
    });
    let copy = File::open(mounts.at("upper/big")).unwrap();
    assert_eq!(copy.metadata().unwrap().size(), SIZE);
    for number in 0..SIZE >> 21 {
        let mut written = [0; 4097];
        copy.read_exact_at(&mut written, number << 21).unwrap();
        assert!(written[..4096].iter().all(|byte| *byte == b'y') && written[4096] == b'x');
    }
    mounts.umount("mnt");
    mounts.umount("slow");
    mounts.assert_nothing_is_live();
}
