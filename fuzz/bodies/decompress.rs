//! A compressed stream; or anything, which is compressed and must come back.

use std::io::{ErrorKind, Read as _, Write as _};

use layerctl::tarball::{Codec, Compress, Compression, decompress, looks_like_layer};

use super::is_one_sentence;

/// Plain bytes that are looked at: streams can be of any length.
const MOST: u64 = 16 << 20;

pub(crate) fn run(data: &[u8]) -> bool {
    let _ = looks_like_layer(data);
    let (compression, mut plain) = decompress(Box::new(data)).expect("memory can be read");
    let mut bytes = Vec::new();
    let understood = match plain.by_ref().take(MOST).read_to_end(&mut bytes) {
        Ok(length) if (length as u64) < MOST => {
            assert!(compression != Compression::None || bytes == data, "what is plain stays");
            assert_eq!(plain.read(&mut [0; 100]).ok(), Some(0), "the end stays the end");
            true
        }
        Ok(_) => true,
        Err(error) => {
            is_one_sentence(&error);
            assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData), "{error:?}");
            assert!(plain.read(&mut [0; 100]).is_err(), "what has failed stays failed");
            false
        }
    };
    if data.len() < 4096 {
        for codec in [Codec::Gzip, Codec::Zstd] {
            let mut out = Compress::new(codec, Vec::new()).expect("there is memory");
            out.write_all(data).expect("memory takes all");
            let packed = out.finish().expect("memory takes all");
            let mut again = Vec::new();
            let mut plain = decompress(Box::new(&*packed)).expect("memory can be read").1;
            plain.read_to_end(&mut again).expect("what was compressed can be read");
            assert!(again == data, "what was compressed comes back");
        }
    }
    understood
}
