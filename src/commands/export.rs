//! `export`: the merged tree of a container or image as one tar.

use std::path::Path;

use crate::error::{Context as _, Result};
use crate::output_file::OutputFile;
use crate::pack::tree::write_tree;
use crate::store::Store;
use crate::union::Ino;
use crate::view::view;

/// Writes the tree to `output`, a file, or `-` for standard output.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound); when something is lost of what was written to the container, until `umount` has
/// said that; when it cannot be read or written. Then there is no file at the output, or
/// the one that was there before.
pub fn export(store: &Store, name: &str, output: &Path) -> Result<()> {
    crate::sys::raise_descriptor_limit();
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
