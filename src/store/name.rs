//! Names of images that come and go while the images stay.

use super::image::NameRecord;
use super::placement::Placement;
use super::{Staging, Store, json};
use crate::error::{Context as _, Error, Result};
use crate::id::{ImageId, ImageName};
use crate::sys::fs;

impl Store {
    /// Gives an image, which is found as [`Store::find_image`] finds it, more names: all of them, or none. What had one
    /// of them before is without it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`]; when the disk refuses.
    pub fn add_image_names(&self, text: &str, names: &[ImageName]) -> Result<ImageId> {
        let staging = self.stage_briefly()?;
        let guard = self.lock()?;
        let id = self.find_image(text)?.id();
        // A name that stands for nothing is damage.
        self.image(id)?;
        let mut placement = Placement::new(&staging);
        let placed = names.iter().enumerate().try_for_each(|(number, name)| {
            let made = staging.dir().join(format!("name-{number}"));
            guard.write(&made, &json(&NameRecord { name: name.clone(), image: id })?)?;
            placement.put(made, self.name_path(name))
        });
        if let Err(error) = placed.and_then(|()| self.sync_dir(&self.root.join("images/names"))) {
            placement.take_back();
            return Err(error);
        }
        drop(guard);
        Ok(id)
    }

    /// Takes a name off its image, which stays, also without any.
    ///
    /// # Errors
    /// [`Error::NotFound`] for what is no image's name, but its id too.
    pub fn remove_image_name(&self, text: &str) -> Result<ImageName> {
        // Each command that changes the store also removes what dead processes have left.
        let _staging = self.stage_removal()?;
        let _guard = self.lock()?;
        let missing = || Error::NotFound { kind: "image name", name: text.to_owned() };
        let (name, _) = self.find_image_name(text)?.ok_or_else(missing)?;
        self.remove_name(&name)?;
        Ok(name)
    }

    pub(super) fn remove_name(&self, name: &ImageName) -> Result<()> {
        let path = self.name_path(name);
        fs::remove_file(&path).doing("remove", &path)?;
        self.sync_dir(&self.root.join("images/names"))
    }

    /// Takes an image away with all its names, or nothing of it. The names go first, so that none stands for nothing.
    pub(super) fn take_with_names(&self, staging: &Staging, id: ImageId, names: &[ImageName]) -> Result<()> {
        let mut taken = Vec::new();
        let mut take = || {
            for name in names {
                let path = self.name_path(name);
                staging.take(&path).doing("remove", &path)?;
                taken.push(name);
            }
            if !names.is_empty() {
                self.sync_dir(&self.root.join("images/names"))?;
            }
            staging.move_to_trash(&self.image_dir(id))
        };
        let Err(error) = take() else { return Ok(()) };
        let mut gone = Vec::new();
        for name in taken {
            match staging.give_back(&self.name_path(name)) {
                Ok(true) => {}
                // error: the first failure is told, and with it that this name is gone
                Ok(false) | Err(_) => gone.push(name.to_string()),
            }
        }
        // error: the first failure is told; without power now a name may be gone
        drop(self.sync_dir(&self.root.join("images/names")));
        if gone.is_empty() {
            return Err(error);
        }
        let gone = gone.join(", ");
        Err(Error::Unsupported(format!("{error}; the image stays without its name {gone}: remove it as {id}")))
    }
}
