//! The server's side.

use std::ffi::OsStr;
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::net::Shutdown;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{AtFlags, CWD, StatxFlags};

use super::super::live::for_each_stream;
use super::super::pack::{pack, pack_live};
use super::frames::Sent;
use super::outlet::Outlet;
use super::{End, SOCKET, Wish};
use crate::error::Result;
use crate::fuse::{Gate, Losses};
use crate::index::{Kind, Time};
use crate::sys::call;
use crate::union::{Attr, Change, Union};

/// How long who asks may take nothing of the tar: all changes wait for it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a commit that is under way goes on when the mount has gone: whoever unmounts waits for it.
const END_PATIENCE: Duration = Duration::from_secs(10);
const BUFFER: usize = 1 << 18;
/// What the kernel may have of a file beyond what the union has, where the kernel does not say.
const GATHERED: u64 = 1 << 30;

/// What can be packed.
#[derive(Debug, Clone)]
pub(in super::super) struct Packing {
    /// It must be closed when its mount has ended, whoever still can ask.
    union: Weak<Union>,
    gate: Arc<Gate>,
    losses: Arc<Losses>,
    mountpoint: PathBuf,
    /// One at a time.
    busy: Arc<Mutex<()>>,
    /// Who is being answered.
    asking: Arc<Mutex<Option<UnixStream>>>,
    has_ended: Arc<AtomicBool>,
}

impl Packing {
    pub(in super::super) fn new(union: &Arc<Union>, gate: Arc<Gate>, losses: Arc<Losses>, mountpoint: PathBuf) -> Self {
        let union = Arc::downgrade(union);
        Self {
            union,
            gate,
            losses,
            mountpoint,
            busy: Arc::default(),
            asking: Arc::default(),
            has_ended: Arc::default(),
        }
    }

    /// The name of its socket.
    pub(in super::super) const fn socket(&self) -> &'static str {
        SOCKET
    }

    /// Waits for who is being answered, not for long, and answers nobody from then on.
    pub(in super::super) fn end(&self) -> MutexGuard<'_, ()> {
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

    /// Answers whoever connects, in a thread of its own.
    pub(in super::super) fn listen(self, listener: UnixListener) -> io::Result<()> {
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
        if !wish.is_written {
            self.flush(&union);
        }
        let mut sent = Sent(BufWriter::with_capacity(BUFFER, Outlet::new(stream, PATIENCE)?));
        let end = match self.pack(&union, wish, &mut sent) {
            Ok(is_changed) => End::Packed { is_changed, lost: self.losses.clause() },
            Err(error) => End::Failed { message: error.to_string(), code: error.exit_code() },
        };
        drop(union);
        let mut stream = sent.end()?;
        serde_json::to_writer(&mut stream, &end)?;
        stream.flush()
    }

    /// Has the kernel write out what it has gathered of files that were changed.
    fn flush(&self, union: &Union) {
        let looked = union.changes_live(&mut |change| {
            if let Change::Entry { path, attr, .. } = change
                && attr.kind == Kind::File
                && union.is_in_upper(attr.ino)
            {
                self.gate.flush(attr.ino, self.gathered(path, &attr));
            }
            Ok(())
        });
        match looked {
            // error: what cannot be looked at now fails again when it is packed, which is said then
            Ok(()) | Err(_) => {}
        }
    }

    /// How long a file is to the kernel, which has gathered what the union does not have yet.
    fn gathered(&self, path: &[u8], attr: &Attr) -> u64 {
        let at = self.mountpoint.join(OsStr::from_bytes(path));
        // The kernel answers by itself, and does not have to ask us.
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC;
        match call::statx(CWD, &at, flags, StatxFlags::SIZE | StatxFlags::INO) {
            Ok(found) if found.stx_ino == attr.ino.0 => found.stx_size.max(attr.size),
            // error: as if the kernel had gathered the most that it may
            Ok(_) | Err(_) => attr.size.saturating_add(GATHERED),
        }
    }

    fn pack(&self, union: &Union, wish: Wish, sent: &mut Sent<BufWriter<Outlet<'_>>>) -> Result<bool> {
        let latest = wish.latest.map(|sec| Time { sec, nsec: 0 });
        if wish.live {
            return pack_live(union, &self.gate, sent, latest);
        }
        let _held = self.gate.hold();
        pack(union, sent, latest)
    }
}
