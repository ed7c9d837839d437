//! What the hands of Docker's and podman's users type.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::archives::single;
use super::cli::{Output, Sandbox};
use super::disk::system;
use super::generator::docker_since_25;
use super::mounts::Mounts;

fn with(names: &[&str]) -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let mut image = single("a");
    image.names = names.iter().map(ToString::to_string).collect();
    sandbox.run_piped(&["import", "-"], &docker_since_25(&[image]).tar()).lines();
    let id = sandbox.run(&["images", "-q", "--no-trunc"]).lines()[0].to_owned();
    (sandbox, id)
}

/// The container c of an image, not mounted.
fn stopped() -> (Mounts, String) {
    let mounts = Mounts::new();
    let id = mounts.import("a", &single("a").layers[0]);
    mounts.run(&["run-mount", "--name", "c", &id]).ok();
    mounts.run(&["umount", "c"]).ok();
    (mounts, id)
}

#[test]
fn inspect_takes_a_template_with_f() {
    let (sandbox, id) = with(&["a:1"]);
    assert_eq!(sandbox.run(&["inspect", "-f", "{{.Id}} {{index .RepoTags 0}}", "a:1"]).lines(), [format!("{id} a:1")]);
    assert_eq!(sandbox.run(&["inspect", "a:1", "-f", "json"]).json()[0]["Id"], json!(id));
    sandbox.run(&["inspect", "-f", "yaml", "a:1"]).assert_refused(2, &["--format", "yaml"]);
}

#[test]
fn what_is_not_there_is_removed_by_force() {
    let (sandbox, _) = with(&["a:1"]);
    sandbox.run(&["rm", "none"]).assert_refused(1, &["no such container: none"]);
    sandbox.run(&["rm", "-f", "none"]).assert_refused(0, &["no such container: none"]);
    sandbox.run(&["rmi", "none"]).assert_refused(1, &["no such image: none"]);
    let output = sandbox.run(&["rmi", "-f", "none", "a:1"]);
    assert_eq!((output.code, output.stderr.as_str()), (0, "error: no such image: none\n"));
    assert_eq!(output.stdout.lines().next(), Some("Untagged: a:1"));
}

#[test]
fn a_name_that_is_gone_does_not_remove_what_has_such_an_id() {
    let (sandbox, id) = with(&["a:1"]);
    let digits = id.strip_prefix("sha256:").expect("an id");
    for short in 1..4 {
        sandbox.run(&["rmi", &digits[..short]]).assert_refused(1, &["no such image"]);
        sandbox.run(&["rmi", "-f", &digits[..short]]).assert_refused(0, &["no such image"]);
    }
    assert_eq!(sandbox.run(&["images", "-q", &digits[..1]]).code, 0);
    sandbox.run(&["rmi", &digits[..4]]).lines();
    let mounts = Mounts::new();
    let image = mounts.import("a", &single("a").layers[0]);
    mounts.run(&["run-mount", "--name", "kept", &image]).ok();
    mounts.run(&["umount", "kept"]).ok();
    let id = mounts.run(&["inspect", "-f", "{{.Id}}", "kept"]).ok().trim().to_owned();
    mounts.run(&["rm", &id[..3]]).fails(1, &["no such container"]);
    assert_eq!(mounts.run(&["rm", "-f", &id[..1]]).code, 0);
    mounts.run(&["inspect", "kept"]).ok();
    mounts.run(&["rm", &id[..4]]).ok();
}

#[test]
fn an_image_is_removed_by_its_id_with_all_its_names() {
    let (sandbox, id) = with(&["a:1", "b:2"]);
    sandbox.run(&["rmi", &id]).assert_refused(125, &["a:1, b:2"]);
    let output = sandbox.run(&["rmi", "--force", &id]);
    assert_eq!(output.lines()[..3], ["Untagged: a:1".to_owned(), "Untagged: b:2".to_owned(), format!("Deleted: {id}")]);
    assert_eq!(sandbox.run(&["images", "-q"]).lines().len(), 0);
    assert_eq!(sandbox.run(&["prune", "-f"]).code, 0, "nothing is asked");
}

