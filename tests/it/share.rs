//! Every command has a manual page, and the shells complete its words; `make install` puts them where they are looked
//! for, and `make uninstall` takes them away.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::errors::commands;
use super::mounts::PROGRAM;
use super::share_generator::files;

/// The generated files in a directory.
fn generated() -> (TempDir, Vec<PathBuf>) {
    let dir = TempDir::with_prefix("layerctl-").expect("a temporary directory can be made");
    let write = |(name, content): (String, Vec<u8>)| {
        assert!(content.len() > 100, "{name} says something");
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in one")).expect("it is made");
        fs::write(&path, content).expect("it is written");
        path
    };
    let paths = files().into_iter().map(write).collect();
    (dir, paths)
}

/// Runs a program that may not be there; nothing is printed to standard error.
fn quietly(program: &str, args: &[&str], path: &Path) -> Option<Output> {
    // What it would say of a language that this machine does not have is no fault of the file.
    let output = match Command::new(program).args(args).arg(path).env("LC_ALL", "C").output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        ran => ran.expect("it starts"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{program} {}: {said}", path.display());
    Some(output)
}

#[test]
fn every_command_has_a_page_and_words_to_complete() {
    let (dir, paths) = generated();
    let page = |name: &str| dir.path().join("man/man1").join(name);
    let text = |path: &Path| fs::read_to_string(path).expect("it is text");
    let names: BTreeSet<PathBuf> =
        commands().iter().map(|name| page(&format!("layerctl-{name}.1"))).chain([page("layerctl.1")]).collect();
    let pages = paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "1"));
    assert_eq!(pages.cloned().collect::<BTreeSet<_>>(), names);
    let completions: Vec<&PathBuf> = paths.iter().filter(|path| !names.contains(*path)).collect();
    assert_eq!(completions.len(), 3);
    let overview = text(&page("layerctl.1"));
    for name in commands() {
        let content = text(&page(&format!("layerctl-{name}.1")));
        let escaped = name.replace('-', "\\-");
        for part in
            [".TH layerctl", ".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH \"SEE ALSO\"", &escaped, "\\-\\-root"]
        {
            assert!(content.contains(part), "{part} is not in the page of {name}");
        }
        assert!(overview.contains(&format!("layerctl\\-{escaped}(1)")), "{name} is not in the overview");
        for completion in &completions {
            assert!(text(completion).contains(&name), "{name} is not in {}", completion.display());
        }
    }
    for path in names {
        if let Some(shown) = quietly("man", &["--warnings", "-l"], &path) {
            assert!(shown.stdout.len() > 300, "{} is shown", path.display());
        }
    }
}

#[test]
fn the_shells_understand_the_completions() {
    let (dir, _) = generated();
    let bash = dir.path().join("bash-completion/completions/layerctl");
    quietly("bash", &["-n"], &bash).expect("bash is there");
    let script = r#"
        source "$1" && complete -p layerctl >/dev/null || exit 1
        try() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _layerctl layerctl "${@: -1}" "${@: -2:1}"
            echo "${COMPREPLY[@]}"
        }
        try layerctl ver
        try layerctl verify --rep
        try layerctl save --compress zs
    "#;
    let output = Command::new("bash").args(["-c", script, "bash"]).arg(&bash).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("verify\n--repair\nzstd\n", ""));
    quietly("zsh", &["-n"], &dir.path().join("zsh/site-functions/_layerctl"));
    quietly("fish", &["-n"], &dir.path().join("fish/vendor_completions.d/layerctl.fish"));
}

#[test]
fn install_puts_everything_in_its_place_and_uninstall_takes_it_away() {
    let (share, paths) = generated();
    let root = TempDir::with_prefix("layerctl-").expect("a temporary directory can be made");
    // Others' files stay.
    let others = root.path().join("usr/share/man/man1/layer.1");
    fs::create_dir_all(others.parent().expect("it is in one")).and_then(|()| fs::write(&others, "x")).expect("made");
    let make = |target: &str| {
        let mut make = Command::new("make");
        make.args(["--silent", "-C", env!("CARGO_MANIFEST_DIR"), target, "PREFIX=/usr"]).env_remove("MAKEFLAGS");
        make.arg(format!("DESTDIR={}", root.path().display())).arg(format!("PROGRAM={PROGRAM}"));
        let output = make.arg(format!("SHARE={}", share.path().display())).output().expect("make is there");
        assert!(output.status.success(), "{output:?}");
    };
    let all = || -> BTreeSet<PathBuf> {
        let mut left = vec![root.path().to_owned()];
        let mut found = BTreeSet::new();
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(&dir).expect("it is read") {
                let path = entry.expect("it is read").path();
                if path.is_dir() {
                    left.push(path);
                } else {
                    found.insert(path);
                }
            }
        }
        found
    };
    let at = |path: &str| root.path().join(path);
    make("install-files");
    let below = |path: &PathBuf| at("usr/share").join(path.strip_prefix(share.path()).expect("it is below"));
    let mut wanted: BTreeSet<PathBuf> = paths.iter().map(below).collect();
    wanted.extend([
        at("usr/bin/layerctl"),
        at("usr/bin/layerctl-union"),
        at("sbin/mount.fuse.layerctl"),
        others.clone(),
    ]);
    assert_eq!(all(), wanted);
    assert_eq!(fs::read_link(at("sbin/mount.fuse.layerctl")).expect("it is one"), Path::new("/usr/bin/layerctl"));
    make("uninstall");
    assert_eq!(all(), BTreeSet::from([others]));
}
