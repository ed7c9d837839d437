//! A container's own `hostname`, `hosts` and `resolv.conf`: made with it, kept in its directory of the store, written by its
//! commands, and gone with it.

use std::path::Path;

use crate::container::MountedFile;
use crate::error::{Context as _, Result};
use crate::network::resolver::Resolver;
use crate::store::Container;
use crate::sys::fs;

/// What the host has.
const HOST: &str = "/etc/resolv.conf";
/// The same without the stub (systemd-resolved.service(8), "/etc/resolv.conf").
const REAL: &str = "/run/systemd/resolve/resolv.conf";

/// As Docker writes them.
const LOCAL: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
                     ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// Makes those files of a container that are not there, and tells of all of them. An empty one is made again: a power cut may have
/// left it, as nothing waits for the disk here.
///
/// # Errors
/// When one cannot be made, or the host's names cannot be read.
pub(crate) fn prepare(container: &Container) -> Result<Vec<MountedFile>> {
    let dir = container.name_files();
    let mut files = Vec::new();
    for name in names(container) {
        let path = dir.join(name);
        if fs::found(&path).doing("look at", &path)?.is_none_or(|found| found.len() == 0) {
            let content = match name {
                "hostname" => container.short_id() + "\n",
                "hosts" => hosts(container),
                _ => resolv_conf(container)?,
            };
            container.make_name_files()?;
            // Whole or not at all, whatever ends this.
            let made = dir.join(format!("{name}.new"));
            fs::write(&made, content).doing("write", &made)?;
            fs::rename(&made, &path).doing("put into place", &path)?;
        }
        files.push(MountedFile { name: name.to_owned(), source: path });
    }
    Ok(files)
}

/// The files that a container has of its own.
pub(crate) fn names(container: &Container) -> impl Iterator<Item = &'static str> {
    let no_hosts = container.record.network.no_hosts;
    crate::container::MOUNTED_FILES.into_iter().filter(move |name| !(no_hosts && *name == "hosts"))
}

fn hosts(container: &Container) -> String {
    let mut text = LOCAL.to_owned();
    for entry in &container.record.network.hosts {
        text.push_str(&format!("{}\t{}\n", entry.address, entry.name));
    }
    // The network is the host's, so that no other address is its own.
    text + "127.0.0.1\t" + &container.short_id() + "\n"
}

fn resolv_conf(container: &Container) -> Result<String> {
    let mut resolver = resolver_at(HOST)?.unwrap_or_default();
    if resolver.is_stub()
        && let Some(real) = resolver_at(REAL)?
    {
        resolver = resolver.with_servers_of(real);
    }
    Ok(resolver.with(&container.record.network).text())
}

/// What the host's file says; `None` when there is none.
fn resolver_at(path: &str) -> Result<Option<Resolver>> {
    let read = fs::absent(std::fs::read(Path::new(path))).doing("read", path)?;
    Ok(read.map(|bytes| Resolver::parse(&String::from_utf8_lossy(&bytes))))
}
