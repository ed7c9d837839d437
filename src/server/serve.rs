//! The server process of a mount: mounts, answers the kernel until the unmount, and then cleans up.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::end::{end_on_signals, end_with_stdin, give_up_on_signal, order, remount, thread};
use super::log::{bound_panics, log};
use crate::error::{Context as _, Error, Result};
use crate::fuse::{self, Losses, MountOptions, Serving, Session};
use crate::id::{DiffId, ImageId};
use crate::mount::access::lock;
use crate::mount::live::{self, Live, LiveBranch, LiveRecord};
use crate::mount::ourselves::begin;
use crate::mount::serve_spec::{Reply, ServeSpec, Source};
use crate::mount::task::{Action, Writer};
use crate::mount::{command_mounts, kernel, mountpoint};
use crate::network::name_files;
use crate::rw_layer;
use crate::server::packing::Packing;
use crate::server::registration::{self, Announcement, Registration, Said, describe};
use crate::server::{directories, limits};
use crate::stack::Stack;
use crate::store::{Container, MountRecord, Spelling, Store};
use crate::timestamp::now;
use crate::union::{Branch, Union};

/// Requests that are served at once: one may be a copy-up of gigabytes.
const THREADS: usize = 8;

/// What is held as long as the mount is live.
struct Served {
    serving: Serving,
    registration: Option<Registration>,
    container: Option<ServedContainer>,
    packing: Packing,
    losses: Arc<Losses>,
    union: Arc<Union>,
    image: Option<(Store, ImageId, kernel::Ending)>,
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
    crate::sys::map_large_memory();
    bound_panics();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).doing("read an order on", "standard input")?;
    let spec: ServeSpec = serde_json::from_str(&line)
        .map_err(|error| Error::Usage(format!("serve is for layerctl's own use: {error}")))?;
    let mountpoint = PathBuf::from(spec.mountpoint.clone());
    let started = (|| -> Result<_> {
        begin()?;
        leave_the_caller()?;
        limits::check()?;
        let store = spec.root.clone().map(|root| Store::open(&PathBuf::from(root))).transpose()?;
        start(store.as_ref(), &spec, &mountpoint)
    })();
    let Served { serving, registration, container, packing, losses, union, image } = match started {
        Ok(started) => started,
        Err(error) => {
            let said = reply(&Reply::Failed { message: error.to_string(), code: error.exit_code() });
            // A starter that is not told it sees the end of our standard output; the log has it.
            // error: it is given back, after what a starter that was killed cannot take away
            let discarded = if said.is_err() { discard(&spec) } else { Ok(()) };
            return discarded.and(said.doing("answer", "the starter")).and(Err(error));
        }
    };
    if let Err(error) = reply(&Reply::Ready) {
        // The starter was killed, or cannot be told: no caller knows this mount, and nothing was written to it.
        log(&Error::Io { doing: "answer", path: "the starter".into(), source: error });
        match fuse::abort(&mountpoint) {
            // The thread that watches the starter was faster.
            Err(Error::Io { source, .. }) if matches!(source.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {}
            aborted => aborted?,
        }
    }
    let result = serving.end();
    // A commit gets all of what there is, and then the union is closed.
    let ended = packing.end();
    let removed = container.as_ref().is_some_and(|container| container.remove);
    let stored = if spec.behaviour.volatile || removed { Ok(()) } else { stored(&union, spec.tied) };
    // The upper is closed with it.
    drop(union);
    let lost = losses.clause().or_else(|| stored.err());
    let container_ended = match container {
        Some(container) => container.end(lost.clone()),
        None if spec.tied => Ok(()),
        None => lost.clone().map_or(Ok(()), |lost| Err(Error::Unsupported(lost))),
    };
    drop((registration, ended));
    if let Some((store, id, ending)) = image {
        kernel::end_image(&store, id, &ending)?;
    }
    if spec.tied {
        // Without a reader the command's caller has been killed.
        if let Err(error) = reply(&Reply::Ended { lost }) {
            log(&Error::Io { doing: "answer", path: "the starter".into(), source: error });
        }
    }
    result.and(container_ended)
}

