//! What each fuzz target does with its bytes. A finding is a panic: an `assert!` here says what must hold of any
//! input beyond that the program does not panic itself.
//!
//! | target | bytes are | reached |
//! |---|---|---|
//! | `archive` | a file that is imported, as a file or from a pipe | all of `import` up to the digests |
//! | `image` | the members of an archive, with their digests put in | all of `import`, `verify`, `save` |
//! | `documents` | the same | `manifest.json`, `index.json`, manifests, configs |
//! | `json` | an image config | `json` |
//! | `layer` | a layer's tar, checksums made right | `tarball`, `index`, `scan` |
//! | `names` | lines, each an entry of a layer's tar | paths, links, whiteouts, replacements |
//! | `pax` | extended headers of an entry | PAX records, ACLs, attributes |
//! | `sparse` | a sparse member in all spellings | sparse maps |
//! | `index` | an index file, checksum made right | all that is asked of an index |
//! | `split` | the records of a split | `assemble` |
//! | `records` | one record of a store | `store`, `inspect`, `verify`, `df`, `prune` |
//! | `decompress` | a compressed stream | gzip, zstd, xz, bzip2 |
//! | `ids` | text | digests, names, platforms |
//! | `options` | text | the options of `union` |
//! | `union` | layers, and operations on a union of them | `union`, `index`, `pack` |

mod archive;
mod decompress;
mod documents;
mod ids;
mod image;
mod index;
mod json;
mod layer;
mod names;
mod options;
mod parts;
mod pax;
mod records;
mod sandbox;
mod sparse;
mod split;
mod tar;
mod throwaway;
mod union;

/// Does what a target does with these bytes; says whether the program understood them.
pub(crate) type Body = fn(&[u8]) -> bool;

/// Every target by its name, which is also that of its corpus in `fixtures/corpus/`.
pub(crate) const TARGETS: [(&str, Body); 15] = [
    ("archive", archive::run),
    ("decompress", decompress::run),
    ("documents", documents::run),
    ("ids", ids::run),
    ("image", image::run),
    ("index", index::run),
    ("json", json::run),
    ("layer", layer::run),
    ("names", names::run),
    ("options", options::run),
    ("pax", pax::run),
    ("records", records::run),
    ("sparse", sparse::run),
    ("split", split::run),
    ("union", union::run),
];

/// What the user reads is one sentence on one line, whatever the archive has in it.
pub(crate) fn is_one_sentence(error: &dyn std::fmt::Display) {
    let text = error.to_string();
    assert!(!text.is_empty() && text.len() < 4000, "an error of {} bytes: {text}", text.len());
    assert!(!text.contains(char::is_control), "an error with control characters in it: {text:?}");
}
