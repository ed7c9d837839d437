//! The tree of a plain directory. (stub)
use super::Index;
use std::path::Path;
/// Stub.
pub type ScanError = crate::error::Error;
/// Indexes a directory (AUFS or overlayfs whiteouts are understood).
pub fn scan(dir: &Path) -> Result<Index, ScanError> {
    let _ = dir;
    todo!()
}
