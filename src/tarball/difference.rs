//! In what a layer's directory differs from its index.

/// In what a file of a layer's directory differs from the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is not there.
    Missing,
    /// It is there, and not in the layer.
    Extra,
    /// It is of another type.
    Type,
    /// Permission bits.
    Mode,
    /// Owner or group.
    Owner,
    /// Time of modification.
    Time,
    /// The length of a file.
    Size,
    /// What is in a file, or where a symbolic link points to.
    Content,
    /// Device numbers.
    Device,
    /// Names of one file that are several files.
    Link,
    /// Extended attributes, access lists among them.
    Xattr,
    /// It cannot be read.
    Unreadable,
}

impl Change {
    /// Whether the file must be made anew.
    #[must_use]
    pub const fn is_of_content(self) -> bool {
        !matches!(self, Self::Mode | Self::Owner | Self::Time | Self::Xattr | Self::Extra)
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Type => "type",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Time => "time",
            Self::Size => "size",
            Self::Content => "content",
            Self::Device => "device",
            Self::Link => "link",
            Self::Xattr => "xattr",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, below the layer's directory; empty for that itself.
    pub path: Vec<u8>,
    /// In what.
    pub change: Change,
    /// More about it, as a clause.
    pub detail: String,
}

impl Difference {
    /// That the content of the file at `path` is another one.
    #[must_use]
    pub fn of_content(path: &[u8]) -> Self {
        Self { path: path.to_vec(), change: Change::Content, detail: String::new() }
    }
}

pub(super) fn joined(dirs: &[&[u8]], name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = dirs.iter().copied().chain([name]).filter(|part| !part.is_empty()).collect();
    parts.join(&b'/')
}
