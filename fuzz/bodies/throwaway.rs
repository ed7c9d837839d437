//! A store in memory that an import either leaves as it was, or leaves whole.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use layerctl::Error;
use layerctl::commands::{ImportLimits, ImportOptions, Policy, Save, SaveForm, TakenAs, Verify, import, save, verify};
use layerctl::id::ImageId;
use layerctl::image::{Platform, Platforms};
use layerctl::progress::Quiet;
use layerctl::store::Store;
use tempfile::TempDir;

use super::{is_one_sentence, sandbox};

/// Where an archive's bytes are when they are imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    File,
    Pipe,
}

pub(crate) struct Throwaway {
    dir: TempDir,
    store: Store,
    empty: BTreeMap<PathBuf, u64>,
}

thread_local! {
    static STORE: std::cell::RefCell<Option<Throwaway>> = const { std::cell::RefCell::new(None) };
}

/// All files of a store.
fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).expect("it is there") {
            let path = entry.expect("it can be read").path();
            let stat = fs::symlink_metadata(&path).expect("it is there");
            if stat.is_dir() {
                todo.push(path.clone());
            }
            found.insert(path, if stat.is_dir() { 0 } else { stat.size() });
        }
    }
    found
}

fn options() -> ImportOptions {
    let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
    ImportOptions {
        names: Vec::new(),
        platforms: Platforms::Best(platform),
        taken_as: TakenAs::Found,
        limits: ImportLimits::default(),
        policy: Policy::Compat,
        report: None,
    }
}

impl Throwaway {
    fn new() -> Self {
        let dir = sandbox::temporary();
        let store = Store::open(&dir.path().join("store")).expect("a store can be made").without_sync();
        let empty = files(store.root());
        Self { dir, store, empty }
    }

    /// Imports a directory or file.
    fn import(&self, source: &Path) -> Option<Vec<ImageId>> {
        let error = match import(&self.store, source, &options(), &Quiet) {
            Ok(imported) => return Some(imported.ids),
            Err(error) => error,
        };
        is_one_sentence(&error);
        match error {
            Error::BadArchive { .. } | Error::Usage(_) | Error::Unsupported(_) => {}
            // The largest file that the file system can have.
            Error::Io { source, .. } if source.raw_os_error() == Some(libc::EFBIG) => {}
            error => panic!("a good disk is no reason: {error:?}"),
        }
        assert_eq!(files(self.store.root()), self.empty, "a failed import left something in the store");
        None
    }

    /// What was imported is whole, and comes out as it came in.
    fn is_whole(&self, ids: &[ImageId]) {
        assert!(!ids.is_empty(), "an import of nothing");
        let found = verify(&self.store, &Verify::default(), &Quiet).expect("the store can be read");
        assert!(found.is_empty(), "{found:?}");
        let output = self.dir.path().join("saved.tar");
        let images: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let request = Save { images, output: output.clone(), form: SaveForm::default(), ..Save::default() };
        save(&self.store, &request, &Quiet).expect("what was imported can be saved");
        let second = Self::new();
        let mut again = second.import(&output).expect("what was saved can be imported");
        let mut ids = ids.to_vec();
        for list in [&mut again, &mut ids] {
            list.sort_unstable();
            list.dedup();
        }
        assert_eq!(again, ids, "the images that came back");
        for id in ids {
            let config = |store: &Store| store.image(id).expect("it is there").config;
            assert!(config(&self.store) == config(&second.store), "the config came back");
        }
    }
}

/// Imports what `make` makes in an empty directory; says whether it was taken.
pub(crate) fn imported(make: impl FnOnce(&Path) -> PathBuf) -> bool {
    // It stays as long as it is as it was.
    let store = STORE.with(|store| store.borrow_mut().take()).unwrap_or_else(Throwaway::new);
    let source = sandbox::temporary();
    let source_path = make(source.path());
    match store.import(&source_path) {
        Some(ids) => {
            store.is_whole(&ids);
            true
        }
        None => {
            STORE.with(|place| *place.borrow_mut() = Some(store));
            false
        }
    }
}

/// Imports an archive's bytes.
pub(crate) fn imported_bytes(bytes: &[u8], from: From) -> bool {
    match from {
        From::File => imported(|dir| {
            let file = dir.join("archive.tar");
            fs::write(&file, bytes).expect("a file can be made");
            file
        }),
        From::Pipe => {
            let (reader, writer) = rustix::pipe::pipe().expect("a pipe can be made");
            let path = PathBuf::from(OsString::from(format!("/proc/self/fd/{}", reader.as_raw_fd())));
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    // Who reads may have seen enough.
                    let _ = std::io::Write::write_all(&mut fs::File::from(writer), bytes);
                });
                let taken = imported(|_| path);
                drop(reader);
                taken
            })
        }
    }
}
