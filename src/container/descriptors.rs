//! The command's standard descriptors in init, before they are the command's: what has to be done in the container.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, makedev};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::mount::MountAttrFlags;
use rustix::process::ioctl_tiocsctty;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};
use rustix::termios::isatty;
use rustix::thread::Uid;

use super::mounts::DEVICES;
use super::pty;
use super::standard::name;
use super::streams::{Device, Plan};
use crate::error::{Context as _, Result};
use crate::sys::call;

fn standard(number: usize) -> BorrowedFd<'static> {
    match number {
        0 => stdin(),
        1 => stdout(),
        _ => stderr(),
    }
}

fn replace(number: usize, fd: &OwnedFd) -> Result<()> {
    let replaced = match number {
        0 => dup2_stdin(fd),
        1 => dup2_stdout(fd),
        _ => dup2_stderr(fd),
    };
    replaced.doing("replace", name(number))
}

/// Puts the container's devices in the place of the host's, and gives terminals and anonymous pipes to the command's user, so
/// that the command can open `/dev/stdout`.
pub(super) fn prepare(plan: &Plan, user: u32) -> Result<()> {
    for (number, device) in plan.devices.iter().enumerate() {
        match device {
            Some(device) => replace(number, &open(device)?)?,
            None => give(number, user)?,
        }
    }
    Ok(())
}

/// Makes the terminal the controlling one of this session. A descriptor of it for later.
pub(super) fn take_terminal(plan: &Plan) -> Result<Option<OwnedFd>> {
    let Some(number) = plan.terminal else { return Ok(None) };
    ioctl_tiocsctty(standard(number)).doing("take the terminal of", name(number))?;
    fcntl_dupfd_cloexec(standard(number), 3).map(Some).doing("copy", name(number))
}

/// The container's null device.
pub(super) fn null() -> Result<OwnedFd> {
    open(&Device { name: "null".to_owned(), access: OFlags::RDWR.bits() })
}

/// Init keeps nothing of what the command has.
pub(super) fn close(null: &OwnedFd) -> Result<()> {
    (0..3).try_for_each(|number| replace(number, null))
}

/// A device of the container; in a tree that has no place for `/dev`, one that is nowhere else.
fn open(device: &Device) -> Result<OwnedFd> {
    let path = format!("/dev/{}", device.name);
    let flags = OFlags::from_bits_truncate(device.access) & OFlags::RWMODE | OFlags::NOCTTY | OFlags::CLOEXEC;
    match call::openat(CWD, &path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        opened => return opened.doing("open the container's", path),
    }
    let mount = pty::mount("tmpfs", &[("size", "4k")], MountAttrFlags::MOUNT_ATTR_NOEXEC)?;
    let made = || {
        let (name, major, minor) = DEVICES.iter().find(|(name, ..)| *name == device.name).ok_or(Errno::NODEV)?;
        call::mknodat(&mount, *name, FileType::CharacterDevice, Mode::empty(), makedev(*major, *minor))?;
        call::chmodat(&mount, *name, Mode::from_raw_mode(0o666), AtFlags::empty())?;
        call::openat(&mount, *name, flags, Mode::empty())
    };
    made().doing("make the container's", path)
}

fn give(number: usize, user: u32) -> Result<()> {
    let fd = standard(number);
    let stat = call::fstat(fd).doing("examine", name(number))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_ours = kind == FileType::Fifo || kind == FileType::CharacterDevice && isatty(fd);
    // Root can open it all the same, and the caller, if that is not root, too.
    if !is_ours || stat.st_uid == user || user == 0 {
        return Ok(());
    }
    match call::fchown(fd.as_fd(), Some(Uid::from_raw(user)), None) {
        // Of a user that this user namespace does not have: it stays open, but cannot be opened again.
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => Ok(()),
        Err(error) => Err(error).doing("give the command's user", name(number)),
    }
}
