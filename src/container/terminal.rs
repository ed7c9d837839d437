//! The caller's terminal, and the pseudo-terminal that the command has instead of it.
//!
//! While the command has the keyboard, the caller's terminal is raw, and every key goes to the pseudo-terminal, whose
//! line discipline makes signals and lines of them. It is raw only when the command is in the foreground of the
//! pseudo-terminal and this process in that of the caller's. A command that begins in a pipeline, or in the background,
//! begins in the background of the pseudo-terminal too, and gets the keyboard when it first reads from it or sets its
//! modes, which stops it (`SIGTTIN`, `SIGTTOU`): until then other programs may have it. So does one whose standard input is
//! not the terminal.

use std::io::PipeReader;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::event::{PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::getpgrp;
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
    tcsetwinsize,
};

use super::pump::{Moved, Pump, TerminalOutput, move_once, sign, wait};
use super::standard::{access, name};
use crate::error::{Context as _, Result};
use crate::sys::call;

/// How long output that is on its way is waited for before the terminal is given back.
const PATIENCE: Duration = Duration::from_millis(200);
/// The longest line that a terminal takes (`N_TTY_BUF_SIZE` of drivers/tty/n_tty.c).
const LINE_MAX: usize = 4096;
/// More than it keeps.
const TYPED_MAX: usize = 64 << 10;
/// How much of it.
const SETTLE_MAX: usize = 64 << 10;

/// One terminal of the caller.
pub(super) struct Terminal {
    /// Its number, by which the kernel knows it.
    number: usize,
    /// Where keys are read and modes are set.
    input: OwnedFd,
    output: OwnedFd,
    /// Open to the end, so that the pseudo-terminal has none when the command has closed it.
    _slave: OwnedFd,
    /// `None` when the caller's terminal is gone.
    master: Option<Arc<OwnedFd>>,
    /// The modes that are given back, while others are set.
    saved: Option<Termios>,
    /// Whether the pseudo-terminal makes the ends of lines while the caller's is raw. Else the caller's does always, since
    /// another program's output goes there too.
    makes_line_ends: bool,
    /// Whether output modes were taken from the pseudo-terminal that are to be given back.
    took_line_ends: bool,
    /// Whether the command is to have the keyboard whenever this process has it.
    wants_keyboard: bool,
    had_keyboard: bool,
    /// Whether the last key was the one that interrupts.
    interrupt: bool,
    turn: Arc<Mutex<()>>,
    alive: PipeReader,
    /// For the pump, until that begins.
    writer: Option<std::io::PipeWriter>,
}

impl Terminal {
    /// For the terminal that all of `descriptors` are open on, with their numbers, of which there is one.
    pub(super) fn new(
        descriptors: Vec<(usize, OwnedFd)>,
        (master, slave): (OwnedFd, OwnedFd),
        is_controlling: bool,
        is_in_pipeline: bool,
    ) -> Result<Self> {
        let number = descriptors.first().map_or(0, |(number, _)| *number);
        let doing = "use the terminal of";
        let input = able_to(&descriptors, OFlags::RDONLY).doing(doing, name(number))?;
        let output = able_to(&descriptors, OFlags::WRONLY).doing(doing, name(number))?;
        let (alive, writer) = sign().doing(doing, name(number))?;
        let has = |wanted: usize| descriptors.iter().any(|(number, _)| *number == wanted);
        let mut terminal = Self {
            number,
            input,
            output,
            _slave: slave,
            master: Some(Arc::new(master)),
            saved: None,
            makes_line_ends: is_controlling && has(1),
            took_line_ends: false,
            wants_keyboard: is_controlling && has(0) && !is_in_pipeline,
            had_keyboard: false,
            interrupt: false,
            turn: Arc::default(),
            alive,
            writer: Some(writer),
        };
        terminal.begin().doing(doing, name(number))?;
        Ok(terminal)
    }

    fn begin(&mut self) -> rustix::io::Result<()> {
        self.copy_modes()?;
        self.resize()
    }

