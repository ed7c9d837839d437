//! Paths through symbolic links of the layer itself, and with `..`.

use super::*;
use crate::whiteout;

/// All names of the layer's directory but markers, with what is there: `d`, `l TARGET`, or the content.
fn tree(layer: &Layer) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![String::new()];
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(layer.path(&at)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if whiteout::is_reserved(name.as_bytes()) {
                continue;
            }
            let path = if at.is_empty() { name } else { format!("{at}/{name}") };
            let kind = layer.path(&path).symlink_metadata().unwrap().file_type();
            let what = if kind.is_dir() {
                todo.push(path.clone());
                "d".to_owned()
            } else if kind.is_symlink() {
                format!("l {}", layer.path(&path).read_link().unwrap().display())
            } else {
                String::from_utf8(layer.read(&path)).unwrap()
            };
            assert!(layer.child(&path).is_some(), "{path} is on disk and not in the index");
            found.insert(path, what);
        }
    }
    found
}

fn is(layer: &Layer, expected: &[(&str, &str)]) {
    let expected: BTreeMap<_, _> = expected.iter().map(|(path, what)| ((*path).into(), (*what).into())).collect();
    assert_eq!(tree(layer), expected);
}

#[test]
fn entries_go_through_links_in_every_position() {
    let link = |tar: Tar, path: &str, target: &str| tar.kind(b'2', path.as_bytes(), target.as_bytes());
    let base = || Tar::default().dir("usr").dir("usr/lib");
    // As parent, and as parent of a directory that has no entry.
    let layer = Layer::of(&link(base(), "lib", "usr/lib").file("lib/x", b"x").file("lib/a/b/y", b"y").end());
    let both = [("lib", "l usr/lib"), ("usr", "d"), ("usr/lib", "d"), ("usr/lib/x", "x")];
    is(&layer, &[&both[..], &[("usr/lib/a", "d"), ("usr/lib/a/b", "d"), ("usr/lib/a/b/y", "y")]].concat());
    // Absolute, with `..` beyond the root, to another link, to a link that is made in between.
    for (links, through) in [
        (&[("lib", "/usr/lib")][..], "lib/x"),
        (&[("lib", "../../usr/./lib//")], "lib/x"),
        (&[("lib", "usr/lib/../../usr/lib")], "lib/x"),
        (&[("usr/up", "..")], "usr/up/usr/lib/x"),
        (&[("a", "b"), ("b", "/c"), ("c", "usr")], "a/lib/x"),
        (&[("usr/lib/self", "."), ("usr/lib/root", "/")], "usr/lib/self/root/../self/root/usr/lib/x"),
    ] {
        let tar = links.iter().fold(base(), |tar, (path, target)| link(tar, path, target));
        let layer = Layer::of(&tar.file(through, b"x").end());
        assert_eq!(layer.read("usr/lib/x"), b"x", "{through}");
        assert_eq!(layer.digest("usr/lib/x"), Some(Digest::of(b"x")), "{through}");
    }
    // As the last component it is replaced, and not followed.
    let layer = Layer::of(&link(base(), "lib", "usr/lib").file("lib", b"x").end());
    is(&layer, &[("lib", "x"), ("usr", "d"), ("usr/lib", "d")]);
    let layer = Layer::of(&link(base(), "lib", "usr/lib").dir("lib").file("lib/x", b"x").end());
    assert_eq!((layer.read("lib/x"), layer.child("usr/lib/x")), (b"x".to_vec(), None));
}

