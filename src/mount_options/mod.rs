//! The options of an ad-hoc union, as people know them from AUFS, overlayfs and mount(8).
//!
//! | spelling | from | meaning |
//! |---|---|---|
//! | `dirs=A=rw:B=ro:C`, `br:A:B`, `br=A:B` | aufs(5) | branches, uppermost first; the first is rw and the others ro unless they say so |
//! | `lowerdir=A:B,upperdir=U,workdir=W` | mount(8), overlay | layers, nearest first, under a writable one; only `io=kernel` needs a `workdir` |
//! | `ro`, `rw`, `nosuid`, `nodev`, `noexec`, `noatime`, ... | mount(8) | the kernel's own flags |
//! | `lowerdir+=DIR` | mount(8), overlay | one more layer under the others; its name is taken as it is, a `:` too |
//! | `private`, `rslave`, ... | mount(8) | the mount's propagation type |
//! | `fsname=NAME`, `remount` | fuse(8), mount(8) | |
//! | `io=cached`, `io=passthrough`, `io=kernel` | | by which way data go ([`Io`]) |
//! | `volatile`, `fsync=0` | overlay, fuse-overlayfs(1) | nothing waits for the disk |
//! | `uidmapping=DISK:SHOWN:COUNT...`, `gidmapping=...` | fuse-overlayfs(1) | owners are shown with other ids |
//! | `squash_to_root`, `squash_to_uid=ID`, `squash_to_gid=ID` | fuse-overlayfs(1) | every owner is shown as this one |
//! | `noacl` | fuse-overlayfs(1) | no POSIX access lists |
//! | `redirect_dir=nofollow`, `metacopy=off` | mount(8), overlay | layers that refer to layers below them in this way are refused |
//! | `userxattr` | mount(8), overlay | marks in the namespace `user.` count |
//! | `context="LABEL"`, ... | mount(8) | handed to the kernel's security module |
//!
//! A backslash takes the meaning from the `:`, `,` or `=` after it, as with overlayfs. What else those programs know is
//! in [`foreign_options`](crate::mount_options::foreign).

mod foreign;
mod helper;
mod overlay_upper;
mod text;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::mount::{MountFlags, MountPropagationFlags};

use crate::error::{Error, Result};
use crate::fuse::{Behaviour, IdMap, Io};
use crate::index::Trust;
pub(crate) use helper::HelperRequest;

use foreign::{Verdict, verdict};
use text::{LABELS, one_path, path, quoted_label, split, split_once};

/// What `-o` said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnionOptions {
    /// The directory that takes changes.
    pub upper: Option<PathBuf>,
    /// What overlayfs has beside it; only `io=kernel` needs that.
    pub work: Option<PathBuf>,
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
    /// What is otherwise than by default.
    pub behaviour: Behaviour,
    /// Which marks of layers are believed.
    pub trust: Trust,
}

