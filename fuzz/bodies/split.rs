//! The records of a split, put together with a directory that has all kinds of files; or a split's own bytes, where
//! they begin as one does.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::symlink;

use layerctl::id::Digest;
use layerctl::tarball::{Failure, assemble_counted};

use super::is_one_sentence;
use super::sandbox::{SECRET, Sandbox};

const MAGIC: &[u8] = b"layerctl split 1\n";
/// What one split may grow to here: a record of some bytes can name a whole file.
const MOST: usize = 4 << 20;

thread_local! {
    static SANDBOX: Sandbox = filled();
}

fn filled() -> Sandbox {
    let sandbox = Sandbox::new();
    let layer = sandbox.path("layer");
    let write = |name: &str, content: &[u8]| fs::write(layer.join(name), content).expect("a file can be made");
    for dir in ["d", ".wh..wh.dups"] {
        fs::create_dir(layer.join(dir)).expect("a directory can be made");
    }
    write("a", b"content of a");
    write("d/b", &[7; 1000]);
    write("empty", b"");
    write(".wh..wh.dups/1", b"replaced");
    symlink("../outside/file", layer.join("link")).expect("a link can be made");
    symlink("../outside/dir", layer.join("dirlink")).expect("a link can be made");
    rustix::fs::mknodat(rustix::fs::CWD, layer.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("a fifo can be made");
    sandbox
}

/// Takes so many bytes, and no more.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MOST {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn run(data: &[u8]) -> bool {
    if data.starts_with(MAGIC) {
        assembled(data, SECRET)
    } else {
        let packed = zstd::encode_all(data, 1).expect("memory takes all");
        assembled(&[MAGIC, &packed].concat(), data)
    }
}

/// `plain` is all that the split itself can have said.
fn assembled(mut split: &[u8], plain: &[u8]) -> bool {
    SANDBOX.with(|sandbox| {
        let mut out = Bounded(Vec::new());
        let layer = sandbox.open("layer");
        let understood = match assemble_counted(&mut split, layer.as_fd(), &mut out) {
            Ok(assembled) => {
                assert_eq!(assembled.digest, Digest::of(&out.0), "the digest");
                assert_eq!(assembled.size, out.0.len() as u64, "the size");
                assert!(assembled.content_bytes <= assembled.size, "more content than bytes");
                true
            }
            Err(failure @ Failure::Bad { .. }) => {
                is_one_sentence(&failure);
                false
            }
            Err(Failure::Write { source, .. }) if source.kind() == std::io::ErrorKind::StorageFull => false,
            Err(failure) => panic!("a good disk is no reason: {failure:?}"),
        };
        let has = |bytes: &[u8]| bytes.windows(SECRET.len()).any(|window| window == SECRET);
        assert!(!has(&out.0) || has(plain), "a file outside of the layer was read");
        sandbox.is_untouched();
        understood
    })
}
