//! Copies between the caller's descriptors and those of the command, each on a thread of its own.
//!
//! A pump ends when its source does. When the container has ended, an output pump first writes all that is there, however
//! slow its target is, and waits for no more: the descriptor may have got out of the container, and have no end.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{OFlags, SeekFrom, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, splice, tee};

use super::standard::name;
use crate::error::{Context as _, Result};
use crate::sys::{self, call};

/// What most systems let an ordinary user have (`/proc/sys/fs/pipe-max-size`).
pub(super) const PIPE_SIZE: usize = 1 << 20;
const BUFFER: usize = 128 << 10;
/// One buffer of a pipe, so that the pipe can be written to when it is empty and not before.
const ONE_BUFFER: usize = 4096;
/// More than a pseudo-terminal keeps (`TTYB_DEFAULT_MEM_LIMIT` of drivers/tty/tty_buffer.c).
const REST_MAX: u64 = 1 << 20;
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// What is read for the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A file with an offset.
    File,
    /// A named FIFO.
    Fifo,
}

enum Work {
    Output { source: Arc<OwnedFd>, target: OwnedFd, terminal: Option<TerminalOutput> },
    Input { kind: Source, source: OwnedFd, reader: OwnedFd, sink: OwnedFd },
}

/// What a terminal's pump has beside others.
pub(super) struct TerminalOutput {
    /// Held while output is on its way from one terminal to the other.
    pub(super) turn: Arc<Mutex<()>>,
    /// Closed when the caller's terminal takes nothing any more.
    pub(super) _alive: PipeWriter,
}

/// A copy that is to be made.
pub(super) struct Pump {
    number: usize,
    work: Work,
}

impl Pump {
    /// Everything from the pipe `source` goes to `target`.
    pub(super) fn output(number: usize, source: OwnedFd, target: OwnedFd) -> Result<Self> {
        set_nonblocking(&source).doing("make a pipe for", name(number))?;
        Ok(Self { number, work: Work::Output { source: Arc::new(source), target, terminal: None } })
    }

    /// Everything that is written in the pseudo-terminal of `master`, which does not block, goes to `target`.
    pub(super) fn terminal(number: usize, master: Arc<OwnedFd>, target: OwnedFd, terminal: TerminalOutput) -> Self {
        Self { number, work: Work::Output { source: master, target, terminal: Some(terminal) } }
    }

    /// Everything in `source` goes to `sink`, a pipe whose other end, in this process, is `reader`.
    pub(super) fn input(number: usize, kind: Source, source: OwnedFd, reader: OwnedFd, sink: OwnedFd) -> Result<Self> {
        let doing = "make a pipe for";
        set_nonblocking(&sink).doing(doing, name(number))?;
        if kind == Source::Fifo {
            fcntl_setpipe_size(&sink, ONE_BUFFER).doing(doing, name(number))?;
        }
        Ok(Self { number, work: Work::Input { kind, source, reader, sink } })
    }

    /// Copies to the end, or until the other end of `ended` is closed.
    pub(super) fn run(self, ended: &PipeReader) -> Result<()> {
        // A write over the limit of a file's size is an error, and no end of the process. In the background the terminal
        // may still stop it.
        sys::block_signals_but(libc::SIGTTOU).doing("copy", name(self.number))?;
        match self.work {
            Work::Output { source, target, terminal } => {
                let turn = terminal.as_ref().map(|terminal| Arc::clone(&terminal.turn)).unwrap_or_default();
                let copied = copy_output(&source, &target, ended, &turn);
                match copied {
                    // The caller's terminal or reader is gone: the command is told by its own descriptor.
                    Err(_) if terminal.is_some() => Ok(()),
                    Err(Errno::PIPE) => Ok(()),
                    copied => copied.doing("write all that the command has written to", name(self.number)),
                }
            }
            Work::Input { kind, source, reader, sink } => {
                let copied = match kind {
                    Source::File => copy_file(&source, &reader, sink, ended),
                    Source::Fifo => copy_fifo(&source, &reader, sink, ended),
                };
                copied.doing("read for the command", name(self.number))
            }
        }
    }
}

fn set_nonblocking(fd: &OwnedFd) -> rustix::io::Result<()> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}

/// Waits until one is ready, and says what each is ready for.
pub(super) fn wait<const N: usize>(
    fds: [(BorrowedFd<'_>, PollFlags); N],
    timeout: Option<&Timespec>,
) -> rustix::io::Result<[PollFlags; N]> {
    let mut fds = fds.map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags));
    loop {
        match call::poll(&mut fds, timeout) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(fds.map(|fd| fd.revents())),
        }
    }
}