/// Whether the disk has all that was written; else what is lost, as a clause. The end of a command does not wait for the disk.
fn stored(union: &Union, tied: bool) -> std::result::Result<(), String> {
    let stored = if tied { union.written() } else { union.end() };
    stored.map_err(|error| format!("what programs have written is lost in part: {}", std::io::Error::from(error)))
}

/// Nothing of the caller is kept from ending: its terminal, directory, files and umask are left.
fn leave_the_caller() -> Result<()> {
    match rustix::process::setsid() {
        // It is the leader already.
        Ok(_) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error).doing("begin a session for", "the server"),
    }
    rustix::process::chdir("/").doing("enter", "/")?;
    rustix::process::umask(rustix::fs::Mode::empty());
    limits::outlive_others();
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
            rw_layer::make(store, &container, Spelling::Aufs)?;
            let layers = || container.record.layers.iter().rev();
            let dirs = layers().map(|layer| store.diff_dir(&layer.hex()));
            let ids: Vec<_> = std::iter::once(container.id.hex()).chain(layers().map(ToString::to_string)).collect();
            let branches = describe(&Branch::of_stack(Some(container.upper()), dirs), &ids);
            let stack = || {
                let stack = store.stack(&container)?;
                // What is mounted there is for a command.
                let mount_points = spec.tied.then(|| command_mounts::of(&stack, name_files::names(&container)));
                Ok(Stack { mount_points: mount_points.transpose()?, ..stack })
            };
            let opened = open(Some(store), branches, stack)?;
            let mount = MountRecord {
                mountpoint: mountpoint.to_owned(),
                pid: std::process::id(),
                started: now(),
                read_only: spec.flags().contains(rustix::mount::MountFlags::RDONLY),
                command: spec.tied,
                live: name.clone(),
                ended: false,
                lost: None,
                overlay: None,
            };
            (opened, Some(ServedContainer { store: store.clone(), container, mount, lock, remove: *remove }))
        }
        Source::Image { id } => {
            let store = store.ok_or_else(|| Error::Usage("an image is in a store".into()))?;
            let layers = store.image(*id)?.record.layers;
            let nearest_first = || layers.iter().rev();
            let dirs = nearest_first().map(|layer| store.diff_dir(&layer.hex()));
            let ids: Vec<_> = nearest_first().map(ToString::to_string).collect();
            let branches = describe(&Branch::of_stack(None, dirs), &ids);
            let opened = open(Some(store), branches, || image_stack(store, &layers))?;
            check_under_overlay(&opened.union)?;
            (opened, None)
        }
        Source::Directories { upper, lowers, trust } => {
            let upper = upper.clone().map(PathBuf::from);
            let dirs: Vec<_> = lowers.iter().cloned().map(PathBuf::from).collect();
            let branches = describe(&Branch::of_stack(upper.clone(), dirs.clone()), &[]);
            let opened = open(store, branches, || directories::stack(upper, dirs, *trust))?;
            if spec.behaviour.under_overlay {
                check_under_overlay(&opened.union)?;
            }
            (opened, None)
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
    let removed = container.as_ref().is_some_and(|served| served.remove);
    let union = Arc::new(if spec.behaviour.volatile || removed { union.without_flushes() } else { union });
    let record = |mount: &MountRecord| match &container {
        Some(served) => served.store.set_mount(&served.container, mount),
        None => Ok(()),
    };
    let mount = container.as_ref().map(|served| served.mount.clone());
    let mounted = (|| {
        let _reserved = mountpoint::reserve(mountpoint)?;
        mountpoint::check_free(mountpoint)?;
        // Before there is a mount: a server that dies leaves none of which nothing tells.
        mount.as_ref().map_or(Ok(()), record)?;
        Session::mount(union.clone(), mountpoint, &options)
    })();
    let session = match mounted {
        Ok(session) => session,
        Err(error) => {
            mount.map_or(Ok(()), |mount| record(&MountRecord { ended: true, ..mount }))?;
            return Err(error);
        }
    };
    let ending = kernel::Ending::default();
    let losses = session.losses();
    let packing = Packing::new(&union, &session);
    // From here on a failure must not leave a mount that nothing serves.
    let registered = (|| {
        let container_id = container.as_ref().map(|served| served.container.id.hex());
        let record = LiveRecord {
            mountpoint: mountpoint.to_owned(),
            pid: std::process::id(),
            device: Some(session.mounted().device().to_owned()),
            container: container_id,
            volatile: spec.behaviour.volatile,
        };
        let live = Live { record, branches, messages: BTreeMap::new(), lost: None };
        let packs = container.as_ref().map(|_| packing.clone());
        let said = Said { counters: session.counters(), losses: losses.clone() };
        let registration = match (store, announcement) {
            (Some(store), Some(announcement)) => Some(announcement.complete(store, &name, live, said, packs)?),
            _ => None,
        };
        let mounted = session.mounted();
        session.remount_by(remount(&mounted));
        session.write_out_by(Writer::write_out_of(order(&mounted, Action::WriteOut)));
        end_on_signals(&mounted)?;
        if let (Source::Image { id }, Some(store)) = (&spec.source, store) {
            let (store, id) = (store.clone(), *id);
            let (ending, mount) = (ending.clone(), mounted.clone());
            thread("image", move || kernel::watch(&store, id, &mount, &ending, &log))?;
        }
        if spec.tied {
            give_up_on_signal(mountpoint)?;
            end_with_stdin(&mounted, removed)?;
        }
        Ok((registration, session.serve()?))
    })();
    match registered {
        Ok((registration, serving)) => {
            let image = match (&spec.source, store) {
                (Source::Image { id }, Some(store)) => Some((store.clone(), *id, ending)),
                _ => None,
            };
            Ok(Served { serving, registration, container, packing, losses, union, image })
        }
        Err(error) => {
            let ended = fuse::abort(mountpoint);
            mount.map_or(Ok(()), |mount| record(&MountRecord { ended: true, ..mount }))?;
            ended.and(Err(error))
        }
    }
}

