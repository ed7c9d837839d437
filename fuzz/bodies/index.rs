//! An index file, as one that is read back: forged, but with a right checksum.

use std::os::fd::AsFd as _;

use layerctl::index::{Child, Index, NodeId};
use layerctl::tarball::{Modes, compare, compare_content};

use super::is_one_sentence;
use super::sandbox::Sandbox;

const SUM: std::ops::Range<usize> = 12..16;
const EXTRAS: std::ops::Range<usize> = 36..40;
/// Answers that are asked for: a forged tree can be larger than its file.
const ASKED: usize = 2000;

pub(crate) fn run(data: &[u8]) -> bool {
    if let Err(error) = Index::decode(data.to_vec()) {
        is_one_sentence(&error);
    }
    let Some(index) = forged(data) else { return false };
    let _ = (index.has_its_key(), index.key());
    for id in (0..index.node_count().min(ASKED as u32)).map(NodeId) {
        let node = index.node(id).expect("every number below the count is a node");
        let _ = (node.meta(), node.kind(), node.nlink(), node.is_opaque(), node.is_implied(), node.digest());
        let extras = node.target().len() + node.xattrs().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        assert!(extras <= data.len(), "more attributes than bytes");
        assert!(index.names(id).take(ASKED).all(|(_, name)| name.len() <= data.len()));
        for child in index.children(id).take(ASKED) {
            let found = index.lookup(id, child.name);
            // In a forged directory the names may be out of order, so that one is not found.
            let _ = found.is_some_and(|found| found == child.target);
            if let Child::Node(child) = child.target {
                let _ = index.node(child);
            }
        }
        let _ = index.children(id).skipping(u32::MAX).next();
    }
    let _ = index.node(NodeId(index.node_count())).is_none();
    if index.node_count() <= 64 {
        // A ring of names has an end for who walks it up.
        for id in (0..index.node_count().min(4)).map(NodeId) {
            let _ = index.path(id);
        }
        let sandbox = Sandbox::new();
        let layer = sandbox.open("layer");
        let mut found = 0usize;
        compare(&index, layer.as_fd(), (false, Modes::Exact), &mut || Ok(None), &mut |_| found += 1)
            .expect("it can be read");
        compare_content(&index, layer.as_fd(), |_| true, &mut |_| found += 1).expect("it can be read");
    }
    true
}

/// The index of these bytes, with the length and the checksum that they should have.
fn forged(data: &[u8]) -> Option<Index> {
    let mut bytes = data.to_vec();
    let number =
        |bytes: &[u8], at: usize| bytes.get(at..at + 4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
    let (nodes, dentries, names) = (number(&bytes, 24)?, number(&bytes, 28)?, number(&bytes, 32)?);
    let before = 64 + u64::from(nodes) * 112 + u64::from(dentries) * 20 + u64::from(names);
    let extras = u32::try_from((bytes.len() as u64).checked_sub(before)?).ok()?;
    bytes[EXTRAS].copy_from_slice(&extras.to_le_bytes());
    let mut sum = flate2::Crc::new();
    sum.update(&bytes[16..]);
    bytes[SUM].copy_from_slice(&sum.sum().to_le_bytes());
    Index::decode(bytes).ok()
}
