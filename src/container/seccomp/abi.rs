//! One ABI of a processor, as its calls are numbered.

/// The calls of an ABI by their numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abi {
    /// The first number of a range whose calls are allowed whatever their arguments are, the first after it, and so on.
    pub(super) allowed: &'static [u32],
    /// Calls that have their arguments in memory, where no filter sees them: `clone3` has its flags there, and `socketcall`
    /// of i386 the address family. They fail with `ENOSYS`, so that programs take `clone` and `socket` in their place.
    pub(super) absent: &'static [u32],
    pub(super) clone: u32,
    pub(super) personality: u32,
    pub(super) socket: u32,
}
