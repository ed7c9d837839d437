//! The index directory of the kernel's overlayfs (`index=on`), as far as a reader of its upper directory needs it.
//!
//! When a lower file of several names is copied up, the copy is in `WORKDIR/index`, under the lower file's handle in hexadecimal
//! digits, and only the name by which it was copied up is in the upper directory: the others stay names of the lower
//! layer, and overlayfs finds the copy by the handle (Documentation/filesystems/overlayfs.rst, "Index";
//! fs/overlayfs/namei.c, `ovl_get_index_name`). In the handle (`struct ovl_fb`, fs/overlayfs/overlayfs.h) is what the
//! file system of the layer gives for one: of FUSE that is the inode's number and generation (fs/fuse/inode.c, `fuse_encode_fh`).

use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use super::Kind;
use super::scan::{Described, Refusal, ScanError, describe_in_upper};
use crate::sys::{Dir, call};

/// `version`, `magic`, `len`, `flags` and `type` of `struct ovl_fb` for a handle of FUSE: 21 bytes of its own, with a UUID, and
/// 12 of FUSE's.
const HEAD: [u8; 3] = [0, 0xfb, 33];
/// `OVL_FH_FLAG_BIG_ENDIAN` and `OVL_FH_FLAG_ANY_ENDIAN`.
const BIG_ENDIAN: u8 = 1;
/// `FILEID_INO64_GEN`.
const FUSE: u8 = 0x81;
/// Where FUSE's part begins.
const HANDLE: usize = 21;

/// A file of the index directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// Where it is.
    pub path: PathBuf,
    /// The number of the lower inode that it is a copy of.
    pub number: u64,
    /// The generation of that inode.
    pub generation: u32,
    /// Paths, from the root on, by which it is to be found beside those in the upper directory.
    pub names: Vec<Vec<Vec<u8>>>,
}

/// The files of the index directory `dir` that are copies of files of a FUSE mount; none when there is no such directory.
///
/// # Errors
/// [`ScanError`] when it cannot be read.
pub fn overlay_index(dir: &Path) -> Result<Vec<Indexed>, ScanError> {
    let failed = |error: Errno| ScanError { path: dir.to_owned(), source: error.into() };
    let entries = match Dir::open(dir) {
        Err(Errno::NOENT) => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let Some((number, generation)) = parse(name.to_bytes()) else { continue };
        let path = dir.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
        match call::statat(rustix::fs::CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
            // It has just lost its last name.
            Err(Errno::NOENT) => {}
            Err(error) => return Err(ScanError { path, source: error.into() }),
            // A directory is only marked there, and a whiteout is what is left of a file without names.
            Ok(stat) => match Kind::from_mode(stat.st_mode) {
                None | Some(Kind::Directory) => {}
                Some(Kind::CharDevice) if stat.st_rdev == 0 => {}
                Some(_) => found.push(Indexed { path, number, generation, names: Vec::new() }),
            },
        }
    }
    found.sort_unstable_by_key(|file| (file.number, file.generation));
    Ok(found)
}

/// The number and generation in the name of an index entry.
fn parse(name: &[u8]) -> Option<(u64, u32)> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> = name
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect();
    let bytes = bytes?;
    let [head @ .., flags, kind] = bytes.get(..5)? else { return None };
    if head != HEAD || *kind != FUSE || bytes.len() != usize::from(HEAD[2]) {
        return None;
    }
    let word = |at: usize| -> Option<u32> {
        let word: [u8; 4] = bytes.get(HANDLE.checked_add(at)?..)?.get(..4)?.try_into().ok()?;
        Some(if flags & BIG_ENDIAN != 0 { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) })
    };
    Some((u64::from(word(0)?) << 32 | u64::from(word(4)?), word(8)?))
}

/// What an index entry says of its file.
pub(super) fn describe(file: &Indexed) -> Result<(Stat, Described), Refusal> {
    let (Some(dir), Some(name)) = (file.path.parent(), file.path.file_name()) else {
        return Err(Refusal::System(Errno::NOENT));
    };
    let opened = File::open(dir);
    let dir = opened.map_err(|error| Refusal::System(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let stat = call::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = Kind::from_mode(stat.st_mode).ok_or(Refusal::System(Errno::IO))?;
    let described = describe_in_upper(dir.as_fd(), name.as_bytes(), &stat, kind)?;
    Ok((stat, described))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_of_fuse_has_number_and_generation() {
        let name = b"00fb2100810000000000000000000000000000000001000000050000008f12bf80";
        assert_eq!(parse(name), Some((1 << 32 | 5, 0x80bf_128f)));
        for other in [
            &b"#1dd6"[..],
            b"00fb1d00810000",
            b"00fb21008",
            b"",
            b"00fb2100010000000000000000000000000000000001000000050000008f12bf80",
        ] {
            assert_eq!(parse(other), None);
        }
    }
}
