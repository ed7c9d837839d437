//! The image config (OCI `config.md`; Docker's differs in nothing that is read here).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::id::DiffId;
use crate::image::Platform;
use crate::json::{self, Shape};

/// What is read of a config; its bytes are kept beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, in RFC 3339.
    #[serde(default)]
    pub created: Option<String>,
    /// The author.
    #[serde(default)]
    pub author: Option<String>,
    /// The processor, in Go's words.
    #[serde(default)]
    pub architecture: Option<String>,
    /// The processor's variant.
    #[serde(default)]
    pub variant: Option<String>,
    /// The operating system.
    #[serde(default)]
    pub os: Option<String>,
    /// What runs in a container.
    #[serde(default)]
    pub config: Option<Process>,
    /// The layers.
    pub rootfs: RootFs,
}

/// The layers of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Lowest first.
    pub diff_ids: Option<Vec<DiffId>>,
}

/// How a container of the image runs; absent and null are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Process {
    /// `user`, `uid`, `user:group`, ...
    pub user: Option<String>,
    /// `NAME=VALUE`.
    pub env: Option<Vec<String>>,
    /// What is always run.
    pub entrypoint: Option<Vec<String>>,
    /// What is run after it when nothing else is said.
    pub cmd: Option<Vec<String>>,
    /// Where it runs.
    pub working_dir: Option<String>,
    /// For people and tools.
    pub labels: Option<BTreeMap<String, String>>,
}

impl Process {
    /// The entrypoint; one that is only an empty word is none.
    #[must_use]
    pub fn entrypoint(&self) -> &[String] {
        let words = self.entrypoint.as_deref().unwrap_or_default();
        if words.len() == 1 && words.iter().all(String::is_empty) { &[] } else { words }
    }
}

/// The fields of a config, in Go's spelling (OCI `specs-go/v1`, moby `image.Image` and `container.Config`).
pub static CONFIG: Shape = Shape::Object(&[
    ("id", &Shape::Scalar),
    ("parent", &Shape::Scalar),
    ("comment", &Shape::Scalar),
    ("created", &Shape::Scalar),
    ("container", &Shape::Scalar),
    ("container_config", &PROCESS),
    ("docker_version", &Shape::Scalar),
    ("author", &Shape::Scalar),
    ("config", &PROCESS),
    ("architecture", &Shape::Scalar),
    ("variant", &Shape::Scalar),
    ("os", &Shape::Scalar),
    ("os.version", &Shape::Scalar),
    ("os.features", &WORDS),
    ("Size", &Shape::Scalar),
    ("rootfs", &Shape::Object(&[("type", &Shape::Scalar), ("diff_ids", &WORDS)])),
    ("history", &Shape::List(&STEP)),
]);

/// The `config` of a config, in Go's spelling.
pub static PROCESS: Shape = Shape::Object(&[
    ("Hostname", &Shape::Scalar),
    ("Domainname", &Shape::Scalar),
    ("User", &Shape::Scalar),
    ("AttachStdin", &Shape::Scalar),
    ("AttachStdout", &Shape::Scalar),
    ("AttachStderr", &Shape::Scalar),
    ("ExposedPorts", &Shape::Map),
    ("Tty", &Shape::Scalar),
    ("OpenStdin", &Shape::Scalar),
    ("StdinOnce", &Shape::Scalar),
    ("Env", &WORDS),
    ("Cmd", &WORDS),
    ("Healthcheck", &HEALTHCHECK),
    ("ArgsEscaped", &Shape::Scalar),
    ("Image", &Shape::Scalar),
    ("Volumes", &Shape::Map),
    ("WorkingDir", &Shape::Scalar),
    ("Entrypoint", &WORDS),
    ("NetworkDisabled", &Shape::Scalar),
    ("MacAddress", &Shape::Scalar),
    ("OnBuild", &WORDS),
    ("Labels", &Shape::Map),
    ("StopSignal", &Shape::Scalar),
    ("StopTimeout", &Shape::Scalar),
    ("Shell", &WORDS),
    ("Memory", &Shape::Scalar),
    ("MemorySwap", &Shape::Scalar),
    ("CpuShares", &Shape::Scalar),
]);

