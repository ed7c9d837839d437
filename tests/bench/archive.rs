//! docker-archives: layers taken out of one, and one made of directories.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Writes the layers of a docker-archive's first image to `dir/0.tar`, ..., the bottom layer first; says how many.
pub(crate) fn take_out(archive: &Path, dir: &Path) -> Result<usize> {
    let manifest = manifest(archive).with_context(|| format!("{} is no docker-archive", archive.display()))?;
    let layers = manifest.pointer("/0/Layers").and_then(Value::as_array).context("no layers")?;
    let layers: Vec<&str> = layers.iter().filter_map(Value::as_str).collect();
    fs::create_dir_all(dir)?;
    let mut tar = tar::Archive::new(BufReader::with_capacity(1 << 20, File::open(archive)?));
    for member in tar.entries()? {
        let mut member = member?;
        let name = member.path()?.to_string_lossy().into_owned();
        for (number, _) in layers.iter().enumerate().filter(|(_, layer)| **layer == name) {
            std::io::copy(&mut member, &mut File::create(dir.join(format!("{number}.tar")))?)?;
        }
    }
    Ok(layers.len())
}

/// The config of a docker-archive's first image.
pub(crate) fn config(archive: &Path) -> Result<Vec<u8>> {
    let manifest = manifest(archive)?;
    let name = manifest.pointer("/0/Config").and_then(Value::as_str).context("no config")?;
    member(archive, name)
}

fn manifest(archive: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&member(archive, "manifest.json")?)?)
}

fn member(archive: &Path, name: &str) -> Result<Vec<u8>> {
    let mut tar = tar::Archive::new(BufReader::new(File::open(archive)?));
    for member in tar.entries_with_seek()? {
        let mut member = member?;
        if member.path()?.as_os_str() == name {
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes)?;
            return Ok(bytes);
        }
    }
    anyhow::bail!("no {name}")
}

/// Packs a directory.
pub(crate) fn pack(dir: &Path, tar: &Path) -> Result<()> {
    let mut builder = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(tar)?));
    builder.follow_symlinks(false);
    builder.mode(tar::HeaderMode::Complete);
    builder.append_dir_all("", dir).with_context(|| format!("cannot pack {}", dir.display()))?;
    builder.into_inner()?.flush()?;
    Ok(())
}

/// Writes a docker-archive of these layers' tars, the bottom layer first.
pub(crate) fn write(archive: &Path, tars: &[PathBuf]) -> Result<()> {
    let diff_ids = tars.iter().map(|tar| digest(tar)).collect::<Result<Vec<_>>>()?;
    let full: Vec<String> = diff_ids.iter().map(|hex| format!("sha256:{hex}")).collect();
    let history: Vec<Value> = diff_ids.iter().map(|_| json!({ "created_by": "bench" })).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Cmd": ["/bin/sh"] },
        "history": history,
        "rootfs": { "type": "layers", "diff_ids": full },
    });
    let config = serde_json::to_vec(&config)?;
    let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
    let names: Vec<String> = diff_ids.iter().map(|hex| format!("{hex}.tar")).collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": ["bench:generated"], "Layers": names }]);
    let mut builder = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(archive)?));
    for (name, tar) in names.iter().zip(tars) {
        let mut file = File::open(tar)?;
        let length = file.metadata()?.len();
        append(&mut builder, name, length, &mut file)?;
    }
    append(&mut builder, &config_name, config.len() as u64, &mut config.as_slice())?;
    let manifest = serde_json::to_vec(&manifest)?;
    append(&mut builder, "manifest.json", manifest.len() as u64, &mut manifest.as_slice())?;
    builder.into_inner()?.flush()?;
    Ok(())
}

fn append(
    builder: &mut tar::Builder<impl std::io::Write>,
    name: &str,
    length: u64,
    data: &mut impl std::io::Read,
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(length);
    header.set_mode(0o644);
    Ok(builder.append_data(&mut header, name, data)?)
}

/// The sha256 of a file, in hex.
pub(crate) fn digest(file: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(file)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&buffer[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
