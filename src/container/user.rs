//! The user and the groups that the command runs as.

use std::fs::File;
use std::io::Read as _;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Context as _, Error, Result};
use crate::sys::{self, call};

/// What no user list is on: proc and sysfs (include/uapi/linux/magic.h).
const FOREIGN: [i64; 2] = [0x9fa0, 0x6265_6572];
/// More than any real `/etc/passwd` has.
const FILE_MAX: u64 = 16 << 20;

/// Ids by number, as setuid and its like take them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// The supplementary groups, `gid` first.
    pub(super) groups: Vec<u32>,
    pub(super) home: Vec<u8>,
}

impl User {
    /// Resolves an image's `User` in the root directory of this process.
    pub(super) fn find(text: &str) -> Result<Self> {
        Self::resolve(text, &contents("/etc/passwd")?, &contents("/etc/group")?)
    }

    /// As Docker does it: a user by name has to be there, by number need not; without a group it has that of its
    /// entry (else 0) and those that list its name, with one that one alone.
    fn resolve(text: &str, passwd: &[u8], group: &[u8]) -> Result<Self> {
        let (name, group_name) = text.split_once(':').map_or((text, None), |(name, group)| (name, Some(group)));
        let name = if name.is_empty() { "0" } else { name };
        let number = parse_id(name.as_bytes());
        let entry = entries(passwd).find(|fields| match number {
            Some(number) => fields.get(2).and_then(|uid| parse_id(uid)) == Some(number),
            None => fields.first() == Some(&name.as_bytes()),
        });
        let fields = entry.unwrap_or_default();
        let Some(uid) = number.or_else(|| fields.get(2).and_then(|uid| parse_id(uid))) else {
            return Err(Error::Usage(format!("the container has no user {name}")));
        };
        let home = fields.get(5).filter(|home| !home.is_empty()).map_or(b"/".to_vec(), |home| home.to_vec());
        if let Some(group_name) = group_name.filter(|name| !name.is_empty()) {
            let gid = parse_id(group_name.as_bytes()).or_else(|| {
                entries(group)
                    .find(|fields| fields.first() == Some(&group_name.as_bytes()))
                    .and_then(|fields| fields.get(2).and_then(|gid| parse_id(gid)))
            });
            let gid = gid.ok_or_else(|| Error::Usage(format!("the container has no group {group_name}")))?;
            return Ok(Self { uid, gid, groups: vec![gid], home });
        }
        let gid = fields.get(3).and_then(|gid| parse_id(gid)).unwrap_or(0);
        let member = fields.first().copied().filter(|name| !name.is_empty());
        let mut groups = vec![gid];
        for fields in entries(group) {
            let listed =
                fields.get(3).is_some_and(|names| names.split(|byte| *byte == b',').any(|n| Some(n) == member));
            if let Some(gid) = fields.get(2).and_then(|gid| parse_id(gid)).filter(|gid| listed && !groups.contains(gid))
            {
                groups.push(gid);
            }
        }
        Ok(Self { uid, gid, groups, home })
    }
}

/// The fields of each line of `passwd(5)` or `group(5)`.
fn entries(file: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    file.split(|byte| *byte == b'\n').map(|line| line.trim_ascii().split(|byte| *byte == b':').collect())
}

/// A uid or gid in decimal. 2^32-1 is none: to the kernel it means "leave as it is".
fn parse_id(text: &[u8]) -> Option<u32> {
    let text = str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// A file of the container, which may be anything: a pipe does not block, a device is not read for ever.
fn contents(path: &str) -> Result<Vec<u8>> {
    let root = call::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).doing("open", "/")?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let below = path.trim_start_matches('/');
    let file = match call::openat2(&root, below, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        // By one of proc's links, which lead anywhere.
        Err(Errno::XDEV) => return Err(foreign(path)),
        file => File::from(file.doing("open the container's", path)?),
    };
    if !sys::fs::metadata_of(&file).doing("read the container's", path)?.is_file() {
        return Err(Error::Usage(format!("the container's {path} is not a file")));
    }
    // A link to `/proc/kmsg`, say: this process may read more than the image's author may.
    if FOREIGN.contains(&call::fstatfs(&file).doing("read the container's", path)?.f_type) {
        return Err(foreign(path));
    }
    let mut contents = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut contents).doing("read the container's", path)?;
    Ok(contents)
}

fn foreign(path: &str) -> Error {
    Error::Usage(format!("the container's {path} is a link to what is not in its tree"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n\nbroken\nweb:x:33:34:w:/srv:/bin/sh\n77:x:5:5::/five:\nbad:x:no:1::/:\n";
    const GROUP: &[u8] =
        b"root:x:0:\nweb:x:34:web\nextra:x:50:root,web\nmore:x:51:xweb\nlast:x:52:web,a\nbad:x:-1:web\n";

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str) -> User {
        User { uid, gid, groups: groups.to_vec(), home: home.into() }
    }

    #[test]
    fn every_form_of_user_is_resolved() {
        for (text, expected) in [
            ("", user(0, 0, &[0, 50], "/root")),
            ("root", user(0, 0, &[0, 50], "/root")),
            ("web", user(33, 34, &[34, 50, 52], "/srv")),
            ("33", user(33, 34, &[34, 50, 52], "/srv")),
            ("33:", user(33, 34, &[34, 50, 52], "/srv")),
            ("web:extra", user(33, 50, &[50], "/srv")),
            ("web:7", user(33, 7, &[7], "/srv")),
            (":7", user(0, 7, &[7], "/root")),
            ("1000", user(1000, 0, &[0], "/")),
            ("1000:1001", user(1000, 1001, &[1001], "/")),
            // A number is an id, also where a name looks the same.
            ("77", user(77, 0, &[0], "/")),
        ] {
            assert_eq!(User::resolve(text, PASSWD, GROUP).unwrap(), expected, "{text}");
        }
        assert_eq!(User::resolve("", b"", b"").unwrap(), user(0, 0, &[0], "/"));
    }

    #[test]
    fn an_unknown_user_or_group_is_an_error() {
        for text in ["nobody", "web:nogroup", "bad", "broken", "4294967295", "-1", "+1", "web:4294967296", "0:-1"] {
            assert!(matches!(User::resolve(text, PASSWD, GROUP), Err(Error::Usage(_))), "{text}");
        }
    }
}
