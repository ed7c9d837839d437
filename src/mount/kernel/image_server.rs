//! The end of an image's mount: when no container of the store uses it any more, its server takes the mount away from
//! where it is to be seen, and then ends with the last overlay that the kernel still has.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::error::{Context as _, Error, Result};
use crate::fuse::{self, Mount};
use crate::id::ImageId;
use crate::mount::kernel::end::settle_unseen;
use crate::mount::kernel::image_mount::{is_at, lock_of, remove_all, tidy};
use crate::mount::kernel::read_only::put_right_if_free;
use crate::store::Store;
use crate::sys::{call, open_regular};

/// After so long it is looked again whether a container still is mounted: of one in another mount namespace the kernel tells
/// nothing here.
const LOOK: Duration = Duration::from_secs(5);
/// How long is waited after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Ends the mount of an image as soon as no container uses it. Gives up when the mount is not there any more.
pub(crate) fn watch(store: &Store, image: ImageId, mount: &Mount, ending: &Ending, say: &dyn Fn(&Error)) {
    loop {
        match end_when_unused(store, image, mount, ending) {
            Ok(()) => return,
            Err(error) => {
                say(&error);
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Held while the mount is taken away, with which the server ends: it must not before the rest is gone, too.
pub(crate) type Ending = Arc<Mutex<()>>;

/// Takes away what is left when the mount has ended.
///
/// # Errors
/// What cannot be removed.
pub(crate) fn end(store: &Store, image: ImageId, ending: &Ending) -> Result<()> {
    // A holder of the image's lock does not wait for this process.
    drop(ending.lock());
    tidy(store, image)
}

fn end_when_unused(store: &Store, image: ImageId, mount: &Mount, ending: &Ending) -> Result<()> {
    let path = lock_of(store, image);
    let table = File::open("/proc/self/mountinfo").doing("open", "/proc/self/mountinfo")?;
    loop {
        // A process that takes the mount holds the lock shared, from before that until the kernel has the container.
        let lock = match open_regular(&path, OFlags::WRONLY) {
            // Another process has just taken the mount away.
            Err(Errno::NOENT) => {
                changed(&table)?;
                if !fuse::mounts()?.contains(mount) {
                    return Ok(());
                }
                continue;
            }
            lock => lock.doing("open", &path)?,
        };
        let lock = lock.ok_or_else(|| Error::corrupt(&path, "is no regular file"))?;
        call::flock(&lock, FlockOperation::LockExclusive).doing("lock", &path)?;
        if !is_at(&lock, &path)? {
            continue;
        }
        if !is_used(store, image)? {
            let _ending = ending.lock();
            // A caller would have done this: one was killed, and what was to go with it goes now.
            drop(store.stage()?);
            fuse::detach_only(mount)?;
            return remove_all(store, image);
        }
        drop(lock);
        changed(&table)?;
    }
}

/// Whether a container without a command is mounted over the image. One that is not any more is put in order.
pub(super) fn is_used(store: &Store, image: ImageId) -> Result<bool> {
    let mut is_used = false;
    for container in store.containers()? {
        let container = match container {
            Err(Error::Corrupt { .. }) => continue,
            container => container?,
        };
        if container.record.image != image {
            continue;
        }
        let mount = match container.mount() {
            // The overlay has the image's files, wherever the image is mounted, and only the container's end is not seen.
            Err(Error::Corrupt { .. }) => continue,
            mount => mount?,
        };
        let Some(mount) = mount.filter(|mount| !mount.command && mount.live_overlay().is_some()) else { continue };
        if container.has_overlay(&mount)? {
            is_used = true;
            put_right_if_free(&container, &mount)?;
        } else {
            // Another program has unmounted it.
            is_used |= !settle_unseen(store, &container, &mount)?;
        }
    }
    Ok(is_used)
}

/// Waits until the list of mounts is another one, but not for ever.
fn changed(table: &File) -> Result<()> {
    let timeout = Timespec::try_from(LOOK).unwrap_or_default();
    match call::poll(&mut [PollFd::new(table, PollFlags::PRI)], Some(&timeout)) {
        Err(Errno::INTR) => Ok(()),
        polled => polled.map(drop).doing("wait for", "/proc/self/mountinfo"),
    }
}
