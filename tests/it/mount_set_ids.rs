//! Set-user-id and set-group-id through real mounts: what takes them away from a plain file takes them away from a file of
//! a mount, on the disk and in what the kernel remembers.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, StatxFlags, XattrFlags, copy_file_range, fallocate, fsetxattr, ftruncate,
    openat, removexattr, sendfile, setxattr, statx,
};
use rustix::io::{Result, pwrite};
use rustix::process::Gid;

use super::beside::{Beside, as_groups, as_user, forget};

fn directory(dir: &Path) -> OwnedFd {
    File::open(dir).unwrap().into()
}

/// The mode, and nothing that the kernel would have to ask for because a write has made it old.
fn mode(dir: BorrowedFd<'_>, name: &str) -> u32 {
    u32::from(statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MODE).unwrap().stx_mode) & 0o7777
}

type Step = fn(BorrowedFd<'_>, &str) -> Result<()>;

/// What may take suid and sgid away.
const STEPS: &[(&str, Step)] = &[
    ("write", |dir, name| pwrite(openat(dir, name, OFlags::WRONLY, Mode::empty())?, b"x", 0).map(|_| ())),
    ("append", |dir, name| {
        let file = openat(dir, name, OFlags::WRONLY | OFlags::APPEND, Mode::empty())?;
        rustix::io::write(file, b"x").map(|_| ())
    }),
    ("direct", |dir, name| {
        let file = openat(dir, name, OFlags::WRONLY | OFlags::SYNC, Mode::empty())?;
        pwrite(file, &[b'x'; 4096], 0).map(|_| ())
    }),
    ("direct-io", |dir, name| {
        let file = openat(dir, name, OFlags::WRONLY | OFlags::DIRECT, Mode::empty())?;
        let buffer = vec![b'x'; 8192];
        let start = buffer.as_ptr().align_offset(4096);
        pwrite(file, &buffer[start..start + 4096], 0).map(|_| ())
    }),
    ("sendfile", |dir, name| {
        let from = openat(dir, "source", OFlags::RDONLY, Mode::empty())?;
        sendfile(openat(dir, name, OFlags::WRONLY, Mode::empty())?, from, None, 5).map(|_| ())
    }),
    ("ftruncate", |dir, name| ftruncate(openat(dir, name, OFlags::WRONLY, Mode::empty())?, 2)),
    ("ftruncate-same", |dir, name| ftruncate(openat(dir, name, OFlags::WRONLY, Mode::empty())?, 7)),
    ("open-truncate", |dir, name| openat(dir, name, OFlags::WRONLY | OFlags::TRUNC, Mode::empty()).map(|_| ())),
    ("fallocate", |dir, name| {
        fallocate(openat(dir, name, OFlags::WRONLY, Mode::empty())?, FallocateFlags::empty(), 0, 9000)
    }),
    ("punch", |dir, name| {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(openat(dir, name, OFlags::WRONLY, Mode::empty())?, flags, 0, 4096)
    }),
    ("copy", |dir, name| {
        let from = openat(dir, "source", OFlags::RDONLY, Mode::empty())?;
        copy_file_range(from, None, openat(dir, name, OFlags::WRONLY, Mode::empty())?, None, 5).map(|_| ())
    }),
    ("chown-group", |dir, name| rustix::fs::chownat(dir, name, None, Some(Gid::from_raw(60)), AtFlags::empty())),
    ("chmod", |dir, name| rustix::fs::chmodat(dir, name, Mode::from_raw_mode(0o6777), AtFlags::empty())),
    ("touch", |dir, name| rustix::fs::utimensat(dir, name, &now(), AtFlags::empty())),
];

fn now() -> rustix::fs::Timestamps {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    rustix::fs::Timestamps { last_access: now, last_modification: now }
}

fn set_id_files(dir: &Path) {
    fs::write(dir.join("source"), "source").unwrap();
    fs::set_permissions(dir.join("source"), fs::Permissions::from_mode(0o644)).unwrap();
    for (name, _) in STEPS {
        for mode in [0o6777, 0o2767, 0o4766] {
            for owner in [0, 60] {
                let path = dir.join(format!("{name}-{mode:o}-{owner}"));
                fs::write(&path, "content").unwrap();
                chown(&path, Some(owner), Some(owner)).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
    }
}

/// As this user; files from below, and then the same ones once they are in the upper.
fn set_ids_go_as_in_a_plain_directory(uid: u32) {
    let beside = Beside::over(&[&set_id_files]);
    for round in 0..2 {
        let [results, wanted] = ["mnt", "plain"].map(|dir| {
            let dir = directory(&beside.mounts.at(dir));
            let mut results = Vec::new();
            for (what, step) in STEPS {
                for bits in [0o6777, 0o2767, 0o4766] {
                    for owner in [0, 60] {
                        let name = format!("{what}-{bits:o}-{owner}");
                        // Now the kernel knows it.
                        mode(dir.as_fd(), &name);
                        let result = as_user(uid, uid, || step(dir.as_fd(), &name));
                        results.push((format!("{:o}", mode(dir.as_fd(), &name)), name, result));
                    }
                }
            }
            results
        });
        let wrong: Vec<_> = results.iter().zip(&wanted).filter(|(union, plain)| union != plain).collect();
        assert!(wrong.is_empty(), "round {round}, left in the union, right in a plain directory: {wrong:#?}");
        assert!(results.iter().any(|(mode, name, _)| name.starts_with("write-6777") && mode == "777") || uid == 0);
        forget();
        beside.same(|dir| results.iter().map(|(_, name, _)| mode(directory(dir).as_fd(), name)).collect::<Vec<_>>());
        if round == 0 {
            // All again, from above.
            for (_, name, _) in &results {
                beside.same(|dir| {
                    let bits = name.split('-').rev().nth(1).unwrap();
                    let bits = u32::from_str_radix(bits, 8).unwrap();
                    fs::set_permissions(dir.join(name), fs::Permissions::from_mode(bits)).unwrap();
                });
            }
        }
    }
}

#[test]
fn set_ids_go_as_in_a_plain_directory_for_a_user() {
    set_ids_go_as_in_a_plain_directory(60);
}

#[test]
fn set_ids_go_as_in_a_plain_directory_for_root() {
    set_ids_go_as_in_a_plain_directory(0);
}

#[test]
fn a_program_that_a_user_has_written_to_runs_as_nobody_else() {
    let beside = Beside::over(&[&|dir| {
        fs::copy("/usr/bin/id", dir.join("id")).unwrap();
        fs::write(dir.join("source"), "no program").unwrap();
    }]);
    beside.same(|dir| {
        let program = dir.join("id");
        let runs_as = || {
            let at = directory(dir);
            as_user(60, 60, || {
                let path = format!("/proc/self/fd/{}/id", std::os::fd::AsRawFd::as_raw_fd(&at));
                String::from_utf8(Command::new(path).arg("-u").output().unwrap().stdout).unwrap()
            })
        };
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4777)).unwrap();
        fs::set_permissions(dir.join("source"), fs::Permissions::from_mode(0o644)).unwrap();
        let before = runs_as();
        let length = i64::try_from(fs::metadata(&program).unwrap().len()).unwrap();
        let at = directory(dir);
        as_user(60, 60, || {
            let from = openat(&at, "source", OFlags::RDONLY, Mode::empty()).unwrap();
            let to = openat(&at, "id", OFlags::WRONLY, Mode::empty()).unwrap();
            copy_file_range(from, None, to, Some(&mut u64::try_from(length).unwrap()), 5).unwrap();
        });
        (before, runs_as())
    });
}

/// `user::rwx group::r-x mask::rwx other::---` with `user:60:rwx` (linux/posix_acl_xattr.h).
fn access_list() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, u32::MAX), (2, 7, 60), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

