//! The command's standard descriptors: what the caller gave as 0, 1 and 2, and what the command gets for it.
//!
//! | the caller's | the command's |
//! |---|---|
//! | terminal | a pseudo-terminal of the container ([`Terminal`]); one for all descriptors of the same terminal |
//! | regular file that is read | the same file on a detached read-only mount, at the same offset |
//! | regular file that is written | a pipe, from which this process writes |
//! | block device, named FIFO | a pipe, from or to which this process copies |
//! | `/dev/null` and the other devices that the container has | the container's own |
//! | anonymous pipe, socket, other character device | the same |
//! | directory, and what else there is (a pidfd, `O_PATH`) | none: an error |
//!
//! A descriptor that is both read and written counts as read when it is 0 and as written else.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, stderr, stdin, stdout};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{FileType, OFlags, fcntl_getfl, makedev};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::termios::tcgetattr;
use serde::{Deserialize, Serialize};

use super::mounts::DEVICES;
use super::pty::Devpts;
use super::pump::{self, PIPE_SIZE, Pump};
use super::standard::{access, name};
use super::terminal::Terminal;
use crate::error::{Context as _, Error, Result};
use crate::sys::{self, call};

/// `PIPEFS_MAGIC` of linux/magic.h: the file system of anonymous pipes.
const PIPEFS: u64 = 0x5049_5045;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A socket or a device, which the command gets as it is.
    Given,
    /// An anonymous pipe, which the command gets as it is.
    Pipe,
    /// One of [`DEVICES`], by its name.
    Device(&'static str),
    /// By its device number.
    Terminal(u32),
    /// A regular file that is read.
    Read,
    /// A block device that is read.
    CopyIn,
    /// A named FIFO that is read.
    FifoIn,
    /// What is written through a pipe.
    CopyOut,
}

/// The caller's standard descriptors.
#[derive(Debug, Clone)]
pub struct Streams {
    kinds: [Kind; 3],
}

/// What init does with a descriptor that is not in place yet: opens the container's device `name` with these flags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) access: u32,
}

/// The command's standard descriptors, for init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) devices: [Option<Device>; 3],
    /// Which descriptor is open on the terminal that becomes the controlling one.
    pub(super) terminal: Option<usize>,
    /// Whether the command begins as the foreground process group of that.
    pub(super) foreground: bool,
}

/// What has been made for the command's descriptors.
pub(super) struct Opened {
    pub(super) plan: Plan,
    /// What init starts with.
    pub(super) stdio: [Stdio; 3],
    /// The file system that has the pseudo-terminals, to be mounted by init.
    pub(super) devpts: Option<OwnedFd>,
    /// The controlling one first.
    pub(super) terminals: Vec<Terminal>,
    pub(super) pumps: Vec<Pump>,
    pub(super) files: Vec<ReadFile>,
}

/// A regular file that the command reads with an offset of its own.
pub(super) struct ReadFile {
    number: usize,
    begin: u64,
    reopened: File,
    /// Closing it takes milliseconds (the kernel waits for all processors), so it is kept to the end.
    _mount: OwnedFd,
}

fn given(number: usize) -> Result<OwnedFd> {
    let copy = match number {
        0 => fcntl_dupfd_cloexec(stdin(), 3),
        1 => fcntl_dupfd_cloexec(stdout(), 3),
        _ => fcntl_dupfd_cloexec(stderr(), 3),
    };
    copy.doing("copy", name(number))
}

impl Streams {
    /// Looks at the descriptors 0, 1 and 2 of this process.
    ///
    /// # Errors
    /// [`Error::Usage`] for one that no command in a container can have; [`Error::Io`] when it cannot be looked at.
    pub fn of_caller() -> Result<Self> {
        let kinds = [classify(0, stdin().as_fd())?, classify(1, stdout().as_fd())?, classify(2, stderr().as_fd())?];
        Ok(Self { kinds })
    }

    /// Whether the command gets a terminal.
    pub(super) fn has_terminal(&self) -> bool {
        self.kinds.iter().any(|kind| matches!(kind, Kind::Terminal(_)))
    }

