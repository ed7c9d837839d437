//! `layerctl run-mount`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Context;
use crate::commands::{self, Io, Mounted, NetworkOptions, Outcome};
use crate::container::{Ended, Security};
use crate::error::{Error, Result};

/// The exit status of a command that `SIGPIPE` has ended.
const BROKEN_PIPE: u8 = 141;

/// Mount a container of an image, and run a command in it
///
/// Makes a fresh rw layer over the image's layers and mounts it at MOUNTPOINT, or in the store. Without a
/// command the mount stays until it is unmounted, by `layerctl umount` or umount(8); the container's id and
/// the mountpoint are printed; when they cannot be, the mount is taken back. With `--` the command, or with nothing
/// after it the image's own, runs with the
/// mount as its root directory; its exit status is ours, and the mount is gone afterwards.
///
/// At a terminal the command has a pseudo-terminal of its own. Files that are standard input, output or error cannot be
/// written or changed by the command but through what it writes to standard output and error.
///
/// A container that is there already is mounted again with its name: `layerctl run-mount --name NAME`.
#[derive(Debug, Args)]
pub(super) struct RunMount {
    /// The container's name
    #[arg(long)]
    name: Option<String>,
    /// Take no changes
    #[arg(long)]
    read_only: bool,
    /// Remove the container when its mount ends
    #[arg(long)]
    rm: bool,
    /// By which way data go: cached, passthrough for large files that are written and read again, kernel for much writing, auto
    ///
    /// `cached`: through the kernel's page cache of the mount; opening a file is no message, nor is reading it again.
    /// The best for many files, and for whatever is read more than once.
    ///
    /// `passthrough` (Linux 6.9 or newer): the kernel reads and writes files of the rw layer itself, at the speed of the disk's
    /// file system; each open and each close is a message, and a file of a layer is copied up when it is opened to be
    /// written. The best for large files that are written, for databases and disk images. A file that gets its
    /// set-user-id bit while a program has it open keeps the bit, whichever user writes, until the last program closes it.
    ///
    /// `kernel`: the kernel's overlayfs has the rw layer, over one mount of the image that all such containers share, with one
    /// page cache. The best for builds and all that writes many files, and for many containers of one image. `docs/semantics.md`
    /// says what is different. `auto` takes it where it works, and else `cached`.
    ///
    /// A container may be mounted in another way each time; its rw layer is made anew then, which takes as long as a copy.
    #[arg(long, value_name = "WAY", value_parser = str::parse::<Io>)]
    io: Option<Io>,
    /// What the command may do, as docker has it: seccomp=unconfined, no-new-privileges
    ///
    /// The command's system calls are filtered as Docker's default profile has it, unless `seccomp=unconfined` is given.
    /// With `no-new-privileges` no set-user-id program gives it privileges that it does not have: sudo and su fail.
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// A name server of the container, in place of the host's; may be given several times
    ///
    /// With --dns-search, --add-host and --no-hosts it counts when the container is made, and stays with it. A container has
    /// its own /etc/resolv.conf, /etc/hosts and /etc/hostname, which its commands may write to.
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<String>,
    /// A domain in which the container searches for names, in place of the host's; `.` for none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// One more line in the container's /etc/hosts; may be given several times
    #[arg(long, value_name = "NAME:ADDRESS")]
    add_host: Vec<String>,
    /// Leave the image's /etc/hosts alone
    #[arg(long)]
    no_hosts: bool,
    /// A name, an id, or the beginning of one; not needed for a container that is there already
    image: Option<String>,
    /// An empty directory
    mountpoint: Option<PathBuf>,
    /// What to run
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl RunMount {
    pub(super) fn run(&self, context: &Context, has_separator: bool) -> Result<u8> {
        let (mut image, mut mountpoint) = (self.image.clone(), self.mountpoint.clone());
        // No image has a name that begins so.
        if mountpoint.is_none()
            && self.name.is_some()
            && image.as_ref().is_some_and(|word| word.starts_with(['/', '.']))
        {
            mountpoint = image.take().map(PathBuf::from);
        }
        if !self.security_opt.is_empty() && !has_separator {
            return Err(Error::Usage("--security-opt is about a command: give one after --".into()));
        }
        let request = commands::RunMount {
            name: self.name.clone(),
            image,
            mountpoint,
            read_only: self.read_only,
            remove: self.rm,
            io: self.io,
            command: has_separator.then(|| self.command.clone()),
            security: Security::parse(&self.security_opt)?,
            network: NetworkOptions {
                dns: self.dns.clone(),
                dns_search: self.dns_search.clone(),
                add_hosts: self.add_host.clone(),
                no_hosts: self.no_hosts,
            },
        };
        match commands::run_mount(&context.store, &request)? {
            Outcome::Ended(Ended { status, lost: None }) => Ok(status),
            // It has failed by itself, or because it could write no more.
            Outcome::Ended(Ended { status, lost: Some(why) }) if !matches!(status, 0 | BROKEN_PIPE) => {
                super::report(&why);
                Ok(status)
            }
            Outcome::Ended(Ended { lost: Some(why), .. }) => Err(why),
            Outcome::Mounted(mounted) => match print(context, &mounted) {
                Ok(()) => Ok(0),
                Err(error) => {
                    // The caller would never learn of the mount, and it would stay for ever.
                    if let Err(why) = commands::take_back(&context.store, &mounted) {
                        super::report(&why);
                    }
                    Err(error)
                }
            },
        }
    }
}

fn print(context: &Context, mounted: &Mounted) -> Result<()> {
    let (id, mountpoint) = (mounted.container.hex(), mounted.mountpoint.display().to_string());
    let result = if context.output.is_json() {
        format!("{:#}", json!({ "Id": id, "Mountpoint": mountpoint }))
    } else {
        format!("{id} {mountpoint}")
    };
    context.output.deliver(&result)
}
