//! The C library's allocator.

#![allow(unsafe_code)]

/// Takes each piece of memory of a megabyte or more from the kernel, where it is zero and takes no room before it is used.
///
/// Without it glibc raises that bound when such a piece is given back (mallopt(3), `M_MMAP_THRESHOLD`), and then has to
/// write zeros over the next one: 3 ms for the 16 MiB that a thread reads requests into.
pub fn map_large_memory() {
    // SAFETY: the call takes numbers, and keeps other threads from allocating meanwhile.
    #[cfg(target_env = "gnu")]
    let _known = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20) };
}
