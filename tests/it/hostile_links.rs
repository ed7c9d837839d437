//! Groups 4 to 8 of [`hostile`](super::hostile): links, duplicates, devices, rights.

use std::os::unix::fs::MetadataExt as _;

use super::generator::sha256;
use super::hostile::World;
use super::hostile_tar::{Raw, field};

#[test]
fn parents_that_are_links() {
    let world = World::new();
    let (dir, victim) = (world.outside("dir"), world.outside("victim"));
    let above = format!("{}{dir}", "../".repeat(40).trim_end_matches('/'));
    for target in [&*dir, &above] {
        let link = || Raw::new().dir("d").link("link", target);
        for (what, tar, entry) in [
            ("a file", link().file("link/victim", b"x"), "link/victim"),
            ("a directory", link().dir("link/new"), "link/new"),
            ("a link", link().link("link/new", "x"), "link/new"),
            ("a device", link().device("link/new", 1, 3), "link/new"),
            ("a fifo", link().kind(b'6', "link/new", ""), "link/new"),
            ("a hard link", link().file("f", b"").hard("link/new", "f"), "link/new"),
            ("further down", link().file("link/inner/victim", b"x"), "link/inner/victim"),
            ("a link to the link", link().link("d/l", "../link").file("d/l/victim", b"x"), "d/l/victim"),
        ] {
            let what = format!("{what} through a link to {target}");
            world.refuses(&what, &tar.end(), entry, "which the layer does not have");
        }
        let hard = link().hard("h", "link/victim");
        world.refuses(&format!("to something through {target}"), &hard.end(), "h: ", "which the layer does not have");
        // The layer has such a place of its own.
        let at = target.split('/').filter(|part| !matches!(*part, "" | "..")).collect::<Vec<_>>().join("/");
        let own = Raw::new().dir(&at).link("link", target).file("link/victim", b"mine").hard("h", "link/victim");
        let mut tree = vec![format!("l link -> {target}"), format!("f {at}/victim mine"), format!("h h = {at}/victim")];
        tree.extend(at.match_indices('/').map(|(end, _)| format!("d {}", &at[..end])).chain([format!("d {at}")]));
        // The one of its names that comes first has the content.
        if *"h" < *at {
            tree[1..3].clone_from_slice(&["f h mine".to_owned(), format!("h {at}/victim = h")]);
        }
        let tree: Vec<&str> = tree.iter().map(String::as_str).collect();
        world.takes(&format!("through a link to {target} of the layer"), &[own.end()], &tree);
    }
    for target in ["/", "..", ".", "d/..", "d/../../../../.."] {
        let link = Raw::new().dir("d").link("link", target).file("link/victim", b"mine").file("link/d/x", b"x");
        let tree = ["d d", "f d/x x", &format!("l link -> {target}"), "f victim mine"];
        world.takes(&format!("through a link to {target}"), &[link.end()], &tree);
    }
    // The directory was there, and is replaced: by a link, or by one more name of a link.
    let missing = "which the layer does not have";
    let swapped = Raw::new().dir("d").file("d/x", b"x").link("d", &dir).file("d/victim", b"x");
    world.refuses("a directory that becomes a link", &swapped.end(), "d/victim", missing);
    let swapped = Raw::new().link("l", &dir).dir("d").hard("d", "l").file("d/victim", b"x");
    world.refuses("a directory that becomes a hard link of a link", &swapped.end(), "d/victim", missing);
    let of_links = Raw::new().link("a", "b").link("b", &dir).file("a/victim", b"x");
    world.refuses("a link to a link", &of_links.end(), "a/victim", "passes through the link `a`");
    for (what, tar) in [
        ("a link to itself", Raw::new().link("a", "a")),
        ("links in a ring", Raw::new().link("a", "b").link("b", "./a")),
        ("a link to what is in it", Raw::new().link("a", "a/x")),
    ] {
        world.refuses(what, &tar.file("a/x", b"x").end(), "a/x", "passes through the link `a`");
    }
    let file = Raw::new().file("f", b"x").link("a", "f").file("a/x", b"x");
    world.refuses("a link to a file", &file.end(), "a/x", "lies below `f`, which is no directory");
    let below = Raw::new().file("f", b"x").file("f/g", b"x");
    world.refuses("below a file", &below.end(), "f/g", "lies below `f`, which is no directory");
    let empty = Raw::new().header(b'2', b"l", b"", 0, &[]);
    world.refuses("a link to nothing", &empty.end(), "l", "symbolic link to nothing");
    // A link of a lower layer is not one of this layer, and is not followed either.
    let base = Raw::new().link("link", &dir).link("file", &victim).end();
    let top = Raw::new().file("link/victim", b"mine").file("file", b"mine").end();
    world.takes("below a lower link", &[base, top], &["d link", "f link/victim mine", "f file mine"]);
}

