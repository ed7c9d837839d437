//! What dead processes have left is taken away; what living ones make is not; many work at once.

use std::fs::{self, File};
use std::path::PathBuf;
use std::slice::from_ref;

use rustix::fs::{FlockOperation, flock};

use super::archives::{sample, single};
use super::cli::{Output, Sandbox};
use super::generator::{Image, docker_before_25, docker_since_25, oci, sha256};
use super::listing::Listing;

fn import(sandbox: &Sandbox, image: &Image) -> Output {
    sandbox.run_piped(&["import", "-"], &docker_since_25(from_ref(image)).tar())
}

/// A staging directory with something deep in it, as a killed import leaves it.
fn stage(sandbox: &Sandbox, name: &str, has_owner: bool) -> PathBuf {
    let dir = sandbox.root().join("tmp").join(name);
    let deep = dir.join("layer-0/diff/usr/share");
    fs::create_dir_all(&deep).expect("directories can be made");
    fs::write(deep.join("half a file"), "half").expect("a file can be written");
    std::os::unix::fs::symlink("/", deep.join("link")).expect("a link can be made");
    if has_owner {
        File::create(dir.join("owner")).expect("a file can be made");
    }
    dir
}

#[test]
fn the_staging_of_dead_processes_is_collected() {
    let sandbox = Sandbox::new();
    import(&sandbox, &single("first")).lines();
    let dead = [stage(&sandbox, "0123456789abcdef", true), stage(&sandbox, "fedcba9876543210", false)];
    let alive = stage(&sandbox, "aaaaaaaaaaaaaaaa", true);
    let owner = File::open(alive.join("owner")).expect("it is there");
    flock(&owner, FlockOperation::LockExclusive).expect("nobody else has it");
    let before = Listing::with_identities(&alive);

    import(&sandbox, &single("second")).lines();
    assert!(dead.iter().all(|dir| !dir.exists()), "{:?}", sandbox.debris());
    Listing::with_identities(&alive).assert_same(&before, "a living process keeps its staging");

    // Also for a child that another test has just forked.
    flock(&owner, FlockOperation::Unlock).expect("it is ours");
    import(&sandbox, &single("third")).lines();
    assert_eq!(sandbox.debris(), Vec::<String>::new());
}

#[test]
fn a_refused_import_collects_too() {
    let sandbox = Sandbox::new();
    import(&sandbox, &single("first")).lines();
    stage(&sandbox, "0123456789abcdef", true);
    sandbox.run_piped(&["import", "-"], &docker_since_25(&[]).tar()).assert_refused(125, &["has no image in it"]);
    assert_eq!(sandbox.debris(), Vec::<String>::new());
}

#[test]
fn what_no_record_names_is_replaced() {
    let sandbox = Sandbox::new();
    sandbox.run(&["images"]).lines();
    let image = sample();
    let diff_id = sha256(&image.layers[0]);
    let diff = sandbox.root().join("diff").join(&diff_id);
    fs::create_dir_all(diff.join("etc/old")).expect("directories can be made");
    fs::write(diff.join("stray"), "x").expect("a file can be written");
    for extension in ["index", "split"] {
        let path = sandbox.root().join("layers").join(format!("{diff_id}.{extension}"));
        fs::write(path, "nothing that could be read").expect("a file can be written");
    }
    // An image without its record is none either.
    let half = sandbox.root().join("images").join(image.id());
    fs::create_dir(&half).expect("a directory can be made");
    fs::write(half.join("config"), "half").expect("a file can be written");

    import(&sandbox, &image).lines();
    assert!(!diff.join("stray").exists() && !diff.join("etc/old").exists());
    assert_eq!(fs::read(diff.join("etc/name")).expect("the layer is there"), b"first\n");
    assert_eq!(fs::read(half.join("config")).expect("the image is there"), image.config);
    assert_eq!(sandbox.debris(), Vec::<String>::new());
    // The layer can be used.
    let output = sandbox.run(&["run-mount", "--name", "c", "sample:1"]);
    let mountpoint = output.lines()[0].split(' ').nth(1).expect("the mountpoint is printed").to_owned();
    assert_eq!(fs::read(format!("{mountpoint}/link")).expect("the file is there"), b"second\n");
    sandbox.run(&["rm", "-f", "c"]).lines();
}

