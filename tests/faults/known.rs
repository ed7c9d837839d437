//! What is known not to hold yet: `known`, one line each of a scenario, a site (`*` for any) and a part of the finding.
//! docs/reliability.md tells it to those who use the program.

use super::point::Site;

const KNOWN: &str = include_str!("known");

pub(crate) fn is_known(scenario: &str, site: &Site, finding: &str) -> bool {
    let fits = |pattern: &str, word: &str| pattern == "*" || pattern == word;
    KNOWN.lines().filter(|line| !line.starts_with('#')).any(|line| {
        let mut words = line.splitn(3, ' ');
        let (Some(of), Some(at), Some(part)) = (words.next(), words.next(), words.next()) else { return false };
        fits(of, scenario) && fits(at, &site.to_string()) && finding.contains(part)
    })
}
