//! The manual pages and the completions, of the definition of the command line.
//!
//! Included by the example `share`, which writes them for `make install`, and by the tests.

use clap_complete::Shell;
use clap_mangen::Man;

/// All files, by their paths below `PREFIX/share`.
pub(crate) fn files() -> Vec<(String, Vec<u8>)> {
    let mut command = layerctl::cli::command().disable_help_subcommand(true);
    command.build();
    let mut files = Vec::new();
    for page in std::iter::once(&command).chain(command.get_subcommands()).filter(|command| !command.is_hide_set()) {
        let (man, mut content) = (Man::new(page.clone()).manual("layerctl"), Vec::new());
        man.render(&mut content).expect("memory takes all");
        // The exit statuses are there.
        if page.get_name() != command.get_name() {
            content.extend_from_slice(b".SH \"SEE ALSO\"\n\\fBlayerctl\\fR(1)\n");
        }
        files.push((format!("man/man1/{}", man.get_filename()), content));
    }
    for (shell, path) in [
        (Shell::Bash, "bash-completion/completions/layerctl"),
        (Shell::Zsh, "zsh/site-functions/_layerctl"),
        (Shell::Fish, "fish/vendor_completions.d/layerctl.fish"),
    ] {
        let mut content = Vec::new();
        clap_complete::generate(shell, &mut layerctl::cli::command(), "layerctl", &mut content);
        files.push((path.to_owned(), content));
    }
    files
}
