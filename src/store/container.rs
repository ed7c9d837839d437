//! Containers: a rw layer over an image's chain, and whether it is mounted.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::debris::remove_mountpoint;
use super::lock::{Guard, try_lock};
use super::network::Network;
use super::publish::set_aside;
use super::{OverlayMount, Staging, Store, file, json, names_in, now, random, read_json};
use crate::error::{Context as _, Error, Result};
use crate::id::{ContainerId, DiffId, ImageId, ImageName};
use crate::stack::Stack;
use crate::sys::fs;

/// Who asks for a container's state holds its lock for an instant: that is no server yet.
const PROBE: Duration = Duration::from_millis(1);
const PROBES: u32 = 20;

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerRecord {
    /// Its name.
    pub name: String,
    /// The image it was made from.
    pub image: ImageId,
    /// The name by which the image was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_name: Option<ImageName>,
    /// The image's layers, lowest first.
    pub layers: Vec<DiffId>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The names that its commands find.
    #[serde(default, skip_serializing_if = "Network::is_default")]
    pub network: Network,
}

/// The latest mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountRecord {
    /// Where.
    pub mountpoint: PathBuf,
    /// The server's process.
    pub pid: u32,
    /// Since when, in seconds since 1970.
    pub started: u64,
    /// Whether it takes no changes.
    pub read_only: bool,
    /// Whether it is there for a command, and ends with it.
    #[serde(default)]
    pub command: bool,
    /// The name under `run/` of what the server registered.
    pub live: String,
    /// Whether the server has ended in order.
    pub ended: bool,
    /// What was written and could not be brought to the rw layer, as a clause, until `umount` has said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// What a mount by overlayfs has in place of a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<OverlayMount>,
}

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Never mounted.
    Created,
    /// Mounted, with a living server.
    Running,
    /// Was mounted.
    Exited,
    /// Its server was killed.
    Dead,
}

/// A container of the store.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its id: the name of its rw layer under `diff/`.
    pub id: ContainerId,
    /// What is known of it.
    pub record: ContainerRecord,
    root: PathBuf,
}

/// What a container is to be.
#[derive(Debug, Clone, Default)]
pub struct NewContainer {
    /// Its name; the beginning of its id when none is given.
    pub name: Option<String>,
    /// The image's name or id, as [`Store::find_image`] takes it.
    pub image: String,
    /// The names that its commands find.
    pub network: Network,
}

impl ContainerState {
    /// The word for it, as Docker's `State.Status` has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// Docker's rule for the names of containers.
pub(super) fn check_name(name: &str) -> Result<()> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if name.len() <= 128 && name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(inner) {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "{name:?} is no name for a container: letters, digits, and after the first also . _ - are allowed"
    )))
}

impl Container {
    /// Its directory in the store.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.root.join("containers").join(self.id.hex())
    }

    /// Its rw layer.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.root.join("diff").join(self.id.hex())
    }

    /// Where it is mounted when no place is named.
    #[must_use]
    pub fn default_mountpoint(&self) -> PathBuf {
        self.root.join("mnt").join(self.id.hex())
    }

    /// What its server says when it cannot say it to anybody else.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir().join("log")
    }

    /// The first 12 digits of its id.
    #[must_use]
    pub fn short_id(&self) -> String {
        self.id.hex().get(..12).unwrap_or_default().to_owned()
    }

    /// Where live mounts are registered.
    pub(super) fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Takes the container for a server: free again when that process ends, however it ends.
    ///
    /// # Errors
    /// [`Error::InUse`] when another server, or the kernel, has it; [`Error::NotFound`] when it was removed meanwhile.
    pub fn lock(&self) -> Result<File> {
        let lock = self.lock_record()?;
        self.check_no_overlay().map(|()| lock)
    }

    /// The same of one that the kernel may have mounted.
    ///
    /// # Errors
    /// As [`Container::lock`].
    pub fn lock_record(&self) -> Result<File> {
        let path = self.dir().join("lock");
        let Some(file) = file::open_or_create(&path)? else {
            return Err(Error::NotFound { kind: "container", name: self.record.name.clone() });
        };
        let mut tries = 0..PROBES;
        loop {
            if try_lock(&file, FlockOperation::NonBlockingLockExclusive).doing("lock", &path)? {
                break;
            }
            match tries.next() {
                Some(_) => std::thread::sleep(PROBE),
                None => return Err(self.in_use()),
            }
        }
        // Who removes it holds the lock until it is gone; then this file is no longer the one at `path`.
        let record = self.dir().join("record.json");
        if !fs::is_there(&record).doing("read", &record)? {
            return Err(Error::NotFound { kind: "container", name: self.record.name.clone() });
        }
        Ok(file)
    }

    /// Removes the mountpoint that it has when no place is named.
    ///
    /// # Errors
    /// When it is there, is empty and cannot be removed.
    pub fn remove_default_mountpoint(&self) -> Result<()> {
        remove_mountpoint(&self.default_mountpoint())
    }

    /// Whether a process has locked it.
    fn is_locked(&self) -> Result<bool> {
        let path = self.dir().join("lock");
        // Without the file no server has ever had it.
        match file::open(&path)? {
            Some(file) => Ok(!try_lock(&file, FlockOperation::NonBlockingLockShared).doing("lock", &path)?),
            None => Ok(false),
        }
    }

    /// That it is mounted, as an error.
    #[must_use]
    pub fn in_use(&self) -> Error {
        let by = match self.mount() {
            Ok(Some(mount)) => format!("mounted at {}", mount.mountpoint.display()),
            // error: it is an error already, and only says less
            Ok(None) | Err(_) => "a server has it".to_owned(),
        };
        Error::InUse { kind: "container", name: self.record.name.clone(), by }
    }

    /// Its latest mount, if it was ever mounted.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn mount(&self) -> Result<Option<MountRecord>> {
        read_json(&self.dir().join("mount.json"))
    }

    /// How it is now.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn state(&self) -> Result<ContainerState> {
        // In this order: a server ends its record before it lets go of the lock.
        let held = self.is_locked()?;
        Ok(match self.mount()? {
            None => ContainerState::Created,
            Some(mount) if mount.ended => ContainerState::Exited,
            Some(mount) if mount.overlay.is_some() => self.overlay_state(&mount, held)?,
            Some(_) if held => ContainerState::Running,
            Some(_) => ContainerState::Dead,
        })
    }
}

