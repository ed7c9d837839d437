//! `run-mount`: a container of an image, mounted, with a command in it or without.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use rustix::mount::MountFlags;

use crate::container::{self, Ended, MountedFile, Security, Spec, Streams};
use crate::error::{Context as _, Error, Result};
use crate::fuse::{Behaviour, Io};
use crate::id::ContainerId;
use crate::image::{ImageConfig, Process};
use crate::mount::access::lock;
use crate::mount::launch::launch;
use crate::mount::remove::remove;
use crate::mount::serve_spec::{Reply, ServeSpec, Source};
use crate::mount::umount::{Umount, clear_dead, umount};
use crate::mount::wait::say;
use crate::mount::{kernel, mountpoint};
use crate::network::{NetworkOptions, name_files};
use crate::store::{Container, ContainerState, NewContainer, Staging, Store};
use crate::sys::fs;

/// What the user asked for.
#[derive(Debug, Clone, Default)]
pub struct RunMount {
    /// The container's name. One that is there already, of this image, is mounted again.
    pub name: Option<String>,
    /// The image; may be left out for a container that is there already.
    pub image: Option<String>,
    /// Where; a directory of the store when nothing is said.
    pub mountpoint: Option<PathBuf>,
    /// Whether the mount takes no changes.
    pub read_only: bool,
    /// By which way data go, if that was said.
    pub io: Option<Io>,
    /// Whether the container goes when its mount does.
    pub remove: bool,
    /// What is to run, and then the mount ends; an empty command is the image's own.
    pub command: Option<Vec<OsString>>,
    /// What the command may do.
    pub security: Security,
    /// The names that commands find in a container that is made.
    pub network: NetworkOptions,
}

/// A mount that is live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The container.
    pub container: ContainerId,
    /// Where.
    pub mountpoint: PathBuf,
    /// What is left of it when it is [taken back](take_back).
    leaves: Leaves,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// The container, which was there before.
    Container,
    /// Nothing: the server removes the container.
    Nothing,
    /// Nothing: the container was made for this mount.
    New,
}

/// How it went.
#[derive(Debug)]
pub enum Outcome {
    /// The mount is live, and stays.
    Mounted(Mounted),
    /// The command has ended, and the mount is gone.
    Ended(Ended),
}

/// Does what is asked for.
///
/// # Errors
/// Many; no mount is left then, and no container that was made for it, unless a command ran in it.
pub fn run_mount(store: &Store, request: &RunMount) -> Result<Outcome> {
    let io = Io::chosen(request.io)?;
    let Wanted { container, is_new, temporary } = container_for(store, request)?;
    let mut has_run = false;
    let mut outcome = mount(store, request, io, &container, temporary, &mut has_run);
    if is_new
        && !has_run
        && let Err(error) = &outcome
    {
        // Nothing was written to it.
        match store.remove_container(&container) {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(left) => {
                let name = &container.record.name;
                return Err(Error::Relayed {
                    message: format!("{error}; container {name} stays, since it cannot be removed: {left}"),
                    code: error.exit_code(),
                });
            }
        }
    }
    // error: it is given back below
    if let Ok(Outcome::Mounted(mounted)) = &mut outcome
        && is_new
        && mounted.leaves == Leaves::Container
    {
        mounted.leaves = Leaves::New;
    }
    outcome
}

/// Ends a mount of which the caller cannot be told, and removes the container if it was made for it.
///
/// # Errors
/// As [`umount`] and [`remove`].
pub fn take_back(store: &Store, mounted: &Mounted) -> Result<()> {
    let id = mounted.container.hex();
    match mounted.leaves {
        Leaves::Container | Leaves::Nothing => umount(store, &id, Umount::default()),
        Leaves::New => remove(store, &id, true).map(|_| ()),
    }
}

/// The container that is to be mounted.
struct Wanted {
    container: Container,
    is_new: bool,
    /// As long as this is there a new one goes when this process dies.
    temporary: Option<Staging>,
}

fn container_for(store: &Store, request: &RunMount) -> Result<Wanted> {
    let network = request.network.parse()?;
    let existing = match &request.name {
        Some(name) => match store.find_container(name) {
            Ok(container) if container.record.name == *name => Some(container),
            Ok(_) | Err(Error::NotFound { .. } | Error::Ambiguous { .. }) => None,
            Err(error) => return Err(error),
        },
        None => None,
    };
    let Some(container) = existing else {
        let Some(image) = request.image.clone() else {
            return Err(match &request.name {
                Some(name) => Error::NotFound { kind: "container", name: name.clone() },
                None => Error::Usage("name an image, or a container with --name".into()),
            });
        };
        let new = NewContainer { name: request.name.clone(), image, network };
        if !request.remove {
            let container = store.create_container(&new)?;
            return Ok(Wanted { container, is_new: true, temporary: None });
        }
        let (container, temporary) = store.create_temporary_container(&new)?;
        return Ok(Wanted { container, is_new: true, temporary: Some(temporary) });
    };
    if !network.is_default() {
        return Err(Error::Usage(format!(
            "container {} is there already: --dns, --dns-search, --add-host and --no-hosts count when a container is made",
            container.record.name
        )));
    }
    if let Some(image) = &request.image
        && store.find_image(image)?.id() != container.record.image
    {
        return Err(Error::AlreadyExists { kind: "container", name: container.record.name });
    }
    Ok(Wanted { container, is_new: false, temporary: None })
}

