//! What a process that was killed, or a damaged file, leaves in the store, and that it goes again.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use layerctl::commands::{self, ImportLimits, ImportOptions, Policy, TakenAs};
use layerctl::progress::Quiet;
use layerctl::store::{MountRecord, NewContainer, Removed, Store};

fn store_with_image(root: &Path) -> Store {
    // Whatever another test has made the umask.
    fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let store = Store::open(root).unwrap();
    import(&store);
    store
}

fn import(store: &Store) {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/practice.docker.tar");
    let options = ImportOptions {
        names: vec!["practice".parse().unwrap()],
        platforms: "linux/amd64".parse().unwrap(),
        taken_as: TakenAs::Found,
        limits: ImportLimits::default(),
        policy: Policy::Compat,
        report: None,
    };
    commands::import(store, &archive, &options, &Quiet).unwrap();
}

fn listing(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in ["diff", "layers", "images", "images/names", "containers", "containers/names", "mnt", "tmp"] {
        found.extend(fs::read_dir(root.join(dir)).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.retain(|path| path != &root.join("tmp/record"));
    found.sort();
    found
}

#[test]
fn what_a_killed_process_has_put_into_place_goes_with_the_next_change() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_with_image(dir.path());
    let kept = store
        .create_container(&NewContainer {
            name: Some("kept".into()),
            image: "practice".into(),
            ..NewContainer::default()
        })
        .unwrap();
    let before = listing(dir.path());
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    fs::create_dir_all(dir.path().join("tmp/dead/layer-0/diff")).unwrap();
    fs::create_dir_all(dir.path().join("diff").join(&a).join("sub")).unwrap();
    fs::create_dir_all(dir.path().join("mnt").join(&b)).unwrap();
    for name in [format!("layers/{a}.index"), format!("layers/{a}.split"), format!("layers/{b}")] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    fs::write(dir.path().join("containers/names/lost"), format!("{b}\n")).unwrap();
    drop(store.stage().unwrap());
    assert_eq!(listing(dir.path()), before);
    assert_eq!(store.find_container("kept").unwrap().id, kept.id);
}

#[test]
fn the_files_of_a_living_owner_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_with_image(dir.path());
    let staging = store.stage().unwrap();
    fs::write(staging.dir().join("x"), "").unwrap();
    drop(store.stage().unwrap());
    assert!(staging.dir().join("x").exists());
}

#[test]
fn a_damaged_image_can_be_removed_with_its_layers_and_imported_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_with_image(dir.path());
    let id = store.images().unwrap()[0];
    let config = dir.path().join("images").join(id.hex()).join("config");
    fs::write(&config, "{}").unwrap();
    import(&store);
    assert!(store.image(id).is_ok(), "an import replaces what is damaged");

    fs::write(&config, "{}").unwrap();
    fs::remove_file(dir.path().join("images").join(id.hex()).join("record.json")).unwrap();
    let layers = store.layers().unwrap();
    let (removed, left) = store.remove_image("practice", false).unwrap();
    left.unwrap();
    assert_eq!(removed.iter().filter(|one| matches!(one, Removed::Layer(_))).count(), layers.len());
    assert_eq!(fs::read_dir(dir.path().join("diff")).unwrap().count(), 0);
}

#[test]
fn a_store_in_a_directory_that_is_open_to_all_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Store::open(dir.path()).unwrap();
    for name in ["diff", "layers", "images", "containers", "tmp"] {
        assert_eq!(fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o7777, 0o700, "{name}");
    }
}

#[test]
fn a_container_that_was_removed_cannot_be_locked() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_with_image(dir.path());
    let container = store
        .create_container(&NewContainer { name: None, image: "practice".into(), ..NewContainer::default() })
        .unwrap();
    fs::remove_file(container.dir().join("record.json")).unwrap();
    assert!(matches!(container.lock(), Err(layerctl::Error::NotFound { .. })));
}

/// A command that puts a dead mount in order may be slower than the next server.
#[test]
fn the_record_of_a_later_mount_is_not_overwritten_by_what_is_known_of_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_with_image(dir.path());
    let new = NewContainer { name: Some("c".into()), image: "practice".into(), ..NewContainer::default() };
    let container = store.create_container(&new).unwrap();
    let record = |live: &str, pid| MountRecord {
        mountpoint: "/mnt".into(),
        pid,
        started: 0,
        read_only: false,
        command: false,
        live: live.to_owned(),
        ended: false,
        overlay: None,
        lost: None,
    };
    let (earlier, later) = (record("si_1", 10), record("si_2", 11));
    store.set_mount(&container, &earlier).unwrap();
    store.set_mount(&container, &later).unwrap();
    store.change_mount(&container, &earlier, |mount| mount.ended = true).unwrap();
    assert_eq!(container.mount().unwrap(), Some(later.clone()));
    store.change_mount(&container, &later, |mount| mount.ended = true).unwrap();
    assert_eq!(container.mount().unwrap(), Some(MountRecord { ended: true, ..later }));
}
