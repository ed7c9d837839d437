//! `--io kernel`: the life of a container whose rw layer the kernel's overlayfs has, over one mount of its image.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use super::mount_container::with_plain;
use super::mounts::{Mounts, mount_line, names, read, said};
use super::processes::{end_of, eventually, kill};

/// Where the only image in use is mounted.
#[track_caller]
pub(crate) fn image_mount(mounts: &Mounts) -> PathBuf {
    let images = mounts.at("store/run/images");
    let found: Vec<_> = mounts.mounted().into_iter().filter(|path| path.starts_with(&images)).collect();
    let [one] = found.as_slice() else { panic!("{found:?}") };
    one.clone()
}

/// That nothing is left, soon.
#[track_caller]
pub(crate) fn assert_nothing_stays(mounts: &Mounts) {
    let is_over =
        || mounts.mounted().is_empty() && mounts.processes().is_empty() && names(&mounts.at("store/run")).is_empty();
    if !eventually(is_over) {
        mounts.assert_nothing_is_live();
    }
    let left: Vec<_> = names(&mounts.at("store/tmp")).into_iter().filter(|name| name != "record").collect();
    assert_eq!(left, Vec::<String>::new());
}

fn kernel(mounts: &Mounts, args: &[&str]) -> PathBuf {
    mounts.mount(&[&["--io", "kernel"], args].concat()).mountpoint
}

/// A process that has told that it is ready.
pub(crate) fn ready(mut command: std::process::Command) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    child
}

#[test]
fn a_container_is_written_by_the_kernel_and_kept() {
    let mounts = with_plain();
    let at = kernel(&mounts, &["--name", "box", "plain"]);
    let line = mount_line(&at).expect("it is mounted");
    assert_eq!((line.fs_type.as_str(), line.source.len()), ("overlay", 12));
    for option in ["index=on", "metacopy=on", "redirect_dir=on", "xino=on", "noatime", "rw"] {
        assert!(line.options.iter().any(|has| has == option), "{option}: {line:?}");
    }
    let image = image_mount(&mounts);
    assert_eq!(mount_line(&image).expect("it is mounted").fs_type, "fuse.layerctl");
    assert_eq!(mounts.ps("box"), ("running".to_owned(), Some(at.display().to_string())));
    assert_eq!(names(&at), ["dir", "file", "link"]);
    fs::write(at.join("file"), "written").unwrap();
    fs::rename(at.join("dir"), at.join("renamed")).unwrap();
    mounts.run(&["rm", "box"]).fails(125, &["box", "in use", "mounted at"]);
    mounts.run(&["run-mount", "--name", "box"]).fails(125, &["box", "in use"]);
    let differences = mounts.run(&["diff", "box"]).ok();
    assert_eq!(differences, "D /dir\nC /file\nA /renamed\nA /renamed/one\nA /renamed/two\n");
    mounts.umount("box");
    assert_eq!(mounts.ps("box").0, "exited");
    assert_nothing_stays(&mounts);
    for way in ["kernel", "cached", "kernel"] {
        let at = mounts.mount(&["--io", way, "--name", "box"]).mountpoint;
        assert_eq!(read(&at.join("file")), "written", "{way}");
        assert_eq!(read(&at.join("renamed/one")), "dir/one of the image\n", "{way}");
        assert!(!at.join("dir").exists(), "{way}");
        mounts.umount("box");
    }
    assert_eq!(mounts.run(&["rm", "box"]).ok(), "box\n");
    assert_nothing_stays(&mounts);
}

