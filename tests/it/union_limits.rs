//! What a union must do within limits of its process.

use layerctl::index::Kind;
use layerctl::union::{Ino, NewFile};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::layer_tree::LayerTree;
use super::own_process;
use super::union_driver::ROOT_USER;
use super::union_session::Session;

const FILES: usize = 5000;
const ORPHANS: usize = 2000;

#[test]
fn thousands_of_files_need_few_descriptors() {
    let name = "union_limits::thousands_of_files_need_few_descriptors";
    if !own_process::is_own(name) {
        return own_process::run(name);
    }
    let layer = (0..FILES).fold(LayerTree::new(), |layer, number| {
        layer.file(&format!("d{}/f{number}", number % 50), number.to_string().as_bytes())
    });
    setrlimit(Resource::Nofile, Rlimit { current: Some(256), maximum: Some(256) }).expect("setrlimit");
    let mut session = Session::over(&[layer]);
    let file = |number: usize| format!("d{}/f{number}", number % 50);
    let mut open = Vec::new();
    for number in 0..FILES {
        let held = session.lookup(file(number)).expect("lookup");
        assert_eq!(session.tree().read(held.ino(), 0, 9), Ok(number.to_string().into_bytes()));
        session.union().write(held.ino(), 0, b"w", None, layerctl::union::Times::Move).untold().expect("write");
        if number % 3 == 0 {
            let name = format!("d{}/new{number}", number % 50);
            session.put(&name, b"new");
        }
        open.push(held);
    }
    for (number, held) in open.iter().enumerate().take(ORPHANS) {
        session.unlink(file(number)).expect("unlink");
        assert_eq!(session.fstat(held).nlink, 0);
    }
    for (number, held) in open.iter().enumerate() {
        let mut content = number.to_string().into_bytes();
        content[0] = b'w';
        assert_eq!(session.tree().read(held.ino(), 0, 9), Ok(content), "{number}");
        session.union().write(held.ino(), 0, b"v", None, layerctl::union::Times::Move).untold().expect("write");
    }
    drop(open);
    session.reopen();
    assert_eq!(session.snapshot().entries.len(), 1 + 50 + FILES - ORPHANS + FILES.div_ceil(3));
}

#[test]
fn the_umask_of_the_process_is_nowhere_seen() {
    let name = "union_limits::the_umask_of_the_process_is_nowhere_seen";
    if !own_process::is_own(name) {
        return own_process::run(name);
    }
    let mut session =
        Session::over(&[LayerTree::new().dir("d", 0o777).file_with("d/low", b"1", |item| item.mode = 0o666)]);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    for (name, kind) in [("file", Kind::File), ("fifo", Kind::Fifo)] {
        let new = NewFile { kind, mode: 0o666, umask: 0o002, rdev: (0, 0) };
        let made = session.union().create(Ino::ROOT, name.as_bytes(), new, ROOT_USER).expect("create");
        drop(session.tree().held(made));
    }
    session.mkdir("dir", 0o777).expect("mkdir");
    session.write("d/low", 0, b"2").expect("write");
    session.reopen();
    for (name, mode) in [("file", 0o664), ("fifo", 0o664), ("dir", 0o777), ("d", 0o777), ("d/low", 0o666)] {
        assert_eq!(session.stat(name).expect("stat").mode, mode, "{name}");
    }
}

/// The processor time of this thread while all `entries` files and as many directories of a lower directory are removed, and a
/// directory is made for each, with a look at the parent after each step as the kernel takes it.
fn cost_of_removal(entries: usize) -> std::time::Duration {
    let layer = (0..entries).fold(LayerTree::new(), |layer, number| {
        layer.file(&format!("d/f{number}"), b"").dir(&format!("d/s{number}"), 0o755)
    });
    let mut session = Session::over(&[layer]);
    let dir = session.lookup("d").expect("lookup");
    let links = |session: &Session, expected: usize| {
        assert_eq!(session.fstat(&dir).nlink as usize, 2 + expected);
    };
    links(&session, entries);
    let clock = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let began = clock();
    for number in 0..entries {
        session.unlink(format!("d/f{number}")).expect("unlink");
        links(&session, entries - number);
        session.rmdir(format!("d/s{number}")).expect("rmdir");
        links(&session, entries - number - 1);
        session.mkdir(&format!("d/new{number}"), 0o755).expect("mkdir");
        links(&session, entries - number);
        session.rmdir(format!("d/new{number}")).expect("rmdir");
    }
    let ended = clock();
    let nanos = |time: rustix::time::Timespec| time.tv_sec * 1_000_000_000 + time.tv_nsec;
    std::time::Duration::from_nanos(u64::try_from(nanos(ended) - nanos(began)).expect("time goes on"))
}

#[test]
fn an_entry_costs_the_same_to_remove_in_a_small_directory_and_in_a_large_one() {
    let (small, large) = (cost_of_removal(250), cost_of_removal(4000));
    // 16 times as many entries; 256 times the cost if each one were counted for each.
    assert!(large < small * 16 * 4, "{small:?} for 250 entries, {large:?} for 4000");
}

const DEPTH: usize = 10_000;

/// Makes directories in each other, each beside a file and two other directories.
fn make_deep(top: &std::path::Path) {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    std::fs::create_dir(top).expect("a directory");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = open(top, flags, Mode::empty()).expect("it opens");
    for _ in 0..DEPTH {
        openat(&dir, "f", OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC, Mode::RUSR).expect("a file");
        for name in ["a", "d", "z"] {
            mkdirat(&dir, name, Mode::RWXU).expect("a directory");
        }
        dir = openat(&dir, "d", flags, Mode::empty()).expect("it opens");
    }
}

#[test]
fn a_tree_of_any_depth_is_read_and_brought_into_order() {
    let name = "union_limits::a_tree_of_any_depth_is_read_and_brought_into_order";
    if !own_process::is_own(name) {
        return own_process::run(name);
    }
    let dir = super::model_case::work_dir();
    let [lower, upper] = ["lower", "upper"].map(|name| dir.path().join(name));
    make_deep(&lower);
    make_deep(&upper);
    // A union that did not end well.
    std::fs::create_dir(upper.join(".wh..wh.work")).expect("a directory");
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), maximum: Some(100) }).expect("setrlimit");
    let tried = std::panic::catch_unwind(|| {
        let index = layerctl::index::scan(&lower).expect("the lower is read");
        assert_eq!(index.node_count() as usize, 1 + DEPTH * 4);
        let lowers = vec![layerctl::stack::Lower { dir: lower.clone(), index: std::sync::Arc::new(index) }];
        let stack = layerctl::stack::Stack {
            upper: Some(upper.clone()),
            lowers,
            lowers_are_immutable: true,
            mount_points: None,
        };
        let union = layerctl::union::Union::open(stack).expect("the upper is brought into order");
        let mut ino = Ino::ROOT;
        for _ in 0..DEPTH {
            ino = union.lookup(ino, b"d").expect("it is there").ino;
        }
        drop(union);
        assert!(!upper.join(".wh..wh.work").exists());
    });
    // What std removes takes a descriptor for each level.
    let removed = std::process::Command::new("rm").arg("-rf").args([&lower, &upper]).status();
    assert!(removed.expect("rm runs").success());
    tried.expect("no panic");
}
