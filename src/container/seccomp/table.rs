//! Which system calls are allowed, by their numbers.

use std::collections::BTreeMap;

use super::abi::Abi;
use super::{Condition, Verdict, numbers};

/// The highest number that the profile knows (`removexattrat`). Calls that are newer than the profile fail with
/// `ENOSYS`, so that programs fall back to older ones: with `EPERM` they would fail (runc does the same).
const NEWEST: u32 = 466;

/// `__X32_SYSCALL_BIT` (asm/unistd.h).
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

pub(super) const EPERM: Verdict = Verdict::Refuse(1);
pub(super) const ENOSYS: Verdict = Verdict::Refuse(38);

/// The address families that have a use in a container: not AF_VSOCK (40), which leads to the machine's hypervisor, not
/// AF_ALG (38), and none that Linux no longer has.
static FAMILY: Condition = Condition {
    argument: 0,
    mask: u64::MAX,
    allowed: &[(0, 11), (13, 18), (21, 22), (24, 24), (26, 33), (35, 36), (39, 39), (41, 45)],
};

/// `clone` makes no namespace: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET (linux/sched.h).
static NAMESPACES: Condition = Condition { argument: 0, mask: 0x7e02_0000, allowed: &[(0, 0)] };

/// PER_LINUX and PER_LINUX32, each also with UNAME26, and the question which one it is.
static PERSONALITY: Condition = Condition {
    argument: 0,
    mask: u64::MAX,
    allowed: &[(0, 0), (8, 8), (0x2_0000, 0x2_0000), (0x2_0008, 0x2_0008), (u32::MAX, u32::MAX)],
};

/// The ABIs that the kernel tells from others by `seccomp_data.arch`.
pub(super) struct Architecture {
    /// `AUDIT_ARCH_*` (linux/audit.h).
    pub(super) audit: u32,
    /// Each with what is added to its numbers.
    abis: &'static [(u32, Abi)],
}

#[cfg(target_arch = "x86_64")]
pub(super) const ARCHITECTURES: &[Architecture] = &[
    Architecture { audit: 0xc000_003e, abis: &[(0, numbers::X86_64), (X32, numbers::X32)] },
    Architecture { audit: 0x4000_0003, abis: &[(0, numbers::I386)] },
];

#[cfg(target_arch = "aarch64")]
pub(super) const ARCHITECTURES: &[Architecture] = &[
    Architecture { audit: 0xc000_00b7, abis: &[(0, numbers::AARCH64)] },
    Architecture { audit: 0x4000_0028, abis: &[(0, numbers::ARM)] },
];

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) const ARCHITECTURES: &[Architecture] = &[];

impl Architecture {
    /// From each number on up to the next one, what happens to a call: the first number is 0.
    pub(super) fn verdicts(&self) -> Vec<(u32, Verdict)> {
        let mut verdicts = BTreeMap::new();
        for (offset, abi) in self.abis {
            verdicts.insert(*offset, EPERM);
            verdicts.insert(offset.saturating_add(NEWEST + 1), ENOSYS);
            abi.add_to(&mut verdicts, *offset);
        }
        let mut last = None;
        verdicts.retain(|_, verdict| last.replace(*verdict) != Some(*verdict));
        verdicts.into_iter().collect()
    }
}

impl Abi {
    fn add_to(&self, verdicts: &mut BTreeMap<u32, Verdict>, offset: u32) {
        let mut add = |first: u32, end: u32, verdict: Verdict| {
            verdicts.insert(first.saturating_add(offset), verdict);
            let after = if end <= NEWEST { EPERM } else { ENOSYS };
            verdicts.entry(end.saturating_add(offset)).or_insert(after);
        };
        // In ascending order: a number that another one has ended at is overwritten, never the other way round.
        let single = |number: u32, verdict| (number, number.saturating_add(1), verdict);
        let mut ranges = vec![
            single(self.clone, Verdict::Check(&NAMESPACES)),
            single(self.personality, Verdict::Check(&PERSONALITY)),
            single(self.socket, Verdict::Check(&FAMILY)),
        ];
        let (pairs, _) = self.allowed.as_chunks();
        ranges.extend(pairs.iter().map(|[first, end]| (*first, *end, Verdict::Allow)));
        ranges.extend(self.absent.iter().map(|number| single(*number, ENOSYS)));
        ranges.sort_unstable_by_key(|(first, ..)| *first);
        ranges.into_iter().for_each(|(first, end, verdict)| add(first, end, verdict));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for each call: its name, its number in each ABI (`-`: it has none), and the condition, if there is one.
    const CALLS: &str = include_str!("calls.txt");

    fn lines() -> Vec<Vec<&'static str>> {
        CALLS.lines().skip(1).map(|line| line.split_ascii_whitespace().collect()).collect()
    }

    /// The ABI that the column of this number has.
    fn abi(column: usize) -> Abi {
        let with = |condition: Option<&str>| -> Vec<u32> {
            let lines = lines().into_iter().filter(|line| line.get(6).copied() == condition);
            let mut numbers: Vec<u32> = lines.filter_map(|line| line[column].parse().ok()).collect();
            numbers.sort_unstable();
            numbers
        };
        let mut allowed: Vec<u32> = Vec::new();
        for number in with(None) {
            if allowed.last() == Some(&number) {
                allowed.pop();
            } else {
                allowed.push(number);
            }
            allowed.push(number + 1);
        }
        let one = |condition| <[u32; 1]>::try_from(with(Some(condition))).unwrap()[0];
        let [clone, personality, socket] = ["namespaces", "personality", "family"].map(one);
        Abi { allowed: allowed.leak(), absent: with(Some("absent")).leak(), clone, personality, socket }
    }

    #[test]
    fn every_line_is_a_call() {
        let mut names = Vec::new();
        for line in lines() {
            assert!((6..=7).contains(&line.len()), "{line:?}");
            for number in &line[1..6] {
                let is_number = |number: u32| number <= NEWEST || (512..548).contains(&number) || number >> 4 == 0xf000;
                assert!(*number == "-" || is_number(number.parse().unwrap()), "{line:?}");
            }
            names.push(line[0]);
        }
        let count = names.len();
        names.dedup();
        assert!(names.len() == count && count > 350, "{count}");
    }

    #[test]
    fn the_numbers_are_those_of_the_list() {
        let abis = [numbers::X86_64, numbers::I386, numbers::X32, numbers::AARCH64, numbers::ARM];
        for (column, expected) in (1..).zip(abis) {
            assert_eq!(expected, abi(column), "column {column} of calls.txt");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_list_is_that_of_this_machine() {
        let number =
            |name: &str| lines().into_iter().find(|line| line[0] == name).and_then(|line| line[1].parse().ok());
        for (name, expected) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("chroot", libc::SYS_chroot),
            ("statx", libc::SYS_statx),
            ("memfd_secret", libc::SYS_memfd_secret),
        ] {
            assert_eq!(number(name), Some(expected), "{name}");
        }
        for name in ["mount", "unshare", "setns", "keyctl", "bpf", "io_uring_setup", "userfaultfd", "open_tree"] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
