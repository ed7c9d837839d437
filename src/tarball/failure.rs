//! What stands against a layer's tar.

use std::io;
use std::path::PathBuf;

use super::{Refusal, refusal_of};

/// Why a tar could not be unpacked or assembled: a clause, before which the caller puts the archive's name.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The tar itself is wrong; for [`assemble`](super::assemble()) the split or the layer's directory.
    #[error("{}{why}", entry.as_ref().map(|entry| format!("{entry}: ")).unwrap_or_default())]
    Bad {
        /// The entry's path, escaped for display.
        entry: Option<String>,
        /// What is wrong, as a clause.
        why: String,
        /// The limit that could be raised, by its name in [`Limits`](super::Limits).
        limit: Option<&'static str>,
    },
    /// The source could not be read.
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The layer's directory, or the output, failed.
    #[error("cannot {doing} {}: {source}", display(path.as_os_str().as_encoded_bytes()))]
    Write {
        /// What was being done, as a verb in the infinitive.
        doing: &'static str,
        /// The path in the layer's directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Failure {
    /// The whole tar is wrong.
    pub(super) fn bad(refusal: impl Into<Refusal>) -> Self {
        let Refusal { why, limit } = refusal.into();
        Self::Bad { entry: None, why, limit }
    }

    /// An entry is wrong.
    pub(super) fn entry(path: &[u8], refusal: impl Into<Refusal>) -> Self {
        let Refusal { why, limit } = refusal.into();
        Self::Bad { entry: Some(display(path)), why, limit }
    }

    /// Names the entry at which a limit was reached, where it is not said yet.
    pub(super) fn with_entry(self, path: &[u8]) -> Self {
        match self {
            Self::Bad { entry: None, why, limit: limit @ Some(_) } if !path.is_empty() => {
                Self::Bad { entry: Some(display(path)), why, limit }
            }
            other => other,
        }
    }

    /// The disk failed.
    pub(super) fn write(doing: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        use std::os::unix::ffi::OsStrExt as _;
        let path = if path.is_empty() { b"." } else { path };
        Self::Write { doing, path: PathBuf::from(std::ffi::OsStr::from_bytes(path)), source: source.into() }
    }

    /// The source failed: it is the archive's fault when its compression is broken.
    pub(super) fn read(error: io::Error) -> Self {
        if let Some(refusal) = refusal_of(&error) {
            return Self::bad(refusal.clone());
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::bad("is cut short"),
            io::ErrorKind::InvalidData => Self::bad(format!("is damaged: {error}")),
            _ => Self::Read(error),
        }
    }
}

/// A path from outside as one line of text, shortened when it is long.
pub(super) fn display(path: &[u8]) -> String {
    const LONGEST: usize = 300;
    let mut text = String::new();
    for (count, character) in String::from_utf8_lossy(path).chars().enumerate() {
        if count == LONGEST {
            text.push('…');
            break;
        }
        if character.is_control() { text.extend(character.escape_default()) } else { text.push(character) }
    }
    text
}
