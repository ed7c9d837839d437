//! Archives that would take all memory, or hide their documents behind something large.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use layerctl::commands::{self, ImportLimits, ImportOptions, Policy, TakenAs};
use layerctl::progress::Quiet;
use layerctl::store::Store;

fn import(dir: &Path, archive: &Path) -> Result<usize, String> {
    let store = Store::open(&dir.join("store")).unwrap();
    let options = ImportOptions {
        names: Vec::new(),
        platforms: "linux/amd64".parse().unwrap(),
        taken_as: TakenAs::Found,
        limits: ImportLimits::default(),
        policy: Policy::Compat,
        report: None,
    };
    commands::import(&store, archive, &options, &Quiet)
        .map(|imported| imported.ids.len())
        .map_err(|error| error.to_string())
}

fn append(tar: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content).unwrap();
}

fn write(path: PathBuf, bytes: &[u8], compressed: bool) -> PathBuf {
    if compressed {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        std::fs::write(&path, gzip.finish().unwrap()).unwrap();
    } else {
        std::fs::write(&path, bytes).unwrap();
    }
    path
}

#[test]
fn a_name_of_megabytes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for compressed in [false, true] {
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "oci-layout", tar::EntryType::Regular, b"{}");
        append(&mut tar, "x", tar::EntryType::GNULongName, &vec![b'x'; 8 << 20]);
        append(&mut tar, "x", tar::EntryType::Regular, b"");
        let archive = write(dir.path().join("bomb"), &tar.into_inner().unwrap(), compressed);
        let error = import(dir.path(), &archive).unwrap_err();
        assert!(error.contains("its headers do not end"), "{error}");
    }
}

#[test]
fn a_config_that_is_named_very_often_does_not_fill_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    for compressed in [false, true] {
        let mut tar = tar::Builder::new(Vec::new());
        let config = [br#"{"rootfs":{"diff_ids":[]}}"#.to_vec(), vec![b' '; 3 << 20]].concat();
        append(&mut tar, "config.json", tar::EntryType::Regular, &config);
        let items = vec![r#"{"Config":"config.json","Layers":[]}"#; 100].join(",");
        append(&mut tar, "manifest.json", tar::EntryType::Regular, format!("[{items}]").as_bytes());
        let archive = write(dir.path().join("often"), &tar.into_inner().unwrap(), compressed);
        let error = import(dir.path(), &archive).unwrap_err();
        assert!(error.contains("has too many documents"), "{error}");
    }
}

#[test]
fn large_members_that_nobody_needs_do_not_hide_the_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/practice.docker.tar");
    let mut tar = tar::Builder::new(Vec::new());
    // As an attestation with a bill of materials: larger than a document, and no layer.
    append(&mut tar, "blobs/sha256/large", tar::EntryType::Regular, &vec![b'{'; 20 << 20]);
    let mut practice = tar::Archive::new(std::fs::File::open(fixture).unwrap());
    for entry in practice.entries().unwrap() {
        let entry = entry.unwrap();
        let (mut header, path) = (entry.header().clone(), entry.path().unwrap().into_owned());
        tar.append_data(&mut header, path, entry).unwrap();
    }
    let archive = write(dir.path().join("large"), &tar.into_inner().unwrap(), true);
    assert_eq!(import(dir.path(), &archive), Ok(1));
}
