//! Tars of root file systems.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Adds a directory, or with content a file, to a tar.
pub(crate) fn add(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: Option<&[u8]>) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(if content.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory });
    header.set_mode(mode);
    header.set_mtime(1_600_000_000);
    let content = content.unwrap_or_default();
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content).expect("a tar entry");
}

pub(crate) fn finish(tar: tar::Builder<Vec<u8>>) -> Vec<u8> {
    tar.into_inner().expect("a tar")
}

/// The tar of a root file system with a few of this machine's programs, the libraries they need, and some files.
pub(crate) fn programs() -> &'static [u8] {
    static TAR: OnceLock<Vec<u8>> = OnceLock::new();
    TAR.get_or_init(|| with_programs(&[]))
}

/// The same with these programs too.
pub(crate) fn with_programs(more: &[&str]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for dir in ["bin", "dev", "etc", "proc", "srv", "sys", "tmp"] {
        add(&mut tar, dir, 0o755, None);
    }
    let mut files = std::collections::BTreeMap::new();
    for name in ["sh", "cat", "sleep", "ls", "id", "env", "rm", "mkdir", "chmod"].iter().chain(more) {
        let found = ["/bin", "/usr/bin"].iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists());
        let path = found.unwrap_or_else(|| panic!("this machine has no {name}"));
        let libraries = Command::new("ldd").arg(&path).output().expect("ldd runs").stdout;
        for word in String::from_utf8_lossy(&libraries).split_whitespace().filter(|word| word.starts_with('/')) {
            files.insert(word.trim_start_matches('/').to_owned(), PathBuf::from(word));
        }
        files.insert(format!("bin/{name}"), path);
    }
    for (name, path) in files {
        add(&mut tar, &name, 0o755, Some(&fs::read(path).expect("a program")));
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n";
    let group = b"root:x:0:\nweb:x:34:\nextra:x:50:web\n";
    let files = [("etc/passwd", &passwd[..]), ("etc/group", group), ("etc/hosts", b""), ("file", b"of the image\n")];
    for (name, content) in files {
        add(&mut tar, name, 0o644, Some(content));
    }
    finish(tar)
}

/// The tar of a root file system without programs: quick to import.
pub(crate) fn plain() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    add(&mut tar, "dir", 0o755, None);
    for name in ["file", "dir/one", "dir/two"] {
        add(&mut tar, name, 0o644, Some(format!("{name} of the image\n").as_bytes()));
    }
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_mode(0o777);
    link.set_size(0);
    tar.append_link(&mut link, "link", "dir/one").expect("a tar entry");
    finish(tar)
}
