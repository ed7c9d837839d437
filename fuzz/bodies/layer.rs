//! A layer's tar: unpacked, compared, scanned, put together again.

use std::os::fd::AsFd as _;

use layerctl::id::Digest;
use layerctl::index::{Child, Index, Kind, NodeId, scan};
use layerctl::tarball::{Failure, Limits, Unpacked, assemble, audit, unpack};

use super::sandbox::Sandbox;
use super::{is_one_sentence, tar};

pub(crate) fn run(data: &[u8]) -> bool {
    unpacked(&tar::repaired(data)).is_some()
}

/// What a tar asks for is bounded here as it is for users, and holes further: hashing them takes time.
fn limits() -> Limits {
    Limits { hashed_holes: 1 << 20, depth: 200, ..Limits::default() }
}

fn unpack_into(sandbox: &Sandbox, name: &str, tar: &[u8]) -> Result<(Unpacked, Vec<u8>), Failure> {
    let (mut source, mut split) = (tar, Vec::new());
    let unpacked = unpack(&mut source, sandbox.open(name).as_fd(), &mut split, &limits())?;
    Ok((unpacked, split))
}

/// Unpacks a tar, and looks whether all that was promised holds; gives the place where it was taken.
pub(crate) fn unpacked(tar: &[u8]) -> Option<(Sandbox, Unpacked)> {
    let sandbox = Sandbox::new();
    let (unpacked, split) = match unpack_into(&sandbox, "layer", tar) {
        Ok(done) => done,
        Err(failure) => {
            is_one_sentence(&failure);
            match failure {
                Failure::Bad { .. } => {}
                // The largest file that the file system can have.
                Failure::Write { source, .. } if source.raw_os_error() == Some(libc::EFBIG) => {}
                failure => panic!("a good disk is no reason: {failure:?}"),
            }
            return None;
        }
    };
    sandbox.is_untouched();
    assert_eq!(unpacked.diff_id.0, Digest::of(tar), "the diffID");
    assert_eq!(unpacked.size, tar.len() as u64, "the size");
    let index = Index::decode(unpacked.index.as_bytes().to_vec()).expect("an index of ours can be read");
    assert!(index.has_its_key(), "the index has its key");
    sandbox.has("layer", &index);

    let mut again = Vec::new();
    let digest = assemble(&mut &*split, sandbox.open("layer").as_fd(), &mut again).expect("it can be put together");
    assert!(again == tar, "the tar did not come back");
    assert_eq!(digest, unpacked.diff_id.0, "the digest of what came back");

    audit(&mut &*split).expect("what was unpacked can be told of");

    let scanned = scan(&sandbox.path("layer")).expect("the directory can be read as a layer");
    is_the_same_tree(&index, &scanned);

    // Of some tars only, whichever: it is half of the work.
    if unpacked.diff_id.0.hex().starts_with(['0', '8']) {
        let (other, other_split) = unpack_into(&sandbox, "other", tar).expect("what was taken once is taken twice");
        assert!(other.index.as_bytes() == index.as_bytes(), "the same tar gives the same index");
        assert!(other_split == split, "the same tar gives the same split");
    }
    Some((sandbox, unpacked))
}

/// The tree that the directory shows is the one that the index has. The files themselves were compared.
fn is_the_same_tree(index: &Index, scanned: &Index) {
    let mut todo = vec![(NodeId::ROOT, NodeId::ROOT)];
    while let Some((here, there)) = todo.pop() {
        let at = index.path(here).map(|path| path.join(&b'/').escape_ascii().to_string());
        let opaque = |index: &Index, id| index.node(id).is_some_and(|node| node.is_opaque());
        assert_eq!(opaque(index, here), opaque(scanned, there), "whether {at:?} is opaque");
        let (mut left, mut right) = (index.children(here), scanned.children(there));
        loop {
            let (one, other) = match (left.next(), right.next()) {
                (None, None) => break,
                (Some(one), Some(other)) if one.name == other.name => (one, other),
                (one, other) => panic!("in {at:?}: {one:?} in the index, {other:?} in the directory"),
            };
            let (one, other) = match (one.target, other.target) {
                (Child::Whiteout, Child::Whiteout) => continue,
                (Child::Node(one), Child::Node(other)) => (one, other),
                _ => panic!("in {at:?}: {one:?} in the index, {other:?} in the directory"),
            };
            let (a, b) = (index.node(one).expect("a node"), scanned.node(other).expect("a node"));
            let (meta, found) = (a.meta().expect("a description"), b.meta().expect("a description"));
            // The device that overlayfs takes for a whiteout is an empty file on disk.
            if meta.kind != Kind::CharDevice || meta.rdev != (0, 0) {
                assert_eq!((meta.kind, a.target()), (found.kind, b.target()), "in {at:?}: {one:?}");
            }
            if meta.kind == Kind::Directory {
                todo.push((one, other));
            } else {
                assert_eq!(a.nlink(), b.nlink(), "names of {one:?} in {at:?}");
            }
        }
    }
}
