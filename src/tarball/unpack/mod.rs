//! A tar becomes a layer's files, its index and its split, in one pass.

mod content;

use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::channel;

use super::chunk::{Chunk, Chunks};
use super::entry::{self, Before, Entry, Global};
use super::failure::display;
use super::hashing::Hashing;
use super::header::Header;
use super::input::Input;
use super::pax;
use super::sparse::{self, Form, Map, TextMap};
use super::tree::Tree;
use super::unpack_options::UnpackOptions;
use super::write_back::WriteBack;
use super::{BLOCK, Failure, Limits, PathFilter, Refusal, padding, path, size_text, split};
use crate::id::DiffId;
use crate::index::{Index, Kind};
use crate::whiteout::{self, Marker};

/// What came of a tar.
#[derive(Debug)]
pub struct Unpacked {
    /// The digest of every byte of the tar.
    pub diff_id: DiffId,
    /// Bytes of the whole tar.
    pub size: u64,
    /// Bytes of it that are file content.
    pub content_bytes: u64,
    /// Entries in it, whiteouts and replaced ones included.
    pub entries: u64,
    /// The tree.
    pub index: Index,
}

/// Reads one uncompressed layer tar to its very end: writes the content into the empty directory `into`,
/// and all bytes that are no file content into `split` (see [`assemble`](super::assemble())).
///
/// The directory is a layer directory in AUFS' sense: whiteouts are `.wh.` files. Nothing is flushed to
/// stable storage. When this fails, the directory is left as it is at that moment.
///
/// # Errors
/// [`Failure::Bad`] when the tar is wrong, hostile or beyond `limits`; else what failed.
pub fn unpack(
    tar: &mut dyn Read,
    into: BorrowedFd<'_>,
    split: &mut (dyn Write + Send),
    limits: &Limits,
) -> Result<Unpacked, Failure> {
    unpack_as(&UnpackOptions::new(limits), tar, into, split)
}

/// As [`unpack`], in the way that is asked for.
///
/// ```text
/// read ───────────────────────► unpack ─► files
/// or another thread: decompress ─┘└─► another thread: hash all and each file
/// ```
///
/// # Errors
/// As [`unpack`].
pub fn unpack_as(
    options: &UnpackOptions<'_>,
    tar: &mut dyn Read,
    into: BorrowedFd<'_>,
    split: &mut (dyn Write + Send),
) -> Result<Unpacked, Failure> {
    let (hashing, hasher) = Hashing::new();
    let chunks = Chunks::new(tar);
    let no_thread = |error: std::io::Error| Failure::write("start a thread for", b"", error);
    std::thread::scope(|scope| {
        let spawn = |name: &str| std::thread::Builder::new().name(name.into());
        spawn("hash").spawn_scoped(scope, || hasher.run()).map_err(no_thread)?;
        if !options.is_dear {
            return Unpacking::unpack(options, Input::new(chunks, hashing, options.limits), into, split);
        }
        let (to_input, come) = channel();
        let unpacking = || {
            let unpacked =
                Unpacking::unpack(options, Input::new(come.into_iter(), hashing, options.limits), into, split);
            unpacked.inspect_err(|_| (options.failed)())
        };
        let unpacking = spawn("unpack").spawn_scoped(scope, unpacking).map_err(no_thread)?;
        // Until the unpacking thread has ended.
        for chunk in chunks {
            if to_input.send(chunk).is_err() {
                break;
            }
        }
        drop(to_input);
        unpacking.join().map_err(|_| Failure::bad("could not be unpacked"))?
    })
}

struct Unpacking<'a, C> {
    input: Input<'a, C>,
    write_back: Option<WriteBack>,
    split: split::Writer<'a>,
    tree: Tree,
    limits: &'a Limits,
    wanted: &'a PathFilter,
    is_layer: bool,
    global: Global,
    global_bytes: u64,
    entries: u64,
    /// Bytes of paths, links and attributes, which stay in memory to the end.
    index_bytes: u64,
    content_bytes: u64,
    holes_left: u64,
    /// The path of the entry that is being read.
    at: Vec<u8>,
}

fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn cut_short(path: &[u8]) -> Failure {
    Failure::entry(path, "is cut short")
}

