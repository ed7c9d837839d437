//! Layers and a history of operations on a union of them, beside a plain directory that has the flattened tree.
//!
//! Records of eight bytes, so that the fuzzer can exchange them: what is done, two paths of two bytes each, and three
//! bytes more. The first record says how the union is opened; those up to the first operation are parts of the layers,
//! the lowest first.

use layerctl::index::{Kind, Time};
use layerctl::union::RenameMode;

use crate::layer_tree::{Item, LayerTree};
use crate::model_case::{IndexFrom, Setting, run as run_case};
use crate::plain_driver::PlainTree;
use crate::tree_op::{Name, Op, Path};

const RECORD: usize = 8;
const LAYERS: usize = 4;
const PARTS: usize = 24;
const OPERATIONS: usize = 48;
/// Records from this number on are operations.
const FIRST_OPERATION: u8 = 64;

pub(crate) fn run(data: &[u8]) -> bool {
    let mut records = data.chunks_exact(RECORD).map(|record| <[u8; RECORD]>::try_from(record).expect("as long"));
    let Some([how, ..]) = records.next() else { return false };
    let records: Vec<[u8; RECORD]> = records.collect();
    let first = records.iter().position(|[what, ..]| *what >= FIRST_OPERATION).unwrap_or(records.len());
    let (parts, operations) = records.split_at(first);
    let layers = layers(parts);
    let from = if how & 1 == 0 { IndexFrom::Scan } else { IndexFrom::Builder };
    let setting = Setting { from, keep: how & 2 != 0, immutable: how & 4 != 0 };
    let next = |step: usize, plain: &PlainTree| {
        let record = operations.get(step).filter(|_| step < OPERATIONS)?;
        Some(operation(*record, &plain.list()))
    };
    if let Err(wrong) = run_case(&layers, setting, next) {
        panic!("the union and the plain tree differ: {wrong}");
    }
    !operations.is_empty()
}

fn name(number: u8) -> Name {
    match number % 8 {
        6 => vec![b'n'; 255],
        7 => b"o\xff \n".to_vec(),
        letter => vec![b'a' + letter],
    }
}

/// A path of one to three names, whatever is there.
fn blind([x, y]: [u8; 2]) -> Path {
    let names = [y & 7, y >> 3 & 7, x & 7].map(name);
    names.into_iter().take(usize::from(x >> 3) % 3 + 1).collect()
}

/// A path in a tree of these directories, of which the first is the root, and files.
fn pick(bytes: [u8; 2], (dirs, files): &(Vec<Path>, Vec<Path>)) -> Path {
    let [x, y] = bytes;
    let nth = |list: &[Path], number: u8| list.get(usize::from(number) % list.len().max(1)).cloned();
    let found = match x % 8 {
        0 | 1 => nth(files, y),
        2 => nth(&dirs[1..], y),
        3 => {
            if y % 2 == 0 {
                nth(&dirs[1..], y / 2)
            } else {
                nth(files, y / 2)
            }
        }
        4..=6 => nth(dirs, x / 8).map(|dir| [dir, vec![name(y)]].concat()),
        _ => None,
    };
    found.unwrap_or_else(|| blind([x / 8, y]))
}

const MODES: [u32; 12] = [0o644, 0o600, 0o755, 0o777, 0o700, 0o4755, 0o2755, 0o2644, 0o6711, 0o1777, 0o2775, 0];
const XATTRS: [&str; 4] = ["user.a", "user.b", "trusted.c", "security.x"];
const KINDS: [(Kind, (u32, u32)); 5] = [
    (Kind::Fifo, (0, 0)),
    (Kind::Socket, (0, 0)),
    (Kind::CharDevice, (1, 3)),
    (Kind::BlockDevice, (259, 70_000)),
    (Kind::CharDevice, (0, 0)),
];

fn of<T: Copy>(list: &[T], number: u8) -> T {
    list[usize::from(number) % list.len()]
}

fn mode(number: u8) -> u32 {
    of(&MODES, number)
}

fn xattr(number: u8) -> Name {
    of(&XATTRS, number).as_bytes().to_vec()
}

/// A place in a file: near its beginning, at the edge of a page, or far out.
fn offset(number: u8) -> u64 {
    let number = u64::from(number);
    match number % 4 {
        0 | 1 => number / 8,
        2 => 4090 + number / 16,
        _ => number * 230,
    }
}

/// Some bytes, few or more than a page.
fn bytes(byte: u8, length: u8) -> Vec<u8> {
    let length = if length < 200 { usize::from(length) % 40 + 1 } else { usize::from(length) * 35 };
    vec![byte | 1; length]
}

/// An access control list with one named user: `posix_acl_xattr.h`.
fn acl(a: u8, b: u8) -> Vec<u8> {
    let none = u32::MAX;
    let bits = [a & 7, a >> 3 & 7, b & 7, b >> 3 & 7, a >> 6];
    let tags = [(1u16, none), (2, 9), (4, none), (0x10, none), (0x20, none)];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for ((tag, id), bits) in tags.into_iter().zip(bits) {
        bytes.extend(tag.to_le_bytes().into_iter().chain(u16::from(bits).to_le_bytes()).chain(id.to_le_bytes()));
    }
    bytes
}

