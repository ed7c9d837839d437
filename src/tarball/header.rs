//! One header block.

use super::BLOCK;

/// A header block whose checksum is right.
pub(super) struct Header(tar::Header);

/// A numeric field: octal digits in spaces or NULs, or GNU's base 256 with a sign. An empty field is 0.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        let sign = if first & 0x40 == 0 { 0 } else { -128 };
        let first = i128::from(first & 0x7f) + sign;
        // 12 bytes at most: 96 bits.
        let value =
            rest.iter().try_fold(first, |value, byte| value.checked_mul(256)?.checked_add(i128::from(*byte)))?;
        return i64::try_from(value).ok();
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = field.get(start..)?;
    let (digits, rest) = digits.split_at(digits.iter().position(blank).unwrap_or(digits.len()));
    // What stands after a NUL is of no account, as in all readers of C.
    if rest.iter().take_while(|byte| **byte != 0).any(|byte| *byte != b' ') {
        return None;
    }
    digits.iter().try_fold(0i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

impl Header {
    /// Takes a block; `None` when its checksum is wrong. Some old writers summed signed bytes.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Option<Self> {
        let mut header = tar::Header::from_byte_slice(block).clone();
        let sum = number(&header.as_old().cksum)?;
        header.as_old_mut().cksum = *b"        ";
        let bytes = header.as_mut_bytes();
        let unsigned: i64 = bytes.iter().map(|byte| i64::from(*byte)).sum();
        let signed: i64 = bytes.iter().map(|byte| i64::from(byte.cast_signed())).sum();
        // Not all writers of ustar give it the version that the crate asks for.
        if let Some([b'u', b's', b't', b'a', b'r', 0, version @ ..]) = bytes.get_mut(257..265) {
            version.copy_from_slice(b"00");
        }
        (sum == unsigned || sum == signed).then_some(Self(header))
    }

    /// The type's letter.
    pub(super) fn kind(&self) -> u8 {
        let [kind] = self.0.as_old().linkflag;
        kind
    }

    /// The path in the header, with ustar's prefix.
    pub(super) fn path(&self) -> Vec<u8> {
        self.0.path_bytes().into_owned()
    }

    /// The link's target in the header.
    pub(super) fn link(&self) -> Vec<u8> {
        self.0.link_name_bytes().unwrap_or_default().into_owned()
    }

    /// GNU's fields, when it is a GNU header.
    pub(super) fn gnu(&self) -> Option<&tar::GnuHeader> {
        self.0.as_gnu()
    }

    /// The fields that all formats have.
    pub(super) fn old(&self) -> &tar::OldHeader {
        self.0.as_old()
    }

    /// The size field.
    pub(super) fn size(&self) -> Result<u64, String> {
        self.number("size", &self.old().size)
    }

    /// A numeric field that cannot be negative.
    pub(super) fn number(&self, what: &str, field: &[u8]) -> Result<u64, String> {
        let value = number(field).ok_or_else(|| format!("has a malformed {what}"))?;
        u64::try_from(value).map_err(|_| format!("has a negative {what}"))
    }

    /// The number of a device.
    pub(super) fn device(&self) -> Result<(u32, u32), String> {
        let fields = match (self.0.as_ustar(), self.0.as_gnu()) {
            (Some(ustar), _) => (&ustar.dev_major, &ustar.dev_minor),
            (None, Some(gnu)) => (&gnu.dev_major, &gnu.dev_minor),
            (None, None) => return Ok((0, 0)),
        };
        let part = |field: &[u8], most: u32| {
            let number = u32::try_from(self.number("device number", field)?).ok().filter(|number| *number <= most);
            number.ok_or_else(|| "has a device number out of range".to_owned())
        };
        // Linux' dev_t has 12 and 20 bits; a larger number would name another device.
        Ok((part(fields.0, 0xfff)?, part(fields.1, 0xf_ffff)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_do_not_overflow() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"644\0garbage", Some(0o644)),
            (b"644 7", None),
            (b"648", None),
            (b"-1", None),
            (b"+1", None),
            (&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0], Some(1 << 33)),
            (&[0xff; 12], Some(-1)),
            (&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
        ] {
            assert_eq!(number(field), value, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn both_checksums_are_right_and_others_are_not() {
        let mut header = tar::Header::new_ustar();
        header.set_path("\u{e9}").unwrap();
        header.set_size(3);
        header.set_cksum();
        let mut block = *header.as_bytes();
        assert_eq!(Header::parse(&block).unwrap().path(), "\u{e9}".as_bytes());
        let signed = header.cksum().unwrap() - 512;
        block[148..156].copy_from_slice(format!("{signed:06o}\0 ").as_bytes());
        assert!(Header::parse(&block).is_some());
        block[0] ^= 1;
        assert!(Header::parse(&block).is_none());
    }
}
