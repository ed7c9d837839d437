//! The layers of an archive, in their order; those that are compressed, several at once.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write};
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::Builder;

use crate::archive::Blob;
use crate::error::{Context as _, Result};
use crate::id::{DiffId, Digester};
use crate::pack::layer::write_layer_tar;
use crate::progress::Progress;
use crate::save::target::Target;
use crate::store::{LayerRecord, Lease, Store};
use crate::sys::retry;
use crate::tarball::{Codec, Compress};

const BUFFER: usize = 256 << 10;

/// A layer as it will be in the archive.
pub(super) struct Packed {
    pub(super) diff_id: DiffId,
    pub(super) blob: Blob,
    /// Its bytes, when they are not made while they are written.
    file: Option<File>,
}

/// Is told of each layer before it is written, and gives its name in the archive.
type Place<'a> = &'a mut dyn FnMut(&mut dyn Target, &Packed) -> Result<String>;

/// Writes all layers.
pub(super) fn write(
    store: &Store,
    layers: &[&Lease],
    codec: Codec,
    progress: &dyn Progress,
    target: &mut dyn Target,
    place: Place<'_>,
) -> Result<()> {
    if codec == Codec::None {
        for Lease { record, .. } in layers {
            let blob = Blob { digest: record.diff_id.0.into(), size: Some(record.size) };
            let name = place(target, &Packed { diff_id: record.diff_id, blob, file: None })?;
            let task = progress.start(&record.diff_id.hex(), Some(record.size));
            target.file(&name, record.size, &mut |out, path| write_layer_tar(store, record, out, path, &*task))?;
            task.finish("done");
        }
        return Ok(());
    }
    let room = target.waiting_room();
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get).min(layers.len());
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        for number in 0..workers {
            let (send, next, room) = (send.clone(), &next, &room);
            let work = move || {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(Lease { record, .. }) = layers.get(number)
                {
                    // A closed channel says that another one failed; a failure of this one ends the reading of it.
                    if send.send((number, compress(store, record, codec, progress, room))).is_err() {
                        return;
                    }
                }
            };
            match Builder::new().spawn_scoped(scope, work) {
                // With fewer of them it takes longer.
                Err(_) if number > 0 => break,
                started => drop(started.doing("start", "a thread")?),
            }
        }
        drop(send);
        let mut waiting: Vec<Option<Packed>> = layers.iter().map(|_| None).collect();
        let mut written = 0;
        for (number, packed) in receive {
            let packed = packed.inspect_err(|_| next.store(layers.len(), Ordering::Relaxed))?;
            if let Some(slot) = waiting.get_mut(number) {
                *slot = Some(packed);
            }
            while let Some(packed) = waiting.get_mut(written).and_then(Option::take) {
                let name = place(target, &packed)?;
                copy(packed, &name, target)?;
                written = written.saturating_add(1);
            }
        }
        Ok(())
    })
}

fn copy(packed: Packed, name: &str, target: &mut dyn Target) -> Result<()> {
    let (Some(mut file), Some(size)) = (packed.file, packed.blob.size) else { return Ok(()) };
    target.file(name, size, &mut |out, path| {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = retry(|| file.read(&mut buffer)).doing("read", path)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
            out.write_all(bytes).doing("write", path)?;
        }
    })
}

/// Learns what is written.
struct Counted<W> {
    out: W,
    digester: Digester,
    size: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.digester.update(bytes.get(..written).unwrap_or_default());
        self.size = self.size.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Compresses a layer into a file without a name in `room`.
fn compress(store: &Store, layer: &LayerRecord, codec: Codec, progress: &dyn Progress, room: &Path) -> Result<Packed> {
    let task = progress.start(&layer.diff_id.hex(), Some(layer.size));
    let file = tempfile::tempfile_in(room).doing("create a file in", room)?;
    let counted = Counted { out: BufWriter::with_capacity(BUFFER, file), digester: Digester::new(), size: 0 };
    let mut out = Compress::new(codec, counted).doing("write", room)?;
    write_layer_tar(store, layer, &mut out, room, &*task)?;
    let Counted { out, digester, size } = out.finish().doing("write", room)?;
    let mut file = out.into_inner().map_err(io::IntoInnerError::into_error).doing("write", room)?;
    file.rewind().doing("read", room)?;
    task.finish("done");
    let digest = digester.finish().into();
    Ok(Packed { diff_id: layer.diff_id, blob: Blob { digest, size: Some(size) }, file: Some(file) })
}
