//! Digests of a tar and of the files in it, in a thread of its own: most of their bytes are the same.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

use super::Failure;
use super::chunk::Chunk;
use super::sha256::Sha256;
use crate::id::{DiffId, Digest};

/// Steps that are told of at once: more than a chunk has of files that are not sparse.
const STEPS: usize = 2048;
/// What waits to be hashed at most, so that a sparse file of single bytes does not pile up as steps: each byte is one.
const WAITING: usize = 64;

/// What comes next of the files' content.
enum Step {
    /// Bytes of the chunk.
    Bytes(Range<usize>),
    Zeros(u64),
    /// The file's end.
    End,
}

/// What a chunk of the tar tells of files.
struct Told {
    chunk: Arc<Chunk>,
    steps: Vec<Step>,
    /// Whether nothing more is said of the chunk.
    is_all: bool,
}

/// The place of a file's digest among all digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(usize);

/// The reader's side: tells the hashing thread which bytes to hash, and gets the digests at the end.
pub(super) struct Hashing {
    /// The chunk that is being read, and its steps: told of as one, since to wake a thread costs more than a small file.
    chunk: Option<Arc<Chunk>>,
    steps: Vec<Step>,
    to_hasher: SyncSender<Told>,
    done: Receiver<Digests>,
    ends: usize,
}

/// The hashing side, to be run on a thread of its own.
pub(super) struct Hasher {
    told: Receiver<Told>,
    done: Sender<Digests>,
}

/// The digests of a tar.
#[derive(Debug)]
pub(super) struct Digests {
    /// That of all its bytes.
    pub(super) diff_id: DiffId,
    files: Vec<Digest>,
}

impl Digests {
    pub(super) fn get(&self, ticket: Ticket) -> Option<Digest> {
        self.files.get(ticket.0).copied()
    }
}

impl Hashing {
    pub(super) fn new() -> (Self, Hasher) {
        let ((to_hasher, told), (to_asker, done)) = (sync_channel(WAITING), channel());
        (Self { chunk: None, steps: Vec::new(), to_hasher, done, ends: 0 }, Hasher { told, done: to_asker })
    }

    /// The tar's next bytes, when those before them are given up.
    pub(super) fn chunk(&mut self, chunk: Arc<Chunk>) {
        self.chunk = Some(chunk);
    }

    /// The bytes that were read are to be hashed, and nothing more is said of them.
    pub(super) fn give_up(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            self.tell(chunk, true);
        }
    }

    fn tell(&mut self, chunk: Arc<Chunk>, is_all: bool) {
        #[expect(clippy::let_underscore_must_use, reason = "that the thread is gone is seen at the end")]
        let _ = self.to_hasher.send(Told { chunk, steps: std::mem::take(&mut self.steps), is_all });
    }

    fn push(&mut self, step: Step) {
        self.steps.push(step);
        if self.steps.len() >= STEPS
            && let Some(chunk) = self.chunk.clone()
        {
            self.tell(chunk, false);
        }
    }

    /// These bytes of the chunk are a file's.
    pub(super) fn bytes(&mut self, range: Range<usize>) {
        self.push(Step::Bytes(range));
    }

    pub(super) fn zeros(&mut self, length: u64) {
        match self.steps.last_mut() {
            Some(Step::Zeros(before)) => *before = before.saturating_add(length),
            _ if length == 0 => {}
            _ => self.push(Step::Zeros(length)),
        }
    }

    /// Ends a file.
    pub(super) fn end(&mut self) -> Ticket {
        self.push(Step::End);
        let ticket = Ticket(self.ends);
        self.ends = self.ends.saturating_add(1);
        ticket
    }

    /// Waits for the digests.
    pub(super) fn finish(mut self) -> Result<Digests, Failure> {
        self.give_up();
        drop(self.to_hasher);
        let digests = self.done.recv().ok().filter(|digests| digests.files.len() == self.ends);
        digests.ok_or_else(|| Failure::bad("could not be hashed"))
    }
}

impl Hasher {
    /// Hashes until the [`Hashing`] is dropped.
    pub(super) fn run(self) {
        let (mut tar, mut file) = (Sha256::default(), Sha256::default());
        let mut files = Vec::new();
        let mut at = 0;
        for Told { chunk, steps, is_all } in self.told {
            let bytes = |range: Range<usize>| chunk.bytes().get(range).unwrap_or_default();
            for step in steps {
                match step {
                    Step::Bytes(range) => {
                        tar.update(bytes(at..range.start));
                        at = range.end;
                        tar.update_both(&mut file, bytes(range));
                    }
                    Step::Zeros(length) => zeros(&mut file, length),
                    Step::End => files.push(std::mem::take(&mut file).finish()),
                }
            }
            if is_all {
                tar.update(bytes(at..chunk.bytes().len()));
                at = 0;
            }
        }
        #[expect(clippy::let_underscore_must_use, reason = "whatever has failed does not want them")]
        let _ = self.done.send(Digests { diff_id: DiffId(tar.finish()), files });
    }
}

fn zeros(digester: &mut Sha256, length: u64) {
    let zeros = [0; 64 << 10];
    let mut length = length;
    while let Some(piece) = zeros.get(..zeros.len().min(usize::try_from(length).unwrap_or(usize::MAX))) {
        if piece.is_empty() {
            break;
        }
        digester.update(piece);
        length = length.saturating_sub(piece.len() as u64);
    }
}
