//! A tar comes in pieces that several threads read, each of which is filled again when all are done with it: whatever
//! stands where one ends.

use super::cli::Sandbox;
use super::generator::Tar;

/// More than may be under way of one tar.
const MANY: usize = 20 << 20;

/// Imports what consists of files of `size` bytes each.
fn import(size: usize) {
    let sandbox = Sandbox::new();
    let count = MANY / (512 + size.next_multiple_of(512));
    let content: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).expect("it is small")).collect();
    let tar = (0..count).fold(Tar::new(), |tar, number| tar.file(&format!("{number}"), &content));
    let tar = sandbox.write("layer.tar", &tar.finish());
    let mut timeout = std::process::Command::new("timeout");
    timeout.args(["120", env!("CARGO_BIN_EXE_layerctl"), "import", "--no-sync", &tar]);
    let output = timeout.env("LAYERCTL_ROOT", sandbox.root()).output().expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "files of {size} bytes: {}", String::from_utf8_lossy(&output.stderr));
    sandbox.run(&["verify"]).lines();
}

#[test]
fn a_piece_that_ends_before_a_header_is_given_back() {
    import(511);
}

#[test]
fn a_piece_that_ends_with_a_file_or_within_one_is_given_back() {
    for size in [512, 700, 300_000] {
        import(size);
    }
}
