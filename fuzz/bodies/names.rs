//! Lines, each an entry of a layer's tar: `path`, `path/`, `path -> symbolic`, `path => hard`, `path | fifo`,
//! `path # device`.

use std::borrow::Cow;

use layerctl::whiteout::{self, Marker, NAME_MAX};

use super::{layer, tar};

pub(crate) fn run(data: &[u8]) -> bool {
    let mut bytes = Vec::new();
    for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).take(200) {
        line.split(|byte| *byte == b'/').for_each(marker);
        let cut = |word: &[u8]| {
            let at = line.windows(word.len()).position(|window| window == word)?;
            Some((&line[..at], &line[at + word.len()..]))
        };
        let (kind, path, link) = match (cut(b" -> "), cut(b" => ")) {
            (Some((path, link)), _) => (b'2', path, link),
            (None, Some((path, link))) => (b'1', path, link),
            _ if line.ends_with(b" |") => (b'6', &line[..line.len() - 2], &b""[..]),
            _ if line.ends_with(b" #") => (b'3', &line[..line.len() - 2], &b""[..]),
            _ if line.ends_with(b"/") => (b'5', line, &b""[..]),
            _ => (b'0', line, &b""[..]),
        };
        for (kind, text) in [(b'L', path), (b'K', link)] {
            if text.len() > 100 {
                tar::push(&mut bytes, tar::header(kind), text);
            }
        }
        let mut header = tar::header(kind);
        tar::set(&mut header, tar::NAME, path);
        tar::set(&mut header, tar::LINK, link);
        // So that a hard link may give a file another mode.
        tar::set(&mut header, tar::MODE, format!("{:07o}\0", 0o600 + line.len() % 0o100).as_bytes());
        // What replaces a file is seen by its content.
        tar::push(&mut bytes, header, if kind == b'0' { line } else { b"" });
    }
    layer::unpacked(&tar::finish(bytes)).is_some()
}

/// What is written for a name says the same when it is read.
fn marker(name: &[u8]) {
    let _ = whiteout::parse(name);
    if name.is_empty() || name.len() > NAME_MAX || matches!(name, b"." | b"..") {
        return;
    }
    let (file, content) = whiteout::on_disk(name);
    assert!(file.len() <= NAME_MAX && whiteout::is_reserved(&file));
    match whiteout::parse(&file) {
        Some(Marker::Whiteout(hidden)) => assert_eq!((hidden, &*content), (name, &b""[..])),
        Some(Marker::Long) if !whiteout::is_reserved(name) => assert_eq!(content, Cow::Borrowed(name)),
        // A name that a union keeps to itself cannot be in a layer, so nothing has to hide it.
        Some(Marker::Opaque | Marker::Private | Marker::Long) => assert!(name.starts_with(b".wh.")),
        other => panic!("{} would be written as {other:?}", name.escape_ascii()),
    }
}
