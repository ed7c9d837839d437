//! Sparse members of an archive of images that cannot be read.

use std::slice::from_ref;

use super::archives::sample;
use super::generator::{docker_since_25, sha256};
use super::hostile_tar::Raw;
use super::import_kinds::{open, ways};

/// Makes a member of this name.
type Member<'a> = &'a dyn Fn(&str) -> Vec<u8>;

#[test]
fn a_sparse_member_that_cannot_be_read_matters_to_its_image_only() {
    let image = sample();
    let size = 4096;
    // An old header with the map in it: one byte at its beginning, and a hole of two gigabytes.
    let mut old = tar::Header::new_gnu();
    old.set_entry_type(tar::EntryType::GNUSparse);
    old.set_size(1);
    let gnu = old.as_gnu_mut().expect("it is one");
    gnu.realsize = *b"20000000000\0";
    (gnu.sparse[0].offset, gnu.sparse[0].numbytes) = (*b"00000000000\0", *b"00000000001\0");
    (gnu.sparse[1].offset, gnu.sparse[1].numbytes) = (*b"20000000000\0", *b"00000000000\0");
    let old = |name: &str| {
        let mut header = old.clone();
        header.set_path(name).expect("it is short");
        header.set_cksum();
        let mut tar = Raw::new();
        tar.0.extend_from_slice(header.as_bytes());
        tar.data(b"x").0
    };
    let pax = |records: &[(&str, &[u8])], name: &str| Raw::new().pax(records).file(name, &vec![b'x'; size]).0;
    let of_one = [("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"5000")];
    let out_of_order = [("GNU.sparse.map", &b"0,9,1,2"[..]), ("GNU.sparse.size", b"5")];
    let too_large = [("GNU.sparse.map", &b"0,4096"[..]), ("GNU.sparse.size", b"1000000000000")];
    let kinds: [(&str, &str, Member<'_>); 4] = [
        ("out of order", "sparse map", &|name| pax(&out_of_order, name)),
        ("in the data", "sparse map", &|name| pax(&of_one, name)),
        ("too large", "`--limit layer=` allows more", &|name| pax(&too_large, name)),
        ("too large, of old GNU", "`--limit layer=` allows more", &|name| old(name)),
    ];
    let options = ["--limit", "layer=1g"];
    let is_image = |what: &str, archive: &[u8]| {
        ways(archive, &options, |_, output, way| {
            assert_eq!(output.lines(), [format!("sha256:{}", image.id())], "{what}, {way}");
        });
    };
    let is_refused = |what: &str, archive: &[u8], words: &[&str]| {
        ways(archive, &options, |_, output, way| {
            println!("{what}, {way}: {}", output.stderr);
            output.assert_refused(125, words);
        });
    };
    let archive = docker_since_25(from_ref(&image)).tar();
    for (what, why, member) in kinds {
        let other = member(&format!("blobs/sha256/{}", "0".repeat(64)));
        is_image(what, &[&other[..], &archive].concat());
        is_image(what, &[open(&archive), &other, &[0; 1024]].concat());
        let layer = format!("blobs/sha256/{}", sha256(&image.layers[0]));
        let without = docker_since_25(from_ref(&image)).without(&layer).tar();
        is_refused(what, &[&member(&layer)[..], &without].concat(), &[&layer, why]);
        is_refused(what, &[&member("manifest.json")[..], &[0; 1024]].concat(), &["manifest.json", why]);
    }
    // Where the archive ends in the map, that is said, whatever has it.
    let cut = pax(&of_one, &format!("blobs/sha256/{}", "0".repeat(64)));
    is_refused("cut", &[open(&archive), &cut[..cut.len() - size + 100]].concat(), &["is cut short"]);
}