fn mount(
    store: &Store,
    request: &RunMount,
    io: Io,
    container: &Container,
    temporary: Option<Staging>,
    has_run: &mut bool,
) -> Result<Outcome> {
    let spec = match &request.command {
        Some(command) => Some((process(store, request, container, command)?, Streams::of_caller()?)),
        None => None,
    };
    if let Some(mount) = container.mount()? {
        match container.state()? {
            ContainerState::Dead if mount.live_overlay().is_some() => kernel::clear(store, container, &mount, false)?,
            ContainerState::Dead => mountpoint::clear_stale(&mount.mountpoint)?,
            ContainerState::Running if mount.live_overlay().is_some() => {
                kernel::put_right_if_free(container, &mount)?;
                return Err(container.in_use());
            }
            _ => {}
        }
    }
    let wanted = request.mountpoint.clone().unwrap_or_else(|| container.default_mountpoint());
    if request.mountpoint.is_none() {
        mountpoint::clear_stale(&wanted)?;
    }
    if container.state()? == ContainerState::Running && mountpoint::is_mounted(store, container)? {
        return Err(container.in_use());
    }
    // A server that is ending removes the mountpoint which is to be used.
    lock(store, container).and_then(|_lock| kernel::forget(store, container))?;
    if request.mountpoint.is_none() {
        fs::create_dir_all(&wanted).doing("create", &wanted)?;
    }
    let mountpoint = mountpoint::prepare(&wanted, true)?;
    let files = name_files::prepare(container)?;
    let (spec, io) = match io {
        Io::Kernel | Io::Auto => {
            let target = Target { container, mountpoint: &mountpoint, files: &files };
            match by_kernel(store, request, &target, spec.map(Box::new), &temporary, has_run) {
                ByKernel::Done(outcome) => return outcome,
                ByKernel::Refused(spec, error) if io == Io::Auto => {
                    drop(error);
                    (spec.map(|spec| *spec), Io::Cached)
                }
                ByKernel::Refused(_, error) => return Err(error),
            }
        }
        io => (spec, io),
    };
    let flags = if request.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    let serve = ServeSpec {
        root: Some(store.root().into()),
        source: Source::Container { id: container.id, remove: request.remove },
        mountpoint: mountpoint.as_path().into(),
        fsname: container.short_id(),
        flags: flags.bits(),
        io,
        behaviour: Behaviour::default(),
        tied: spec.is_some(),
    };
    let mut server = launch(&serve, Some(&container.log()))?;
    // From here on its server removes it.
    drop(temporary);
    let Some((spec, streams)) = spec else {
        let leaves = if request.remove { Leaves::Nothing } else { Leaves::Container };
        return Ok(Outcome::Mounted(Mounted { container: container.id, mountpoint, leaves }));
    };
    let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    let mut host = server.stdout.take().ok_or_else(gone).doing("wait for", "the server")?;
    let started = AtomicBool::new(false);
    let ended = container::run(&Spec { rootfs: mountpoint.clone(), files, ..spec }, &streams, host.as_fd(), &started);
    *has_run = started.into_inner();
    // The sign to unmount.
    drop(server.stdin.take());
    let mut last = Vec::new();
    let heard = host.read_to_end(&mut last).doing("read the answer of", "the server");
    let served = server.wait().doing("wait for", "the server")?;
    if !served.success() {
        // A killed one could not even unmount.
        mountpoint::clear_stale(&mountpoint)?;
        let failed = Error::Unsupported(format!(
            "the container's server ended with {served}; see {}",
            container.log().display()
        ));
        if request.remove {
            // The server could not do it. What cannot go now is still there to be removed, and that is said first.
            match remove(store, &container.id.hex(), true) {
                // Or not all of it.
                Err(Error::NotFound { .. }) => store.sweep_strays()?,
                removed => removed.map(drop)?,
            }
        } else if container.state()? == ContainerState::Dead
            && let Some(mount) = container.mount()?
        {
            clear_dead(store, container, &mount)?;
        }
        return ended.and(Err(failed));
    }
    let ended = ended?;
    heard?;
    match serde_json::from_slice(&last) {
        Ok(Reply::Ended { lost: Some(lost) }) => {
            let name = &container.record.name;
            if !request.remove {
                forget_loss(store, container, server.id())?;
            }
            // A command that has failed may have said it itself.
            if ended.status != 0 {
                say(&format!("container {name}: {lost}"));
                return Ok(Outcome::Ended(ended));
            }
            Err(Error::Unsupported(format!("container {name}: {lost}")))
        }
        // A server that was told to end its command has closed its standard output.
        _ => Ok(Outcome::Ended(ended)),
    }
}

