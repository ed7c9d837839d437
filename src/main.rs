//! The `layerctl` command: parse, run, exit.

fn main() {}
