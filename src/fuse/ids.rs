//! Owners as the disk has them, and as the mount shows them: `uidmapping=`, `gidmapping=` and `squash_to_*`.
//!
//! podman mounts with such a mapping for a container in a user namespace (`--uidmap`): the layers stay as they are on the disk,
//! and the mount shows each owner as the host's number of that container's user. The meaning of each option is fuse-overlayfs'
//! (its `find_mapping`): a range maps in both directions, and squashing only changes what is shown.

use serde::{Deserialize, Serialize};

use crate::union::{Attr, Caller};

/// The owner of what no range has, in both directions (`/proc/sys/kernel/overflowuid`).
const OVERFLOW: u32 = 65_534;
/// `system.posix_acl_*` begins with a version of 4 bytes; 8 bytes are an entry: tag, permissions, id
/// (include/uapi/linux/posix_acl_xattr.h).
const ACL_HEADER: usize = 4;
const ACL_ENTRY: usize = 8;
const ACL_USER: u16 = 0x02;
const ACL_GROUP: u16 = 0x08;
const ACCESS_LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const CAPABILITY: &[u8] = b"security.capability";
/// `security.capability` of version 3 ends with the owner of the user namespace that it counts in (include/uapi/linux/capability.h).
const CAPABILITY_V3: usize = 24;
const REVISION_3: u8 = 3;
const REVISION_2: u8 = 2;
const ROOT_ID: usize = 20;

/// `count` ids that follow each other on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    disk: u32,
    shown: u32,
    count: u32,
}

/// How the ids of users, or those of groups, are shown. The default shows them as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    ranges: Vec<Range>,
    squash: Option<u32>,
}

/// How owners are shown. The default shows them as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Users.
    pub users: IdMap,
    /// Groups.
    pub groups: IdMap,
}

impl IdMap {
    /// Takes ranges as `DISK:SHOWN:COUNT`, several of them with a `:` between, and one before the first as podman has it.
    ///
    /// # Errors
    /// What is wrong with the text, as a clause.
    pub fn map(&mut self, text: &str) -> Result<(), &'static str> {
        let text = text.strip_prefix(':').unwrap_or(text);
        let numbers: Result<Vec<u32>, _> = text.split(':').map(str::parse).collect();
        let numbers = numbers.map_err(|_| "has something that is no number from 0 to 4294967295")?;
        let (triples, rest) = numbers.as_chunks::<3>();
        if triples.is_empty() || !rest.is_empty() {
            return Err("is not a list of DISK:SHOWN:COUNT");
        }
        let mut ranges: Vec<Range> = Vec::new();
        for [disk, shown, count] in triples.iter().copied() {
            let fits = |first: u32| first.checked_add(count).is_some();
            let overlaps = |a: u32, b: u32, of_b: u32| a < b.saturating_add(of_b) && b < a.saturating_add(count);
            if count == 0 || !fits(disk) || !fits(shown) {
                return Err("has a range of no ids, or of ids above 4294967295");
            }
            if ranges.iter().any(|old| overlaps(disk, old.disk, old.count) || overlaps(shown, old.shown, old.count)) {
                return Err("has an id in two ranges");
            }
            ranges.push(Range { disk, shown, count });
        }
        self.ranges = ranges;
        Ok(())
    }

    /// Shows every owner as this one.
    pub const fn squash(&mut self, id: u32) {
        self.squash = Some(id);
    }

    /// The id that the mount shows for one of the disk's.
    #[must_use]
    pub fn shown(&self, disk: u32) -> u32 {
        self.squash.unwrap_or_else(|| self.mapped(disk))
    }

    fn mapped(&self, disk: u32) -> u32 {
        self.find(disk, |range| (range.disk, range.shown))
    }

    /// The id that the disk gets for one of a program's.
    #[must_use]
    pub fn meant(&self, shown: u32) -> u32 {
        self.find(shown, |range| (range.shown, range.disk))
    }

    fn find(&self, id: u32, ends: impl Fn(&Range) -> (u32, u32)) -> u32 {
        if self.ranges.is_empty() {
            return id;
        }
        let found = self.ranges.iter().find_map(|range| {
            let (from, to) = ends(range);
            id.checked_sub(from).filter(|offset| *offset < range.count).map(|offset| to.saturating_add(offset))
        });
        found.unwrap_or(OVERFLOW)
    }
}

impl Ids {
    /// The caller as the disk knows it.
    #[must_use]
    pub(super) fn caller(&self, caller: Caller) -> Caller {
        // The further groups of a process are not those of the disk where these are shown as others.
        let process = if *self == Self::default() { caller.process } else { caller.process.map(|_| 0) };
        Caller { uid: self.users.meant(caller.uid), gid: self.groups.meant(caller.gid), process }
    }

    /// The attributes as the mount shows them.
    #[must_use]
    pub(super) fn attr(&self, attr: &Attr) -> Attr {
        Attr { uid: self.users.shown(attr.uid), gid: self.groups.shown(attr.gid), ..*attr }
    }

