//! `--dns`, `--dns-search`, `--add-host` and `--no-hosts`, by the rules of docker and podman.

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::store::{HostEntry, Network};

/// The longest domain name (RFC 1035, 2.3.4), written with dots.
const DOMAIN_MAX: usize = 253;

/// The options as they were given.
#[derive(Debug, Clone, Default)]
pub struct NetworkOptions {
    /// `--dns`: addresses.
    pub dns: Vec<String>,
    /// `--dns-search`: domains, or `.` alone for none.
    pub dns_search: Vec<String>,
    /// `--add-host`: `NAME:ADDRESS`.
    pub add_hosts: Vec<String>,
    /// `--no-hosts`.
    pub no_hosts: bool,
}

impl NetworkOptions {
    /// What they say.
    ///
    /// # Errors
    /// [`Error::Usage`] for a value that cannot be meant.
    pub fn parse(&self) -> Result<Network> {
        if self.no_hosts && !self.add_hosts.is_empty() {
            return Err(Error::Usage("--add-host puts a name into /etc/hosts, and --no-hosts makes none".into()));
        }
        let hosts = self.add_hosts.iter().map(|text| host_entries(text)).collect::<Result<Vec<_>>>()?;
        Ok(Network {
            dns: self.dns.iter().map(|text| name_server(text)).collect::<Result<_>>()?,
            dns_search: search(&self.dns_search)?,
            hosts: hosts.concat(),
            no_hosts: self.no_hosts,
        })
    }
}

fn name_server(text: &str) -> Result<IpAddr> {
    if text == "none" {
        return Err(Error::Usage(
            "--dns none is not known: a container always has an /etc/resolv.conf of its own".into(),
        ));
    }
    text.parse().map_err(|_| Error::Usage(format!("--dns {text:?} is no IP address of a name server")))
}

fn search(domains: &[String]) -> Result<Option<Vec<String>>> {
    match domains {
        [] => Ok(None),
        [none] if none == "." => Ok(Some(Vec::new())),
        _ if domains.iter().any(|domain| domain == ".") => {
            Err(Error::Usage("--dns-search . means no domain at all, and another domain is given too".into()))
        }
        _ => match domains.iter().find(|domain| !is_domain(domain)) {
            Some(domain) => Err(Error::Usage(format!("--dns-search {domain:?} is no domain"))),
            None => Ok(Some(domains.to_vec())),
        },
    }
}

/// `NAME:ADDRESS`, also `NAME=ADDRESS`, several names with `;` between them, and an IPv6 address in brackets.
fn host_entries(text: &str) -> Result<Vec<HostEntry>> {
    let wrong = |why: &str| Error::Usage(format!("--add-host {text:?} {why}: NAME:ADDRESS is wanted"));
    let (names, address) = text.split_once([':', '=']).ok_or_else(|| wrong("has no address"))?;
    if address == "host-gateway" {
        return Err(Error::Usage(
            "--add-host with host-gateway has no meaning here: the container has the host's own network".into(),
        ));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|inner| inner.contains(':'));
    let address: IpAddr = bare.unwrap_or(address).parse().map_err(|_| wrong("has no IP address"))?;
    let entry = |name: &str| {
        let entry = HostEntry { name: name.to_owned(), address };
        if is_domain(name) { Ok(entry) } else { Err(wrong("has no name of a host")) }
    };
    names.split(';').map(entry).collect()
}

/// Letters, digits, `-` and `_` with dots between them. What ends a word or a line of a file is none of these.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&bytes.len())
            && bytes.iter().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= DOMAIN_MAX && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dns: &[&str], search: &[&str], hosts: &[&str]) -> NetworkOptions {
        let all = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        NetworkOptions { dns: all(dns), dns_search: all(search), add_hosts: all(hosts), no_hosts: false }
    }

    #[test]
    fn what_is_meant_is_understood() {
        let network = options(
            &["9.9.9.9", "2620:fe::fe"],
            &["example.org", "a_b.test."],
            &["one:10.0.0.1", "six:::1", "seven:[fe80::1]", "a;b.c=10.0.0.2"],
        );
        let network = network.parse().unwrap();
        assert_eq!(network.dns, ["9.9.9.9", "2620:fe::fe"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(network.dns_search, Some(vec!["example.org".to_owned(), "a_b.test.".to_owned()]));
        let hosts: Vec<_> = network.hosts.iter().map(|entry| format!("{} {}", entry.name, entry.address)).collect();
        assert_eq!(hosts, ["one 10.0.0.1", "six ::1", "seven fe80::1", "a 10.0.0.2", "b.c 10.0.0.2"]);
        assert_eq!(options(&[], &["."], &[]).parse().unwrap().dns_search, Some(Vec::new()));
        assert!(options(&[], &[], &[]).parse().unwrap().is_default());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for dns in ["", "none", "dns.example.org", "9.9.9.9:53", "9.9.9.9\nsearch x", " 9.9.9.9", "1.2.3"] {
            assert!(matches!(options(&[dns], &[], &[]).parse(), Err(Error::Usage(_))), "{dns:?}");
        }
        let long = "a.".repeat(127);
        for domain in ["", "a b", "a\nnameserver 1.1.1.1", "a..b", "-a", "a-", ".a", "a#", "ä", &"a".repeat(64), &long]
        {
            assert!(matches!(options(&[], &[domain], &[]).parse(), Err(Error::Usage(_))), "{domain:?}");
            assert!(matches!(options(&[], &[], &[&format!("{domain}=1.1.1.1")]).parse(), Err(Error::Usage(_))));
        }
        assert!(options(&[], &[".", "a"], &[]).parse().is_err());
        for host in
            ["", "a", "a:", ":1.1.1.1", "a:b", "a:1.1.1.1 b", "a:host-gateway", "a;:1.1.1.1", "a:[1.1.1.1]", "a:[::1"]
        {
            assert!(matches!(options(&[], &[], &[host]).parse(), Err(Error::Usage(_))), "{host:?}");
        }
        let both = NetworkOptions { no_hosts: true, ..options(&[], &[], &["a:1.1.1.1"]) };
        assert!(both.parse().is_err());
    }
}