    /// Gives the pseudo-terminal the modes of the caller's.
    fn copy_modes(&mut self) -> rustix::io::Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        let mut modes = tcgetattr(&self.input)?;
        // A command in the background may write.
        modes.local_modes -= LocalModes::TOSTOP;
        tcsetattr(master.as_fd(), OptionalActions::Now, &modes)?;
        self.took_line_ends = false;
        self.take_line_ends()
    }

    /// Whether the command is in the foreground of its terminal from the beginning.
    pub(super) fn begins_in_foreground(&self) -> Result<bool> {
        Ok(self.wants_keyboard && self.is_ours()?)
    }

    pub(super) fn output_pump(&mut self) -> Result<Option<Pump>> {
        let (Some(master), Some(alive)) = (&self.master, self.writer.take()) else { return Ok(None) };
        let target = self.output.try_clone().doing("copy", name(self.number))?;
        let terminal = TerminalOutput { turn: Arc::clone(&self.turn), _alive: alive };
        Ok(Some(Pump::terminal(self.number, Arc::clone(master), target, terminal)))
    }

    /// Whether this process may read from the terminal: it is in its foreground, or of another session.
    pub(super) fn is_ours(&self) -> Result<bool> {
        match tcgetpgrp(&self.input) {
            Ok(group) => Ok(group == getpgrp()),
            // Not the one of this session: there is no job control between them.
            Err(Errno::NOTTY) => Ok(true),
            // It is gone; or its foreground has no process that this pid namespace knows.
            Err(Errno::IO | Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error).doing("find the foreground of", name(self.number)),
        }
    }

    pub(super) fn wants_keyboard(&self) -> bool {
        self.wants_keyboard
    }

    /// From now on the command has the keyboard whenever this process has it.
    pub(super) fn want_keyboard(&mut self) {
        self.wants_keyboard = true;
    }

    /// Gives every key to the command from now on, and says which were typed before. Only when the terminal
    /// [is ours](Self::is_ours).
    pub(super) fn take_keyboard(&mut self) -> Result<Vec<u8>> {
        let typed = self.typed().doing("read from the terminal of", name(self.number))?;
        self.begin_keyboard().doing("set the modes of the terminal of", name(self.number))?;
        Ok(typed)
    }

    /// The lines that were typed before the terminal is raw. An end of file among them would be a NUL afterwards.
    fn typed(&self) -> rustix::io::Result<Vec<u8>> {
        let mut typed = Vec::new();
        let modes = tcgetattr(&self.input)?;
        if self.saved.is_some() || !modes.local_modes.contains(LocalModes::ICANON) {
            return Ok(typed);
        }
        let mut line = [0; LINE_MAX];
        while typed.len() < TYPED_MAX {
            let [flags] = wait([(self.input.as_fd(), PollFlags::IN)], Some(&Timespec::default()))?;
            if !flags.contains(PollFlags::IN) || flags.contains(PollFlags::HUP) {
                break;
            }
            match call::read(&self.input, &mut line)? {
                0 => typed.push(modes.special_codes[SpecialCodeIndex::VEOF]),
                count => typed.extend(line.iter().take(count)),
            }
        }
        Ok(typed)
    }

    fn begin_keyboard(&mut self) -> rustix::io::Result<()> {
        if !std::mem::replace(&mut self.had_keyboard, true) {
            // Of the program that had it meanwhile, if the command began in the background.
            self.copy_modes()?;
        }
        self.set_raw()
    }

    fn set_raw(&mut self) -> rustix::io::Result<()> {
        let saved = match self.saved.take() {
            Some(saved) => saved,
            None => tcgetattr(&self.input)?,
        };
        let mut raw = saved.clone();
        raw.make_raw();
        // A read never waits, as another process may have read what was there.
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        if !self.makes_line_ends {
            raw.output_modes = saved.output_modes;
        }
        self.saved = Some(saved);
        tcsetattr(&self.input, OptionalActions::Now, &raw)?;
        if self.makes_line_ends && self.took_line_ends {
            self.took_line_ends = false;
            self.change_line_ends(true)?;
        }
        Ok(())
    }

    /// Remembers what is typed for [`Self::interrupt`].
    pub(super) fn sees(&mut self, keys: &[u8]) {
        let interrupt = self.saved.as_ref().map(|modes| modes.special_codes[SpecialCodeIndex::VINTR]);
        self.interrupt = keys.last().is_some_and(|key| *key != 0 && Some(*key) == interrupt);
    }

    /// Sends `SIGINT` to this process and its group, as the caller's terminal would have if it had not been raw, when that
    /// key was the last one: it is for the script, too, in which a command was interrupted.
    pub(super) fn interrupt(&self) -> Result<()> {
        if self.interrupt && self.is_ours()? {
            let sent = rustix::process::kill_current_process_group(rustix::process::Signal::INT);
            sent.doing("interrupt the process group of", "this process")?;
        }
        Ok(())
    }

    /// Gives the modes back that the caller's terminal had.
    pub(super) fn give_back(&mut self) -> Result<()> {
        let Some(saved) = self.saved.take() else { return Ok(()) };
        // In the background it has been given to another already, which has set its own modes.
        if self.is_ours()? {
            match tcsetattr(&self.input, OptionalActions::Drain, &saved) {
                // It is gone.
                Ok(()) | Err(Errno::IO) => {}
                Err(error) => return Err(error).doing("restore the modes of the terminal of", name(self.number)),
            }
        }
        self.take_line_ends().doing("set the modes of the terminal of", name(self.number))
    }

    /// Forgets the modes to be given back: while this process was stopped, another has set its own.
    pub(super) fn forget(&mut self) {
        self.saved = None;
    }

    /// Writes what the command has written so far, before this process stops and while the modes are those it was written
    /// for.
    pub(super) fn settle(&self) {
        let Some(_turn) = self.turn.try_lock_for(PATIENCE) else { return };
        let Some(master) = &self.master else { return };
        let mut buffer = vec![0; SETTLE_MAX];
        for _ in 0..16 {
            // error: the pump meets it too, and says it
            let Ok(Moved::Some(_)) = move_once(master, &self.output, &mut buffer) else { return };
        }
    }

    /// The caller's terminal makes the ends of lines, and so this one does not.
    fn take_line_ends(&mut self) -> rustix::io::Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        if tcgetattr(master.as_fd())?.output_modes.contains(OutputModes::OPOST) {
            self.took_line_ends = true;
            self.change_line_ends(false)?;
        }
        Ok(())
    }

    fn change_line_ends(&self, makes: bool) -> rustix::io::Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        let mut modes = tcgetattr(master.as_fd())?;
        modes.output_modes.set(OutputModes::OPOST, makes);
        tcsetattr(master.as_fd(), OptionalActions::Now, &modes)
    }

    /// Gives the pseudo-terminal the size of the caller's.
    pub(super) fn follow_size(&self) -> Result<()> {
        self.resize().doing("set the size of the terminal of", name(self.number))
    }

    fn resize(&self) -> rustix::io::Result<()> {
        let Some(master) = &self.master else { return Ok(()) };
        match tcgetwinsize(&self.input) {
            Ok(size) => tcsetwinsize(master.as_fd(), size),
            // It is gone.
            Err(Errno::IO) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Where keys come from, while the command has the keyboard.
    pub(super) fn keys(&self) -> Option<&OwnedFd> {
        Some(&self.input).filter(|_| self.saved.is_some() && self.master.is_some())
    }

    pub(super) fn master(&self) -> Option<&OwnedFd> {
        self.master.as_deref()
    }

    /// Ready when the caller's terminal takes nothing any more.
    pub(super) fn sign_of_life(&self) -> Option<&PipeReader> {
        Some(&self.alive).filter(|_| self.master.is_some())
    }

    /// The caller's terminal is gone, and with it the command's: it gets `SIGHUP`.
    pub(super) fn hang_up(&mut self) {
        self.master = None;
        self.saved = None;
    }
}

/// One of the descriptors that can be read or written, or one more.
fn able_to(descriptors: &[(usize, OwnedFd)], wanted: OFlags) -> std::io::Result<OwnedFd> {
    for (number, fd) in descriptors {
        let access = access(*number, fd.as_fd()).map_err(std::io::Error::other)?;
        if access == OFlags::RDWR || access == wanted {
            return fd.try_clone();
        }
    }
    let (_, fd) = descriptors.first().ok_or(Errno::BADF)?;
    let flags = wanted | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(call::open(&*format!("/proc/self/fd/{}", fd.as_raw_fd()), flags, Mode::empty())?)
}
