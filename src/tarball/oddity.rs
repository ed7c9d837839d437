//! What is odd about a layer's tar: taken, but read differently by other tools, forbidden, or worth to know.

use std::collections::BTreeMap;

/// What can be odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Odd {
    /// A path that an entry before had.
    Duplicate,
    /// An extended header says something else than the header, which could have said the same.
    Disagreement,
    /// A size where no data can be: of a link, directory or device.
    SizeWithoutData,
    /// Something but zeros follows the end.
    Trailing,
    /// The two blocks of zeros at the end are missing.
    NoEnd,
    /// A whiteout that is no empty regular file.
    OddWhiteout,
    /// A whiteout of what the same layer has.
    OwnWhiteout,
    /// A whiteout, or opaque directory, of what no layer below has.
    WhiteoutOfNothing,
    /// A union's own file, which is no content.
    Private,
    /// A device 0:0, which overlayfs would take for a whiteout.
    OverlayWhiteout,
    /// A directory that no entry before tells of, in this layer.
    MissingParent,
    /// An absolute path.
    AbsolutePath,
    /// A path with `..` in it, which stays below the root.
    DotDot,
    /// A path through a symbolic link of the layer itself.
    ThroughLink,
    /// A header for all entries that follow.
    GlobalHeader,
    /// A sparse file.
    Sparse,
    /// A file that runs with its owner's or group's rights.
    SetId,
    /// A file with capabilities.
    Capability,
    /// A device.
    Device,
    /// An attribute that some union would take for its own mark: it is escaped on disk.
    EscapedXattr,
    /// An attribute that is not on disk, since it is the machine's: a label or signature.
    Label,
}

/// All, in the order of a report.
const ALL: [Odd; 21] = [
    Odd::Duplicate,
    Odd::Disagreement,
    Odd::SizeWithoutData,
    Odd::Trailing,
    Odd::NoEnd,
    Odd::OddWhiteout,
    Odd::OwnWhiteout,
    Odd::WhiteoutOfNothing,
    Odd::Private,
    Odd::OverlayWhiteout,
    Odd::MissingParent,
    Odd::AbsolutePath,
    Odd::DotDot,
    Odd::ThroughLink,
    Odd::GlobalHeader,
    Odd::Sparse,
    Odd::SetId,
    Odd::Capability,
    Odd::Device,
    Odd::EscapedXattr,
    Odd::Label,
];

impl Odd {
    /// All there are.
    #[must_use]
    pub const fn all() -> &'static [Self] {
        &ALL
    }

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::Disagreement => "disagreement",
            Self::SizeWithoutData => "size-without-data",
            Self::Trailing => "trailing",
            Self::NoEnd => "no-end",
            Self::OddWhiteout => "odd-whiteout",
            Self::OwnWhiteout => "own-whiteout",
            Self::WhiteoutOfNothing => "whiteout-of-nothing",
            Self::Private => "private",
            Self::OverlayWhiteout => "overlay-whiteout",
            Self::MissingParent => "missing-parent",
            Self::AbsolutePath => "absolute-path",
            Self::DotDot => "dot-dot",
            Self::ThroughLink => "through-link",
            Self::GlobalHeader => "global-header",
            Self::Sparse => "sparse",
            Self::SetId => "set-id",
            Self::Capability => "capability",
            Self::Device => "device",
            Self::EscapedXattr => "escaped-xattr",
            Self::Label => "label",
        }
    }

    /// Whether the formats forbid it: the tar's (POSIX, `pax`), or the layer's (OCI `layer.md`).
    #[must_use]
    pub const fn is_forbidden(self) -> bool {
        matches!(
            self,
            Self::Duplicate
                | Self::Disagreement
                | Self::SizeWithoutData
                | Self::Trailing
                | Self::NoEnd
                | Self::OddWhiteout
        )
    }
}

/// One thing that is odd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oddity {
    /// What.
    pub odd: Odd,
    /// The path of the entry, below the layer's root; empty for the root, and for the whole tar.
    pub path: Vec<u8>,
    /// More about it, as a clause.
    pub detail: String,
}

/// Of each kind so many are kept one by one; beyond that they are only counted.
const KEPT: u64 = 1000;
/// Beyond so many bytes only the first of each kind is.
const BYTES: usize = 1 << 20;

/// What was odd about a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Oddities {
    /// The first of each kind, in the order of the tar.
    pub found: Vec<Oddity>,
    /// How many there are of each kind.
    pub counts: BTreeMap<Odd, u64>,
    /// Bytes of what was found.
    bytes: usize,
}

impl Oddities {
    /// Adds one.
    pub fn add(&mut self, odd: Odd, path: &[u8], detail: impl Into<String>) {
        let count = self.counts.entry(odd).or_default();
        *count = count.saturating_add(1);
        if *count > KEPT {
            return;
        }
        let detail = detail.into();
        let bytes = self.bytes.saturating_add(path.len()).saturating_add(detail.len());
        if *count == 1 || bytes <= BYTES {
            self.bytes = bytes;
            self.found.push(Oddity { odd, path: path.to_vec(), detail });
        }
    }

    /// The first that is forbidden.
    #[must_use]
    pub fn forbidden(&self) -> Option<&Oddity> {
        self.found.iter().find(|oddity| oddity.odd.is_forbidden())
    }
}
