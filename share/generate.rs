//! Writes the manual pages and completions below a directory: `cargo run --example share -- target/share`.

mod generator;

fn main() -> anyhow::Result<()> {
    let Some(dir) = std::env::args_os().nth(1).map(std::path::PathBuf::from) else {
        anyhow::bail!("usage: share DIRECTORY");
    };
    for (name, content) in generator::files() {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&dir))?;
        std::fs::write(path, content)?;
    }
    Ok(())
}
