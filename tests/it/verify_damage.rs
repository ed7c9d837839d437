//! `verify` finds each kind of damage, names it, and finds nothing else.

use std::fs;

use super::cli::Sandbox;
use super::damage::{DAMAGES, diff, found, image, store};
use super::generator::sha256;

fn sound(sandbox: &Sandbox) {
    for words in [&[][..], &["--quick"], &["damaged:1"], &["--quick", "damaged:1"]] {
        assert_eq!(found(sandbox, words), (0, Vec::new()), "{words:?}");
    }
}

#[test]
fn a_store_that_is_well_has_no_findings_and_is_not_changed() {
    let (sandbox, _) = store();
    let before = sandbox.store();
    sound(&sandbox);
    assert_eq!(sandbox.run(&["verify"]).lines(), Vec::<&str>::new());
    sandbox.store().assert_same(&before, "it is only read");
    sandbox.run(&["verify", "nothing"]).assert_refused(1, &["no such image or layer", "nothing"]);
}

#[test]
fn each_damage_is_found_and_named() {
    for (name, damage, wanted, is_quick) in DAMAGES {
        let (sandbox, _) = store();
        damage(&sandbox);
        let before = sandbox.store();
        let layer = sha256(&image().layers[0]);
        for words in [&[][..], &["damaged:1"], &[&layer]] {
            let (code, findings) = found(&sandbox, words);
            let findings: Vec<(&str, &str)> =
                findings.iter().map(|(_, problem, path)| (problem.as_str(), path.as_str())).collect();
            assert_eq!((code, &findings[..]), (3, *wanted), "{name} {words:?}");
        }
        let (code, findings) = found(&sandbox, &["--quick"]);
        let expected = if *is_quick { (3, wanted.len()) } else { (0, 0) };
        assert_eq!((code, findings.len()), expected, "{name}: {findings:?}");
        sandbox.store().assert_same(&before, name);
    }
}

#[test]
fn findings_are_lines_with_the_layer_the_path_and_what_is_wrong() {
    let (sandbox, _) = store();
    fs::remove_file(diff(&sandbox).join("etc/noted")).unwrap();
    fs::write(diff(&sandbox).join("etc/a\nb"), "x").unwrap();
    let output = sandbox.run(&["verify"]);
    assert_eq!((output.code, output.stderr.as_str()), (3, ""));
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    let layer = &sha256(&image().layers[0])[..12];
    for words in [["missing", "etc/noted"], ["extra", r"etc/a\nb"], ["time", "etc "]] {
        let has = |line: &&str| line.contains(layer) && words.iter().all(|word| line.contains(word));
        assert_eq!(lines.iter().filter(|line| has(line)).count(), 1, "{words:?} in {lines:?}");
    }
}

#[test]
fn progress_is_shown_on_a_terminal_only() {
    let (sandbox, _) = store();
    let program = super::mounts::PROGRAM;
    let on_terminal = |words: &str| {
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--return", "--command", &format!("{program} {words}"), "/dev/null"]);
        let output =
            script.env("LAYERCTL_ROOT", sandbox.root()).env("TERM", "xterm").output().expect("script(1) is there");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let shown = on_terminal("verify");
    for layer in &image().layers {
        let title = &sha256(layer)[..12];
        assert!(shown.lines().any(|line| line.contains(title) && line.contains("well")), "{title} is not in {shown:?}");
    }
    assert_eq!(on_terminal("--quiet verify"), "");
    let output = sandbox.run(&["verify"]);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
}