#[test]
fn an_import_that_is_killed_leaves_nothing_that_lasts() {
    use std::io::Write as _;
    let sandbox = Sandbox::new();
    import(&sandbox, &single("first")).lines();
    let before = sandbox.store();
    let archive = docker_before_25(&[sample()]).tar();
    // It waits for the rest of the archive, with a layer staged.
    let mut command = sandbox.command(&["import", "-"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().expect("the program starts");
    let pipe = child.stdin.as_mut().expect("there is a pipe");
    pipe.write_all(&archive[..archive.len() / 2]).expect("the program reads");
    let has_layer = |name: &String| {
        let Ok(entries) = fs::read_dir(sandbox.root().join("tmp").join(name)) else { return false };
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("layer-"))
    };
    while !sandbox.debris().iter().any(has_layer) {
        assert!(child.try_wait().expect("it is ours").is_none(), "the program waits for more");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    sandbox.store().assert_same(&before, "nothing was published");
    assert_eq!(sandbox.debris().len(), 1);
    import(&sandbox, &single("second")).lines();
    assert_eq!(sandbox.debris(), Vec::<String>::new());
}

#[test]
fn eight_at_once() {
    let sandbox = Sandbox::new();
    let shared = sample();
    let own = |n: usize| {
        let layers = [shared.layers.clone(), single(&format!("own{n}")).layers].concat();
        Image::new("amd64", layers, &[&format!("own{n}:1")])
    };
    // Into a store that is not there yet: four times the same image, and four others over its layers.
    let archives: Vec<(Image, Vec<u8>)> = (0..8)
        .map(|n| match n {
            0 | 2 => (shared.clone(), docker_since_25(from_ref(&shared)).tar()),
            4 | 6 => (shared.clone(), oci(from_ref(&shared)).tar()),
            n => (own(n), docker_before_25(&[own(n)]).tar()),
        })
        .collect();
    std::thread::scope(|scope| {
        for (n, (image, archive)) in archives.iter().enumerate() {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let output = match n % 3 {
                    0 => sandbox.run_piped(&["import", "-"], archive),
                    _ => sandbox.run(&["import", &sandbox.write(&format!("{n}.tar"), archive)]),
                };
                assert_eq!(output.lines(), [format!("sha256:{}", image.id())]);
            });
        }
    });
    assert_eq!(sandbox.debris(), Vec::<String>::new());
    assert_eq!(sandbox.run(&["images"]).lines().len(), 6);
    assert_eq!(fs::read_dir(sandbox.root().join("diff")).expect("it is there").count(), 3 + 4);
    let names: Vec<String> = (0..8).filter(|n| n % 2 == 1).map(|n| format!("own{n}:1")).collect();
    for name in &names {
        let dirs = sandbox.run(&["inspect", name]).json()[0]["GraphDriver"]["Data"]["LowerDir"].clone();
        let dirs: Vec<&str> = dirs.as_str().expect("it is text").split(':').collect();
        assert_eq!(dirs.len(), 4);
        assert_eq!(fs::read(format!("{}/etc/name", dirs[2])).expect("the file is there"), b"second\n");
    }

    // And away again, at once with an import that needs what they share.
    let archive = docker_since_25(&[own(8)]).tar();
    std::thread::scope(|scope| {
        for name in names.iter().map(String::as_str).chain(["sample:1"]) {
            let sandbox = &sandbox;
            scope.spawn(move || sandbox.run(&["rmi", name]).lines().len());
        }
        scope.spawn(|| sandbox.run_piped(&["import", "-"], &archive).lines().len());
    });
    assert_eq!(sandbox.debris(), Vec::<String>::new());
    let left = own(8).layers;
    assert_eq!(fs::read_dir(sandbox.root().join("diff")).expect("it is there").count(), left.len());
    sandbox.run(&["run-mount", "--name", "c", "own8:1"]).lines();
    sandbox.run(&["rm", "-f", "c"]).lines();
}
