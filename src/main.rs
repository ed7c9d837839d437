//! The program `layerctl`; everything is in the library.

fn main() -> std::process::ExitCode {
    layerctl::cli::main()
}