impl Default for UnionOptions {
    fn default() -> Self {
        Self {
            upper: None,
            work: None,
            lowers: Vec::new(),
            flags: MountFlags::empty(),
            source: None,
            io: None,
            remount: false,
            behaviour: Behaviour::default(),
            trust: Trust::default(),
        }
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

/// The propagation types of mount(8).
const PROPAGATION: &[(&[u8], MountPropagationFlags)] = &[
    (b"private", MountPropagationFlags::PRIVATE),
    (b"shared", MountPropagationFlags::SHARED),
    (b"slave", MountPropagationFlags::DOWNSTREAM),
    (b"unbindable", MountPropagationFlags::UNBINDABLE),
    (b"rprivate", MountPropagationFlags::PRIVATE.union(MountPropagationFlags::REC)),
    (b"rshared", MountPropagationFlags::SHARED.union(MountPropagationFlags::REC)),
    (b"rslave", MountPropagationFlags::DOWNSTREAM.union(MountPropagationFlags::REC)),
    (b"runbindable", MountPropagationFlags::UNBINDABLE.union(MountPropagationFlags::REC)),
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
    // fuse-overlayfs: link counts are right in any case.
    b"static_nlink",
];

impl UnionOptions {
    /// By which way data go. What the environment says of containers, a union takes only as far as it needs nothing more for that.
    ///
    /// # Errors
    /// [`Error::Usage`] when the environment has an unknown word.
    pub(crate) fn way(&self) -> Result<Io> {
        match Io::chosen(self.io)? {
            Io::Kernel if self.io.is_some() => Ok(Io::Kernel),
            Io::Kernel | Io::Auto => Ok(Io::Cached),
            io => Ok(io),
        }
    }

    /// Reads one `-o` argument into what earlier ones said.
    ///
    /// # Errors
    /// [`Error::Usage`] that names the option that is not understood.
    pub fn read(&mut self, text: &OsStr) -> Result<()> {
        let mut rest = text.as_bytes();
        loop {
            let option = match quoted_label(rest) {
                Some(label) => label,
                None => split(rest, b',').into_iter().next().unwrap_or_default(),
            };
            self.option(option)?;
            match rest.get(option.len()..).and_then(|after| after.strip_prefix(b",")) {
                Some(after) => rest = after,
                None => return Ok(()),
            }
        }
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
        if let Some((_, propagation)) = PROPAGATION.iter().find(|(name, _)| *name == option) {
            self.behaviour.propagation = propagation.bits();
            return Ok(());
        }
        if LABELS.iter().any(|label| option.starts_with(label)) {
            self.behaviour.labels.push(text(option)?.to_owned());
            return Ok(());
        }
        if let Some(list) = BRANCH_LISTS.iter().find_map(|prefix| option.strip_prefix(*prefix)) {
            return self.branches(list);
        }
        match split_once(option, b'=') {
            Some((b"lowerdir", dirs)) => {
                let dirs = split(dirs, b':');
                if dirs.iter().any(|dir| dir.is_empty()) {
                    let why = "lowerdir has an empty name between two colons, and data-only layers are not supported";
                    return Err(Error::Usage(why.into()));
                }
                self.lowers.extend(dirs.into_iter().map(path));
            }
            Some((b"lowerdir+", dir)) => self.lowers.push(one_path(dir)),
            Some((b"upperdir", dir)) => self.upper = Some(path(dir)),
            Some((b"workdir", dir)) => self.work = Some(path(dir)),
            Some((b"subtype" | b"wh" | b"udba", _)) => {}
            // What the kernel shows of a live mount, and mount(8) hands on when that is to change.
            Some((b"user_id" | b"group_id" | b"max_read" | b"blksize", _)) => {}
            Some((b"fsname", name)) => self.source = Some(String::from_utf8_lossy(name).into_owned()),
            Some((b"io", word)) => self.io = Some(String::from_utf8_lossy(word).parse()?),
            Some((b"uidmapping", ranges)) => map(&mut self.behaviour.ids.users, option, ranges)?,
            Some((b"gidmapping", ranges)) => map(&mut self.behaviour.ids.groups, option, ranges)?,
            Some((b"squash_to_uid", id)) => self.behaviour.ids.users.squash(number(option, id)?),
            Some((b"squash_to_gid", id)) => self.behaviour.ids.groups.squash(number(option, id)?),
            Some((b"fsync", b"0")) => self.behaviour.volatile = true,
            Some((b"fsync", b"1")) => self.behaviour.volatile = false,
            None if option == b"squash_to_root" => {
                self.behaviour.ids.users.squash(0);
                self.behaviour.ids.groups.squash(0);
            }
            None if option == b"userxattr" => self.trust.users = true,
            None if option == b"volatile" => self.behaviour.volatile = true,
            None if option == b"noacl" => self.behaviour.without_access_lists = true,
            None if option == b"remount" => self.remount = true,
            other => {
                self.foreign(option, other)?;
                match other {
                    Some((b"redirect_dir", word)) => self.trust.redirects = word != b"nofollow",
                    Some((b"metacopy", word)) => self.trust.metacopies = word != b"off",
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// An option that has no meaning here.
    fn foreign(&self, option: &[u8], parts: Option<(&[u8], &[u8])>) -> Result<()> {
        let shown = OsStr::from_bytes(option).display();
        let (name, value) = parts.unwrap_or((option, b""));
        let verdict = match (std::str::from_utf8(name), std::str::from_utf8(value)) {
            (Ok(name), Ok(value)) => verdict(name, value),
            _ => None,
        };
        match verdict {
            Some(Verdict::Accepted) => Ok(()),
            Some(Verdict::Malformed(values)) => {
                Err(Error::Usage(format!("mount option {shown}: the value must be {}", values.join(" or "))))
            }
            Some(Verdict::Refused(why)) => Err(Error::Usage(format!("mount option {shown} is refused: {why}"))),
            None => Err(Error::Usage(format!("unknown mount option: {shown}"))),
        }
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

fn text(option: &[u8]) -> Result<&str> {
    let shown = || OsStr::from_bytes(option).display();
    std::str::from_utf8(option).map_err(|_| Error::Usage(format!("mount option {} is not UTF-8", shown())))
}

fn map(map: &mut IdMap, option: &[u8], ranges: &[u8]) -> Result<()> {
    let shown = text(option)?;
    map.map(text(ranges)?).map_err(|why| Error::Usage(format!("mount option {shown}: it {why}")))
}

fn number(option: &[u8], id: &[u8]) -> Result<u32> {
    let shown = text(option)?;
    text(id)?.parse().map_err(|_| Error::Usage(format!("mount option {shown}: the value must be a number")))
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
            work: Some("w".into()),
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
