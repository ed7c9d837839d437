//! `verify --repair` beside a mount, and killed at any moment.

use std::fs::{self, File};
use std::path::PathBuf;
use std::slice::from_ref;
use std::time::Duration;

use super::cli::Sandbox;
use super::damage::{diff, flip, found, store};
use super::generator::{Image, Tar, docker_since_25, sha256};
use super::repair::{layers, repair};

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
    sandbox.umount("c");
    sandbox.run(&["run-mount", "--name", "c"]).lines();
    assert_eq!(fs::read(mountpoint.join("etc/noted")).expect("it is read"), content);
    sandbox.run(&["rm", "-f", "c"]).lines();
    layers(&sandbox).assert_same(&before, "as before");
}

#[test]
fn a_repair_that_is_killed_is_gone_on_with() {
    const ROUNDS: usize = 30;
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
    let is_sound = |number: usize| fs::read(dir.join(number.to_string())).is_ok_and(|found| found == sound(number));
    let mut killed = 0;
    // At moments of all kinds; and on, should too few have come before the end.
    for round in 0..ROUNDS * 10 {
        if round >= ROUNDS && killed > 5 {
            break;
        }
        (0..300).step_by(2).for_each(|number| flip(&dir.join(number.to_string())));
        let bad: Vec<Vec<u8>> = (0..300).map(|number| fs::read(dir.join(number.to_string())).unwrap()).collect();
        let words = ["--quiet", "verify", "--repair", "--from", &archive];
        let mut child = sandbox.command(&words).stdout(std::process::Stdio::null()).spawn().expect("it starts");
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_micros(500 + round as u64 % 30 * 2500));
        } else {
            // When so many are mended.
            let wanted = round * 5 % 150;
            let mended = || (0..300).step_by(2).filter(|number| is_sound(*number)).count();
            while child.try_wait().expect("it is ours").is_none() && mended() < wanted {}
        }
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
