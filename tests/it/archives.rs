//! Images in every form in which tools write them.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::generator::{Image, Member, Members, Tar, docker_before_25, docker_since_25, gzip, oci, sha256};

/// Compresses, or not.
pub(crate) type Pack = fn(&[u8]) -> Vec<u8>;

fn gzip_members(plain: &[u8]) -> Vec<u8> {
    let middle = plain.len() / 2;
    [gzip(&plain[..middle]), gzip(&plain[middle..])].concat()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 1).expect("memory takes all")
}

fn xz(plain: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(plain).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

fn bzip2(plain: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(plain).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// All that is known by its first bytes.
pub(crate) const PACKS: [(&str, Pack); 6] = [
    ("plain", <[u8]>::to_vec),
    ("gzip", gzip),
    ("gzip members", gzip_members),
    ("zstd", zstd),
    ("xz", xz),
    ("bzip2", bzip2),
];

/// Three layers: the second changes and hides files of the first, the third is empty.
pub(crate) fn sample() -> Image {
    let layers = vec![
        Tar::new().dir("etc").file("etc/name", b"first\n").file("etc/gone", b"x").link("link", "etc/name").finish(),
        Tar::new().dir("etc").file("etc/name", b"second\n").file("etc/.wh.gone", b"").finish(),
        Tar::new().finish(),
    ];
    Image::new("amd64", layers, &["sample:1"])
}

/// An image of one layer with one file, which is what `word` says.
pub(crate) fn single(word: &str) -> Image {
    let layer = Tar::new().file(word, word.as_bytes()).finish();
    Image::new("amd64", vec![layer], &[&format!("{word}:latest")])
}

/// As `podman save` and `buildah push` write a docker-archive: layers are named by their diffIDs.
pub(crate) fn podman(images: &[Image], pack: Pack) -> Members {
    let mut members = Members::default();
    let mut items = Vec::new();
    for image in images {
        let names: Vec<String> = image.layers.iter().map(|layer| format!("{}.tar", sha256(layer))).collect();
        for (name, layer) in names.iter().zip(&image.layers) {
            members.file(name, pack(layer));
        }
        let config = format!("{}.json", image.id());
        members.file(&config, image.config.clone());
        items.push(json!({ "Config": config, "RepoTags": image.names, "Layers": names }));
    }
    members.file("manifest.json", Value::from(items).to_string());
    members
}

/// As `skopeo copy` writes a docker-archive: also with the directories of old, in which layers are links.
pub(crate) fn skopeo(images: &[Image]) -> Members {
    let mut members = podman(images, <[u8]>::to_vec);
    let manifest = members.0.pop().expect("the manifest is last");
    for layer in images.iter().flat_map(|image| &image.layers) {
        let dir = sha256(sha256(layer).as_bytes());
        members.0.push((format!("{dir}/layer.tar"), Member::Link(format!("../{}.tar", sha256(layer)))));
        members.file(&format!("{dir}/VERSION"), "1.0");
        members.file(&format!("{dir}/json"), json!({ "id": dir }).to_string());
    }
    members.0.push(manifest);
    members.file("repositories", "{}");
    members
}

/// An OCI layout whose layers are compressed so.
pub(crate) fn oci_packed(image: &Image, pack: Pack) -> Members {
    let mut members = Members::default();
    let manifest = members.oci_image(image, "application/vnd.oci.image.layer.v1.tar", pack);
    members.oci_index(&[manifest]);
    members
}

/// Every form of an archive of images.
pub(crate) fn forms(images: &[Image]) -> Vec<(&'static str, Members)> {
    vec![
        ("docker before 25", docker_before_25(images)),
        ("docker since 25", docker_since_25(images)),
        ("podman", podman(images, <[u8]>::to_vec)),
        ("skopeo", skopeo(images)),
        ("oci", oci(images)),
    ]
}

impl Members {
    /// The same in the opposite order: what came last comes first.
    pub(crate) fn reversed(mut self) -> Self {
        self.0.reverse();
        self
    }

    fn find(&self, name: &str) -> usize {
        self.0.iter().position(|(known, _)| known == name).unwrap_or_else(|| panic!("there is no {name}"))
    }

    /// The content of a file.
    pub(crate) fn content(&mut self, name: &str) -> &mut Vec<u8> {
        let at = self.find(name);
        match &mut self.0[at].1 {
            Member::File(content) => content,
            _ => panic!("{name} is no file"),
        }
    }

    /// Without a member.
    pub(crate) fn without(mut self, name: &str) -> Self {
        let at = self.find(name);
        self.0.remove(at);
        self
    }

    /// With a file's content changed.
    pub(crate) fn with(mut self, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(self.content(name));
        self
    }

    /// With a text in a file replaced, which must be there.
    pub(crate) fn replaced(self, name: &str, old: &str, new: &str) -> Self {
        self.with(name, |content| {
            let text = String::from_utf8(content.clone()).expect("the file is text");
            assert!(text.contains(old), "{old} is not in {name}: {text}");
            *content = text.replace(old, new).into_bytes();
        })
    }

    /// As a directory.
    pub(crate) fn write_to(&self, dir: &Path) {
        std::fs::create_dir(dir).expect("the directory can be made");
        for (name, member) in &self.0 {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().expect("it is in a directory")).expect("directories can be made");
            match member {
                Member::Dir => std::fs::create_dir_all(path).expect("a directory can be made"),
                Member::File(content) => std::fs::write(path, content).expect("a file can be written"),
                Member::Link(target) => std::os::unix::fs::symlink(target, path).expect("a link can be made"),
            }
        }
    }
}