static WORDS: Shape = Shape::List(&Shape::Scalar);
static HEALTHCHECK: Shape = Shape::Object(&[
    ("Test", &WORDS),
    ("Interval", &Shape::Scalar),
    ("Timeout", &Shape::Scalar),
    ("StartPeriod", &Shape::Scalar),
    ("StartInterval", &Shape::Scalar),
    ("Retries", &Shape::Scalar),
]);
static STEP: Shape = Shape::Object(&[
    ("created", &Shape::Scalar),
    ("created_by", &Shape::Scalar),
    ("author", &Shape::Scalar),
    ("comment", &Shape::Scalar),
    ("empty_layer", &Shape::Scalar),
]);

impl ImageConfig {
    /// Reads a config.
    ///
    /// # Errors
    /// What is wrong with it, as a clause.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        // serde would also take the fields from an array, in their order.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err("is no image config: it is no JSON object".into());
        }
        json::from_slice(bytes).map_err(|error| format!("is no image config: {error}"))
    }

    /// All that a config says of how a container runs: each field that Docker knows and that is not null, in Go's spelling.
    /// Null when it says nothing.
    ///
    /// # Errors
    /// As [`ImageConfig::parse`].
    pub fn process(bytes: &[u8]) -> Result<Value, String> {
        Self::parse(bytes)?;
        let broken = |error| format!("is no image config: {error}");
        let mut process = json::canonical(bytes, &CONFIG).map_err(broken)?.get_mut("config").map(Value::take);
        if let (Some(Value::Object(fields)), Shape::Object(known)) = (&mut process, &PROCESS) {
            fields.retain(|name, value| !value.is_null() && known.iter().any(|(field, _)| field == name));
        }
        Ok(process.unwrap_or_default())
    }

    /// The layers, lowest first.
    #[must_use]
    pub fn diff_ids(&self) -> &[DiffId] {
        self.rootfs.diff_ids.as_deref().unwrap_or_default()
    }

    /// For which machine the image is, if it says so.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        let named = |field: &Option<String>| field.clone().filter(|word| !word.is_empty());
        let (os, architecture) = (named(&self.os)?, named(&self.architecture)?);
        Some(Platform { os, architecture, variant: named(&self.variant) })
    }
}

/// The config of an image that is made of one plain root file system. It says nothing of when, so that the
/// same tar always gives the same image.
#[must_use]
pub fn root_file_system_config(layer: DiffId, platform: &Platform) -> Vec<u8> {
    let mut config = serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created_by": "layerctl import" }],
    });
    if let (Some(variant), Some(fields)) = (&platform.variant, config.as_object_mut()) {
        fields.insert("variant".into(), variant.clone().into());
    }
    config.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;

    #[test]
    fn null_and_absent_are_the_same() {
        let layer = DiffId(Digest::of(b"x"));
        let text = format!(
            r#"{{"os":"linux","architecture":"amd64","config":{{"Cmd":null}},"rootfs":{{"diff_ids":["{layer}"]}}}}"#
        );
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config, Some(Process::default()));
        assert_eq!(config.diff_ids(), [layer]);
        assert_eq!(config.platform().unwrap().to_string(), "linux/amd64");
        let array = br#"["", "", "", "", "", null, {"diff_ids": []}]"#;
        for bad in [&b"{}"[..], b"", b"null", array] {
            assert!(ImageConfig::parse(bad).unwrap_err().starts_with("is no image config"));
        }
    }

    #[test]
    fn a_root_file_systems_config_is_one_that_we_read() {
        let layer = DiffId(Digest::of(b"x"));
        let bytes = root_file_system_config(layer, &"linux/arm/v7".parse().unwrap());
        let config = ImageConfig::parse(&bytes).unwrap();
        assert_eq!((config.diff_ids(), config.variant.as_deref()), (&[layer][..], Some("v7")));
    }
}
