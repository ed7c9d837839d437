//! The system calls that are made to fail, in groups by what they do.

/// One group: its name in reports, and the calls.
pub(crate) struct Group {
    pub(crate) name: &'static str,
    calls: &'static [(i64, &'static str)],
}

macro_rules! group {
    ($name:literal: $($call:ident $word:literal),+) => {
        Group { name: $name, calls: &[$((libc::$call, $word)),+] }
    };
}

/// All of them. prlimit64(2) of a limit that exists cannot fail, and rustix relies on that.
pub(crate) const GROUPS: &[Group] = &[
    group!("open": SYS_open "open", SYS_openat "openat", SYS_openat2 "openat2"),
    group!("read": SYS_read "read", SYS_pread64 "pread64", SYS_readv "readv", SYS_preadv "preadv", SYS_preadv2 "preadv2"),
    group!("write": SYS_write "write", SYS_pwrite64 "pwrite64", SYS_writev "writev", SYS_pwritev "pwritev", SYS_pwritev2 "pwritev2"),
    group!("reply": SYS_writev "writev"),
    group!("fsync": SYS_fsync "fsync", SYS_fdatasync "fdatasync", SYS_syncfs "syncfs", SYS_sync_file_range "sync_file_range"),
    group!("rename": SYS_rename "rename", SYS_renameat "renameat", SYS_renameat2 "renameat2"),
    group!("link": SYS_link "link", SYS_linkat "linkat", SYS_symlink "symlink", SYS_symlinkat "symlinkat"),
    group!("unlink": SYS_unlink "unlink", SYS_unlinkat "unlinkat", SYS_rmdir "rmdir"),
    group!("mkdir": SYS_mkdir "mkdir", SYS_mkdirat "mkdirat", SYS_mknod "mknod", SYS_mknodat "mknodat"),
    group!("truncate": SYS_ftruncate "ftruncate", SYS_truncate "truncate"),
    group!("getdents": SYS_getdents64 "getdents64"),
    group!("stat": SYS_statx "statx", SYS_newfstatat "newfstatat", SYS_fstat "fstat", SYS_stat "stat", SYS_lstat "lstat",
        SYS_statfs "statfs", SYS_fstatfs "fstatfs", SYS_readlink "readlink", SYS_readlinkat "readlinkat", SYS_access "access",
        SYS_faccessat "faccessat", SYS_faccessat2 "faccessat2"),
    group!("attributes": SYS_fchmod "fchmod", SYS_chmod "chmod", SYS_fchmodat "fchmodat", SYS_fchown "fchown",
        SYS_fchownat "fchownat", SYS_lchown "lchown", SYS_chown "chown", SYS_utimensat "utimensat", SYS_getxattr "getxattr",
        SYS_lgetxattr "lgetxattr", SYS_fgetxattr "fgetxattr", SYS_setxattr "setxattr", SYS_lsetxattr "lsetxattr",
        SYS_fsetxattr "fsetxattr", SYS_listxattr "listxattr", SYS_llistxattr "llistxattr", SYS_flistxattr "flistxattr",
        SYS_removexattr "removexattr", SYS_lremovexattr "lremovexattr", SYS_fremovexattr "fremovexattr"),
    group!("fallocate": SYS_fallocate "fallocate"),
    group!("advice": SYS_fadvise64 "fadvise64"),
    group!("handle": SYS_name_to_handle_at "name_to_handle_at"),
    group!("copy": SYS_copy_file_range "copy_file_range", SYS_sendfile "sendfile", SYS_splice "splice"),
    group!("seek": SYS_lseek "lseek"),
    group!("clone": SYS_clone "clone", SYS_clone3 "clone3", SYS_fork "fork", SYS_vfork "vfork"),
    group!("execve": SYS_execve "execve", SYS_execveat "execveat"),
    group!("wait": SYS_wait4 "wait4", SYS_waitid "waitid"),
    group!("mmap": SYS_mmap "mmap"),
    group!("ioctl": SYS_ioctl "ioctl"),
    group!("flock": SYS_flock "flock"),
    group!("descriptor": SYS_pipe2 "pipe2", SYS_socket "socket", SYS_socketpair "socketpair", SYS_dup "dup", SYS_dup2 "dup2",
        SYS_dup3 "dup3", SYS_memfd_create "memfd_create", SYS_pidfd_open "pidfd_open", SYS_eventfd2 "eventfd2"),
    group!("socket": SYS_bind "bind", SYS_listen "listen", SYS_connect "connect", SYS_accept4 "accept4", SYS_sendto "sendto",
        SYS_recvfrom "recvfrom", SYS_sendmsg "sendmsg", SYS_recvmsg "recvmsg"),
    group!("mount": SYS_mount "mount", SYS_umount2 "umount2", SYS_fsopen "fsopen", SYS_fspick "fspick", SYS_fsconfig "fsconfig",
        SYS_fsmount "fsmount", SYS_move_mount "move_mount", SYS_open_tree "open_tree", SYS_mount_setattr "mount_setattr",
        SYS_pivot_root "pivot_root"),
    group!("namespace": SYS_setns "setns", SYS_unshare "unshare", SYS_chroot "chroot", SYS_sethostname "sethostname",
        SYS_chdir "chdir", SYS_fchdir "fchdir"),
    group!("random": SYS_getrandom "getrandom"),
];

