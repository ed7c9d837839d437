//! Names of bytes by what they are (OCI `descriptor.md`, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::Digest as _;

use crate::id::{BadId, Digest, Digester};

/// How a blob is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// By its sha256.
    #[default]
    Sha256,
    /// By its sha512.
    Sha512,
}

/// The digest of a blob. Ids of images and layers are sha256 always.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum BlobDigest {
    /// `sha256:` and 64 digits.
    Sha256(Digest),
    /// `sha512:` and 128 digits.
    Sha512(Sha512),
}

/// A sha512 digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha512([Digest; 2]);

impl Sha512 {
    fn hex(&self) -> String {
        let [high, low] = &self.0;
        high.hex() + &low.hex()
    }

    fn from_hex(text: &str) -> Option<Self> {
        let (high, low) = text.split_at_checked(64)?;
        Digest::from_hex(high).ok().zip(Digest::from_hex(low).ok()).map(|(high, low)| Self([high, low]))
    }
}

impl Algorithm {
    /// That of a member of an archive: only an OCI layout has others than sha256.
    #[must_use]
    pub fn of_member(name: &str) -> Self {
        if name.starts_with("blobs/sha512/") { Self::Sha512 } else { Self::Sha256 }
    }
}

impl BlobDigest {
    /// Hashes `bytes`.
    #[must_use]
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut digester = BlobDigester::new(algorithm);
        digester.update(bytes);
        digester.finish()
    }

    /// How it was made.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The sha256, if it is one.
    #[must_use]
    pub const fn sha256(&self) -> Option<Digest> {
        match self {
            Self::Sha256(digest) => Some(*digest),
            Self::Sha512(_) => None,
        }
    }

    /// The name of the blob in an OCI layout (OCI `image-layout.md`, "Blobs").
    #[must_use]
    pub fn member(&self) -> String {
        match self {
            Self::Sha256(digest) => format!("blobs/sha256/{}", digest.hex()),
            Self::Sha512(digest) => format!("blobs/sha512/{}", digest.hex()),
        }
    }

    /// The digest by which a blob is named in an OCI layout.
    #[must_use]
    pub fn of_member(name: &str) -> Option<Self> {
        if let Some(hex) = name.strip_prefix("blobs/sha512/") {
            return Sha512::from_hex(hex).map(Self::Sha512);
        }
        name.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok()).map(Self::Sha256)
    }
}

impl From<Digest> for BlobDigest {
    fn from(digest: Digest) -> Self {
        Self::Sha256(digest)
    }
}

impl FromStr for BlobDigest {
    type Err = BadId;

    /// Other algorithms are refused: the text says which.
    fn from_str(text: &str) -> Result<Self, BadId> {
        let bad = |wanted| BadId { text: text.chars().take(140).collect(), wanted };
        match text.split_once(':') {
            Some(("sha256", _)) | None => text.parse().map(Self::Sha256),
            Some(("sha512", hex)) => Sha512::from_hex(hex).map(Self::Sha512).ok_or_else(|| bad("a sha512 digest")),
            Some(_) => Err(bad("a digest by sha256 or sha512, and no other algorithm is known")),
        }
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(f),
            Self::Sha512(digest) => write!(f, "sha512:{}", digest.hex()),
        }
    }
}

impl fmt::Debug for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for BlobDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Computes a [`BlobDigest`] from bytes that arrive in pieces.
#[derive(Debug, Clone)]
pub(super) enum BlobDigester {
    /// The sha256.
    Sha256(Digester),
    /// The sha512.
    Sha512(Box<sha2::Sha512>),
}

impl BlobDigester {
    /// Starts with nothing hashed.
    #[must_use]
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Digester::new()),
            Algorithm::Sha512 => Self::Sha512(Box::default()),
        }
    }

    /// Hashes the next bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(digester) => digester.update(bytes),
            Self::Sha512(digester) => digester.update(bytes),
        }
    }

    /// The digest of all bytes given.
    #[must_use]
    pub(super) fn finish(self) -> BlobDigest {
        match self {
            Self::Sha256(digester) => BlobDigest::Sha256(digester.finish()),
            Self::Sha512(digester) => {
                let mut bytes = digester.finalize().into_iter();
                let mut half = || Digest::from_bytes(std::array::from_fn(|_| bytes.next().unwrap_or_default()));
                BlobDigest::Sha512(Sha512([half(), half()]))
            }
        }
    }
}

/// A blob as documents name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// The digest of its bytes.
    pub digest: BlobDigest,
    /// How many they are, where that was said.
    pub size: Option<u64>,
}

impl Blob {
    /// Compares with what has been read; the difference as a clause.
    ///
    /// # Errors
    /// When it is something else.
    pub fn check(&self, digest: BlobDigest, size: u64) -> Result<(), String> {
        if let Some(announced) = self.size.filter(|announced| *announced != size) {
            return Err(format!("has {size} bytes and not {announced}"));
        }
        if digest.algorithm() != self.digest.algorithm() {
            return Err(format!("stands under a name by which {} cannot be checked", self.digest));
        }
        if digest != self.digest {
            return Err(format!("has the digest {digest} and not {}", self.digest));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_names_its_algorithm() {
        for (algorithm, empty) in [
            (Algorithm::Sha256, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (
                Algorithm::Sha512,
                "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                 47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
            ),
        ] {
            let digest = BlobDigest::of(algorithm, b"");
            assert_eq!((digest.to_string().as_str(), digest.algorithm()), (empty, algorithm));
            assert_eq!(empty.parse(), Ok(digest));
            assert_eq!(BlobDigest::of_member(&digest.member()), Some(digest));
        }
        for (bad, word) in [
            ("md5:00", "no other algorithm"),
            ("sha512:00", "is not a sha512 digest"),
            ("00", "is not a sha256 digest"),
            ("sha256:x", "is not a sha256 digest"),
        ] {
            assert!(bad.parse::<BlobDigest>().unwrap_err().to_string().contains(word), "{bad}");
        }
    }
}
