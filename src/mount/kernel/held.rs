//! A running command, as another process sees it: what its caller is asked for.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::{Context as _, Error, Result};
use crate::mount::kernel::requests::SOCKET;
use crate::mount::live::{open_dir, socket_path};
use crate::mount::wait::Wait;
use crate::store::Container;
use crate::sys;

/// The command cannot write as long as this is there.
#[derive(Debug)]
pub(super) struct Held {
    stream: UnixStream,
    container: Container,
}

impl Held {
    /// Keeps the command from writing; or says, as a clause, why that cannot be done.
    ///
    /// # Errors
    /// When its caller cannot be asked.
    pub(super) fn take(container: &Container) -> Result<std::result::Result<Self, String>> {
        let Some(stream) = ask(container, b'h')? else {
            return Ok(Err("its caller is of an earlier version, or is just ending".to_owned()));
        };
        let what = format!("the command of container {} cannot write", container.record.name);
        let waiting = stream.try_clone().doing("ask the caller of", container.dir())?;
        let answer = Wait::new(what, None, Duration::MAX).thread(move || {
            let mut answer = [0];
            let mut why = String::new();
            match (&waiting).read_exact(&mut answer) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Ok(Err("it is just ending".to_owned()));
                }
                read => read.doing("hear from", "the caller of a command")?,
            }
            if answer == *b"y" {
                return Ok(Ok(()));
            }
            (&waiting).read_to_string(&mut why).doing("hear from", "the caller of a command")?;
            Ok(Err(why))
        })?;
        Ok(answer.map(|()| Self { stream, container: container.clone() }))
    }

    /// Lets the command go on.
    ///
    /// # Errors
    /// [`Error::InUse`] when it was held no longer: another process may have written since then.
    pub(super) fn release(self) -> Result<()> {
        let mut answer = [0];
        let told = (&self.stream).write_all(b"r").and_then(|()| (&self.stream).read_exact(&mut answer));
        match told {
            Ok(()) => Ok(()),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                let by = "its command has ended meanwhile: try again".to_owned();
                Err(Error::InUse { kind: "container", name: self.container.record.name, by })
            }
            Err(error) => Err(error).doing("hear from", "the caller of a command"),
        }
    }
}

/// The root of the tree that the command has, without what is mounted in it.
///
/// # Errors
/// [`Error::InUse`] when its caller cannot give it.
pub(crate) fn tree(container: &Container) -> Result<OwnedFd> {
    let in_use = |by: String| Error::InUse { kind: "container", name: container.record.name.clone(), by };
    let Some(stream) = ask(container, b't')? else {
        return Err(in_use("its command's caller is of an earlier version, or is just ending".to_owned()));
    };
    let (answer, tree) = sys::receive_descriptor(&stream).doing("hear from", "the caller of a command")?;
    if let (Some(b'y'), Some(tree)) = (answer, tree) {
        return Ok(tree);
    }
    let mut why = String::new();
    (&stream).read_to_string(&mut why).doing("hear from", "the caller of a command")?;
    Err(in_use(if why.is_empty() { "its command is just ending".to_owned() } else { why }))
}

/// None when no caller of a command listens.
fn ask(container: &Container, word: u8) -> Result<Option<UnixStream>> {
    let handle = open_dir(&container.dir())?;
    let stream = match UnixStream::connect(socket_path(&handle, SOCKET)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        stream => stream.doing("ask the caller of", container.dir())?,
    };
    match (&stream).write_all(&[word]) {
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => Ok(None),
        told => told.map(|()| Some(stream)).doing("ask the caller of", container.dir()),
    }
}