#[test]
fn containers_of_an_image_share_its_mount() {
    let mounts = with_plain();
    let one = kernel(&mounts, &["--name", "one", "plain"]);
    let image = image_mount(&mounts);
    let servers = mounts.servers();
    let two = kernel(&mounts, &["--name", "two", "plain"]);
    assert_eq!((image_mount(&mounts), mounts.servers()), (image.clone(), servers));
    fs::write(one.join("file"), "of one").unwrap();
    assert_eq!(read(&two.join("file")), "file of the image\n");
    mounts.umount("one");
    assert_eq!(image_mount(&mounts), image);
    assert_eq!(read(&two.join("dir/two")), "dir/two of the image\n");
    // The mount of the image may go from where it is to be seen, and the container reads on.
    rustix::mount::unmount(&image, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(read(&two.join("dir/one")), "dir/one of the image\n");
    mounts.umount("two");
    assert_nothing_stays(&mounts);
}

#[test]
fn a_command_has_its_overlay_for_itself() {
    let mounts = Mounts::with_programs();
    let mut command = mounts.program(&["run-mount", "--io", "kernel", "--name", "box", "programs", "--"]);
    command.args(["sh", "-c", "echo written > /file; echo ready; cat; exit 7"]);
    let mut child = ready(command);
    assert_eq!(mounts.ps("box").0, "running");
    let image = image_mount(&mounts);
    assert_eq!(mounts.mounted(), [image], "the overlay is in the command's mount namespace only");
    mounts.run(&["umount", "box"]).fails(125, &["box", "its command is still running"]);
    mounts.run(&["rm", "box"]).fails(125, &["box", "in use"]);
    mounts.run(&["run-mount", "--name", "box", "--", "id"]).fails(125, &["box", "in use"]);
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "C /file\n");
    let committed = mounts.run(&["commit", "--live", "box", "made"]);
    assert_eq!(committed.code, 0, "{committed:?}");
    drop(child.stdin.take());
    assert_eq!(end_of(&mut child).code(), Some(7));
    assert_eq!(mounts.ps("box").0, "exited");
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "C /file\n", "what is mounted for a command is not in it");
    let again = ["run-mount", "--io", "kernel", "--name", "box", "--", "cat", "/file"];
    assert_eq!(mounts.run(&again).ok(), "written\n");
    assert_eq!(mounts.run(&["run-mount", "--rm", "made", "--", "cat", "/file"]).ok(), "written\n");
    assert_eq!(mounts.run(&["rm", "box"]).ok(), "box\n");
    assert_nothing_stays(&mounts);
}

#[test]
fn a_container_goes_with_its_mount() {
    let mounts = Mounts::with_programs();
    let run = ["run-mount", "--io", "kernel", "--rm", "programs", "--", "sh", "-c", "echo x > /new; cat /new"];
    assert_eq!(mounts.run(&run).ok(), "x\n");
    assert_eq!(mounts.run(&["ps", "-q"]).ok(), "");
    kernel(&mounts, &["--rm", "--name", "box", "programs"]);
    mounts.umount("box");
    assert_eq!(mounts.run(&["ps", "-q"]).ok(), "");
    let at = kernel(&mounts, &["--rm", "--name", "box", "programs"]);
    mounts.umount8(&at);
    assert!(eventually(|| mounts.run(&["ps", "-q"]).ok().is_empty()), "its image's server has removed it");
    for (name, forced) in [("one", true), ("two", false)] {
        kernel(&mounts, &["--name", name, "programs"]);
        if !forced {
            mounts.umount(name);
        }
        assert_eq!(mounts.run(&["rm", "-f", name]).ok(), format!("{name}\n"));
    }
    assert_nothing_stays(&mounts);
    assert_eq!(names(&mounts.at("store/mnt")), Vec::<String>::new());
}

#[test]
fn a_command_is_ended_by_force() {
    let mounts = Mounts::with_programs();
    for end in [&["umount", "-f", "box"][..], &["rm", "-f", "box"]] {
        let args =
            ["run-mount", "--io", "kernel", "--name", "box", "programs", "--", "sh", "-c", "echo ready; sleep 1000"];
        let mut child = ready(mounts.program(&args));
        assert_eq!(mounts.run(end).code, 0);
        assert_eq!(end_of(&mut child).code(), Some(137));
        if end[0] == "umount" {
            assert_eq!(mounts.ps("box").0, "exited");
            mounts.run(&["rm", "box"]).ok();
        }
    }
    assert_eq!(mounts.run(&["ps", "-q"]).ok(), "");
    assert_nothing_stays(&mounts);
}

