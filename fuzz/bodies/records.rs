//! One record of a store is what the bytes say; the first byte says which. Everything that only reads is asked.

use std::fs;
use std::path::{Path, PathBuf};

use layerctl::commands::{ImportLimits, ImportOptions, Policy, TakenAs, Verify, df, import, inspect, prune, verify};
use layerctl::image::{Platform, Platforms};
use layerctl::progress::Quiet;
use layerctl::store::{MountRecord, NewContainer, PruneScope, Store};
use tempfile::TempDir;

use super::{is_one_sentence, sandbox, tar};

/// A store with one of everything.
struct Template {
    _dir: TempDir,
    root: PathBuf,
    /// Every record, with what it was.
    records: Vec<(PathBuf, Vec<u8>)>,
    image: String,
    layer: String,
}

const MOUNTPOINT: &str = "/mnt/layerctl-fuzz";
const LIVE: &str = "si_0123456789abcdef";

thread_local! {
    static TEMPLATE: Template = Template::new();
}

impl Template {
    fn new() -> Self {
        let dir = sandbox::temporary();
        let root = dir.path().join("store");
        let store = Store::open(&root).expect("a store can be made").without_sync();
        let archive = dir.path().join("root.tar");
        let mut bytes = Vec::new();
        let mut header = tar::header(b'0');
        tar::set(&mut header, tar::NAME, b"dir/file");
        tar::push(&mut bytes, header, b"content");
        fs::write(&archive, tar::finish(bytes)).expect("a file can be made");
        let platform = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let options = ImportOptions {
            names: vec!["image:tag".parse().expect("a name")],
            platforms: Platforms::Best(platform),
            taken_as: TakenAs::Found,
            limits: ImportLimits::default(),
            policy: Policy::Compat,
            report: None,
        };
        let ids = import(&store, &archive, &options, &Quiet).expect("it is a root file system").ids;
        let new = NewContainer { name: Some("box".into()), image: "image:tag".into(), ..NewContainer::default() };
        let container = store.create_container(&new).expect("the image is there");
        let mount = MountRecord {
            mountpoint: MOUNTPOINT.into(),
            pid: 1,
            started: 1,
            read_only: false,
            command: false,
            live: LIVE.into(),
            ended: false,
            overlay: None,
            lost: None,
        };
        store.set_mount(&container, &mount).expect("it can be written");
        let live = root.join("run").join(LIVE);
        fs::create_dir(&live).expect("a directory can be made");
        fs::write(live.join("mount.json"), format!(r#"{{"mountpoint":"{MOUNTPOINT}","pid":1}}"#)).expect("a file");
        fs::write(live.join("br0"), "/upper=rw\n").expect("a file can be made");
        fs::write(live.join("brid0"), "box\n").expect("a file can be made");
        let image = ids.first().expect("an image").to_string();
        let layer = store.layers().expect("it can be read").first().expect("a layer").to_string();
        let mut paths = vec![root.join("meta.json")];
        // What has a random name comes in an order of its own, so that a byte always means the same.
        for dir in ["images/*/config", "images/*/record.json", "images/names/*", "layers/*"] {
            paths.extend(under(&root, dir));
        }
        for dir in ["containers/*/mount.json", "containers/*/record.json", "containers/names/box", "run/*/*"] {
            paths.extend(under(&root, dir));
        }
        // The chain under the container is the one file of `layers/` without an ending.
        paths
            .sort_by_key(|path| path.parent().is_some_and(|dir| dir.ends_with("layers")) && path.extension().is_none());
        let records = paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("it can be read"))).collect();
        Self { _dir: dir, root, records, image, layer }
    }

    /// Says whether every record could be read.
    fn ask(&self) -> bool {
        let store = match Store::open(&self.root) {
            Ok(store) => store,
            Err(error) => {
                is_one_sentence(&error);
                return false;
            }
        };
        let mut good = true;
        let mut all = |is_good: bool| good &= is_good;
        all(tell(store.images()).is_some());
        all(tell(store.image_names()).is_some());
        all(tell(store.containers()).is_some());
        for container in store.containers().into_iter().flatten() {
            let Some(container) = tell(container) else { return false };
            tell(container.state());
            tell(container.mount());
            tell(store.stack(&container));
        }
        for name in ["image:tag", &self.image, &self.layer, "box", MOUNTPOINT, "nothing"] {
            tell(inspect(&store, name));
        }
        for quick in [true, false] {
            let found = tell(verify(&store, &Verify { names: Vec::new(), quick }, &Quiet));
            for finding in found.into_iter().flatten() {
                is_one_sentence(&finding.detail);
                all(!finding.detail.starts_with("damaged"));
            }
        }
        tell(df(&store));
        for (of_all, containers) in [(false, false), (true, true)] {
            tell(prune(&store, PruneScope { all: of_all, containers }, true));
        }
        good
    }
}

fn under(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for part in pattern.split('/') {
        let below = |dir: PathBuf| match part {
            "*" => {
                let entries = fs::read_dir(dir).into_iter().flatten();
                entries.map(|entry| entry.expect("it can be read").path()).collect()
            }
            name => vec![dir.join(name)],
        };
        found = found.into_iter().flat_map(below).collect();
    }
    found.retain(|path| path.is_file());
    found.sort();
    found
}

fn tell<T>(result: Result<T, layerctl::Error>) -> Option<T> {
    result.inspect_err(|error| is_one_sentence(error)).ok()
}

pub(crate) fn run(data: &[u8]) -> bool {
    let Some((first, rest)) = data.split_first() else { return false };
    TEMPLATE.with(|template| {
        let Some((path, was)) = template.records.get(usize::from(*first) % template.records.len()) else {
            return false;
        };
        fs::write(path, rest).expect("a record can be written");
        let understood = template.ask();
        fs::write(path, was).expect("a record can be written");
        understood
    })
}
