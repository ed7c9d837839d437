//! The process behind a mount: it mounts, answers the kernel until somebody unmounts, and puts all in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::access::lock;
use super::live::{self, Live, LiveBranch, LiveRecord};
use super::packing::Packing;
use super::registration::{self, Announcement, Registration, describe};
use super::serve_spec::{Reply, ServeSpec, Source};
use super::timestamp::now;
use super::{descriptors, directories, mountpoint};
use crate::error::{Context as _, Error, Result};
use crate::fuse::{self, Mount, MountOptions, Session};
use crate::stack::Stack;
use crate::store::{Container, MountRecord, Store};
use crate::union::{Branch, Union};

/// Requests that are served at once: one may be a copy-up of gigabytes.
const THREADS: usize = 8;

/// What is held as long as the mount is live.
struct Served {
    session: Session,
    registration: Option<Registration>,
    container: Option<ServedContainer>,
    packing: Packing,
}

struct ServedContainer {
    store: Store,
    container: Container,
    mount: MountRecord,
    lock: File,
    remove: bool,
}

/// Runs a server as standard input says, to the end of its mount.
///
/// # Errors
/// When it could not mount, which the starter has been told; or when the connection to the kernel broke.
pub fn serve() -> Result<()> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).doing("read", "-")?;
    let spec: ServeSpec = serde_json::from_str(&line)
        .map_err(|error| Error::Usage(format!("serve is for layerctl's own use: {error}")))?;
    let mountpoint = PathBuf::from(spec.mountpoint.clone());
    let started = (|| -> Result<_> {
        leave_the_caller()?;
        let store = spec.root.clone().map(|root| Store::open(&PathBuf::from(root))).transpose()?;
        start(store.as_ref(), &spec, &mountpoint)
    })();
    let Served { session, registration, container, packing } = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = reply(&Reply::Failed { message: error.to_string(), code: error.exit_code() });
            return Err(error);
        }
    };
    if reply(&Reply::Ready).is_err() {
        // Whoever wanted the mount was killed, and nobody has been told of it.
        let _ = fuse::unmount(&mountpoint, true);
    }
    let result = session.serve();
    // A commit gets all of what there is, and then the union is closed.
    let _ended = packing.end();
    let ended = container.map_or(Ok(()), ServedContainer::end);
    drop(registration);
    result.and(ended)
}

/// Nothing of the caller is kept from ending: its terminal, directory, files and umask are left.
fn leave_the_caller() -> Result<()> {
    // It fails only for who is the leader already.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/").doing("enter", "/")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    descriptors::allow_all();
    Ok(())
}

