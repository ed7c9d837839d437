//! What `build` refuses: in one sentence, with the documented status, and the store as it was.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::archives::PACKS;
use super::cli::Sandbox;
use super::disk::Disk;
use super::generator::Tar;
use super::listing::Listing;
use super::mounts::PROGRAM;

/// A store with an image in it, a good layer beside it, and what is refused.
struct Refusing {
    sandbox: Sandbox,
    good: String,
}

impl Refusing {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let base = sandbox.write("base.tar", &Tar::new().file("base", b"base").finish());
        sandbox.run(&["--quiet", "import", "-t", "base", &base]).lines();
        let good = sandbox.write("good.tar", &Tar::new().file("good", b"good").finish());
        Self { sandbox, good }
    }

    #[track_caller]
    fn refuses(&self, words: &[&str], code: i32, sentence: &[&str]) {
        let before = self.sandbox.store();
        let words: Vec<&str> = ["--quiet", "build"].iter().chain(words).copied().collect();
        self.sandbox.run(&words).assert_refused(code, sentence);
        self.sandbox.store().assert_same(&before, &words.join(" "));
        assert_eq!(self.sandbox.debris(), Vec::<String>::new());
    }
}

#[test]
fn what_is_no_layer_is_refused_with_its_name() {
    let store = Refusing::new();
    let good = store.good.as_str();
    store.refuses(&[good, "nowhere"], 1, &["no such file: nowhere"]);
    let mut damaged = Tar::new().file("a", b"a").file("b", b"b").finish();
    damaged[1024] ^= 1;
    for (name, content, why) in [
        ("empty", Vec::new(), "is empty"),
        ("text", b"text\n".repeat(500), "is neither a tar nor a directory"),
        ("short.tar", fs::read(good).unwrap()[..513].to_vec(), "is cut short"),
        ("bad.tar", damaged, "a header with a wrong checksum"),
    ] {
        let path = store.sandbox.write(name, &content);
        store.refuses(&[good, &path], 125, &[&path, why]);
    }
    for (_, pack) in &PACKS[1..] {
        let path = store.sandbox.write("packed", &pack(b"text"));
        store.refuses(&[good, &path], 125, &[&path]);
        let whole = pack(&Tar::new().file("f", b"some content").finish());
        let path = store.sandbox.write("cut", &whole[..whole.len() - 10]);
        store.refuses(&[&path], 125, &[&path, "cut short"]);
    }
    store.refuses(&["-"], 125, &["-: is empty"]);
    store.refuses(&[good, "-", "-"], 2, &["more than once"]);
}

#[test]
fn a_directory_that_cannot_be_a_layer_is_refused() {
    let store = Refusing::new();
    let good = store.good.as_str();
    let dir = store.sandbox.path("dir");
    fs::create_dir(&dir).unwrap();
    symlink("dir", store.sandbox.path("to-dir")).unwrap();
    symlink("lost", store.sandbox.path("to-nothing")).unwrap();
    store.refuses(&["to-nothing"], 1, &["no such file: to-nothing"]);
    // Some layers of overlayfs and of ours are not whole without those below.
    fs::write(dir.join("part"), "").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(dir.join("part"), "trusted.overlay.metacopy", b"", flags).unwrap();
    store.refuses(&[good, "dir"], 125, &["dir/part", "another layer's file"]);
    fs::remove_file(dir.join("part")).unwrap();
    // A link to a directory names it, as a word of the command line.
    fs::write(dir.join("f"), "f").unwrap();
    assert_eq!(store.sandbox.run(&["build", "to-dir"]).lines().len(), 1);
}

