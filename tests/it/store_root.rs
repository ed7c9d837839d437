//! What may become a store, and what is not touched.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::archives::single;
use super::cli::Sandbox;
use super::generator::docker_since_25;

/// Files of somebody else, where a store has what goes when nothing needs it.
const OTHERS: &[&str] = &["tmp/precious/file", "diff/work/file", "layers/file", "images/holiday/1.jpg", "file"];

#[test]
fn a_directory_with_files_of_others_is_no_store() {
    for file in OTHERS {
        let sandbox = Sandbox::new();
        let archive = sandbox.write("a.tar", &docker_since_25(&[single("a")]).tar());
        let root = sandbox.root();
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory can be made");
        fs::write(&path, "precious").expect("a file can be written");
        // Whatever another test has made the umask.
        fs::set_permissions(&root, PermissionsExt::from_mode(0o700)).expect("it is ours");
        let first = fs::read_dir(&root).expect("it is there").count();
        let named = root.canonicalize().expect("it is there").display().to_string();
        for words in [&["import", &archive][..], &["prune"], &["images"], &["verify"], &["rm", "-f", "x"]] {
            sandbox.run(words).assert_refused(125, &[&named, "is no store and not empty", "meta.json"]);
        }
        assert_eq!(fs::read(&path).expect("it is there"), b"precious");
        assert_eq!(fs::read_dir(&root).expect("it is there").count(), first, "nothing is made in it");
    }
}

#[test]
fn what_was_cut_short_while_it_was_made_becomes_a_store() {
    let sandbox = Sandbox::new();
    let archive = sandbox.write("a.tar", &docker_since_25(&[single("a")]).tar());
    for dir in ["diff", "images/names", "tmp", "lost+found"] {
        fs::create_dir_all(sandbox.root().join(dir)).expect("a directory can be made");
    }
    for file in ["lock", "tmp/record"] {
        fs::write(sandbox.root().join(file), "").expect("a file can be written");
    }
    fs::set_permissions(sandbox.root(), PermissionsExt::from_mode(0o700)).expect("it is ours");
    assert_eq!(sandbox.run(&["import", &archive]).lines().len(), 1);
    assert_eq!(sandbox.run(&["--quiet", "images"]).lines().len(), 1);
}

#[test]
fn a_file_is_no_store() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("store", b"precious");
    sandbox.run(&["images"]).assert_refused(125, &[&file, "Not a directory"]);
    assert_eq!(fs::read(&file).expect("it is there"), b"precious");
}
