//! Random layers, random operations: the union and a plain directory with the flattened tree stay equal.
//!
//! `LAYERCTL_MODEL_CASES` says how many cases each test runs, `LAYERCTL_MODEL_SEED` (a number) repeats a run,
//! `LAYERCTL_MODEL_DIR` names a directory to work in instead of memory.

use layerctl::index::{Kind, Time};
use layerctl::union::RenameMode;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use super::layer_tree::{Item, LayerTree};
use super::model_case::{DONE, IndexFrom, PROVEN, Setting, run};
use super::plain_driver::PlainTree;
use super::tree_op::{Name, Op, Path};

/// How a random operation names a file.
#[derive(Debug, Clone)]
enum Pick {
    /// One that exists.
    Existing(u16),
    /// One that exists and is no directory.
    File(u16),
    /// A directory that exists, the root excepted.
    Dir(u16),
    /// This name in a directory that exists.
    In(u16, u8),
    /// This path, whatever is there.
    Blind(Vec<u8>),
}

fn name(number: u8) -> Name {
    match number % 8 {
        6 => vec![b'n'; 255],
        7 => b"o\xff \n".to_vec(),
        letter => vec![b'a' + letter],
    }
}

fn resolve(pick: &Pick, (dirs, files): &(Vec<Path>, Vec<Path>)) -> Path {
    let below = &dirs[1..];
    let nth = |list: &[Path], number: u16| list.get(usize::from(number) % list.len().max(1)).cloned();
    let blind = |number: u16| vec![name(number.to_le_bytes()[0])];
    match pick {
        Pick::Existing(number) if number % 2 == 0 => nth(below, *number / 2).unwrap_or_else(|| blind(*number)),
        Pick::Existing(number) => nth(files, *number / 2).unwrap_or_else(|| blind(*number)),
        Pick::File(number) => nth(files, *number).unwrap_or_else(|| blind(*number)),
        Pick::Dir(number) => nth(below, *number).unwrap_or_else(|| blind(*number)),
        Pick::In(number, last) => [dirs[usize::from(*number) % dirs.len()].clone(), vec![name(*last)]].concat(),
        Pick::Blind(names) => names.iter().map(|number| name(*number)).collect(),
    }
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![
        6 => any::<u16>().prop_map(Pick::Existing),
        2 => (any::<u16>(), 0..8u8).prop_map(|(dir, name)| Pick::In(dir, name)),
        1 => prop::collection::vec(0..8u8, 1..4).prop_map(Pick::Blind),
    ]
}

fn file() -> impl Strategy<Value = Pick> {
    prop_oneof![12 => any::<u16>().prop_map(Pick::File), 1 => pick()]
}

fn dir() -> impl Strategy<Value = Pick> {
    prop_oneof![8 => any::<u16>().prop_map(Pick::Dir), 1 => pick()]
}

fn fresh() -> impl Strategy<Value = Pick> {
    prop_oneof![
        8 => (any::<u16>(), 0..8u8).prop_map(|(dir, name)| Pick::In(dir, name)),
        1 => any::<u16>().prop_map(Pick::Existing),
    ]
}

fn mode() -> impl Strategy<Value = u32> {
    prop::sample::select(vec![0o644, 0o600, 0o755, 0o777, 0o700, 0o4755, 0o2755, 0o2644, 0o6711, 0o1777, 0o2775, 0])
}

fn time() -> impl Strategy<Value = Time> {
    (0..1_400_000_000i64, 0..1_000_000_000u32).prop_map(|(sec, nsec)| Time { sec, nsec })
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), prop_oneof![4 => 1..40usize, 1 => 4000..9000usize]).prop_map(|(byte, length)| vec![byte | 1; length])
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..30u64, 1 => 4090..4100u64, 1 => 0..60_000u64]
}

fn xattr_name() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec!["user.a", "user.b", "trusted.c", "security.x"]).prop_map(|name| name.as_bytes().to_vec())
}

/// An access control list with one named user: `posix_acl_xattr.h`.
fn acl() -> impl Strategy<Value = Vec<u8>> {
    (0..8u8, 0..8u8, 0..8u8, 0..8u8, 0..8u8).prop_map(|(user, named, group, mask, other)| {
        let none = u32::MAX;
        let entries = [(1u16, user, none), (2, named, 9), (4, group, none), (0x10, mask, none), (0x20, other, none)];
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            bytes.extend(tag.to_le_bytes().into_iter().chain(u16::from(bits).to_le_bytes()).chain(id.to_le_bytes()));
        }
        bytes
    })
}

