//! What [`super::run`] tells init while the command runs: two bytes each. Init tells back, in one byte, each signal that
//! has stopped the command.

use std::io::{self, Read};
use std::time::Duration;

use rustix::process::Signal;

/// How often in a row a read may fail before the sender is taken for gone, and how long is waited after each.
const FAILURES_MAX: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// For the command.
    Signal(Signal),
    /// For the command and all of its process group, as a terminal sends it.
    Group(Signal),
    /// The command's process group continues, and has the keyboard of its terminal.
    Foreground,
    /// The command's process group continues, without.
    Background,
}

impl Message {
    pub(super) fn bytes(self) -> [u8; 2] {
        let number = |signal: Signal| u8::try_from(signal.as_raw()).unwrap_or_default();
        match self {
            Self::Signal(signal) => [b's', number(signal)],
            Self::Group(signal) => [b'g', number(signal)],
            Self::Foreground => [b'f', 0],
            Self::Background => [b'b', 0],
        }
    }

    /// The next one. `None` when the sender is gone.
    pub(super) fn read(from: &mut impl Read) -> Option<Self> {
        let mut bytes = [0; 2];
        let mut failures = 0u32;
        loop {
            match from.read_exact(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A want of memory passes.
                Err(error)
                    if failures < FAILURES_MAX
                        && !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
                {
                    failures = failures.saturating_add(1);
                    std::thread::sleep(PAUSE);
                    continue;
                }
                // The end, or a socket that is broken in another way: init cannot be told anything more.
                Err(_) => return None,
                Ok(()) => {}
            }
            let [kind, number] = bytes;
            let message = match (kind, Signal::from_named_raw(number.into())) {
                (b's', Some(signal)) => Self::Signal(signal),
                (b'g', Some(signal)) => Self::Group(signal),
                (b'f', _) => Self::Foreground,
                (b'b', _) => Self::Background,
                _ => continue,
            };
            return Some(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_same_after_its_way() {
        let messages =
            [Message::Signal(Signal::TERM), Message::Group(Signal::TSTP), Message::Foreground, Message::Background];
        let sent: Vec<u8> = messages.iter().flat_map(|message| message.bytes()).collect();
        let mut received = sent.as_slice();
        for message in messages {
            assert_eq!(Message::read(&mut received), Some(message));
        }
        assert_eq!(Message::read(&mut received), None);
    }
}
