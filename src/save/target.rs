//! Where an archive goes: into a tar, or a directory.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::output_file::OutputFile;
use crate::output_file::temporary::{Temporary, flush_name};
use crate::sys::{Dir, call, fs};
use crate::tarball::BLOCK;

/// Writes a member's content to a writer that has the given name in messages.
pub(super) type Content<'a> = &'a mut dyn FnMut(&mut dyn Write, &Path) -> Result<()>;

/// Takes the members of an archive. Dropped without [`Target::commit`], it leaves nothing.
pub(super) trait Target {
    /// A directory.
    fn directory(&mut self, name: &str) -> Result<()>;
    /// A file; `content` writes exactly `size` bytes.
    fn file(&mut self, name: &str, size: u64, content: Content<'_>) -> Result<()>;
    /// Where what is not yet a member may wait on disk.
    fn waiting_room(&self) -> PathBuf;
    /// All is written.
    fn commit(self: Box<Self>) -> Result<()>;

    /// A file that is in memory.
    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.file(name, bytes.len() as u64, &mut |out, path| out.write_all(bytes).doing("write", path))
    }
}

/// A tar in which all is root's and of 1970.
pub(super) struct TarTarget {
    out: OutputFile,
}

impl TarTarget {
    pub(super) const fn new(out: OutputFile) -> Self {
        Self { out }
    }

    fn header(&mut self, kind: tar::EntryType, mode: u32, name: &str, size: u64) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(name).doing("write", self.out.name())?;
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        // As octal, or from 8 GiB on in binary: all readers of these archives know that of GNU tar.
        header.set_size(size);
        header.set_cksum();
        self.write(header.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).doing("write", self.out.name())
    }
}

impl Target for TarTarget {
    fn directory(&mut self, name: &str) -> Result<()> {
        self.header(tar::EntryType::Directory, 0o755, &format!("{name}/"), 0)
    }

    fn file(&mut self, name: &str, size: u64, content: Content<'_>) -> Result<()> {
        self.header(tar::EntryType::Regular, 0o644, name, size)?;
        let path = self.out.name().to_owned();
        content(&mut self.out, &path)?;
        let padding = usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or_default();
        self.write([0; BLOCK].get(..padding).unwrap_or_default())
    }

    fn waiting_room(&self) -> PathBuf {
        match self.out.dir() {
            Some(dir) => dir,
            None => std::env::temp_dir(),
        }
    }

    fn commit(mut self: Box<Self>) -> Result<()> {
        self.write(&[0; 2 * BLOCK])?;
        self.out.commit()
    }
}

/// A directory that gets its name when all is in it.
pub(super) struct DirTarget {
    dir: Temporary,
    target: PathBuf,
    name: PathBuf,
}

impl DirTarget {
    /// # Errors
    /// [`Error::AlreadyExists`] when something is in it.
    pub(super) fn new(name: &Path) -> Result<Self> {
        let target = match fs::absent(fs::canonicalize(name)).doing("create", name)? {
            Some(target) => target,
            None => std::path::absolute(name).doing("create", name)?,
        };
        match Dir::open(&target) {
            Err(Errno::NOENT) => {}
            entries => {
                for entry in entries.doing("read", name)? {
                    if !entry.doing("read", name)?.is_dots() {
                        return Err(not_empty(name));
                    }
                }
            }
        }
        let dir = Temporary::directory(&target).doing("create", name)?;
        Ok(Self { dir, target, name: name.to_owned() })
    }
}

fn not_empty(name: &Path) -> Error {
    Error::AlreadyExists { kind: "directory", name: format!("{}, which is not empty,", name.display()) }
}

impl Target for DirTarget {
    fn directory(&mut self, name: &str) -> Result<()> {
        fs::create_dir(self.dir.path().join(name)).doing("create", self.name.join(name))
    }

    fn file(&mut self, name: &str, _: u64, content: Content<'_>) -> Result<()> {
        let shown = self.name.join(name);
        let mut out =
            BufWriter::with_capacity(256 << 10, fs::create(self.dir.path().join(name)).doing("create", &shown)?);
        content(&mut out, &shown)?;
        out.flush().doing("write", &shown)
    }

    fn waiting_room(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    fn commit(self: Box<Self>) -> Result<()> {
        let Self { dir, target, name } = *self;
        call::syncfs(&dir.file).doing("flush", &name)?;
        // An empty directory is replaced in one step (rename(2)).
        match dir.rename(&target) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Err(not_empty(&name)),
            renamed => {
                let dir = renamed.doing("put into place", &name)?;
                flush_name(&dir, &target).doing("flush the directory of", &name)
            }
        }
    }
}
