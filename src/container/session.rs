//! The caller's side of a running command: signals, the keyboard, and job control.
//!
//! The command is in a session of its own, and so the caller's terminal sends it no signals. Those that come here are sent
//! on: from the kernel to the command's whole process group, as the terminal would, and from a process to the
//! command alone. When the command is stopped, this process gives the terminal back and stops itself with its process
//! group, as the command would have been stopped with it; a shell's `fg` or `bg` continues both.

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::net::Shutdown;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::Signal;
use signal_hook::consts::{
    SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Handle;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::low_level::siginfo::{Cause, Origin};

use super::message::Message;
use super::standard::name;
use super::terminal::Terminal;
use crate::error::{Context as _, Result};
use crate::sys::{self, call};

const CAUGHT: [c_int; 9] = [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGTSTP];

/// Keys that are on their way at once.
const KEYS: usize = 4096;

/// The signals that come to this process.
pub(super) struct Signals(SignalDelivery<UnixStream, WithOrigin>);

impl Signals {
    /// Catches them from now on. A signal that is ignored (`nohup`) stays so for the command too, as it would without a
    /// container.
    pub(super) fn catch() -> io::Result<Self> {
        let caught = CAUGHT.into_iter().filter(|signal| !sys::is_ignored(*signal));
        let (reader, writer) = UnixStream::pair()?;
        SignalDelivery::with_pipe(reader, writer, WithOrigin::default(), caught).map(Self)
    }

    /// Closed by another thread, it ends [`Session::run`].
    pub(super) fn handle(&self) -> Handle {
        self.0.handle()
    }

    fn pending(&mut self) -> Vec<Origin> {
        self.0.pending().collect()
    }
}

/// How often it is looked whether all is over, once init has ended.
const END_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

pub(super) struct Session {
    signals: Signals,
    /// To init and from it.
    control: UnixStream,
    /// The command's controlling one first.
    terminals: Vec<Terminal>,
    /// Whether this process has a controlling terminal, and so something that continues it when it is stopped.
    has_job_control: bool,
    /// Keys that the pseudo-terminal had no room for.
    keys: Vec<u8>,
}

/// What may be ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Signal,
    Init,
    /// Keys in the caller's terminal.
    Keys,
    /// Room for keys in the pseudo-terminal.
    Room,
    /// The end of the terminal with this index.
    Dead(usize),
}