    /// Makes the terminals, pipes and mounts that the command's descriptors need.
    pub(super) fn open(&self) -> Result<Opened> {
        let mut opened = Opened {
            plan: Plan { devices: [const { None }; 3], terminal: None, foreground: false },
            stdio: [Stdio::inherit(), Stdio::inherit(), Stdio::inherit()],
            devpts: None,
            terminals: Vec::new(),
            pumps: Vec::new(),
            files: Vec::new(),
        };
        let mut output = None;
        self.open_terminals(&mut opened)?;
        for (number, kind) in self.kinds.iter().enumerate() {
            let stdio = match kind {
                Kind::Given | Kind::Pipe | Kind::Terminal(_) => continue,
                Kind::Device(device) => {
                    let fd = given(number)?;
                    let access = access(number, fd.as_fd())?;
                    if let Some(entry) = opened.plan.devices.get_mut(number) {
                        *entry = Some(Device { name: (*device).to_owned(), access: access.bits() });
                    }
                    // The host's, until init has the container's.
                    Stdio::null()
                }
                Kind::Read => opened.read(number)?,
                Kind::CopyIn => opened.copy_in(number, pump::Source::File)?,
                Kind::FifoIn => opened.copy_in(number, pump::Source::Fifo)?,
                Kind::CopyOut => {
                    let writer = match output.take() {
                        Some(writer) if self.shares_output(number)? => writer,
                        _ => opened.copy_out(number)?,
                    };
                    let copy = fcntl_dupfd_cloexec(&writer, 3).doing("copy the pipe of", name(number))?;
                    output = Some(writer);
                    copy.into()
                }
            };
            if let Some(entry) = opened.stdio.get_mut(number) {
                *entry = stdio;
            }
        }
        Ok(opened)
    }

    /// Whether 2 gets the pipe of 1, so that with `2>&1` the order of what is written to both stays.
    fn shares_output(&self, number: usize) -> Result<bool> {
        if number != 2 || self.kinds.get(1) != Some(&Kind::CopyOut) {
            return Ok(false);
        }
        match sys::is_same_open_file(stdout(), stderr()) {
            // Without the call the same file counts as the same open file: two of it would overwrite each other.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                let (one, other) = (call::fstat(stdout()), call::fstat(stderr()));
                let (one, other) = (one.doing("examine", name(1))?, other.doing("examine", name(2))?);
                Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
            }
            answer => answer.doing("compare with standard output", name(2)),
        }
    }

    fn open_terminals(&self, opened: &mut Opened) -> Result<()> {
        let mut devices: Vec<u32> = Vec::new();
        for kind in self.kinds {
            if let Kind::Terminal(device) = kind
                && !devices.contains(&device)
            {
                devices.push(device);
            }
        }
        if devices.is_empty() {
            return Ok(());
        }
        let devpts = Devpts::new()?;
        for device in devices {
            let mut descriptors = Vec::new();
            for number in (0..3).filter(|number| self.kinds.get(*number) == Some(&Kind::Terminal(device))) {
                descriptors.push((number, given(number)?));
            }
            let (master, slave) = devpts.open()?;
            for (number, _) in &descriptors {
                let slave = fcntl_dupfd_cloexec(&slave, 3).doing("copy", "a pseudo-terminal")?;
                if let Some(entry) = opened.stdio.get_mut(*number) {
                    *entry = Stdio::from(slave);
                }
            }
            let is_first = opened.terminals.is_empty();
            let number = descriptors.first().map_or(0, |(number, _)| *number);
            let mut terminal = Terminal::new(descriptors, (master, slave), is_first, self.is_in_pipeline())?;
            if is_first {
                opened.plan.terminal = Some(number);
                opened.plan.foreground = terminal.begins_in_foreground()?;
            }
            opened.pumps.extend(terminal.output_pump()?);
            opened.terminals.push(terminal);
        }
        opened.devpts = Some(devpts.into_mount());
        Ok(())
    }

    /// Whether another program reads what the command writes, and may want the terminal itself.
    fn is_in_pipeline(&self) -> bool {
        self.kinds.get(1) == Some(&Kind::Pipe)
    }
}