#[test]
fn what_changes_its_type_is_replaced() {
    let world = World::new();
    let (dir, victim) = (world.outside("dir"), world.outside("victim"));
    let layer = Raw::new()
        .link("a", &dir)
        .dir("a")
        .file("a/victim", b"1")
        .dir("b")
        .file("b/victim", b"2")
        .link("b", &dir)
        .link("c", &victim)
        .file("c", b"3")
        .file("d", b"4")
        .dir("d")
        .dir("e")
        .file("e/x", b"5")
        .file("e", b"6")
        .device("f", 1, 3)
        .file("f", b"7")
        .link("g", &dir)
        .header(b'5', b"g", b"", 0, &[(field::MODE, b"0000777\0")])
        .end();
    let tree = ["d a", "f a/victim 1", &format!("l b -> {dir}"), "f c 3", "d d", "f e 6", "f f 7", "d g"];
    world.takes("types that change", &[layer], &tree);
}

#[test]
fn hard_links_to_what_the_layer_does_not_have() {
    let world = World::new();
    let victim = world.outside("victim");
    let before = || Raw::new().dir("d").file("f", b"x").file(".wh.white", b"").link("s", &victim);
    let mut cases = vec![
        ("outside".to_owned(), before().hard("h", &victim), "does not have"),
        ("a parent".to_owned(), before().hard("h", "../../../etc/passwd"), "does not have"),
        ("nothing".to_owned(), before().header(b'1', b"h", b"", 0, &[]), "has no name"),
        ("a directory".to_owned(), before().hard("h", "d"), "is a directory"),
        ("the root".to_owned(), before().hard("h", "/"), "is the layer's root"),
        ("itself".to_owned(), before().hard("h", "h"), "does not have"),
        ("later".to_owned(), before().hard("h", "later").file("later", b""), "does not have"),
        ("a whiteout".to_owned(), before().hard("h", "white"), "does not have"),
        ("through a file".to_owned(), before().hard("h", "f/x"), "no directory"),
        ("through a link".to_owned(), before().hard("h", "s/x"), "does not have"),
        ("replaced".to_owned(), before().file("d/x", b"").file("d", b"").hard("h", "d/x"), "no directory"),
        ("in what it replaces".to_owned(), before().file("d/x", b"").hard("d", "d/x"), "would replace"),
    ];
    cases.push(("a name of another layer".to_owned(), before().hard("h", "other"), "does not have"));
    for (what, tar, why) in cases {
        let (d, entry) = if what == "in what it replaces" { (true, "d: ") } else { (false, "h: ") };
        world.refuses(&what, &tar.end(), entry, why);
        assert_eq!(d, entry == "d: ");
    }
    // Only regular files have data, as Docker has it: what follows is the next header, and no good one.
    let body = before().header(b'1', b"h", b"f", 700, &[]).data(&[b'x'; 700]);
    world.refuses("a body", &body.end(), "", "header with a wrong checksum");
    let only_below = Raw::new().hard("h", "other").end();
    world.refuses("only in a lower layer", &only_below, "h: ", "does not have");
}

