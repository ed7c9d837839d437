//! The threads that answer requests.
//!
//! Each is a session of fuser of its own. fuser 0.18 has one session for each connection: it does not say when its threads
//! run, a thread that fails is missed only when all the others have ended, and it panics at a time that it cannot hold
//! (`utimensat` with the earliest second and one nanosecond; its src/time.rs). Here another thread comes in the place of one
//! that breaks off. The descriptor that it had is closed then, by which the kernel ends the request that it had not answered.
//!
//! A session wants the connection's first request. So it begins at one end of a pair of sockets, where it finds a copy of
//! that request. Its answer to another message there proves that its thread runs. Then its descriptor is turned to the
//! device.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno as Raw;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};

use super::filesystem::Filesystem;
use super::load::Load;
use crate::sys::{call, clone_fuse_device, refer_to, retry};

/// More than the kernel's least room for a request (`FUSE_MIN_READ_BUFFER`, include/uapi/linux/fuse.h).
const FIRST_REQUEST_MAX: usize = 64 << 10;
/// The version of the protocol that fuser speaks. The kernel has had no other since 2006.
const MAJOR: u32 = 7;
/// `struct fuse_in_header` and `struct fuse_batch_forget_in` (include/uapi/linux/fuse.h).
const HEADER: usize = 40;
const BATCH_FORGET: u32 = 42;
/// A number that the kernel gives to no request: an answer to it that reaches the device is refused (`ENOENT`).
const NO_REQUEST: u64 = u64::MAX - 1;
/// No kind of request has this number, so fuser answers that it does not know it.
const UNKNOWN: u32 = 0x7fff_0000;

/// How many threads there are at first; most commands in a container are served by them alone.
pub(super) const AT_FIRST: usize = 2;

/// How often in a row it is tried to start a thread when there is none, and how long is waited between two tries: ten
/// seconds in all, in which a machine may find memory or descriptors again.
const ATTEMPTS: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// A connection to the kernel, from its first request on.
#[derive(Debug)]
pub(super) struct Channel {
    device: Arc<OwnedFd>,
    /// The directory of the device as it was before the mount, which may be over it.
    dev: OwnedFd,
    first_request: Vec<u8>,
}

impl Channel {
    /// Waits for the first request. It is answered by [`Channel::agree`].
    pub(super) fn begin(dev: OwnedFd, device: Arc<OwnedFd>) -> io::Result<Self> {
        let mut first_request = vec![0; FIRST_REQUEST_MAX];
        let length = loop {
            // A request that was taken back meanwhile is ENOENT (fs/fuse/dev.c, `fuse_dev_do_read`).
            match call::read(&device, &mut first_request) {
                Err(Raw::NOENT | Raw::AGAIN) => {}
                result => break result?,
            }
        };
        first_request.truncate(length);
        let major = first_request.get(HEADER..).and_then(|body| body.first_chunk().copied()).map(u32::from_ne_bytes);
        if major != Some(MAJOR) {
            return Err(io::Error::other("the kernel speaks another version of FUSE"));
        }
        Ok(Self { device, dev, first_request })
    }

    /// Tells the kernel what `filesystem` wants. The session that comes is there to send notifications.
    ///
    /// # Errors
    /// `Unsupported` when the kernel cannot do what `filesystem` must have.
    pub(super) fn agree(&self, filesystem: Filesystem) -> io::Result<fuser::Session<Filesystem>> {
        let NewSession { session, answer, .. } = self.session(filesystem)?;
        if answer.is_empty() {
            return Err(io::Error::other("the first request was not answered"));
        }
        // One write is one answer.
        let written = call::write(&self.device, &answer)?;
        if written != answer.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        refer_to(session.as_fd().as_raw_fd(), &self.device)?;
        Ok(session)
    }

    /// A session at a socket. Its `init` agrees to the same as the first one's.
    fn session(&self, filesystem: Filesystem) -> io::Result<NewSession> {
        let (ours, its) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        send(&ours, &self.first_request)?;
        let mut config = fuser::Config::default();
        config.n_threads = Some(1);
        let session = fuser::Session::from_fd(filesystem, its, fuser::SessionACL::All, config)?;
        let answer = receive(&ours)?.unwrap_or_default();
        Ok(NewSession { session, peer: ours, answer })
    }
}

/// A session that has answered the first request.
struct NewSession {
    session: fuser::Session<Filesystem>,
    /// The other end of its socket.
    peer: OwnedFd,
    /// What it has answered; empty when that could not be written.
    answer: Vec<u8>,
}

/// The threads that answer a connection's requests.
#[derive(Debug)]
pub(super) struct Workers(JoinHandle<io::Result<()>>);

/// A thread that answers requests, to the end of the connection or to the first failure of its own.
type Worker = JoinHandle<()>;

impl Workers {
    /// Starts the first threads, and returns when each of them has shown that it runs.
    ///
    /// # Errors
    /// That of the first thread that does not run. The others end with the connection.
    pub(super) fn start(channel: Channel, filesystem: Filesystem) -> io::Result<Self> {
        let channel = Arc::new(channel);
        let mut first = Vec::with_capacity(AT_FIRST);
        while filesystem.load.workers() < AT_FIRST {
            first.push(channel.start_worker(&filesystem)?);
        }
        let run = move || channel.keep_workers(&filesystem, first);
        Ok(Self(std::thread::Builder::new().name("workers".to_owned()).spawn(run)?))
    }

