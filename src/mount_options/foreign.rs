//! Mount options of overlayfs, fuse-overlayfs and containers-storage that have no meaning here, or one that is refused.
//!
//! Programs pass them whatever the union is (`mountopt` in containers-storage.conf(5)), so that an option which only tunes the
//! other union is accepted. An option is refused when the mount would show other content, or protect it less, than its
//! caller was promised.

/// What an option without a meaning of its own comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It changes nothing here.
    Accepted,
    /// Its value is none that the other union takes; the values that it takes.
    Malformed(&'static [&'static str]),
    /// Ignoring it would be unsafe; the reason, as a clause.
    Refused(&'static str),
}

const ON_OFF: &[&str] = &["on", "off"];
const BIT: &[&str] = &["0", "1"];

/// Options that only tune, with the values that they take (Documentation/filesystems/overlayfs.rst, fuse-overlayfs(1)).
const TUNING: &[(&str, &[&str])] = &[
    // Hard links stay one file in any case, and file handles work in any case.
    ("index", ON_OFF),
    ("nfs_export", ON_OFF),
    // Inode numbers are stable in any case.
    ("xino", &["on", "off", "auto"]),
    ("uuid", &["on", "off", "auto", "null"]),
    // What these forbid in layers is the caller's affair; directories are renamed in any case, and a union of directories makes
    // no metadata-only copies.
    ("redirect_dir", &["on", "off", "follow", "nofollow"]),
    ("metacopy", ON_OFF),
    ("verity", &["off"]),
    ("override_creds", &["on"]),
    ("threaded", BIT),
    ("fast_ino", BIT),
    ("writeback", BIT),
    ("noxattrs", &["0"]),
    ("xattr_permissions", &["0"]),
];

/// What is unsafe to ignore: an option, its value unless any counts, and the reason.
const REFUSED: &[(&str, Option<&str>, &str)] = &[
    ("verity", Some("on"), "fs-verity digests of layers are not checked here"),
    ("verity", Some("require"), "fs-verity digests of layers are not checked here"),
    ("override_creds", Some("off"), "layers are always read with the rights of the mounting process"),
    ("noxattrs", Some("1"), "extended attributes cannot be switched off"),
    ("xattr_permissions", Some("1"), "owners and modes are not read from user.containers.override_stat"),
    ("xattr_permissions", Some("2"), "owners and modes are not read from user.containers.override_stat"),
    ("plugins", None, "plugins of fuse-overlayfs cannot be loaded"),
    ("datadir+", None, "data-only layers are not supported"),
    ("allow_root", None, "every user may look into a mount, as far as modes and owners allow it"),
];

/// The verdict on `NAME=VALUE`; `None` for an option that this table does not have.
pub(crate) fn verdict(name: &str, value: &str) -> Option<Verdict> {
    if let Some((.., why)) = REFUSED.iter().find(|(known, of, _)| *known == name && of.is_none_or(|of| of == value)) {
        return Some(Verdict::Refused(why));
    }
    if name == "timeout" {
        let is_time = value.parse::<f64>().is_ok_and(|seconds| seconds >= 0.0);
        return Some(if is_time { Verdict::Accepted } else { Verdict::Malformed(&["a number of seconds"]) });
    }
    let (_, values) = TUNING.iter().find(|(known, _)| *known == name)?;
    Some(if values.contains(&value) { Verdict::Accepted } else { Verdict::Malformed(values) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tunes_is_accepted_and_what_protects_is_refused() {
        for (name, value) in
            [("index", "off"), ("metacopy", "on"), ("verity", "off"), ("timeout", "0.5"), ("uuid", "null")]
        {
            assert_eq!(verdict(name, value), Some(Verdict::Accepted), "{name}={value}");
        }
        for (name, value) in [("verity", "require"), ("noxattrs", "1"), ("plugins", "x"), ("allow_root", "")] {
            assert!(matches!(verdict(name, value), Some(Verdict::Refused(_))), "{name}={value}");
        }
        for (name, value) in [("index", "maybe"), ("timeout", "soon"), ("timeout", "-1"), ("uuid", "")] {
            assert!(matches!(verdict(name, value), Some(Verdict::Malformed(_))), "{name}={value}");
        }
        assert_eq!(verdict("shwh", "1"), None);
    }
}
