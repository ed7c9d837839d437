//! The options of an ad-hoc union, as people know them from AUFS, overlayfs and mount(8).
//!
//! | spelling | from | meaning |
//! |---|---|---|
//! | `dirs=A=rw:B=ro:C`, `br:A:B`, `br=A:B` | aufs(5) | branches, uppermost first; the first is rw and the others ro unless they say so |
//! | `lowerdir=A:B,upperdir=U,workdir=W` | mount(8), overlay | layers, nearest first, under a writable one; `workdir` is not needed |
//! | `ro`, `rw`, `nosuid`, `nodev`, `noexec`, `noatime`, ... | mount(8) | the kernel's own flags |
//! | `fsname=NAME`, `remount` | fuse(8), mount(8) | |
//! | `io=cached`, `io=passthrough` | | by which way data go ([`Io`]) |
//!
//! A backslash takes the meaning from the `:`, `,` or `=` after it, as with overlayfs.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use rustix::mount::MountFlags;

use crate::error::{Error, Result};
use crate::fuse::Io;

/// What `-o` said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnionOptions {
    /// The directory that takes changes.
    pub upper: Option<PathBuf>,
    /// The directories below, nearest first.
    pub lowers: Vec<PathBuf>,
    /// The kernel's own flags.
    pub flags: MountFlags,
    /// What `/proc/mounts` shows as the source.
    pub source: Option<String>,
    /// By which way data go, if that was said.
    pub io: Option<Io>,
    /// Only flags of a live mount are to change.
    pub remount: bool,
}

impl Default for UnionOptions {
    fn default() -> Self {
        Self { upper: None, lowers: Vec::new(), flags: MountFlags::empty(), source: None, io: None, remount: false }
    }
}

/// The flags of mount(8) that the kernel knows: the name, what it sets, and what it clears.
const FLAGS: &[(&[u8], MountFlags, MountFlags)] = &[
    (b"ro", MountFlags::RDONLY, MountFlags::empty()),
    (b"rw", MountFlags::empty(), MountFlags::RDONLY),
    (b"nosuid", MountFlags::NOSUID, MountFlags::empty()),
    (b"suid", MountFlags::empty(), MountFlags::NOSUID),
    (b"nodev", MountFlags::NODEV, MountFlags::empty()),
    (b"dev", MountFlags::empty(), MountFlags::NODEV),
    (b"noexec", MountFlags::NOEXEC, MountFlags::empty()),
    (b"exec", MountFlags::empty(), MountFlags::NOEXEC),
    (b"noatime", MountFlags::NOATIME, MountFlags::empty()),
    (b"atime", MountFlags::empty(), MountFlags::NOATIME),
    (b"nodiratime", MountFlags::NODIRATIME, MountFlags::empty()),
    (b"diratime", MountFlags::empty(), MountFlags::NODIRATIME),
    (b"relatime", MountFlags::RELATIME, MountFlags::empty()),
    (b"norelatime", MountFlags::empty(), MountFlags::RELATIME),
    (b"strictatime", MountFlags::STRICTATIME, MountFlags::empty()),
    (b"lazytime", MountFlags::LAZYTIME, MountFlags::empty()),
    (b"sync", MountFlags::SYNCHRONOUS, MountFlags::empty()),
    (b"async", MountFlags::empty(), MountFlags::SYNCHRONOUS),
    (b"dirsync", MountFlags::DIRSYNC, MountFlags::empty()),
    (b"silent", MountFlags::SILENT, MountFlags::empty()),
];

/// What fstab(5) and mount(8) say to each other or to FUSE's own helper; it means nothing here.
const IGNORED: &[&[u8]] = &[
    b"defaults",
    b"auto",
    b"noauto",
    b"user",
    b"nouser",
    b"users",
    b"owner",
    b"group",
    b"_netdev",
    b"nofail",
    b"allow_other",
    b"default_permissions",
    b"loud",
    b"nonempty",
];

impl UnionOptions {
    /// Reads one `-o` argument into what earlier ones said.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the option that is not understood.
    pub fn read(&mut self, text: &OsStr) -> Result<()> {
        for option in split(text.as_bytes(), b',') {
            self.option(option)?;
        }
        Ok(())
    }

    /// Reads the branches from the place of a device, where mount(8) users may put them: only a word that
    /// starts as a branch list does.
    ///
    /// # Errors
    /// [`Error::Usage`] for a list that cannot be read.
    pub fn read_source(&mut self, source: &OsStr) -> Result<()> {
        let bytes = source.as_bytes();
        if BRANCH_LISTS.iter().any(|prefix| bytes.starts_with(prefix)) || bytes.starts_with(b"lowerdir=") {
            return self.read(source);
        }
        if self.source.is_none() {
            self.source = Some(source.to_string_lossy().into_owned());
        }
        Ok(())
    }

