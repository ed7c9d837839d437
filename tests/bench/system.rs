//! The unions that are compared.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments::Arguments;
use crate::children;

/// One way to mount layers.
#[derive(Debug, Clone)]
pub(crate) struct System {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// mount(2).
    Overlayfs,
    /// `PROGRAM -o lowerdir=...,upperdir=...,workdir=... MOUNTPOINT`.
    FuseOverlayfs(PathBuf),
    /// `PROGRAM -o cow UPPER=RW:LOWER=RO... MOUNTPOINT`.
    Unionfs(PathBuf),
    /// `layerctl run-mount ARGUMENTS IMAGE MOUNTPOINT`.
    Ours(Vec<String>),
}

/// The kernel's own, to which all are compared.
pub(crate) const OVERLAYFS: &str = "overlayfs";
/// The fastest FUSE union that others have.
pub(crate) const FUSE_OVERLAYFS2: &str = "fuse-overlayfs-2";

impl System {
    /// Those that are here and wanted, and a line about each that is wanted and missing.
    pub(crate) fn all(arguments: &Arguments) -> (Vec<Self>, Vec<String>) {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        let mut add = |name: &str, looked: Result<(Kind, String), String>| {
            if arguments.wants_system(name) {
                match looked {
                    Ok((kind, version)) => found.push(Self { name: name.to_owned(), version, kind }),
                    Err(why) => missing.push(format!("{name}: {why}")),
                }
            }
        };
        add(OVERLAYFS, overlayfs());
        let one = program("fuse-overlayfs").ok_or("no fuse-overlayfs in $PATH".to_owned());
        add("fuse-overlayfs-1", one.map(|path| (Kind::FuseOverlayfs(path.clone()), version(&path, "fuse-overlayfs"))));
        let two = arguments.fuse_overlayfs2.clone().or_else(|| program("fuse-overlayfs2"));
        let two = two.filter(|path| path.exists()).ok_or("no fuse-overlayfs2 in $PATH, and FUSE_OVERLAYFS2 names none");
        let two = two.map_err(str::to_owned);
        add(FUSE_OVERLAYFS2, two.map(|path| (Kind::FuseOverlayfs(path.clone()), version(&path, "fuse-overlayfs"))));
        let unionfs = program("unionfs").or_else(|| program("unionfs-fuse")).ok_or("no unionfs in $PATH".to_owned());
        add("unionfs-fuse", unionfs.map(|path| (Kind::Unionfs(path.clone()), version(&path, "unionfs"))));
        let ours = arguments.program();
        let own = version(&ours, "layerctl");
        add("ours", Ok((Kind::Ours(Vec::new()), own.clone())));
        let help = children::output(Command::new(&ours).args(["run-mount", "--help"])).unwrap_or_default();
        for (name, option, value) in [("ours-passthrough", "--io", "passthrough")] {
            if help.contains(&format!("{option} ")) {
                add(name, Ok((Kind::Ours(vec![option.into(), value.into()]), own.clone())));
            }
        }
        for more in &arguments.ours {
            let (name, words) = more.split_once('=').unwrap_or((more, ""));
            let words = words.split_whitespace().map(str::to_owned).collect();
            add(&format!("ours-{name}"), Ok((Kind::Ours(words), own.clone())));
        }
        (found, missing)
    }

    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.kind, Kind::Ours(..))
    }
}

fn overlayfs() -> Result<(Kind, String), String> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let known = known.lines().any(|line| line.ends_with("\toverlay"));
    // It may be a module that nobody has asked for yet.
    if !known && !Command::new("modprobe").arg("overlay").status().is_ok_and(|status| status.success()) {
        return Err("this kernel has no overlayfs".to_owned());
    }
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Ok((Kind::Overlayfs, format!("Linux {release}")))
}

/// The file that a shell would run.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The line of `--version` that has the program's name.
pub(crate) fn version(program: &Path, name: &str) -> String {
    let output = Command::new(program).arg("--version").output();
    let output = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let line = text.lines().find(|line| line.starts_with(name)).or_else(|| text.lines().next());
    line.unwrap_or("of unknown version").trim().to_owned()
}
