//! The arguments that mount(8) gives a helper, and fstab(5) by way of it.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::UnionOptions;
use crate::error::{Error, Result};

/// What is asked of `mount.fuse.layerctl SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS] [-t TYPE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HelperRequest {
    pub(crate) options: UnionOptions,
    pub(crate) mountpoint: PathBuf,
    /// `-f`: all is checked, and nothing mounted.
    pub(crate) is_fake: bool,
}

impl HelperRequest {
    /// Reads the arguments.
    ///
    /// # Errors
    /// [`Error::Usage`] for options that mount(8) does not give, and for bad mount options.
    pub(crate) fn read(args: &[OsString]) -> Result<Self> {
        let mut options = UnionOptions::default();
        let mut words: Vec<&OsStr> = Vec::new();
        let mut is_fake = false;
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("-o") => options.read(args.next().ok_or_else(|| Error::Usage("-o needs options".into()))?)?,
                Some("-t" | "-N") => {
                    args.next();
                }
                Some("-f") => is_fake = true,
                Some("-s" | "-n" | "-v" | "--") => {}
                Some(word) if word.starts_with("-o") => options.read(OsStr::new(word.get(2..).unwrap_or_default()))?,
                Some(word) if word.starts_with('-') => return Err(Error::Usage(format!("unknown option: {word}"))),
                _ => words.push(arg),
            }
        }
        let [source, mountpoint] = words.as_slice() else {
            return Err(Error::Usage("mount.fuse.layerctl needs a source and a mountpoint".into()));
        };
        options.read_source(source)?;
        Ok(Self { options, mountpoint: PathBuf::from(mountpoint), is_fake })
    }
}
