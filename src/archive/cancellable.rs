//! Reads an archive from a file or a pipe with few system calls, and stops when another thread no longer needs the bytes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd};

use crate::sys::{call, retry};

/// The size that is set for a pipe's buffer, in bytes: the most that a process without `CAP_SYS_RESOURCE` gets by default
/// (`/proc/sys/fs/pipe-max-size`).
const PIPE: usize = 1 << 20;

/// Reads a file, which may be a pipe whose writer keeps us waiting.
#[derive(Debug)]
pub struct CancellableReader {
    file: File,
    stop: Stop,
}

/// Ends the reads of an [`CancellableReader`] from another thread: a read that waits for the pipe's writer fails at once.
#[derive(Debug, Clone, Default)]
pub struct Stop(Option<Arc<OwnedFd>>);

impl CancellableReader {
    /// Reads `file` until it ends, or is told to stop.
    #[must_use]
    pub fn new(file: File) -> Self {
        #[expect(clippy::let_underscore_must_use, reason = "it is only faster, and of a regular file an error")]
        let _ = rustix::pipe::fcntl_setpipe_size(&file, PIPE);
        // error: without one, the reading goes on until the next bytes come
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok().map(Arc::new);
        Self { file, stop: Stop(stop) }
    }

    /// The handle that ends its reads.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }
}

impl Stop {
    /// Ends the reading, now and from now on.
    pub fn now(&self) {
        if let Some(event) = &self.0 {
            #[expect(clippy::let_underscore_must_use, reason = "it can only be full, and then it is set already")]
            let _ = call::write(event, &1u64.to_ne_bytes());
        }
    }
}

impl Read for CancellableReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(event) = &self.stop.0 {
            let mut both = [PollFd::new(event, PollFlags::IN), PollFd::new(&self.file, PollFlags::IN)];
            call::poll(&mut both, None)?;
            let [stop, _] = both;
            if !stop.revents().is_empty() {
                return Err(io::Error::other("its reading was stopped: the rest is not needed"));
            }
        }
        retry(|| self.file.read(buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_waits_for_a_writer_can_be_stopped() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut incoming = CancellableReader::new(File::from(read));
        rustix::io::write(&write, b"some").unwrap();
        let mut buffer = [0; 10];
        assert_eq!(incoming.read(&mut buffer).unwrap(), 4);
        let stop = incoming.stop();
        let waiting = std::thread::spawn(move || incoming.read(&mut [0; 10]).map_err(|error| error.to_string()));
        stop.now();
        assert_eq!(waiting.join().unwrap(), Err("its reading was stopped: the rest is not needed".into()));
        drop(write);
    }
}