impl Store {
    pub(super) fn container_name_path(&self, name: &str) -> PathBuf {
        self.root.join("containers/names").join(name)
    }

    /// Makes a container of an image.
    ///
    /// # Errors
    /// [`Error::NotFound`] without the image; [`Error::AlreadyExists`] when the name is taken.
    pub fn create_container(&self, new: &NewContainer) -> Result<Container> {
        self.create_with(&self.stage_briefly()?, new, false)
    }

    /// The same of a container that is to go with its first mount: it also goes when this process dies before the container
    /// has a server, and before the second value is dropped.
    ///
    /// # Errors
    /// As [`Store::create_container`].
    pub fn create_temporary_container(&self, new: &NewContainer) -> Result<(Container, Staging)> {
        let staging = self.stage_briefly()?;
        let container = self.create_with(&staging, new, true)?;
        Ok((container, staging))
    }

    /// Has a container that is there already go when this process dies before the value is dropped.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn make_temporary(&self, container: &Container) -> Result<Staging> {
        let staging = self.stage_briefly()?;
        staging.name_temporary(container.id).map(|()| staging)
    }

    fn create_with(&self, staging: &Staging, new: &NewContainer, is_temporary: bool) -> Result<Container> {
        if let Some(name) = &new.name {
            check_name(name)?;
        }
        let guard = self.lock()?;
        let found = self.find_image(&new.image)?;
        let image = self.image(found.id())?;
        let id = ContainerId::from_random(random()?);
        let name = new.name.clone().unwrap_or_else(|| id.hex().get(..12).unwrap_or_default().to_owned());
        let name_path = self.container_name_path(&name);
        // A name whose container has no record is the rest of a process that died.
        if fs::is_there(&name_path).doing("read", &name_path)? {
            match self.find_container(&name) {
                Ok(container) if container.record.name == name => {
                    return Err(Error::AlreadyExists { kind: "container", name });
                }
                Ok(_) | Err(Error::NotFound { .. } | Error::Ambiguous { .. } | Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let image_name = match found {
            super::Found::ByName(name, _) => Some(name),
            super::Found::ById(_) => None,
        };
        let layers = image.record.layers;
        let chain: String = layers.iter().rev().map(|layer| layer.hex() + "\n").collect();
        let record =
            ContainerRecord { name, image: image.id, image_name, layers, created: now(), network: new.network.clone() };
        let container = Container { id, record, root: self.root.clone() };
        if is_temporary {
            staging.name_temporary(id)?;
        }
        if let Err(error) = self.place_container(&guard, staging, &container, &chain) {
            // Without a record it is nobody's.
            for path in [container.dir(), name_path, self.root.join("layers").join(id.hex()), container.upper()] {
                #[expect(
                    clippy::let_underscore_must_use,
                    reason = "the first failure is told, and prune takes the rest"
                )]
                let _ = set_aside(staging, &path);
            }
            return Err(error);
        }
        Ok(container)
    }

    fn place_container(&self, guard: &Guard<'_>, staging: &Staging, container: &Container, chain: &str) -> Result<()> {
        let made = staging.dir().join("container");
        fs::create_dir(&made).doing("create", &made)?;
        let path = made.join("record.json");
        guard.write(&path, &json(&container.record)?)?;
        // Who only reads the container makes nothing in it.
        let path = made.join("lock");
        fs::create_new(&path).doing("create", &path)?;
        let upper = container.upper();
        fs::create_dir(&upper).doing("create", &upper)?;
        self.sync_dir(&self.root.join("diff"))?;
        let hex = container.id.hex();
        guard.write(&self.root.join("layers").join(&hex), chain.as_bytes())?;
        guard.write(&self.container_name_path(&container.record.name), format!("{hex}\n").as_bytes())?;
        let dir = container.dir();
        fs::rename(&made, &dir).doing("put into place", &dir)?;
        self.sync_dir(&self.root.join("containers"))
    }

    /// A container by its id.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Corrupt`] when its record cannot be understood.
    pub fn container(&self, id: ContainerId) -> Result<Container> {
        let path = self.root.join("containers").join(id.hex()).join("record.json");
        let record = read_json(&path)?.ok_or_else(|| Error::NotFound { kind: "container", name: id.to_string() })?;
        Ok(Container { id, record, root: self.root.clone() })
    }

    /// All containers, oldest first, and after them what is wrong with damaged ones.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn containers(&self) -> Result<Vec<Result<Container>>> {
        let names = names_in(&self.root.join("containers"))?;
        let ids = names.iter().filter_map(|name| name.parse().ok());
        let all = ids.map(|id| self.container(id));
        // One that goes while the list is made is on no list.
        let mut containers: Vec<_> = all.filter(|one| !matches!(one, Err(Error::NotFound { .. }))).collect();
        // Of those of one second the order is to be the same each time.
        containers.sort_by_cached_key(|one| {
            one.as_ref().map_or((u64::MAX, None), |one| (one.record.created, Some(one.record.name.clone())))
        });
        Ok(containers)
    }

    /// Writes down how a container is mounted, or that it was.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn set_mount(&self, container: &Container, mount: &MountRecord) -> Result<()> {
        self.lock()?.write(&container.dir().join("mount.json"), &json(mount)?)
    }

    /// Changes what is written down of this mount of a container; nothing once a later mount is written down.
    ///
    /// # Errors
    /// When the record cannot be read or written.
    pub fn change_mount(
        &self,
        container: &Container,
        mount: &MountRecord,
        change: impl FnOnce(&mut MountRecord),
    ) -> Result<()> {
        let guard = self.lock()?;
        let is_it = |now: &MountRecord| now.live == mount.live && now.pid == mount.pid;
        let Some(mut now) = container.mount()?.filter(is_it) else { return Ok(()) };
        change(&mut now);
        guard.write(&container.dir().join("mount.json"), &json(&now)?)
    }

    /// The layers of a container, ready for the union.
    ///
    /// # Errors
    /// When a layer is missing or damaged.
    pub fn stack(&self, container: &Container) -> Result<Stack> {
        let mut lowers = self.lowers(&container.record.layers)?;
        lowers.reverse();
        Ok(Stack { upper: Some(container.upper()), lowers, lowers_are_immutable: true, mount_points: None })
    }

    /// Removes a container whose record cannot be read.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn remove_damaged_container(&self, text: &str) -> Result<()> {
        let staging = self.stage_removal()?;
        let guard = self.lock()?;
        let id = self.find_container_id(text)?;
        set_aside(&staging, &self.root.join("containers").join(id.hex()))?;
        self.sync_dir(&self.root.join("containers"))?;
        // What its record would have named is debris now.
        self.sweep(&guard, &staging)?;
        drop(guard);
        Ok(())
    }

    /// Removes a container with all it has written.
    ///
    /// # Errors
    /// [`Error::InUse`] while it is mounted.
    pub fn remove_container(&self, container: &Container) -> Result<()> {
        let staging = self.stage_removal()?;
        let guard = self.lock()?;
        let _mine = container.lock()?;
        // Its layers stay: images need them, or have been removed with all that only they needed.
        set_aside(&staging, &container.dir())?;
        // From here on the rest belongs to nothing: what goes wrong with a part of it keeps no other part.
        let mut done = self.sync_dir(&self.root.join("containers"));
        let name_path = self.container_name_path(&container.record.name);
        for path in [name_path, self.root.join("layers").join(container.id.hex()), container.upper()] {
            done = done.and(set_aside(&staging, &path));
        }
        done = done.and(remove_mountpoint(&container.default_mountpoint()));
        drop(guard);
        done
    }

    /// Removes what is left of containers and layers whose removal has failed half-way.
    ///
    /// # Errors
    /// What cannot be removed.
    pub fn sweep_strays(&self) -> Result<()> {
        let staging = self.stage_removal()?;
        let guard = self.lock()?;
        self.sweep(&guard, &staging)
    }
}