fn reply(reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

fn start(store: Option<&Store>, spec: &ServeSpec, mountpoint: &Path) -> Result<Served> {
    let name = registration::name(mountpoint);
    let (opened, container) = match &spec.source {
        Source::Container { id, remove } => {
            let store = store.ok_or_else(|| Error::Usage("a container is in a store".into()))?;
            let container = store.container(*id)?;
            let lock = lock(store, &container)?;
            let layers = || container.record.layers.iter().rev();
            let dirs = layers().map(|layer| store.diff_dir(&layer.hex()));
            let ids: Vec<_> = std::iter::once(container.id.hex()).chain(layers().map(ToString::to_string)).collect();
            let branches = describe(&Branch::of_stack(Some(container.upper()), dirs), &ids);
            let opened = open(Some(store), branches, || store.stack(&container))?;
            let mount = MountRecord {
                mountpoint: mountpoint.to_owned(),
                pid: std::process::id(),
                started: now(),
                read_only: spec.flags().contains(rustix::mount::MountFlags::RDONLY),
                command: spec.tied,
                live: name.clone(),
                ended: false,
            };
            (opened, Some(ServedContainer { store: store.clone(), container, mount, lock, remove: *remove }))
        }
        Source::Directories { upper, lowers, trust } => {
            let upper = upper.clone().map(PathBuf::from);
            let dirs: Vec<_> = lowers.iter().cloned().map(PathBuf::from).collect();
            let branches = describe(&Branch::of_stack(upper.clone(), dirs.clone()), &[]);
            (open(store, branches, || directories::stack(upper, dirs, *trust))?, None)
        }
    };
    let Opened { union, branches, announcement } = opened;
    let options = MountOptions {
        source: spec.fsname.clone(),
        flags: spec.flags(),
        io: spec.io,
        threads: THREADS,
        behaviour: spec.behaviour.clone(),
    };
    let union = Arc::new(union);
    let session = {
        let _reserved = mountpoint::reserve(mountpoint)?;
        mountpoint::check_free(mountpoint)?;
        Session::mount(union.clone(), mountpoint, &options)?
    };
    let packing = Packing::new(&union, session.gate(), mountpoint.to_owned());
    drop(union);
    // From here on a failure must not leave a mount that nobody serves.
    let registered = (|| {
        let container_id = container.as_ref().map(|served| served.container.id.hex());
        let record = LiveRecord {
            mountpoint: mountpoint.to_owned(),
            pid: std::process::id(),
            container: container_id,
            volatile: spec.behaviour.volatile,
        };
        let live = Live { record, branches, messages: BTreeMap::new() };
        let packs = container.as_ref().map(|_| packing.clone());
        let registration = match (store, announcement) {
            (Some(store), Some(announcement)) => {
                Some(announcement.complete(store, &name, live, session.counters(), packs)?)
            }
            _ => None,
        };
        if let Some(served) = &container {
            served.store.set_mount(&served.container, &served.mount)?;
        }
        end_on_signals(session.mounted())?;
        if spec.tied {
            give_up_on_signal(mountpoint)?;
            end_with_stdin(session.mounted())?;
        }
        Ok(registration)
    })();
    match registered {
        Ok(registration) => Ok(Served { session, registration, container, packing }),
        Err(error) => {
            let _ = fuse::unmount(mountpoint, true);
            Err(error)
        }
    }
}

/// What is to be mounted.
struct Opened {
    union: Union,
    branches: Vec<LiveBranch>,
    announcement: Option<Announcement>,
}

/// Opens the union of what `stack` gives. Of hundreds of branches this takes as long as to write down what they are,
/// so that this is done meanwhile.
fn open(store: Option<&Store>, branches: Vec<LiveBranch>, stack: impl FnOnce() -> Result<Stack>) -> Result<Opened> {
    let announce = || store.map(|store| Announcement::new(store, &branches)).transpose();
    let (union, announcement) = std::thread::scope(|scope| {
        let announcing = std::thread::Builder::new().spawn_scoped(scope, announce);
        let union = stack().and_then(|stack| union(store, stack));
        let announcement = match announcing {
            Ok(thread) => thread.join().unwrap_or_else(|_| announce()),
            // No thread is to be had.
            Err(_) => announce(),
        };
        (union, announcement)
    });
    // What is wrong with the layers is said first.
    Ok(Opened { union: union?, announcement: announcement?, branches })
}

/// Opens the union, which waits for one that wrote to the same directory and is about to end; not for one that stays.
fn union(store: Option<&Store>, stack: Stack) -> Result<Union> {
    let upper = stack.upper.clone().unwrap_or_default();
    let in_use = |by: String| Error::InUse { kind: "directory", name: upper.display().to_string(), by };
    if let Some(store) = store
        && let Some(mountpoint) = live::writer(&store.run_dir(), &upper)?
    {
        return Err(in_use(format!("the union at {} writes to it", mountpoint.display())));
    }
    match Union::open(stack) {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
            Err(in_use("another union writes to it".into()))
        }
        opened => opened.map_err(|error| directories::unusable(error, &upper)),
    }
}

impl ServedContainer {
    fn end(self) -> Result<()> {
        let Self { store, container, mount, lock, remove } = self;
        let recorded = store.set_mount(&container, &MountRecord { ended: true, ..mount });
        // Only a mountpoint of the store's own; others are not ours, and are not empty either.
        let _ = std::fs::remove_dir(container.default_mountpoint());
        drop(lock);
        if !remove {
            return recorded;
        }
        // On a full disk nothing can be recorded, and all the more there is to remove.
        match store.remove_container(&container) {
            // Somebody else was faster.
            Err(Error::NotFound { .. }) => Ok(()),
            removed => removed,
        }
    }
}

/// A signal to end is an order to unmount: who still uses the mount is served to the end.
fn end_on_signals(mount: Mount) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let listening = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals = listening.doing("listen for signals to", &mount.mountpoint)?;
    thread("signals", move || {
        for _ in signals.forever() {
            let _ = mount.unmount(true);
        }
    })
}

/// Who runs the command sees the end of our standard output, kills the command, and then lets go of the mount.
fn give_up_on_signal(mountpoint: &Path) -> Result<()> {
    let listening = signal_hook::iterator::Signals::new([live::END_COMMAND.as_raw()]);
    let mut signals = listening.doing("listen for signals to", mountpoint)?;
    thread("command", move || {
        if signals.forever().next().is_some() {
            let _ = File::options().write(true).open("/dev/null").map(rustix::stdio::dup2_stdout);
        }
    })
}

/// When the one who wanted the mount is gone, however that came, the mount goes too.
fn end_with_stdin(mount: Mount) -> Result<()> {
    thread("owner", move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        let _ = mount.end();
    })
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop).doing("start a thread for", name)
}
