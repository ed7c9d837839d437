//! Where things are made, and where they are moved to be removed: a directory under `tmp/` with a living
//! owner. The directory of a dead one is garbage.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use rustix::fs::{CWD, FlockOperation, OFlags};
use rustix::io::Errno;

use super::lock::{Guard, Settled, try_lock};
use super::removal::{make_usable, remove_content};
use super::{Store, file, names_in, random};
use crate::error::{Context as _, Error, Result};
use crate::id::{ContainerId, Digest};
use crate::sys::{call, fs, open_regular};

const OWNER: &str = "owner";
/// The id of a container that goes when the owner dies.
const TEMPORARY: &str = "temporary";
/// Less than this part of a disk is little.
const LITTLE: u64 = 8;

/// A directory that is removed with all that is in it when this is dropped, or after this process is dead.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    /// Opened at creation, so that a flush through it reports every write error since then (syncfs(2), lib/errseq.c).
    top: File,
    place: Place,
    /// Removes what dead processes have left.
    collecting: Option<JoinHandle<Result<()>>>,
    /// What came of that.
    collected: Result<()>,
}

#[derive(Debug)]
enum Place {
    /// A directory of its own, with its owner's lock.
    Own { _owner: File },
    /// `tmp/` itself, where nothing can be made: only for what is to be removed, under names that begin so.
    Shared { prefix: String },
    /// It is removed.
    Gone,
}

/// What dead processes have left, with their locks, so that no other process removes it.
struct Dead {
    dirs: Vec<(PathBuf, Option<File>)>,
    /// What they had put into places of the store.
    swept: Option<Staging>,
    /// Whether some of that is still there, and their directories must stay to tell of it.
    has_more: bool,
}

impl Staging {
    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn sync(&self) -> std::io::Result<()> {
        Ok(call::syncfs(&self.top)?)
    }

    /// Has a container go with this process.
    pub(super) fn name_temporary(&self, id: ContainerId) -> Result<()> {
        let path = self.dir.join(TEMPORARY);
        fs::write(&path, id.hex()).doing("write", path)
    }

    fn has_little_room(&self) -> bool {
        let is_little = |free: u64, all: u64| free < all / LITTLE;
        match call::fstatvfs(&self.top) {
            Ok(room) => is_little(room.f_bavail, room.f_blocks) || is_little(room.f_favail, room.f_files),
            // error: where the room is not known, it is made before anything needs it
            Err(_) => true,
        }
    }

    /// Moves away what is to be removed, or what stands where no record says that anything is.
    ///
    /// # Errors
    /// When it cannot be moved; that it is not there is none.
    pub(super) fn move_to_trash(&self, path: &Path) -> Result<()> {
        match self.take(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).doing("move away", path),
            _ => Ok(()),
        }
    }

    /// Takes a file or directory of the store away, to be removed with this.
    pub(super) fn take(&self, path: &Path) -> std::io::Result<()> {
        match self.take_as_it_is(path) {
            // A directory that its owner may not write to cannot be moved: that is to change its `..`.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                match make_usable(CWD, path.as_os_str().as_encoded_bytes()) {
                    Ok(()) => self.take_as_it_is(path),
                    // error: it is no directory, or another user's, and the first failure says more
                    Err(_) => Err(error),
                }
            }
            taken => taken,
        }
    }

    /// Puts a file back that was taken away; `false` where it cannot be had back.
    pub(super) fn give_back(&self, path: &Path) -> std::io::Result<bool> {
        match &self.place {
            Place::Own { .. } => fs::rename(self.aside(path), path).map(|()| true),
            Place::Shared { .. } | Place::Gone => Ok(false),
        }
    }

    /// Where a file or directory of the store is after it was taken away.
    fn aside(&self, path: &Path) -> PathBuf {
        self.dir.join(format!("aside-{}", Digest::of(path.as_os_str().as_encoded_bytes()).hex()))
    }

    fn take_as_it_is(&self, path: &Path) -> std::io::Result<()> {
        let digest = Digest::of(path.as_os_str().as_encoded_bytes()).hex();
        match &self.place {
            Place::Own { .. } => fs::rename(path, self.aside(path)),
            // Only a directory is seen to be a dead one's there.
            Place::Shared { prefix } if fs::symlink_metadata(path)?.is_dir() => {
                fs::rename(path, self.dir.join(format!("{prefix}-{digest}")))
            }
            Place::Shared { .. } | Place::Gone => fs::remove_file(path),
        }
    }
}

