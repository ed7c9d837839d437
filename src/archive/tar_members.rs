//! The members of a tar that one can seek in: only their headers are read to find them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::budget::{Budget, BudgetedReader};
use super::checked_reader::ExactReader;
use super::documents::{DocumentLimits, Documents, diff_id_of, read_document};
use super::input::read_failure;
use super::members::{LINKS, MemberKind, NameTells, Part, member};
use crate::error::{Context as _, Error, Result};
use crate::id::DiffId;
use crate::sys::fs;
use crate::tarball::{Filled, Limits};

/// Bytes that all names and links of an archive of images may have; a root file system's may have more.
const NAMES_LIMIT: usize = 64 << 20;
/// Bytes that a member takes beside them.
const PER_MEMBER: usize = 100;
/// So many members of other names, and none of an archive of images: it need not be looked at twice to be unpacked.
const OTHERS: usize = 2000;

/// The members of a tar that one can seek in.
#[derive(Debug)]
pub struct TarMembers {
    archive: String,
    documents: DocumentLimits,
    layers: Limits,
    file: Arc<File>,
    members: BTreeMap<String, MemberKind>,
    /// What stands before each name: the one directory that all is in, with its slash.
    within: String,
    /// Whether all names are those of an archive of images, and there is one.
    look_like_image: bool,
}

/// What the names that came so far tell.
#[derive(Debug, Default)]
struct Names {
    has_known: bool,
    others: usize,
    bytes: usize,
    /// The directory that all is in so far; nothing when there are several.
    within: Option<Option<String>>,
}

impl Names {
    fn take(&mut self, name: &str, target: usize) {
        match NameTells::of(name) {
            NameTells::Nothing => return,
            NameTells::Image => self.has_known = true,
            NameTells::Other => self.others = self.others.saturating_add(1),
        }
        self.bytes = [name.len(), target, PER_MEMBER].into_iter().fold(self.bytes, usize::saturating_add);
        let first = name.split('/').next().unwrap_or_default();
        match &mut self.within {
            None => self.within = Some(Some(first.to_owned())),
            Some(within) if within.as_deref() != Some(first) => *within = None,
            Some(_) => {}
        }
    }

    /// Whether nothing speaks against an archive of images, and something for it.
    const fn look_like_image(&self) -> bool {
        self.has_known && self.others == 0
    }
}

impl TarMembers {
    /// Finds the members; `None` when the headers alone do not tell: it is a root file system, or must be unpacked to
    /// know. `layers` is how much what is read of a layer may ask for.
    ///
    /// # Errors
    /// [`Error::BadArchive`] when the tar is damaged or cut short.
    pub fn find(archive: &str, documents: DocumentLimits, layers: &Limits, file: File) -> Result<Option<Self>> {
        let length = fs::metadata_of(&file).doing("read", archive)?.len();
        let bad = |entry: Option<String>, why: String| Error::BadArchive { archive: archive.to_owned(), entry, why };
        let file = Arc::new(file);
        // What is no header is passed over, never read.
        let budget = Budget::default();
        let damaged = |error: io::Error| match (budget.failure(), error.kind()) {
            (Some(source), _) => Error::Io { doing: "read", path: archive.into(), source },
            (None, io::ErrorKind::UnexpectedEof) => bad(None, "is cut short".into()),
            _ => bad(None, format!("is a damaged tar: {error}")),
        };
        let mut tar = tar::Archive::new(BudgetedReader { source: io::BufReader::new(&*file), budget: &budget });
        let (mut members, mut names) = (BTreeMap::new(), Names::default());
        for entry in tar.entries_with_seek().map_err(damaged)? {
            let mut entry = match entry {
                // error: what is wrong with a root file system's tar, a layer's own reader says better
                Err(_) if !names.look_like_image() && budget.failure().is_none() => return Ok(None),
                entry => entry.map_err(damaged)?,
            };
            let kind = entry.header().entry_type();
            let (name, member) = member(&mut entry);
            let member = member.filter(|_| !kind.is_pax_global_extensions());
            if !kind.is_pax_global_extensions() {
                names.take(&name, member.as_ref().map_or(0, MemberKind::bytes));
            }
            if names.others > OTHERS && !names.has_known {
                return Ok(None);
            }
            let is_cut = matches!(&member,
                Some(MemberKind::File { offset, size } | MemberKind::Sparse { offset, size, .. })
                if offset.checked_add(*size).is_none_or(|end| end > length));
            if is_cut || names.bytes > NAMES_LIMIT {
                if !names.look_like_image() {
                    return Ok(None);
                }
                let many = "has more names and links than an archive of images needs".to_owned();
                return Err(if is_cut { bad(Some(name), "is cut short".into()) } else { bad(None, many) });
            }
            // tar(1) makes of a file that it is told to pack once more a hard link to itself.
            let is_itself = matches!(&member, Some(MemberKind::Link(target)) if *target == name);
            if !is_itself || !members.contains_key(&name) {
                members.extend(member.map(|member| (name, member)));
            }
            budget.headers();
        }
        let within = names.within.take().flatten().filter(|_| !names.has_known);
        let within = within.map(|dir| dir + "/").unwrap_or_default();
        let look_like_image = names.look_like_image();
        Ok(Some(Self {
            archive: archive.to_owned(),
            documents,
            layers: layers.clone(),
            file,
            members,
            within,
            look_like_image,
        }))
    }

    /// Whether all names are those of an archive of images, directories' among them: of one that was cut
    /// short nothing else may be left.
    #[must_use]
    pub const fn look_like_image(&self) -> bool {
        self.look_like_image
    }

    fn find_file(&self, name: &str) -> Option<&MemberKind> {
        let mut member = self.members.get(&format!("{}{name}", self.within))?;
        for _ in 0..LINKS {
            match member {
                MemberKind::Link(target) => member = self.members.get(target)?,
                file => return Some(file),
            }
        }
        None
    }

    /// Opens a member; also gives its size. `None` when there is none of this name.
    ///
    /// # Errors
    /// [`Error::BadArchive`] when it is sparse, and where its data belong cannot be understood.
    pub fn open(&self, name: &str) -> Result<Option<(Box<dyn Read + Send>, u64)>> {
        let part = |at| Part { file: self.file.clone(), at };
        let filled = match self.find_file(name) {
            Some(MemberKind::File { offset, size }) => {
                return Ok(Some((Box::new(ExactReader::new(part(*offset), *size)), *size)));
            }
            Some(MemberKind::Sparse { offset, size, records }) => {
                Filled::pax(records, part(*offset), *size, &self.layers)
            }
            Some(MemberKind::OldSparse { header }) => Filled::old_gnu(part(*header), &self.layers),
            Some(MemberKind::Link(_)) | None => return Ok(None),
        };
        let filled = filled.map_err(|error| read_failure(&self.archive, Some(name), error))?;
        let size = filled.size();
        Ok(Some((Box::new(ExactReader::new(filled, size)), size)))
    }
}

impl Documents for TarMembers {
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some((source, size)) = self.open(name)? else { return Ok(None) };
        read_document(&self.archive, self.documents, name, size, source).map(Some)
    }

    fn has(&self, name: &str) -> Result<bool> {
        Ok(self.find_file(name).is_some())
    }

    fn diff_id(&self, name: &str) -> Result<Option<DiffId>> {
        let Some((source, _)) = self.open(name)? else { return Ok(None) };
        diff_id_of(&self.archive, name, self.layers.ratio, source).map(Some)
    }
}
