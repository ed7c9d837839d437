//! A container's own part: what overlayfs is given, and the mount of a container without a command.

use std::ffi::OsStr;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::container::MOUNTED_DIRECTORIES;
use crate::error::{Context as _, Error, Result};
use crate::mount::command_mounts;
use crate::mount::kernel::image_mount::{self, ImageMount};
use crate::network::name_files;
use crate::store::{Container, MountRecord, OverlayMount, Spelling, Store};
use crate::sys::{self, Dir, Overlay, Upper, call, fs};
use crate::timestamp::now;
use crate::{fuse, rw_layer};

/// How long a mount is waited for that is about to end: of a command that was killed, say.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// All that a mount needs.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What overlayfs is given.
    pub(crate) overlay: Overlay,
    image: ImageMount,
}

/// Brings the rw layer of a container, whose lock is held, into overlayfs' spelling, and takes the mount of its image.
///
/// # Errors
/// [`Error::Unsupported`] for what overlayfs or the disk cannot do.
pub(crate) fn prepare(store: &Store, container: &Container, read_only: bool, command: bool) -> Result<Prepared> {
    check_kernel()?;
    let is_fresh = rw_layer::is_fresh(container)?;
    // Nothing was written to it, and nothing will be.
    let has_upper = !(read_only && is_fresh);
    let upper = if has_upper { Some(prepare_upper(store, container, is_fresh)?) } else { None };
    let points = container.dir().join("points");
    if command {
        make_points(store, container, &points)?;
    }
    let none = container.dir().join("none");
    if !has_upper && !command {
        fs::create_dir_all(&none).doing("create", &none)?;
    }
    let image = image_mount::take(store, container.record.image)?;
    if has_upper && is_fresh {
        // The root of an overlay is its upper's, and not the layers'.
        copy_attributes(&image.mountpoint, &container.upper())?;
        store.set_spelling(container, Spelling::Overlayfs)?;
    }
    // Whatever the image has at a mount point's name comes first. Without an upper overlayfs wants a second layer.
    let below = if command { Some(points) } else { Some(none).filter(|_| !has_upper) };
    let overlay = Overlay {
        source: container.short_id(),
        lowers: [image.mountpoint.clone()].into_iter().chain(below).collect(),
        upper,
        read_only,
        flags: 0,
        is_hidden: command,
    };
    Ok(Prepared { overlay, image })
}

/// Brings the rw layer of a container into overlayfs' spelling.
fn prepare_upper(store: &Store, container: &Container, is_fresh: bool) -> Result<Upper> {
    let work = container.work();
    if container.spelling()? == Spelling::Aufs && fs::is_there(&work).doing("look at", &work)? {
        // What is there is of a mount before the last conversion.
        store.clear_overlay_work(container, &store.stage_briefly()?)?;
    }
    if !is_fresh {
        rw_layer::make(store, container, Spelling::Overlayfs)?;
    }
    rw_layer::make_links_whole(store, container)?;
    fs::create_dir_all(&work).doing("create", &work)?;
    check_disk(&container.dir(), &work)?;
    Ok(Upper { dir: container.upper(), work, volatile: false })
}

