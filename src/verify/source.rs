//! Where sound layers and configs come from: an archive, an OCI layout, or another store. Nothing of them is trusted:
//! what they give is taken when it has the digest that it must have.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::archive::{
    DirMembers, DocumentLimits, Documents, Input, Part, Plan, TarMembers, Wanted, no_documents, plans, read_failure,
};
use crate::error::{Context as _, Error, Result, readable};
use crate::id::{DiffId, Digest, Digester, ImageId};
use crate::image::root_file_system_config;
use crate::image::{Platform, Platforms};
use crate::store::{Staging, Store};
use crate::sys::{self, call, fs};
use crate::tarball::{Failure, Limits, assemble};
use crate::verify::layer::open_dir;

/// Opens a member of an archive; also gives its size.
type Open = Box<dyn Fn(&str) -> Result<Option<(Box<dyn Read + Send>, u64)>> + Send + Sync>;

/// One of what `--from` names.
pub(super) struct Source {
    name: String,
    kind: Kind,
}

enum Kind {
    Archive { plans: Vec<Plan>, open: Open },
    RootFileSystem { tar: Arc<File>, diff_id: DiffId, platforms: Vec<Platform> },
    Store(Store),
}

impl Source {
    /// Opens what the user named. An archive that can only be read once is written out in `staging` first.
    ///
    /// # Errors
    /// As those of `import`.
    pub(super) fn open(path: &Path, staging: &Staging, platforms: &[Platform]) -> Result<Self> {
        let name = path.display().to_string();
        if path == Path::new("-") {
            return Err(Error::Usage("a source is read more than once, so that it cannot be standard input".into()));
        }
        if Store::is_at(path)? {
            return Ok(Self { name, kind: Kind::Store(Store::open(path)?) });
        }
        let kind = match Input::open(path, Limits::default().ratio)? {
            Input::Directory(dir) => {
                let members = DirMembers::new(&name, DocumentLimits::of_copy(), Limits::default().ratio, &dir);
                let plans = all_plans(&name, &members, true)?.ok_or_else(|| no_documents(&name))?;
                Kind::Archive { plans, open: Box::new(move |member| members.open(member)) }
            }
            Input::Seekable(file) => archive(&name, file, platforms)?,
            Input::Stream(mut stream) => {
                let mut file = tempfile::tempfile_in(staging.dir()).doing("create a file in", staging.dir())?;
                copy(&name, &mut stream.tar, &mut file, staging.dir())?;
                file.rewind().doing("read", staging.dir())?;
                archive(&name, file, platforms)?
            }
        };
        Ok(Self { name, kind })
    }

    /// What the user called it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The config of an image.
    ///
    /// # Errors
    /// When it cannot be read from another store.
    pub(super) fn config(&self, image: ImageId) -> Result<Option<Vec<u8>>> {
        let is_it = |config: &Vec<u8>| Digest::of(config) == image.0;
        match &self.kind {
            Kind::Archive { plans, .. } => {
                Ok(plans.iter().map(|plan| &plan.config).find(|config| is_it(config)).cloned())
            }
            Kind::RootFileSystem { diff_id, platforms, .. } => {
                Ok(platforms.iter().map(|platform| root_file_system_config(*diff_id, platform)).find(is_it))
            }
            Kind::Store(store) => {
                let most = DocumentLimits::of_copy().one;
                let dir = store.root().join("images").join(image.hex());
                let Some(file) = readable(regular_file(&dir, b"config"))?.flatten() else { return Ok(None) };
                let mut config = Vec::new();
                file.take(most).read_to_end(&mut config).doing("read", dir.join("config"))?;
                Ok(Some(config).filter(is_it))
            }
        }
    }

