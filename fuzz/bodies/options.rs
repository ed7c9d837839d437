//! The options of `union`, one `-o` or, after a `!`, one source a line.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use layerctl::Error;
use layerctl::commands::UnionOptions;

pub(crate) fn run(data: &[u8]) -> bool {
    let mut understood = true;
    let mut options = UnionOptions::default();
    for line in data.split(|byte| *byte == b'\n') {
        let read = match line.strip_prefix(b"!") {
            Some(source) => options.read_source(OsStr::from_bytes(source)),
            None => options.read(OsStr::from_bytes(line)),
        };
        match read {
            // An error has the user's own words in it, whatever these are.
            Ok(()) => {}
            Err(Error::Usage(_)) => understood = false,
            Err(error) => panic!("no usage error: {error:?}"),
        }
    }
    let lowers: usize = options.lowers.iter().map(|dir| dir.as_os_str().len()).sum();
    assert!(lowers <= data.len(), "directories that nobody named");
    // A directory's path with a backslash before what could mean something is that path.
    if data.len() < 200 && !data.contains(&b'\n') && !data.is_empty() && !data.contains(&0) {
        let escaped: Vec<u8> = data.iter().flat_map(|byte| [b'\\', *byte]).collect();
        let mut options = UnionOptions::default();
        options
            .read(OsStr::from_bytes(&[b"lowerdir=", &escaped[..], b":", &escaped, b",upperdir=", &escaped].concat()))
            .expect("escaped paths are paths");
        let dir = OsStr::from_bytes(data);
        assert!(options.lowers.iter().all(|lower| lower == dir) && options.lowers.len() == 2, "{options:?}");
        assert_eq!(options.upper.as_deref(), Some(dir.as_ref()));
    }
    understood
}
