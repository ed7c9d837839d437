//! Groups 1 to 3 of [`hostile`](super::hostile): names, and whiteouts.

use super::hostile::World;
use super::hostile_tar::{Raw, field};

#[test]
fn names_that_lead_out_or_are_none() {
    let world = World::new();
    let long = "n".repeat(256);
    let deep = "d/".repeat(2048);
    for (what, name, why) in [
        ("a NUL", "a\0b", "has a NUL in its path"),
        ("a name that no directory can have", &long, "name of more than 255 bytes"),
        ("a path that no call can take", &format!("{deep}x"), "path of more than 4096 bytes"),
    ] {
        let shown = name.split('\0').next().unwrap_or_default();
        let shown = &shown[..shown.len().min(200)];
        world.refuses(what, &Raw::new().file("before", b"b").named(name.as_bytes(), b"x").end(), shown, why);
        let hard = Raw::new().file("before", b"b").pax(&[("linkpath", name.as_bytes())]).hard("hard", "");
        world.refuses(&format!("{what}, of a hard link"), &hard.end(), "hard", why);
    }
    let none = Raw::new().header(b'0', b"", b"", 0, &[]);
    world.refuses("no name", &none.end(), "", "has no name");
    for (what, root) in [
        ("a link", Raw::new().link("/.", &world.outside("dir"))),
        ("a file", Raw::new().file(".", b"x")),
        ("a hard link", Raw::new().file("f", b"").hard(".", "f")),
        ("a device", Raw::new().device(".", 1, 3)),
    ] {
        let layer = root.file("victim", b"x").end();
        world.refuses(&format!("the root as {what}"), &layer, "", "the layer's root, and no directory");
    }
}

#[test]
fn names_with_dot_dot_are_in_the_root() {
    let world = World::new();
    let victim = world.outside("victim");
    let up = format!("a/../../../../../../../../../../../../../..{victim}");
    let mut above: Vec<String> =
        victim.match_indices('/').skip(1).map(|(end, _)| format!("d {}", &victim[1..end])).collect();
    above.push(format!("f {} mine", &victim[1..]));
    let above: Vec<&str> = above.iter().map(String::as_str).collect();
    world.takes("a whole way out", &[Raw::new().named(up.as_bytes(), b"mine").end()], &above);
    for (what, layer) in [
        ("in the header", Raw::new().file("../x", b"x")),
        ("at the root", Raw::new().file("/../x", b"x")),
        ("inside", Raw::new().file("a/../../x", b"x")),
        ("in GNU's header", Raw::new().extended(b'L', b"../../x\0").file("good", b"x")),
        ("in the PAX header only", Raw::new().named(b"../x", b"x")),
        ("through a link, by its name", Raw::new().link("x", &world.outside("dir")).file("x/../x", b"x")),
    ] {
        world.takes(what, &[layer.end()], &["f x x"]);
    }
    let hard = Raw::new().file("d/f", b"x").pax(&[("linkpath", b"../../d/../d/./f")]).hard("h/../g", "").end();
    world.takes("of a hard link", &[hard], &["d d", "f d/f x", "h g = d/f"]);
    world.takes("of a directory", &[Raw::new().file("d/f", b"x").dir("d/..").end()], &["d d", "f d/f x"]);
    world.refuses("a file that is the root", &Raw::new().file("a/..", b"x").end(), "a/..", "is the layer's root");
    // What is hidden is in the root, too.
    let base = Raw::new().file("x", b"1").file("y", b"1").end();
    let top = Raw::new().file("../d/../.wh.x", b"").end();
    world.takes("of a whiteout", &[base, top], &["f y 1"]);
}