/// The layers of an image, the lowest first.
fn image_stack(store: &Store, layers: &[DiffId]) -> Result<Stack> {
    let mut lowers = store.lowers(layers)?;
    lowers.reverse();
    Ok(Stack { upper: None, lowers, lowers_are_immutable: true, mount_points: None })
}

/// That overlayfs shows all that the union shows.
fn check_under_overlay(union: &Union) -> Result<()> {
    let Some(path) = union.device_zero() else { return Ok(()) };
    let path = path.into_iter().fold(PathBuf::from("/"), |path, name| path.join(OsString::from_vec(name)));
    Err(Error::Unsupported(format!(
        "a layer has a character device 0:0 at {}, which overlayfs takes for a whiteout: use --io cached",
        path.display()
    )))
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
            // error: without a thread this one does it
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

/// Removes a container that was there for this mount alone.
fn discard(spec: &ServeSpec) -> Result<()> {
    let (Some(root), Source::Container { id, remove: true }) = (&spec.root, &spec.source) else { return Ok(()) };
    let store = Store::open(&PathBuf::from(root.clone()))?;
    match store.find_container(&id.hex()).and_then(|container| store.remove_container(&container)) {
        Err(Error::NotFound { .. }) => Ok(()),
        removed => removed,
    }
}

impl ServedContainer {
    fn end(self, lost: Option<String>) -> Result<()> {
        let Self { store, container, mount, lock, remove } = self;
        let cleared = container.remove_default_mountpoint();
        // After all else: with the record there is nothing left to do.
        let recorded = store.set_mount(&container, &MountRecord { ended: true, lost, ..mount });
        drop(lock);
        if !remove {
            return recorded.and(cleared);
        }
        // On a full disk nothing can be recorded, and all the more there is to remove.
        match store.remove_container(&container) {
            // Another process was faster.
            Err(Error::NotFound { .. }) => Ok(()),
            removed => removed,
        }
    }
}
