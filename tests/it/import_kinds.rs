//! What a source is, is found out from all that is in it: an archive of images, or a root file system, which is said to be
//! one.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::slice::from_ref;

use serde_json::{Value, json};

use super::archives::{podman, sample, single};
use super::cli::{Output, Sandbox};
use super::generator::{Image, Members, Tar, docker_before_25, docker_since_25, gzip, oci, sha256};
use super::hostile_tar::Raw;

/// Imports an archive from a file, compressed from a file, and from a pipe.
pub(crate) fn ways(archive: &[u8], more: &[&str], check: impl Fn(&Sandbox, &Output, &str)) {
    for way in ["a file", "a compressed file", "a pipe", "a compressed pipe"] {
        let sandbox = Sandbox::new();
        let bytes = if way.contains("compressed") { gzip(archive) } else { archive.to_vec() };
        let words = |source| [&["import", source][..], more].concat();
        let output = match way.contains("pipe") {
            true => sandbox.run_piped(&words("-"), &bytes),
            false => sandbox.run(&words(&sandbox.write("archive", &bytes))),
        };
        check(&sandbox, &output, way);
        assert_eq!(sandbox.debris(), Vec::<String>::new(), "{way}");
    }
}

#[track_caller]
fn is_image(what: &str, archive: &[u8], image: &Image) {
    ways(archive, &[], |_, output, way| {
        assert_eq!(output.lines(), [format!("sha256:{}", image.id())], "{what}, {way}");
        assert!(!output.is_root_file_system, "{what}, {way}");
    });
}

#[track_caller]
fn is_root_file_system(what: &str, archive: &[u8]) {
    ways(archive, &["-t", "root", "--quiet"], |sandbox, output, way| {
        assert!(output.is_root_file_system && output.lines().len() == 1, "{what}, {way}: {output:?}");
        let layers = sandbox.run(&["inspect", "root"]).json()[0]["RootFS"]["Layers"].clone();
        assert_eq!(layers, json!([format!("sha256:{}", sha256(archive))]), "{what}, {way}");
    });
}

#[track_caller]
fn is_refused(what: &str, archive: &[u8], words: &[&str]) {
    ways(archive, &[], |_, output, way| {
        println!("{what}, {way}: {}", output.stderr);
        output.assert_refused(125, words);
    });
}

/// What is before the two blocks of zeros at the end.
pub(crate) fn open(tar: &[u8]) -> &[u8] {
    &tar[..tar.len() - 1024]
}

