//! `verify` beside imports, mounts and removals: no false findings, and none of them fails for it.

use std::slice::from_ref;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cli::Sandbox;
use super::damage::{found, image};
use super::generator::{Image, docker_since_25};

/// An image of its own over the layers that all share.
fn own(number: usize) -> Image {
    let layers = [image().layers, super::archives::single(&format!("own{number}")).layers].concat();
    Image::new("amd64", layers, &[&format!("own{number}:1")])
}

#[test]
fn nothing_is_found_while_others_change_the_store() {
    const ROUNDS: usize = 12;
    let sandbox = Sandbox::new();
    sandbox.run_piped(&["import", "-"], &docker_since_25(from_ref(&image())).tar()).lines();
    let is_over = AtomicBool::new(false);
    let work = |number: usize| {
        let archive = docker_since_25(&[own(number)]).tar();
        let (name, tag) = (format!("c{number}"), format!("own{number}:1"));
        for _ in 0..ROUNDS {
            sandbox.run_piped(&["import", "-"], &archive).lines();
            sandbox.run(&["run-mount", "--name", &name, &tag]).lines();
            sandbox.run(&["rm", "-f", &name]).lines();
            sandbox.run(&["rmi", &tag]).lines();
        }
    };
    std::thread::scope(|scope| {
        let works = [0, 1].map(|number| scope.spawn(move || work(number)));
        let verifies = [&[][..], &["--quick"]].map(|words| {
            let (sandbox, is_over) = (&sandbox, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let (status, mut found) = found(sandbox, words);
                    // What a process has put aside goes when it ends, or with the next one.
                    found.retain(|(_, _, place)| !place.starts_with("tmp/"));
                    assert_eq!((status, found), (0, Vec::new()));
                }
            })
        });
        let ended: Vec<_> = works.map(std::thread::ScopedJoinHandle::join).into();
        is_over.store(true, Ordering::Relaxed);
        for verify in verifies {
            verify.join().expect("nothing is found");
        }
        assert!(ended.iter().all(Result::is_ok), "nobody fails");
    });
    assert_eq!(found(&sandbox, &[]), (0, Vec::new()));
}
