//! Tables of verdicts as a BPF program.

use super::table::EPERM;
use super::{Condition, Verdict};
use crate::sys::Instruction;

// linux/bpf_common.h: class, size or operation, mode or source, added up.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

// linux/seccomp.h: what the program returns.
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;

// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A program that looks for the calling ABI among the sections and for the number of the call in its verdicts, each
/// of which holds from its number on up to the next one. A call by another ABI ends the process.
pub(super) fn program(sections: &[(u32, Vec<(u32, Verdict)>)]) -> Vec<Instruction> {
    let mut code = vec![statement(RETURN, KILL_PROCESS)];
    for (architecture, verdicts) in sections.iter().rev() {
        let mut section = vec![statement(LOAD, NUMBER)];
        section.extend(search(verdicts));
        code = branch(JUMP_EQUAL, *architecture, code, section);
    }
    code.insert(0, statement(LOAD, ARCHITECTURE));
    code
}

/// The verdict on the number that is loaded.
fn search(verdicts: &[(u32, Verdict)]) -> Vec<Instruction> {
    let (below, above) = verdicts.split_at(verdicts.len() / 2);
    match (below, above) {
        ([], [(_, verdict), ..]) => decide(*verdict),
        ([_, ..], [(middle, _), ..]) => branch(JUMP_GREATER_EQUAL, *middle, search(below), search(above)),
        // A table has one verdict at least.
        (_, []) => decide(EPERM),
    }
}

fn decide(verdict: Verdict) -> Vec<Instruction> {
    match verdict {
        Verdict::Allow => vec![statement(RETURN, ALLOW)],
        Verdict::Refuse(errno) => vec![statement(RETURN, ERRNO | u32::from(errno))],
        Verdict::Check(condition) => check(condition),
    }
}

fn check(condition: &Condition) -> Vec<Instruction> {
    // The kernel gives arguments as 64 bits in the machine's order: little endian, where there is a table.
    let low = condition.argument.saturating_mul(8).saturating_add(ARGUMENTS);
    let mut verdicts = vec![(0, EPERM)];
    for (first, last) in condition.allowed {
        verdicts.retain(|(number, _)| number != first);
        verdicts.push((*first, Verdict::Allow));
        verdicts.extend(last.checked_add(1).map(|next| (next, EPERM)));
    }
    let mut code = vec![statement(LOAD, low)];
    let [_, _, _, _, low_mask @ ..] = condition.mask.to_be_bytes();
    let low_mask = u32::from_be_bytes(low_mask);
    if low_mask != u32::MAX {
        code.push(statement(AND, low_mask));
    }
    code.extend(search(&verdicts));
    if condition.mask >> 32 == 0 {
        return code;
    }
    let mut whole = vec![statement(LOAD, low.saturating_add(4))];
    whole.extend(branch(JUMP_EQUAL, 0, decide(EPERM), code));
    whole
}

/// `holds` if the comparison of what is loaded with `operand` does, else `fails`, which neither ever ends.
fn branch(code: u16, operand: u32, fails: Vec<Instruction>, holds: Vec<Instruction>) -> Vec<Instruction> {
    let mut whole = match (u8::try_from(fails.len()), u32::try_from(fails.len())) {
        (Ok(near), _) => vec![Instruction { code, jump_true: near, jump_false: 0, operand }],
        // Only an unconditional jump goes further than 255.
        (Err(_), far) => {
            vec![Instruction { code, jump_true: 0, jump_false: 1, operand }, statement(JUMP, far.unwrap_or(u32::MAX))]
        }
    };
    whole.extend(fails);
    whole.extend(holds);
    whole
}

fn statement(code: u16, operand: u32) -> Instruction {
    Instruction { code, jump_true: 0, jump_false: 0, operand }
}

#[cfg(test)]
mod tests {
    use super::super::default_filter;
    use super::super::table::{ARCHITECTURES, ENOSYS};
    use super::*;

