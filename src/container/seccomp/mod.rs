//! The filter of a container's system calls: what Docker's default profile allows to a container with the default
//! capabilities (moby/profiles, seccomp/default.json), as one BPF program for all the ABIs of the machine.
//!
//! ```text
//! calls.txt ─▶ numbers ─▶ table: number → verdict ─▶ assembler: a binary search ─▶ sys::filter_system_calls
//! ```
//!
//! The kernel computes once, when the filter is loaded, which calls are allowed whatever their arguments are, and
//! does not run the program for these again (kernel/seccomp.c, `seccomp_cache_prepare`).

mod abi;
mod assembler;
mod numbers;
mod table;

use crate::error::{Error, Result};
use crate::sys::Instruction;

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// It fails with this error.
    Refuse(u16),
    /// It is allowed if an argument is as it has to be, and fails with `EPERM` otherwise.
    Check(&'static Condition),
}

/// Of one argument.
#[derive(Debug, PartialEq, Eq)]
struct Condition {
    /// Counted from 0.
    argument: u32,
    /// The bits of the argument that count.
    mask: u64,
    /// First and last of each range of values that these bits may have, in ascending order.
    allowed: &'static [(u32, u32)],
}

/// Makes the filter for this machine.
///
/// # Errors
/// [`Error::Unsupported`] on an architecture for which there is no table.
pub(super) fn default_filter() -> Result<Vec<Instruction>> {
    if table::ARCHITECTURES.is_empty() {
        return Err(Error::Unsupported(
            "there is no seccomp filter for this architecture: --security-opt seccomp=unconfined runs without one"
                .into(),
        ));
    }
    let sections: Vec<_> =
        table::ARCHITECTURES.iter().map(|architecture| (architecture.audit, architecture.verdicts())).collect();
    Ok(assembler::program(&sections))
}
