//! The members of an archive, imported as a file, from a pipe, compressed, or as a directory; the first byte says how.

use std::fs;
use std::io::Write as _;
use std::path::{Component, Path};

use layerctl::tarball::{Codec, Compress};

use super::parts::{self, Content, Part};
use super::tar;
use super::throwaway::{From, imported, imported_bytes};

pub(crate) fn run(data: &[u8]) -> bool {
    let Some((first, rest)) = data.split_first() else { return false };
    if tar::may_be_sparse(rest) || rest.windows(6).any(|window| window == b"sparse") {
        return false;
    }
    let parts = parts::parse(rest);
    match first % 4 {
        0 => imported_bytes(&parts::as_tar(&parts), From::File),
        1 => imported_bytes(&parts::as_tar(&parts), From::Pipe),
        2 => {
            let mut out = Compress::new(Codec::Gzip, Vec::new()).expect("there is memory");
            out.write_all(&parts::as_tar(&parts)).expect("memory takes all");
            imported_bytes(&out.finish().expect("memory takes all"), From::File)
        }
        _ => imported(|dir| {
            write(dir, &parts);
            dir.to_owned()
        }),
    }
}

/// Writes the members as files; those with names that a directory cannot have are left out.
fn write(dir: &Path, parts: &[Part]) {
    let _ = fs::write(dir.join("index.json"), "{}");
    for part in parts {
        let Ok(name) = std::str::from_utf8(&part.name) else { continue };
        let path = Path::new(name);
        let Content::File(content) = &part.content else { continue };
        if name.contains('\0') || !path.components().all(|part| matches!(part, Component::Normal(_))) {
            continue;
        }
        if let Some(parent) = path.parent() {
            let _ = fs::create_dir_all(dir.join(parent));
        }
        let _ = fs::write(dir.join(path), content);
    }
}
