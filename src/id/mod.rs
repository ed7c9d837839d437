//! Names that are types: digests, ids, image names. No plain string stands for one of them.
//!
//! The words are those of the OCI image specification (`config.md`, "Layer DiffID", "ImageID") and of
//! Docker's AUFS driver. A [`Digest`] can only be made by hashing or by parsing exactly 64 hexadecimal
//! digits, so every id is safe to use as a file name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

mod name;

pub use name::ImageName;

/// A sha256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is no digest, id or image name of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct BadId {
    /// The text as it was given.
    pub text: String,
    /// What it should have been.
    pub wanted: &'static str,
}

impl Digest {
    /// Hashes `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Takes the 32 bytes of a digest that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 lower-case hexadecimal digits, without `sha256:`.
    #[must_use]
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(64), |mut text, byte| {
            #[expect(clippy::let_underscore_must_use, reason = "writing to a String cannot fail")]
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Parses exactly 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`BadId`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, BadId> {
        let bad = || BadId { text: text.chars().take(100).collect(), wanted: "a sha256 digest" };
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(bad());
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(bad()),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            if let [high, low] = pair {
                *byte = value(*high)? << 4 | value(*low)?;
            }
        }
        Ok(Self(bytes))
    }
}

impl FromStr for Digest {
    type Err = BadId;

    /// Parses `sha256:` and 64 digits.
    fn from_str(text: &str) -> Result<Self, BadId> {
        match text.strip_prefix("sha256:") {
            Some(hex) => Self::from_hex(hex),
            None => Err(BadId { text: text.chars().take(100).collect(), wanted: "a sha256 digest" }),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Computes a [`Digest`] from bytes that arrive in pieces.
#[derive(Clone, Default)]
pub struct Digester(sha2::Sha256);

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digester")
    }
}

impl Digester {
    /// Starts with nothing hashed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes given.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

macro_rules! digest_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl $name {
            /// 64 hexadecimal digits: the file name of the thing in the store.
            #[must_use]
            pub fn hex(&self) -> String {
                self.0.hex()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

digest_id! {
    /// Names a layer: the sha256 of its whole uncompressed tar (OCI `config.md`, "Layer DiffID").
    DiffId
}
digest_id! {
    /// Names an image: the sha256 of its config's bytes (OCI `config.md`, "ImageID").
    ImageId
}
digest_id! {
    /// Names a layer with all that is below it (OCI `config.md`, "Layer ChainID").
    ChainId
}

impl ChainId {
    /// The chain id of the uppermost layer of `layers`, which are given lowest first.
    #[must_use]
    pub fn of(layers: &[DiffId]) -> Option<Self> {
        let (first, rest) = layers.split_first()?;
        Some(rest.iter().fold(Self(first.0), |chain, layer| Self(Digest::of(format!("{chain} {layer}").as_bytes()))))
    }
}

/// Names a container: 64 random hexadecimal digits, as Docker's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId([u8; 32]);

impl ContainerId {
    /// Takes 32 random bytes.
    #[must_use]
    pub const fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 64 hexadecimal digits: the name of the container's rw layer under `diff/`.
    #[must_use]
    pub fn hex(&self) -> String {
        Digest(self.0).hex()
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl FromStr for ContainerId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        Digest::from_hex(text).map(|digest| Self(digest.0)).map_err(|bad| BadId { wanted: "a container id", ..bad })
    }
}

impl TryFrom<String> for ContainerId {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_64_lower_case_digits_and_nothing_else() {
        let hex = "ab".repeat(32);
        assert_eq!(Digest::from_hex(&hex).map(|d| d.hex()), Ok(hex.clone()));
        for bad in ["", "ab", &hex.to_uppercase(), &format!("{hex}a"), &format!("../{}", &hex[3..])] {
            assert!(Digest::from_hex(bad).is_err(), "{bad}");
        }
        assert!(hex.parse::<Digest>().is_err(), "the algorithm must be named");
        assert!(format!("sha256:{hex}").parse::<Digest>().is_ok());
    }

    #[test]
    fn a_chain_id_is_the_hash_of_the_two_texts() {
        let [a, b] = [DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b"))];
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[a]), Some(ChainId(a.0)));
        let both = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(ChainId::of(&[a, b]), Some(ChainId(both)));
    }
}
