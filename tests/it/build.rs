//! `build`: tars and directories become images.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::{Value, json};

use super::archives::PACKS;
use super::beside::{blocks, tree};
use super::cli::Sandbox;
use super::generator::{Tar, gzip, sha256};
use super::mounts::Mounts;

const PAGE: usize = 4096;

fn config(sandbox: &Sandbox, id: &str) -> Value {
    let path = sandbox.root().join("images").join(&id["sha256:".len()..]).join("config");
    serde_json::from_slice(&fs::read(path).expect("the config is there")).expect("it is JSON")
}

fn id_of(sandbox: &Sandbox, words: &[&str]) -> String {
    let output = sandbox.run(words);
    let lines = output.lines();
    assert_eq!(lines.len(), 1, "{output:?}");
    lines[0].to_owned()
}

#[test]
fn tars_of_every_compression_are_layers_of_their_plain_digest() {
    for (name, pack) in PACKS {
        let sandbox = Sandbox::new();
        let (one, two) = (Tar::new().dir("a").file("a/b", b"1").finish(), Tar::new().file("c", b"2").finish());
        let one_path = sandbox.write("one", &pack(&one));
        let words = ["--quiet", "build", "-t", "made", &one_path, "-"];
        let output = sandbox.run_piped(&words, &pack(&two));
        let made = config(&sandbox, output.lines()[0]);
        let digests = [&one, &two].map(|tar| format!("sha256:{}", sha256(tar)));
        assert_eq!(made["rootfs"], json!({ "type": "layers", "diff_ids": digests }), "{name}");
        assert_eq!(made["history"].as_array().map(Vec::len), Some(2));
        let exported = sandbox.command(&["export", "made"]).output().expect("it runs").stdout;
        let names: Vec<String> = tar::Archive::new(&exported[..])
            .entries()
            .expect("a tar")
            .map(|entry| entry.expect("an entry").path().expect("a name").display().to_string())
            .collect();
        assert_eq!(names, ["./", "a/", "a/b", "c"], "{name}");
        assert_eq!(sandbox.debris(), Vec::<String>::new());
    }
}

/// All that a directory can hold and a tar can say.
fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("d/e")).expect("directories");
    fs::write(dir.join("d/file"), "content\n").expect("a file");
    fs::hard_link(dir.join("d/file"), dir.join("a-name-before")).expect("a name");
    fs::hard_link(dir.join("d/file"), dir.join("d/e/another")).expect("a name");
    symlink("d/file", dir.join("link")).expect("a link");
    fs::set_permissions(dir.join("d"), fs::Permissions::from_mode(0o3751)).expect("a mode");
    rustix::fs::chown(dir.join("d/e"), Some(rustix::process::Uid::from_raw(3_000_000)), None).expect("an owner");
    let mode = rustix::fs::Mode::from_raw_mode(0o640);
    for (name, kind, device) in [
        ("fifo", rustix::fs::FileType::Fifo, 0),
        ("char", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        ("block", rustix::fs::FileType::BlockDevice, rustix::fs::makedev(7, 300)),
    ] {
        rustix::fs::mknodat(rustix::fs::CWD, dir.join(name), kind, mode, device).expect("a node");
    }
    let attributes = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.join("d/file"), "user.note", b"\0\xff", attributes).expect("an attribute");
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(dir.join("d/file"), "security.capability", &capability, attributes).expect("a capability");
    let sparse = fs::File::create(dir.join("sparse")).expect("a file");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 8 << 20).expect("it is written");
    // user::rw-, user:1000:r--, group::r--, mask::r--, other::---
    let entries: [(u16, u16, u32); 5] = [(1, 6, !0), (2, 4, 1000), (4, 4, !0), (0x10, 4, !0), (0x20, 0, !0)];
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        acl.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
        acl.extend(id.to_le_bytes());
    }
    fs::write(dir.join("acl"), "x").expect("a file");
    rustix::fs::setxattr(dir.join("acl"), "system.posix_acl_access", &acl, attributes).expect("an access list");
}

