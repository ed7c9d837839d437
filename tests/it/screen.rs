//! A terminal with a program at it, as a user sits there.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::mounts::{Mounts, PROGRAM};
use super::processes::{end_of, eventually};

pub(crate) struct Screen {
    keyboard: OwnedFd,
    pub(crate) child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    /// What of it has been looked at.
    seen: usize,
}

/// Master and slave.
pub(crate) fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).expect("a pseudo-terminal");
    grantpt(&master).expect("it can be used");
    unlockpt(&master).expect("it can be opened");
    let slave = ioctl_tiocgptpeer(&master, flags).expect("its other side");
    (master, slave)
}

impl Screen {
    /// A shell with job control and the prompt `ready2> `, `$L` being the program.
    pub(crate) fn shell(mounts: &Mounts) -> Self {
        let mut screen = Self::of(mounts, &["bash", "--norc", "--noprofile", "--noediting", "-i"]);
        screen.types("PS1='ready$((1+1))> '\n");
        screen.shows("ready2> ");
        screen
    }

    /// A script of `sh`, `$L` being the program.
    pub(crate) fn script(mounts: &Mounts, script: &str) -> Self {
        Self::of(mounts, &["sh", "-c", script])
    }

    fn of(mounts: &Mounts, words: &[&str]) -> Self {
        let (keyboard, slave) = terminal();
        tcsetwinsize(&keyboard, size(24, 80)).expect("a size");
        let fd = || slave.try_clone().expect("a copy");
        let mut command: Command = mounts.command("setsid");
        command.args(["--ctty", "--"]).args(words).env("L", PROGRAM).env("TERM", "vt100");
        let child = command.stdin(fd()).stdout(fd()).stderr(fd()).spawn().expect("it starts");
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut from, to) = (File::from(keyboard.try_clone().expect("a copy")), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                to.lock().expect("no panic").extend(&buffer[..count]);
            }
        });
        Self { keyboard, child, shown, seen: 0 }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        File::from(self.keyboard.try_clone().expect("a copy")).write_all(keys.as_bytes()).expect("it takes keys");
    }

    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.keyboard, size(rows, columns)).expect("a size");
    }

    /// Waits until `text` is shown, after what was waited for before, and gives what came before it.
    #[track_caller]
    pub(crate) fn shows(&mut self, text: &str) -> String {
        let mut before = None;
        eventually(|| {
            before = self.rest().split_once(text).map(|(before, _)| before.to_owned());
            before.is_some()
        });
        let Some(before) = before else { panic!("{text:?} is not in {:?}", self.rest()) };
        self.seen += before.len() + text.len();
        before
    }

    /// What was not looked at yet.
    pub(crate) fn rest(&self) -> String {
        let shown = self.shown.lock().expect("no panic");
        String::from_utf8_lossy(&shown[self.seen..]).into_owned()
    }

    /// What is shown until the program ends, and its exit status.
    #[track_caller]
    pub(crate) fn ends(mut self) -> (Option<i32>, String) {
        let status = end_of(&mut self.child);
        // What it has written last comes before this.
        (status.code(), self.shown_to_end())
    }

    fn shown_to_end(&mut self) -> String {
        let mut length = usize::MAX;
        eventually(|| {
            let now = self.shown.lock().expect("no panic").len();
            let is_same = now == std::mem::replace(&mut length, now);
            std::thread::sleep(std::time::Duration::from_millis(20));
            is_same
        });
        self.rest()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