#[test]
fn read_only_is_read_only() {
    let mounts = Mounts::with_programs();
    let run =
        |args: &[&str]| mounts.run(&[&["run-mount", "--io", "kernel", "--read-only", "--name", "box"], args].concat());
    let script = "cat /etc/hosts >&2; echo x > /new || ls /new /dev/null";
    let said = run(&["programs", "--", "sh", "-c", script]);
    assert!(said.err.contains("Read-only") && said.err.contains("localhost"), "{said:?}");
    assert_eq!(said.out, "/dev/null\n");
    let at = kernel(&mounts, &["--read-only", "--name", "box"]);
    assert_eq!(fs::write(at.join("new"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
    mounts.umount("box");
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "");
    assert_nothing_stays(&mounts);
}

#[test]
fn a_mount_in_use_is_not_ended() {
    let mounts = with_plain();
    let at = kernel(&mounts, &["--name", "box", "plain"]);
    let file = File::options().append(true).open(at.join("file")).unwrap();
    mounts.run(&["umount", "box"]).fails(125, &["box", "in use", "to write"]);
    drop(file);
    let file = File::open(at.join("file")).unwrap();
    mounts.run(&["umount", "box"]).fails(125, &["box", "in use", "open"]);
    // It is not left read-only.
    fs::write(at.join("new"), "written").unwrap();
    mounts.run(&["umount", "--force", "box"]).fails(125, &["box", "is unmounted", "cannot take away"]);
    assert_eq!(mounts.ps("box").0, "running");
    mounts.run(&["rm", "-f", "box"]).fails(125, &["box", "in use"]);
    drop(file);
    assert!(eventually(|| mounts.ps("box").0 == "exited"));
    let at = kernel(&mounts, &["--name", "box"]);
    let file = File::open(at.join("new")).unwrap();
    mounts.run(&["umount", "--lazy", "box"]).ok();
    assert_eq!(std::io::read_to_string(file).unwrap(), "written");
    assert!(eventually(|| mounts.ps("box").0 == "exited"));
    assert_nothing_stays(&mounts);
}

#[test]
fn another_mount_namespace_can_only_read_on() {
    let mounts = with_plain();
    let at = mounts.mkdir("mnt");
    kernel(&mounts, &["--name", "box", "plain", at.to_str().unwrap()]);
    let mut command = mounts.command("unshare");
    let script = "echo ready; read line; echo x > \"$0/other\" && echo could; cat \"$0/file\"; echo ready; read line";
    command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&at).stderr(Stdio::null());
    let mut other = ready(command);
    fs::write(at.join("file"), "written").unwrap();
    let said = mounts.run(&["umount", "box"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{said:?}");
    assert!(said.err.contains(&format!("process {}", other.id())), "{said:?}");
    assert_eq!(mount_line(&at), None);
    use std::io::Write as _;
    other.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let mut lines = BufReader::new(other.stdout.as_mut().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "writtenready", "it reads, and cannot write");
    for refused in [&["rm", "box"][..], &["rm", "-f", "box"], &["run-mount", "--io", "kernel", "--name", "box"]] {
        mounts.run(refused).fails(125, &["box", "in use"]);
    }
    drop(other.stdin.take());
    end_of(&mut other);
    assert!(eventually(|| mounts.ps("box").0 == "exited"));
    assert_eq!(read(&kernel(&mounts, &["--name", "box"]).join("file")), "written");
    mounts.run(&["rm", "-f", "box"]).ok();
    assert_nothing_stays(&mounts);
}

#[test]
fn what_was_written_outlives_the_server_of_the_image() {
    let mounts = with_plain();
    let at = kernel(&mounts, &["--name", "box", "plain"]);
    fs::write(at.join("new"), "written").unwrap();
    fs::write(at.join("file"), "changed").unwrap();
    let [server] = *mounts.servers() else { panic!("one server") };
    kill(server);
    assert!(eventually(|| mounts.ps("box").0 == "dead"));
    assert!(fs::read(at.join("dir/one")).is_err());
    assert_eq!(read(&at.join("new")), "written");
    assert_eq!(mounts.run(&["diff", "box"]).ok(), "C /file\nA /new\n");
    let at = kernel(&mounts, &["--name", "box"]);
    assert_eq!((read(&at.join("new")), read(&at.join("file"))), ("written".into(), "changed".into()));
    assert_eq!(read(&at.join("dir/one")), "dir/one of the image\n");
    kill(mounts.servers()[0]);
    mounts.run(&["umount", "box"]).ok();
    assert_eq!(mounts.ps("box").0, "exited");
    mounts.run(&["rm", "box"]).ok();
    // What a dead server has registered goes with a later look.
    kernel(&mounts, &["--name", "last", "plain"]);
    mounts.umount("last");
    assert_nothing_stays(&mounts);
}

#[test]
fn a_killed_caller_leaves_nothing_that_stays() {
    let mounts = Mounts::with_programs();
    for name in ["kept", "gone"] {
        let rm: &[&str] = if name == "gone" { &["--rm"] } else { &[] };
        let script = "echo written > /new; echo ready; sleep 1000";
        let args =
            [&["run-mount", "--io", "kernel", "--name", name], rm, &["programs", "--", "sh", "-c", script]].concat();
        let mut child = ready(mounts.program(&args));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(eventually(|| mounts.ps("kept").0 == "exited"));
    assert_eq!(mounts.run(&["diff", "kept"]).ok(), "A /new\n");
    let again = ["run-mount", "--io", "kernel", "--name", "kept", "--", "cat", "/new"];
    assert_eq!(mounts.run(&again).ok(), "written\n");
    assert_eq!(mounts.run(&["ps", "--format", "{{.Names}}"]).ok(), "kept\n");
    mounts.run(&["rm", "kept"]).ok();
    assert_nothing_stays(&mounts);
    assert_eq!(names(&mounts.at("store/containers")), ["names"]);
}

#[test]
fn the_way_is_chosen() {
    let mounts = with_plain();
    let fs_type = |at: &Path| mount_line(at).expect("it is mounted").fs_type;
    for way in ["kernel", "auto"] {
        let mut command = mounts.program(&["run-mount", "--name", "box", "plain"]);
        let line = said(command.env("LAYERCTL_IO", way)).ok();
        let at = PathBuf::from(line.trim_end().split_once(' ').expect("ID MOUNTPOINT").1);
        assert_eq!(fs_type(&at), "overlay", "{way}");
        mounts.run(&["rm", "-f", "box"]).ok();
    }
    mounts.mkdir("a");
    mounts.mkdir("u");
    mounts.mkdir("mnt");
    let union = mounts.run(&["union", "-o", "lowerdir=a,upperdir=u,io=kernel", "mnt"]);
    union.fails(2, &["io=kernel", "workdir"]);
    assert_nothing_stays(&mounts);
}

#[test]
fn a_device_zero_of_the_image_is_refused_or_served_in_another_way() {
    let mounts = Mounts::new();
    let tar = super::hostile_tar::Raw::new().dir("dir").device("dir/zero", 0, 0).end();
    mounts.import("zero", &tar);
    let refused = mounts.run(&["run-mount", "--io", "kernel", "zero"]);
    refused.fails(125, &["/dir/zero", "0:0", "--io cached"]);
    assert_eq!(mounts.run(&["ps", "-q"]).ok(), "");
    let at = mounts.mount(&["--io", "auto", "--name", "box", "zero"]).mountpoint;
    assert_eq!(mount_line(&at).expect("it is mounted").fs_type, "fuse.layerctl");
    mounts.umount("box");
    assert_nothing_stays(&mounts);
}

#[test]
fn a_mounted_container_is_committed_while_nothing_can_be_written() {
    let mounts = with_plain();
    let at = kernel(&mounts, &["--name", "box", "plain"]);
    fs::write(at.join("new"), "written").unwrap();
    let file = File::options().append(true).open(at.join("file")).unwrap();
    mounts.run(&["commit", "box"]).fails(125, &["box", "to write", "--live"]);
    assert_eq!(mounts.run(&["commit", "--live", "box", "live"]).code, 0);
    drop(file);
    assert_eq!(mounts.run(&["commit", "box", "still"]).code, 0);
    fs::write(at.join("more"), "it is writable again").unwrap();
    for image in ["live", "still"] {
        assert_eq!(mounts.run(&["diff", image]).ok(), "A /new\n", "{image}");
    }
    mounts.umount("box");
    assert_nothing_stays(&mounts);
}

#[test]
fn an_init_that_cannot_be_told_its_command_is_said_and_leaves_nothing() {
    let mounts = Mounts::new();
    mounts.import("box", &super::root_fs::with_programs(&[]));
    // The server of the image is there already, so that none of its calls fails.
    kernel(&mounts, &["--name", "other", "box"]);
    let args = ["run-mount", "--rm", "--io", "kernel", "box", "--", "sh", "-c", "exit 7"];
    let (said, hits) = super::failing_calls::run_failing(&mounts, "sendto:error=EIO", None, &args);
    said.fails(125, &["cannot tell a container's first process what to do", "Input/output error"]);
    assert!(hits > 0);
    mounts.umount("other");
    assert_nothing_stays(&mounts);
}