/// Where a container is mounted by the kernel.
struct Target<'a> {
    container: &'a Container,
    mountpoint: &'a Path,
    files: &'a [MountedFile],
}

/// How that went.
enum ByKernel {
    Done(Result<Outcome>),
    /// It cannot be done by the kernel. Nothing is mounted.
    Refused(Option<Box<(Spec, Streams)>>, Error),
}

/// Mounts a container by the kernel's overlayfs, and runs the command in it, if there is one.
fn by_kernel(
    store: &Store,
    request: &RunMount,
    target: &Target<'_>,
    command: Option<Box<(Spec, Streams)>>,
    temporary: &Option<Staging>,
    has_run: &mut bool,
) -> ByKernel {
    let Target { container, mountpoint, files } = target;
    // What a power cut may take away with the container need not be on the disk before.
    let store = &if temporary.is_some() { store.without_sync() } else { store.clone() };
    let prepared = lock(store, container).and_then(|lock| {
        let prepared = kernel::prepare(store, container, request.read_only, command.is_some())?;
        Ok((lock, prepared))
    });
    let (lock, prepared) = match prepared {
        Err(error @ Error::Unsupported(_)) | Err(error @ Error::Relayed { .. }) => {
            return ByKernel::Refused(command, error);
        }
        Err(error) => return ByKernel::Done(Err(error)),
        Ok(prepared) => prepared,
    };
    let Some((spec, streams)) = command.map(|command| *command) else {
        return match kernel::mount(store, container, prepared, mountpoint, request.remove) {
            Err(error @ Error::Unsupported(_)) => ByKernel::Refused(None, error),
            mounted => ByKernel::Done(mounted.map(|()| {
                let leaves = if request.remove { Leaves::Nothing } else { Leaves::Container };
                Outcome::Mounted(Mounted { container: container.id, mountpoint: mountpoint.to_path_buf(), leaves })
            })),
        };
    };
    let run = || {
        // As long as this is there the container goes when this process dies.
        let kept = if request.remove && temporary.is_none() { Some(store.make_temporary(container)?) } else { None };
        let started = AtomicBool::new(false);
        let command = (Spec { files: files.to_vec(), ..spec }, &streams);
        let ended = kernel::run(store, container, prepared, mountpoint, command, &started);
        *has_run = started.into_inner();
        drop(lock);
        let cleared = container.remove_default_mountpoint();
        if request.remove {
            match store.remove_container(container) {
                Err(Error::NotFound { .. }) => {}
                removed => removed?,
            }
        }
        drop(kept);
        let ended = ended?;
        cleared.map(|()| Outcome::Ended(ended))
    };
    ByKernel::Done(run())
}

/// What this server has lost has been said.
fn forget_loss(store: &Store, container: &Container, server: u32) -> Result<()> {
    match container.mount()?.filter(|mount| mount.pid == server) {
        Some(mount) if mount.lost.is_some() => store.change_mount(container, &mount, |mount| mount.lost = None),
        _ => Ok(()),
    }
}

/// What is to run: the command, or the image's own, in the image's surroundings.
fn process(store: &Store, request: &RunMount, container: &Container, command: &[OsString]) -> Result<Spec> {
    let image = store.image(container.record.image)?;
    let config = ImageConfig::parse(&image.config)
        .map_err(|why| Error::Unsupported(format!("{}: {why}", container.record.image)))?;
    let process = config.config.unwrap_or_default();
    let entrypoint = process.entrypoint().to_vec();
    let Process { user, env, cmd, working_dir, .. } = process;
    let bytes = |words: Option<Vec<String>>| words.into_iter().flatten().map(String::into_bytes);
    let args: Vec<Vec<u8>> = if command.is_empty() {
        bytes(Some(entrypoint)).chain(bytes(cmd)).collect()
    } else {
        command.iter().cloned().map(OsString::into_vec).collect()
    };
    if args.is_empty() {
        return Err(Error::Usage("no command is given, and the image has none".into()));
    }
    Ok(Spec {
        rootfs: PathBuf::new(),
        overlay: None,
        files: Vec::new(),
        hostname: container.short_id(),
        args,
        env: bytes(env).collect(),
        working_dir: working_dir.unwrap_or_default().into_bytes(),
        user: user.unwrap_or_default(),
        read_only: request.read_only,
        security: request.security,
    })
}
