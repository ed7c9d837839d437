//! What the kernel has gathered of single files, written out by a process that a server starts when it first needs it.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::fuse::{Gathered, WriteOut};
use crate::mount::ourselves::start_ourselves;
use crate::mount::task::{File, MOUNT_TASK, Order};
use crate::sys::{call, open_fuse_inode, write_back};

/// The server's side. The process ends when this is dropped, or the server is dead.
#[derive(Debug)]
pub(crate) struct Writer {
    order: Order,
    started: Mutex<Option<Started>>,
}

#[derive(Debug)]
struct Started {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Writer {
    /// For the mount that `order` names.
    pub(crate) fn write_out_of(order: Order) -> WriteOut {
        let writer = Self { order, started: Mutex::default() };
        Box::new(move |gathered| writer.write_out(gathered))
    }

    fn write_out(&self, gathered: &Gathered<'_>) -> io::Result<()> {
        let mut started = self.started.lock();
        let mut process = match started.take() {
            Some(process) => process,
            None => Started::new(&self.order).map_err(io::Error::other)?,
        };
        // One that has failed ends here, and the next file has another one.
        let answer = process.ask(gathered)?;
        *started = Some(process);
        match answer {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Started {
    fn new(order: &Order) -> Result<Self> {
        let mut child = start_ourselves(MOUNT_TASK, order, Stdio::null())?;
        match (child.stdin.take(), child.stdout.take()) {
            (to @ Some(_), Some(from)) => Ok(Self { child, to, from: BufReader::new(from) }),
            _ => Err(Error::Unsupported("a process that was started has no pipes".into())),
        }
    }

    fn ask(&mut self, gathered: &Gathered<'_>) -> io::Result<i32> {
        let path = Path::new(OsStr::from_bytes(gathered.path));
        let Gathered { ino, generation, from, .. } = *gathered;
        let mut line = serde_json::to_vec(&File { number: ino.0, generation, from, path: path.into() })?;
        line.push(b'\n');
        let to = self.to.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        to.write_all(&line)?;
        let mut answer = String::new();
        self.from.read_line(&mut answer)?;
        answer.trim_end().parse().map_err(|_| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.to = None;
        // error: it is this process's child, and ends with its input
        drop(self.child.wait());
    }
}

/// The process's side: does what the lines on standard input say. `root` opens the root of the mount.
pub(super) fn answer_all(root: impl Fn() -> Result<Option<OwnedFd>>) -> Result<()> {
    for line in io::stdin().lock().lines() {
        let line = line.doing("read an order on", "standard input")?;
        let file: File = serde_json::from_str(&line).map_err(|error| Error::Usage(error.to_string()))?;
        let answer = match root()? {
            // For this moment only: it would keep others from unmounting.
            Some(root) => write_out(&root, &file).err().map_or(0, Errno::raw_os_error),
            None => Errno::NOTCONN.raw_os_error(),
        };
        let mut out = io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).doing("write an answer to", "standard output")?;
    }
    Ok(())
}

fn write_out(root: &OwnedFd, file: &File) -> rustix::io::Result<()> {
    let opened = match open_fuse_inode(root.as_fd(), file.number, file.generation) {
        Err(Errno::STALE | Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {
            let path = PathBuf::from(file.path.clone());
            if path.as_os_str().is_empty() {
                return Err(Errno::STALE);
            }
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
            match call::openat2(root, &path, flags, Mode::empty(), resolve) {
                // It was removed or replaced, and has no data that must be there.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(()),
                opened => opened?,
            }
        }
        opened => opened?,
    };
    // What the kernel knows, without asking the server.
    let found = call::statx(&opened, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, StatxFlags::SIZE)?;
    let length = i64::try_from(found.stx_size).unwrap_or(i64::MAX).saturating_sub(file.from);
    // To the end of a file that grows it might never come.
    if length > 0 { write_back(&opened, file.from, length) } else { Ok(()) }
}
