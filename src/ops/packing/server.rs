//! The server's side.

use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::super::pack::{pack, pack_live};
use super::frames::Sent;
use super::{End, SOCKET, Wish};
use crate::error::Result;
use crate::fuse::Gate;
use crate::index::{Kind, Time};
use crate::union::{Change, Union};

/// How long who asks may take nothing of the tar: all changes wait for it.
const PATIENCE: Duration = Duration::from_secs(30);
const BUFFER: usize = 1 << 18;

/// What can be packed.
#[derive(Debug, Clone)]
pub(in super::super) struct Packing {
    /// It must be closed when its mount has ended, whoever still can ask.
    union: Weak<Union>,
    gate: Arc<Gate>,
    /// One at a time.
    busy: Arc<Mutex<()>>,
}

impl Packing {
    pub(in super::super) fn new(union: &Arc<Union>, gate: Arc<Gate>) -> Self {
        Self { union: Arc::downgrade(union), gate, busy: Arc::default() }
    }

    /// The name of its socket.
    pub(in super::super) const fn socket(&self) -> &'static str {
        SOCKET
    }

    /// Waits for who is being answered, and answers nobody from then on.
    pub(in super::super) fn end(&self) -> MutexGuard<'_, ()> {
        self.busy.lock()
    }

    /// Answers whoever connects, in a thread of its own.
    pub(in super::super) fn listen(self, listener: UnixListener) -> io::Result<()> {
        let run = move || {
            for stream in listener.incoming().flatten() {
                let _busy = self.busy.lock();
                // Who does not wait for the answer has gone.
                let _ = self.answer(&stream);
            }
        };
        std::thread::Builder::new().name("pack".to_owned()).spawn(run).map(drop)
    }

    fn answer(&self, stream: &UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let wish: Wish = serde_json::from_str(&line)?;
        let Some(union) = self.union.upgrade() else { return Ok(()) };
        self.flush(&union);
        let mut sent = Sent(BufWriter::with_capacity(BUFFER, stream));
        let end = match self.pack(&union, wish, &mut sent) {
            Ok(is_changed) => End::Packed { is_changed },
            Err(error) => End::Failed { message: error.to_string(), code: error.exit_code() },
        };
        drop(union);
        let mut stream = sent.end()?;
        serde_json::to_writer(&mut stream, &end)?;
        stream.flush()
    }

    /// Has the kernel write out what it has gathered of files that were changed.
    fn flush(&self, union: &Union) {
        // What cannot be looked at now is told by who packs it.
        let _ = union.changes_live(&mut |change| {
            if let Change::Entry { attr, .. } = change
                && attr.kind == Kind::File
                && union.is_in_upper(attr.ino)
            {
                self.gate.flush(attr.ino);
            }
            Ok(())
        });
    }

    fn pack(&self, union: &Union, wish: Wish, sent: &mut Sent<BufWriter<&UnixStream>>) -> Result<bool> {
        let latest = wish.latest.map(|sec| Time { sec, nsec: 0 });
        if wish.live {
            return pack_live(union, &self.gate, sent, latest);
        }
        let _held = self.gate.hold();
        pack(union, sent, latest)
    }
}
