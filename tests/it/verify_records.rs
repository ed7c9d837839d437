//! `verify` finds records that are damaged or name what is not there, and what no record names.

use std::fs::{self, File};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};

use super::cli::Sandbox;
use super::damage::{change, found, image, part, store};
use super::generator::sha256;

/// With a container that is not mounted.
fn with_container() -> (Sandbox, String) {
    let (sandbox, _) = store();
    let id = sandbox.run(&["run-mount", "--name", "c", "damaged:1"]).lines()[0].split(' ').next().unwrap().to_owned();
    sandbox.umount("c");
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
    let id = sandbox.run(&["inspect", &id]).json()[0]["Id"].as_str().unwrap().to_owned();
    (sandbox, id)
}

fn image_dir(sandbox: &Sandbox) -> PathBuf {
    sandbox.root().join("images").join(image().id())
}

#[test]
fn damaged_and_dangling_records_are_damage() {
    type Case = (&'static str, fn(&Sandbox, &str), &'static [(&'static str, &'static str)]);
    let cases: &[Case] = &[
        ("config", |s, _| change(&image_dir(s).join("config"), "amd64", "amd65"), &[("image", "record")]),
        ("no config", |s, _| fs::remove_file(image_dir(s).join("config")).unwrap(), &[("image", "record")]),
        ("record", |s, _| fs::write(image_dir(s).join("record.json"), "[").unwrap(), &[("image", "record")]),
        ("size", |s, _| change(&image_dir(s).join("record.json"), "\"size\": ", "\"size\": 1"), &[("image", "record")]),
        (
            "no layer",
            |s, _| {
                for extension in ["json", "index", "split"] {
                    fs::remove_file(part(s, extension)).unwrap();
                }
                fs::remove_dir_all(s.root().join("diff").join(sha256(&image().layers[0]))).unwrap();
            },
            &[("container", "dangling"), ("image", "dangling")],
        ),
        (
            "no image",
            |s, _| fs::remove_dir_all(image_dir(s)).unwrap(),
            &[("container", "dangling"), ("name", "dangling")],
        ),
        (
            "no rw layer",
            |s, id| fs::remove_dir_all(s.root().join("diff").join(id)).unwrap(),
            &[("container", "dangling")],
        ),
        (
            "container",
            |s, id| fs::write(s.root().join("containers").join(id).join("record.json"), "{}").unwrap(),
            &[("container", "record")],
        ),
        (
            "mount",
            |s, id| fs::write(s.root().join("containers").join(id).join("mount.json"), "{}").unwrap(),
            &[("container", "record")],
        ),
        ("no name", |s, _| fs::remove_file(s.root().join("containers/names/c")).unwrap(), &[("container", "record")]),
        ("chain", |s, id| fs::write(s.root().join("layers").join(id), "x\n").unwrap(), &[("container", "record")]),
        (
            "tag",
            |s, _| {
                let name = fs::read_dir(s.root().join("images/names")).unwrap().next().unwrap().unwrap().path();
                fs::write(name, "").unwrap();
            },
            &[("name", "record")],
        ),
    ];
    for (name, damage, wanted) in cases {
        let (sandbox, id) = with_container();
        damage(&sandbox, &id);
        let before = sandbox.store();
        for words in [&[][..], &["--quick"]] {
            let (code, findings) = found(&sandbox, words);
            let kinds: Vec<(&str, &str)> =
                findings.iter().map(|(kind, what, _)| (kind.as_str(), what.as_str())).collect();
            assert_eq!((code, &kinds[..]), (3, *wanted), "{name}: {findings:?}");
        }
        sandbox.store().assert_same(&before, name);
    }
}

#[test]
fn what_belongs_to_nothing_is_told_and_no_damage() {
    let (sandbox, _) = store();
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let at = |path: String| sandbox.root().join(path);
    fs::create_dir_all(at(format!("diff/{a}/sub"))).unwrap();
    fs::write(at(format!("layers/{a}.index")), "x").unwrap();
    fs::write(at(format!("layers/{b}")), "x").unwrap();
    fs::write(at("containers/names/lost".into()), format!("{b}\n")).unwrap();
    fs::create_dir(at(format!("mnt/{b}"))).unwrap();
    fs::create_dir_all(at("tmp/dead/layer-0".into())).unwrap();
    fs::write(at("tmp/record".into()), "half").unwrap();
    // What a living process makes is none.
    fs::create_dir(at("tmp/alive".into())).unwrap();
    let owner = File::create(at("tmp/alive/owner".into())).unwrap();
    flock(&owner, FlockOperation::LockExclusive).unwrap();

    let (code, findings) = found(&sandbox, &[]);
    let found: Vec<(&str, &str)> = findings.iter().map(|(_, what, path)| (what.as_str(), path.as_str())).collect();
    let mnt = format!("mnt/{b}");
    let wanted = [
        ("leftover", "containers/names/lost"),
        ("orphan", "diff"),
        ("orphan", "index"),
        ("orphan", &format!("layers/{b}")),
        ("leftover", &mnt),
        ("leftover", "tmp/dead"),
        ("leftover", "tmp/record"),
    ];
    assert_eq!((code, &found[..]), (0, &wanted[..]));
}
