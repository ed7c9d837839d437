//! Where data and holes are, of files that the kernel may hold unwritten data of.
//!
//! With the write-back cache the kernel asks for the next data or hole (`FUSE_LSEEK`) without first writing what
//! it has gathered (fs/fuse/file.c, `fuse_lseek`): a file just written seems to be one hole, and a program that copies only
//! the data of a file loses them. So the server has the kernel write out its pages of the file before it looks
//! ([`gathered`](super::gathered)). That takes a while, and therefore has a thread of its own. Only the kernel knows that a
//! file of a layer has been written to before the first of these comes. But whatever was written are data, so that it can only be
//! where the layer has a hole, or behind its end.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use fuser::{Errno, ReplyLseek};

use super::gathered::{Gathered, Gatherer};
use super::value::reply as errno;
use crate::union::{Ino, Union};

/// An LSEEK request, with the reply that its sender waits for.
pub(super) struct Seek {
    pub(super) ino: Ino,
    pub(super) offset: i64,
    pub(super) whence: i32,
    pub(super) reply: ReplyLseek,
}

impl Seek {
    /// From where on the kernel may have what makes the answer another one, if there may be any.
    pub(super) fn doubt(&self, union: &Union) -> Option<i64> {
        if union.is_in_upper(self.ino) {
            return Some(0);
        }
        match union.lseek(self.ino, self.offset, self.whence).map(i64::try_from) {
            Ok(Ok(hole)) if self.whence == libc::SEEK_HOLE => Some(hole),
            Ok(Ok(data)) if data == self.offset => None,
            // error: the answer itself tells it.
            _ => Some(self.offset.max(0)),
        }
    }

    /// Answers from what has been written.
    pub(super) fn answer(self, union: &Union) {
        match union.lseek(self.ino, self.offset, self.whence) {
            Ok(at) => self.reply.offset(i64::try_from(at).unwrap_or(i64::MAX)),
            Err(error) => self.reply.error(errno(error)),
        }
    }
}

/// Takes questions to the thread that answers them.
pub(super) type Seeks = Sender<Seek>;

pub(super) fn questions() -> (Seeks, Receiver<Seek>) {
    channel()
}

/// Starts the thread. It ends when all senders of the channel are dropped, and then drops the union.
pub(super) fn answer_all(
    questions: Receiver<Seek>,
    gatherer: Arc<Gatherer>,
    union: Arc<Union>,
) -> std::io::Result<JoinHandle<()>> {
    let run = move || {
        for seek in questions {
            if let Some(from) = seek.doubt(&union) {
                let attr = match union.getattr(seek.ino) {
                    Ok(attr) => attr,
                    Err(error) => {
                        seek.reply.error(errno(error));
                        continue;
                    }
                };
                let gathered = Gathered { ino: seek.ino, generation: attr.generation, from, path: b"" };
                // error: the kernel takes all of each file for data from then on
                if gatherer.write_out(&gathered).is_err() {
                    seek.reply.error(Errno::ENOSYS);
                    continue;
                }
            }
            seek.answer(&union);
        }
    };
    std::thread::Builder::new().name("seek".to_owned()).spawn(run)
}