const ACL: &str = "system.posix_acl_access";

#[test]
fn an_access_list_of_a_user_outside_the_group_takes_set_group_id_away() {
    // By the user's own group, by one of further groups, by none; for files and directories.
    let names = ["file", "directory"];
    let beside = Beside::over(&[&|dir| {
        fs::write(dir.join("file"), "content").unwrap();
        fs::create_dir(dir.join("directory")).unwrap();
    }]);
    for (uid, gid, groups) in
        [(70, 70, vec![]), (70, 50, vec![]), (70, 70, vec![8, 50]), (70, 70, vec![8, 51]), (0, 70, vec![])]
    {
        for name in names {
            for (bits, what) in [(0o2777, "set"), (0o6775, "set"), (0o2777, "remove"), (0o2777, "other")] {
                beside.same(|dir| {
                    let path = dir.join(name);
                    assert!(matches!(removexattr(&path, ACL), Ok(()) | Err(rustix::io::Errno::NODATA)));
                    chown(&path, Some(70), Some(50)).unwrap();
                    if what == "remove" {
                        setxattr(&path, ACL, &access_list(), XattrFlags::empty()).unwrap();
                    }
                    fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
                    let at = directory(dir);
                    mode(at.as_fd(), name);
                    let done = as_groups(uid, gid, &groups, || {
                        let file = openat(&at, name, OFlags::RDONLY, Mode::empty()).unwrap();
                        match what {
                            "set" => fsetxattr(file, ACL, &access_list(), XattrFlags::empty()),
                            "remove" => rustix::fs::fremovexattr(file, ACL),
                            _ => fsetxattr(file, "user.x", b"1", XattrFlags::empty()),
                        }
                    });
                    (uid, gid, groups.clone(), name, what, done, format!("{:o}", mode(at.as_fd(), name)))
                });
            }
        }
        forget();
        beside.same(|dir| names.map(|name| mode(directory(dir).as_fd(), name)));
    }
}
