//! A process of its own that runs the program with all that it starts, counts their system calls, and disturbs one.
//!
//! `trace count|flushes|without NAME|POINT OUT ERR -- PROGRAM ARG...`: the program's outputs go to two files, and standard output gets a line
//! for each event: `hit N CALL WHAT`, `flush NAME`, `flushed WHAT`, `named WHAT`, `exited STATUS` of the program itself, at the end of all its processes
//! `count SITE N` for each site, and `end`. A filter (seccomp) stops only the calls that are asked for. A call counts once its
//! process is in `main`, which Rust's runtime shows by a poll(2): what the loader does is not ours.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use super::call::{self, GROUPS, Group};
use super::point::{Fault, Point, Site};

/// Becomes the program, with a filter on the calls of these groups: `gate GROUP,... -- PROGRAM ARG...`.
pub(crate) fn gate(args: &[String]) -> ExitCode {
    let [groups, _, program, rest @ ..] = args else { return ExitCode::from(2) };
    let groups: Vec<&Group> = groups.split(',').filter_map(Group::named).collect();
    let numbers = groups.iter().flat_map(|group| group.numbers()).chain([libc::SYS_poll]);
    let rules = numbers.map(|number| (number, Vec::new())).collect();
    let arch = std::env::consts::ARCH.try_into().expect("a known processor");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Trace(0), arch).expect("a filter");
    let filter: BpfProgram = filter.try_into().expect("a filter");
    ptrace::traceme().expect("the tracer is the parent");
    raise(Signal::SIGSTOP).expect("a signal");
    apply_filter(&filter).expect("the filter is taken");
    let error = Command::new(program).args(rest).exec();
    eprintln!("{program}: {error}");
    ExitCode::from(127)
}

/// What is known of a process.
struct Process {
    /// Its part in `layerctl`, or nothing for other programs.
    part: Option<String>,
    /// Whether it is in `main`.
    runs: bool,
}

/// What the tracer is there for.
enum Task {
    Count,
    Disturb(Point),
    /// To name each flush, and to leave out those of one name.
    Flushes {
        without: Option<String>,
    },
}

struct Tracer {
    task: Task,
    was_hit: bool,
    main: Pid,
    /// By thread, the process.
    threads: HashMap<Pid, Pid>,
    processes: HashMap<Pid, Process>,
    /// Children that have not become another program.
    forked: HashSet<Pid>,
    counts: BTreeMap<Site, u32>,
}

