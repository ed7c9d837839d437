//! `export`: the merged tree of a container or image as one tar.

use std::path::Path;

use super::output_file::OutputFile;
use super::tree_tar::write_tree;
use super::view::view;
use crate::error::{Context as _, Result};
use crate::store::Store;
use crate::union::Ino;

/// Writes the tree to `output`, a file, or `-` for standard output.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); when something is lost of what was written to the container, until `umount` has
/// said that; when it cannot be read or written. Then there is no file at the output, or
/// the one that was there before.
pub fn export(store: &Store, name: &str, output: &Path) -> Result<()> {
    super::descriptors::allow_all();
    let view = view(store, name)?;
    view.check_lost()?;
    let root = view.union.getattr(Ino::ROOT).map_err(std::io::Error::from).doing("read", name)?;
    let mut out = OutputFile::open(output)?;
    let shown = out.name().to_owned();
    write_tree(&view.union, root, b"", &mut out, &shown)?;
    // What the kernel held meanwhile may be lost by now.
    view.check_lost()?;
    out.commit()
}
