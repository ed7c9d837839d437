//! Hostile tars and archives, with a world around the store to which nothing may happen.
//!
//! Each is made while the tests run (`fixtures/hostile.rs`), since many name a place of the machine. Of each that is
//! refused: the sentence names archive, layer and entry, and the store is as before, down to inodes and times of
//! change. Of each that is taken: the tree is what Docker would show, and the tar comes back bit for bit. Of all:
//! nothing beside the store is opened, read, made, changed or removed; inotify and a listing of all there is tell.
//!
//! The groups are those of a checklist made of the CVEs of docker, podman, containerd, umoci and of tar libraries.
//!
//! | group | tests |
//! |---|---|
//! | 1 names | `hostile_names::names_*`; `tarball::path`; `tarball::tests::links`, `no_path_leaves_the_layer`; `import_refusals::layers_that_reach_out` |
//! | 2 odd whiteouts | `hostile_names::whiteouts_*`; `tarball::tests::whiteouts_are_in_the_index_and_on_disk` |
//! | 3 whiteouts and the layer's own files | `hostile_names::whiteouts_are_of_lower_layers_only` |
//! | 4 parents that are or become links | `hostile_links::parents_*`, `tarball::tests::links`, `hostile_links::what_changes_its_type_*` |
//! | 5 hard links | `hostile_links::hard_links_*`; `tarball::tests::no_path_leaves_the_layer` |
//! | 6 duplicates | `hostile_links::the_last_of_several_*`; `tarball::tests::replaced_content_is_kept_for_the_tar` |
//! | 7 devices | `hostile_links::devices_*`; `hostile_marks` (0:0) |
//! | 8 set-id, capabilities | `hostile_links::rights_*`; `import_metadata` |
//! | 9 extended attributes | `hostile_headers::attributes_*`; `hostile_marks`; `import_metadata` |
//! | 10 numbers | `hostile_headers::numbers_*`; `tarball::header`, `tarball::pax` |
//! | 11 PAX and sparse | `hostile_headers::extended_*`, `hostile_headers::sparse_*`; `tarball::sparse` |
//! | 12 ends, members, frames | `hostile_ends`; `tarball::decompress`; `import_refusals::an_archive_cut_short_anywhere` |
//! | 13 bombs | `hostile_limits`; `review_archive`; `store_full` (no space, no inodes) |
//! | 14 digests and sizes | `import_refusals::digests_and_sizes_that_are_wrong`; `hostile_archives::descriptors_*` |
//! | 15 names in manifests | `hostile_archives::manifests_*`; `import_refusals::members_that_reach_out` |
//! | 16 content used later | `hostile_archives::what_an_image_has_is_never_opened_*`; `mount_command` (users), `cp` (links) |
//! | 17 killed, full | `store_full`, `store_leftovers`, `store_durable`; `scripts/torture` |

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::Errno;

use super::archives::podman;
use super::cli::{Output, Sandbox};
use super::generator::{Image, docker_since_25, gzip, oci, sha256};
use super::listing::Listing;

/// A store with an image in it, and beside it what an attacker would like to reach.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    /// Images that were taken, to be checked once more at the end.
    taken: std::cell::Cell<usize>,
}

