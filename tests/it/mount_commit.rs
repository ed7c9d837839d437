//! `commit`: what was changed in a container becomes an image.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::mounts::{Mounts, listing};
use super::root_fs::finish;

pub(crate) fn image(mounts: &Mounts) -> String {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in [("d/a", &b"a\n"[..]), ("d/b", b"b\n"), ("e/c", b"c\n"), ("f", b"f\n")] {
        super::root_fs::add(&mut tar, path, 0o644, Some(content));
    }
    mounts.import("base", &finish(tar))
}

pub(crate) fn layers(mounts: &Mounts, image: &str) -> Vec<String> {
    let layers = mounts.inspect(image)["RootFS"]["Layers"].clone();
    layers.as_array().unwrap().iter().map(|layer| layer.as_str().unwrap().to_owned()).collect()
}

/// What is the same in another mount: not the place, the times of change and the numbers of inodes.
pub(crate) fn shown(at: &Path) -> Vec<String> {
    let place = at.to_str().unwrap();
    let lines = listing(at).into_iter().map(|line| {
        let parts: Vec<&str> = line.strip_prefix(place).unwrap().splitn(3, '(').collect();
        let (_, rest) = parts[2].split_once(") ").unwrap();
        let (_, links) = rest.split_once(' ').unwrap();
        format!("{}({}{links}", parts[0], parts[1])
    });
    lines.collect()
}

#[test]
fn an_image_of_a_container_shows_what_the_container_showed() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let container = mounts.mount(&["--name", "c", &base]);
    let at = &container.mountpoint;
    fs::rename(at.join("d"), at.join("e/d")).unwrap();
    fs::remove_file(at.join("e/c")).unwrap();
    fs::write(at.join("f"), "changed\n").unwrap();
    fs::hard_link(at.join("f"), at.join("g")).unwrap();
    fs::create_dir(at.join("d")).unwrap();
    let before = shown(at);
    mounts.umount("c");

    let made = mounts.run(&["commit", "c", "-t", "new", "-m", "why"]).ok();
    assert_eq!(layers(&mounts, "new").len(), 2);
    assert_eq!(layers(&mounts, "new")[0], layers(&mounts, &base)[0]);
    assert_eq!(mounts.inspect("new")["Id"], made.trim_end());
    let config = fs::read_to_string(mounts.at("store/images").join(&made.trim_end()["sha256:".len()..]).join("config"));
    assert!(config.unwrap().contains(r#""comment":"why""#));
    let again = mounts.mount(&["new"]);
    assert_eq!(shown(&again.mountpoint), before);
    mounts.umount(&again.id);

    // The layer is one of its own: the container it came from is not needed.
    mounts.run(&["rm", "c"]).ok();
    let again = mounts.mount(&["new"]);
    assert_eq!(shown(&again.mountpoint), before);
}

#[test]
fn the_same_changes_give_the_same_image() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    let container = mounts.mount(&["--name", "c", &base]);
    fs::write(container.mountpoint.join("new"), "new\n").unwrap();
    mounts.umount("c");
    let commit = || {
        let program: &mut Command = &mut mounts.program(&["commit", "c"]);
        super::mounts::said(program.env("SOURCE_DATE_EPOCH", "1000000000")).ok()
    };
    let first = commit();
    assert_eq!(commit(), first);
    assert_eq!(mounts.inspect(first.trim_end())["Created"], "2001-09-09T01:46:40Z");
}

#[test]
fn a_container_that_has_changed_nothing_gives_no_layer() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    mounts.mount(&["--name", "c", &base]);
    mounts.umount("c");
    let words = ["commit", "c", "-a", "who", "--config", "Cmd=[\"x\"]", "--change", "ENV A=1", "-m", "nothing"];
    let made = mounts.run(&words).ok();
    let made = made.trim_end();
    assert_eq!(layers(&mounts, made), layers(&mounts, &base));
    let path = mounts.at("store/images").join(&made["sha256:".len()..]).join("config");
    let config: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let history = config["history"].as_array().unwrap();
    assert_eq!(history.len(), 2);
    let last = history[1].as_object().unwrap();
    assert_eq!(last["empty_layer"], true);
    assert_eq!((&last["author"], &last["comment"]), (&"who".into(), &"nothing".into()));
    assert_eq!(config["config"], serde_json::json!({ "Cmd": ["x"], "Env": ["A=1"] }));
    mounts.run(&["commit", "c", "--config", "x"]).fails(2, &["no KEY=VALUE"]);
    mounts.run(&["verify"]).ok();
}
