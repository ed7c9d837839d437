//! What is run and disturbed.

use super::ground::Input;

/// What comes before and after.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Run(&'static [&'static str]),
    /// All of [`super::load::STEPS`] in the mount at `m`.
    Load,
}
use Step::{Load, Run};

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) before: &'static [Step],
    pub(crate) args: &'static [&'static str],
    pub(crate) input: Input,
    /// While the mount server, if it has started one, is still disturbed.
    pub(crate) after: &'static [Step],
    /// Writes nothing to the store.
    pub(crate) only_reads: bool,
    /// The exit status of an undisturbed run.
    pub(crate) status: i32,
    /// Whether a layer of the store is damaged before.
    pub(crate) is_damaged: bool,
    /// Prints what it has found, which what fails is a part of.
    pub(crate) tells_failures: bool,
    /// What is removed before it is given once more: into a directory that is there it copies another thing.
    pub(crate) removed: Option<&'static str>,
}

const PLAIN: Scenario = Scenario {
    name: "",
    before: &[],
    args: &[],
    input: Input::Nothing,
    after: &[],
    only_reads: false,
    status: 0,
    is_damaged: false,
    tells_failures: false,
    removed: None,
};

const fn plain(name: &'static str, args: &'static [&'static str]) -> Scenario {
    Scenario { name, args, ..PLAIN }
}

const fn reading(name: &'static str, args: &'static [&'static str]) -> Scenario {
    Scenario { name, args, only_reads: true, ..PLAIN }
}

const fn mounted(name: &'static str, args: &'static [&'static str], after: &'static [Step]) -> Scenario {
    let before: &[Step] = &[Run(&["run-mount", "--name", "n", "small", "m"]), Run(&["cp", "in/tree", "n:/change"])];
    Scenario { name, before, args, after, ..PLAIN }
}

const UMOUNT: Step = Run(&["umount", "n"]);

/// All of them.
pub(crate) const SCENARIOS: &[Scenario] = &[
    plain("import", &["import", "in/practice.tar", "--tag", "new"]),
    Scenario { input: Input::Pipe("in/oci.tar"), ..plain("import-pipe", &["import", "-", "--tag", "new"]) },
    plain("import-root", &["import", "in/root.tar.gz", "--tag", "new", "--report", "out/report.json"]),
    plain("build", &["build", "--from", "small", "-t", "built", "in/tree", "in/layer.tar"]),
    Scenario { after: &[Load, UMOUNT], ..plain("run-mount", &["run-mount", "--name", "n", "two", "m"]) },
    Scenario {
        after: &[Load, UMOUNT],
        ..plain("run-mount-passthrough", &["run-mount", "--io", "passthrough", "--name", "n", "two", "m"])
    },
    Scenario {
        after: &[Load, Run(&["commit", "n", "-t", "committed"]), UMOUNT],
        ..plain("serve-commit", &["run-mount", "--name", "n", "two", "m"])
    },
    Scenario { after: &[UMOUNT], ..plain("run-mount-default", &["run-mount", "--name", "n", "small"]) },
    Scenario {
        status: 7,
        ..plain("run-command", &["run-mount", "--name", "n", "sh", "--", "sh", "-c", "echo x >/written && exit 7"])
    },
    Scenario { status: 7, ..plain("run-rm", &["run-mount", "--rm", "sh", "--", "sh", "-c", "echo said; exit 7"]) },
    Scenario { after: &[Load, Run(&["umount", "m"])], ..plain("union", &["union", "-o", "dirs=u:l", "m"]) },
    mounted("umount", &["umount", "n"], &[]),
    mounted("commit-mounted", &["commit", "n", "-t", "committed"], &[UMOUNT]),
    mounted("cp-mounted", &["cp", "in/tree", "n:/srv"], &[UMOUNT]),
    mounted("rm-mounted", &["rm", "-f", "n"], &[]),
    plain("commit", &["commit", "changed", "-t", "committed"]),
    reading("save", &["save", "small", "-o", "out/two.tar"]),
    reading("save-dir", &["save", "small", "-o", "out/layout/"]),
    reading("save-stdout", &["save", "small", "-o", "-"]),
    reading("export", &["export", "changed", "-o", "out/c.tar"]),
    plain("cp-in", &["cp", "in/tree", "changed:/srv"]),
    // As docker cp and cp(1): once more it copies to out/copy/change.
    Scenario { removed: Some("out/copy"), ..reading("cp-out", &["cp", "changed:/change", "out/copy"]) },
    reading("diff", &["diff", "changed"]),
    reading("diff-tar", &["diff", "--tar", "changed", "-o", "out/diff.tar"]),
    reading("explain", &["explain", "changed", "/change/low"]),
    reading("inspect", &["inspect", "small", "changed"]),
    reading("history", &["history", "small"]),
    reading("images", &["--format", "json", "images"]),
    reading("layers", &["--format", "json", "layers"]),
    reading("ps", &["--format", "json", "ps"]),
    reading("df", &["--format", "json", "df"]),
    reading("exists", &["exists", "small"]),
    plain("rm", &["rm", "changed"]),
    plain("rmi", &["rmi", "spare"]),
    plain("tag", &["tag", "small", "other:1"]),
    plain("untag", &["untag", "spare"]),
    plain("prune", &["prune", "--all"]),
    reading("verify", &["verify", "small"]),
    reading("verify-all", &["verify", "--quick"]),
    Scenario {
        is_damaged: true,
        tells_failures: true,
        ..plain("repair", &["verify", "--repair", "--from", "in/small.tar", "small"])
    },
];