impl Staging {
    /// Removes it with all that is in it and what dead processes have left, and says what could not go.
    ///
    /// # Errors
    /// The first failure; the rest is gone then.
    pub(super) fn finish(mut self) -> Result<()> {
        self.clear()
    }

    /// The same, but says only what of its own could not go.
    pub(super) fn finish_own(mut self) -> Result<()> {
        // What is left of others is told by `prune`.
        self.clear_own()
    }

    fn clear(&mut self) -> Result<()> {
        let done = self.clear_own();
        if let Some(collecting) = self.collecting.take() {
            self.collected = collecting.join().unwrap_or(Ok(()));
        }
        done.and(std::mem::replace(&mut self.collected, Ok(())))
    }

    fn clear_own(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.place, Place::Gone) {
            Place::Gone => Ok(()),
            Place::Own { .. } => remove(&self.dir),
            Place::Shared { prefix } => names_in(&self.dir).and_then(|names| {
                let mut done = Ok(());
                for name in names.iter().filter(|name| name.starts_with(&prefix)) {
                    let path = self.dir.join(name);
                    done = done.and(remove(&path));
                }
                done
            }),
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        #[expect(clippy::let_underscore_must_use, reason = "what cannot go now goes as a dead one's")]
        let _ = self.clear();
    }
}

fn remove(dir: &Path) -> Result<()> {
    remove_content(dir, OWNER)?;
    match fs::remove_dir(dir) {
        // Another process removes what a dead one has left, too.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.doing("remove", dir),
    }
}

/// Whether the disk, or its table of inodes, is full.
fn is_full(error: &Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error, Error::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
}

