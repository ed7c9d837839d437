//! `verify --repair` mends each kind of damage, from every kind of source, and takes nothing from one that is wrong.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::slice::from_ref;
use std::time::Duration;

use serde_json::Value;

use super::archives::{oci_packed, podman, single};
use super::cli::{Output, Sandbox};
use super::damage::{DAMAGES, change, diff, flip, found, image, part, store, with_xattr};
use super::generator::{Image, Tar, docker_before_25, docker_since_25, gzip, oci, sha256};
use super::listing::{Listing, xattrs};

/// The layers' files, indexes and splits, as they are to be again.
fn layers(sandbox: &Sandbox) -> Listing {
    let mut listing = Listing::of(&sandbox.root()).without("tmp").without("lock");
    listing.0.retain(|path, line| {
        let mut parts = path.iter();
        let (top, _, below) = (parts.next(), parts.next(), parts.next());
        let is_theirs = top.is_some_and(|top| top == "diff" || top == "layers") && path.parent() != Some(Path::new(""));
        // When a file of the store's own was written is nothing that anybody says, and no tar has this layer's root.
        if (below.is_none() || path.ends_with(".wh..wh.dups"))
            && let Some((mode, rest)) = line.split_once(" mtime ")
        {
            *line = format!("{mode} {}", rest.split_once(' ').map_or("", |(_, rest)| rest));
        }
        is_theirs && path.extension().is_none_or(|extension| extension != "json")
    });
    listing
}

fn repair(sandbox: &Sandbox, sources: &[&str]) -> Output {
    let from = sources.iter().flat_map(|source| ["--from", source]);
    let words: Vec<&str> = ["--format", "json", "verify", "--repair"].into_iter().chain(from).collect();
    let output = sandbox.run(&words);
    assert_eq!(output.stderr, "", "{output:?}");
    output
}

/// What was found, and whether it was mended.
fn results(output: &Output) -> Vec<(String, String, bool)> {
    let values: Vec<Value> = serde_json::from_str(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |value: &Value, field: &str| value[field].as_str().expect("it is text").to_owned();
    let each = values.iter().map(|one| {
        let is_mended = one["Repaired"].as_bool().expect("it is said");
        assert_eq!(is_mended, text(one, "Left").is_empty(), "{one}");
        (text(one, "Problem"), text(one, "Path"), is_mended)
    });
    each.collect()
}

#[track_caller]
fn assert_mended(sandbox: &Sandbox, output: &Output, before: &Listing, what: &str) {
    assert_eq!(output.code, 0, "{what}: {output:?}");
    let results = results(output);
    assert!(!results.is_empty() && results.iter().all(|(_, _, is_mended)| *is_mended), "{what}: {results:?}");
    layers(sandbox).assert_same(before, what);
    assert_eq!(found(sandbox, &[]), (0, Vec::new()), "{what}");
    assert_eq!(sandbox.debris().iter().filter(|name| *name != "record").count(), 0, "{what}");
}

/// The image in every form that can be a source.
fn sources(sandbox: &Sandbox) -> Vec<(&'static str, String)> {
    let image = image();
    let images = from_ref(&image);
    let dir = sandbox.path("layout");
    oci(images).write_to(&dir);
    let other = sandbox.path("other-store");
    let tar = docker_since_25(images).tar();
    let archive = sandbox.write("for-other.tar", &tar);
    sandbox.run(&["--root", other.to_str().expect("UTF-8"), "import", &archive]).lines();
    let text = |path: PathBuf| path.into_os_string().into_string().expect("UTF-8");
    vec![
        ("docker-archive", sandbox.write("docker.tar", &tar)),
        ("old docker-archive", sandbox.write("old.tar", &docker_before_25(images).tar())),
        ("compressed docker-archive", sandbox.write("docker.tar.gz", &gzip(&podman(images, gzip).reversed().tar()))),
        ("OCI layout", text(dir)),
        ("OCI layout in a tar", sandbox.write("oci.tar", &oci_packed(&image, gzip).tar())),
        ("another store", text(other)),
    ]
}

#[test]
fn each_damage_is_mended_from_the_original_archive() {
    for (name, damage, wanted, _) in DAMAGES {
        let (sandbox, archive) = store();
        let before = layers(&sandbox);
        damage(&sandbox);
        let output = repair(&sandbox, &[&archive]);
        assert_mended(&sandbox, &output, &before, name);
        for (problem, _) in *wanted {
            assert!(results(&output).iter().any(|(known, _, _)| known == problem), "{name}: {output:?}");
        }
    }
}

#[test]
fn each_damage_is_mended_from_every_kind_of_source() {
    let (sandbox, _) = store();
    let before = layers(&sandbox);
    for (kind, source) in sources(&sandbox) {
        for (name, damage, ..) in DAMAGES {
            damage(&sandbox);
            assert_mended(&sandbox, &repair(&sandbox, &[&source]), &before, &format!("{name}, {kind}"));
        }
    }
}

#[test]
fn all_damages_at_once_are_mended() {
    let (sandbox, archive) = store();
    let before = layers(&sandbox);
    // All but those that take away what others change.
    let not = ["a missing file", "a missing directory", "a missing index", "a missing split", "no files"];
    for (name, damage, ..) in DAMAGES {
        if !not.contains(name) && !name.starts_with("a damaged record") && !name.starts_with("a fifo") {
            damage(&sandbox);
        }
    }
    assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, "all");
}

