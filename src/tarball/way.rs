//! The way along a path through the links of its own layer, as a process finds it whose root directory the layer is: an
//! absolute link begins at that root, and `..` does not lead out of it (`path_resolution(7)`). No file system follows
//! anything here: the caller knows what stands at each name.

use std::borrow::Cow;

use super::failure::display;
use super::{Limits, Refusal};

/// How many links one path may pass through: `MAXSYMLINKS` (include/linux/namei.h).
const LINKS: u32 = 40;

/// The next name on a way.
#[derive(Debug)]
pub(super) struct Part<'p> {
    pub(super) name: Cow<'p, [u8]>,
    /// Whether it comes from the target of a link: then it must be there.
    pub(super) is_of_link: bool,
}

/// A walk along a path. For each [`Part`] the caller looks it up in the directory that the walk has reached, and then
/// [enters](Way::enter) or [follows](Way::follow) it.
#[derive(Debug)]
pub(super) struct Way<'p> {
    /// The directory that was come to: no name in it is a link.
    dirs: Vec<Cow<'p, [u8]>>,
    /// What is left, last first.
    todo: Vec<Part<'p>>,
    /// The first link that was followed.
    link: Option<Vec<u8>>,
    links: u32,
    parts: usize,
}

impl<'p> Way<'p> {
    /// From the layer's root along `dirs`, in which no name is `.` or `..`.
    pub(super) fn new(dirs: &[&'p [u8]]) -> Self {
        let part = |name: &&'p [u8]| Part { name: Cow::Borrowed(*name), is_of_link: false };
        let todo = dirs.iter().rev().map(part).collect();
        Self { dirs: Vec::new(), todo, link: None, links: 0, parts: dirs.len() }
    }

    /// The next name, to be looked up in the directory that was come to; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Part<'p>> {
        loop {
            let part = self.todo.pop()?;
            match (&*part.name, part.is_of_link) {
                (b"" | b".", true) => {}
                (b"..", true) => drop(self.dirs.pop()),
                _ => return Some(part),
            }
        }
    }

    /// Goes into a directory.
    pub(super) fn enter(&mut self, part: Part<'p>) {
        self.dirs.push(part.name);
    }

    /// Goes on where a link leads to.
    ///
    /// # Errors
    /// When the way has too many links or names.
    pub(super) fn follow(&mut self, part: &Part<'p>, target: &[u8], limits: &Limits) -> Result<(), Refusal> {
        let link = self.link.get_or_insert_with(|| part.name.to_vec());
        self.links = self.links.saturating_add(1);
        if self.links > LINKS {
            return Err(format!("passes through the link `{}` and more than {LINKS} in all", display(link)).into());
        }
        let names: Vec<_> = target.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        self.parts = self.parts.saturating_add(names.len());
        if self.parts > limits.depth {
            let link = display(link);
            let why = format!("passes through the link `{link}` and more than {} names in all", limits.depth);
            return Err(Refusal::limit("depth", why));
        }
        if target.starts_with(b"/") {
            self.dirs.clear();
        }
        let part = |name: &&[u8]| Part { name: Cow::Owned(name.to_vec()), is_of_link: true };
        self.todo.extend(names.iter().rev().map(part));
        Ok(())
    }

    /// The directory that was come to.
    pub(super) fn dirs(&self) -> Vec<&[u8]> {
        self.dirs.iter().map(|name| &**name).collect()
    }

    /// How deep the directory that was come to is.
    pub(super) fn depth(&self) -> usize {
        self.dirs.len()
    }

    /// The first link that was followed.
    pub(super) fn first_link(&self) -> Option<&[u8]> {
        self.link.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Where a path leads to; all that is no link is a directory.
    fn end(links: &[(&str, &str)], path: &str) -> Result<String, Refusal> {
        let links: BTreeMap<_, _> = links.iter().copied().collect();
        let dirs: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let mut way = Way::new(&dirs);
        while let Some(part) = way.next() {
            let at = String::from_utf8([&way.dirs()[..], &[&part.name]].concat().join(&b'/')).unwrap();
            match links.get(&*at) {
                Some(target) => way.follow(&part, target.as_bytes(), &Limits::default())?,
                None => way.enter(part),
            }
        }
        Ok(String::from_utf8(way.dirs().join(&b'/')).unwrap())
    }

    #[test]
    fn links_are_of_the_layer_and_stay_in_it() {
        let links = [
            ("lib", "usr/lib"),
            ("usr/lib/up", ".."),
            ("out", "../../../.."),
            ("abs", "/usr//./lib/"),
            ("usr/abs", "/lib"),
            ("chain", "abs/../share"),
            ("root", "/"),
        ];
        for (path, expected) in [
            ("lib", "usr/lib"),
            ("lib/a/b", "usr/lib/a/b"),
            ("lib/up/lib", "usr/lib"),
            ("out/etc", "etc"),
            ("abs", "usr/lib"),
            ("usr/abs/x", "usr/lib/x"),
            ("chain", "usr/share"),
            ("root/lib", "usr/lib"),
            ("no/lib", "no/lib"),
        ] {
            assert_eq!(end(&links, path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn a_way_without_an_end_is_refused() {
        for links in [&[("a", "a")][..], &[("a", "b"), ("b", "/a")], &[("a", "./a/../a")]] {
            let refusal = end(links, "a/x").unwrap_err();
            assert!(refusal.why.contains("the link `a` and more than 40"), "{}", refusal.why);
        }
        let chain: Vec<_> = (0..41).map(|link| (format!("l{link}"), format!("l{}", link + 1))).collect();
        let chain: Vec<_> = chain.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        assert_eq!(end(&chain, "l1/x").unwrap(), "l41/x");
        assert!(end(&chain, "l0/x").is_err());
        let long = "d/../".repeat(400);
        let wide: Vec<_> = (0..30).map(|link| (format!("l{link}"), format!("{long}l{}", link + 1))).collect();
        let wide: Vec<_> = wide.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
        assert_eq!(end(&wide, "l0").unwrap_err().limit, Some("depth"));
    }
}
