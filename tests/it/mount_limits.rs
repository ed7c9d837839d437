//! A server has limits of its own, whatever its caller's are, and a failed start leaves nothing.

use std::fs;

use super::mount_commit::image;
use super::mount_container::pid;
use super::mounts::{Mounts, read};

fn field(pid: u32, file: &str, name: &str) -> String {
    let text = read(std::path::Path::new(&format!("/proc/{pid}/{file}")));
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line[name.len()..].trim().to_owned()
}

#[test]
fn the_callers_limits_end_no_server() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    mounts.mkdir("mnt");
    for limit in ["-v 400000", "-d 100000", "-t 5", "-f 10", "-n 20", "-n 27", "-c 0"] {
        let script = format!("ulimit -S {limit}; exec nice -n 7 \"$L\" run-mount --name c {base} mnt");
        let said = mounts.shell(&script);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{limit}");
        let server = pid(&mounts, "c");
        for (name, value) in [
            ("Max address space", "unlimited"),
            ("Max data size", "unlimited"),
            ("Max cpu time", "unlimited"),
            ("Max file size", "unlimited"),
        ] {
            assert!(field(server, "limits", name).starts_with(value), "{limit}: {name}");
        }
        let files: u64 = field(server, "limits", "Max open files").split_whitespace().next().unwrap().parse().unwrap();
        assert!(files >= 1024, "{limit}: {files}");
        let stat = read(std::path::Path::new(&format!("/proc/{server}/stat")));
        let nice = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().to_owned();
        assert_eq!(nice, "0", "{limit}");
        // Only a process with CAP_SYS_RESOURCE may lower it.
        let may = u64::from_str_radix(&field(server, "status", "CapEff:"), 16).unwrap() >> 24 & 1 == 1;
        let score = read(std::path::Path::new(&format!("/proc/{server}/oom_score_adj")));
        assert!(!may || score.trim() == "-998", "{score}");
        assert_eq!(read(std::path::Path::new(&format!("/proc/{server}/cgroup"))), read("/proc/self/cgroup".as_ref()));
        // It can write a file that is larger than the caller's limit.
        fs::write(mounts.at("mnt/large"), vec![1; 1 << 20]).unwrap();
        mounts.umount("c");
        mounts.run(&["rm", "c"]).ok();
    }
}

/// Without the right to lift a limit, the start says which one it is.
#[test]
fn a_limit_that_cannot_be_lifted_is_one_sentence_and_leaves_nothing() {
    let mounts = Mounts::new();
    let base = image(&mounts);
    for (limit, words) in [("-f 100000", "limit"), ("-n 30", "needs 64 open files"), ("-v 400000", "limit")] {
        let script = format!(
            "ulimit {limit}; exec setpriv --bounding-set -sys_resource --inh-caps -sys_resource \
             \"$L\" run-mount --name limited {base}"
        );
        mounts.shell(&script).fails(125, &["the mount's server", words, "ulimit -H"]);
        mounts.run(&["inspect", "limited"]).fails_and_prints(1, &["no such"], "[]\n");
        mounts.assert_nothing_is_live();
    }
}