/// What only a source has.
const CONTENT: [&str; 9] = [
    "one flipped bit",
    "a truncated file",
    "a missing file",
    "a missing directory",
    "a flipped bit in what was replaced",
    "a damaged split",
    "a missing split",
    "a fifo for a split",
    "no files",
];

#[test]
fn what_the_layer_knows_of_itself_needs_no_source() {
    for (name, damage, ..) in DAMAGES {
        let (sandbox, _) = store();
        let before = layers(&sandbox);
        damage(&sandbox);
        let damaged = sandbox.store();
        let output = repair(&sandbox, &[]);
        if CONTENT.contains(name) {
            assert_eq!(output.code, 3, "{name}: {output:?}");
            assert!(output.stdout.contains("needs a source"), "{name}: {output:?}");
            sandbox.store().without("lock").assert_same(&damaged.without("lock"), name);
        } else {
            assert_mended(&sandbox, &output, &before, name);
        }
    }
}

#[test]
fn what_can_be_mended_without_a_source_is_also_beside_what_cannot() {
    let (sandbox, archive) = store();
    let before = layers(&sandbox);
    flip(&diff(&sandbox).join("etc/noted"));
    for name in ["an extra file", "a changed mode", "a changed owner", "an added attribute", "another link"] {
        DAMAGES.iter().find(|(known, ..)| *known == name).expect("there is one").1(&sandbox);
    }
    let output = repair(&sandbox, &[]);
    let left = results(&output).into_iter().filter(|(_, _, is_mended)| !is_mended);
    let left: Vec<(String, String)> = left.map(|(problem, path, _)| (problem, path)).collect();
    assert_eq!((output.code, left), (3, vec![("content".to_owned(), "etc/noted".to_owned())]));
    assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, "the rest");
}

#[test]
fn nothing_is_taken_from_a_source_that_is_wrong() {
    let (sandbox, archive) = store();
    let before = layers(&sandbox);
    let image = image();
    let layer = &image.layers[0];
    let damaged = |content: &mut Vec<u8>| {
        let at = layer.len() / 2;
        content[at] ^= 1;
    };
    // The archive says of another tar that it is the layer.
    let mut forged = docker_before_25(from_ref(&image));
    let name = forged
        .0
        .iter()
        .find(|(_, member)| matches!(member, super::generator::Member::File(content) if content == layer));
    let name = name.expect("the layer is in it").0.clone();
    *forged.content(&name) = Tar::new().file("etc/noted", b"hostile").finish();
    let flipped = docker_since_25(from_ref(&image)).with(&format!("blobs/sha256/{}", sha256(layer)), damaged);
    let cut = docker_since_25(from_ref(&image)).with(&format!("blobs/sha256/{}", sha256(layer)), |content| {
        content.truncate(1000);
    });
    let lost = docker_since_25(from_ref(&image)).without(&format!("blobs/sha256/{}", sha256(layer)));
    let other = sandbox.path("damaged-store");
    let other = other.to_str().expect("UTF-8");
    sandbox.run(&["--root", other, "import", &archive]).lines();
    flip(&Path::new(other).join("diff").join(sha256(layer)).join("etc/noted"));
    let sources = [
        sandbox.write("other-image.tar", &docker_since_25(&[single("other")]).tar()),
        sandbox.write("forged.tar", &forged.tar()),
        sandbox.write("flipped.tar", &flipped.tar()),
        sandbox.write("cut.tar", &cut.tar()),
        sandbox.write("lost.tar", &lost.tar()),
        sandbox.write("root.tar", &Tar::new().file("etc/noted", b"x").finish()),
        other.to_owned(),
    ];
    for name in CONTENT {
        DAMAGES.iter().find(|(known, ..)| *known == name).expect("there is one").1(&sandbox);
        let was = sandbox.store().without("lock");
        for source in &sources {
            let output = repair(&sandbox, &[source]);
            assert_eq!(output.code, 3, "{name} {source}: {output:?}");
            assert!(results(&output).iter().all(|(_, _, is_mended)| !is_mended), "{name} {source}: {output:?}");
            sandbox.store().without("lock").assert_same(&was, &format!("{name} {source}"));
        }
        // Beside them a sound one does.
        let all: Vec<&str> = sources.iter().map(String::as_str).chain([archive.as_str()]).collect();
        assert_mended(&sandbox, &repair(&sandbox, &all), &before, name);
    }
}