impl World {
    pub(crate) fn new() -> Self {
        let world = Self { sandbox: Sandbox::new(), taken: 0.into() };
        let at = |name: &str| world.sandbox.path("outside").join(name);
        fs::create_dir_all(at("dir/inner")).expect("a directory can be made");
        for name in ["victim", "dir/victim", "dir/inner/victim", "passwd"] {
            fs::write(at(name), b"intact").expect("a file can be made");
        }
        rustix::fs::chmod(at("victim"), Mode::from_raw_mode(0o600)).expect("it is ours");
        rustix::fs::chmod(at("dir"), Mode::from_raw_mode(0o700)).expect("it is ours");
        std::os::unix::fs::symlink("victim", at("link")).expect("a link can be made");
        std::os::unix::fs::symlink("dir", at("dirlink")).expect("a link can be made");
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).expect("a fifo can be made");
        let other = Image::new("amd64", vec![super::generator::Tar::new().file("other", b"x").finish()], &["other:1"]);
        world.sandbox.run_piped(&["import", "-"], &docker_since_25(&[other]).tar()).lines();
        world
    }

    /// The whole path of something beside the store.
    pub(crate) fn outside(&self, name: &str) -> String {
        let dir = self.sandbox.path("outside").canonicalize().expect("it is there");
        dir.join(name).to_str().expect("a path of text").to_owned()
    }

    /// Runs the program; nothing may happen outside meanwhile.
    #[track_caller]
    pub(crate) fn guarded(&self, what: &str, run: impl FnOnce() -> Output) -> Output {
        let outside = self.sandbox.path("outside");
        let before = Listing::with_identities(&outside);
        let watch = watch(&[&outside, &outside.join("dir"), &outside.join("dir/inner")]);
        let output = run();
        let mut events = [0; 4096];
        let seen = rustix::io::read(&watch, &mut events);
        assert_eq!(seen.err(), Some(Errno::AGAIN), "{what}: something outside was opened or changed: {output:?}");
        Listing::with_identities(&outside).assert_same(&before, what);
        let beside: Vec<_> = names(&self.sandbox.path(""));
        let known = |name: &&String| ["outside", "store", "layer.archive"].contains(&name.as_str());
        assert!(beside.iter().all(|name| known(&name)), "{what}: {beside:?}");
        output
    }

    /// Imports bytes from a file.
    #[track_caller]
    pub(crate) fn import(&self, what: &str, archive: &[u8], more: &[&str]) -> Output {
        let path = self.sandbox.write("layer.archive", archive);
        self.guarded(what, || self.sandbox.run(&[&["import", &path], more].concat()))
    }

    /// That an archive is refused with all of `words`, from a file and through a pipe.
    #[track_caller]
    pub(crate) fn refuses_archive(&self, what: &str, archive: &[u8], more: &[&str], words: &[&str]) {
        let before = self.sandbox.store();
        let check = |output: &Output, name: &str| {
            println!("{what}: {}", output.stderr.trim_end());
            output.assert_refused(125, &[&[name], words].concat());
            self.sandbox.store().assert_same(&before, what);
            assert_eq!(self.sandbox.debris(), Vec::<String>::new(), "{what}");
        };
        check(&self.import(what, archive, more), "layer.archive: ");
        let words = [&["import", "-"], more].concat();
        check(&self.guarded(what, || self.sandbox.run_piped(&words, archive)), "error: -: ");
    }

    /// That a layer is refused as every form of an archive, with the names of archive, layer and entry in the sentence.
    #[track_caller]
    pub(crate) fn refuses(&self, what: &str, layer: &[u8], entry: &str, why: &str) {
        self.refuses_with(what, layer, &[], entry, why);
    }

    #[track_caller]
    pub(crate) fn refuses_with(&self, what: &str, layer: &[u8], more: &[&str], entry: &str, why: &str) {
        let image = Image::new("amd64", vec![layer.to_vec()], &[]);
        let archives = std::slice::from_ref(&image);
        let (plain, packed) = (format!("{}.tar: ", sha256(layer)), sha256(&gzip(layer)));
        self.refuses_archive(what, &podman(archives, <[u8]>::to_vec).tar(), more, &[&plain, entry, why]);
        self.refuses_archive(&format!("{what}, oci"), &oci(archives).tar(), more, &[&packed, entry, why]);
        self.refuses_archive(&format!("{what}, a root file system"), layer, more, &[entry, why]);
    }

    /// That an image of these layers, lowest first, is taken, shows this tree, and gives its tars back. A line is
    /// `d PATH`, `f PATH CONTENT`, `l PATH -> TARGET`, `h PATH = PATH` or `c PATH MAJOR:MINOR`.
    #[track_caller]
    pub(crate) fn takes(&self, what: &str, layers: &[Vec<u8>], tree: &[&str]) {
        let name = format!("taken{}:1", self.taken.replace(self.taken.get() + 1));
        let image = Image::new("amd64", layers.to_vec(), &[&name]);
        let output = self.import(what, &docker_since_25(std::slice::from_ref(&image)).tar(), &[]);
        assert_eq!(output.lines(), [format!("sha256:{}", image.id())], "{what}");
        assert_eq!(self.sandbox.debris(), Vec::<String>::new(), "{what}");
        let exported = self.guarded(what, || self.sandbox.run(&["export", &name, "-o", "layer.archive"]));
        exported.lines();
        let shown = lines_of(&fs::read(self.sandbox.path("layer.archive")).expect("it was written"));
        let mut expected: Vec<String> = tree.iter().map(|line| (*line).to_owned()).collect();
        expected.sort();
        assert_eq!(shown, expected, "{what}");
        self.guarded(what, || self.sandbox.run(&["save", &name, "-o", "layer.archive"])).lines();
        let saved = fs::read(self.sandbox.path("layer.archive")).expect("it was written");
        for layer in layers {
            let member = format!("blobs/sha256/{}", sha256(layer));
            assert!(member_of(&saved, &member) == *layer, "{what}: {member} came back different");
        }
        let verified = self.guarded(what, || self.sandbox.run(&["verify", &name]));
        assert_eq!((verified.code, verified.stdout.as_str()), (0, ""), "{what}: {verified:?}");
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("it can be read");
    entries.map(|entry| entry.expect("it can be read").file_name().into_string().expect("text")).collect()
}