/// `cap_net_raw=ep`, `VFS_CAP_REVISION_2`.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn special() -> impl Strategy<Value = (Kind, (u32, u32))> {
    prop_oneof![
        Just((Kind::Fifo, (0, 0))),
        Just((Kind::Socket, (0, 0))),
        Just((Kind::CharDevice, (1, 3))),
        Just((Kind::CharDevice, (0, 0))),
        Just((Kind::BlockDevice, (259, 70_000))),
    ]
}

fn item() -> impl Strategy<Value = Item> {
    let shape = prop_oneof![
        4 => Just(0u8),
        8 => Just(1u8),
        1 => Just(2u8),
        1 => Just(3u8),
    ];
    let pieces = prop::collection::vec((offset(), data()), 0..3);
    let xattrs = prop::collection::btree_map(xattr_name(), prop::collection::vec(any::<u8>(), 0..8), 0..2);
    let owner = (0..3u32, 0..3u32);
    (shape, mode(), owner, time(), special(), pieces, xattrs, offset()).prop_map(
        |(shape, mode, (uid, gid), mtime, (kind, rdev), pieces, xattrs, more)| {
            let mut item = Item::new(Kind::Directory, mode);
            match shape {
                0 => {}
                1 => {
                    item.kind = Kind::File;
                    item.size =
                        pieces.iter().map(|(at, data)| at + data.len() as u64).max().unwrap_or(0) + more % 3 * more;
                    item.pieces = pieces;
                }
                2 => {
                    item.kind = Kind::Symlink;
                    item.mode = 0o777;
                    item.target = b"../some/where".to_vec();
                }
                _ => {
                    item.kind = kind;
                    // A character device 0:0 in a lower layer would be overlayfs' whiteout.
                    item.rdev = if rdev == (0, 0) && kind == Kind::CharDevice { (1, 5) } else { rdev };
                }
            }
            (item.uid, item.gid, item.mtime) = (uid, gid, mtime);
            let plain = matches!(item.kind, Kind::File | Kind::Directory);
            item.xattrs = xattrs.into_iter().filter(|(name, _)| plain || !name.starts_with(b"user.")).collect();
            item
        },
    )
}

/// What one random entry of a layer is.
#[derive(Debug, Clone)]
enum Part {
    Item(Item),
    Link(u16),
    Whiteout,
    Opaque,
}

fn layer() -> impl Strategy<Value = LayerTree> {
    let part = prop_oneof![
        10 => item().prop_map(Part::Item),
        2 => any::<u16>().prop_map(Part::Link),
        2 => Just(Part::Whiteout),
        1 => Just(Part::Opaque),
    ];
    let path = prop::collection::vec(0..8u8, 1..4).prop_map(|names| names.into_iter().map(name).collect::<Path>());
    prop::collection::vec((path, part), 0..16).prop_map(|parts| {
        let mut layer = LayerTree::new();
        for (path, part) in parts {
            let parent = &path[..path.len() - 1];
            match part {
                Part::Item(item) => drop(layer.put(path, item)),
                Part::Link(number) => {
                    let files: Vec<_> =
                        layer.names.values().copied().filter(|at| layer.items[*at].kind != Kind::Directory).collect();
                    let free = layer.kind(parent) == Some(Kind::Directory) && layer.kind(&path).is_none();
                    if let Some(file) = files.get(usize::from(number) % files.len().max(1)).filter(|_| free) {
                        layer.names.insert(path, *file);
                    }
                }
                Part::Whiteout => {
                    if layer.kind(parent) == Some(Kind::Directory) {
                        layer.whiteouts.insert(path);
                    }
                }
                Part::Opaque => {
                    if layer.kind(&path) == Some(Kind::Directory) {
                        layer.opaque.insert(path);
                    }
                }
            }
        }
        layer
    })
}

fn rename_mode() -> impl Strategy<Value = RenameMode> {
    prop_oneof![
        6 => Just(RenameMode::Replace),
        1 => Just(RenameMode::NoReplace),
        2 => Just(RenameMode::Exchange),
        1 => Just(RenameMode::Whiteout),
    ]
}