#[test]
fn a_source_that_is_none_is_refused_before_anything_is_changed() {
    let (sandbox, archive) = store();
    DAMAGES.iter().find(|(name, ..)| *name == "a changed mode").expect("there is one").1(&sandbox);
    flip(&diff(&sandbox).join("etc/noted"));
    let was = sandbox.store().without("lock");
    let text = sandbox.write("text", b"no archive");
    let dir = sandbox.path("dir");
    fs::create_dir(&dir).expect("it is made");
    let cases = [("nothing", 1), (text.as_str(), 125), (dir.to_str().expect("UTF-8"), 125), ("-", 2)];
    for (source, code) in cases {
        sandbox.run(&["verify", "--repair", "--from", &archive, "--from", source]).assert_refused(code, &[]);
        sandbox.store().without("lock").assert_same(&was, source);
    }
    for words in [&["verify", "--from", "x"][..], &["verify", "--repair", "--quick"]] {
        assert_eq!(sandbox.run(words).code, 2);
    }
}

#[test]
fn no_link_is_followed() {
    type Swap = (&'static str, fn(&Sandbox, &Path));
    let swaps: [Swap; 5] = [
        ("a directory that is a link", |sandbox, outside| {
            fs::rename(diff(sandbox).join("etc"), sandbox.path("moved")).expect("it is moved");
            symlink(outside, diff(sandbox).join("etc")).expect("it is made");
        }),
        ("a directory that is a file", |sandbox, _| {
            fs::remove_dir_all(diff(sandbox).join("etc")).expect("it goes");
            fs::write(diff(sandbox).join("etc"), "file").expect("it is made");
        }),
        ("a file that is a link", |sandbox, outside| {
            fs::remove_file(diff(sandbox).join("etc/noted")).expect("it goes");
            symlink(outside.join("noted"), diff(sandbox).join("etc/noted")).expect("it is made");
        }),
        ("a file that is a directory", |sandbox, outside| {
            fs::remove_file(diff(sandbox).join("etc/noted")).expect("it goes");
            fs::create_dir(diff(sandbox).join("etc/noted")).expect("it is made");
            symlink(outside, diff(sandbox).join("etc/noted/x")).expect("it is made");
        }),
        ("a layer that is a link", |sandbox, outside| {
            fs::rename(diff(sandbox), sandbox.path("moved")).expect("it is moved");
            symlink(outside, diff(sandbox)).expect("it is made");
        }),
    ];
    for (name, swap) in swaps {
        let (sandbox, archive) = store();
        let before = layers(&sandbox);
        let outside = sandbox.path("outside");
        fs::create_dir(&outside).expect("it is made");
        for file in ["noted", "plain", "replaced", "extra"] {
            fs::write(outside.join(file), "theirs").expect("it is made");
        }
        let theirs = Listing::with_identities(&outside);
        swap(&sandbox, &outside);
        assert_eq!(repair(&sandbox, &[]).code, 3, "{name}");
        Listing::with_identities(&outside).assert_same(&theirs, name);
        assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, name);
        Listing::with_identities(&outside).assert_same(&theirs, name);
    }
}

/// Two layers with the same names, and other modes and files.
fn twins() -> Image {
    let lower = Tar::new().dir("etc").file("etc/a", b"one").file("etc/b", b"two").finish();
    let upper = Tar::new().file("etc/a", b"eins").finish();
    Image::new("amd64", vec![lower, upper], &["twins:1"])
}