/// See above.
pub(crate) fn trace(args: &[String]) -> ExitCode {
    let [what, out, err, _, program @ ..] = args else { return ExitCode::from(2) };
    let task = match what.as_str() {
        "count" => Task::Count,
        "flushes" => Task::Flushes { without: None },
        text => match text.strip_prefix("without ") {
            Some(name) => Task::Flushes { without: Some(name.to_owned()) },
            None => Task::Disturb(text.parse().expect("a point")),
        },
    };
    let groups = match &task {
        Task::Disturb(Point { fault: Fault::Full, .. }) => call::OF_ROOM.join(","),
        Task::Disturb(point) => point.site.call.clone(),
        Task::Flushes { .. } => "fsync,rename,link".to_owned(),
        Task::Count => GROUPS.iter().map(|group| group.name).collect::<Vec<_>>().join(","),
    };
    let create = |path: &String| File::create(path).expect("a file for what is printed");
    let mut command = Command::new("/proc/self/exe");
    command.args(["gate", &groups, "--"]).args(program).stdout(create(out)).stderr(create(err));
    // It is waited for as all that are traced.
    #[allow(clippy::zombie_processes)]
    let child = command.spawn().expect("the program starts");
    let main = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    waitpid(main, Some(WaitPidFlag::WUNTRACED)).expect("it stops");
    let options = Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACESECCOMP
        | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(main, options).expect("it can be traced");
    let mut tracer = Tracer {
        task,
        was_hit: false,
        main,
        threads: HashMap::from([(main, main)]),
        processes: HashMap::new(),
        forked: HashSet::new(),
        counts: BTreeMap::new(),
    };
    let _ = ptrace::cont(main, None);
    tracer.run();
    for (site, count) in &tracer.counts {
        say(&format!("count {site} {count}"));
    }
    say("end");
    ExitCode::SUCCESS
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Without a reader there is no more to do.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

impl Tracer {
    /// Until there is no process any more.
    fn run(&mut self) {
        loop {
            let status = match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(status) => status,
                Err(nix::errno::Errno::ECHILD) => return,
                // A signal that has no name here: it was not delivered, nor is it ours.
                Err(_) => continue,
            };
            match status {
                WaitStatus::Exited(pid, code) => self.ended(pid, code),
                WaitStatus::Signaled(pid, signal, _) => self.ended(pid, 128 + signal as i32),
                WaitStatus::PtraceEvent(pid, _, event) => {
                    self.event(pid, event);
                    let _ = ptrace::cont(pid, None);
                }
                WaitStatus::Stopped(pid, signal) => {
                    // A new one begins with a stop, which is for us.
                    let is_new = !self.threads.contains_key(&pid);
                    self.process_of(pid);
                    let signal = (!(is_new && signal == Signal::SIGSTOP)).then_some(signal);
                    let _ = ptrace::cont(pid, signal);
                }
                _ => {}
            }
        }
    }

    fn ended(&mut self, pid: Pid, code: i32) {
        if pid == self.main {
            say(&format!("exited {code}"));
        }
        self.threads.remove(&pid);
        self.processes.remove(&pid);
        self.forked.remove(&pid);
    }

    fn event(&mut self, pid: Pid, event: i32) {
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                let Ok(child) = ptrace::getevent(pid).map(|child| Pid::from_raw(i32::try_from(child).unwrap_or(0)))
                else {
                    return;
                };
                // A thread is not a process.
                if tgid(child) == Some(child) {
                    self.forked.insert(child);
                }
            }
            libc::PTRACE_EVENT_EXEC => {
                let process = self.process_of(pid);
                self.processes.remove(&process);
                self.forked.remove(&process);
            }
            libc::PTRACE_EVENT_SECCOMP => self.call(pid),
            _ => {}
        }
    }

    fn process_of(&mut self, thread: Pid) -> Pid {
        *self.threads.entry(thread).or_insert_with(|| tgid(thread).unwrap_or(thread))
    }

    fn call(&mut self, pid: Pid) {
        let Ok(mut registers) = ptrace::getregs(pid) else { return };
        let tgid = self.process_of(pid);
        let is_child = self.forked.contains(&tgid);
        let process =
            self.processes.entry(tgid).or_insert_with(|| Process { part: part(tgid, is_child), runs: is_child });
        let number = i64::from_ne_bytes(registers.orig_rax.to_ne_bytes());
        if number == libc::SYS_poll {
            process.runs = true;
            return;
        }
        let (Some(part), true, Some((group, word))) = (&process.part, process.runs, call::find(number)) else { return };
        if number == libc::SYS_mmap && is_signal_stack(&registers) {
            return;
        }
        let thread = if pid == tgid { "main".to_owned() } else { thread_name(tgid, pid) };
        let is_reply = word == "writev" && object(pid, word, &registers) == "/dev/fuse";
        let call = if is_reply { call::REPLY } else { group.name };
        let site = Site { process: part.clone(), thread, call: call.to_owned() };
        let count = self.counts.entry(site.clone()).or_default();
        *count += 1;
        let result = match &self.task {
            Task::Count => return,
            Task::Flushes { .. } if call != "fsync" => {
                say(&format!("named {}", new_name(pid, word, &registers)));
                return;
            }
            Task::Flushes { without } => {
                let name = flush_name(word, &object(pid, word, &registers));
                let is_left_out = without.as_ref() == Some(&name);
                say(&format!("flush {name}"));
                if !is_left_out {
                    say(&format!("flushed {}", object(pid, word, &registers)));
                    return;
                }
                0
            }
            Task::Disturb(point @ Point { fault: Fault::Full, .. }) => {
                let object = object(pid, word, &registers);
                if !self.was_hit && point.site == site && point.nth == *count {
                    self.was_hit = true;
                    say(&format!("hit {count} {word} {object}"));
                }
                if !self.was_hit || is_reply || !call::takes_room(word, &object, registers.rdx) {
                    return;
                }
                -i64::from(libc::ENOSPC)
            }
            Task::Disturb(point) => {
                if point.site != site || point.nth != *count || self.was_hit {
                    return;
                }
                self.was_hit = true;
                say(&format!("hit {count} {word} {}", object(pid, word, &registers)));
                match point.fault {
                    Fault::Kill => {
                        let _ = kill(tgid, Signal::SIGKILL);
                        return;
                    }
                    Fault::Error(_, errno) => -i64::from(errno),
                    Fault::Full => return,
                }
            }
        };
        registers.orig_rax = u64::MAX;
        registers.rax = u64::from_ne_bytes(result.to_ne_bytes());
        let _ = ptrace::setregs(pid, registers);
    }
}