#[test]
fn what_cannot_be_asked_for_is_refused_before_anything_is_read() {
    let store = Refusing::new();
    let good = store.good.as_str();
    store.refuses(&[], 2, &["nothing to build"]);
    store.refuses(&["--from", "nobody", good], 1, &["no such image: nobody"]);
    store.refuses(&["-t", "UPPER", good], 2, &["UPPER"]);
    store.refuses(&["--config", "Cmd", good], 2, &["no KEY=VALUE"]);
    store.refuses(&["--config", "Colour=red", good], 2, &["Colour", "Entrypoint"]);
    store.refuses(&["--config", "Env=PATH", good], 2, &["Env", "NAME=VALUE"]);
    store.refuses(&["--change", "RUN make", good], 2, &["RUN"]);
    store.refuses(&["--config-from", "nowhere", good], 1, &["no such file: nowhere"]);
    for (content, why) in [
        ("", "no image config"),
        ("[]", "no JSON object"),
        (r#"{"config":[]}"#, "its config is no object"),
        (r#"{"Env":"A=1"}"#, "no image config"),
    ] {
        let path = store.sandbox.write("config.json", content.as_bytes());
        store.refuses(&["--config-from", &path, good], 125, &[&path, why]);
    }
    let large = format!("{}{{}}", " ".repeat(5 << 20));
    let path = store.sandbox.write("large.json", large.as_bytes());
    store.refuses(&["--config-from", &path, good], 125, &[&path, "too large for a document"]);
    store.refuses(&["--iidfile", "no/such/dir", good], 125, &["no/such"]);
    let output = store.sandbox.command(&["build", good]).env("SOURCE_DATE_EPOCH", "now").output().expect("it runs");
    super::cli::Output::from(output).assert_refused(2, &["SOURCE_DATE_EPOCH"]);
}

#[test]
fn an_image_below_that_has_lost_a_layer_is_refused() {
    let store = Refusing::new();
    for entry in fs::read_dir(store.sandbox.root().join("layers")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            fs::remove_file(path).unwrap();
        }
    }
    store.refuses(&["--from", "base", &store.good], 125, &["damaged", "is missing"]);
}

#[test]
fn a_directory_that_goes_or_changes_while_it_is_read_makes_no_image() {
    let store = Refusing::new();
    let dir = store.sandbox.path("dir");
    fs::create_dir(&dir).unwrap();
    // It is read after all of standard input.
    fs::write(dir.join("f"), vec![b'x'; 100_000]).unwrap();
    let before = store.sandbox.store();
    let mut command = store.sandbox.command(&["--quiet", "build", "-", "dir"]);
    command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("the program starts");
    let mut pipe = child.stdin.take().expect("a pipe");
    let tar = fs::read(&store.good).unwrap();
    std::io::Write::write_all(&mut pipe, &tar[..600]).unwrap();
    assert!(super::processes::eventually(|| !store.sandbox.debris().is_empty()), "it has begun");
    fs::remove_dir_all(&dir).unwrap();
    std::io::Write::write_all(&mut pipe, &tar[600..]).unwrap();
    drop(pipe);
    let output: super::cli::Output = child.wait_with_output().expect("it ends").into();
    output.assert_refused(125, &["dir", "No such file"]);
    store.sandbox.store().assert_same(&before, "the directory went");
}

#[test]
fn a_disk_that_runs_full_anywhere_leaves_the_store_as_it_was() {
    const EXT4: [&str; 9] = ["-q", "-b", "1024", "-m", "0", "-N", "400", "-J", "size=1"];
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let disk = Disk::new(temporary.path(), "disk", 6, "mkfs.ext4", &EXT4);
    let dir = temporary.path().join("dir");
    fs::create_dir(&dir).unwrap();
    (0..20).for_each(|number| fs::write(dir.join(number.to_string()), vec![number; 4000]).unwrap());
    let tar = temporary.path().join("layer.tar");
    fs::write(&tar, Tar::new().file("big", &[1; 40_000]).finish()).unwrap();
    let root = disk.path().join("store");
    let listing = |root: &Path| {
        let mut listing = Listing::with_identities(root).without("tmp").without("lock");
        for name in ["diff", "layers", "images", "images/names", "containers", "containers/names", ""] {
            listing.0.insert(name.into(), "a directory".into());
        }
        listing
    };
    let build = || {
        let mut command = std::process::Command::new(PROGRAM);
        command.args(["--quiet", "build", "-t", "made"]).args([&tar, &dir]).env("LAYERCTL_ROOT", &root);
        super::cli::Output::from(command.output().expect("the program starts"))
    };
    let mut list = std::process::Command::new(PROGRAM);
    assert!(list.arg("images").env("LAYERCTL_ROOT", &root).output().expect("it starts").status.success());
    let works = (0..4000).step_by(16).find(|blocks| {
        disk.leave_blocks(*blocks);
        let before = listing(&root);
        let output = build();
        if output.code == 0 {
            return true;
        }
        output.assert_refused(125, &["cannot ", "store", "No space left on device"]);
        listing(&root).assert_same(&before, &format!("{blocks} blocks"));
        false
    });
    assert!(works.is_some_and(|blocks| blocks > 60), "{works:?}: it ran full before");
}
