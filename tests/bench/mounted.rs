//! One live mount: made for one system in one round, and gone afterwards, whatever happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;

use crate::children;
use crate::image::{Image, Store};
use crate::system::{Kind, System};
use crate::world::World;

const BUSY_PATIENCE: Duration = Duration::from_secs(5);
const CONTAINER: &str = "bench";

#[derive(Debug)]
pub(crate) struct Mounted<'a> {
    /// Where the union is.
    pub(crate) root: PathBuf,
    /// How long mounting took.
    pub(crate) mounting: f64,
    /// The server, if there is one.
    pub(crate) servers: BTreeSet<i32>,
    system: &'a System,
    store: &'a Store,
    dir: PathBuf,
}

/// How many messages of each kind.
pub(crate) type Messages = BTreeMap<String, u64>;

impl<'a> Mounted<'a> {
    /// Mounts `image` with a fresh upper directory.
    pub(crate) fn new(system: &'a System, image: &Image, world: &'a World) -> Result<Self> {
        let dir = world.dir.join("mount");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        for name in ["mnt", "upper", "work"] {
            fs::create_dir_all(dir.join(name))?;
        }
        let before = children::list();
        let mut mounted =
            Self { root: dir.join("mnt"), mounting: 0.0, servers: BTreeSet::new(), system, store: &world.store, dir };
        let start = Instant::now();
        let result = mounted.mount(image);
        mounted.mounting = start.elapsed().as_secs_f64();
        children::reap();
        mounted.servers = children::list().difference(&before).copied().collect();
        result?;
        let is_mounted = device(&mounted.root)? != device(&mounted.dir)?;
        if !is_mounted {
            bail!("nothing was mounted");
        }
        Ok(mounted)
    }

    fn mount(&self, image: &Image) -> Result<()> {
        let (upper, work) = (self.dir.join("upper"), self.dir.join("work"));
        let options =
            || format!("lowerdir={},upperdir={},workdir={}", image.lowers(":"), upper.display(), work.display());
        let mut command = match &self.system.kind {
            Kind::Overlayfs => {
                // Short names: all options must fit into one page.
                let here = std::env::current_dir()?;
                std::env::set_current_dir(image.links())?;
                let options = std::ffi::CString::new(options())?;
                let result = mount("overlay", &self.root, "overlay", MountFlags::empty(), &*options);
                std::env::set_current_dir(here)?;
                return Ok(result?);
            }
            Kind::FuseOverlayfs(program) => {
                let mut command = Command::new(program);
                command.current_dir(image.links()).arg("-o").arg(options()).arg(&self.root);
                command
            }
            Kind::Unionfs(program) => {
                let mut command = Command::new(program);
                let links = image.links();
                let lowers = (0..image.layers).map(|number| format!("{}/{number}=RO", links.display()));
                let branches: Vec<_> = [format!("{}=RW", upper.display())].into_iter().chain(lowers).collect();
                command.args(["-o", "cow,use_ino,allow_other,default_permissions,dev,suid"]);
                command.arg(branches.join(":")).arg(&self.root);
                command
            }
            Kind::Ours(more) => {
                let mut command = self.store.command();
                command.args(["run-mount", "--name", CONTAINER]).args(more).arg(&image.id).arg(&self.root);
                command
            }
        };
        // A pipe would stay open in the server, and we would wait for it.
        let log = self.dir.join("log");
        let status = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .status()
            .with_context(|| format!("cannot run {}", command.get_program().display()))?;
        if !status.success() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            bail!("{}", text.lines().next_back().unwrap_or("no message"));
        }
        Ok(())
    }

    /// What the kernel has sent so far; only our servers count.
    pub(crate) fn messages(&self) -> Option<Messages> {
        if !self.system.is_ours() {
            return None;
        }
        let text = children::output(self.store.command().args(["inspect", CONTAINER])).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let counts = value.pointer("/0/Messages")?.as_object()?;
        Some(counts.iter().filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect())
    }

    /// The servers' resident memory, in KiB.
    pub(crate) fn resident(&self) -> Option<u64> {
        let sizes = self.servers.iter().filter_map(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
        sizes.reduce(|sum, size| sum + size)
    }

    fn unmount(&self) {
        let until = Instant::now() + BUSY_PATIENCE;
        loop {
            match unmount(&self.root, UnmountFlags::empty()) {
                Err(Errno::BUSY) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                Err(Errno::BUSY) => {
                    let _ = unmount(&self.root, UnmountFlags::DETACH);
                    return;
                }
                _ => return,
            }
        }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.system.is_ours() {
            let _ = children::output(self.store.command().arg("umount").arg(&self.root));
        }
        if device(&self.root).ok() != device(&self.dir).ok() {
            self.unmount();
        }
        children::see_off(&self.servers);
        children::reap();
        if self.system.is_ours() {
            let _ = children::output(self.store.command().args(["rm", "--force", CONTAINER]));
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("{} stays: {error}", self.dir.display());
        }
        // What one system left to be written must not slow the next.
        rustix::fs::sync();
    }
}

fn device(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::symlink_metadata(path)?.dev())
}
