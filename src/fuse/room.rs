//! That a `write` is told when there is no room, although the kernel gathers writes.
//!
//! With the write-back cache a `write` is done when the kernel has the data, and the disk may be full when they come here.
//! So there is always more room on the disk than the kernel may hold:
//!
//! | free room | what the kernel may hold unwritten |
//! |---|---|
//! | more than is kept back | a sixteenth of it (`max_bytes`, Documentation/ABI/testing/sysfs-class-bdi) |
//! | less | nothing: the mount is synchronous, each `write` waits until the server has it and gets its error |
//!
//! Kept back is a 64th of the disk, from 4 to 256 MiB: what other mounts gather and what a file system needs beside the
//! data must find room too. The mount is made synchronous by another process ([`Remount`]), as that waits for this one.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags};

use super::page_cache;
use crate::error::{Context as _, Result};
use crate::sys::call;

const MIB: u64 = 1 << 20;
/// Which part of the disk is kept back, and its bounds.
const KEPT_PART: u64 = 64;
const KEPT_LEAST: u64 = 4 * MIB;
const KEPT_MOST: u64 = 256 * MIB;
/// Which part of the free room the kernel may hold.
const GATHERED_PART: u64 = 16;
/// How long after a look the next change looks again: other programs write to the disk too.
const LOOK: Duration = Duration::from_millis(200);
/// How often it is looked while the kernel may hold something: no longer than this after the last change.
const IDLE_LOOK: Duration = Duration::from_secs(1);
const ACTIVE: Duration = Duration::from_secs(60);
/// What each write waits while there is no room for what the kernel may still gather.
const HELD_BACK: Duration = Duration::from_millis(5);

/// Makes the mount synchronous, or lets it gather writes again, and says whether that is done.
pub type Remount = Box<dyn Fn(bool) -> bool + Send + Sync>;

/// The room that a mount writes to.
pub(super) struct Room {
    upper: OwnedFd,
    began: Instant,
    /// When it was last looked at, in milliseconds since then.
    looked: AtomicU64,
    /// When something was last changed.
    changed: AtomicU64,
    /// So many bytes more may be written before the next look.
    left: AtomicU64,
    /// Whether each write waits for the server.
    is_synchronous: AtomicBool,
    /// Whether it should.
    is_short: AtomicBool,
    /// What the kernel was told last that it may hold.
    gathered: Mutex<u64>,
    device: OnceLock<String>,
    remount: OnceLock<Remount>,
    thread: OnceLock<Thread>,
}

impl Room {
    /// Looks at the room of the file system of the directory `upper`.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub(super) fn of(upper: &Path) -> Result<Arc<Self>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let upper_fd = call::openat(CWD, upper, flags, Mode::empty()).doing("open", upper)?;
        let room = Self {
            upper: upper_fd,
            began: Instant::now(),
            looked: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            left: AtomicU64::new(0),
            is_synchronous: AtomicBool::new(false),
            is_short: AtomicBool::new(false),
            gathered: Mutex::new(u64::MAX),
            device: OnceLock::new(),
            remount: OnceLock::new(),
            thread: OnceLock::new(),
        };
        room.look().doing("look at the room of", upper)?;
        room.is_synchronous.store(room.is_short.load(Relaxed), Relaxed);
        Ok(Arc::new(room))
    }

    /// Whether each write waits until the server has it: then its program is told what goes wrong.
    pub(super) fn is_synchronous(&self) -> bool {
        self.is_synchronous.load(Relaxed)
    }

    /// Tells the kernel, from now on, what it may gather for the mount with this device number, and has the thread run that
    /// makes it synchronous.
    ///
    /// # Errors
    /// When there is no thread.
    pub(super) fn keep(self: &Arc<Self>, device: &str) -> std::io::Result<()> {
        if self.device.set(device.to_owned()).is_ok() {
            page_cache::limit(device, *self.gathered.lock());
        }
        let weak = Arc::downgrade(self);
        let run = move || watch(&weak);
        let started = std::thread::Builder::new().name("room".to_owned()).spawn(run)?;
        // It is set once.
        drop(self.thread.set(started.thread().clone()));
        Ok(())
    }

    pub(super) fn remount_by(&self, remount: Remount) {
        // It is set once, before the first request.
        drop(self.remount.set(remount));
    }

    /// A change passes.
    pub(super) fn change(&self) {
        let now = self.now();
        self.changed.store(now, Relaxed);
        if now.saturating_sub(self.looked.load(Relaxed)) >= millis(LOOK) {
            self.look_and_act();
        }
    }

    /// So many bytes are about to be written that a program was told are written.
    pub(super) fn spend(&self, bytes: u64) {
        let left = self.left.fetch_update(Relaxed, Relaxed, |left| Some(left.saturating_sub(bytes)));
        if left.is_ok_and(|left| left <= bytes) {
            self.look_and_act();
        }
        if self.is_short.load(Relaxed) && !self.is_synchronous() {
            // The process that makes it synchronous gets ahead of the writers.
            std::thread::sleep(HELD_BACK);
        }
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    fn look_and_act(&self) {
        // error: what cannot be looked at now is with the next change, and until then the last look holds
        if self.look().is_ok()
            && self.is_short.load(Relaxed) != self.is_synchronous()
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    fn look(&self) -> rustix::io::Result<()> {
        let room = call::fstatvfs(&self.upper)?;
        let bytes = |blocks: u64| blocks.saturating_mul(room.f_frsize);
        let (all, free) = (bytes(room.f_blocks), bytes(room.f_bavail));
        let kept = (all / KEPT_PART).clamp(KEPT_LEAST, KEPT_MOST);
        let was_short = self.is_short.load(Relaxed);
        // With room for twice as much it is enough again, so that it does not change to and fro.
        let is_short = free < kept || (was_short && free < kept.saturating_mul(2));
        self.is_short.store(is_short, Relaxed);
        self.looked.store(self.now(), Relaxed);
        self.left.store((free.saturating_sub(kept) / 4).max(1), Relaxed);
        let may = (free / GATHERED_PART).max(1);
        let mut gathered = self.gathered.lock();
        // Not for each little that changes: it is told with room to spare.
        if may < *gathered / 8 * 7 || may > gathered.saturating_mul(2) {
            *gathered = may;
            if let Some(device) = self.device.get() {
                page_cache::limit(device, may);
            }
        }
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Makes the mount what it should be, and looks now and then while the kernel may hold something: until the room is dropped.
fn watch(room: &Weak<Room>) {
    loop {
        let Some(now) = room.upgrade() else { return };
        now.look_and_act();
        let is_short = now.is_short.load(Relaxed);
        let is_done = is_short == now.is_synchronous() || {
            let is_done = now.remount.get().is_some_and(|remount| remount(is_short));
            if is_done {
                now.is_synchronous.store(is_short, Relaxed);
            }
            is_done
        };
        let is_idle = now.now().saturating_sub(now.changed.load(Relaxed)) > millis(ACTIVE);
        let is_settled = is_done && is_idle && !is_short;
        drop(now);
        if is_settled {
            std::thread::park();
        } else {
            std::thread::park_timeout(IDLE_LOOK);
        }
    }
}