impl Session {
    pub(super) fn new(signals: Signals, control: UnixStream, terminals: Vec<Terminal>) -> Result<Self> {
        let has_job_control = match File::open("/dev/tty") {
            Ok(_) => true,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENOENT | libc::EIO)) => false,
            Err(error) => return Err(error).doing("open", "/dev/tty"),
        };
        Ok(Self { signals, control, terminals, has_job_control, keys: Vec::new() })
    }

    /// Sends init what it begins with, and follows the command until the handle of the signals is closed.
    pub(super) fn run(&mut self, request: &[u8], in_foreground: bool) -> Result<()> {
        let followed = self.follow(request, in_foreground);
        if let Err(error) = followed {
            // error: init has ended by itself; else it ends the command now
            drop(self.control.shutdown(Shutdown::Both));
            return Err(error);
        }
        Ok(())
    }

    fn follow(&mut self, request: &[u8], in_foreground: bool) -> Result<()> {
        match self.control.write_all(request) {
            // An init that is gone does not read, and its end says why.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => return Ok(()),
            written => written.doing("tell a container's first process", "what to do")?,
        }
        if let Some(terminal) = self.terminals.first_mut().filter(|_| in_foreground) {
            self.keys.extend(terminal.take_keyboard()?);
        }
        let handle = self.signals.handle();
        let mut init_lives = true;
        while !handle.is_closed() {
            for (event, flags) in self.wait(init_lives)? {
                match event {
                    Event::Signal => self.on_signals()?,
                    Event::Init => init_lives = self.on_init()?,
                    Event::Keys => self.on_keys(flags)?,
                    Event::Room => self.send_keys()?,
                    Event::Dead(index) => self.on_dead_terminal(index),
                }
            }
        }
        Ok(())
    }

    /// Gives the caller's terminals back, when everything that the command has written is on them.
    pub(super) fn end(mut self, was_interrupted: bool) -> Result<()> {
        self.terminals.iter_mut().try_for_each(Terminal::give_back)?;
        self.terminals.first().filter(|_| was_interrupted).map_or(Ok(()), Terminal::interrupt)
    }

    fn wait(&self, init_lives: bool) -> Result<Vec<(Event, PollFlags)>> {
        let mut all = vec![(Event::Signal, self.signals.0.get_read().as_fd(), PollFlags::IN)];
        if init_lives {
            all.push((Event::Init, self.control.as_fd(), PollFlags::IN));
        }
        if let Some(terminal) = self.terminals.first() {
            let has_keys = !self.keys.is_empty();
            let keys = terminal.keys().filter(|_| !has_keys);
            all.extend(keys.map(|fd| (Event::Keys, fd.as_fd(), PollFlags::IN)));
            let room = terminal.master().filter(|_| has_keys);
            all.extend(room.map(|fd| (Event::Room, fd.as_fd(), PollFlags::OUT)));
        }
        for (index, terminal) in self.terminals.iter().enumerate() {
            all.extend(terminal.sign_of_life().map(|fd| (Event::Dead(index), fd.as_fd(), PollFlags::IN)));
        }
        let mut fds: Vec<_> = all.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        // Nothing is waited for any more when init has ended, but that its end is known; the message of that may be lost.
        let pause = (!init_lives).then_some(END_PAUSE);
        match call::poll(&mut fds, pause.as_ref()) {
            // A signal, which is there to be read.
            Err(Errno::INTR) => return Ok(Vec::new()),
            polled => polled.doing("wait for", "the container's command")?,
        };
        let ready = all.iter().zip(&fds).map(|((event, ..), fd)| (*event, fd.revents()));
        Ok(ready.filter(|(_, flags)| !flags.is_empty()).collect())
    }

    fn send(&mut self, message: Message) {
        // error: an init that is gone takes no message, and needs none
        drop(self.control.write_all(&message.bytes()));
    }

    fn on_signals(&mut self) -> Result<()> {
        self.signals.pending().iter().try_for_each(|origin| self.on_signal(origin))
    }

    fn on_signal(&mut self, origin: &Origin) -> Result<()> {
        let Some(signal) = Signal::from_named_raw(origin.signal) else { return Ok(()) };
        if signal == Signal::CONT {
            return self.resume();
        }
        if signal == Signal::WINCH {
            self.terminals.iter().try_for_each(Terminal::follow_size)?;
        }
        match origin.cause {
            // The change of the size has said it.
            Cause::Kernel if signal == Signal::WINCH && !self.terminals.is_empty() => {}
            Cause::Kernel => self.send(Message::Group(signal)),
            Cause::Sent(_) => self.send(Message::Signal(signal)),
            _ => {}
        }
        Ok(())
    }

    /// The command continues, with the keyboard if it wants it and this process has it.
    fn resume(&mut self) -> Result<()> {
        if let Some(terminal) = self.terminals.first_mut() {
            terminal.follow_size()?;
            if !terminal.is_ours()? {
                terminal.forget();
            } else if terminal.wants_keyboard() {
                self.keys.extend(terminal.take_keyboard()?);
                self.send(Message::Foreground);
                return Ok(());
            }
        }
        self.send(Message::Background);
        Ok(())
    }

    /// Whether init is there.
    fn on_init(&mut self) -> Result<bool> {
        let mut signals = [0; 16];
        let count = match call::read(&self.control, &mut signals) {
            Err(Errno::INTR) => return Ok(true),
            // Killed, with messages that it had not read.
            Ok(0) | Err(Errno::CONNRESET) => return Ok(false),
            count => count.doing("hear from", "the container's first process")?,
        };
        for signal in signals.iter().take(count) {
            self.on_stop((*signal).into())?;
        }
        Ok(true)
    }

    /// The command was stopped by `signal`.
    fn on_stop(&mut self, signal: c_int) -> Result<()> {
        let wants_keyboard = matches!(signal, SIGTTIN | SIGTTOU);
        if let Some(terminal) = self.terminals.first_mut() {
            if wants_keyboard {
                terminal.want_keyboard();
                if terminal.is_ours()? {
                    return self.resume();
                }
            }
            if self.has_job_control {
                terminal.settle();
                terminal.give_back()?;
            }
        }
        if !self.has_job_control {
            // Nothing would continue this process, and the process that stopped the command can continue it.
            return Ok(());
        }
        let own = if wants_keyboard { signal } else { SIGTSTP };
        sys::stop_process_group(own).doing("stop with", "the container's command")?;
        let signals = self.signals.pending();
        let was_stopped = signals.iter().any(|origin| origin.signal == SIGCONT);
        signals.iter().try_for_each(|origin| self.on_signal(origin))?;
        match signal {
            _ if was_stopped => Ok(()),
            // Of an orphaned process group, whose stop signals the kernel ignores, whose reads it refuses, and which it
            // sends these two signals when it becomes one.
            SIGTTIN | SIGTTOU => {
                self.send(Message::Group(Signal::HUP));
                self.send(Message::Background);
                Ok(())
            }
            SIGTSTP => self.resume(),
            _ => Ok(()),
        }
    }

    fn on_keys(&mut self, flags: PollFlags) -> Result<()> {
        let Some(terminal) = self.terminals.first_mut() else { return Ok(()) };
        let Some(fd) = terminal.keys() else { return Ok(()) };
        let mut keys = [0; KEYS];
        match call::read(fd, &mut keys) {
            Ok(0) | Err(Errno::IO) if flags.contains(PollFlags::HUP) => self.on_dead_terminal(0),
            // In the background of the terminal, without anything that could bring it to the front.
            Err(Errno::IO) => terminal.forget(),
            Err(Errno::INTR | Errno::AGAIN) => {}
            count => {
                let count = count.doing("read from the terminal of", name(0))?;
                let keys = keys.get(..count).unwrap_or_default();
                terminal.sees(keys);
                self.keys.extend(keys);
                self.send_keys()?;
            }
        }
        Ok(())
    }

    fn send_keys(&mut self) -> Result<()> {
        let Some(master) = self.terminals.first().and_then(Terminal::master) else {
            self.keys.clear();
            return Ok(());
        };
        match call::write(master, &self.keys) {
            Err(Errno::INTR | Errno::AGAIN) => {}
            // The command's end of it is closed.
            Err(Errno::IO) => self.keys.clear(),
            count => drop(self.keys.drain(..count.doing("write to", "the container's terminal")?)),
        }
        Ok(())
    }

    /// As a terminal does that hangs up.
    fn on_dead_terminal(&mut self, index: usize) {
        if let Some(terminal) = self.terminals.get_mut(index) {
            terminal.hang_up();
        }
        if index == 0 {
            self.keys.clear();
            self.send(Message::Group(Signal::HUP));
            self.send(Message::Group(Signal::CONT));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// With init's end of the socket.
    fn session() -> (Session, UnixStream) {
        let (reader, writer) = UnixStream::pair().unwrap();
        let none: [c_int; 0] = [];
        let signals = Signals(SignalDelivery::with_pipe(reader, writer, WithOrigin::default(), none).unwrap());
        let (control, init) = UnixStream::pair().unwrap();
        (Session { signals, control, terminals: Vec::new(), has_job_control: false, keys: Vec::new() }, init)
    }

    #[test]
    fn an_init_that_cannot_be_told_what_to_do_is_told_that_there_is_no_more() {
        let (mut session, mut init) = session();
        // A write that fails, since nothing is read: a part of the request is there.
        session.control.set_nonblocking(true).unwrap();
        let error = session.run(&vec![b'x'; 16 << 20], false).unwrap_err();
        assert!(error.to_string().contains("tell a container's first process what to do"), "{error}");
        let mut read = Vec::new();
        init.read_to_end(&mut read).unwrap();
        assert!(!read.contains(&b'\n') && read.len() < 16 << 20);
    }

    #[test]
    fn an_init_that_is_gone_is_told_nothing() {
        let (mut session, init) = session();
        drop(init);
        session.run(b"request\n", false).unwrap();
        // As signals are that come later.
        session.send(Message::Background);
    }

    #[test]
    fn a_message_that_is_lost_leaves_the_command_followed() {
        let (mut session, mut init) = session();
        let handle = session.signals.handle();
        session.control.shutdown(Shutdown::Write).unwrap();
        session.send(Message::Group(Signal::TERM));
        let mut read = Vec::new();
        init.read_to_end(&mut read).unwrap();
        assert!(read.is_empty());
        // Its stops still come, and its end.
        init.write_all(&[u8::try_from(libc::SIGSTOP).unwrap()]).unwrap();
        assert!(session.on_init().unwrap());
        drop(init);
        assert!(!session.on_init().unwrap());
        handle.close();
        assert!(session.wait(false).is_ok());
    }
}