    /// Runs a program, and gives what it returns and how many instructions that took.
    fn run(program: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> (u32, usize) {
        let (mut at, mut loaded, mut steps) = (0, 0, 0);
        loop {
            let Instruction { code, jump_true, jump_false, operand } = program[at];
            at += 1;
            steps += 1;
            let holds = match code {
                LOAD => {
                    loaded = match operand {
                        NUMBER => number,
                        ARCHITECTURE => architecture,
                        offset => {
                            let place = usize::try_from(offset - ARGUMENTS).unwrap();
                            let argument = arguments[place / 8] >> (place % 8 * 8);
                            u32::try_from(argument & u64::from(u32::MAX)).unwrap()
                        }
                    };
                    continue;
                }
                AND => {
                    loaded &= operand;
                    continue;
                }
                JUMP => {
                    at += usize::try_from(operand).unwrap();
                    continue;
                }
                RETURN => return (operand, steps),
                JUMP_EQUAL => loaded == operand,
                JUMP_GREATER_EQUAL => loaded >= operand,
                other => panic!("{other:#x}"),
            };
            at += usize::from(if holds { jump_true } else { jump_false });
        }
    }

    fn returned(verdict: Verdict) -> u32 {
        let code = decide(verdict);
        code[0].operand
    }

    #[test]
    fn every_number_gets_the_verdict_of_its_table() {
        let program = default_filter().unwrap();
        assert!(program.len() < 4096, "{}", program.len());
        for architecture in ARCHITECTURES {
            let verdicts = architecture.verdicts();
            let verdict = |number: u32| verdicts.iter().rfind(|(first, _)| *first <= number).unwrap().1;
            let numbers = (0..1100).chain(0x4000_0000 - 2..0x4000_0000 + 1100).chain(0xf_0000..0xf_0010);
            for number in numbers.chain([0x7fff_ffff, 0x8000_0000, u32::MAX]) {
                let (result, steps) = run(&program, architecture.audit, number, [0; 6]);
                // Arguments of 0 are within all conditions.
                let expected = match verdict(number) {
                    Verdict::Check(_) => ALLOW,
                    other => returned(other),
                };
                assert_eq!(result, expected, "{number:#x}");
                assert!(steps < 32, "{number:#x}: {steps}");
            }
        }
        assert_eq!(run(&program, 0xc000_0016, 0, [0; 6]).0, KILL_PROCESS);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn arguments_are_looked_at() {
        let program = default_filter().unwrap();
        let (native, old) = (ARCHITECTURES[0].audit, ARCHITECTURES[1].audit);
        let (allow, refuse) = (ALLOW, returned(EPERM));
        for (architecture, number, argument, expected) in [
            (native, 41, 1, allow),
            (native, 41, 10, allow),
            (native, 41, 16, allow),
            (native, 41, 38, refuse),
            (native, 41, 40, refuse),
            (native, 41, 45, allow),
            (native, 41, 46, refuse),
            // The kernel would take the lower half for AF_INET.
            (native, 41, 1 << 32 | 2, refuse),
            (native, 0x4000_0000 + 41, 40, refuse),
            (old, 359, 40, refuse),
            (old, 359, 2, allow),
            (native, 56, 0x11, allow),
            (native, 56, 0x003d_0f00, allow),
            (native, 56, 0x1000_0011, refuse),
            (native, 56, 0x0002_0000, refuse),
            (native, 56, 0x4000_0000, refuse),
            (native, 56, 0x0200_0000, refuse),
            (old, 120, 0x1000_0011, refuse),
            (old, 120, 0x11, allow),
            (native, 135, 0xffff_ffff, allow),
            (native, 135, 8, allow),
            (native, 135, 0x2_0008, allow),
            (native, 135, 0x0040_0000, refuse),
            (native, 135, u64::MAX, refuse),
            (old, 136, 0x0040_0000, refuse),
        ] {
            let result = run(&program, architecture, number, [argument, 0, 0, 0, 0, 0]).0;
            assert_eq!(result, expected, "{number} of {architecture:#x} with {argument:#x}");
        }
        for (architecture, number, expected) in [
            (native, 435, ENOSYS),
            (old, 435, ENOSYS),
            (native, 467, ENOSYS),
            (old, 467, ENOSYS),
            (native, 165, EPERM),
            (old, 21, EPERM),
            (native, 0x4000_0000 + 165, EPERM),
            (native, 0x4000_0000 + 512, Verdict::Allow),
            (native, 0x4000_0000 + 13, EPERM),
        ] {
            assert_eq!(run(&program, architecture, number, [0; 6]).0, returned(expected), "{number}");
        }
    }
}