#[test]
fn hard_links_that_are_odd_and_good() {
    let world = World::new();
    let victim = world.outside("victim");
    // CVE-2021-32760: the second name of a link, with rights that would go to what the link means.
    let all = [(field::MODE, &b"0007777\0"[..]), (field::UID, b"0000007\0")];
    let layer = Raw::new()
        .link("s", &victim)
        .header(b'1', b"t", b"s", 0, &all)
        .header(b'1', b"t", b"s", 0, &all)
        .file("f", b"x")
        .hard("g", "/f")
        .hard("f", "f")
        .hard("i", "././/g")
        .end();
    let tree = [&*format!("l s -> {victim}"), "h t = s", "f f x", "h g = f", "h i = f"];
    world.takes("links to links", &[layer], &tree);
    let mut chain = Raw::new().file("n00000", b"x");
    let mut tree = vec!["f n00000 x".to_owned()];
    for number in 1..10_000 {
        chain = chain.hard(&format!("n{number:05}"), &format!("n{:05}", number - 1));
        tree.push(format!("h n{number:05} = n00000"));
    }
    world.takes("a chain", &[chain.end()], &tree.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn the_last_of_several_entries_counts_and_all_come_back() {
    let world = World::new();
    let layer = Raw::new()
        .file("f", b"first")
        .file("./f", b"second")
        .file("/f", b"third")
        .dir("d")
        .file("d/x", b"kept")
        .header(b'5', b"d/", b"", 0, &[(field::MODE, b"0000700\0")])
        .hard("h", "f")
        .file("f", b"fourth")
        .file(".wh.gone", b"")
        .file(".wh.gone", b"")
        .end();
    world.takes("duplicates", &[layer], &["f f fourth", "d d", "f d/x kept", "f h third"]);
    let many = (0..2000).fold(Raw::new(), |tar, number: u32| tar.file("same", &number.to_be_bytes())).end();
    world.takes("many duplicates", &[many], &["f same \\x00\\x00\\x07\\xcf"]);
}

#[test]
fn devices_with_numbers_that_no_device_has() {
    let world = World::new();
    let raw = |at: usize, bytes: &[u8]| Raw::new().header(b'3', b"dev", b"", 0, &[(at, bytes)]).end();
    let huge = [0x80, 0, 0, 1, 0, 0, 1, 3];
    for (what, layer, why) in [
        ("major", Raw::new().device("dev", 4096, 0).end(), "device number out of range"),
        ("minor", Raw::new().device("dev", 0, 1 << 20).end(), "device number out of range"),
        // Cut to 32 bits it would be another device (containerd, 2026).
        ("a huge major", raw(field::DEV_MAJOR, &huge), "device number out of range"),
        ("a huge minor", raw(field::DEV_MINOR, &huge), "device number out of range"),
        ("negative", raw(field::DEV_MAJOR, &[0xff; 8]), "negative device number"),
        ("text", raw(field::DEV_MINOR, b"1x"), "malformed device number"),
    ] {
        world.refuses(what, &layer, "dev", why);
    }
    let layer = Raw::new().device("most", 4095, (1 << 20) - 1).device("null", 1, 3).kind(b'6', "p", "").end();
    // The export's headers have seven digits, which is enough.
    world.takes("devices", &[layer], &["c most 4095:1048575", "c null 1:3", "p p"]);
    for kind in *b"QVMDN" {
        let layer = Raw::new().kind(kind, "odd", "").end();
        world.refuses("an unknown type", &layer, "odd", "is of the unknown type");
    }
}

#[test]
fn rights_are_in_the_store_only_where_nobody_gets_to_them() {
    let world = World::new();
    let layer = Raw::new().header(b'0', b"suid", b"", 1, &[(field::MODE, b"7777777\0")]).data(b"x").end();
    world.takes("all bits of a mode, and more", std::slice::from_ref(&layer), &["f suid x"]);
    let file = world.sandbox.root().join("diff").join(sha256(&layer)).join("suid");
    assert_eq!(file.metadata().expect("it is there").mode(), 0o107_777);
    assert_eq!(world.sandbox.root().metadata().expect("it is there").mode() & 0o7777, 0o700);
}
