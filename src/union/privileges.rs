//! What a caller may keep: set-user-id and set-group-id of files that it changes.
//!
//! The kernel decides that for writes, and says so (`FUSE_WRITE_KILL_SUIDGID`). For the rest it leaves it to the file system,
//! which finds out as the kernel would (fs/attr.c, `setattr_should_drop_suidgid`; fs/inode.c, `in_group_or_capable`). An access
//! list would come with a word of the kernel's (`FUSE_SETXATTR_EXT`), but with a longer header, which fuser 0.18 does not read.

use std::io::Result;

use super::types::Caller;

/// `CAP_FSETID` (linux/capability.h), as a bit of a set.
const FSETID: u64 = 1 << 4;

/// What `/proc/PID/status` says of a process (proc_pid_status(5)).
#[derive(Debug, Default, PartialEq, Eq)]
struct Privileges {
    groups: Vec<u32>,
    /// The effective capabilities; none where they are those of another user namespace.
    capabilities: u64,
}

impl Caller {
    /// Whether set-user-id and set-group-id stay whatever it does (`capable(CAP_FSETID)`).
    pub(super) fn keeps_set_ids(&self) -> bool {
        let Some(process) = self.process else { return true };
        match of(process) {
            Ok(known) => known.capabilities & FSETID != 0,
            // error: in doubt they go.
            Err(_) => false,
        }
    }

    /// Whether a file of this group stays set-group-id.
    pub(super) fn keeps_set_group_id(&self, gid: u32) -> bool {
        let Some(process) = self.process else { return true };
        if self.gid == gid {
            return true;
        }
        match of(process) {
            Ok(known) => known.groups.contains(&gid) || known.capabilities & FSETID != 0,
            // error: in doubt it goes.
            Err(_) => false,
        }
    }
}

/// What a process may, which waits for an answer meanwhile. Number 0 is a process that is not seen from here.
fn of(process: u32) -> Result<Privileges> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let mut known = parse(&status).ok_or(std::io::ErrorKind::InvalidData)?;
    let namespace = |process: &str| crate::sys::fs::read_link(format!("/proc/{process}/ns/user"));
    if namespace(&process.to_string())? != namespace("self")? {
        known.capabilities = 0;
    }
    Ok(known)
}

fn parse(status: &str) -> Option<Privileges> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let groups: std::result::Result<_, _> = field("Groups")?.split_whitespace().map(str::parse).collect();
    let capabilities = u64::from_str_radix(field("CapEff")?.trim(), 16).ok()?;
    // error: there is none but of a number.
    Some(Privileges { groups: groups.ok()?, capabilities })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_groups_and_capabilities() {
        let status = "Name:\tGroups: 9\nUid:\t5\t5\t5\t5\nGroups:\t4 24 1000 \nCapPrm:\t0\nCapEff:\t0000000000000010\n";
        assert_eq!(parse(status), Some(Privileges { groups: vec![4, 24, 1000], capabilities: FSETID }));
        assert_eq!(parse("Groups:\t\nCapEff:\t0\n"), Some(Privileges::default()));
        for damaged in ["", "Groups:\t4\n", "Groups:\tx\nCapEff:\t0\n", "Groups:\t4\nCapEff:\tx\n"] {
            assert_eq!(parse(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn whoever_is_not_seen_keeps_nothing() {
        let caller = |process| Caller { uid: 5, gid: 6, process };
        assert!(caller(None).keeps_set_ids() && caller(None).keeps_set_group_id(7));
        assert!(!caller(Some(0)).keeps_set_ids() && !caller(Some(0)).keeps_set_group_id(7));
        assert!(caller(Some(0)).keeps_set_group_id(6));
        assert!(!caller(Some(u32::MAX)).keeps_set_ids());
    }
}
