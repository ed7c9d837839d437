//! What the caller of a command does for other processes meanwhile: it alone knows the command's processes, and what it does for
//! another process ends with either of them.
//!
//! | a process says | it hears | and then |
//! |---|---|---|
//! | `h` | `y`, or `n` and why not | until it says `r`, or is gone, the command cannot write |
//! | `r` | `d` | the command can write again |
//! | `t` | `y` with the command's tree, or `n` and why not | |

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::Mode;

use crate::error::{Context as _, Result};
use crate::mount::kernel::freezer::{Frozen, freeze};
use crate::mount::kernel::inhabitants::{init, not_there, processes, tree};
use crate::mount::live::{open_dir, socket_path};
use crate::mount::wait::say;
use crate::store::Container;
use crate::sys::{self, call};

/// The socket in the container's directory.
pub(super) const SOCKET: &str = "requests";
/// How long a command is waited for that is just starting.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// Which process is served, and whether it goes on.
#[derive(Debug, Default)]
struct Now {
    is_over: bool,
    stream: Option<UnixStream>,
}

/// The thread that does it, until this is dropped.
pub(super) struct Requests {
    now: Arc<Mutex<Now>>,
    listener: UnixListener,
    thread: Option<JoinHandle<()>>,
}

/// Breaks off what is just done.
#[derive(Clone)]
pub(super) struct Breaker(Arc<Mutex<Now>>);

impl Requests {
    pub(super) fn listen(container: &Container) -> Result<Self> {
        let dir = container.dir();
        let handle = open_dir(&dir)?;
        let path = socket_path(&handle, SOCKET);
        let listener = UnixListener::bind(&path).doing("listen at", &dir)?;
        call::chmod(&path, Mode::RWXU).doing("listen at", &dir)?;
        let now = Arc::new(Mutex::new(Now::default()));
        let serving = (listener.try_clone().doing("listen at", &dir)?, now.clone(), container.clone());
        let thread = std::thread::Builder::new().name("requests".to_owned());
        let thread =
            thread.spawn(move || serve(&serving.0, &serving.1, &serving.2)).doing("start a thread for", dir)?;
        Ok(Self { now, listener, thread: Some(thread) })
    }

    pub(super) fn breaker(&self) -> Breaker {
        Breaker(self.now.clone())
    }
}

impl Breaker {
    pub(super) fn break_off(&self) {
        let mut now = self.0.lock();
        now.is_over = true;
        if let Some(stream) = &now.stream {
            // error: the other end is gone, which ends it as well
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.breaker().break_off();
        // error: it is no socket that listens then, and the thread has ended
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).unwrap_or_default();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

fn serve(listener: &UnixListener, now: &Mutex<Now>, container: &Container) {
    loop {
        let stream = match sys::retry(|| listener.accept()) {
            Ok((stream, _)) => stream,
            Err(error) => {
                if now.lock().is_over {
                    return;
                }
                // error: the process that asks waits until there is a descriptor to answer with
                drop(error);
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        {
            let mut now = now.lock();
            if now.is_over {
                return;
            }
            match stream.try_clone() {
                Ok(kept) => now.stream = Some(kept),
                // error: the process that asks sees the end of the connection, and says that it has to ask again
                Err(_) => continue,
            }
        }
        if let Err(error) = answer(&stream, container) {
            say(&error.to_string());
        }
        now.lock().stream = None;
    }
}

/// What keeps the command from writing.
enum Hold {
    Frozen(Frozen),
    ReadOnly(OwnedFd),
}

impl Hold {
    fn end(self, container: &Container) -> Result<()> {
        match self {
            Self::Frozen(frozen) => frozen.thaw(),
            Self::ReadOnly(tree) => sys::set_read_only(&tree, false).doing("make writable", container.upper()),
        }
    }
}

fn answer(stream: &UnixStream, container: &Container) -> Result<()> {
    let doing = "answer a request for";
    let mut out = stream;
    match word(stream) {
        Some(b'h') => {
            let hold = match hold(container) {
                Ok(hold) => hold,
                Err(error) => return refuse(stream, container, &error.to_string()),
            };
            let told = out.write_all(b"y").doing(doing, container.dir());
            // error: it is given back when the command can write again
            let is_released = told.is_ok() && word(stream) == Some(b'r');
            hold.end(container)?;
            if is_released {
                out.write_all(b"d").doing(doing, container.dir())?;
            }
            told
        }
        Some(b't') => match waited_for(|init| tree(init, &container.short_id())) {
            Ok(tree) => sys::send_descriptor(stream, b'y', tree.as_fd()).doing(doing, container.dir()),
            Err(error) => refuse(stream, container, &error.to_string()),
        },
        // Of a later version, or gone.
        _ => Ok(()),
    }
}

/// The next word of a process; none when it is gone.
fn word(mut stream: &UnixStream) -> Option<u8> {
    let mut word = [0];
    // error: a connection that is broken off is one that has ended
    stream.read_exact(&mut word).ok()?;
    let [word] = word;
    Some(word)
}

fn refuse(mut stream: &UnixStream, container: &Container, why: &str) -> Result<()> {
    stream.write_all(format!("n{why}").as_bytes()).doing("answer a request for", container.dir())
}

fn hold(container: &Container) -> Result<Hold> {
    let tree = waited_for(|init| tree(init, &container.short_id()))?;
    let init = init()?.ok_or_else(not_there)?;
    let why = match freeze(container, &|| processes(init))? {
        Ok(frozen) => return Ok(Hold::Frozen(frozen)),
        Err(why) => why,
    };
    match sys::set_read_only(&tree, true) {
        Ok(()) => Ok(Hold::ReadOnly(tree)),
        Err(rustix::io::Errno::BUSY) => Err(crate::error::Error::Unsupported(format!(
            "its processes cannot be frozen ({why}), and one has a file open to write to it"
        ))),
        Err(error) => Err(error).doing("make read-only", container.upper()),
    }
}

/// What the command has as soon as it has begun.
fn waited_for<T>(find: impl Fn(u32) -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(init) = init()?
            && let Some(found) = find(init)?
        {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            return Err(not_there());
        }
        std::thread::sleep(PAUSE);
    }
}
