//! What can go wrong, grouped by what a caller can do about it.
//!
//! Every variant names the thing and, where there is one, the path. An I/O error cannot be turned into
//! an [`Error`] without saying what was being done: use [`Context::doing`] in place of a bare `?`.
//! The union does not use this type: its errors are errno values ([`crate::union::Errno`]).

use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One sentence about what went wrong. [`Error::exit_code`] gives the documented exit status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing has this name.
    #[error("no such {kind}: {name}")]
    NotFound {
        /// `image`, `container`, `layer`, `file`, ...
        kind: &'static str,
        /// The name as it was given.
        name: String,
    },
    /// A unique prefix was wanted, and several ids start with it.
    #[error("{prefix} is ambiguous: {count} {kind}s start with it")]
    Ambiguous {
        /// `image`, `container`, `layer`.
        kind: &'static str,
        /// The prefix as it was given.
        prefix: String,
        /// How many there are.
        count: usize,
    },
    /// The name is taken.
    #[error("{kind} {name} exists already")]
    AlreadyExists {
        /// `container`, `image`, ...
        kind: &'static str,
        /// The name that is taken.
        name: String,
    },
    /// The thing cannot be changed while something else uses it.
    #[error("{kind} {name} is in use: {by}")]
    InUse {
        /// `image`, `container`, `mountpoint`, ...
        kind: &'static str,
        /// Its name.
        name: String,
        /// The user of it: a process, a container, a mount.
        by: String,
    },
    /// An image archive or layer that came from outside is not what it should be.
    #[error("{}: {}{}", Line(archive), entry.as_ref().map(|entry| format!("{}: ", Line(entry))).unwrap_or_default(), Line(why))]
    BadArchive {
        /// The file as the user named it, `-` for standard input.
        archive: String,
        /// The member, layer or entry in it.
        entry: Option<String>,
        /// What is wrong, as a clause.
        why: String,
    },
    /// A file of the store is damaged.
    #[error("{}: damaged: {}", Line(path.display()), Line(why))]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong, as a clause.
        why: String,
    },
    /// The request cannot be carried out as it was put.
    #[error("{0}")]
    Usage(String),
    /// This machine or this version cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// What another process of ours has answered.
    #[error("{message}")]
    Relayed {
        /// Its sentence.
        message: String,
        /// Its exit status.
        code: u8,
    },
    /// The command of a container could not be found.
    #[error("{}: command not found", Line(command))]
    CommandNotFound {
        /// The command's first word.
        command: String,
    },
    /// The command of a container is there, but not what it is run by.
    #[error("{}: the interpreter that it names is not there", Line(command))]
    InterpreterNotFound {
        /// The command's first word.
        command: String,
    },
    /// The command of a container could not be run.
    #[error("{}: cannot be run: {source}", Line(command))]
    CommandNotRunnable {
        /// The command's first word.
        command: String,
        /// What execve answered.
        source: io::Error,
    },
    /// A system call failed.
    #[error("cannot {doing} {}: {source}", Line(named(path)))]
    Io {
        /// What was being done, as a verb in the infinitive: `read`, `rename into place`.
        doing: &'static str,
        /// With which file; `-` is standard input.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
}

/// A file as a user knows it.
fn named(path: &Path) -> std::path::Display<'_> {
    if path == Path::new("-") { Path::new("standard input").display() } else { path.display() }
}

/// Text that may be from outside, as a part of one line: control characters are escaped, so that no archive writes to
/// the user's terminal, and what is longer than a sentence can be is cut.
struct Line<T>(T);

/// Bytes of it that are shown.
const LONGEST: usize = 1200;

impl<T: fmt::Display> fmt::Display for Line<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = LONGEST;
        for character in self.0.to_string().chars() {
            let escaped = Some(character.escape_default()).filter(|_| character.is_control());
            let length = escaped.as_ref().map_or(character.len_utf8(), ExactSizeIterator::len);
            let Some(left) = room.checked_sub(length) else { return f.write_char('…') };
            room = left;
            match escaped {
                Some(escaped) => write!(f, "{escaped}")?,
                None => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

impl Error {
    /// The exit status of a command that ends with this error: 1 not found, 2 usage,
    /// 126 and 127 as a shell's, 125 for all else.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 1,
            Self::Usage(_) | Self::Ambiguous { .. } => 2,
            Self::CommandNotRunnable { .. } => 126,
            Self::CommandNotFound { .. } | Self::InterpreterNotFound { .. } => 127,
            Self::Relayed { code, .. } => *code,
            _ => 125,
        }
    }

    /// An archive that is not what it should be.
    pub fn bad_archive(archive: impl Into<String>, why: impl Into<String>) -> Self {
        Self::BadArchive { archive: archive.into(), entry: None, why: why.into() }
    }

    /// Whether it says that something on disk is damaged: it is not what it should be, or the disk cannot read it.
    ///
    /// No answer to whether something is there, and none that comes of a want of descriptors, memory or rights.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Io { source, .. } => {
                matches!(source.raw_os_error(), Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG))
            }
            _ => false,
        }
    }

    /// A damaged file of the store.
    pub fn corrupt(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::Corrupt { path: path.into(), why: why.into() }
    }
}

/// Says what was being done when a system call failed.
pub trait Context<T> {
    /// Wraps the error: `file.sync_all().doing("flush", &path)?`.
    ///
    /// # Errors
    /// [`Error::Io`] when `self` is an error.
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn doing(self, doing: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::Io { doing, path: path.as_ref().to_owned(), source: source.into() })
    }
}

/// The value; `None` when it is not there ([`Error::NotFound`]) or is damaged ([`Error::Corrupt`]).
///
/// # Errors
/// Every other one: a failed system call says neither.
pub fn readable<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. } | Error::Corrupt { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The value; `None` when it is not there ([`Error::NotFound`]).
///
/// # Errors
/// Every other one.
pub fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_one_sentence_with_the_names_in_it() {
        let io = || io::Error::from_raw_os_error(28);
        for (error, text, code) in [
            (Error::NotFound { kind: "image", name: "x".into() }, "no such image: x", 1),
            (
                Error::BadArchive { archive: "a.tar".into(), entry: Some("b".into()), why: "is cut short".into() },
                "a.tar: b: is cut short",
                125,
            ),
            (Error::bad_archive("a.tar", "is empty"), "a.tar: is empty", 125),
            (
                Error::BadArchive { archive: "ä".into(), entry: Some("b\x1b[2J".into()), why: "is\ncut".into() },
                "ä: b\\u{1b}[2J: is\\ncut",
                125,
            ),
            (Error::Usage("give a name".into()), "give a name", 2),
            (Error::CommandNotFound { command: "x".into() }, "x: command not found", 127),
            (Error::InterpreterNotFound { command: "x".into() }, "x: the interpreter that it names is not there", 127),
            (
                Err::<(), _>(io()).doing("write", "/a/b").unwrap_err(),
                "cannot write /a/b: No space left on device (os error 28)",
                125,
            ),
        ] {
            assert_eq!(error.to_string(), text);
            assert_eq!(error.exit_code(), code);
        }
    }
}