fn fallocate_mode() -> impl Strategy<Value = i32> {
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    prop::sample::select(vec![
        0,
        keep,
        keep | libc::FALLOC_FL_PUNCH_HOLE,
        libc::FALLOC_FL_ZERO_RANGE,
        keep | libc::FALLOC_FL_ZERO_RANGE,
    ])
}

fn op() -> impl Strategy<Value = Op<Pick>> {
    let slot = || 0..3usize;
    let umask = || prop::sample::select(vec![0, 0o022, 0o077]);
    let names = prop_oneof![
        4 => (fresh(), mode(), umask()).prop_map(|(path, mode, umask)| Op::Create { path, mode, umask }),
        4 => (fresh(), mode(), umask()).prop_map(|(path, mode, umask)| Op::Mkdir { path, mode, umask }),
        1 => (fresh(), special(), mode()).prop_map(|(path, (kind, rdev), mode)| Op::Mknod { path, kind, mode, rdev }),
        1 => (fresh(), data()).prop_map(|(path, target)| Op::Symlink { path, target: target[..target.len().min(99)].to_vec() }),
        3 => (file(), fresh()).prop_map(|(from, to)| Op::Link { from, to }),
        5 => file().prop_map(|path| Op::Unlink { path }),
        4 => dir().prop_map(|path| Op::Rmdir { path }),
        6 => (pick(), fresh(), rename_mode()).prop_map(|(from, to, mode)| Op::Rename { from, to, mode }),
        2 => (dir(), dir(), rename_mode()).prop_map(|(from, to, mode)| Op::Rename { from, to, mode }),
        2 => (file(), file(), rename_mode()).prop_map(|(from, to, mode)| Op::Rename { from, to, mode }),
        1 => (pick(), pick(), rename_mode()).prop_map(|(from, to, mode)| Op::Rename { from, to, mode }),
    ];
    let contents = prop_oneof![
        3 => (file(), offset(), data()).prop_map(|(path, offset, data)| Op::Write { path, offset, data }),
        1 => (file(), data()).prop_map(|(path, data)| Op::Append { path, data }),
        1 => (file(), offset()).prop_map(|(path, size)| Op::Truncate { path, size }),
        2 => (file(), fallocate_mode(), offset(), 1..9000u64)
            .prop_map(|(path, mode, offset, length)| Op::Fallocate { path, mode, offset, length }),
        1 => (file(), file(), offset(), 1..9000u64)
            .prop_map(|(from, to, offset, length)| Op::CopyRange { from, to, offset, length }),
        1 => (file(), offset()).prop_map(|(path, offset)| Op::Read { path, offset, length: 10_000 }),
        1 => (file(), offset(), prop::sample::select(vec![libc::SEEK_DATA, libc::SEEK_HOLE]))
            .prop_map(|(path, offset, whence)| Op::Seek { path, offset, whence }),
    ];
    let attributes = prop_oneof![
        3 => (pick(), mode()).prop_map(|(path, mode)| Op::Chmod { path, mode }),
        2 => (pick(), 0..3u32, prop::option::of(0..3u32))
            .prop_map(|(path, uid, gid)| Op::Chown { path, uid: Some(uid), gid }),
        2 => (pick(), prop::option::of(time())).prop_map(|(path, mtime)| Op::Utimens { path, mtime }),
        2 => (pick(), xattr_name(), prop::collection::vec(any::<u8>(), 0..8), 0..3i32)
            .prop_map(|(path, name, value, flags)| Op::SetXattr { path, name, value, flags }),
        2 => (pick(), any::<bool>(), acl()).prop_map(|(path, default, value)| {
            let name: &[u8] = if default { b"system.posix_acl_default" } else { b"system.posix_acl_access" };
            Op::SetXattr { path, name: name.to_vec(), value, flags: 0 }
        }),
        1 => pick().prop_map(|path| {
            let value = CAPABILITY.to_vec();
            Op::SetXattr { path, name: b"security.capability".to_vec(), value, flags: 0 }
        }),
        1 => (pick(), xattr_name()).prop_map(|(path, name)| Op::RemoveXattr { path, name }),
        1 => (pick(), xattr_name()).prop_map(|(path, name)| Op::GetXattr { path, name }),
        1 => pick().prop_map(|path| Op::Readlink { path }),
        1 => dir().prop_map(|path| Op::Readdir { path }),
        1 => pick().prop_map(|path| Op::Stat { path }),
    ];
    let slots = prop_oneof![
        4 => (file(), slot()).prop_map(|(path, slot)| Op::Open { path, slot }),
        1 => slot().prop_map(|slot| Op::Close { slot }),
        2 => (slot(), offset()).prop_map(|(slot, offset)| Op::SlotRead { slot, offset, length: 10_000 }),
        2 => (slot(), offset(), data()).prop_map(|(slot, offset, data)| Op::SlotWrite { slot, offset, data }),
        1 => (slot(), offset()).prop_map(|(slot, size)| Op::SlotTruncate { slot, size }),
        3 => slot().prop_map(|slot| Op::SlotStat { slot }),
        1 => Just(Op::Reopen),
    ];
    prop_oneof![6 => names, 3 => contents, 2 => attributes, 2 => slots]
}

