//! Tests that need a process of their own: a limit, a umask or a violent end would hit the others.

use std::process::Command;

const VARIABLE: &str = "LAYERCTL_TEST_IN_OWN_PROCESS";

/// Whether this process was started for the test `name`, to do the real work.
pub(crate) fn is_own(name: &str) -> bool {
    std::env::var_os(VARIABLE).is_some_and(|value| value == name)
}

/// The command that runs the test `name` (with its module) of this binary in a process of its own.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", name, "--nocapture"]).env(VARIABLE, name);
    command
}

/// Runs the test there, and fails as it does.
pub(crate) fn run(name: &str) {
    let output = command(name).output().expect("the test's process starts");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{name}: {}\n{}", output.status, String::from_utf8_lossy(&text));
    assert!(String::from_utf8_lossy(&text).contains("1 passed"), "{name} is the name of no test");
}