#[test]
fn force_takes_no_image_from_a_container() {
    let (mounts, id) = stopped();
    mounts.run(&["rmi", "-f", "a"]).fails(125, &["in use", "container c"]);
    mounts.run(&["exists", &id]).ok();
}

#[test]
fn commit_takes_the_name_after_the_container() {
    let (mounts, _) = stopped();
    mounts.run(&["commit", "-c", "ENV A=b", "c", "made:1"]).ok();
    assert_eq!(mounts.run(&["inspect", "-f", "{{join .Config.Env \",\"}}", "made:1"]).ok().trim(), "A=b");
    mounts.run(&["commit", "c", "NO"]).fails(2, &["\"NO\" is not an image name"]);
}

#[test]
fn a_command_without_the_separator_is_told_where_it_goes() {
    let (sandbox, _) = with(&["a:1"]);
    let output = sandbox.run(&["run-mount", "--rm", "a:1", "echo", "hi"]);
    assert_eq!((output.code, output.stdout.as_str()), (2, ""));
    assert!(output.stderr.contains("unexpected argument 'hi'"), "{output:?}");
    assert!(output.stderr.contains("run-mount IMAGE -- CMD"), "{output:?}");
    let output = sandbox.run(&["run-mount", "-e", "A=1", "a:1"]);
    assert!(output.code == 2 && output.stderr.contains("unexpected argument '-e'"), "{output:?}");
    // A forgotten `--` is no question for our own version, which would be exit status 0.
    let output = sandbox.run(&["run-mount", "a:1", "python3", "-V"]);
    assert!(output.code == 2 && output.stderr.contains("unexpected argument '-V'"), "{output:?}");
    assert!(sandbox.run(&["-V"]).lines()[0].starts_with("layerctl "));
    assert!(!output.stderr.contains("tip:"), "{output:?}");
}

#[test]
fn nothing_is_read_from_a_terminal() {
    let (sandbox, _) = with(&["a:1"]);
    for words in [&["import", "-"][..], &["build", "-"]] {
        // The controlling end of a pseudoterminal is a terminal itself.
        let terminal = OpenOptions::new().read(true).write(true).open("/dev/ptmx").expect("there are terminals");
        let mut command = sandbox.command(words);
        let output: Output = command.stdin(terminal).output().expect("the program starts").into();
        output.assert_refused(2, &["standard input is a terminal"]);
    }
}

#[test]
fn who_is_not_root_is_told_that_mounting_needs_it() {
    let sandbox = Sandbox::new();
    let archive = sandbox.write("a.tar", &docker_since_25(&[single("a")]).tar());
    let program = sandbox.path("layerctl");
    // Not by this process: a child that another test has just forked would keep it open, and it could not be run.
    system("cp", &[], &[Path::new(env!("CARGO_BIN_EXE_layerctl")), &program]);
    for dir in ["home", "u", "mnt"] {
        fs::create_dir(sandbox.path(dir)).expect("a directory can be made");
        chown(sandbox.path(dir), Some(65534), Some(65534)).expect("we are root");
    }
    for path in [sandbox.path(""), archive.into(), program.clone()] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).expect("it is ours");
    }
    let run = |words: &[&str]| -> Output {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(words);
        command.env("LAYERCTL_ROOT", sandbox.path("home/store")).current_dir(sandbox.path(""));
        command.output().expect("setpriv is there").into()
    };
    let id = run(&["import", "a.tar"]).lines()[0].to_owned();
    run(&["run-mount", &id]).assert_refused(125, &["only root can mount"]);
    run(&["run-mount", "--rm", &id, "--", "x"]).assert_refused(125, &["only root can mount"]);
    run(&["union", "-o", "dirs=u", "mnt"]).assert_refused(125, &["mnt", "only root can mount"]);
    assert_eq!(run(&["ps", "-q"]).lines().len(), 0);
}