impl Store {
    /// Makes a directory to make things in, and takes away what dead processes have left: on another thread, so that the
    /// caller waits for it only at the end, unless there may be no room without it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn stage(&self) -> Result<Staging> {
        let (mut staging, dead) = self.stage_and_find_dead()?;
        staging.collecting = remove_dead(dead);
        if staging.has_little_room()
            && let Some(collecting) = staging.collecting.take()
        {
            // Whatever needs the room is told when there is none; `finish` says why.
            staging.collected = collecting.join().unwrap_or(Ok(()));
        }
        Ok(staging)
    }

    /// As [`Store::stage`], for a quick command: what is not taken away by the end of the process is left for the next one.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn stage_briefly(&self) -> Result<Staging> {
        let (staging, dead) = self.stage_and_find_dead()?;
        drop(remove_dead(dead));
        Ok(staging)
    }

    /// As [`Store::stage`], for a removal, which must work on a full disk too.
    pub(super) fn stage_removal(&self) -> Result<Staging> {
        match self.stage() {
            Err(error) if is_full(&error) => {
                let name = Digest::from_bytes(random()?).hex();
                let prefix = name.get(..16).unwrap_or_default().to_owned();
                let dir = self.root.join("tmp");
                let top = File::open(&dir).doing("open", &dir)?;
                Ok(Staging { dir, top, place: Place::Shared { prefix }, collecting: None, collected: Ok(()) })
            }
            staged => staged,
        }
    }

    fn stage_and_find_dead(&self) -> Result<(Staging, Dead)> {
        let guard = self.lock()?;
        let dirs = self.dead(&guard)?;
        let staging = match self.stage_under(&guard) {
            // It may be full of what the dead have left. Their directories stay, to tell of what else there is.
            Err(error) if is_full(&error) && !dirs.is_empty() => {
                for (dir, _) in &dirs {
                    // error: that there is still no room is what the next attempt says
                    drop(remove_content(dir, OWNER));
                }
                self.stage_under(&guard)?
            }
            staged => staged?,
        };
        let (mut swept, mut has_more) = (None, false);
        if !dirs.is_empty() {
            // A process that died may have put things into their places already, without a record for them.
            let garbage = self.stage_under(&guard)?;
            let temporary = dirs.iter().try_for_each(|(dir, _)| self.remove_temporary(&guard, &garbage, dir));
            // error: what cannot be taken away must not stop this command, and stays for the next one
            has_more = temporary.and(self.sweep(&guard, &garbage)).is_err();
            swept = Some(garbage);
        }
        Ok((staging, Dead { dirs, swept, has_more }))
    }

    /// Takes away the container that was to go with the dead owner of `dir`, but for one with a server, which does that.
    fn remove_temporary(&self, _: &Guard<'_>, staging: &Staging, dir: &Path) -> Result<()> {
        let Some(id) = file::read(&dir.join(TEMPORARY))? else { return Ok(()) };
        // Half written, it names none that was made.
        let Some(id) = str::from_utf8(&id).ok().and_then(|hex| hex.parse().ok()) else { return Ok(()) };
        let container = match self.container(id) {
            Err(Error::NotFound { .. }) => return Ok(()),
            container => container?,
        };
        // The kernel may still have what was mounted for a command that is being killed, and does not need the names of it.
        let _lock = match container.lock_record() {
            Err(Error::NotFound { .. } | Error::InUse { .. }) => return Ok(()),
            lock => lock?,
        };
        staging.move_to_trash(&container.dir())?;
        self.sync_dir(&self.root.join("containers"))
    }

    fn stage_under(&self, _: &Guard<'_>) -> Result<Staging> {
        let name = Digest::from_bytes(random()?).hex();
        let dir = self.root.join("tmp").join(name.get(..16).unwrap_or_default());
        fs::create_dir(&dir).doing("create", &dir)?;
        let path = dir.join(OWNER);
        let made = (|| {
            let owner = fs::create_new(&path).doing("create", &path)?;
            call::flock(&owner, FlockOperation::NonBlockingLockExclusive).doing("lock", &path)?;
            let top = File::open(&dir).doing("open", &dir)?;
            Ok(Staging {
                dir: dir.clone(),
                top,
                place: Place::Own { _owner: owner },
                collecting: None,
                collected: Ok(()),
            })
        })();
        made.inspect_err(|_| {
            // By their names, as there may be no descriptor left.
            #[expect(clippy::let_underscore_must_use, reason = "the first failure is told; what stays has no owner")]
            let _ = fs::remove_file(&path).and_then(|()| fs::remove_dir(&dir));
        })
    }

    /// The directories whose owners are dead. The caller gets their locks, so that no other process removes them.
    pub(super) fn dead(&self, _: &dyn Settled) -> Result<Vec<(PathBuf, Option<File>)>> {
        let tmp = self.root.join("tmp");
        let mut dead = Vec::new();
        // Their locks are no reason to run out of descriptors: the next one takes the rest.
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let most = limit.and_then(|limit| usize::try_from(limit / 4).ok()).unwrap_or(usize::MAX);
        for name in names_in(&tmp)? {
            if dead.len() >= most {
                break;
            }
            let dir = tmp.join(name);
            match fs::found(&dir) {
                Ok(Some(there)) if there.is_dir() => {}
                // error: it may belong to a living process, and keeps no other from working
                Ok(_) | Err(_) => continue,
            }
            // Owner files are made under the lock and removed last: without one, no process owns the directory. One that
            // cannot be opened, for want of descriptors say, may well live.
            match open_regular(&dir.join(OWNER), OFlags::RDONLY) {
                Err(Errno::NOENT) | Ok(None) => dead.push((dir, None)),
                // error: it may well live, and the next one looks again
                Err(_) => {}
                Ok(Some(owner)) => {
                    // error: as above
                    if let Ok(true) = try_lock(&owner, FlockOperation::NonBlockingLockExclusive) {
                        dead.push((dir, Some(owner)));
                    }
                }
            }
        }
        Ok(dead)
    }
}

fn remove_dead(dead: Dead) -> Option<JoinHandle<Result<()>>> {
    if dead.dirs.is_empty() && dead.swept.is_none() {
        return None;
    }
    let work = move || {
        let Dead { dirs, swept, has_more } = dead;
        let mut done = swept.map_or(Ok(()), Staging::finish);
        for (dir, owner) in dirs {
            let removed = if has_more { remove_content(&dir, OWNER) } else { remove(&dir) };
            done = done.and(removed);
            drop(owner);
        }
        done
    };
    // error: without a thread it is left to the next one
    Builder::new().name("collect".into()).spawn(work).ok()
}