#[test]
fn the_index_of_another_layer_makes_nothing_go() {
    let sandbox = Sandbox::new();
    let archive = sandbox.write("twins.tar", &docker_since_25(from_ref(&twins())).tar());
    sandbox.run(&["import", &archive]).lines();
    let before = layers(&sandbox);
    let at = |number: usize, extension: &str| {
        sandbox.root().join("layers").join(format!("{}.{extension}", sha256(&twins().layers[number])))
    };
    let swap = |extension| fs::copy(at(1, extension), at(0, extension)).expect("it is copied");
    swap("index");
    assert_mended(&sandbox, &repair(&sandbox, &[]), &before, "by what the split and the files say");
    swap("split");
    assert_eq!(repair(&sandbox, &[]).code, 3);
    assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, "a split");
    // Neither of the two can be believed.
    swap("index");
    flip(&sandbox.root().join("diff").join(sha256(&twins().layers[0])).join("etc/b"));
    let was = sandbox.store().without("lock");
    assert_eq!(repair(&sandbox, &[]).code, 3);
    sandbox.store().without("lock").assert_same(&was, "nothing goes");
    swap("split");
    let was = sandbox.store().without("lock");
    assert_eq!(repair(&sandbox, &[]).code, 3);
    sandbox.store().without("lock").assert_same(&was, "nothing goes");
    assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, "index and split");
}

#[test]
fn the_names_of_one_file_become_those_of_the_sound_one() {
    // The tar has the content at the first name.
    for (damaged, code) in [("etc/plain", 3), ("etc/second-name", 0)] {
        let (sandbox, archive) = store();
        let before = layers(&sandbox);
        let path = diff(&sandbox).join(damaged);
        let content = fs::read(&path).expect("it is read");
        fs::remove_file(&path).and_then(|()| fs::write(&path, content.to_ascii_uppercase())).expect("it is made");
        assert_eq!(repair(&sandbox, &[]).code, code, "{damaged}");
        assert_eq!(repair(&sandbox, &[&archive]).code, 0, "{damaged}");
        assert_eq!(found(&sandbox, &[]), (0, Vec::new()), "{damaged}");
        layers(&sandbox).assert_same(&before, damaged);
    }
}

#[test]
fn attributes_that_unions_would_take_for_their_marks_stay_what_they_are() {
    let tar = with_xattr(Tar::new().dir("p"), "trusted.overlay.opaque", b"y").file("p/f", b"f").finish();
    let image = Image::new("amd64", vec![tar], &["marks:1"]);
    let sandbox = Sandbox::new();
    let archive = sandbox.write("marks.tar", &docker_since_25(from_ref(&image)).tar());
    sandbox.run(&["import", &archive]).lines();
    let before = layers(&sandbox);
    let path = sandbox.root().join("diff").join(sha256(&image.layers[0])).join("p/f");
    let [(name, _)] = &xattrs(&path).into_iter().collect::<Vec<_>>()[..] else { panic!("it has one, by another name") };
    assert_ne!(name, "trusted.overlay.opaque");
    rustix::fs::lsetxattr(&path, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty()).expect("it is set");
    assert_mended(&sandbox, &repair(&sandbox, &[]), &before, "one more");
    rustix::fs::lremovexattr(&path, name.as_str()).expect("it goes");
    assert_mended(&sandbox, &repair(&sandbox, &[]), &before, "one less");
}