fn layers(parts: &[[u8; RECORD]]) -> Vec<LayerTree> {
    let mut layers = vec![LayerTree::new()];
    for [what, x, y, a, b, c, d, e] in parts.iter().take(PARTS).copied() {
        let is_full = layers.len() == LAYERS;
        let Some(layer) = layers.last_mut() else { break };
        let path = blind([x, y]);
        let parent = &path[..path.len() - 1];
        match what % 16 {
            0..=8 => drop(layer.put(path, item(what % 16, [a, b, c, d, e]))),
            9 | 10 => {
                let files: Vec<usize> =
                    layer.names.values().copied().filter(|at| layer.items[*at].kind != Kind::Directory).collect();
                let is_free = layer.kind(parent) == Some(Kind::Directory) && layer.kind(&path).is_none();
                if let Some(file) = files.get(usize::from(a) % files.len().max(1)).filter(|_| is_free) {
                    layer.names.insert(path, *file);
                }
            }
            11 | 12 => {
                if layer.kind(parent) == Some(Kind::Directory) {
                    layer.whiteouts.insert(path);
                }
            }
            13 => {
                if layer.kind(&path) == Some(Kind::Directory) {
                    layer.opaque.insert(path);
                }
            }
            _ if is_full => {}
            _ => layers.push(LayerTree::new()),
        }
    }
    layers
}

fn item(what: u8, [a, b, c, d, e]: [u8; 5]) -> Item {
    let mut item = Item::new(Kind::File, mode(a));
    match what {
        0..=4 => {
            if b != 0 {
                item.pieces = vec![(offset(b), bytes(c, d))];
            }
            item.size = item.pieces.iter().map(|(at, data)| at + data.len() as u64).max().unwrap_or(0);
        }
        5 | 6 => item.kind = Kind::Directory,
        7 => {
            (item.kind, item.mode) = (Kind::Symlink, 0o777);
            item.target = bytes(b, c % 40);
        }
        // Not the last: in a lower layer it is overlayfs' whiteout.
        _ => (item.kind, item.rdev) = of(&KINDS[..4], b),
    }
    (item.uid, item.gid) = (u32::from(e & 3), u32::from(e >> 2 & 3));
    let plain = matches!(item.kind, Kind::File | Kind::Directory);
    let name = xattr(e >> 4);
    if e & 0x80 != 0 && (plain || !name.starts_with(b"user.")) {
        item.xattrs.insert(name, vec![c; usize::from(d % 8)]);
    }
    item
}

fn rename_mode(number: u8) -> RenameMode {
    match number % 8 {
        0..=4 => RenameMode::Replace,
        5 => RenameMode::Exchange,
        6 => RenameMode::NoReplace,
        _ => RenameMode::Whiteout,
    }
}

fn fallocate_mode(number: u8) -> i32 {
    let (keep, zero) = (libc::FALLOC_FL_KEEP_SIZE, libc::FALLOC_FL_ZERO_RANGE);
    of(&[0, keep, keep | libc::FALLOC_FL_PUNCH_HOLE, zero, keep | zero], number)
}

fn operation([what, x, y, u, v, a, b, c]: [u8; RECORD], tree: &(Vec<Path>, Vec<Path>)) -> Op<Path> {
    let path = pick([x, y], tree);
    let other = || pick([u, v], tree);
    let umask = of(&[0, 0o022, 0o077], v);
    let length = u64::from(c) * 35 + 1;
    let slot = usize::from(u) % 3;
    match what.wrapping_sub(FIRST_OPERATION) % 40 {
        0 | 1 => Op::Create { path, mode: mode(a), umask },
        2 | 3 => Op::Mkdir { path, mode: mode(a), umask },
        4 => {
            let (kind, rdev) = of(&KINDS, b);
            Op::Mknod { path, kind, mode: mode(a), rdev }
        }
        5 => Op::Symlink { path, target: bytes(a, b % 99) },
        6 | 7 => Op::Link { from: path, to: other() },
        8..=10 => Op::Unlink { path },
        11 | 12 => Op::Rmdir { path },
        13..=16 => Op::Rename { from: path, to: other(), mode: rename_mode(a) },
        17 | 18 => Op::Write { path, offset: offset(a), data: bytes(b, c) },
        19 => Op::Append { path, data: bytes(b, c) },
        20 => Op::Truncate { path, size: offset(a) },
        21 => Op::Chmod { path, mode: mode(a) },
        22 => Op::Chown { path, uid: Some(u32::from(a % 3)), gid: Some(u32::from(b % 3)).filter(|_| c % 2 == 0) },
        23 => {
            let time = Time { sec: i64::from(a) << 22, nsec: u32::from(b) << 20 };
            Op::Utimens { path, mtime: Some(time).filter(|_| c % 4 != 0) }
        }
        24 => Op::SetXattr { path, name: xattr(a), value: vec![b; usize::from(c % 8)], flags: i32::from(v % 3) },
        25 => {
            let name: &[u8] = if c % 2 == 0 { b"system.posix_acl_access" } else { b"system.posix_acl_default" };
            Op::SetXattr { path, name: name.to_vec(), value: acl(a, b), flags: 0 }
        }
        26 => Op::RemoveXattr { path, name: xattr(a) },
        27 => Op::GetXattr { path, name: xattr(a) },
        28 => Op::Fallocate { path, mode: fallocate_mode(a), offset: offset(b), length },
        29 => Op::Readlink { path },
        30 => Op::Readdir { path },
        31 => Op::Read { path, offset: offset(a), length: 10_000 },
        32 => Op::Seek { path, offset: offset(a), whence: if b % 2 == 0 { libc::SEEK_DATA } else { libc::SEEK_HOLE } },
        33 => Op::CopyRange { from: path, to: other(), offset: offset(a), length },
        34 => Op::Open { path, slot },
        35 => Op::SlotWrite { slot, offset: offset(a), data: bytes(b, c) },
        36 => match a % 3 {
            0 => Op::SlotRead { slot, offset: offset(b), length: 10_000 },
            1 => Op::SlotTruncate { slot, size: offset(b) },
            _ => Op::Close { slot },
        },
        37 => Op::SlotStat { slot },
        38 => Op::Stat { path },
        _ => Op::Reopen,
    }
}
