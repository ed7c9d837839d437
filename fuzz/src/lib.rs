//! The fuzz targets, one for each parser that reads outside bytes: what they do is in `bodies/`, which the
//! program's own tests include too, to run the corpus of `fixtures/` through it.

#[path = "../bodies/mod.rs"]
mod bodies;

use std::alloc::System;

use cap::Cap;

/// What the program's own tests compare a union with, shared with them.
macro_rules! shared {
    ($($name:ident = $path:literal),*) => {
        $(#[path = $path]
        #[allow(dead_code, unreachable_pub, reason = "the tests have need of more")]
        mod $name;)*
    };
}

shared!(
    layer_tree = "../../tests/it/layer_tree.rs",
    model_case = "../../tests/it/model_case.rs",
    plain_driver = "../../tests/it/plain_driver.rs",
    tree_op = "../../tests/it/tree_op.rs",
    tree_snapshot = "../../tests/it/tree_snapshot.rs",
    union_driver = "../../tests/it/union_driver.rs"
);

/// Memory that one input may make the program take. libFuzzer's own is no part of it, nor that of the decoders
/// written in C, which `-rss_limit_mb` bounds.
const MEMORY: usize = 96 << 20;

/// Who asks for more than [`MEMORY`] gets none, which ends the process: a finding.
#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MEMORY);

/// Runs `data` through the target `name`.
///
/// # Panics
/// When there is no such target, and with a finding.
pub fn run(name: &str, data: &[u8]) {
    let (_, body) = bodies::TARGETS.iter().find(|(known, _)| *known == name).expect("a target of this name");
    let _ = body(data);
}

/// Writes a target's program.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(|data: &[u8]| layerctl_fuzz::run($name, data));
    };
}
