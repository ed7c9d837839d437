//! The process at the other end of a socket, and descriptors that go through one.

#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::io::{Errno, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::retry;

/// The process that has begun to listen at the socket that `stream` is connected to, by its number in the pid namespace of
/// this process (`SO_PEERCRED`, unix(7)); `None` when it has none here.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn peer_process(stream: impl AsFd) -> Result<Option<u32>> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the kernel writes no more than `length` bytes, all of which are the structure's.
    let result = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            std::ptr::from_mut(&mut peer).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(u32::try_from(peer.pid).ok().filter(|pid| *pid != 0))
}

/// Sends a byte, and with it a descriptor.
///
/// # Errors
/// As `sendmsg(2)`.
pub fn send_descriptor(stream: impl AsFd, byte: u8, sent: BorrowedFd<'_>) -> Result<()> {
    let sent = [sent];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&sent)) {
        return Err(Errno::NOBUFS);
    }
    let bytes = [byte];
    retry(|| sendmsg(stream.as_fd(), &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)).map(drop)
}

/// Receives a byte, none at the end of the stream, and the descriptor that was sent with it.
///
/// # Errors
/// As `recvmsg(2)`.
pub fn receive_descriptor(stream: impl AsFd) -> Result<(Option<u8>, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let count =
        retry(|| recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC))?
            .bytes;
    let mut received = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            received = descriptors.into_iter().next_back();
        }
    }
    Ok((byte.first().copied().filter(|_| count == 1), received))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_descriptor_goes_through_a_socket() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        send_descriptor(&one, b'y', reader.as_fd()).unwrap();
        drop(reader);
        one.write_all(b"nothing").unwrap();
        drop(one);
        let (byte, received) = receive_descriptor(&other).unwrap();
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut text = String::new();
        std::fs::File::from(received.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!((byte, text.as_str()), (Some(b'y'), "through"));
        assert_eq!(receive_descriptor(&other).unwrap().0, Some(b'n'));
        let mut rest = String::new();
        other.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "othing");
        assert!(matches!(receive_descriptor(&other), Ok((None, None))));
    }
}
