//! The server's side of a [`live`] mount's directory.

use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, Mode};

use crate::error::{Context as _, Error, Result};
use crate::fuse::{Counters, Losses};
use crate::id::Digest;
use crate::mount::live::{
    self, ANSWER_PATIENCE, CONTROL, LOCK, Live, LiveBranch, branch_line, open_dir, socket_path, write,
};
use crate::server::packing::Packing;
use crate::store::{Staging, Store};
use crate::sys::{call, fs};
use crate::union::Branch;

/// A new name under `run/` for the mount of this process at `mountpoint`.
#[must_use]
pub(crate) fn name(mountpoint: &Path) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unique = format!("{} {} {}", std::process::id(), since.as_nanos(), mountpoint.display());
    format!("si_{}", Digest::of(unique.as_bytes()).hex().get(..16).unwrap_or_default())
}

/// Numbers the branches and gives each its id.
#[must_use]
pub(crate) fn describe(branches: &[Branch], ids: &[String]) -> Vec<LiveBranch> {
    let ids = ids.iter().map(Some).chain(std::iter::repeat(None));
    let numbered = branches.iter().enumerate().zip(ids);
    numbered
        .map(|((index, branch), id)| LiveBranch {
            index,
            path: branch.path.clone(),
            mode: if branch.writable { "rw" } else { "ro" }.to_owned(),
            id: id.cloned().unwrap_or_else(|| index.to_string()),
        })
        .collect()
}

/// What a server says of its mount when it is asked.
pub(crate) struct Said {
    pub(crate) counters: Arc<Counters>,
    pub(crate) losses: Arc<Losses>,
}

/// A directory that says of which branches the mount will be. It goes again if it does not become a [`Registration`].
pub(crate) struct Announcement {
    /// The directory is made here and moved: under `run/`, another process would take a directory with a free lock for a dead
    /// server's.
    staging: Staging,
    dir: PathBuf,
}

impl Announcement {
    /// Writes down the branches.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) fn new(store: &Store, branches: &[LiveBranch]) -> Result<Self> {
        let staging = store.stage_briefly()?;
        let dir = staging.dir().join("live");
        fs::create_dir(&dir).doing("create", &dir)?;
        let lock = fs::create_new(dir.join(LOCK)).doing("lock", &dir)?;
        call::flock(&lock, FlockOperation::NonBlockingLockExclusive).doing("lock", &dir)?;
        // Until the end of the process, however that comes.
        std::mem::forget(lock);
        for LiveBranch { index, path, mode, id } in branches {
            write(&dir.join(format!("br{index}")), &branch_line(path, mode))?;
            write(&dir.join(format!("brid{index}")), format!("{id}\n").as_bytes())?;
        }
        Ok(Self { staging, dir })
    }

    /// Makes it the directory of a live mount, and answers on its socket from then on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn complete(
        self,
        store: &Store,
        name: &str,
        live: Live,
        said: Said,
        packing: Option<Packing>,
    ) -> Result<Registration> {
        let Self { staging: _staging, dir } = self;
        let dir = &dir;
        let json = serde_json::to_vec(&live.record).map_err(|error| Error::corrupt(dir, error.to_string()))?;
        write(&dir.join("mount.json"), &json)?;
        let handle = open_dir(dir)?;
        let bind = |name| {
            let path = socket_path(&handle, name);
            let listener = UnixListener::bind(&path).doing("listen at", dir)?;
            // This process has no umask.
            call::chmod(&path, Mode::RWXU).doing("listen at", dir)?;
            Ok(listener)
        };
        if let Some(packing) = packing {
            let listener = bind(packing.socket())?;
            packing.listen(listener).doing("start a thread for", dir)?;
        }
        let listener = bind(CONTROL)?;
        std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                live::for_each_stream(&listener, |stream| {
                    let lost = said.losses.clause();
                    let messages = said.counters.snapshot().into_iter().map(|(name, count)| (name.to_owned(), count));
                    answer(stream, &Live { messages: messages.collect(), lost, ..live.clone() });
                });
            })
            .doing("start a thread for", dir)?;
        // Dead ones are taken away now and then, so that they do not become many.
        live::registered(&store.run_dir())?;
        let named = store.run_dir().join(name);
        fs::rename(dir, &named).doing("create", &named)?;
        Ok(Registration { dir: named })
    }
}

/// The directory of a live mount, which goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    dir: PathBuf,
}

impl Drop for Registration {
    fn drop(&mut self) {
        // error: what cannot go now is dead to the next command, as its lock is free soon, and goes then
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn answer(mut stream: UnixStream, live: &Live) {
    let answered = stream
        .set_write_timeout(Some(ANSWER_PATIENCE))
        .and_then(|()| Ok(serde_json::to_vec(live)?))
        .and_then(|json| stream.write_all(&json));
    // error: the client sees that the answer breaks off; one that does not take it in time must not keep the server
    drop(answered);
}