/// Gives a directory the owner, mode, times and attributes of another one.
fn copy_attributes(from: &Path, to: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let stat = call::stat(from).doing("look at", from)?;
    let xattrs = sys::read_xattrs(from.as_os_str().as_bytes()).doing("look at", from)?;
    let dir = call::open(to, flags, Mode::empty()).doing("open", to)?;
    let copy = || {
        call::fchown(&dir, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        for (name, value) in &xattrs {
            call::fsetxattr(&dir, &**name, value, XattrFlags::empty())?;
        }
        call::fchmod(&dir, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        call::futimens(&dir, &times_of(&stat))
    };
    copy().doing("describe", to)
}

#[allow(clippy::useless_conversion, reason = "the fields of struct stat differ between architectures")]
fn times_of(stat: &Stat) -> Timestamps {
    let nsec = |nsec| i64::try_from(u64::from(nsec)).unwrap_or_default();
    let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec };
    Timestamps {
        last_access: time(stat.st_atime.into(), nsec(stat.st_atime_nsec)),
        last_modification: time(stat.st_mtime.into(), nsec(stat.st_mtime_nsec)),
    }
}

impl Prepared {
    /// What is written down of the mount.
    pub(crate) fn record(&self, mountpoint: &Path, command: bool, remove: bool) -> MountRecord {
        MountRecord {
            mountpoint: mountpoint.to_owned(),
            pid: if command { std::process::id() } else { 0 },
            started: now(),
            read_only: self.overlay.read_only,
            command,
            live: String::new(),
            ended: false,
            lost: None,
            overlay: Some(OverlayMount { device: String::new(), image_server: self.image.server.clone(), remove }),
        }
    }

    /// Waits until the kernel lets the upper be mounted.
    ///
    /// # Errors
    /// [`Error::InUse`] when a process in another mount namespace keeps it.
    pub(crate) fn wait_for_upper(&self, container: &Container) -> Result<()> {
        crate::mount::kernel::freezer::recover(container)?;
        let upper = &container.upper();
        let began = Instant::now();
        while sys::is_upper_in_use(upper).doing("find the mount of", upper)? {
            if began.elapsed() > PATIENCE {
                return Err(crate::mount::kernel::end::still_used(container));
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Mounts a container at `mountpoint`, where it stays.
///
/// # Errors
/// What the kernel says; nothing is mounted then.
pub(crate) fn mount(
    store: &Store,
    container: &Container,
    prepared: Prepared,
    mountpoint: &Path,
    remove: bool,
) -> Result<()> {
    prepared.wait_for_upper(container)?;
    let _reserved = crate::mount::mountpoint::reserve(mountpoint)?;
    crate::mount::mountpoint::check_free(mountpoint)?;
    let mut record = prepared.record(mountpoint, false, remove);
    // Before there is a mount: a process that dies leaves none of which nothing tells.
    store.set_mount(container, &record)?;
    if let Err(error) = prepared.overlay.mount(mountpoint) {
        store.set_mount(container, &MountRecord { ended: true, ..record })?;
        return Err(refused(error, container, mountpoint));
    }
    let noted = (|| {
        let found = fuse::mount_at(mountpoint)?;
        let found = found.ok_or(Errno::NOENT).doing("find the mount at", mountpoint)?;
        if let Some(overlay) = &mut record.overlay {
            found.device().clone_into(&mut overlay.device);
        }
        store.set_mount(container, &record)
    })();
    if let Err(error) = noted {
        match rustix::mount::unmount(mountpoint, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // Another program has just done it.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error).doing("unmount", mountpoint),
        }
        store.set_mount(container, &MountRecord { ended: true, ..record })?;
        return Err(error);
    }
    Ok(())
}

/// Why the kernel has refused a mount, as far as it can be known.
fn refused(error: Errno, container: &Container, mountpoint: &Path) -> Error {
    let why = match error {
        Errno::BUSY => return crate::mount::kernel::end::still_used(container),
        Errno::INVAL => "overlayfs refuses the file system of the store",
        error => return Error::Io { doing: "mount an overlay at", path: mountpoint.to_owned(), source: error.into() },
    };
    Error::Unsupported(format!("{}: cannot be mounted with --io kernel: {why}; --io cached can", mountpoint.display()))
}

pub(super) fn check_kernel() -> Result<()> {
    let path = "/proc/filesystems";
    let text = std::fs::read_to_string(path).doing("read", path)?;
    let is_known = text.lines().any(|line| line.trim_start_matches("nodev").trim() == sys::OVERLAY);
    // A module is loaded by the first mount; where there is none, that fails with `ENODEV`.
    if is_known || sys::is_upper_in_use(Path::new("/")) != Err(Errno::NODEV) {
        return Ok(());
    }
    Err(Error::Unsupported("this kernel has no overlayfs, which --io kernel needs: use --io cached".into()))
}

/// What the kernel refuses, or would go on without and only say in its log.
pub(super) fn check_disk(dir: &Path, work: &Path) -> Result<()> {
    let lacks = |what: &str| {
        let dir = dir.display();
        Err(Error::Unsupported(format!(
            "{dir}: its file system has no {what}, which --io kernel needs: put the store on another one, or use --io cached"
        )))
    };
    let opened = std::fs::File::open(work).doing("open", work)?;
    if call::fstatfs(&opened).doing("look at", work)?.f_type == sys::OVERLAY_MAGIC {
        return Err(Error::Unsupported(format!(
            "{}: it is on an overlayfs, on which --io kernel stacks no other one: put the store on another file system, or use \
             --io cached",
            dir.display()
        )));
    }
    match call::fsetxattr(&opened, "trusted.overlay.probe", b"y", XattrFlags::empty()) {
        Err(Errno::NOTSUP | Errno::PERM) => return lacks("attributes of root's (trusted.*)"),
        set => set.doing("mark", work)?,
    }
    if sys::file_handle(opened.as_fd(), b"").doing("look at", work)?.is_none() {
        return lacks("file handles");
    }
    for entry in Dir::open(dir).doing("read", dir)? {
        if entry.doing("read", dir)?.file_type() == FileType::Unknown {
            return lacks("types in its directories (d_type)");
        }
    }
    Ok(())
}

/// Makes what a command's file systems are mounted on where the image has nothing: a layer under the image, and so never in the
/// rw layer.
fn make_points(store: &Store, container: &Container, points: &Path) -> Result<()> {
    let stack = store.stack(container)?;
    let etc = points.join(command_mounts::etc(&stack, || rw_layer::read(store, container))?);
    for path in MOUNTED_DIRECTORIES.iter().map(|name| points.join(name)).chain([etc.clone()]) {
        fs::create_dir_all(&path).doing("create", &path)?;
        for dir in path.ancestors().take_while(|dir| *dir != points) {
            describe(dir, 0o755)?;
        }
    }
    for name in name_files::names(container) {
        let path = etc.join(OsStr::from_bytes(name.as_bytes()));
        match fs::create_new(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.map(drop).doing("create", &path)?,
        }
        describe(&path, 0o644)?;
    }
    Ok(())
}

/// Gives it the mode that it is to have, whatever the caller's umask was: a command's user reads it, and it may be copied into the
/// rw layer.
fn describe(path: &Path, mode: u32) -> Result<()> {
    let has = call::stat(path).doing("look at", path)?.st_mode & 0o7777;
    if has == mode { Ok(()) } else { call::chmod(path, Mode::from_raw_mode(mode)).doing("describe", path) }
}