    /// Gives what this source says is the layer, perhaps compressed, to `take`; `None` when it does not have it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn layer<T>(&self, layer: DiffId, take: impl FnOnce(Box<dyn Read>) -> T) -> Result<Option<T>> {
        match &self.kind {
            Kind::Archive { plans, open } => {
                let members = plans.iter().flat_map(|plan| &plan.layers);
                let Some(planned) = members.into_iter().find(|planned| planned.diff_id == layer) else {
                    return Ok(None);
                };
                match open(&planned.member)? {
                    Some((member, _)) => Ok(Some(take(member))),
                    None => {
                        let (archive, entry) = (self.name.clone(), Some(planned.member.clone()));
                        Err(Error::BadArchive { archive, entry, why: "is missing".into() })
                    }
                }
            }
            Kind::RootFileSystem { tar, diff_id, .. } if *diff_id == layer => {
                Ok(Some(take(Box::new(Part::new(tar.clone())))))
            }
            Kind::RootFileSystem { .. } => Ok(None),
            Kind::Store(store) => {
                let layers = store.root().join("layers");
                let open = |extension| regular_file(&layers, format!("{}.{extension}", layer.hex()).as_bytes());
                let Some(record) = open("json")? else { return Ok(None) };
                // The lock keeps other processes from removing the layer while it is read; one that went meanwhile is not there.
                call::flock(&record, FlockOperation::LockShared).doing("lock", &layers)?;
                if fs::metadata_of(&record).doing("read", &layers)?.nlink() == 0 {
                    return Ok(None);
                }
                let Some(dir) = open_dir(&store.diff_dir(&layer.hex())).doing("open", store.root())? else {
                    return Ok(None);
                };
                let Some(split) = open("split")? else { return Ok(None) };
                let assembling =
                    move |out: &mut dyn Write| assemble(&mut BufReader::new(split), dir.as_fd(), out).map(drop);
                let taken = through_pipe(assembling, |tar| take(Box::new(tar)));
                drop(record);
                taken.map(Some)
            }
        }
    }
}

/// Gives what `write` writes to `read` while it comes. When writing fails what is read ends early.
pub(super) fn through_pipe<T>(
    write: impl FnOnce(&mut dyn Write) -> std::result::Result<(), Failure> + Send,
    read: impl FnOnce(io::PipeReader) -> T,
) -> Result<T> {
    let (reader, mut writer) = io::pipe().doing("make", "a pipe")?;
    std::thread::scope(|scope| {
        // error: what is read ends early then, and does not have its digest
        let writing = move || drop(write(&mut writer));
        std::thread::Builder::new().spawn_scoped(scope, writing).doing("start", "a thread")?;
        Ok(read(reader))
    })
}

/// Opens a file of another, untrusted store: only a regular one, as a pipe or a device may never end.
fn regular_file(dir: &Path, name: &[u8]) -> Result<Option<File>> {
    let path = || dir.join(String::from_utf8_lossy(name).as_ref());
    let opened = match open_dir(dir).doing("open", dir)? {
        Some(dir) => sys::open_below(&dir, name),
        None => return Ok(None),
    };
    let file = match opened {
        Err(Errno::NOENT) => return Ok(None),
        // A link that leads elsewhere.
        Err(Errno::XDEV | Errno::LOOP) => return Err(Error::corrupt(path(), "is no regular file")),
        opened => File::from(opened.doing("open", path())?),
    };
    if fs::metadata_of(&file).doing("read", path())?.is_file() {
        return Ok(Some(file));
    }
    Err(Error::corrupt(path(), "is no regular file"))
}

fn archive(name: &str, file: File, platforms: &[Platform]) -> Result<Kind> {
    let copy = file.try_clone().doing("read", name)?;
    if let Some(members) = TarMembers::find(name, DocumentLimits::of_copy(), &Limits::default(), copy)?
        && let Some(plans) = all_plans(name, &members, members.look_like_image())?
    {
        return Ok(Kind::Archive { plans, open: Box::new(move |member| members.open(member)) });
    }
    let tar = Arc::new(file);
    let mut digester = Digester::new();
    copy_to(name, &mut Part::new(tar.clone()), |bytes| {
        digester.update(bytes);
        Ok(())
    })?;
    Ok(Kind::RootFileSystem { tar, diff_id: DiffId(digester.finish()), platforms: platforms.to_vec() })
}

/// All images that the archive has.
fn all_plans(name: &str, documents: &dyn Documents, look_like_image: bool) -> Result<Option<Vec<Plan>>> {
    let wanted = Wanted { platforms: Platforms::All, names: false, limits: DocumentLimits::of_copy() };
    Ok(plans(name, documents, &wanted, look_like_image)?.map(|plans| plans.images))
}

fn copy(name: &str, source: &mut dyn Read, file: &mut File, dir: &Path) -> Result<()> {
    copy_to(name, source, |bytes| file.write_all(bytes).doing("write a file in", dir))
}

fn copy_to(name: &str, source: &mut dyn Read, mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_failure(name, None, error)),
        }
    }
}
