//! `run-mount IMAGE -- CMD` at a terminal: the command has one of its own, and the caller's is as it was afterwards.

use std::fs;
use std::path::Path;

use super::mounts::Mounts;
use super::processes::{descendants, eventually, signal};
use super::root_fs::with_programs;
use super::screen::Screen;

/// With an image `box` that has what looks at terminals.
fn mounts() -> Mounts {
    let mounts = Mounts::new();
    mounts.import("box", &with_programs(&["stty", "perl", "seq"]));
    mounts
}

/// A command line that runs a script in a container.
fn inside(script: &str) -> String {
    format!("$L run-mount --rm box -- sh -c '{script}'")
}

/// That the terminal has the modes of a shell.
#[track_caller]
fn modes_are_restored(screen: &mut Screen) {
    screen.types("stty -a; echo modes-$((3+4))\n");
    let modes = screen.shows("modes-7");
    for mode in ["icanon", "isig", "echo", "opost", "icrnl"] {
        assert!(modes.split([' ', ';', '\r', '\n']).any(|word| word == mode), "{mode}: {modes}");
    }
}

#[test]
fn the_terminal_is_one_of_the_container() {
    let mounts = mounts();
    let list =
        "ls -l /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /dev/console; ls -1 /dev/pts; stty size; echo $TERM";
    let (code, shown) = Screen::script(&mounts, &format!("exec {}", inside(list))).ends();
    assert_eq!(code, Some(0), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    let console: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!((&console[..6], console[9]), (&["crw--w----", "1", "root", "5", "136,", "0"][..], "/dev/console"));
    assert!(lines[1..4].iter().all(|line| line.ends_with(" -> /dev/pts/0")), "{shown}");
    assert_eq!(lines[4..], ["0", "ptmx", "24 80", "vt100"], "{shown}");
    mounts.assert_nothing_is_live();
}

#[test]
fn a_command_types_nothing_into_the_callers_terminal() {
    let sysctl = Path::new("/proc/sys/dev/tty/legacy_tiocsti");
    // A kernel before 6.2 has no such setting, and always allows it.
    let was = fs::read_to_string(sysctl).ok();
    if was.is_some() {
        fs::write(sysctl, "1").expect("it can be set");
    }
    let mounts = mounts();
    let mut screen = Screen::shell(&mounts);
    // TIOCSTI, and TIOCLINUX with TIOCL_PASTESEL.
    let typing = r#"perl -e "open T, q(+<), q(/dev/tty) or print qq(no tty\n); foreach (split //, qq(echo typed-\\x41\n)) { my \$c = \$_; ioctl(T, 0x5412, \$c) and \$n++; } my \$p = pack(q(C), 3); ioctl(T, 0x541c, \$p) and \$m++; print qq(sent \$n. \$m.\n)""#;
    for (to, sent) in
        [("", "sent 13. ."), ("< /dev/null > log 2>&1; cat log", "no tty\r\nsent . ."), ("| cat", "sent 13. .")]
    {
        screen.types(&format!("{} {to}; echo here-$((1+1))\n", inside(typing)));
        let shown = screen.shows("here-2");
        assert!(shown.contains(sent), "{to}: {shown}");
        screen.types("echo there-$((1+1))\n");
        let shown = screen.shows("there-2");
        assert!(!shown.contains("typed-"), "{to}: {shown}");
    }
    if let Some(was) = was {
        fs::write(sysctl, was.trim()).expect("it can be set");
    }
}

#[test]
fn the_caller_reads_from_its_terminal_after_an_interactive_shell() {
    let mounts = mounts();
    let script = "$L run-mount --rm box -- sh -i; echo ended-$?; read line; echo \"$? $line\"";
    let mut screen = Screen::script(&mounts, script);
    screen.shows("# ");
    screen.types("echo in-$((20+3))\n");
    screen.shows("in-23");
    screen.types("exit 4\n");
    screen.shows("ended-4");
    screen.types("a line\n");
    screen.shows("0 a line");
    assert_eq!(screen.ends().0, Some(0));
}

/// As `script` types what it reads, at once and with an end.
#[test]
fn what_was_typed_before_is_for_the_command() {
    let mounts = mounts();
    let mut screen = Screen::script(&mounts, &format!("sleep 0.3; exec {}", inside("cat; echo end-$((1+1)); cat")));
    screen.types("early\n\x04");
    screen.shows("early\r\nend-2");
    screen.types("late\n");
    screen.shows("late\r\nlate");
    screen.types("\x04");
    assert_eq!(screen.ends().0, Some(0));
}

#[test]
fn the_window_has_the_callers_size() {
    let mounts = mounts();
    let mut screen = Screen::shell(&mounts);
    let script = "trap \"stty size\" WINCH; echo go-$((1+1)); while :; do sleep 0.05; done";
    screen.types(&format!("{}\n", inside(script)));
    screen.shows("go-2");
    screen.resize(50, 132);
    screen.shows("50 132");
    screen.types("\x03");
    screen.shows("ready2> ");
    modes_are_restored(&mut screen);
}

#[test]
fn a_stopped_command_is_continued_by_the_shell() {
    let mounts = mounts();
    let mut screen = Screen::shell(&mounts);
    screen.types(&format!("{}\n", inside("echo go-$((1+1)); read x; echo got-$x; read x; echo and-$x")));
    screen.shows("go-2");
    for round in 1..3 {
        screen.types("\x1a");
        screen.shows("Stopped");
        modes_are_restored(&mut screen);
        screen.types("fg\n");
        screen.shows("$L run-mount");
        screen.types(&format!("line {round}\n"));
        screen.shows(if round == 1 { "got-line 1" } else { "and-line 2" });
    }
    // What is typed before it would be the command's.
    screen.shows("ready2> ");
    screen.types("echo status-$?\n");
    screen.shows("status-0");
    modes_are_restored(&mut screen);
    // One that goes on in the background.
    // It starts no process: dash does so by vfork(2), and a stop that comes in the middle of that stops only the new process.
    screen.types(&format!(
        "{}\n",
        inside(r#"echo go-$((1+2)); exec perl -e "select undef, undef, undef, 0.05 until -e q(/end); print qq(late-), 2+2, qq(\n)""#)
    ));
    screen.shows("go-3");
    screen.types("\x1a");
    screen.shows("Stopped");
    screen.types("bg\n");
    screen.shows("$L run-mount");
    screen.types("echo shell-$((2+2))\n");
    screen.shows("shell-4");
    let mountpoint = mounts.mounted().pop().expect("it is mounted");
    fs::write(mountpoint.join("end"), "").unwrap();
    screen.shows("late-4");
    screen.types("wait; echo waited-$((2+2))\n");
    screen.shows("waited-4");
    modes_are_restored(&mut screen);
    drop(screen);
    mounts.assert_nothing_is_live();
}

#[test]
fn a_command_that_begins_in_the_background_waits_for_the_terminal() {
    let mounts = mounts();
    let mut screen = Screen::shell(&mounts);
    screen.types(&format!("{} &\n", inside("echo go-$((1+1)); read x; echo got-$x")));
    screen.shows("go-2");
    modes_are_restored(&mut screen);
    assert!(eventually(|| {
        screen.types("jobs\n");
        std::thread::sleep(std::time::Duration::from_millis(100));
        screen.rest().contains("Stopped")
    }));
    screen.types("echo all-$((1+1))\n");
    screen.shows("all-2");
    screen.types("fg\n");
    screen.shows("$L run-mount");
    screen.types("now\n");
    screen.shows("got-now");
    screen.shows("ready2> ");
    modes_are_restored(&mut screen);
    drop(screen);
    mounts.assert_nothing_is_live();
}

#[test]
fn the_terminal_is_restored_when_the_command_is_killed() {
    let mounts = mounts();
    let mut screen = Screen::shell(&mounts);
    screen.types(&format!("{}; echo status-$?\n", inside("echo go-$((1+1)); exec sleep 1000")));
    screen.shows("go-2");
    let shell = screen.child.id();
    let is_sleep = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    let mut command = None;
    assert!(eventually(|| {
        command = descendants(shell).into_iter().find(is_sleep);
        command.is_some()
    }));
    signal(command.expect("it runs"), rustix::process::Signal::KILL);
    screen.shows("status-137");
    modes_are_restored(&mut screen);
    // The server too.
    screen.types(&format!("{}; echo status-$?\n", inside("echo go-$((1+2)); exec sleep 1000")));
    screen.shows("go-3");
    mounts.servers().into_iter().for_each(super::processes::kill);
    screen.shows("status-125");
    modes_are_restored(&mut screen);
}

#[test]
fn what_stays_in_the_background_keeps_nobody_waiting() {
    let mounts = mounts();
    let script = inside("sleep 1000 & perl -e \"sleep 1000\" & echo begun; exit 3");
    let (code, shown) = Screen::script(&mounts, &format!("exec {script}")).ends();
    assert_eq!((code, shown.as_str()), (Some(3), "begun\r\n"));
    mounts.assert_nothing_is_live();
}

#[test]
fn all_output_is_there_at_the_end() {
    let mounts = mounts();
    let (code, shown) = Screen::script(&mounts, &format!("exec {}", inside("seq 200000"))).ends();
    assert_eq!(code, Some(0));
    let expected: String = (1..=200_000).map(|number| format!("{number}\r\n")).collect();
    assert!(shown == expected, "{} of {}", shown.len(), expected.len());
}

#[test]
fn streams_that_are_no_terminal_stay_apart() {
    let mounts = mounts();
    let mut screen = Screen::shell(&mounts);
    let script = "echo out; echo err >&2; echo tty-$((1+1)) > /dev/tty";
    screen.types(&format!("{} 2>err | cat >out; echo ended-$((1+1))\n", inside(script)));
    let shown = screen.shows("ended-2");
    assert!(shown.contains("tty-2\r\n") && !shown.contains("\r\r"), "{shown:?}");
    assert_eq!((mounts.read("out"), mounts.read("err")), ("out\n".to_owned(), "err\n".to_owned()));
    // The reader of a pipe has the keyboard, until the command wants it.
    let reader = "sh -c 'read line; echo $line; read key < /dev/tty; echo key-$key; cat'";
    let script = "echo first; while [ ! -e /go ]; do sleep 0.05; done; read x; echo got-$x";
    screen.types(&format!("{} | {reader}\n", inside(script)));
    screen.shows("first");
    screen.types("k\n");
    screen.shows("key-k");
    fs::write(mounts.mounted().pop().expect("it is mounted").join("go"), "").unwrap();
    screen.types("now\n");
    screen.shows("got-now");
    screen.shows("ready2> ");
    modes_are_restored(&mut screen);
    // Ctrl-C is for all of the pipeline.
    screen.types(&format!("{} | cat\n", inside("echo go-$((1+1)); exec sleep 1000")));
    screen.shows("go-2");
    screen.types("\x03");
    screen.shows("ready2> ");
    screen.types("echo status-${PIPESTATUS[*]}\n");
    screen.shows("status-130 130");
    modes_are_restored(&mut screen);
}

#[test]
fn an_interrupt_ends_the_callers_script_too() {
    let mounts = mounts();
    // One that interrupts itself does not.
    let loops = |script: &str| format!("for x in 1 2 3; do {}; echo after-$x-$?; done", inside(script));
    let (code, shown) = Screen::script(&mounts, &loops("kill -INT $$")).ends();
    assert_eq!((code, shown.as_str()), (Some(0), "after-1-130\r\nafter-2-130\r\nafter-3-130\r\n"));
    let mut screen = Screen::script(&mounts, &loops("echo go-$((1+1)); exec sleep 1000"));
    screen.shows("go-2");
    screen.types("\x03");
    let (code, shown) = screen.ends();
    assert!(code.is_none() && !shown.contains("after"), "{code:?} {shown}");
}
