//! Filters of system calls.

#![allow(unsafe_code)]

use std::io;

/// One instruction of classic BPF: `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What is done.
    pub code: u16,
    /// How many of the following instructions are skipped when the comparison holds.
    pub jump_true: u8,
    /// And when it does not hold.
    pub jump_false: u8,
    /// The constant, offset or distance.
    pub operand: u32,
}

/// `struct sock_fprog` (linux/filter.h).
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const Instruction,
}

/// Makes `filter` decide about each later system call of the calling thread and of all processes that it starts. It cannot
/// be taken back. Set-user-id programs still gain their privileges.
///
/// # Errors
/// `EACCES` without `CAP_SYS_ADMIN`, unless the thread has `no_new_privs`; `EINVAL` for a filter that is no valid
/// program; `ENOSYS` or `EINVAL` on a kernel without such filters.
pub fn filter_system_calls(filter: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = Program { length, instructions: filter.as_ptr() };
    // SPEC_ALLOW: before Linux 5.16 a filter would else slow the program down (speculative store bypass).
    // SAFETY: the kernel copies `length` instructions, which is what the slice has.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const program,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
