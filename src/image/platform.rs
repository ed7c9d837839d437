//! For which machine an image is (OCI `image-index.md`, "platform"), and which one of several is taken.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// `os/architecture[/variant]`, in the words of Go: `linux/amd64`, `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    /// `v7`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Which images are wanted of those that an image index has for several machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Platforms {
    /// The one that is best for this machine.
    Best(Platform),
    /// Every one.
    All,
}

impl Platform {
    /// The machine that this program runs on.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.map(Into::into) }
    }

    /// The platform in Go's words, where an architecture has another name too.
    #[must_use]
    pub fn normal(self) -> Self {
        let Self { os, architecture, variant } = self;
        let (architecture, variant) = match architecture.to_ascii_lowercase().as_str() {
            "aarch64" => ("arm64".to_owned(), variant),
            "x86_64" | "x86-64" => ("amd64".to_owned(), variant),
            "i386" => ("386".to_owned(), variant),
            "armhf" => ("arm".to_owned(), Some("v7".to_owned())),
            "armel" => ("arm".to_owned(), Some("v6".to_owned())),
            _ => (architecture, variant),
        };
        Self { os, architecture, variant: variant.filter(|variant| !variant.is_empty()) }
    }

    /// How well an image for `offered` is for this machine, the best with 0; `None` when it is not.
    ///
    /// As `Only` of containerd's `platforms`, but 386 on amd64 and 32-bit arm on arm64 are taken only where the caller asks for them.
    #[must_use]
    pub fn rank(&self, offered: &Self) -> Option<u32> {
        let (wanted, offered) = (self.clone().normal(), offered.clone().normal());
        if !wanted.os.eq_ignore_ascii_case(&offered.os) || wanted.architecture != offered.architecture {
            return None;
        }
        // Without a variant the least of amd64 and arm64 is meant, and v7 of arm.
        let (least, default) = match wanted.architecture.as_str() {
            "amd64" => (1, "v1"),
            "arm64" => (8, "v8"),
            "arm" => (5, "v7"),
            _ => return Some(0).filter(|_| wanted.variant == offered.variant),
        };
        let level = |platform: &Self| level(platform.variant.as_deref().unwrap_or(default));
        let (Some((wanted_level, wanted_minor)), Some((offered_level, offered_minor))) =
            (level(&wanted), level(&offered))
        else {
            return Some(0).filter(|_| wanted.variant == offered.variant);
        };
        let steps = wanted_level.checked_sub(offered_level).filter(|_| offered_level >= least)?;
        // Armv9.n has all of Armv8.(n+5).
        let most = wanted_minor.saturating_add(steps.saturating_mul(5));
        let minor = most.checked_sub(offered_minor)?;
        Some(steps.saturating_mul(1000).saturating_add(minor.min(999)))
    }
}

/// `v8` or `v8.2`, with or without its letter.
fn level(variant: &str) -> Option<(u32, u32)> {
    let digits = variant.strip_prefix(['v', 'V']).unwrap_or(variant);
    let (level, minor) = digits.split_once('.').unwrap_or((digits, "0"));
    level.parse().ok().zip(minor.parse().ok())
}

impl Platforms {
    /// How well an image for `offered` is, as [`Platform::rank`]; where every one is wanted, none is refused.
    #[must_use]
    pub fn rank(&self, offered: &Platform) -> Option<u32> {
        match self {
            Self::Best(platform) => platform.rank(offered),
            Self::All => Some(Platform::host().rank(offered).unwrap_or(u32::MAX)),
        }
    }

    /// The machine that something is made for.
    #[must_use]
    pub fn one(&self) -> Platform {
        match self {
            Self::Best(platform) => platform.clone(),
            Self::All => Platform::host(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut words = text.split('/').map(str::to_owned);
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(os), Some(architecture), variant, None) if !os.is_empty() && !architecture.is_empty() => {
                Ok(Self { os, architecture, variant }.normal())
            }
            _ => Err(Error::Usage(format!("{text:?} is no platform: it should be as linux/amd64"))),
        }
    }
}

impl FromStr for Platforms {
    type Err = Error;

    /// `all`, or a platform.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "all" { Ok(Self::All) } else { text.parse().map(Self::Best) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of `offered` that are taken, the best first.
    fn taken(wanted: &str, offered: &[&'static str]) -> Vec<&'static str> {
        let wanted: Platform = wanted.parse().unwrap();
        let rank = |text: &&str| wanted.rank(&text.parse().unwrap());
        let mut taken: Vec<_> = offered.iter().filter(|text| rank(text).is_some()).copied().collect();
        taken.sort_by_key(rank);
        taken
    }

    #[test]
    fn platforms_are_ranked() {
        let amd64 = ["linux/amd64/v3", "linux/amd64/v1", "linux/amd64/v2", "linux/386", "windows/amd64", "linux/arm64"];
        assert_eq!(taken("linux/amd64", &amd64), ["linux/amd64/v1"]);
        assert_eq!(taken("linux/x86_64/v2", &amd64), ["linux/amd64/v2", "linux/amd64/v1"]);
        assert_eq!(taken("linux/i386", &amd64), ["linux/386"]);
        let arm = ["linux/arm/v5", "linux/arm", "linux/arm/v6", "linux/arm/v8", "linux/arm/v4", "linux/arm64"];
        assert_eq!(taken("linux/arm/v7", &arm), ["linux/arm", "linux/arm/v6", "linux/arm/v5"]);
        assert_eq!(taken("linux/armel", &arm), ["linux/arm/v6", "linux/arm/v5"]);
        assert_eq!(taken("linux/arm/8", &arm).first(), Some(&"linux/arm/v8"));
        let arm64 = ["linux/arm64", "linux/arm64/v8.5", "linux/arm64/v8.6", "linux/arm64/v9", "linux/arm/v7"];
        assert_eq!(taken("linux/aarch64", &arm64), ["linux/arm64"]);
        assert_eq!(taken("linux/arm64/v8", &arm64), ["linux/arm64"]);
        assert_eq!(taken("linux/arm64/v9", &arm64), ["linux/arm64/v9", "linux/arm64/v8.5", "linux/arm64"]);
        assert_eq!(taken("linux/riscv64", &["linux/riscv64", "linux/riscv64/x"]), ["linux/riscv64"]);
        assert!("linux".parse::<Platform>().is_err());
        assert_eq!("all".parse::<Platforms>().unwrap().rank(&"x/y".parse().unwrap()), Some(u32::MAX));
    }

    #[test]
    fn other_names_of_architectures() {
        for (text, normal) in [
            ("linux/aarch64", "linux/arm64"),
            ("linux/x86-64", "linux/amd64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/amd64/", "linux/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal);
        }
    }
}