/// Whether Rust's runtime maps the stack for a thread's signals: without that it panics, and no program can change it.
fn is_signal_stack(registers: &libc::user_regs_struct) -> bool {
    let flag = |value: i32| u64::from(value.unsigned_abs());
    registers.rdx == flag(libc::PROT_READ | libc::PROT_WRITE) && registers.r10 & flag(libc::MAP_STACK) != 0
}

/// What is flushed, without what is another in each run.
fn flush_name(word: &str, object: &str) -> String {
    let object = object.split_once("/point/").map_or(object, |(_, below)| below);
    let is_odd = |part: &&str| part.len() >= 16 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts = object.split('/').map(|part| match part {
        part if is_odd(&part) => "ID",
        part if part.starts_with('#') => "NAMELESS",
        part if part.starts_with(".layerctl-") => "TEMPORARY",
        part => part,
    });
    format!("{word} {}", parts.collect::<Vec<_>>().join("/"))
}

fn tgid(thread: Pid) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    line.trim().parse().ok().map(Pid::from_raw)
}

/// The part that a process plays, by its command line.
fn part(process: Pid, is_child: bool) -> Option<String> {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next()?;
    let is_ours = program == b"/proc/self/exe" || program == b"layerctl" || program.ends_with(b"/layerctl");
    let part = match words.next() {
        _ if !is_ours => return None,
        Some(b"serve") => "server",
        Some(b"container-stage") => "init",
        _ => "command",
    };
    Some(if is_child { format!("{part}-child") } else { part.to_owned() })
}

fn thread_name(process: Pid, thread: Pid) -> String {
    let name = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/comm")).unwrap_or_default();
    let name =
        name.trim_end().trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-').replace([' ', ':'], "-");
    // One without a name has that of its program.
    if matches!(name.as_str(), "layerctl" | "exe") { "thread".to_owned() } else { name }
}

/// What a call is about, for the report.
fn object(pid: Pid, word: &str, registers: &libc::user_regs_struct) -> String {
    let arguments = [registers.rdi, registers.rsi];
    let Some(which) = call::takes_path(word) else {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{}", registers.rdi));
        return target.map(|target| target.display().to_string()).unwrap_or_default();
    };
    text(pid, arguments[which])
}

/// The name that a call gives to a file.
fn new_name(pid: Pid, word: &str, registers: &libc::user_regs_struct) -> String {
    let is_short = matches!(word, "rename" | "link" | "symlink");
    text(pid, if is_short { registers.rsi } else { registers.r10 })
}

/// A text in the memory of a process.
fn text(pid: Pid, at: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut memory = File::open(format!("/proc/{pid}/mem"))?;
        memory.seek(SeekFrom::Start(at))?;
        let mut bytes = vec![0; 1024];
        let length = memory.read(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
    };
    read().map(|bytes| String::from_utf8_lossy(&bytes).replace('\n', " ")).unwrap_or_default()
}
