//! The kernel's list of mounts (`/proc/PID/mountinfo`, proc(5)).

use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// One mount of a mount namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountLine {
    /// The kernel's number for the mount.
    pub id: u64,
    /// Where.
    pub mountpoint: PathBuf,
    /// `major:minor`, which no two live file systems share.
    pub device: String,
    /// What kind of file system.
    pub fs_type: String,
    /// What it was mounted from, as `mount(2)` was told.
    pub source: String,
    /// Whether this mount is read-only.
    pub is_read_only: bool,
    /// Whether its file system is, and with it all its mounts.
    pub has_read_only_files: bool,
    /// The options of its file system.
    pub options: String,
}

/// The mounts of this process' mount namespace, in the order in which they were made.
///
/// # Errors
/// When the list cannot be read.
pub fn mount_table() -> std::io::Result<Vec<MountLine>> {
    mount_table_at("/proc/self/mountinfo")
}

/// The same of another process, whose list is at `path`.
///
/// # Errors
/// When it cannot be read.
pub fn mount_table_at(path: impl AsRef<Path>) -> std::io::Result<Vec<MountLine>> {
    let text = std::fs::read(path)?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// The number of the mount by which a file is open (proc(5), `fdinfo`).
///
/// # Errors
/// When the kernel does not say it.
pub fn mount_id(file: BorrowedFd<'_>) -> std::io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok());
    id.ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

fn parse(line: &[u8]) -> Option<MountLine> {
    let text = |field: &[u8]| String::from_utf8_lossy(field).into_owned();
    let mut fields = line.split(|byte| *byte == b' ');
    // error: what is no number is no line of this list
    let id = text(fields.next()?).parse().ok()?;
    let device = text(fields.nth(1)?);
    let mountpoint = PathBuf::from(OsStr::from_bytes(&unescape(fields.nth(1)?)));
    let is_read_only = is_read_only_list(fields.next()?);
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    let fs_type = text(rest.next()?);
    let source = text(&unescape(rest.next().unwrap_or_default()));
    let options = rest.next().unwrap_or_default();
    let has_read_only_files = is_read_only_list(options);
    let options = text(options);
    Some(MountLine { id, mountpoint, device, fs_type, source, is_read_only, has_read_only_files, options })
}

fn is_read_only_list(options: &[u8]) -> bool {
    options.split(|byte| *byte == b',').any(|option| option == b"ro")
}

/// Reads the octal escapes that the kernel writes for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = digits {
            let value = digits.iter().fold(0u32, |value, digit| value << 3 | u32::from(digit - b'0'));
            bytes.push(u8::try_from(value).unwrap_or(b'?'));
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_lines_are_read_with_their_escapes() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402/a\\134b rw,noatime master:1 - fuse.layerctl src rw,errors=continue";
        let mount = parse(line).unwrap();
        assert_eq!(mount.mountpoint, Path::new("/mnt 2/a\\b"));
        assert_eq!(
            (mount.device.as_str(), mount.fs_type.as_str(), mount.source.as_str()),
            ("98:0", "fuse.layerctl", "src")
        );
        assert!(!mount.is_read_only && !mount.has_read_only_files);
        let mount = parse(b"36 35 98:0 / /mnt rw,noatime - overlay box ro,index=on").unwrap();
        assert!(!mount.is_read_only && mount.has_read_only_files);
        assert!(parse(b"garbage").is_none());
    }
}
