//! A file that is imported: an archive, a root file system, something compressed, or nothing of these. The first
//! byte says whether it comes from a pipe, and whether checksums are made right.

use super::tar;
use super::throwaway::{From, imported_bytes};

pub(crate) fn run(data: &[u8]) -> bool {
    let Some((first, rest)) = data.split_first() else { return false };
    if tar::may_be_sparse(rest) {
        return false;
    }
    let from = if first & 1 == 0 { From::File } else { From::Pipe };
    if first & 2 == 0 { imported_bytes(&tar::repaired(rest), from) } else { imported_bytes(rest, from) }
}