#[test]
fn a_directory_becomes_a_layer_of_all_that_is_in_it() {
    let mounts = Mounts::new();
    let dir = mounts.mkdir("rootfs");
    fill(&dir);
    let before = tree(&dir);
    let socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).expect("a socket");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("a mode");
    mounts.run(&["build", "-t", "made", "rootfs"]).ok();
    drop(socket);
    let container = mounts.mount(&["--read-only", "made"]);
    let at = &container.mountpoint;
    assert_eq!(tree(at), before);
    assert!(blocks(at) < (1 << 20) / 512, "the hole is one");
    for name in ["d/file", "acl", "d", "link"] {
        let time = |dir: &Path| fs::symlink_metadata(dir.join(name)).map(|meta| (meta.mtime(), meta.mtime_nsec()));
        assert_eq!(time(at).unwrap(), time(&dir).unwrap(), "{name}");
    }
    for (name, attribute) in
        [("d/file", "user.note"), ("d/file", "security.capability"), ("acl", "system.posix_acl_access")]
    {
        let read = |dir: &Path| {
            let mut value = vec![0; PAGE];
            let length = rustix::fs::getxattr(dir.join(name), attribute, &mut value).expect("it is there");
            value[..length].to_vec()
        };
        assert_eq!(read(at), read(&dir), "{name} {attribute}");
    }
    // That it came from a directory which was for root alone is nothing that an image says.
    assert_eq!((fs::metadata(at).unwrap().mode() & 0o7777, fs::metadata(at).unwrap().mtime()), (0o755, 0));
    assert!(fs::symlink_metadata(at.join("socket")).is_err());
}

#[test]
fn whiteouts_in_a_directory_hide_what_is_below() {
    let mounts = Mounts::new();
    let mut below = Tar::new();
    for dir in ["aufs", "overlay", "stays"] {
        below = below.dir(dir).file(&format!("{dir}/old"), b"old");
    }
    let base = mounts.import("base", &below.file("gone", b"x").file("away", b"y").finish());
    let dir = mounts.mkdir("layer");
    for (path, content) in [(".wh.gone", ""), ("aufs/.wh..wh..opq", ""), ("aufs/new", "new"), ("overlay/new", "new")] {
        fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
        fs::write(dir.join(path), content).unwrap();
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.join("overlay"), "trusted.overlay.opaque", b"y", flags).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("away"), rustix::fs::FileType::CharacterDevice, mode, 0).unwrap();
    mounts.run(&["build", "--from", &base, "-t", "made", "layer"]).ok();
    let container = mounts.mount(&["--read-only", "made"]);
    let shown: Vec<String> = tree(&container.mountpoint).keys().map(|path| path.display().to_string()).collect();
    assert_eq!(shown, ["aufs", "aufs/new", "overlay", "overlay/new", "stays", "stays/old"]);
    // The layer itself has the one spelling that other tools read.
    let layers = mounts.inspect("made")["RootFS"]["Layers"].clone();
    let diff = mounts.at("store/diff").join(&layers[1].as_str().unwrap()["sha256:".len()..]);
    let mut spelled: Vec<String> = tree(&diff).keys().map(|path| path.display().to_string()).collect();
    spelled.retain(|name| name.contains(".wh."));
    assert_eq!(spelled, [".wh.away", ".wh.gone", "aufs/.wh..wh..opq", "overlay/.wh..wh..opq"]);
}

#[test]
fn the_config_is_that_of_the_image_below_with_what_is_set() {
    let sandbox = Sandbox::new();
    let layer = sandbox.write("layer.tar", &Tar::new().file("f", b"f").finish());
    let first = id_of(
        &sandbox,
        &[
            "build",
            "-t",
            "first",
            "--config",
            "Cmd=[\"sh\",\"-l\"]",
            "--config",
            "Env=PATH=/bin",
            "--config",
            "Env=A=1",
            "--config",
            "User=7:8",
            "--config",
            "WorkingDir=/srv",
            "--config",
            "Labels=k=v",
            "--config",
            "ExposedPorts=80",
            "--config",
            "Volumes=/data",
            "--config",
            "StopSignal=SIGINT",
            "--config",
            "author=somebody",
            "--config",
            "comment=why",
            "--config",
            "created=1000000000",
            "--config",
            "arch=arm64",
            "--config",
            "variant=v8",
            &layer,
        ],
    );
    let made = config(&sandbox, &first);
    let diff_id = format!("sha256:{}", sha256(&fs::read(&layer).unwrap()));
    assert_eq!(
        made,
        json!({
            "created": "2001-09-09T01:46:40Z",
            "author": "somebody",
            "architecture": "arm64",
            "os": "linux",
            "variant": "v8",
            "config": {
                "Cmd": ["sh", "-l"], "Env": ["PATH=/bin", "A=1"], "User": "7:8", "WorkingDir": "/srv",
                "Labels": { "k": "v" }, "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/data": {} }, "StopSignal": "SIGINT",
            },
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
            "history": [{
                "created": "2001-09-09T01:46:40Z", "created_by": "layerctl build", "author": "somebody", "comment": "why",
            }],
        })
    );

    // On top of it, without a layer: one step more, and what is not set stays.
    let second = id_of(
        &sandbox,
        &[
            "build",
            "--from",
            "first",
            "--change",
            "ENV A=2 B=\"3 4\"",
            "--change",
            "ENTRYPOINT [\"/bin/e\"]",
            "--config",
            "Labels=",
            "--config",
            "created=1000000001",
        ],
    );
    let next = config(&sandbox, &second);
    assert_eq!(
        next["config"],
        json!({
            "Env": ["PATH=/bin", "A=2", "B=3 4"], "User": "7:8", "WorkingDir": "/srv", "Entrypoint": ["/bin/e"],
            "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/data": {} }, "StopSignal": "SIGINT",
        })
    );
    assert_eq!((&next["rootfs"], &next["variant"]), (&made["rootfs"], &json!("v8")));
    assert_eq!(next["history"].as_array().unwrap().len(), 2);
    assert_eq!(next["history"][1]["empty_layer"], true);
    assert_eq!(next["history"][1].get("comment"), None);
}