fn forms(image: &Image) -> [(&'static str, Members); 3] {
    [
        ("docker", docker_since_25(from_ref(image))),
        ("podman", podman(from_ref(image), <[u8]>::to_vec)),
        ("oci", oci(from_ref(image))),
    ]
}

#[test]
fn members_that_no_format_knows_do_not_matter() {
    let image = sample();
    for (form, members) in forms(&image) {
        let archive = members.tar();
        for (what, other) in [
            ("a text", Raw::new().file("README.md", b"hello")),
            ("a report", Raw::new().dir("sbom").file("sbom/a/b/c/d.json", b"{}")),
            ("a fifo", Raw::new().header(b'6', b"pipe", b"", 0, &[])),
            ("what macOS adds", Raw::new().file("._manifest.json", b"\0\x05\x16\x07").file("._x", b"y")),
            ("a header for all", Raw::new().extended(b'g', b"20 comment=of commit\n")),
        ] {
            let before = [&other.0[..], &archive].concat();
            is_image(&format!("{what} before {form}"), &before, &image);
            let after = [open(&archive), &other.0, &[0; 1024]].concat();
            is_image(&format!("{what} after {form}"), &after, &image);
        }
    }
}

#[test]
fn an_archive_in_a_directory_of_its_own() {
    let image = sample();
    for (form, members) in forms(&image) {
        let mut wrapped = Members::default();
        wrapped.dir("some dir");
        for (name, member) in members.0 {
            wrapped.0.push((format!("some dir/{name}"), member));
        }
        is_image(form, &wrapped.tar(), &image);
        // Beside something else it is a part of a root file system.
        wrapped.file("etc/passwd", "root");
        is_root_file_system(form, &wrapped.tar());
    }
}

/// The forms in which tar(1) writes sparse files.
pub(crate) const SPARSE: [&[&str]; 4] = [
    &["--format=gnu"],
    &["--format=posix", "--sparse-version=0.0"],
    &["--format=posix", "--sparse-version=0.1"],
    &["--format=posix", "--sparse-version=1.0"],
];

/// The members as `tar -S` packs them from a disk on which what is zero is a hole.
pub(crate) fn with_holes(members: &Members, options: &[&str]) -> Vec<u8> {
    let sandbox = Sandbox::new();
    let dir = sandbox.path("dir");
    members.write_to(&dir);
    for (name, member) in &members.0 {
        if let super::generator::Member::File(content) = member {
            let file = std::fs::File::create(dir.join(name)).expect("it is there");
            for (number, part) in content.chunks(4096).enumerate().filter(|(_, part)| part.iter().any(|b| *b != 0)) {
                std::os::unix::fs::FileExt::write_all_at(&file, part, number as u64 * 4096).expect("written");
            }
            file.set_len(content.len() as u64).expect("it is ours");
        }
    }
    let mut tar = Command::new("tar");
    tar.arg("-S").args(options).args(["-cf", "../holes.tar"]).args(members.0.iter().map(|(name, _)| name));
    assert!(tar.current_dir(&dir).status().expect("tar starts").success());
    std::fs::read(sandbox.path("holes.tar")).expect("it was written")
}

#[test]
fn an_archive_with_holes() {
    let image = Image::new("amd64", vec![Tar::new().file("zeros", &[0; 300_000]).finish()], &["holes:1"]);
    for (form, members) in forms(&image) {
        for format in SPARSE {
            let archive = with_holes(&members, format);
            assert!(archive.len() < 100_000, "it has no holes");
            is_image(&format!("{form} by {format:?}"), &archive, &image);
        }
    }
}

#[test]
fn a_member_that_is_packed_twice() {
    let image = sample();
    for (form, members) in forms(&image) {
        let sandbox = Sandbox::new();
        members.write_to(&sandbox.path("dir"));
        let mut tar = Command::new("tar");
        // The directories have all of them, and each is named once more.
        tar.args(["-cf", "twice.tar", "-C", "dir", "."]).args(members.0.iter().map(|(name, _)| name));
        assert!(tar.current_dir(sandbox.path("")).status().expect("tar starts").success());
        let archive = std::fs::read(sandbox.path("twice.tar")).expect("it was written");
        is_image(form, &archive, &image);
    }
}

#[test]
fn a_sparse_layer_far_behind_in_a_pipe() {
    // More than is kept to begin again.
    let layer = Tar::new().file("much", &[7; 6 << 20]).finish();
    let image = Image::new("amd64", vec![layer, Tar::new().file("zeros", &[0; 300_000]).finish()], &["holes:1"]);
    let members = podman(from_ref(&image), <[u8]>::to_vec);
    for format in SPARSE {
        let archive = with_holes(&members, format);
        for bytes in [gzip(&archive), archive] {
            let sandbox = Sandbox::new();
            let output = sandbox.run_piped(&["import", "-", "--report", "report"], &bytes);
            assert_eq!(output.lines(), [format!("sha256:{}", image.id())], "{format:?}");
            let report: Value =
                serde_json::from_slice(&std::fs::read(sandbox.path("report")).expect("it was written")).expect("JSON");
            assert_eq!(report["spooled"], json!(false), "{format:?}");
            assert_eq!(sandbox.run(&["verify"]).lines(), Vec::<&str>::new());
        }
    }
}

#[test]
fn holes_of_an_archive_are_limited() {
    let image = Image::new("amd64", vec![Tar::new().file("zeros", &[0; 300_000]).finish()], &["holes:1"]);
    let members = podman(from_ref(&image), <[u8]>::to_vec);
    let layer = format!("{}.tar", sha256(&image.layers[0]));
    for format in SPARSE {
        let archive = with_holes(&members, format);
        let options = ["--limit", "layer=200k"];
        ways(&archive, &options, |_, output, way| {
            println!("{format:?}, {way}: {}", output.stderr);
            output.assert_refused(125, &[&layer, "has more than 200k bytes", "`--limit layer=` allows more"]);
        });
    }
    // A map that is not one: of an archive of images as of a file in a layer.
    let sparse = [("GNU.sparse.map", &b"0,9,1,2"[..]), ("GNU.sparse.size", b"5")];
    let bad = Raw::new().file("manifest.json", b"[]").pax(&sparse).file("index.json", b"12345").end();
    is_refused("a bad map", &bad, &["index.json", "sparse map"]);
}

#[test]
fn documents_of_nothing_give_way_to_others() {
    let image = sample();
    for content in ["[]", "{}", "null"] {
        let mut members = oci(from_ref(&image));
        members.file("manifest.json", content);
        is_image(content, &members.tar(), &image);
    }
}

#[test]
fn blobs_that_nothing_names_do_not_matter() {
    let image = sample();
    let mut members = oci(from_ref(&image));
    members.blob("text/plain", "a text");
    // What begins as a layer does need not be one.
    members.blob("application/gzip", gzip(b"no tar"));
    members.blob("application/x-tar", [&Tar::new().file("f", b"x").finish()[..512], b"rest"].concat());
    members.0.rotate_right(3);
    is_image("oci", &members.tar(), &image);
}

#[test]
fn a_layer_that_is_none_is_refused_when_an_image_has_it() {
    let mut members = Members::default();
    let mut image = single("x");
    image.layers = vec![b"no tar".to_vec()];
    image.config = Image::new("amd64", image.layers.clone(), &[]).config;
    let manifest = members.oci_image(&image, "application/vnd.oci.image.layer.v1.tar+gzip", gzip);
    members.oci_index(&[manifest]);
    is_refused("no tar", &members.tar(), &[&sha256(&gzip(b"no tar"))]);
}

#[test]
fn an_archive_of_docker_before_1_10() {
    let image = sample();
    let members =
        || docker_before_25(from_ref(&image)).without("manifest.json").without(&format!("{}.json", image.id()));
    ways(&members().tar(), &[], |sandbox, output, way| {
        assert_eq!(output.lines().len(), 1, "{way}");
        let inspected = sandbox.run(&["inspect", "sample:1"]).json();
        let diff_ids: Vec<String> = image.layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
        assert_eq!(inspected[0]["RootFS"]["Layers"], json!(diff_ids), "{way}");
        assert_eq!(sandbox.run(&["history", "sample:1"]).lines().len(), 1 + 3, "{way}");
        assert_eq!(sandbox.run(&["verify"]).lines(), Vec::<&str>::new());
    });
    let top = sha256(format!("{} 2", image.id()).as_bytes());
    let json = format!("{top}/json");
    let itself =
        members().with(&json, |content| *content = json!({ "id": top, "parent": top }).to_string().into_bytes());
    is_refused("above itself", &itself.tar(), &[&json, "above itself"]);
    is_refused("no layer", &members().without(&format!("{top}/layer.tar")).tar(), &[&top, "is missing"]);
    is_refused("no description", &members().without(&json).tar(), &[&json, "is missing"]);
}

#[test]
fn a_root_file_system_is_one_whatever_it_begins_with() {
    let image = sample();
    let layout = oci(from_ref(&image));
    let mut inside = Members::default();
    inside.dir("image");
    for (name, member) in &layout.0 {
        inside.0.push((format!("image/{name}"), member.clone()));
    }
    inside.file("etc/passwd", "root");
    for (what, tar) in [
        ("a layout in it", inside.tar()),
        ("blobs first", Tar::new().dir("blobs").file("blobs/readme", b"x").dir("etc").file("etc/who", b"me").finish()),
        ("a manifest of something else", Tar::new().file("manifest.json", b"[1,2]").file("etc/x", b"x").finish()),
        ("an index of something else", Tar::new().file("index.json", b"{\"a\":").file("bin/x", b"x").finish()),
        (
            "an index of other manifests",
            Tar::new().file("index.json", br#"{"manifests":[{"name":"a"}]}"#).file("bin/x", b"x").finish(),
        ),
        (
            "repositories of something else",
            Tar::new().file("repositories", b"{\"a\":{\"b\":\"c\"}}").file("x", b"").finish(),
        ),
        (
            "links",
            Tar::new().link("index.json", "/etc/x").link("manifest.json", "manifest.json").file("x", b"").finish(),
        ),
        ("a directory", Tar::new().dir("index.json").dir("manifest.json").file("x", b"").finish()),
        ("many names", (0..5000).fold(Raw::new(), |tar, number| tar.file(&format!("n{number}"), b"")).end()),
    ] {
        is_root_file_system(what, &tar);
    }
}

#[test]
fn an_image_that_cannot_be_read_is_no_root_file_system() {
    let image = sample();
    let other = |mut members: Members| {
        members.0.insert(0, ("README".into(), super::generator::Member::File(b"x".to_vec())));
        members.tar()
    };
    let docker = || podman(from_ref(&image), <[u8]>::to_vec);
    let config = format!("{}.json", image.id());
    is_refused("no config", &other(docker().without(&config)), &[&config, "is missing"]);
    let half = docker().with("manifest.json", |content| content.truncate(content.len() - 2));
    is_refused("half a manifest", &other(half), &["manifest.json", "is no manifest"]);
    let layout = || oci(from_ref(&image));
    is_refused("no index", &other(layout().without("index.json")), &["has neither a manifest.json nor an index.json"]);
    let half = layout().with("index.json", |content| content.truncate(20));
    is_refused("half an index", &other(half), &["index.json", "cannot be understood"]);
    let layer = format!("blobs/sha256/{}", sha256(&gzip(&image.layers[0])));
    is_refused("no layer", &other(layout().without(&layer)), &[&layer, "is missing"]);
}

#[test]
fn the_user_decides_by_hand() {
    let image = sample();
    let archive = docker_since_25(from_ref(&image)).tar();
    let tar = Tar::new().file("etc/who", b"me").finish();
    ways(&archive, &["--as", "rootfs", "-t", "root"], |sandbox, output, way| {
        assert!(output.is_root_file_system && output.lines().len() == 1, "{way}: {output:?}");
        let layers = sandbox.run(&["inspect", "root"]).json()[0]["RootFS"]["Layers"].clone();
        assert_eq!(layers, json!([format!("sha256:{}", sha256(&archive))]), "{way}");
    });
    ways(&archive, &["--as", "image"], |_, output, way| {
        assert_eq!(output.lines(), [format!("sha256:{}", image.id())], "{way}");
    });
    ways(&tar, &["--as", "image"], |_, output, _| {
        output.assert_refused(125, &["has neither a manifest.json nor an index.json"]);
    });
    let sandbox = Sandbox::new();
    oci(from_ref(&image)).write_to(&sandbox.path("layout"));
    sandbox.run(&["import", "layout", "--as", "rootfs"]).assert_refused(2, &["layout", "layerctl build"]);
}

#[test]
fn a_report_says_how_the_archive_was_read() {
    let image = sample();
    let archive = docker_since_25(from_ref(&image)).tar();
    let spooled = [&Raw::new().file("README", b"x").0[..], &archive].concat();
    let tar = Tar::new().file("etc/who", b"me").finish();
    let report = |bytes: &[u8], way: &str| -> Value {
        let sandbox = Sandbox::new();
        match way {
            "file" => sandbox.run(&["import", &sandbox.write("archive", bytes), "--report", "report"]),
            _ => sandbox.run_piped(&["import", "-", "--report", "report"], bytes),
        }
        .lines();
        serde_json::from_slice(&std::fs::read(sandbox.path("report")).expect("it was written")).expect("JSON")
    };
    for (bytes, way, is_root, is_spooled) in [
        (&archive, "file", false, false),
        (&archive, "pipe", false, false),
        (&spooled, "file", false, false),
        (&spooled, "pipe", false, true),
        (&tar, "file", true, false),
        (&tar, "pipe", true, false),
    ] {
        let report = report(bytes, way);
        assert_eq!((&report["rootFileSystem"], &report["spooled"]), (&json!(is_root), &json!(is_spooled)), "{way}");
        assert_eq!((&report["passedOver"], &report["configNames"]), (&json!([]), &json!([])));
    }
    // What must be unpacked first has a limit of its own.
    let sandbox = Sandbox::new();
    let output = sandbox.run_piped(&["import", "-", "--limit", "spool=1k"], &spooled);
    output.assert_refused(125, &["must be unpacked before it can be read", "`--limit spool=` allows more"]);
    sandbox.run_piped(&["import", "-", "--limit", "spool=1k"], &tar).lines();
}

/// What a pipe has given cannot be given again once it was much.
#[test]
fn a_long_stream_that_begins_as_an_image_does() {
    let sandbox = Sandbox::new();
    let much = Tar::new().dir("blobs").file("blobs/much", &[7; 6 << 20]).dir("etc").file("etc/who", b"me").finish();
    sandbox
        .run_piped(&["import", "-"], &much)
        .assert_refused(125, &["begins as an archive of images does", "--as rootfs"]);
    let output = sandbox.run_piped(&["import", "-", "--as", "rootfs"], &much);
    assert!(output.is_root_file_system && output.lines().len() == 1);
    let output = sandbox.run(&["import", &sandbox.write("packed", &gzip(&much))]);
    assert!(output.is_root_file_system && output.lines().len() == 1);
}

#[test]
fn each_import_of_a_root_file_system_is_said() {
    let sandbox = Sandbox::new();
    let tar = Tar::new().file("etc/who", b"me").finish();
    for words in [&["import", "-"][..], &["import", "-", "-q"], &["import", "-", "--as", "rootfs", "-q"]] {
        let mut child = sandbox.command(words);
        let mut child =
            child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        child.stdin.take().expect("a pipe").write_all(&tar).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(said, "-: imported as a root file system of one layer\n", "{words:?}");
    }
}
