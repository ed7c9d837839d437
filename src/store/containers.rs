//! The containers of a store: made, found, mounted, removed.

use std::path::PathBuf;

use super::container::{Container, ContainerRecord, MountRecord, NewContainer, check_name};
use super::garbage::remove_mountpoint;
use super::lock::Guard;
use super::{Staging, Store, is_enough_to_remove, json, names_in, now, random, read_json};
use crate::error::{Context as _, Error, Result};
use crate::id::ContainerId;
use crate::stack::Stack;
use crate::sys::fs;

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
            // The container has no record yet, so no process refers to these.
            for path in [container.dir(), name_path, self.root.join("layers").join(id.hex()), container.upper()] {
                #[expect(
                    clippy::let_underscore_must_use,
                    reason = "the first failure is told, and prune takes the rest"
                )]
                let _ = staging.move_to_trash(&path);
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
        // Made now, as a process that only reads the container must not create files in it.
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
        // A mount by overlayfs has neither a registration nor a server of its own.
        let is_it = |now: &MountRecord| {
            // The device is written down once the kernel has given it.
            let is_device = match (&now.overlay, &mount.overlay) {
                (Some(now), Some(then)) => now.device == then.device || now.device.is_empty() || then.device.is_empty(),
                _ => true,
            };
            is_device && now.live == mount.live && now.pid == mount.pid && now.started == mount.started
        };
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
        if !is_enough_to_remove(text, &id.hex()) {
            return Err(Error::NotFound { kind: "container", name: text.to_owned() });
        }
        staging.move_to_trash(&self.root.join("containers").join(id.hex()))?;
        self.sync_dir(&self.root.join("containers"))?;
        // What its record would have named is garbage now.
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
        staging.move_to_trash(&container.dir())?;
        // From here on the rest belongs to nothing: what goes wrong with a part of it keeps no other part.
        let mut done = self.sync_dir(&self.root.join("containers"));
        let name_path = self.container_name_path(&container.record.name);
        for path in [name_path, self.root.join("layers").join(container.id.hex()), container.upper()] {
            done = done.and(staging.move_to_trash(&path));
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