impl<'a, C: Iterator<Item = io::Result<Arc<Chunk>>>> Unpacking<'a, C> {
    fn unpack(
        options: &UnpackOptions<'a>,
        input: Input<'a, C>,
        into: BorrowedFd<'_>,
        split: &'a mut (dyn Write + Send),
    ) -> Result<Unpacked, Failure> {
        let mut unpacking = Self {
            input,
            // error: without a thread for it, all is written at the end
            write_back: options.write_back.then(WriteBack::start).and_then(Result::ok),
            split: split::Writer::new(split)?,
            tree: Tree::new(into, options.modes)?,
            limits: options.limits,
            wanted: options.wanted,
            is_layer: options.is_layer,
            global: Global::new(),
            global_bytes: 0,
            entries: 0,
            index_bytes: 0,
            content_bytes: 0,
            holes_left: options.limits.hashed_holes,
            at: Vec::new(),
        };
        let ran = unpacking.run();
        // What is read says that a limit is reached, and not where.
        ran.map_err(|failure| failure.with_entry(&unpacking.at))?;
        let Self { input, split, tree, entries, content_bytes, .. } = unpacking;
        let size = input.size();
        split.finish(size)?;
        let digests = input.hashing.finish()?;
        let index = tree.finish(&digests)?;
        Ok(Unpacked { diff_id: digests.diff_id, size, content_bytes, entries, index })
    }

    fn run(&mut self) -> Result<(), Failure> {
        let mut before = Before::default();
        while let Some(block) = self.block()? {
            if is_zero(&block) {
                if before.bytes > 0 {
                    break;
                }
                return self.end();
            }
            let header = Header::parse(&block).ok_or_else(|| Failure::bad("has a header with a wrong checksum"))?;
            if !self.extended(&header, &mut before)? {
                self.entry(&header, &std::mem::take(&mut before))?;
            }
        }
        match self.input.size() {
            // So old builders write a layer without entries.
            0 => Ok(()),
            // Some writers leave out the two blocks of zeros.
            _ if before.bytes == 0 && self.entries > 0 => Ok(()),
            _ => Err(Failure::bad("is cut short")),
        }
    }