/// A number from the environment.
pub(crate) fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Runs random cases without a mount (settings: references kept, lowers immutable): `share` of a hundred of those that the environment asks for.
fn model(share: u64, from: IndexFrom, layers: std::ops::Range<usize>, ops: std::ops::Range<usize>) {
    let cases = number_from("LAYERCTL_MODEL_CASES").unwrap_or(4000) * share / 100;
    repeat(cases, layers, ops, |layers, [keep, immutable], next| run(layers, Setting { from, keep, immutable }, next));
    let [done, refused] = [0, 1].map(|at| DONE[at].load(std::sync::atomic::Ordering::Relaxed));
    eprintln!("{done} operations were done, {refused} refused");
    let [proven, marked] = [0, 1].map(|at| PROVEN[at].load(std::sync::atomic::Ordering::Relaxed));
    eprintln!(
        "{cases} cases; so far {proven} rw layers proven as layers, {marked} with marks or a device 0:0 passed over"
    );
}

/// Runs random histories on random layers; `run` gets the layers, two random settings, and what gives it the
/// operation of each step.
pub(crate) fn repeat(
    cases: u64,
    layers: std::ops::Range<usize>,
    ops: std::ops::Range<usize>,
    run: impl Fn(&[LayerTree], [bool; 2], &mut dyn FnMut(usize, &PlainTree) -> Option<Op<Path>>) -> Result<(), String>,
) {
    let seed = number_from("LAYERCTL_MODEL_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        u64::from(now.subsec_nanos()) << 20 | now.as_secs() & 0xf_ffff
    });
    let config = Config {
        cases: u32::try_from(cases).expect("a number of cases"),
        failure_persistence: None,
        max_shrink_iters: 3000,
        max_shrink_time: 30_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let settings = [any::<bool>(), any::<bool>()];
    let strategy = (prop::collection::vec(layer(), layers), prop::collection::vec(op(), ops), settings);
    let result = runner.run(&strategy, |(layers, ops, settings)| {
        let mut next = |step: usize, plain: &PlainTree| {
            let list = plain.list();
            ops.get(step).map(|op| op.map(|pick| resolve(pick, &list)))
        };
        run(&layers, settings, &mut next).map_err(TestCaseError::fail)
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, (layers, _, settings))) => panic!(
            "LAYERCTL_MODEL_SEED={seed}, settings {settings:?}, layers (lowest first):\n{}\n{reason}",
            describe(&layers)
        ),
        Err(other) => panic!("{other}"),
    }
}

fn describe(layers: &[LayerTree]) -> String {
    let mut text = String::new();
    for (number, layer) in layers.iter().enumerate() {
        text += &format!("layer {number}\n");
        for (path, item) in &layer.names {
            let found = &layer.items[*item];
            let (path, size) = (super::tree_op::show(path), found.size);
            text += &format!(
                "  {path} #{item} {:?} {:o} {}:{} {size} {:?}\n",
                found.kind, found.mode, found.uid, found.gid, found.xattrs
            );
        }
        for path in &layer.whiteouts {
            text += &format!("  {} whiteout\n", super::tree_op::show(path));
        }
        for path in &layer.opaque {
            text += &format!("  {} opaque\n", super::tree_op::show(path));
        }
    }
    text
}

#[test]
fn a_union_of_scanned_directories_is_a_plain_directory() {
    model(40, IndexFrom::Scan, 1..4, 1..40);
}

#[test]
fn a_union_of_many_indexed_layers_is_a_plain_directory() {
    model(30, IndexFrom::Builder, 2..6, 1..30);
}

#[test]
fn short_histories_on_one_layer_are_those_of_a_plain_directory() {
    model(30, IndexFrom::Builder, 1..2, 1..6);
}
