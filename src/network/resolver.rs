//! `resolv.conf(5)`: that of the host, and the one that a container gets.

use std::net::IpAddr;

use crate::store::Network;

/// The addresses at which systemd-resolved listens (systemd-resolved.service(8)).
const STUB: [&str; 2] = ["127.0.0.53", "127.0.0.54"];

/// What such a file says. What it says of `sortlist` is about the host's own addresses, and left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    name_servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    /// Reads the text of a file. A line that means nothing is passed over, as the resolver does.
    pub(crate) fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let keyword = words.next();
            let words = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => found.name_servers.extend(words.take(1)),
                // The last of both counts.
                Some("search") => found.search = words.collect(),
                Some("domain") => found.search = words.take(1).collect(),
                Some("options") => found.options.extend(words),
                _ => {}
            }
        }
        found
    }

    /// Whether it only leads to systemd-resolved.
    pub(crate) fn is_stub(&self) -> bool {
        !self.name_servers.is_empty() && self.name_servers.iter().all(|server| STUB.contains(&&**server))
    }

    /// The servers of `real`, for which this one stands, and what `real` does not say from here.
    pub(crate) fn with_servers_of(self, real: Self) -> Self {
        let or = |one: Vec<String>, other| if one.is_empty() { other } else { one };
        Self {
            name_servers: or(real.name_servers, self.name_servers),
            search: or(real.search, self.search),
            options: or(real.options, self.options),
        }
    }

    /// With what was asked for.
    pub(crate) fn with(mut self, network: &Network) -> Self {
        if !network.dns.is_empty() {
            self.name_servers = network.dns.iter().map(IpAddr::to_string).collect();
        }
        if let Some(search) = &network.dns_search {
            self.search.clone_from(search);
        }
        self
    }

    /// The text of a file that says this.
    pub(crate) fn text(&self) -> String {
        let mut lines = vec!["# Made with the container, and not changed by layerctl after that.".to_owned()];
        lines.extend(self.name_servers.iter().map(|server| format!("nameserver {server}")));
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                lines.push(format!("{keyword} {}", words.join(" ")));
            }
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(resolver: &Resolver) -> String {
        resolver.text().lines().skip(1).collect::<Vec<_>>().join("|")
    }

    #[test]
    fn a_file_is_read_as_the_resolver_reads_it() {
        let text = "# comment\ndomain first\nsearch a b\t c ; and\nnameserver 10.0.0.1 # one\nnameserver\n\
                    nameserver fe80::1%eth0\noptions edns0\noptions  ndots:2 rotate\nsortlist 1.2.3.4\nnonsense\n\n";
        let found = Resolver::parse(text);
        assert_eq!(
            said(&found),
            "nameserver 10.0.0.1|nameserver fe80::1%eth0|search a b c|options edns0 ndots:2 rotate"
        );
        assert_eq!(Resolver::parse(&found.text()), found);
        assert_eq!(said(&Resolver::parse("search a b\ndomain c\n")), "search c");
        assert_eq!(said(&Resolver::parse("")), "");
    }

    #[test]
    fn the_real_servers_take_the_place_of_a_stub() {
        let stub = || Resolver::parse("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.org\n");
        assert!(stub().is_stub());
        for other in ["", "nameserver 127.0.0.1\n", "nameserver 127.0.0.53\nnameserver 10.0.0.1\n"] {
            assert!(!Resolver::parse(other).is_stub(), "{other}");
        }
        let real = || Resolver::parse("nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch real.org\n");
        let both = "nameserver 10.0.0.1|nameserver 10.0.0.2|search real.org|options edns0 trust-ad";
        assert_eq!(said(&stub().with_servers_of(real())), both);
        assert_eq!(stub().with_servers_of(Resolver::default()), stub());
        let asked = Network {
            dns: vec!["9.9.9.9".parse().unwrap()],
            dns_search: Some(vec!["asked".into()]),
            ..Network::default()
        };
        assert_eq!(said(&real().with(&asked)), "nameserver 9.9.9.9|search asked");
        let none = Network { dns_search: Some(Vec::new()), ..Network::default() };
        assert_eq!(said(&real().with(&none)), "nameserver 10.0.0.1|nameserver 10.0.0.2");
    }
}