    fn option(&mut self, option: &[u8]) -> Result<()> {
        if let Some((_, set, clear)) = FLAGS.iter().find(|(name, ..)| *name == option) {
            self.flags = self.flags.difference(*clear) | *set;
            return Ok(());
        }
        if option.is_empty()
            || IGNORED.contains(&option)
            || option.starts_with(b"x-")
            || option.starts_with(b"comment=")
        {
            return Ok(());
        }
        if let Some(list) = BRANCH_LISTS.iter().find_map(|prefix| option.strip_prefix(*prefix)) {
            return self.branches(list);
        }
        match split_once(option, b'=') {
            Some((b"lowerdir", dirs)) => self.lowers.extend(split(dirs, b':').into_iter().map(path)),
            Some((b"upperdir", dir)) => self.upper = Some(path(dir)),
            // Overlayfs needs a workdir; here the upper has its own corner.
            Some((b"workdir" | b"subtype" | b"xino" | b"wh" | b"udba", _)) => {}
            // What the kernel shows of a live mount, and mount(8) hands on when that is to change.
            Some((b"user_id" | b"group_id" | b"max_read" | b"blksize", _)) => {}
            Some((b"fsname", name)) => self.source = Some(String::from_utf8_lossy(name).into_owned()),
            Some((b"io", word)) => self.io = Some(String::from_utf8_lossy(word).parse()?),
            None if option == b"remount" => self.remount = true,
            _ => return Err(Error::Usage(format!("unknown mount option: {}", OsStr::from_bytes(option).display()))),
        }
        Ok(())
    }

    fn branches(&mut self, list: &[u8]) -> Result<()> {
        for (number, branch) in split(list, b':').into_iter().enumerate() {
            let (dir, mode) = match rsplit_mode(branch) {
                Some((dir, mode)) => (dir, mode),
                None => (branch, if number == 0 { Mode::Writable } else { Mode::ReadOnly }),
            };
            if dir.is_empty() {
                return Err(Error::Usage("a branch of the union has no directory".into()));
            }
            match mode {
                Mode::ReadOnly => self.lowers.push(path(dir)),
                Mode::Writable if number == 0 => self.upper = Some(path(dir)),
                Mode::Writable => {
                    let dir = OsStr::from_bytes(dir).display();
                    return Err(Error::Usage(format!("only the first branch of a union can be rw, and {dir} is not")));
                }
            }
        }
        Ok(())
    }
}

const BRANCH_LISTS: [&[u8]; 4] = [b"dirs=", b"br:", b"br=", b"dirs:"];

#[derive(Clone, Copy)]
enum Mode {
    Writable,
    ReadOnly,
}

/// Takes `=rw`, `=ro`, `=rr` and their attributes (`=ro+wh`) off a branch (aufs(5), "Branch Syntax").
fn rsplit_mode(branch: &[u8]) -> Option<(&[u8], Mode)> {
    let at = branch.iter().rposition(|byte| *byte == b'=')?;
    let (dir, mode) = (branch.get(..at)?, branch.get(at + 1..)?);
    let mode = mode.split(|byte| *byte == b'+').next()?;
    match mode {
        b"rw" => Some((dir, Mode::Writable)),
        b"ro" | b"rr" => Some((dir, Mode::ReadOnly)),
        _ => None,
    }
}

/// Splits at `separator` where no backslash is before it. Backslashes stay.
fn split(bytes: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, byte) in bytes.iter().enumerate() {
        if *byte == separator && !escaped {
            parts.push(bytes.get(start..at).unwrap_or_default());
            start = at + 1;
        }
        escaped = *byte == b'\\' && !escaped;
    }
    parts.push(bytes.get(start..).unwrap_or_default());
    parts
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// A directory as it was meant: without the backslashes.
fn path(escaped: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(escaped.len());
    let mut rest = escaped.iter();
    while let Some(byte) = rest.next() {
        bytes.push(if *byte == b'\\' { *rest.next().unwrap_or(byte) } else { *byte });
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<UnionOptions> {
        let mut options = UnionOptions::default();
        options.read(OsStr::new(text)).map(|()| options)
    }

    fn dirs(upper: Option<&str>, lowers: &[&str]) -> UnionOptions {
        UnionOptions {
            upper: upper.map(PathBuf::from),
            lowers: lowers.iter().map(PathBuf::from).collect(),
            ..UnionOptions::default()
        }
    }

    #[test]
    fn aufs_branches_are_read_as_aufs_reads_them() {
        for (text, wanted) in [
            ("dirs=./up=rw:./l4=ro:./l3", dirs(Some("./up"), &["./l4", "./l3"])),
            ("br:up:a:b", dirs(Some("up"), &["a", "b"])),
            ("br=up:a=ro+wh", dirs(Some("up"), &["a"])),
            ("dirs=a=ro:b=rr", dirs(None, &["a", "b"])),
            ("dirs=a\\:b=rw:c\\,d", dirs(Some("a:b"), &["c,d"])),
            ("dirs=odd=name:b", dirs(Some("odd=name"), &["b"])),
        ] {
            assert_eq!(read(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn overlayfs_spelling_is_read_too() {
        let read = read("lowerdir=a:b\\:c,upperdir=u,workdir=w,noatime,ro,fsname=x").unwrap();
        let wanted = UnionOptions {
            flags: MountFlags::NOATIME | MountFlags::RDONLY,
            source: Some("x".into()),
            ..dirs(Some("u"), &["a", "b:c"])
        };
        assert_eq!(read, wanted);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, word) in
            [("dirs=a:b,shwh", "shwh"), ("dirs=a:b=rw", "b"), ("dirs=:a", "no directory"), ("io=fast", "fast")]
        {
            let error = read(text).unwrap_err();
            assert!(matches!(error, Error::Usage(_)) && error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_source_is_a_branch_list_or_just_a_name() {
        let mut options = UnionOptions::default();
        options.read_source(OsStr::new("none")).unwrap();
        assert_eq!(options.source.as_deref(), Some("none"));
        options.read_source(OsStr::new("dirs=u:l")).unwrap();
        assert_eq!(options.upper, Some("u".into()));
    }
}
