//! Programs that import images, each into a store of its own on the same disk.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::mount::{UnmountFlags, unmount};

use crate::children;
use crate::image::Store;
use crate::import_source::{NAME, Source};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Importer {
    Tar,
    Podman,
    Skopeo,
    Umoci,
    Ctr,
    Ours,
}

/// From what an image is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Docker,
    Oci,
    /// The docker-archive, through a pipe.
    Pipe,
}

const SOCKET_PATIENCE: Duration = Duration::from_secs(20);

impl Importer {
    pub(crate) const ALL: [Self; 6] = [Self::Tar, Self::Podman, Self::Skopeo, Self::Umoci, Self::Ctr, Self::Ours];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tar => "tar",
            Self::Podman => "podman",
            Self::Skopeo => "skopeo",
            Self::Umoci => "umoci",
            Self::Ctr => "ctr",
            Self::Ours => "ours",
        }
    }

    /// What it does.
    pub(crate) const fn way(self) -> &'static str {
        match self {
            Self::Tar => "tar x of the layers, each into a directory",
            Self::Podman => "podman load, overlay driver",
            Self::Skopeo => "skopeo copy to an OCI layout",
            Self::Umoci => "umoci unpack of an OCI layout that is a directory",
            Self::Ctr => "ctr images import, overlayfs snapshotter",
            Self::Ours => "layerctl import",
        }
    }

    /// The commands that import `source` into `dir`, if it can.
    pub(crate) fn commands(self, form: Form, source: &Source, dir: &Path, ours: &Path) -> Option<Vec<Command>> {
        let file = if form == Form::Oci { &source.oci } else { &source.docker };
        let is_pipe = form == Form::Pipe;
        let mut command;
        match self {
            Self::Tar => {
                let tars = match form {
                    Form::Docker => &source.tars,
                    Form::Oci => &source.blobs,
                    Form::Pipe => return None,
                };
                return Some(tars.iter().enumerate().map(|(number, tar)| untar(tar, dir, number)).collect());
            }
            Self::Podman => {
                command = Command::new("podman");
                command.arg("--root").arg(dir.join("root")).arg("--runroot").arg(dir.join("runroot"));
                command.args(["--storage-driver", "overlay", "load", "--quiet"]);
                if !is_pipe {
                    command.arg("--input").arg(file);
                }
            }
            Self::Skopeo if !is_pipe => {
                let kind = if form == Form::Oci { "oci-archive" } else { "docker-archive" };
                command = Command::new("skopeo");
                command.args(["--insecure-policy", "copy", "--quiet"]).arg(format!("{kind}:{}", file.display()));
                command.arg(format!("oci:{}:bench", dir.join("layout").display()));
            }
            Self::Umoci if form == Form::Oci => {
                command = Command::new("umoci");
                command.args(["unpack", "--image"]).arg(format!("{}:{}", source.layout.display(), NAME));
                command.arg(dir.join("bundle"));
            }
            Self::Ctr => {
                command = Command::new("ctr");
                command.arg("--address").arg(dir.join("socket")).args([
                    "images",
                    "import",
                    "--snapshotter",
                    "overlayfs",
                ]);
                command.arg(if is_pipe { Path::new("-") } else { file });
            }
            Self::Ours => {
                command = Store { program: ours.to_owned(), root: dir.join("store") }.command();
                command.arg("import").arg(if is_pipe { Path::new("-") } else { file });
            }
            Self::Skopeo | Self::Umoci => return None,
        }
        // Some copy the archive to a temporary directory first: on the same disk.
        command.env("TMPDIR", dir.join("tmp"));
        Some(vec![command])
    }

    /// What has to run meanwhile.
    pub(crate) fn daemon(self, dir: &Path) -> Result<Option<Daemon>> {
        if self == Self::Ctr { Daemon::containerd(dir).map(Some) } else { Ok(None) }
    }
}

fn untar(tar: &Path, dir: &Path, number: usize) -> Command {
    let mut command = Command::new("tar");
    let into = dir.join(format!("layer-{number}"));
    // A directory that cannot be made is tar's complaint.
    let _ = fs::create_dir_all(&into);
    command.args(["--numeric-owner", "--same-permissions", "--same-owner", "-xf"]).arg(tar).arg("-C").arg(into);
    command
}

/// containerd, for as long as it is needed.
#[derive(Debug)]
pub(crate) struct Daemon(Child);

impl Daemon {
    fn containerd(dir: &Path) -> Result<Self> {
        let socket = dir.join("socket");
        let settings = dir.join("containerd.toml");
        fs::write(&settings, "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(settings).arg("--address").arg(&socket);
        command.arg("--root").arg(dir.join("root")).arg("--state").arg(dir.join("state"));
        let log = fs::File::create(dir.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).env("TMPDIR", dir.join("tmp"));
        let mut daemon = Self(command.spawn().context("cannot run containerd")?);
        let until = Instant::now() + SOCKET_PATIENCE;
        let mut ask = Command::new("ctr");
        ask.arg("--address").arg(&socket).args(["--timeout", "1s", "version"]);
        while children::output(&mut ask).is_err() {
            if daemon.0.try_wait()?.is_some() || Instant::now() > until {
                let text = fs::read_to_string(dir.join("log")).unwrap_or_default();
                bail!("containerd does not answer: {}", text.lines().next_back().unwrap_or("no message"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap_or(0)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

/// Removes what an importer made, and what it mounted there.
pub(crate) fn clear(dir: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for place in places.filter(|place| Path::new(place).starts_with(dir)).collect::<Vec<_>>().iter().rev() {
        unmount(*place, UnmountFlags::DETACH).with_context(|| format!("cannot unmount {place}"))?;
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
