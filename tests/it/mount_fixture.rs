//! Random layers through a real mount, and the plain directory that the mount must be like.

use std::path::PathBuf;

use layerctl::index::Kind;
use layerctl::whiteout::{Marker, parse};

use super::generator::{Image, docker_since_25};
use super::layer_tree::{LayerTree, flatten};
use super::model_case::work_dir;
use super::mounts::Mounts;
use super::tree_op::Path;
use super::tree_snapshot::Snapshot;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountOf {
    /// `union`, of directories.
    Directories,
    /// `run-mount`, of an imported image: its layers never change, so that they may stand for data.
    Image,
}

/// Layers, a live mount of them, and their flattened twin. All goes with it.
pub(crate) struct MountFixture {
    pub(crate) mounts: Mounts,
    of: MountOf,
    lowers: Vec<PathBuf>,
}

const NAME: &str = "box";

impl MountFixture {
    /// Mounts layers, lowest first. What no tar can hold is in no image.
    pub(crate) fn new(layers: &[LayerTree], of: MountOf) -> Self {
        let mounts = Mounts::within(work_dir());
        let mut layers = layers.to_vec();
        let mut lowers: Vec<PathBuf> = Vec::new();
        let mut root = LayerTree::default();
        match of {
            MountOf::Directories => {
                for (number, layer) in layers.iter().enumerate() {
                    let dir = mounts.mkdir(&format!("lower{number}"));
                    layer.write(&dir);
                    lowers.push(dir);
                }
                root.put(Path::new(), flatten(&layers).item(&[]).expect("a root").clone());
                root.write(&mounts.mkdir("upper"));
                mounts.mkdir("mnt");
            }
            MountOf::Image => {
                for item in layers.iter_mut().flat_map(|layer| &mut layer.items) {
                    if item.kind == Kind::Socket {
                        item.kind = Kind::Fifo;
                    }
                }
                let tars: Vec<Vec<u8>> = layers.iter().map(LayerTree::tar).collect();
                let image = Image::new("amd64", tars, &["model:latest"]);
                mounts.import_archive(&docker_since_25(std::slice::from_ref(&image)).tar());
                let diffs = image.layers.iter().map(|tar| super::generator::sha256(tar));
                lowers.extend(diffs.map(|hex| mounts.at("store/diff").join(hex)));
            }
        }
        flatten(&layers).write(&mounts.mkdir("plain"));
        let fixture = Self { mounts, of, lowers };
        match of {
            MountOf::Directories => fixture.mount(),
            MountOf::Image => drop(fixture.mounts.mount(&["--name", NAME, "model", &fixture.mnt()])),
        }
        fixture
    }

    fn mnt(&self) -> String {
        self.mounts.mkdir("mnt");
        self.mounts.text("mnt")
    }

    /// Mounts what is not mounted.
    pub(crate) fn mount(&self) {
        match self.of {
            MountOf::Directories => {
                let uppermost_first: Vec<_> =
                    (0..self.lowers.len()).rev().map(|number| format!(":lower{number}=ro")).collect();
                let dirs = format!("dirs=upper=rw{}", uppermost_first.concat());
                assert_eq!(self.mounts.run(&["union", "-o", &dirs, "mnt"]).ok(), "");
            }
            MountOf::Image => drop(self.mounts.mount(&["--name", NAME, &self.mnt()])),
        }
    }

    /// Unmounts; nobody may use it.
    pub(crate) fn umount(&self) {
        self.mounts.umount(&self.mounts.text("mnt"));
    }

    /// That its server was killed, and who asks is told so.
    pub(crate) fn is_dead(&self) {
        if self.of == MountOf::Image {
            assert_eq!(self.mounts.ps(NAME).0, "dead");
        }
        assert!(std::fs::read_dir(self.mountpoint()).is_err());
    }

    /// The mount.
    pub(crate) fn mountpoint(&self) -> PathBuf {
        self.mounts.at("mnt")
    }

    /// The flattened twin.
    pub(crate) fn plain(&self) -> PathBuf {
        self.mounts.at("plain")
    }

    /// What takes the changes.
    pub(crate) fn upper(&self) -> PathBuf {
        match self.of {
            MountOf::Directories => self.mounts.at("upper"),
            MountOf::Image => {
                let upper = self.mounts.inspect(NAME)["GraphDriver"]["Data"]["UpperDir"].clone();
                upper.as_str().expect("the rw layer's directory").into()
            }
        }
    }

    /// All that the layers' directories hold, and when each file there was last changed.
    pub(crate) fn lowers(&self) -> Vec<Snapshot> {
        self.lowers.iter().map(|dir| Snapshot::of_plain(dir)).collect()
    }

    /// That a mount which has ended left nothing but the layer's content.
    pub(crate) fn nothing_private_is_left(&self) -> Result<(), String> {
        let upper = self.upper();
        let mut rest = vec![upper];
        while let Some(dir) = rest.pop() {
            for entry in std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))? {
                let entry = entry.map_err(|error| error.to_string())?;
                if is_private(&entry.file_name()) {
                    return Err(format!("{} is left", entry.path().display()));
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    rest.push(entry.path());
                }
            }
        }
        Ok(())
    }
}

/// Whether this is the name of something that is private to a live union.
fn is_private(name: &std::ffi::OsStr) -> bool {
    parse(name.as_encoded_bytes()) == Some(Marker::Private)
}