fn copy_output(source: &OwnedFd, target: &OwnedFd, ended: &PipeReader, turn: &Mutex<()>) -> rustix::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut rest = None;
    loop {
        if rest.is_none() {
            let [_, end] = wait([(source.as_fd(), PollFlags::IN), (ended.as_fd(), PollFlags::IN)], None)?;
            if !end.is_empty() {
                rest = Some(ioctl_fionread(source)?.max(REST_MAX));
            }
        }
        let turn = turn.lock();
        let moved = move_once(source, target, &mut buffer)?;
        drop(turn);
        match (moved, &mut rest) {
            (Moved::End, _) | (Moved::Nothing, Some(_)) => return Ok(()),
            (Moved::Some(count), Some(rest)) => {
                *rest = rest.saturating_sub(count);
                if *rest == 0 {
                    return Ok(());
                }
            }
            (_, None) => {}
        }
    }
}

/// What came of one read.
pub(super) enum Moved {
    Some(u64),
    /// There is nothing now.
    Nothing,
    End,
}

/// Writes to `target` what one read of `source`, which does not block, gives.
pub(super) fn move_once(source: &OwnedFd, target: &OwnedFd, buffer: &mut [u8]) -> rustix::io::Result<Moved> {
    let count = loop {
        match call::read(source, &mut *buffer) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Moved::Nothing),
            // What a master says when its slave is closed.
            Ok(0) | Err(Errno::IO) => return Ok(Moved::End),
            count => break count?,
        }
    };
    write_all(target, buffer.get(..count).unwrap_or_default())?;
    Ok(Moved::Some(count as u64))
}

/// Also to a descriptor that another process has made non-blocking.
fn write_all(target: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match call::write(target, bytes) {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => drop(wait([(target.as_fd(), PollFlags::OUT)], None)?),
            Ok(0) => return Err(Errno::IO),
            count => bytes = bytes.get(count?..).unwrap_or_default(),
        }
    }
    Ok(())
}

/// From the offset of `source`, which stays until the end and is then where the command has stopped reading.
fn copy_file(source: &OwnedFd, reader: &OwnedFd, sink: OwnedFd, ended: &PipeReader) -> rustix::io::Result<()> {
    let begin = call::seek(source, SeekFrom::Current(0))?;
    let mut copied = 0;
    let fed = feed(source, begin, &sink, ended, &mut copied);
    // Its end for the command.
    drop(sink);
    wait([(ended.as_fd(), PollFlags::IN)], None)?;
    let consumed = u64::saturating_sub(copied, ioctl_fionread(reader)?);
    if consumed > 0 {
        call::seek(source, SeekFrom::Start(begin.saturating_add(consumed)))?;
    }
    fed
}

fn feed(source: &OwnedFd, begin: u64, sink: &OwnedFd, ended: &PipeReader, copied: &mut u64) -> rustix::io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match call::pread(source, &mut buffer, begin.saturating_add(*copied)) {
            Err(Errno::INTR) => continue,
            count => count?,
        };
        let mut bytes = buffer.get(..count).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        while !bytes.is_empty() {
            let [_, end] = wait([(sink.as_fd(), PollFlags::OUT), (ended.as_fd(), PollFlags::IN)], None)?;
            if !end.is_empty() {
                return Ok(());
            }
            match call::write(sink, bytes) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                count => {
                    let count = count?;
                    *copied = copied.saturating_add(count as u64);
                    bytes = bytes.get(count..).unwrap_or_default();
                }
            }
        }
    }
}

/// What the command does not read stays in the FIFO for others: each buffer is copied, and taken out of the FIFO only
/// as it is read.
fn copy_fifo(source: &OwnedFd, reader: &OwnedFd, sink: OwnedFd, ended: &PipeReader) -> rustix::io::Result<()> {
    let null = File::options().write(true).open("/dev/null");
    let null = null.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    loop {
        let [_, end] = wait([(source.as_fd(), PollFlags::IN), (ended.as_fd(), PollFlags::IN)], None)?;
        if !end.is_empty() {
            return Ok(());
        }
        let mut copied = match tee(source, &sink, ONE_BUFFER, SpliceFlags::NONBLOCK) {
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Ok(0) => return Ok(()),
            copied => copied? as u64,
        };
        while copied > 0 {
            let [room, end] = wait([(sink.as_fd(), PollFlags::OUT), (ended.as_fd(), PollFlags::IN)], None)?;
            let left = ioctl_fionread(reader)?;
            while copied > left {
                let count = usize::try_from(copied.saturating_sub(left)).unwrap_or(ONE_BUFFER);
                match splice(source, None, &null, None, count, SpliceFlags::NONBLOCK) {
                    Err(Errno::INTR) => {}
                    // Another process has read it meanwhile.
                    Ok(0) | Err(Errno::AGAIN) => copied = left,
                    count => copied = copied.saturating_sub(count? as u64),
                }
            }
            if !end.is_empty() {
                return Ok(());
            }
            if copied > 0 && !room.is_empty() {
                // The command has made the pipe larger, so that it says nothing about what is left.
                wait([(ended.as_fd(), PollFlags::IN)], Some(&PAUSE))?;
            }
        }
    }
}

/// A pipe whose reader sees when its writer is dropped.
pub(super) fn sign() -> io::Result<(PipeReader, PipeWriter)> {
    io::pipe()
}
