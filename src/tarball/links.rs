//! The symbolic links of a layer's tar, as far as it was read: where an entry stands, when only the headers are at hand.
//!
//! As in [`place`](super::place), but for what is no link, of which nothing is known: the tar was unpacked, so that there are
//! directories wherever one is needed.

use std::collections::BTreeMap;

use super::path_filter::path_and_above;
use super::place::joined;
use super::way::Way;
use super::{Limits, Refusal};

/// Where an entry stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stands {
    /// The path, no directory of which is a link.
    pub(super) path: Vec<u8>,
    /// The first link that the entry's own path passes through.
    pub(super) link: Option<Vec<u8>>,
}

/// The targets of links by the links' paths.
#[derive(Debug, Default)]
pub(super) struct Links(BTreeMap<Vec<u8>, Vec<u8>>);

impl Links {
    /// Finds the place of `name` in `dirs`.
    pub(super) fn place(&self, dirs: &[&[u8]], name: &[u8], limits: &Limits) -> Result<Stands, Refusal> {
        let path = joined(dirs, name);
        let dir = dirs.join(&b'/');
        if self.0.is_empty() || !path_and_above(&dir).any(|above| self.0.contains_key(above)) {
            return Ok(Stands { path, link: None });
        }
        let mut way = Way::new(dirs);
        while let Some(part) = way.next() {
            match self.0.get(&joined(&way.dirs(), &part.name)) {
                Some(target) => way.follow(&part, target, limits)?,
                None => way.enter(part),
            }
        }
        Ok(Stands { path: joined(&way.dirs(), name), link: way.first_link().map(<[u8]>::to_vec) })
    }

    /// The target of the link at `path`, if one is there.
    pub(super) fn target(&self, path: &[u8]) -> Option<&[u8]> {
        self.0.get(path).map(|target| &**target)
    }

    /// Puts something in the place of what is at `path`: a link, or anything else that is no directory.
    pub(super) fn replace(&mut self, path: &[u8], target: Option<&[u8]>) {
        // All that was in a directory: a slash is the byte before `0`.
        let (first, end) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below: Vec<_> = self.0.range(first..end).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.0.remove(&path);
        }
        match target {
            Some(target) => drop(self.0.insert(path.to_vec(), target.to_vec())),
            None => drop(self.0.remove(path)),
        }
    }

    /// Puts a directory at `path`.
    pub(super) fn directory(&mut self, path: &[u8]) {
        self.0.remove(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replaced_takes_its_links_with_it() {
        let mut links = Links::default();
        let at = |links: &Links, path: &str| {
            let parts: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
            let (name, dirs) = parts.split_last().unwrap();
            String::from_utf8(links.place(dirs, name, &Limits::default()).unwrap().path).unwrap()
        };
        links.replace(b"lib", Some(b"usr/lib"));
        links.replace(b"d/in", Some(b"/lib"));
        links.replace(b"d0", Some(b"e"));
        assert_eq!((at(&links, "lib/x"), at(&links, "lib")), ("usr/lib/x".into(), "lib".into()));
        assert_eq!((at(&links, "d/in/x"), at(&links, "d0/x")), ("usr/lib/x".into(), "e/x".into()));
        links.replace(b"d", None);
        assert_eq!((at(&links, "d/in/x"), at(&links, "d0/x")), ("d/in/x".into(), "e/x".into()));
        links.directory(b"lib");
        assert_eq!(at(&links, "lib/x"), "lib/x");
    }
}
