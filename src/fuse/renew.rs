//! Times that the disk does not have as the kernel does.
//!
//! With the write-back cache the kernel has the modification time of a regular file itself, and takes none from a reply
//! (fs/fuse/inode.c, `fuse_get_cache_mask`). That is wrong in two cases: the disk cannot hold a time that a program sets, and a
//! truncation to the same length moves the time on the disk (truncate(2); ftruncate(2) sends it). So the kernel is told to
//! give up the name, and with it the inode, if no program has it open: whatever looks the name up then gets the time anew.
//! That waits for the lock of the directory, and therefore has a thread of its own.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::{INodeNo, Notifier};

use crate::index::Kind;
use crate::union::{Attr, Ino, SetAttr, SetTime, Union};

/// How long a reply waits at most for its name to be given up. The program that waits for the reply has the file's lock, and
/// another may wait for that with the lock of the directory (unlink, rename, link).
const PATIENCE: Duration = Duration::from_millis(100);

/// A name to give up.
pub(super) struct Renewal {
    name: (Ino, Vec<u8>),
    /// Closed when that is done.
    done: Sender<()>,
}

/// Takes renewals to their thread.
pub(super) type Renewals = Sender<Renewal>;

pub(super) fn renewals() -> (Renewals, Receiver<Renewal>) {
    channel()
}

/// When the kernel is to give up a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    BeforeReply,
    /// The request may be one by which the kernel writes times out while it holds the directory's lock.
    AfterReply,
}

/// Whether the kernel has another modification time than the disk after this change.
pub(super) fn is_needed(set: &SetAttr, attr: &Attr) -> Option<When> {
    // A file of several names is left alone: another of them may be a mountpoint, which would go with it.
    if attr.kind != Kind::File || attr.nlink != 1 {
        return None;
    }
    match set.mtime {
        None => set.size.map(|_| When::BeforeReply),
        Some(SetTime::At(asked)) if asked.sec != attr.mtime.sec => {
            Some(if set.atime.is_some() { When::BeforeReply } else { When::AfterReply })
        }
        Some(_) => None,
    }
}

/// Has the kernel give up the inode. What this returns is closed when that is done, or when there is nothing to do.
pub(super) fn renew(renewals: &Renewals, union: &Union, ino: Ino) -> Receiver<()> {
    let (done, is_done) = channel();
    if let Some(name) = union.name_of(ino) {
        // Without its thread the mount is about to end.
        drop(renewals.send(Renewal { name, done }));
    }
    is_done
}

/// Waits until the kernel has given up the name, or as long as a reply may wait for that.
pub(super) fn wait(is_done: &Receiver<()>) {
    match is_done.recv_timeout(PATIENCE) {
        // The time that the kernel has is old for a moment more.
        Err(RecvTimeoutError::Timeout) => {}
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
    }
}

/// Starts the thread; it ends when no request can come any more.
pub(super) fn do_all(renewals: Receiver<Renewal>, notifier: Notifier) -> std::io::Result<JoinHandle<()>> {
    let run = move || {
        for Renewal { name: (parent, name), done } in renewals {
            // error: it fails for a name that the kernel does not know, which is as well.
            notifier.inval_entry(INodeNo(parent.0), &OsString::from_vec(name)).unwrap_or_default();
            drop(done);
        }
    };
    std::thread::Builder::new().name("renew".to_owned()).spawn(run)
}
