//! The fields of one node in an index's bytes.

use super::format::{FLAG_DIGEST, FLAG_IMPLIED, FLAG_OPAQUE, NONE, Node, u16_at, u32_at, u64_at};
use super::{Kind, Meta, Time};
use crate::id::Digest;

impl<'a> Node<'a> {
    pub(super) fn u32(&self, at: usize) -> u32 {
        u32_at(self.record, at).unwrap_or(NONE)
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        u64_at(self.record, at).unwrap_or_default()
    }

    pub(super) fn flag(&self, flag: u8) -> bool {
        self.record.get(1).is_some_and(|flags| flags & flag != 0)
    }

    /// What `stat` tells of it; `None` when the record is damaged.
    #[must_use]
    pub fn meta(&self) -> Option<Meta> {
        Some(Meta {
            kind: self.kind()?,
            mode: self.u32(4) & 0o7777,
            uid: self.u32(8),
            gid: self.u32(12),
            mtime: Time { sec: i64::from_le_bytes(self.u64(32).to_le_bytes()), nsec: self.u32(28).min(999_999_999) },
            rdev: (self.u32(20), self.u32(24)),
            size: self.u64(40),
            blocks: self.u64(48),
        })
    }

    /// The type; `None` when the record is damaged.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Kind::from_byte(*self.record.first()?)
    }

    /// How many names the node has in this layer; 1 for a directory.
    #[must_use]
    pub fn nlink(&self) -> u32 {
        self.u32(16)
    }

    /// Whether the directory hides the lower layers' content.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.flag(FLAG_OPAQUE)
    }

    /// Whether the layer has only paths below this directory, and says nothing of itself.
    #[must_use]
    pub fn is_implied(&self) -> bool {
        self.flag(FLAG_IMPLIED)
    }

    /// The digest of a regular file's content, where the index was made from a tar.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        let bytes: &[u8; 32] = self.record.get(80..112)?.try_into().ok()?;
        self.flag(FLAG_DIGEST).then(|| Digest::from_bytes(*bytes))
    }

    /// The target of a symbolic link; empty for all else.
    #[must_use]
    pub fn target(&self) -> &'a [u8] {
        self.extras()
            .and_then(|extras| extras.get(4..4usize.checked_add(u32_at(extras, 0)? as usize)?))
            .unwrap_or_default()
    }

    /// The extended attributes.
    pub fn xattrs(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.extras().and_then(|extras| extras.get(4usize.checked_add(u32_at(extras, 0)? as usize)?..));
        let mut left = rest.and_then(|rest| u32_at(rest, 0)).unwrap_or_default();
        rest = rest.and_then(|rest| rest.get(4..));
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let bytes = rest?;
            let name_length = u16_at(bytes, 0)? as usize;
            let value_length = u32_at(bytes, 2)? as usize;
            let (name, value) = bytes.get(6..)?.split_at_checked(name_length)?;
            let (value, after) = value.split_at_checked(value_length)?;
            rest = Some(after);
            Some((name, value))
        })
    }

    pub(super) fn extras(&self) -> Option<&'a [u8]> {
        let at = self.u32(56) as usize;
        let length = self.u32(60) as usize;
        if length == 0 {
            return None;
        }
        self.index.bytes.get(self.index.extras_at..)?.get(at..at.checked_add(length)?)
    }

    pub(super) fn children_range(&self) -> (u32, u32) {
        let (start, count) = (self.u32(64), self.u32(68));
        if self.kind() == Some(Kind::Directory) { (start, start.saturating_add(count)) } else { (0, 0) }
    }
}