#[test]
fn a_directory_comes_back_with_all_its_marks() {
    let tar = Tar::new().dir("p").file("p/.wh.d", b"").dir("p/d").file("p/d/f", b"f").file("p/.wh.gone", b"");
    let tar = tar.dir("p/e").file("p/e/.wh..wh..opq", b"").file("p/e/f", b"f").file("p/x", b"file").dir("p/x");
    let image = Image::new("amd64", vec![tar.finish()], &["marks:1"]);
    let sandbox = Sandbox::new();
    let archive = sandbox.write("marks.tar", &docker_since_25(from_ref(&image)).tar());
    sandbox.run(&["import", &archive]).lines();
    let before: Vec<PathBuf> = layers(&sandbox).0.into_keys().collect();
    assert!(before.iter().any(|path| path.ends_with("p/.wh.d")), "{before:?}");
    fs::remove_dir_all(sandbox.root().join("diff").join(sha256(&image.layers[0])).join("p")).expect("it goes");
    let output = repair(&sandbox, &[&archive]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
    assert_eq!(layers(&sandbox).0.into_keys().collect::<Vec<_>>(), before);
}

#[test]
fn images_and_layers_that_are_missing_come_back() {
    type Loss = (&'static str, fn(&Sandbox), bool);
    let image_dir = |sandbox: &Sandbox| sandbox.root().join("images").join(image().id());
    let losses: [Loss; 7] = [
        ("config", |s| change(&s.root().join("images").join(image().id()).join("config"), "amd64", "amd65"), false),
        ("no config", |s| fs::remove_file(s.root().join("images").join(image().id()).join("config")).unwrap(), false),
        ("record", |s| fs::write(s.root().join("images").join(image().id()).join("record.json"), "[").unwrap(), true),
        (
            "size",
            |s| change(&s.root().join("images").join(image().id()).join("record.json"), "\"size\": ", "\"size\": 1"),
            true,
        ),
        ("no record of a layer", |s| fs::remove_file(part(s, "json")).unwrap(), false),
        (
            "no layer",
            |s| {
                ["json", "index", "split"].iter().for_each(|extension| fs::remove_file(part(s, extension)).unwrap());
                fs::remove_dir_all(diff(s)).unwrap();
            },
            false,
        ),
        ("no image", |s| fs::remove_dir_all(s.root().join("images").join(image().id())).unwrap(), false),
    ];
    for (name, loss, needs_nothing) in losses {
        let (sandbox, _) = store();
        let before = layers(&sandbox);
        for (kind, source) in sources(&sandbox) {
            loss(&sandbox);
            let output = repair(&sandbox, &[]);
            assert_eq!(output.code, if needs_nothing { 0 } else { 3 }, "{name}: {output:?}");
            let output = repair(&sandbox, &[&source]);
            assert_eq!(output.code, 0, "{name}, {kind}: {output:?}");
            assert_eq!(found(&sandbox, &[]), (0, Vec::new()), "{name}, {kind}");
            layers(&sandbox).assert_same(&before, name);
            assert!(image_dir(&sandbox).join("config").exists());
        }
    }
}

#[test]
fn a_root_file_system_is_a_source_too() {
    let sandbox = Sandbox::new();
    let tar = Tar::new().dir("etc").file("etc/name", &b"content".repeat(99)).finish();
    for (name, archive) in [("root.tar", tar.clone()), ("root.tar.gz", gzip(&tar))] {
        let archive = sandbox.write(name, &archive);
        sandbox.run(&["import", &archive, "-t", "root"]).lines();
        let before = layers(&sandbox);
        flip(&sandbox.root().join("diff").join(sha256(&tar)).join("etc/name"));
        let image = fs::read_dir(sandbox.root().join("images")).unwrap().map(|entry| entry.unwrap().path());
        let image = image.into_iter().find(|path| path.join("config").exists()).expect("there is one");
        fs::remove_file(image.join("config")).unwrap();
        assert_mended(&sandbox, &repair(&sandbox, &[&archive]), &before, name);
    }
}

#[test]
fn what_only_repeats_a_containers_record_is_written_anew() {
    let (sandbox, _) = store();
    sandbox.run(&["run-mount", "--name", "c", "damaged:1"]).lines();
    sandbox.run(&["umount", "c"]).lines();
    let id = sandbox.run(&["inspect", "c"]).json()[0]["Id"].as_str().unwrap().to_owned();
    fs::write(sandbox.root().join("layers").join(&id), "x\n").unwrap();
    fs::remove_file(sandbox.root().join("containers/names/c")).unwrap();
    assert_eq!(found(&sandbox, &[]).0, 3);
    assert_eq!(repair(&sandbox, &[]).code, 0);
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
    sandbox.run(&["rm", "c"]).lines();
}

#[test]
fn a_hole_with_something_in_it_is_found_and_mended() {
    let sandbox = Sandbox::new();
    // Zeros are holes on disk, whether the tar has them or not; this one says that they are none of its data.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_size(512);
    header.set_path("sparse").unwrap();
    {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.sparse[0].offset.copy_from_slice(b"00000200000\0");
        gnu.sparse[0].numbytes.copy_from_slice(b"00000001000\0");
        gnu.realsize.copy_from_slice(b"00000201000\0");
    }
    header.set_cksum();
    let mut tar = Tar::new();
    tar.0.append(&header, &[7_u8; 512][..]).unwrap();
    let tar = tar.finish();
    let archive = sandbox.write("sparse.tar", &tar);
    sandbox.run(&["import", &archive, "-t", "sparse"]).lines();
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
    let before = layers(&sandbox);
    flip(&sandbox.root().join("diff").join(sha256(&tar)).join("sparse"));
    let (code, findings) = found(&sandbox, &[]);
    assert_eq!((code, findings.len()), (3, 1), "{findings:?}");
    assert_eq!((findings[0].1.as_str(), findings[0].2.as_str()), ("content", "sparse"));
    assert_mended(&sandbox, &repair(&sandbox, &[]), &before, "the tar has none of it");
}

#[test]
fn a_layer_that_is_mounted_is_mended_below_the_mount() {
    let (sandbox, archive) = store();
    let before = layers(&sandbox);
    let line = sandbox.run(&["run-mount", "--name", "c", "damaged:1"]).lines()[0].to_owned();
    let mountpoint = PathBuf::from(line.split(' ').nth(1).expect("there is one"));
    let content = fs::read(mountpoint.join("etc/noted")).expect("it is read");
    let open = File::open(mountpoint.join("etc/noted")).expect("it is opened");
    flip(&diff(&sandbox).join("etc/noted"));
    fs::remove_dir_all(diff(&sandbox).join("no")).expect("it goes");
    let output = repair(&sandbox, &[&archive]);
    assert_eq!(output.code, 0, "{output:?}");
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
    assert_eq!(fs::read(mountpoint.join("no/entry/of/its/own")).expect("it is there again"), b"x");
    assert_eq!(open.metadata().expect("it is open").len(), content.len() as u64);
    drop(open);
    sandbox.run(&["umount", "c"]).lines();
    sandbox.run(&["run-mount", "--name", "c"]).lines();
    assert_eq!(fs::read(mountpoint.join("etc/noted")).expect("it is read"), content);
    sandbox.run(&["rm", "-f", "c"]).lines();
    layers(&sandbox).assert_same(&before, "as before");
}

#[test]
fn a_repair_that_is_killed_is_gone_on_with() {
    // Many files, so that there are many moments.
    let tar = (0..300).fold(Tar::new().dir("d"), |tar, number| {
        tar.file(&format!("d/{number}"), format!("{number}").repeat(200).as_bytes())
    });
    let image = Image::new("amd64", vec![tar.finish()], &["many:1"]);
    let sandbox = Sandbox::new();
    let archive = sandbox.write("many.tar", &docker_since_25(from_ref(&image)).tar());
    sandbox.run(&["import", &archive]).lines();
    let before = layers(&sandbox);
    let dir = sandbox.root().join("diff").join(sha256(&image.layers[0])).join("d");
    let sound = |number: usize| format!("{number}").repeat(200).into_bytes();
    let mut killed = 0;
    for round in 0..30 {
        (0..300).step_by(2).for_each(|number| flip(&dir.join(number.to_string())));
        let bad: Vec<Vec<u8>> = (0..300).map(|number| fs::read(dir.join(number.to_string())).unwrap()).collect();
        let words = ["--quiet", "verify", "--repair", "--from", &archive];
        let mut child = sandbox.command(&words).stdout(std::process::Stdio::null()).spawn().expect("it starts");
        std::thread::sleep(Duration::from_micros(500 + round * 2500));
        child.kill().expect("it is ours");
        let status = child.wait().expect("it ends");
        killed += usize::from(!status.success());
        for (number, bad) in bad.iter().enumerate() {
            let now = fs::read(dir.join(number.to_string())).expect("it is there at every moment");
            assert!(now == sound(number) || now == *bad, "{number} is neither the old nor the new one");
        }
        let output = repair(&sandbox, &[&archive]);
        assert_eq!(output.code, 0, "{output:?}");
        layers(&sandbox).assert_same(&before, "gone on with");
        assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
    }
    assert!(killed > 5, "{killed} were killed in time");
}

#[test]
fn the_table_says_what_was_mended_and_what_is_left() {
    let (sandbox, archive) = store();
    flip(&diff(&sandbox).join("etc/noted"));
    change(&part(&sandbox, "json"), "\"size\": ", "\"size\": 1");
    let output = sandbox.run(&["verify", "--repair"]);
    assert_eq!((output.code, output.stderr.as_str()), (3, ""));
    assert!(output.stdout.lines().any(|line| line.contains("etc/noted") && line.contains("left: needs a source")));
    let output = sandbox.run(&["verify", "--repair", "--from", &archive, "damaged:1"]);
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert!(output.stdout.lines().any(|line| line.contains("etc/noted") && line.ends_with("mended")), "{output:?}");
    assert_eq!(sandbox.run(&["verify", "--repair"]).lines(), Vec::<&str>::new());
}