/// Tells of whatever happens to these directories and what is in them.
fn watch(dirs: &[&Path]) -> OwnedFd {
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).expect("inotify is there");
    // Not that something is closed: what this process has read may still be open for a moment in a child that another
    // test's thread has forked.
    let events = WatchFlags::ALL_EVENTS.difference(WatchFlags::CLOSE);
    for dir in dirs {
        inotify::add_watch(&watch, *dir, events).expect("it is there");
    }
    watch
}

fn member_of(archive: &[u8], name: &str) -> Vec<u8> {
    use std::io::Read as _;
    for entry in tar::Archive::new(archive).entries().expect("it is a tar") {
        let mut entry = entry.expect("it is a tar");
        if &*entry.path_bytes() == name.as_bytes() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("it is whole");
            return content;
        }
    }
    panic!("{name} is not in the archive");
}

/// A tar's entries as sorted lines; the root is left out.
fn lines_of(tar: &[u8]) -> Vec<String> {
    use std::io::Read as _;
    let mut lines = Vec::new();
    for entry in tar::Archive::new(tar).entries().expect("it is a tar") {
        let mut entry = entry.expect("it is a tar");
        let path = entry.path_bytes().escape_ascii().to_string();
        let path = path.trim_end_matches('/').to_owned();
        if path == "." {
            continue;
        }
        let target = entry.link_name_bytes().unwrap_or_default().escape_ascii().to_string();
        lines.push(match entry.header().entry_type() {
            tar::EntryType::Directory => format!("d {path}"),
            tar::EntryType::Symlink => format!("l {path} -> {target}"),
            tar::EntryType::Link => format!("h {path} = {target}"),
            tar::EntryType::Char => {
                let device = |number: std::io::Result<Option<u32>>| number.expect("a number").expect("a device");
                let (major, minor) = (entry.header().device_major(), entry.header().device_minor());
                format!("c {path} {}:{}", device(major), device(minor))
            }
            tar::EntryType::Fifo => format!("p {path}"),
            _ => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("it is whole");
                format!("f {path} {}", content.escape_ascii())
            }
        });
    }
    lines.sort();
    lines
}
