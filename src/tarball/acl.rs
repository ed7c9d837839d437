//! POSIX ACLs: star's text becomes the value of the kernel's attribute.

/// The attribute of `linux/posix_acl_xattr.h`: version 2, then tag, permissions and id of each entry,
/// in the order of tags and ids.
///
/// `None` when the text is malformed, or names a user or group without its number: names are those of
/// the machine that wrote it, and are never looked up.
pub(super) fn to_xattr(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries = Vec::new();
    for line in text.split([',', '\n']) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let mut fields = line.strip_prefix("default:").unwrap_or(line).split(':');
        let (kind, name, permissions, id) = (fields.next()?, fields.next()?, fields.next()?, fields.next());
        let permissions = permissions.chars().try_fold(0u16, |bits, letter| match letter {
            'r' => Some(bits | 4),
            'w' => Some(bits | 2),
            'x' => Some(bits | 1),
            '-' => Some(bits),
            _ => None,
        })?;
        let (tag, named) = match (kind, name.is_empty()) {
            ("user" | "u", true) => (0x01u16, false),
            ("user" | "u", false) => (0x02, true),
            ("group" | "g", true) => (0x04, false),
            ("group" | "g", false) => (0x08, true),
            ("mask" | "m", true) => (0x10, false),
            ("other" | "o", true) => (0x20, false),
            _ => return None,
        };
        let id = if named { id.unwrap_or(name).parse().ok()? } else { u32::MAX };
        entries.push((tag, id, permissions));
    }
    entries.sort_unstable();
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, id, permissions) in &entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    (!entries.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::to_xattr;

    #[test]
    fn text_becomes_the_kernels_form() {
        let value = to_xattr(b"user::rwx,user:daemon:r-x:1,group::r--,mask::r-x,other::---").unwrap();
        assert_eq!(value.len(), 4 + 5 * 8);
        assert_eq!(value[..4], [2, 0, 0, 0]);
        assert_eq!(value[12..20], [2, 0, 5, 0, 1, 0, 0, 0], "the named user comes second");
        assert_eq!(value[36..], [0x20, 0, 0, 0, 255, 255, 255, 255]);
        assert_eq!(to_xattr(b"user::rwx\nuser:7:r--\t#effective:r--\n"), to_xattr(b"default:user:x:r:7,u::rwx"));
        for unusable in [&b""[..], b"user:daemon:rwx", b"user::rwz", b"mask:1:rwx", b"user", b"\xff"] {
            assert_eq!(to_xattr(unusable), None);
        }
    }
}
