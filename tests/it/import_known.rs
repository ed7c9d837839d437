//! A layer that the store has is not unpacked again.

use super::archives::{oci_packed, podman};
use super::cli::Sandbox;
use super::generator::{Image, Members, Tar, docker_before_25, docker_since_25, gzip, sha256};
use super::listing::Listing;

const CONTENT: &[u8] = b"the content of a file, which nobody needs a second time";

/// Two layers.
fn image() -> Image {
    let layers = vec![Tar::new().file("a", CONTENT).finish(), Tar::new().file("b", b"b").finish()];
    Image::new("amd64", layers, &["known:1"])
}

/// With a third layer over those of [`image`].
fn bigger() -> Image {
    let mut layers = image().layers;
    layers.push(Tar::new().file("c", b"c").finish());
    Image::new("amd64", layers, &["bigger:1"])
}

/// The files of the layers, with their inodes and when these changed last.
fn layers(sandbox: &Sandbox, image: &Image) -> Vec<Listing> {
    let dir = |layer: &Vec<u8>| sandbox.root().join("diff").join(sha256(layer));
    image.layers.iter().map(|layer| Listing::with_identities(&dir(layer))).collect()
}

/// The name of the member that is the first layer.
fn first(members: &Members) -> String {
    let names = members.0.iter().map(|(name, _)| name);
    let is_layer = |name: &&String| {
        let (tar, blob) = (sha256(&image().layers[0]), sha256(&gzip(&image().layers[0])));
        name.contains(&tar) || name.contains(&blob) || name.ends_with("/layer.tar")
    };
    names.clone().find(is_layer).expect("there is a layer").clone()
}

fn with_damage(members: Members) -> Members {
    let name = first(&members);
    members.with(&name, |content| {
        let at = content.windows(CONTENT.len()).position(|part| part == CONTENT).expect("the content is stored");
        content[at] ^= 1;
    })
}

#[test]
fn known_layers_stay_as_they_are() {
    for members in [docker_before_25(&[bigger()]), docker_since_25(&[bigger()]), oci_packed(&bigger(), gzip)] {
        for piped in [false, true] {
            let sandbox = Sandbox::new();
            let archive = sandbox.write("first", &podman(&[image()], gzip).tar());
            sandbox.run(&["import", &archive]).lines();
            let before = layers(&sandbox, &image());
            let bytes = members.tar();
            let output = match piped {
                true => sandbox.run_piped(&["import", "-"], &bytes),
                false => sandbox.run(&["import", &sandbox.write("second", &bytes)]),
            };
            assert_eq!(output.lines(), [format!("sha256:{}", bigger().id())]);
            assert!(layers(&sandbox, &image()) == before, "a layer was made again");
            assert_eq!(layers(&sandbox, &bigger()).len(), 3);
        }
    }
}

#[test]
fn known_layers_are_not_even_read_where_one_can_seek() {
    let forms = [docker_before_25(&[image()]), docker_since_25(&[image()]), oci_packed(&image(), gzip)];
    for damaged in forms.map(with_damage) {
        let sandbox = Sandbox::new();
        let archive = sandbox.write("archive", &damaged.tar());
        // The damage is one that would be seen.
        sandbox.run(&["import", &archive]).assert_refused(125, &["archive", &first(&damaged)]);
        sandbox.run_piped(&["import", "-"], &docker_since_25(&[image()]).tar()).lines();
        let before = sandbox.store();
        assert_eq!(sandbox.run(&["import", &archive]).lines(), [format!("sha256:{}", image().id())]);
        assert_eq!(sandbox.run_from(&["import", "-"], &archive).lines().len(), 1);
        let names_and_lock = |listing: Listing| listing.without("images/names").without("lock");
        names_and_lock(sandbox.store()).assert_same(&names_and_lock(before), "nothing was made again");

        // Missing altogether, but for its name in the manifest.
        let missing = first(&damaged);
        let archive = sandbox.write("archive", &damaged.without(&missing).tar());
        assert_eq!(sandbox.run(&["import", &archive]).lines().len(), 1);
    }
}

#[test]
fn what_comes_through_a_pipe_is_checked_even_when_it_is_known() {
    let forms = [
        docker_before_25(&[image()]),
        docker_since_25(&[image()]),
        oci_packed(&image(), gzip),
        podman(&[image()], <[u8]>::to_vec),
        podman(&[image()], gzip),
    ];
    for damaged in forms.map(with_damage) {
        let sandbox = Sandbox::new();
        sandbox.run_piped(&["import", "-"], &docker_since_25(&[image()]).tar()).lines();
        let before = sandbox.store();
        sandbox.run_piped(&["import", "-"], &damaged.tar()).assert_refused(125, &["-: ", &first(&damaged)]);
        sandbox.store().assert_same(&before, "the store is as it was");
        assert!(sandbox.debris().is_empty());
    }
}

#[test]
fn every_form_comes_through_a_pipe_a_second_time() {
    let forms = [
        docker_before_25(&[image()]),
        docker_since_25(&[image()]),
        oci_packed(&image(), gzip),
        podman(&[image()], <[u8]>::to_vec),
        // Named by its diffID, which is not the digest of what comes.
        podman(&[image()], gzip),
    ];
    for members in forms {
        let sandbox = Sandbox::new();
        let import = || sandbox.run_piped(&["import", "-"], &members.tar());
        assert_eq!(import().lines(), [format!("sha256:{}", image().id())]);
        let before = layers(&sandbox, &image());
        assert_eq!(import().lines(), [format!("sha256:{}", image().id())]);
        assert!(layers(&sandbox, &image()) == before, "a layer was made again");
    }
}