/// A write to `/dev/fuse`, which is the answer to a request. It fails only when the request or the connection is gone (fs/fuse/dev.c).
pub(crate) const REPLY: &str = "reply";

/// The groups of calls that may take room on a disk.
pub(crate) const OF_ROOM: [&str; 7] = ["open", "write", "mkdir", "link", "fallocate", "copy", "attributes"];

/// Whether a call takes room on the disk of `object`, which it is about. Of the calls that open, those that make a file.
pub(crate) fn takes_room(word: &str, object: &str, flags: u64) -> bool {
    let makes = u64::from((libc::O_CREAT | libc::O_EXCL).cast_unsigned());
    match word {
        // By a descriptor: a pipe and a socket have no such name.
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "fallocate" | "fsetxattr" => {
            // What the program prints is not on its disk.
            let is_printed = object.ends_with("/traced.out") || object.ends_with("/traced.err");
            !is_printed && object.starts_with('/') && !object.starts_with("/dev/") && !object.starts_with("/proc/")
        }
        "mkdir" | "mkdirat" | "mknod" | "mknodat" | "link" | "linkat" | "symlink" | "symlinkat" | "copy_file_range"
        | "setxattr" | "lsetxattr" => true,
        "openat" => flags & makes == makes,
        _ => false,
    }
}

/// Which group a call is in, by its number, and its own name.
pub(crate) fn find(number: i64) -> Option<(&'static Group, &'static str)> {
    GROUPS.iter().find_map(|group| {
        let (_, word) = group.calls.iter().find(|(call, _)| *call == number)?;
        Some((group, *word))
    })
}

impl Group {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        GROUPS.iter().find(|group| group.name == name)
    }

    pub(crate) fn numbers(&self) -> impl Iterator<Item = i64> + '_ {
        self.calls.iter().map(|(number, _)| *number)
    }
}

/// What a call names: the path in its arguments, or what its first one, a descriptor, is open for.
pub(crate) fn takes_path(word: &str) -> Option<usize> {
    match word {
        "open" | "rename" | "link" | "unlink" | "rmdir" | "mkdir" | "mknod" | "truncate" | "stat" | "lstat"
        | "statfs" | "readlink" | "access" | "chmod" | "chown" | "lchown" | "getxattr" | "lgetxattr" | "setxattr"
        | "lsetxattr" | "listxattr" | "llistxattr" | "removexattr" | "lremovexattr" | "symlink" | "execve"
        | "chdir" | "umount2" => Some(0),
        "openat" | "openat2" | "renameat" | "renameat2" | "linkat" | "unlinkat" | "mkdirat" | "mknodat" | "statx"
        | "newfstatat" | "readlinkat" | "faccessat" | "faccessat2" | "fchmodat" | "fchownat" | "utimensat"
        | "mount" | "fspick" | "name_to_handle_at" => Some(1),
        _ => None,
    }
}
