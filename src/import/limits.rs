//! What an archive may ask for, as the user may change it.

use crate::archive::DocumentLimits;
use crate::error::{Error, Result};
use crate::tarball::Limits;

/// How much an archive may ask for; one that asks for more is refused.
#[derive(Debug, Clone)]
pub struct ImportLimits {
    /// Of its layers.
    pub layers: Limits,
    /// Of its documents.
    pub documents: DocumentLimits,
    /// Bytes of an archive that must be unpacked before it can be read. Until that is known it may be a root file
    /// system, and has the limits of a layer too.
    pub spool: u64,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self { layers: Limits::default(), documents: DocumentLimits::default(), spool: 64 << 30 }
    }
}

impl ImportLimits {
    /// Sets one limit, as `NAME=VALUE`.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no such limit, or it cannot have this value.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let wrong = || Error::Usage(format!("{text:?} is no limit: it should be as layer=128g or entries=1000000"));
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let size = || size(value).ok_or_else(wrong);
        let count = || value.parse::<u64>().ok().filter(|count| *count > 0).ok_or_else(wrong);
        let memory = |number: u64| usize::try_from(number).map_err(|_| wrong());
        let layers = &mut self.layers;
        match name {
            "layer" => layers.layer = size()?,
            "total" => layers.total = std::sync::Arc::new(size()?.into()),
            "ratio" => layers.ratio = count()?,
            "entries" => layers.entries = count()?,
            "path" => layers.path = memory(size()?)?,
            "depth" => layers.depth = memory(count()?)?,
            "xattrs" => layers.xattrs = memory(size()?)?,
            "headers" => layers.headers = size()?,
            "index" => layers.index = size()?,
            "extents" => layers.extents = memory(count()?)?,
            "document" => self.documents.one = size()?,
            "documents" => self.documents.all = size()?,
            "spool" => self.spool = size()?,
            "names" => self.documents.names = memory(count()?)?,
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

/// A number of bytes, with a unit of 1024 or its powers.
fn size(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix("ib").or_else(|| text.strip_suffix('b')).unwrap_or(&text);
    let units = [("k", 10), ("m", 20), ("g", 30), ("t", 40)];
    let unit = units.iter().find_map(|(letter, shift)| Some((text.strip_suffix(letter)?, *shift)));
    let (digits, shift) = unit.unwrap_or((text, 0));
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = Some(digits).filter(|_| is_number)?.parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

/// What is refused because of a limit, with how to raise it.
pub(super) fn with_hint(why: String, limit: Option<&str>) -> String {
    match limit {
        Some(limit) => format!("{why} (`--limit {limit}=` allows more)"),
        None => why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("10m", 10 << 20), ("1g", 1 << 30), ("2T", 2 << 40), ("512", 512), ("4kB", 4096), ("1MiB", 1 << 20)]
        {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for bad in ["", "g", "-1", "+1", "1.5g", "0", "10x", "99999999999t", "1 g"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        let mut limits = ImportLimits::default();
        for bad in ["layer", "layer=", "nothing=1", "entries=0", "entries=1m", "ratio=x"] {
            assert!(limits.set(bad).is_err(), "{bad}");
        }
        limits.set("depth=5").unwrap();
        assert_eq!(limits.layers.depth, 5);
    }
}
