//! The mounts of a container, and the change into its tree.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Dev, FileType, Mode, OFlags, StatVfsMountFlags, makedev};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount_bind, mount_change, mount_remount,
    move_mount, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::root::{PLAIN, Root};
use super::{Spec, mounted_files};
use crate::error::{Context as _, Error, Result};
use crate::sys::{self, call};

/// Name, major and minor number (Linux: admin-guide/devices.txt).
pub(super) const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// The directories in the root of a container's tree that something is mounted on. Its mount shows those that its layers lack.
pub const MOUNTED_DIRECTORIES: [&str; 3] = ["dev", "proc", "sys"];

/// The same of files in its `etc`.
pub const MOUNTED_FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// What tells about the host, or lets it be harmed, and is hidden.
const MASKED: [&str; 12] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
];

/// What may be read, and with the capabilities of a container's root would be writable.
const FROZEN: [&str; 5] = ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];

/// Makes the tree at `spec.rootfs` the root of this process and of its mount namespace, which must be its own, with
/// the file systems mounted that programs count on. Nothing of the host can be reached by a path after that, also not
/// by a device: only those of `/dev` can be opened, whatever nodes the image has or the command makes. `devpts` is the file
/// system with the command's terminal, if it has one.
pub(super) fn enter(spec: &Spec, devpts: Option<OwnedFd>) -> Result<()> {
    // Private and not slave: no mount of the host is left here to follow what happens there.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).doing("make private", "/")?;
    if let Some(overlay) = &spec.overlay {
        overlay.mount(&spec.rootfs).doing("mount an overlay at", &spec.rootfs)?;
    }
    // A new root has to be a mount; as a bind it also has flags of its own.
    mount_bind(&spec.rootfs, &spec.rootfs).doing("mount", &spec.rootfs)?;
    let read_only = if spec.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    add_flags(&spec.rootfs, MountFlags::NODEV | read_only).doing("restrict the mount", &spec.rootfs)?;
    let root = Root::open(&spec.rootfs)?;
    // Before all else, since links of the image are followed.
    spec.files.iter().try_for_each(|file| mounted_files::mount(&root, file, spec.read_only))?;
    root.mount("proc", "proc", PLAIN, c"")?;
    let sysfs = root.mount("sysfs", "sys", PLAIN | MountFlags::RDONLY, c"");
    // The kernel refuses it to a user namespace without a network namespace of its own: then there is nothing to hide.
    let has_sysfs = except(Errno::PERM, sysfs)?;
    mount_dev(&root, devpts)?;
    FROZEN.iter().try_for_each(|path| root.freeze(path))?;
    MASKED.iter().try_for_each(|path| root.mask(path))?;
    if has_sysfs {
        mask_processors(&root)?;
    }
    // The old root goes on top of the new one, and away from there.
    let entered = fchdir(root.fd())
        .and_then(|()| pivot_root(".", "."))
        .and_then(|()| unmount(".", UnmountFlags::DETACH))
        .and_then(|()| chdir("/"));
    entered.doing("change the root to", &spec.rootfs)
}

/// Hides how often each processor of the host was too hot, as Docker does: the counts tell what else runs on it.
fn mask_processors(root: &Root) -> Result<()> {
    let dir = "sys/devices/system/cpu";
    for name in root.names(dir)? {
        let Ok(name) = name.to_str() else { continue };
        if name.strip_prefix("cpu").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())) {
            root.mask(&format!("{dir}/{name}/thermal_throttle"))?;
        }
    }
    Ok(())
}

/// Whether the mount was made. The error `refusal` means that the kernel does not offer this file system here.
fn except(refusal: Errno, mounted: Result<bool>) -> Result<bool> {
    match mounted {
        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(refusal.raw_os_error()) => Ok(false),
        mounted => mounted,
    }
}

/// A remount sets all flags of a mount, so that those it has are given again. (Access times are kept by themselves.)
fn add_flags(path: &Path, flags: MountFlags) -> rustix::io::Result<()> {
    let has = call::statvfs(path)?.f_flag;
    let kept = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
    ];
    let kept = kept.into_iter().filter(|(flag, _)| has.contains(*flag)).map(|(_, flag)| flag);
    mount_remount(path, kept.fold(MountFlags::BIND | flags, MountFlags::union), c"")
}

/// Two file systems: below the one that is seen, which has no devices, is one that has, and of that one the few files
/// are bound. With `CAP_MKNOD` and no device cgroup, root could otherwise make itself the host's disk.
fn mount_dev(root: &Root, devpts: Option<OwnedFd>) -> Result<()> {
    if !root.mount("tmpfs", "dev", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=755,size=64k")? {
        return Ok(());
    }
    let Some(below) = root.dir("dev")? else { return Ok(()) };
    root.mount("tmpfs", "dev", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755,size=65536k")?;
    let Some(dev) = root.dir("dev")? else { return Ok(()) };
    for (name, major, minor) in DEVICES {
        let made = bind_device(&below, &dev, name, makedev(major, minor));
        made.doing("make the container's device", Path::new("/dev").join(name))?;
    }
    for (target, name) in LINKS {
        call::symlinkat(target, &dev, name).doing("make the container's link", Path::new("/dev").join(name))?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    match devpts {
        Some(devpts) => mount_terminals(root, &dev, &devpts)?,
        None => drop(root.mount("devpts", "dev/pts", flags, c"newinstance,ptmxmode=0666,mode=0620,gid=5")?),
    }
    root.mount("tmpfs", "dev/shm", PLAIN, c"mode=1777,size=65536k")?;
    // A kernel may have been built without it.
    except(Errno::NODEV, root.mount("mqueue", "dev/mqueue", PLAIN, c""))?;
    Ok(())
}

fn bind_device(below: &OwnedFd, dev: &OwnedFd, name: &str, number: Dev) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    let source = match call::mknodat(below, name, FileType::CharacterDevice, mode, number) {
        Ok(()) => sys::proc_path(below.as_fd(), name.as_bytes()),
        // Not in a user namespace: the host's is as good.
        Err(Errno::PERM) => format!("/dev/{name}").into_bytes(),
        Err(error) => return Err(error),
    };
    call::openat(dev, name, OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, mode)?;
    mount_bind(source, sys::proc_path(dev.as_fd(), name.as_bytes()))
}

/// The command's terminal is the first of its file system, and `/dev/console` too.
fn mount_terminals(root: &Root, dev: &OwnedFd, devpts: &OwnedFd) -> Result<()> {
    let Some(pts) = root.dir("dev/pts")? else { return Ok(()) };
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(devpts, "", pts, "", flags).doing("mount", "/dev/pts")?;
    let bind = || {
        call::openat(dev, "console", OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::from_raw_mode(0o620))?;
        mount_bind(sys::proc_path(devpts.as_fd(), b"0"), sys::proc_path(dev.as_fd(), b"console"))
    };
    bind().doing("make the container's device", "/dev/console")
}
