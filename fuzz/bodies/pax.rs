//! Extended headers of one entry. Where the bytes do not begin with a digit, each line is a record, to which its
//! length is added; a line that begins with `!` is for the global header.

use super::{layer, tar};

pub(crate) fn run(data: &[u8]) -> bool {
    let (mut own, mut global) = (Vec::new(), Vec::new());
    if data.first().is_some_and(u8::is_ascii_digit) {
        own = data.to_vec();
    } else {
        for line in data.split(|byte| *byte == b'\n') {
            match line.strip_prefix(b"!") {
                Some(line) => global.extend(record(line)),
                None if line.is_empty() => {}
                None => own.extend(record(line)),
            }
        }
    }
    let mut bytes = Vec::new();
    if !global.is_empty() {
        tar::push(&mut bytes, tar::header(b'g'), &global);
    }
    for (kind, name) in [(b'0', "file"), (b'5', "dir"), (b'2', "link")] {
        tar::push(&mut bytes, tar::header(b'x'), &own);
        let mut header = tar::header(kind);
        tar::set(&mut header, tar::NAME, name.as_bytes());
        tar::set(&mut header, tar::LINK, b"../outside/file");
        tar::push(&mut bytes, header, if kind == b'0' { &[b'd'; tar::BLOCK] } else { b"" });
    }
    layer::unpacked(&tar::finish(bytes)).is_some()
}

/// `KEYWORD=VALUE` with its length, which counts its own digits.
pub(crate) fn record(line: &[u8]) -> Vec<u8> {
    let digits = |length: usize| length.to_string().len();
    let fixed = line.len() + 2;
    let mut length = fixed + digits(fixed);
    if fixed + digits(length) != length {
        length = fixed + digits(length);
    }
    [length.to_string().as_bytes(), b" ", line, b"\n"].concat()
}