impl Opened {
    /// The file on a mount through which neither it nor its attributes can be changed, however it is opened again.
    fn read(&mut self, number: usize) -> Result<Stdio> {
        let original = File::from(given(number)?);
        let path = format!("/proc/self/fd/{}", original.as_raw_fd());
        let mount = match sys::detached_read_only(Path::new(&path)) {
            // Of another mount namespace, or of none, as a memfd is.
            Err(Errno::INVAL) => return self.copy_in(number, pump::Source::File),
            mount => mount.doing("mount read-only", name(number))?,
        };
        let mut reopened = match File::open(format!("/proc/self/fd/{}", mount.as_raw_fd())) {
            // The caller could open it and this user cannot, or a server does not have it any more.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::ESTALE)) => {
                return self.copy_in(number, pump::Source::File);
            }
            reopened => reopened.doing("open read-only", name(number))?,
        };
        let begin = (&original).stream_position().doing("find the offset of", name(number))?;
        reopened.seek(SeekFrom::Start(begin)).doing("find the offset of", name(number))?;
        let stdio = reopened.try_clone().doing("copy", name(number))?;
        self.files.push(ReadFile { number, begin, reopened, _mount: mount });
        Ok(stdio.into())
    }

    fn copy_in(&mut self, number: usize, source: pump::Source) -> Result<Stdio> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe for", name(number))?;
        let stdio = fcntl_dupfd_cloexec(&reader, 3).doing("copy the pipe of", name(number))?;
        self.pumps.push(Pump::input(number, source, given(number)?, reader, writer)?);
        Ok(stdio.into())
    }

    /// The end of the pipe that the command is to have.
    fn copy_out(&mut self, number: usize) -> Result<OwnedFd> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).doing("make a pipe for", name(number))?;
        match fcntl_setpipe_size(&writer, PIPE_SIZE) {
            // It is larger than this user may have: then it is slower.
            Ok(_) | Err(Errno::PERM | Errno::BUSY) => {}
            Err(error) => return Err(error).doing("make a pipe for", name(number)),
        }
        self.pumps.push(Pump::output(number, reader, given(number)?)?);
        Ok(writer)
    }
}

impl ReadFile {
    /// Sets the caller's offset to where the command has stopped reading, when it has read at all.
    pub(super) fn finish(mut self) -> Result<()> {
        let end = self.reopened.stream_position().doing("find the offset of", name(self.number))?;
        if end == self.begin {
            return Ok(());
        }
        let mut original = File::from(given(self.number)?);
        original.seek(SeekFrom::Start(end)).map(|_| ()).doing("set the offset of", name(self.number))
    }
}

fn classify(number: usize, fd: BorrowedFd<'_>) -> Result<Kind> {
    let stat = call::fstat(fd).doing("examine", name(number))?;
    let flags = fcntl_getfl(fd).doing("examine", name(number))?;
    let refused = |what: &str| {
        let name = name(number);
        Error::Usage(format!("{name} is {what}, and no command in a container can have it: give a file or /dev/null"))
    };
    let access = flags & OFlags::RWMODE;
    let is_read = access == OFlags::RDONLY || access == OFlags::RDWR && number == 0;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Directory {
        return Err(refused("a directory, which leads out of the container's root"));
    }
    if flags.contains(OFlags::PATH) {
        return Err(refused("opened with O_PATH"));
    }
    match kind {
        FileType::RegularFile => Ok(if is_read { Kind::Read } else { Kind::CopyOut }),
        FileType::BlockDevice => Ok(if is_read { Kind::CopyIn } else { Kind::CopyOut }),
        FileType::Fifo => {
            let file_system = call::fstatfs(fd).doing("examine", name(number))?.f_type;
            if u64::try_from(file_system) == Ok(PIPEFS) {
                return Ok(Kind::Pipe);
            }
            Ok(if is_read { Kind::FifoIn } else { Kind::CopyOut })
        }
        FileType::Socket => Ok(Kind::Given),
        FileType::CharacterDevice => {
            let own = DEVICES.iter().find(|(name, major, minor)| {
                // The terminal's own name, `tty`, stands for whichever it is.
                *name != "tty" && stat.st_rdev == makedev(*major, *minor)
            });
            match (own, tcgetattr(fd)) {
                (Some((name, ..)), _) => Ok(Kind::Device(name)),
                (None, Ok(_)) => sys::terminal_device(fd).map(Kind::Terminal).doing("examine", name(number)),
                (None, Err(Errno::NOTTY | Errno::INVAL)) => Ok(Kind::Given),
                // The terminal is gone: what is read of it has an end, and what is written goes nowhere.
                (None, Err(Errno::IO)) => Ok(Kind::Device("null")),
                (None, Err(error)) => Err(error).doing("examine", Path::new(name(number))),
            }
        }
        _ => Err(refused("neither a file, a pipe, a socket nor a device")),
    }
}
