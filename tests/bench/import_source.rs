//! The image that the import rows take, in all its forms.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::archive;
use crate::children;
use crate::world::World;

/// The image's name in the layout.
pub(crate) const NAME: &str = "bench";

#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) docker: PathBuf,
    /// A tar of an OCI layout with gzip layers.
    pub(crate) oci: PathBuf,
    /// The same as a directory, with one image: [`NAME`].
    pub(crate) layout: PathBuf,
    /// The layers as plain tars, and as they are in the layout; the bottom one first.
    pub(crate) tars: Vec<PathBuf>,
    pub(crate) blobs: Vec<PathBuf>,
}

impl Source {
    pub(crate) fn new(world: &World) -> Result<Self> {
        let root = world.root()?;
        let dir = world.dir.join("import-source");
        let layout = dir.join("layout");
        // What is not given is made of the same layers.
        let docker = world.given("slim.docker.tar").unwrap_or_else(|| root.dir.join("docker.tar"));
        let oci = world.given("slim.oci.tar").filter(|_| world.given("slim.docker.tar").is_some());
        let oci = oci.unwrap_or_else(|| dir.join("oci.tar"));
        let tars = root.tars();
        if !dir.join("complete").exists() {
            eprintln!("preparing import-source");
            if dir.exists() {
                fs::remove_dir_all(&dir)?;
            }
            fs::create_dir_all(&layout)?;
            if oci.starts_with(&dir) {
                write_layout(&layout, &docker, &tars)?;
                children::output(Command::new("tar").arg("-cf").arg(&oci).arg("-C").arg(&layout).arg("."))?;
            } else {
                children::output(Command::new("tar").arg("-xf").arg(&oci).arg("-C").arg(&layout))?;
            }
            name_image(&layout)?;
            fs::write(dir.join("complete"), "")?;
        }
        let blobs = read_layout(&layout).context("no image in the OCI layout")?;
        Ok(Self { docker, oci, layout, tars, blobs })
    }
}

fn read_layout(layout: &Path) -> Result<Vec<PathBuf>> {
    let read = |path: PathBuf| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let blob = |descriptor: &Value| {
        let digest = descriptor.pointer("/digest")?.as_str()?;
        Some(layout.join("blobs").join(digest.replace(':', "/")))
    };
    let index = read(layout.join("index.json"))?;
    let first = index.pointer("/manifests/0").context("no manifest")?;
    let manifest = read(blob(first).context("no digest")?)?;
    let layers = manifest.pointer("/layers").and_then(Value::as_array).context("no layers")?;
    Ok(layers.iter().filter_map(blob).collect())
}

/// Umoci takes no name with a colon in it.
fn name_image(layout: &Path) -> Result<()> {
    let path = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let first = index.pointer_mut("/manifests/0").and_then(Value::as_object_mut).context("no manifest")?;
    first.insert("annotations".into(), json!({ "org.opencontainers.image.ref.name": NAME }));
    Ok(fs::write(path, index.to_string())?)
}

fn write_layout(layout: &Path, docker: &Path, tars: &[PathBuf]) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let put = |data: &Path, media: &str| -> Result<Value> {
        let (digest, size) = (archive::digest(data)?, fs::metadata(data)?.len());
        fs::rename(data, blobs.join(&digest))?;
        Ok(
            json!({ "mediaType": format!("application/vnd.oci.image.{media}"), "digest": format!("sha256:{digest}"), "size": size }),
        )
    };
    let part = layout.join("part");
    let mut layers = Vec::new();
    for tar in tars {
        let mut gzip = GzEncoder::new(File::create(&part)?, Compression::new(6));
        std::io::copy(&mut File::open(tar)?, &mut gzip)?;
        gzip.finish()?.flush()?;
        layers.push(put(&part, "layer.v1.tar+gzip")?);
    }
    fs::write(&part, archive::config(docker)?)?;
    let config = put(&part, "config.v1+json")?;
    fs::write(&part, json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string())?;
    let manifest = put(&part, "manifest.v1+json")?;
    fs::write(layout.join("index.json"), json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string())?;
    Ok(fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?)
}
