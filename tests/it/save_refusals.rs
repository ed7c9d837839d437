//! What is not saved, and what is there then.

use std::fs;
use std::process::Command;
use std::slice::from_ref;

use super::archives::sample;
use super::cli::Output;
use super::generator::{Image, Tar, sha256};
use super::save::{imported, members};

#[test]
fn a_broken_layer_is_not_saved() {
    let image = sample();
    let sandbox = imported(from_ref(&image));
    let diff_id = sha256(&image.layers[0]);
    let diff = sandbox.root().join("diff").join(&diff_id);
    let before = sandbox.write("out.tar", b"of the last time");
    let refused = |words: &[&str], more: &[&str]| {
        for compress in ["none", "gzip"] {
            let words = [&["save", "--compress", compress, "sample:1"], words].concat();
            let output = sandbox.run(&[&words[..], &["-o", "out.tar"]].concat());
            output.assert_refused(125, &[&["layer sha256:", &diff_id, "damaged"], more].concat());
            assert_eq!(fs::read(&before).unwrap(), b"of the last time");
            sandbox.run(&[&words[..], &["-o", "new.tar"]].concat()).assert_refused(125, &[&diff_id]);
            sandbox.run(&[&words[..], &["-o", "dir/"]].concat()).assert_refused(125, &[&diff_id]);
        }
        let names = fs::read_dir(sandbox.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.count(), 3, "the store, in.tar and out.tar");
    };
    fs::write(diff.join("etc/name"), b"firSt\n").unwrap();
    refused(&[], &["digest"]);
    fs::write(diff.join("etc/name"), b"f\n").unwrap();
    refused(&[], &["etc/name", "shorter"]);
    fs::remove_file(diff.join("etc/name")).unwrap();
    refused(&[], &["etc/name", "missing"]);
    std::os::unix::fs::symlink("/etc/passwd", diff.join("etc/name")).unwrap();
    refused(&[], &["etc/name"]);
    fs::remove_file(diff.join("etc/name")).unwrap();
    fs::write(diff.join("etc/name"), b"first\n").unwrap();
    sandbox.run(&["save", "sample:1", "-o", "out.tar"]).lines();

    let split = sandbox.root().join("layers").join(format!("{diff_id}.split"));
    let whole = fs::read(&split).unwrap();
    fs::write(&split, &whole[..whole.len() - 9]).unwrap();
    sandbox.run(&["save", "sample:1", "-o", "new.tar"]).assert_refused(125, &[&diff_id, "split"]);
    fs::remove_file(&split).unwrap();
    sandbox.run(&["save", "sample:1", "-o", "new.tar"]).assert_refused(125, &[&diff_id, "missing"]);
    // Another split gives another tar: a longer one.
    let other = sandbox.root().join("layers").join(format!("{}.split", sha256(&image.layers[1])));
    fs::copy(other, &split).unwrap();
    fs::create_dir_all(diff.join("etc")).unwrap();
    sandbox.run(&["save", "sample:1", "-o", "new.tar"]).assert_refused(125, &[&diff_id]);
    assert!(!sandbox.path("new.tar").exists());
}

#[test]
fn what_cannot_be_saved_is_said_in_one_sentence() {
    let sandbox = imported(&[sample()]);
    sandbox.run(&["save", "no-such:1", "-o", "x"]).assert_refused(1, &["no such image", "no-such:1"]);
    sandbox.run(&["save", "sample:1", "nor-this", "-o", "x"]).assert_refused(1, &["nor-this"]);
    sandbox.run(&["save", "sample:1", "-o", "no/such/x"]).assert_refused(125, &["no/such/x", "No such file"]);
    sandbox.run(&["save", "sample:1", "-o", "in.tar/x"]).assert_refused(125, &["in.tar/x", "Not a directory"]);
    sandbox.run(&["save", "sample:1", "-o", "/dev/full"]).assert_refused(125, &["/dev/full", "No space left"]);
    assert!(!sandbox.path("x").exists());
    // The controlling end of a pseudoterminal is a terminal itself.
    let terminal = fs::OpenOptions::new().read(true).write(true).open("/dev/ptmx").expect("there are terminals");
    let output: Output = {
        let mut command = sandbox.command(&["save", "sample:1"]);
        command.stdout(terminal).output().expect("the program starts").into()
    };
    output.assert_refused(2, &["standard output is a terminal", "-o"]);
    sandbox.run(&["save", "sample:1", "-o", "/dev/ptmx"]).assert_refused(2, &["/dev/ptmx is a terminal"]);
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left_on_it() {
    let big = Tar::new().file("big", &(0..2_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>()).finish();
    let sandbox = imported(&[Image::new("amd64", vec![big], &["big:1"])]);
    // A mount of a namespace of its own goes with the shell.
    let script = r#"mount -t tmpfs -o size=1m none disk && echo old >disk/out.tar || exit 99
        for words in '-o disk/out.tar' '-o disk/dir/' '--compress gzip -o disk/out.tar'; do
            "$0" save big:1 $words; echo "$?"
        done
        ls -A disk; cat disk/out.tar"#;
    fs::create_dir(sandbox.path("disk")).unwrap();
    let program = env!("CARGO_BIN_EXE_layerctl");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, program]);
    command.env("LAYERCTL_ROOT", sandbox.root()).current_dir(sandbox.path(""));
    let output: Output = command.output().expect("unshare(1) starts").into();
    assert_eq!((output.code, output.stdout.as_str()), (0, "125\n125\n125\nout.tar\nold\n"), "{output:?}");
    let lines: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{output:?}");
    for line in lines {
        assert!(line.contains("No space left on device") && line.contains("disk"), "{line}");
    }
}

#[test]
fn a_file_is_replaced_as_the_umask_says_and_through_links() {
    use std::os::unix::fs::PermissionsExt as _;
    let sandbox = imported(&[sample()]);
    fs::create_dir(sandbox.path("d")).unwrap();
    sandbox.write("d/real", b"old");
    std::os::unix::fs::symlink("d/real", sandbox.path("link")).unwrap();
    let run = |path: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", r#"umask 027; exec "$0" save sample:1 -o "$1""#, env!("CARGO_BIN_EXE_layerctl"), path]);
        command.env("LAYERCTL_ROOT", sandbox.root()).current_dir(sandbox.path(""));
        let output: Output = command.output().expect("a shell starts").into();
        output.lines();
    };
    run("link");
    assert!(sandbox.path("link").is_symlink());
    let members = members(&fs::read(sandbox.path("d/real")).unwrap());
    assert!(members.contains_key("manifest.json"));
    assert_eq!(fs::metadata(sandbox.path("d/real")).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(sandbox.path("d")).unwrap().count(), 1);
    run("dir/");
    assert_eq!(fs::metadata(sandbox.path("dir")).unwrap().permissions().mode() & 0o777, 0o750);
    // What is no file is written to, and stays.
    run("/dev/null");
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}