#[test]
fn names_that_are_odd_and_good() {
    let world = World::new();
    let absolute = world.outside("victim");
    let long = "n".repeat(255);
    // The header's name is not the entry's when an extended one gives it another.
    let layer = Raw::new()
        .named(b"./dot/./file", b"1")
        .named(b"two//slashes", b"2")
        .named(b"back\\..\\slash", b"3")
        .named(b"..hidden..", b"4")
        .named(b"\xff\xfe", b"5")
        .named(b"new\nline", b"6")
        .named(long.as_bytes(), b"7")
        .pax(&[("path", b"renamed")])
        .file("../header", b"8")
        .header(b'0', b"directory/", b"", 0, &[])
        .named(b"/absolute", b"9")
        .dir("./")
        .end();
    let tree = [
        "d dot",
        "f dot/file 1",
        "d two",
        "f two/slashes 2",
        "f back\\\\..\\\\slash 3",
        "f ..hidden.. 4",
        "f \\xff\\xfe 5",
        "f new\\nline 6",
        &format!("f {long} 7"),
        "f renamed 8",
        "d directory",
        "f absolute 9",
    ];
    world.takes("odd names", &[layer], &tree);
    // An absolute path is one in the layer.
    let layer = Raw::new().named(absolute.as_bytes(), b"mine").end();
    let mut tree: Vec<String> = Vec::new();
    let parts: Vec<&str> = absolute.trim_start_matches('/').split('/').collect();
    for depth in 1..parts.len() {
        tree.push(format!("d {}", parts[..depth].join("/")));
    }
    tree.push(format!("f {} mine", parts.join("/")));
    world.takes("an absolute path", &[layer], &tree.iter().map(String::as_str).collect::<Vec<_>>());
    // A tree deeper than there are descriptors.
    let deep = vec!["d"; 1500];
    let layer = Raw::new().named(format!("{}/f", deep.join("/")).as_bytes(), b"x").end();
    let mut tree: Vec<String> = (1..=1500).map(|depth| format!("d {}", deep[..depth].join("/"))).collect();
    tree.push(format!("f {}/f x", deep.join("/")));
    world.takes("a deep tree", &[layer], &tree.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn whiteouts_of_nothing_that_could_exist() {
    let world = World::new();
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."] {
        world.refuses(name, &Raw::new().dir("d").file(name, b"").end(), name, "whiteout of nothing");
    }
    for name in [".wh.d/f", "a/.wh.d/e/f", ".wh..wh..opq/f"] {
        world.refuses(name, &Raw::new().file(name, b"").end(), name, "below a whiteout");
    }
    let missing = Raw::new().hard("f", ".wh..wh.plnk/1.2").end();
    world.refuses("no such pseudo link", &missing, "f", "which the layer does not have");
    let base = Raw::new().file("gone", b"").end();
    assert_eq!(base.len(), 1536);
    let linked = Raw::new().file(".wh.gone", b"").hard("f", ".wh.gone").end();
    world.refuses("a link to a whiteout", &linked, "f", "which the layer does not have");
}

#[test]
fn whiteouts_of_odd_types_and_aufs_own_files() {
    let world = World::new();
    let names = ["file", "full", "dir", "link", "hard", "device", "fifo"];
    let base = names.iter().fold(Raw::new(), |tar, name| tar.file(name, b"x")).file("stays", b"x").end();
    let top = Raw::new()
        .file(".wh.file", b"")
        .file(".wh.full", &[b'x'; 700])
        .dir(".wh.dir")
        .link(".wh.link", &world.outside("victim"))
        .hard(".wh.hard", "../../nowhere")
        .device(".wh.device", 0, 0)
        .kind(b'6', ".wh.fifo", "")
        .end();
    world.takes("whiteouts of all types", &[base, top], &["f stays x"]);
    let aufs = Raw::new()
        .file(".wh..wh.aufs", b"")
        .dir(".wh..wh.orph")
        .file(".wh..wh.orph/1", b"an orphan")
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/1.2", b"pseudo")
        .hard("a", ".wh..wh.plnk/1.2")
        .hard("b", "/.wh..wh.plnk/1.2")
        .link(".wh..wh.plnk/3.4", &world.outside("victim"))
        .file(".wh..wh.", b"hides what cannot be")
        .file(".wh..wh.long.x", b"../outside")
        .end();
    world.takes("AUFS' own files", &[aufs], &["f a pseudo", "h b = a"]);
}

#[test]
fn whiteouts_are_of_lower_layers_only() {
    let world = World::new();
    let base = || Raw::new().dir("d").file("d/old", b"1").file("f", b"1").dir("lib").file("lib/x", b"1").end();
    for (what, top) in [
        ("after", Raw::new().dir("d").file("d/new", b"2").file(".wh.d", b"").file("f", b"2").file(".wh.f", b"")),
        ("before", Raw::new().file(".wh.d", b"").dir("d").file("d/new", b"2").file(".wh.f", b"").file("f", b"2")),
    ] {
        let tree = ["d d", "f d/new 2", "f f 2", "d lib", "f lib/x 1"];
        world.takes(&format!("the whiteout {what} the entry"), &[base(), top.end()], &tree);
    }
    for (what, top) in [
        ("first", Raw::new().file("d/.wh..wh..opq", b"").dir("d").file("d/new", b"2").file("d/.wh.old", b"")),
        ("last", Raw::new().dir("d").file("d/new", b"2").file("d/.wh.new", b"").file("d/.wh..wh..opq", b"")),
        ("alone, with its directory said later", Raw::new().file("d/new", b"2").file("d/.wh..wh..opq", b"").dir("d")),
    ] {
        let tree = ["d d", "f d/new 2", "f f 1", "d lib", "f lib/x 1"];
        world.takes(&format!("the opaque mark {what}"), &[base(), top.end()], &tree);
    }
    // A link of the layer's own is nothing that a whiteout could pass.
    let through = Raw::new().link("localetc", &world.outside("dir")).file("localetc/.wh.victim", b"");
    world.refuses("through a link", &through.end(), "localetc/.wh.victim", "passes through the link `localetc`");
    let own = Raw::new().dir("d").file("d/x", b"1").link("l", "d").file("l/.wh.x", b"").end();
    world.refuses(
        "through a link to a directory of the layer",
        &own,
        "l/.wh.x",
        "is a whiteout that passes through the link `l`",
    );
    let opaque = Raw::new().link("localetc", &world.outside("dir")).file("localetc/.wh..wh..opq", b"");
    world.refuses("opaque, through a link", &opaque.end(), "localetc/.wh..wh..opq", "passes through the link");
    // One of a layer below is not followed either: the directory takes its place.
    let linked = Raw::new().dir("usr").file("usr/x", b"1").link("lib", "usr").end();
    let top = Raw::new().file("lib/.wh.x", b"").end();
    world.takes("through a link below", &[linked, top], &["d lib", "d usr", "f usr/x 1"]);
    // A device 0:0 is a file, which hides only what has its name.
    let top = Raw::new().device("f", 0, 0).device("d/old", 0, 0).header(b'3', b"g", b"", 0, &[(field::NAME, b"h")]);
    let tree = ["d d", "c d/old 0:0", "c f 0:0", "c h 0:0", "d lib", "f lib/x 1"];
    world.takes("forged whiteouts of overlayfs", &[base(), top.end()], &tree);
}