    /// The value of an extended attribute as the mount shows it: access lists and capabilities have ids in them.
    #[must_use]
    pub(super) fn shown_xattr(&self, name: &[u8], value: Vec<u8>) -> Vec<u8> {
        self.convert(name, value, IdMap::mapped)
    }

    /// The value of an extended attribute as the disk gets it.
    #[must_use]
    pub(super) fn meant_xattr(&self, name: &[u8], value: Vec<u8>) -> Vec<u8> {
        let mut value = self.convert(name, value, IdMap::meant);
        let counts_everywhere = name == CAPABILITY && root_id(&value) == Some(0) && !self.users.ranges.is_empty();
        if counts_everywhere && let Some(revision) = value.get_mut(3) {
            // A capability of the first user namespace has no owner in it.
            *revision = REVISION_2;
            value.truncate(ROOT_ID);
        }
        value
    }

    fn convert(&self, name: &[u8], mut value: Vec<u8>, id: impl Fn(&IdMap, u32) -> u32) -> Vec<u8> {
        if self.users.ranges.is_empty() && self.groups.ranges.is_empty() {
            return value;
        }
        if ACCESS_LISTS.contains(&name) {
            let (entries, _) = value.get_mut(ACL_HEADER..).unwrap_or_default().as_chunks_mut::<ACL_ENTRY>();
            for [low, high, _, _, number @ ..] in entries {
                let map = match u16::from_le_bytes([*low, *high]) {
                    ACL_USER => &self.users,
                    ACL_GROUP => &self.groups,
                    _ => continue,
                };
                *number = id(map, u32::from_le_bytes(*number)).to_le_bytes();
            }
        } else if name == CAPABILITY
            && let Some(root) = root_id(&value)
            && let Some(number) = value.get_mut(ROOT_ID..)
        {
            number.copy_from_slice(&id(&self.users, root).to_le_bytes());
        }
        value
    }
}

/// The owner in a capability of version 3; `None` for another version.
fn root_id(capability: &[u8]) -> Option<u32> {
    let number = capability.get(ROOT_ID..).filter(|_| capability.len() == CAPABILITY_V3)?;
    let is_v3 = capability.get(3) == Some(&REVISION_3);
    Some(u32::from_le_bytes(number.try_into().ok()?)).filter(|_| is_v3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(text: &str) -> IdMap {
        let mut map = IdMap::default();
        map.map(text).unwrap();
        map
    }

    #[test]
    fn a_range_maps_in_both_directions_and_what_is_in_none_is_nobodys() {
        let map = mapped(":0:100000:1000:5000:7:1");
        for (disk, shown) in [(0, 100_000), (999, 100_999), (5000, 7)] {
            assert_eq!((map.shown(disk), map.meant(shown)), (shown, disk));
        }
        for outside in [1000, 4999, 5001, u32::MAX] {
            assert_eq!(map.shown(outside), OVERFLOW);
        }
        for outside in [0, 8, 99_999, 101_000, u32::MAX] {
            assert_eq!(map.meant(outside), OVERFLOW);
        }
        assert_eq!((IdMap::default().shown(5), IdMap::default().meant(5)), (5, 5));
    }

    #[test]
    fn squashing_changes_only_what_is_shown() {
        let mut map = mapped("0:100000:1000");
        map.squash(33);
        assert_eq!((map.shown(0), map.shown(70_000), map.meant(100_001)), (33, 33, 1));
    }

    #[test]
    fn a_mapping_that_is_none_is_refused() {
        for text in ["", "0", "0:1", "0:1:2:3", "a:1:1", "0:1:0", "4294967295:0:2", "0:0:10:5:100:1", "0:0:10:50:9:1"] {
            assert!(IdMap::default().map(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ids_in_attributes_are_mapped_too() {
        let ids = Ids { users: mapped("0:100000:1000"), groups: mapped("0:200000:1000") };
        let acl = |user: u32, group: u32| {
            let mut value = vec![2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 5, 0];
            value.extend(user.to_le_bytes());
            value.extend([8, 0, 5, 0]);
            value.extend(group.to_le_bytes());
            value
        };
        let name = b"system.posix_acl_access";
        assert_eq!(ids.shown_xattr(name, acl(5, 6)), acl(100_005, 200_006));
        assert_eq!(ids.meant_xattr(name, acl(100_005, 200_006)), acl(5, 6));
        assert_eq!(ids.shown_xattr(b"user.x", acl(5, 6)), acl(5, 6));
        let capability = |root: u32| [&[1, 0, 0, 3][..], &[9; 16], &root.to_le_bytes()].concat();
        assert_eq!(ids.meant_xattr(CAPABILITY, capability(100_000)), [&[1, 0, 0, 2][..], &[9; 16]].concat());
        assert_eq!(ids.meant_xattr(CAPABILITY, capability(100_009)), capability(9));
        assert_eq!(ids.shown_xattr(CAPABILITY, capability(9)), capability(100_009));
        assert_eq!(Ids::default().meant_xattr(CAPABILITY, capability(0)), capability(0));
        for odd in [&b""[..], b"\x02\0", b"\x02\0\0\0\x02\0"] {
            assert_eq!(ids.shown_xattr(name, odd.to_vec()), odd);
        }
    }
}
