//! The members of an archive that is a directory.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::checked_reader::ExactReader;
use super::documents::{DocumentLimits, Documents, diff_id_of, read_document};
use super::members::NameTells;
use crate::error::{Context as _, Error, Result};
use crate::id::DiffId;
use crate::sys;
use crate::sys::fs;

/// The members of a directory that is an OCI layout, or an archive that was unpacked.
#[derive(Debug)]
pub struct DirMembers {
    archive: String,
    limits: DocumentLimits,
    ratio: u64,
    dir: PathBuf,
    /// Whether what is no file, and a link that leads out of it, is as if it were not there: it may be a root file
    /// system.
    is_unpacked: bool,
    /// Whether all names are those of an archive of images, and there is one.
    look_like_image: bool,
}

impl DirMembers {
    /// Takes the layout at `dir`. `ratio` is how many times as large as it came a layer may become.
    #[must_use]
    pub fn new(archive: &str, limits: DocumentLimits, ratio: u64, dir: &Path) -> Self {
        let (archive, dir) = (archive.to_owned(), dir.to_owned());
        Self { archive, limits, ratio, dir, is_unpacked: false, look_like_image: true }
    }

    /// Takes what was unpacked at `dir`: an archive may be there, or in the only directory that is there.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn unpacked(archive: &str, limits: DocumentLimits, ratio: u64, dir: &Path) -> Result<Self> {
        let names = Names::of(dir)?;
        let mut dir = dir.to_owned();
        if let Names { first: Some(only), count: 1, are_known: false } = &names
            && fs::found(dir.join(only)).doing("read", &dir)?.is_some_and(|only| only.is_dir())
        {
            dir.push(only);
        }
        let look_like_image = names.count > 0 && names.are_known;
        Ok(Self { is_unpacked: true, look_like_image, ..Self::new(archive, limits, ratio, &dir) })
    }

    /// Whether all names are those of an archive of images.
    #[must_use]
    pub const fn look_like_image(&self) -> bool {
        self.look_like_image
    }

    /// Opens a member; also gives its size. `None` when there is none of this name.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub fn open(&self, name: &str) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        // No document's name leads out of the directory.
        if name.is_empty() || name.split('/').any(|part| part == "..") {
            return Ok(None);
        }
        let path = self.dir.join(name);
        let odd = |why: &str| match self.is_unpacked {
            true => Ok(None),
            false => Err(Error::BadArchive {
                archive: self.archive.clone(),
                entry: Some(name.to_owned()),
                why: why.to_owned(),
            }),
        };
        let dir = File::open(&self.dir).doing("open", &self.dir)?;
        let file = match sys::open_below(&dir, name.as_bytes()) {
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::NAMETOOLONG) if self.is_unpacked => return Ok(None),
            // Some build tools make links of blobs, but what they mean must be a part of the archive.
            Err(Errno::XDEV) => return odd("is a link that leads out of the layout"),
            Err(Errno::LOOP) => return odd("is a link that leads nowhere"),
            Err(Errno::NXIO) => return odd("is no regular file"),
            opened => File::from(opened.doing("open", &path)?),
        };
        let metadata = fs::metadata_of(&file).doing("read", &path)?;
        if !metadata.is_file() {
            return odd("is no regular file");
        }
        let size = metadata.len();
        Ok(Some((Box::new(ExactReader::new(file, size)), size)))
    }
}

/// What the names in a directory tell.
struct Names {
    first: Option<OsString>,
    count: u64,
    /// Whether all are those of an archive of images.
    are_known: bool,
}

impl Names {
    fn of(dir: &Path) -> Result<Self> {
        let mut names = Self { first: None, count: 0, are_known: true };
        for entry in sys::Dir::open(dir).doing("read", dir)? {
            let entry = entry.doing("read", dir)?;
            let bytes = entry.file_name().to_bytes();
            let tells = NameTells::of(&String::from_utf8_lossy(bytes));
            if !matches!(bytes, b"." | b"..") && tells != NameTells::Nothing {
                names.count = names.count.saturating_add(1);
                names.are_known &= tells == NameTells::Image;
                names.first.get_or_insert_with(|| OsStr::from_bytes(bytes).to_owned());
            }
        }
        Ok(names)
    }
}

impl Documents for DirMembers {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((source, size)) = self.open(name)? else { return Ok(None) };
        read_document(&self.archive, self.limits, name, size, source).map(Some)
    }

    fn has(&self, name: &str) -> Result<bool> {
        Ok(self.open(name)?.is_some())
    }

    fn diff_id(&self, name: &str) -> Result<Option<DiffId>> {
        let Some((source, _)) = self.open(name)? else { return Ok(None) };
        diff_id_of(&self.archive, name, self.ratio, source).map(Some)
    }
}
