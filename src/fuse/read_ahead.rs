//! Reads files ahead of their requests, where a program reads the files of a lower directory in order.
//!
//! Each file costs the reader a message, and that an open, the inode's block and the first data from the disk, one after
//! the other. So the files that follow in the directory are opened and read by a thread of its own meanwhile: from
//! the first on that has to wait for the disk, and more at a time the longer it goes on. From one directory to the next it goes
//! on if that is listed next.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::union::{Ino, Union};

/// Files that are made ready at a time: at first, and at most.
const FIRST: usize = 4;
const MOST: usize = 32;
/// Directories that may be listed and not read before it is no longer believed that they will be.
const CREDIT: u8 = 2;
/// How many files that were made ready and not read yet are remembered. More are forgotten.
const FORGOTTEN: usize = 4096;
/// Batches that wait for the thread. More are left out: the reader is faster.
const WAITING: usize = 4;

/// Files that are being made ready, known by the first of them.
#[derive(Debug, Clone, Copy)]
struct Batch {
    last: Ino,
    size: usize,
}

#[derive(Debug, Default)]
struct State {
    batches: HashMap<Ino, Batch>,
    /// Files of the batches that no program has read yet.
    ready: HashSet<Ino>,
    /// The file that was read last.
    previous: Option<Ino>,
    credit: u8,
}

/// Sees what is read, and has the thread make ready what may follow.
pub(super) struct ReadAhead {
    state: Mutex<State>,
    queue: SyncSender<Vec<Ino>>,
    has_ended: Arc<AtomicBool>,
}

/// What the thread is to do.
pub(super) struct Batches {
    files: Receiver<Vec<Ino>>,
    has_ended: Arc<AtomicBool>,
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // The mount has ended: no program will read the files that wait to be made ready.
        self.has_ended.store(true, Ordering::Relaxed);
    }
}

impl ReadAhead {
    pub(super) fn new() -> (Self, Batches) {
        let (queue, files) = sync_channel(WAITING);
        let has_ended = Arc::new(AtomicBool::new(false));
        (Self { state: Mutex::default(), queue, has_ended: has_ended.clone() }, Batches { files, has_ended })
    }

    /// To be called when a program reads the beginning of a file; `waits` says whether the read waits for the disk.
    pub(super) fn reads(&self, union: &Union, ino: Ino, waits: bool) {
        let (previous, is_ready, batch) = {
            let mut state = self.state.lock();
            let batch = state.batches.remove(&ino);
            if batch.is_some() {
                state.credit = CREDIT;
            }
            (state.previous.replace(ino), state.ready.remove(&ino), batch)
        };
        // Without the lock: the indexes may have to come from the disk, and other readers are not to wait for that.
        if let Some(batch) = batch {
            self.prepare(union.files_after(batch.last, batch.size), batch.size);
        } else if waits && !is_ready {
            let is_next = previous.is_some_and(|previous| union.files_after(previous, 1) == [ino]);
            if is_next || union.begins_directory(ino) {
                self.prepare(union.files_after(ino, FIRST), FIRST);
            }
        }
    }

    /// To be called when a program begins to list a directory.
    pub(super) fn lists(&self, union: &Union, dir: Ino) {
        if self.state.lock().credit == 0 {
            return;
        }
        let files = union.first_files(dir, FIRST);
        if !files.is_empty() {
            {
                let mut state = self.state.lock();
                state.credit = state.credit.saturating_sub(1);
            }
            self.prepare(files, FIRST);
        }
    }

    fn prepare(&self, files: Vec<Ino>, size: usize) {
        let (Some(first), Some(last)) = (files.first(), files.last()) else { return };
        let mut state = self.state.lock();
        if state.ready.len() >= FORGOTTEN {
            state.ready.clear();
            state.batches.clear();
        }
        state.ready.extend(&files);
        state.batches.insert(*first, Batch { last: *last, size: (size * 2).min(MOST) });
        // error: the reader is faster than the thread, and needs none of it.
        self.queue.try_send(files).unwrap_or_default();
    }
}

/// Starts the thread; it ends with its [`ReadAhead`], and then lets go of the union.
pub(super) fn make_ready(batches: Batches, union: Arc<Union>) -> std::io::Result<JoinHandle<()>> {
    let Batches { files, has_ended } = batches;
    let run = move || {
        let files = files.into_iter().flatten().take_while(|_| !has_ended.load(Ordering::Relaxed));
        files.for_each(|ino| union.make_ready(ino));
    };
    std::thread::Builder::new().name("read-ahead".to_owned()).spawn(run)
}
