//! Opens files of the store. If another program has put a link, a fifo or a device in the place of one, an open does not
//! follow it or wait for it, but fails.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::sys::{fs, open_regular};

const NOT_REGULAR: &str = "is no regular file";

/// Opens a file for reading; `None` when there is none.
pub(super) fn open(path: &Path) -> Result<Option<File>> {
    open_with(path, OFlags::RDONLY)
}

/// Opens a file whose content is of no account, or makes it; `None` when its directory is missing.
pub(super) fn open_or_create(path: &Path) -> Result<Option<File>> {
    open_with(path, OFlags::WRONLY | OFlags::CREATE)
}

/// Opens a file to write it anew.
pub(super) fn rewrite(path: &Path) -> Result<File> {
    let file = open_with(path, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC)?;
    file.ok_or(Errno::NOENT).doing("create", path)
}

/// The content of a file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let Some(mut file) = open(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    // With room for all of it at once; without it, as more of it comes.
    let size = fs::metadata_of(&file).doing("read", path)?.len();
    #[expect(clippy::let_underscore_must_use, reason = "read_to_end tells of a want of memory")]
    let _ = bytes.try_reserve_exact(usize::try_from(size).unwrap_or(0));
    file.read_to_end(&mut bytes).doing("read", path)?;
    Ok(Some(bytes))
}

fn open_with(path: &Path, flags: OFlags) -> Result<Option<File>> {
    match open_regular(path, flags) {
        Err(Errno::NOENT) => Ok(None),
        opened => match opened.doing("open", path)? {
            Some(file) => Ok(Some(file)),
            None => Err(Error::corrupt(path, NOT_REGULAR)),
        },
    }
}