#[test]
fn every_kind_of_entry_goes_through_a_link() {
    let layer = Layer::of(
        &Tar::default()
            .dir("real")
            .kind(b'2', b"l", b"real")
            .file("l/file", b"1")
            .file("l/file", b"again")
            .dir("l/dir")
            .header(b'5', b"l/dir", b"", 0, |header| header.set_mode(0o700))
            .kind(b'2', b"l/link", b"dir")
            .file("l/link/below", b"2")
            .kind(b'6', b"l/fifo", b"")
            .kind(b'1', b"l/hard", b"l/link/below")
            .kind(b'1', b"also", b"real/link/../../l/file")
            .kind(b'1', b"the-link", b"l/link")
            .end(),
    );
    assert_eq!((layer.read("real/file"), layer.read("also")), (b"again".to_vec(), b"again".to_vec()));
    assert_eq!((layer.meta("real/dir").mode, layer.meta("real/fifo").kind), (0o700, Kind::Fifo));
    assert_eq!(layer.id("real/hard"), layer.id("real/dir/below"));
    assert_eq!(layer.id("the-link"), layer.id("real/link"));
    assert_eq!(layer.path("real/dir").metadata().unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn what_the_link_is_when_the_entry_comes_counts() {
    let layer = Layer::of(
        &Tar::default()
            .dir("one")
            .dir("two")
            .kind(b'2', b"l", b"one")
            .file("l/x", b"1")
            .kind(b'2', b"l", b"two")
            .file("l/x", b"2")
            // A directory takes its place,
            .dir("l")
            .file("l/x", b"3")
            // and a link the directory's: what was in it is a part of the tar still.
            .kind(b'2', b"l", b"one")
            .file("l/x", b"4")
            .kind(b'1', b"m", b"l")
            .file("m/y", b"5")
            // The directory that the link leads to is a file, and one again.
            .file("two", b"6")
            .file("one", b"7")
            .dir("one")
            .file("l/z", b"8")
            .end(),
    );
    is(&layer, &[("l", "l one"), ("m", "l one"), ("one", "d"), ("one/z", "8"), ("two", "6")]);
}

#[test]
fn a_link_to_what_is_no_directory_of_the_layer_is_refused() {
    for (target, why) in [
        ("nothing", "passes through the link `l` to `nothing`, which the layer does not have"),
        ("/etc", "passes through the link `l` to `etc`, which the layer does not have"),
        ("nothing/..", "passes through the link `l` to `nothing`"),
        ("white", "passes through the link `l` to `white`"),
        ("l", "passes through the link `l` and more than 40 in all"),
        ("f", "lies below `f`, which is no directory"),
        ("d/f", "lies below `f`, which is no directory"),
    ] {
        let tar = Tar::default().dir("d").file("d/f", b"").file("f", b"").file(".wh.white", b"");
        let tar = tar.kind(b'2', b"l", target.as_bytes()).file("l/x", b"x");
        assert_eq!(refused(&tar.end()).split(", and").next().unwrap().find(why), Some("l/x: ".len()), "{target}");
    }
    // What a whiteout hides is in other layers, which have not this one's link.
    for marker in ["l/.wh.x", "l/.wh..wh..opq", "d/l/.wh.x"] {
        let tar = Tar::default().dir("d").dir("real").kind(b'2', b"l", b"real").kind(b'2', b"d/l", b"/real");
        let why = refused(&tar.file(marker, b"").end());
        assert!(why.contains("is a whiteout that passes through the link `l`"), "{why}");
    }
}

#[test]
fn a_path_through_links_is_within_the_limits() {
    let part = "n".repeat(90);
    let deep: Vec<String> = (1..=5).map(|depth| vec![&*part; depth].join("/")).collect();
    let mut tar = Tar::default();
    for path in &deep {
        tar = tar.pax(&[("path", path.as_bytes())]).dir("d");
    }
    let tar = tar.pax(&[("linkpath", deep[4].as_bytes())]).kind(b'2', b"l", b"x");
    Layer::of(&tar.clone().file("l/x", b"x").end());
    for (limits, limit) in
        [(Limits { path: 455, ..Limits::default() }, "path"), (Limits { depth: 5, ..Limits::default() }, "depth")]
    {
        match unpack_with(&tar.clone().file("l/x", b"x").end(), &limits) {
            Err(Failure::Bad { limit: Some(found), .. }) => assert_eq!(found, limit),
            other => panic!("{limit}: {:?}", other.map(|layer| layer.unpacked)),
        }
    }
}

#[test]
fn dot_dot_takes_the_name_before_it_away_and_stays_in_the_root() {
    let layer = Layer::of(
        &Tar::default()
            .dir("d")
            .file("../../top", b"1")
            .file("d/../beside", b"2")
            .file("not/there/../../d/./x", b"3")
            // By the name, and not where the link leads to.
            .kind(b'2', b"l", b"d")
            .file("l/../by-name", b"4")
            .kind(b'1', b"../hard", b"../../d/../top")
            .header(b'5', b"d/..", b"", 0, |header| header.set_mode(0o711))
            .end(),
    );
    let files =
        [("beside", "2"), ("by-name", "4"), ("d", "d"), ("d/x", "3"), ("hard", "1"), ("l", "l d"), ("top", "1")];
    is(&layer, &files);
    assert_eq!((layer.id("hard"), layer.path("").metadata().unwrap().mode() & 0o777), (layer.id("top"), 0o711));
    assert!(refused(&Tar::default().file("d/..", b"x").end()).contains("is the layer's root"));
}

#[test]
fn the_last_header_of_a_file_counts_for_all_its_names() {
    let other = |header: &mut tar::Header| {
        header.set_mode(0o4711);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(5);
    };
    let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let layer = Layer::of(
        &Tar::default()
            .pax(&[("SCHILY.xattr.security.capability", capability)])
            .file("f", b"x")
            .header(b'1', b"g", b"f", 0, other)
            .kind(b'2', b"l", b"f")
            .header(b'1', b"m", b"l", 0, other)
            .file(".wh..wh.plnk/1", b"y")
            .header(b'1', b"p", b".wh..wh.plnk/1", 0, other)
            .end(),
    );
    for path in ["f", "g", "p"] {
        let (meta, stat) = (layer.meta(path), layer.path(path).metadata().unwrap());
        assert_eq!((meta.mode, meta.uid, meta.gid, meta.mtime), (0o4711, 7, 8, Time { sec: 5, nsec: 0 }), "{path}");
        assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.mtime()), (0o4711, 7, 8, 5), "{path}");
    }
    // A link has no mode, and Docker and podman leave its time.
    let (meta, stat) = (layer.meta("l"), layer.path("m").symlink_metadata().unwrap());
    assert_eq!((meta.mode, meta.uid, meta.gid, meta.mtime.sec), (0o644, 7, 8, 1_000_000));
    assert_eq!((stat.uid(), stat.gid(), stat.mtime()), (7, 8, 1_000_000));
    assert_eq!(layer.xattrs("g")[&b"security.capability"[..]], capability);
    let on_disk = crate::sys::read_xattrs(layer.path("g").as_os_str().as_encoded_bytes()).unwrap();
    assert!(on_disk.contains(&(b"security.capability".to_vec(), capability.to_vec())), "{on_disk:?}");
}