#[test]
fn a_config_comes_from_a_file() {
    let sandbox = Sandbox::new();
    let layer = sandbox.write("layer.tar", &Tar::new().file("f", b"f").finish());
    let whole = json!({
        "architecture": "arm64", "os": "linux", "created": "1999-01-01T00:00:00Z", "author": "other",
        "config": { "Cmd": ["x"], "Healthcheck": { "Test": ["NONE"] } },
        "rootfs": { "type": "layers", "diff_ids": ["sha256:00"] }, "history": [{}],
    });
    let file = sandbox.write("config.json", whole.to_string().as_bytes());
    let made = id_of(&sandbox, &["build", "--config-from", &file, "--config", "User=me", &layer]);
    let made = config(&sandbox, &made);
    assert_eq!(made["config"], json!({ "Cmd": ["x"], "Healthcheck": { "Test": ["NONE"] }, "User": "me" }));
    assert_eq!((&made["architecture"], &made["author"]), (&json!("arm64"), &json!("other")));
    assert_eq!(made["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    assert_ne!(made["created"], whole["created"]);
    let inner = sandbox.write("inner.json", whole["config"].to_string().as_bytes());
    let made = id_of(&sandbox, &["build", "--config-from", &inner, &layer]);
    assert_eq!(config(&sandbox, &made)["config"], whole["config"]);
}

#[test]
fn the_id_is_also_written_to_a_file_and_printed_as_json() {
    let sandbox = Sandbox::new();
    let layer = sandbox.write("layer.tar", &Tar::new().file("f", b"f").finish());
    let file = sandbox.path("iid");
    let output = sandbox.run(&["--format", "json", "build", "--iidfile", file.to_str().unwrap(), &layer]);
    assert_eq!(output.json(), json!(fs::read_to_string(file).unwrap()));
}

/// Bytes that a command and all that it started have written.
fn written(sandbox: &Sandbox, words: &str) -> u64 {
    let script = format!("$L --quiet build {words} >/dev/null; sed -n 's/^wchar: //p' /proc/$$/io");
    let mut command = std::process::Command::new("bash");
    command.args(["-euc", &script]).env("L", env!("CARGO_BIN_EXE_layerctl")).env("LAYERCTL_ROOT", sandbox.root());
    let output: super::cli::Output = command.output().expect("bash is there").into();
    output.lines()[0].parse().expect("a number")
}

#[test]
fn a_layer_that_the_store_has_is_not_unpacked_again() {
    let sandbox = Sandbox::new();
    let content: Vec<u8> = (0..(1u32 << 18)).flat_map(u32::to_le_bytes).collect();
    let tar = Tar::new().file("big", &content).finish();
    let dir = sandbox.path("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("big"), &content).unwrap();
    for layer in [sandbox.write("plain.tar", &tar), sandbox.write("tar.gz", &gzip(&tar)), dir.display().to_string()] {
        let sandbox = Sandbox::new();
        assert!(written(&sandbox, &layer) > content.len() as u64, "{layer}");
        let before = sandbox.store();
        let again = written(&sandbox, &format!("-t again {layer}"));
        assert!(again < 100 << 10, "{layer}: {again} bytes were written");
        let after = sandbox.store();
        let layers = before.0.iter().filter(|(path, _)| path.starts_with("diff") || path.starts_with("layers"));
        for (path, known) in layers.filter(|(path, _)| path.components().count() > 1) {
            assert_eq!(after.0.get(path), Some(known), "{layer}: {}", path.display());
        }
        let twice = written(&sandbox, &format!("-t twice {layer} {layer}"));
        assert!(twice < 100 << 10, "{layer}: {twice} bytes were written");
        assert_eq!(sandbox.run(&["layers"]).lines().len(), 2, "a head, and one layer");
        sandbox.run(&["verify"]).lines();
    }
    // Also when it is new and there twice.
    let sandbox = Sandbox::new();
    let layer = sandbox.write("plain.tar", &tar);
    let made = id_of(&sandbox, &["build", &layer, &layer]);
    assert_eq!(config(&sandbox, &made)["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    assert_eq!(sandbox.run(&["layers"]).lines().len(), 2);
}
