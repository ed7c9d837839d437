//! The server's side of [`crate::mount::packing`]: the rw layer of a live mount as a tar, on the socket `pack` beside `control`.
//!
//! - [`outlet`]: the socket as the server sees it, whose other side may have stopped

mod outlet;

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Context as _, Result};
use crate::fuse::{Freeze, Gathered, Gatherer, Losses, Session};
use crate::index::{Kind, Time};
use crate::mount::live::for_each_stream;
use crate::mount::packing::frames::Sent;
use crate::mount::packing::{End, SOCKET, Wish};
use crate::pack::rw_layer::{pack, pack_live, place};
use crate::server::packing::outlet::Outlet;
use crate::union::{Change, Errno, Union};

/// How long a client may take no byte of the tar: all changes wait for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a running commit may go on after the unmount: the unmounting process waits for it.
const END_PATIENCE: Duration = Duration::from_secs(10);
const BUFFER: usize = 1 << 18;

/// What can be packed.
#[derive(Debug, Clone)]
pub(crate) struct Packing {
    /// Weak: the union must be closed when its mount has ended, also while clients can still connect.
    union: Weak<Union>,
    freeze: Arc<Freeze>,
    gatherer: Arc<Gatherer>,
    losses: Arc<Losses>,
    /// One at a time.
    busy: Arc<Mutex<()>>,
    /// The connection of the client that is served now.
    asking: Arc<Mutex<Option<UnixStream>>>,
    has_ended: Arc<AtomicBool>,
}

impl Packing {
    pub(crate) fn new(union: &Arc<Union>, session: &Session) -> Self {
        Self {
            union: Arc::downgrade(union),
            freeze: session.freeze(),
            gatherer: session.gatherer(),
            losses: session.losses(),
            busy: Arc::default(),
            asking: Arc::default(),
            has_ended: Arc::default(),
        }
    }

    /// The name of its socket.
    pub(crate) const fn socket(&self) -> &'static str {
        SOCKET
    }

    /// Waits for the client that is served now, for [`END_PATIENCE`] at most, and serves no client from then on.
    pub(crate) fn end(&self) -> MutexGuard<'_, ()> {
        self.has_ended.store(true, Ordering::SeqCst);
        if let Some(ended) = self.busy.try_lock_for(END_PATIENCE) {
            return ended;
        }
        if let Some(stream) = &*self.asking.lock() {
            // error: a socket whose other end has gone is shut down already
            drop(stream.shutdown(Shutdown::Both));
        }
        self.busy.lock()
    }

    /// Serves clients, one after the other, on a thread of its own.
    pub(crate) fn listen(self, listener: UnixListener) -> io::Result<()> {
        let run = move || {
            for_each_stream(&listener, |stream| {
                let _busy = self.busy.lock();
                // error: the client sees that it is closed; a pack that could not be broken off is not begun
                let Ok(asking) = stream.try_clone() else { return };
                *self.asking.lock() = Some(asking);
                if !self.has_ended.load(Ordering::SeqCst) {
                    // error: a client that still waits for the answer sees that it breaks off
                    drop(self.answer(&stream));
                }
                *self.asking.lock() = None;
            });
        };
        std::thread::Builder::new().name("pack".to_owned()).spawn(run).map(drop)
    }

    fn answer(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let wish: Wish = serde_json::from_str(&line)?;
        let Some(union) = self.union.upgrade() else { return Ok(()) };
        let flushed = if wish.is_written { Ok(()) } else { self.flush(&union) };
        let mut sent = Sent(BufWriter::with_capacity(BUFFER, Outlet::new(stream, PATIENCE)?));
        let end = match flushed.and_then(|()| self.pack(&union, wish, &mut sent)) {
            Ok(is_changed) => End::Packed { is_changed, lost: self.losses.clause() },
            Err(error) => End::Failed { message: error.to_string(), code: error.exit_code() },
        };
        drop(union);
        let mut stream = sent.end()?;
        serde_json::to_writer(&mut stream, &end)?;
        stream.flush()
    }

    /// Has the kernel write out what it has gathered of files that were changed.
    fn flush(&self, union: &Union) -> Result<()> {
        let mut failed = Ok(());
        let mut at = Vec::new();
        let looked = union.changes_live(&mut at, &mut |change| {
            if let Change::Entry { path, attr, .. } = change
                && attr.kind == Kind::File
                && union.is_in_upper(attr.ino)
            {
                let gathered = Gathered { ino: attr.ino, generation: attr.generation, from: 0, path };
                failed = self.gatherer.write_out(&gathered).doing("flush", OsStr::from_bytes(path));
                return failed.as_ref().map_or(Err(Errno::EIO), |()| Ok(()));
            }
            Ok(())
        });
        failed.and(looked.map_err(io::Error::from).doing("read the rw layer's", place(&at)))
    }

    fn pack(&self, union: &Union, wish: Wish, sent: &mut Sent<BufWriter<Outlet<'_>>>) -> Result<bool> {
        let tar = Path::new("a layer's tar");
        let latest = wish.latest.map(|sec| Time { sec, nsec: 0 });
        if wish.live {
            return pack_live(union, &self.freeze, sent, tar, latest);
        }
        let _held = self.freeze.begin();
        pack(union, sent, tar, latest)
    }
}