    /// The next block, which is no content.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Failure> {
        let block = self.input.block()?;
        if let Some(block) = &block {
            self.split.literal(block)?;
        }
        Ok(block)
    }

    /// After the first block of zeros: the second one, and whatever follows it.
    fn end(&mut self) -> Result<(), Failure> {
        if self.block()?.is_some_and(|block| !is_zero(&block)) {
            return Err(Failure::bad("has a lone block of zeros in it"));
        }
        loop {
            let bytes = self.input.take(u64::MAX)?;
            if bytes.is_empty() {
                return Ok(());
            }
            self.split.literal(bytes)?;
        }
    }

    /// Reads a header that only belongs to the next one, or to all; `false` for any other.
    fn extended(&mut self, header: &Header, before: &mut Before) -> Result<bool, Failure> {
        let kind = header.kind();
        if !matches!(kind, b'x' | b'g' | b'L' | b'K') {
            return Ok(false);
        }
        let refuse = |why: String| Failure::entry(&header.path(), why);
        let size = header.size().map_err(refuse)?;
        let total = if kind == b'g' { &mut self.global_bytes } else { &mut before.bytes };
        // An empty one counts too: it must be followed by something.
        *total = total.saturating_add(size.max(1));
        if *total > self.limits.headers {
            let why = format!("has more than {} bytes of extended headers", size_text(self.limits.headers));
            return Err(Failure::entry(&header.path(), Refusal::limit("headers", why)));
        }
        let mut body = Vec::new();
        self.literal(size, b"an extended header", |bytes| body.extend_from_slice(bytes))?;
        let text = |body: &[u8]| body.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        let records = |body: &[u8]| pax::records(body).ok_or_else(|| refuse("is a malformed extended header".into()));
        match kind {
            b'x' => before.pax.extend(records(&body)?),
            b'g' => entry::add_global(&mut self.global, records(&body)?).map_err(refuse)?,
            b'L' => before.path = Some(text(&body)),
            _ => before.link = Some(text(&body)),
        }
        Ok(true)
    }

    /// Reads data that the split keeps, with their padding.
    fn literal(&mut self, size: u64, path: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), Failure> {
        let mut left = size;
        while left > 0 {
            let bytes = self.input.take(left)?;
            if bytes.is_empty() {
                return Err(cut_short(path));
            }
            each(bytes);
            self.split.literal(bytes)?;
            left = left.saturating_sub(bytes.len() as u64);
        }
        self.padding(size)
    }

    /// What fills the last block of data. Some writers leave it out at the end, and readers of Go take that.
    fn padding(&mut self, size: u64) -> Result<(), Failure> {
        let bytes = self.input.take(padding(size))?;
        self.split.literal(bytes)
    }

    fn entry(&mut self, header: &Header, before: &Before) -> Result<(), Failure> {
        let path = entry::path(header, before).map_err(|why| Failure::entry(&header.path(), why))?;
        self.at.clone_from(&path);
        self.entries = self.entries.saturating_add(1);
        self.tree.within(self.entries, self.limits)?;
        let refuse = |why: String| Failure::entry(&path, why);
        let limited = |refusal: Refusal| Failure::entry(&path, refusal);
        let components = path::components(&path, self.limits).map_err(limited)?;
        let mut entry = Entry::new(header, path.clone(), before, &self.global, self.limits).map_err(limited)?;
        self.described(&entry).map_err(limited)?;
        if !self.is_layer && components.iter().any(|part| whiteout::is_reserved(part)) {
            return Err(refuse(whiteout::RESERVED.into()));
        }
        let Some((name, dirs)) = components.split_last() else {
            if entry.meta.kind != Kind::Directory {
                return Err(refuse("is the layer's root, and no directory".into()));
            }
            self.tree.root(entry);
            return Ok(());
        };
        let map = self.map(&mut entry)?;
        // Before anything of it is read.
        self.input.expect(entry.data, map.size.saturating_sub(entry.data)).map_err(limited)?;
        let mut private = false;
        for dir in dirs {
            match whiteout::parse(dir) {
                None => {}
                Some(Marker::Private | Marker::Long) => private = true,
                Some(_) => return Err(refuse("lies below a whiteout".into())),
            }
        }
        let marker = whiteout::parse(name);
        match marker {
            Some(Marker::Invalid) => return Err(refuse("is a whiteout of nothing that could exist".into())),
            _ if private || matches!(marker, Some(Marker::Private | Marker::Long)) => {
                return self.private(dirs, name, &entry, &map);
            }
            _ => {}
        }
        let place = self.tree.place(&path, dirs, name, (self.entries, self.limits))?;
        if let (Some(_), Some(link)) = (marker, &place.link) {
            // What it hides is in other layers, which do not have the link.
            return Err(refuse(format!("is a whiteout that passes through the link `{}`", display(link))));
        }
        match marker {
            Some(Marker::Whiteout(hidden)) => self.tree.whiteout(&place, hidden)?,
            Some(_) => self.tree.opaque(&place)?,
            None if entry.hard_link => return self.tree.hard_link(&place, &entry, self.limits),
            None if entry.meta.kind == Kind::File => return self.file(&place, entry, &map),
            None => return self.tree.put(&place, entry),
        }
        self.literal(entry.data, &path, |_| {})
    }

    /// Counts what is kept of an entry.
    fn described(&mut self, entry: &Entry) -> Result<(), Refusal> {
        let attributes = entry.xattrs.iter().flat_map(|(name, value)| [name.len(), value.len()]);
        let bytes = attributes
            .chain([entry.path.len(), entry.link.len()])
            .fold(0u64, |sum, one| sum.saturating_add(one as u64));
        self.index_bytes = self.index_bytes.saturating_add(bytes);
        if self.index_bytes <= self.limits.index {
            return Ok(());
        }
        let why = format!(
            "is one of those whose paths, links and attributes are more than {} bytes",
            size_text(self.limits.index)
        );
        Err(Refusal::limit("index", why))
    }

    /// The map of the entry's data, the parts of it that follow the header included.
    fn map(&mut self, entry: &mut Entry) -> Result<Map, Failure> {
        let path = &entry.path;
        let refuse = |why: Refusal| Failure::entry(path, why);
        let most = self.limits.extents;
        let map = match entry.sparse.take() {
            None => Map { size: entry.data, regions: vec![(0, entry.data)] },
            Some(Form::Known(map)) => map,
            Some(Form::Blocks(mut map)) => {
                let mut more = true;
                while more {
                    let block = self.block()?.ok_or_else(|| cut_short(path))?;
                    more = sparse::extend_old_gnu(&mut map, &block, most).map_err(refuse)?;
                }
                map
            }
            Some(Form::InData(size)) => {
                let mut text = TextMap::default();
                loop {
                    let left = entry.data.checked_sub(BLOCK as u64);
                    entry.data = left.ok_or_else(|| refuse("has a malformed sparse map".into()))?;
                    let block = self.block()?.ok_or_else(|| cut_short(path))?;
                    if text.block(&block, most).map_err(refuse)? {
                        break;
                    }
                }
                Map { size, ..text.map }
            }
        };
        map.checked(entry.data).map_err(|why| refuse(why.into()))
    }
}
