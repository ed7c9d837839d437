//! Requests that have to wait for a copy-up which another one has begun.
//!
//! The kernel sends what it has gathered of a file in many messages at once. The first one copies the file up, which may
//! take minutes; if the others waited for that in the threads that received them, no thread would be left to serve any other
//! file.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use super::freeze::Freeze;
use crate::union::Union;

/// What is done when the waiting has an end.
type Request = Box<dyn FnOnce(&Union) + Send>;

/// Takes requests to the thread that waits.
#[derive(Clone)]
pub(super) struct Deferred(Sender<Request>);

impl Deferred {
    /// Has it done later, in the order in which requests come.
    pub(super) fn put(&self, union: &Union, request: impl FnOnce(&Union) + Send + 'static) {
        // Without its thread the mount is about to end.
        if let Err(unsent) = self.0.send(Box::new(request)) {
            unsent.0(union);
        }
    }
}

pub(super) fn requests() -> (Deferred, Receiver<Request>) {
    let (sender, receiver) = channel();
    (Deferred(sender), receiver)
}

/// Starts the thread; it ends when nothing can come any more, and then lets go of the union.
pub(super) fn do_all(
    requests: Receiver<Request>,
    freeze: Arc<Freeze>,
    union: Arc<Union>,
) -> std::io::Result<JoinHandle<()>> {
    let run = move || {
        for request in requests {
            let _pass = freeze.begin_change();
            request(&union);
        }
    };
    std::thread::Builder::new().name("deferred".to_owned()).spawn(run)
}