    /// Waits for the end of all threads, which is that of the connection, unless there is an error.
    ///
    /// # Errors
    /// For ten seconds no thread could be started, and none is left.
    pub(super) fn end(self) -> io::Result<()> {
        self.0.join().unwrap_or_else(|_| Err(io::Error::other("a thread that serves a mount has panicked")))
    }
}

impl Channel {
    /// Starts one more thread each time when all are busy or one has broken off, to the end of the connection.
    fn keep_workers(self: Arc<Self>, filesystem: &Filesystem, mut workers: Vec<Worker>) -> io::Result<()> {
        let load = &filesystem.load;
        let mut failures = 0;
        while load.wait() {
            workers.retain(|worker| !worker.is_finished());
            match self.start_worker(filesystem) {
                Ok(worker) => {
                    workers.push(worker);
                    failures = 0;
                }
                // There may be memory or descriptors for it later on; the others answer meanwhile.
                Err(error) => {
                    failures = if load.workers() > 0 { 0 } else { failures + 1 };
                    if failures == ATTEMPTS {
                        return Err(error);
                    }
                    std::thread::sleep(PAUSE);
                }
            }
        }
        for worker in workers {
            // error: it has broken off with a message of its own, and the connection has ended all the same
            drop(worker.join());
        }
        Ok(())
    }

    /// Starts a thread, and returns when it has shown that it runs.
    fn start_worker(self: &Arc<Self>, filesystem: &Filesystem) -> io::Result<Worker> {
        let NewSession { session, peer, .. } = self.session(filesystem.clone())?;
        let device = clone_fuse_device(&self.dev, &self.device)?;
        // With its notifier the descriptor of a session stays open when its thread ends.
        let (descriptor, open) = (session.as_fd().as_raw_fd(), session.notifier());
        let load = filesystem.load.clone();
        let peer = Arc::new(peer);
        let its_peer = Arc::downgrade(&peer);
        let run = move || answer(session, &load, &its_peer);
        let worker = std::thread::Builder::new().name("worker".to_owned()).spawn(run)?;
        filesystem.load.add();
        let begun = runs(&peer).and_then(|runs| {
            if !runs {
                return Err(io::Error::other("a thread for the requests of a mount broke off"));
            }
            Ok(refer_to(descriptor, &device)?)
        });
        drop(open);
        if let Err(error) = begun {
            // Without it the thread, which is at the socket, ends.
            drop(peer);
            // error: it is what has been said
            drop(worker.join());
            return Err(error);
        }
        // A thread that waits at the socket reads this, and then from the device. One that does not wait there yet reads from
        // the device already, and then no end is there.
        // error: the thread finds the end of its socket, and another comes in its place
        drop(send(&peer, &message(BATCH_FORGET, &[0; 8])));
        Ok(worker)
    }
}

/// Answers requests until the connection ends, or until the thread breaks off, which the kernel answers with `ECONNABORTED`.
fn answer(session: fuser::Session<Filesystem>, load: &Load, starting: &Weak<OwnedFd>) {
    match session.run() {
        Ok(()) => load.end(),
        // error: whether it is a request that fuser cannot take or a read that fails, another thread comes in its place
        Err(_) => {
            if let Some(peer) = starting.upgrade() {
                // error: what waits there sees in another way that there is no answer
                rustix::net::shutdown(&*peer, Shutdown::Both).unwrap_or_default();
            }
            load.remove();
        }
    }
}

/// Sends a message, as a whole or not at all (unix(7)); `false` when no end is there to read it.
fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<bool> {
    match retry(|| rustix::net::send(socket, message, SendFlags::NOSIGNAL)) {
        Ok(_) => Ok(true),
        // The second one when a message was still unread.
        Err(Raw::PIPE | Raw::CONNRESET) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The message that is there, if there is one. An empty one is the end.
fn receive(socket: &OwnedFd) -> io::Result<Option<Vec<u8>>> {
    let mut message = vec![0; 4096];
    match retry(|| rustix::net::recv(socket, message.as_mut_slice(), RecvFlags::DONTWAIT)) {
        Ok((length, _)) => {
            message.truncate(length);
            Ok(Some(message))
        }
        Err(Raw::AGAIN) => Ok(None),
        Err(Raw::CONNRESET) => Ok(Some(Vec::new())),
        Err(error) => Err(error.into()),
    }
}

/// Whether the session at the other end answers; `false` when it has ended.
fn runs(peer: &OwnedFd) -> io::Result<bool> {
    let pause = Timespec { tv_sec: 0, tv_nsec: i64::from(PAUSE.subsec_nanos()) };
    for _ in 0..ATTEMPTS {
        if !send(peer, &message(UNKNOWN, &[]))? {
            return Ok(false);
        }
        // Its answer may be lost by an error, which fuser does not tell.
        call::poll(&mut [PollFd::new(peer, PollFlags::IN)], Some(&pause))?;
        if let Some(answer) = receive(peer)? {
            return Ok(!answer.is_empty());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// A request in the kernel's form.
fn message(operation: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER.saturating_add(body.len())).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER.saturating_add(body.len()));
    message.extend(length.to_ne_bytes());
    message.extend(operation.to_ne_bytes());
    message.extend(NO_REQUEST.to_ne_bytes());
    message.resize(HEADER, 0);
    message.extend(body);
    message
}
