//! Digests of a tar and of the files in it, each in a thread of its own.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};

use super::Failure;
use super::chunk::{Chunk, Piece};
use crate::id::{Digest, Digester};

/// Hashes all bytes.
pub(super) fn hash_all(chunks: Receiver<Arc<Chunk>>) -> Digest {
    let mut digester = Digester::new();
    for chunk in chunks {
        digester.update(chunk.bytes());
    }
    digester.finish()
}

/// What comes next of the files' content.
enum Step {
    Bytes(Piece),
    Zeros(u64),
    /// The file's end.
    End,
}

/// The place of a file's digest among all digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket(usize);

/// Steps that are gathered at most: of empty files a chunk may tell of many.
const GATHERED: usize = 4096;

/// Who asks for digests of files.
pub(super) struct Contents {
    /// Gathered for one chunk, since to wake a thread costs more than a small file. Of no more than one: it cannot be
    /// filled again before they are done.
    steps: Vec<Step>,
    chunk: Weak<Chunk>,
    to_hasher: Sender<Vec<Step>>,
    done: Receiver<Digests>,
    ends: usize,
}

/// Who makes them, for a thread of its own.
pub(super) struct ContentHasher {
    steps: Receiver<Vec<Step>>,
    done: Sender<Digests>,
}

/// The digests of files.
#[derive(Debug, Default)]
pub(super) struct Digests(Vec<Digest>);

impl Digests {
    pub(super) fn get(&self, ticket: Ticket) -> Option<Digest> {
        self.0.get(ticket.0).copied()
    }
}

impl Contents {
    pub(super) fn new() -> (Self, ContentHasher) {
        let ((to_hasher, steps), (to_asker, done)) = (channel(), channel());
        let contents = Self { steps: Vec::new(), chunk: Weak::new(), to_hasher, done, ends: 0 };
        (contents, ContentHasher { steps, done: to_asker })
    }

    pub(super) fn bytes(&mut self, piece: Piece) {
        if !std::ptr::eq(self.chunk.as_ptr(), Arc::as_ptr(&piece.chunk)) {
            self.flush();
            self.chunk = Arc::downgrade(&piece.chunk);
        }
        self.steps.push(Step::Bytes(piece));
    }

    pub(super) fn zeros(&mut self, length: u64) {
        self.steps.push(Step::Zeros(length));
    }

    /// Ends a file.
    pub(super) fn end(&mut self) -> Ticket {
        self.steps.push(Step::End);
        if self.steps.len() >= GATHERED {
            self.flush();
        }
        let ticket = Ticket(self.ends);
        self.ends = self.ends.saturating_add(1);
        ticket
    }

    /// Lets what was gathered be hashed.
    fn flush(&mut self) {
        if !self.steps.is_empty() {
            // That the thread is gone is seen at the end.
            let _ = self.to_hasher.send(std::mem::take(&mut self.steps));
        }
    }

    /// Waits for the digests.
    pub(super) fn finish(mut self) -> Result<Digests, Failure> {
        self.flush();
        drop(self.to_hasher);
        self.done.recv().map_err(|_| Failure::bad("could not be hashed"))
    }
}

impl ContentHasher {
    /// Hashes until nobody asks any more.
    pub(super) fn run(self) {
        let mut digests = Digests::default();
        let mut digester = Digester::new();
        for step in self.steps.into_iter().flatten() {
            match step {
                Step::Bytes(piece) => digester.update(piece.bytes()),
                Step::Zeros(length) => zeros(&mut digester, length),
                Step::End => digests.0.push(std::mem::take(&mut digester).finish()),
            }
        }
        // Who has failed does not want them.
        let _ = self.done.send(digests);
    }
}

fn zeros(digester: &mut Digester, length: u64) {
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
