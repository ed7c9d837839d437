//! The tree as bytes: written. See [`format`](super::format) for what they are.

use super::building::{Building, Child};
use super::format::{
    DENTRY, FLAG_DIGEST, FLAG_IMPLIED, FLAG_OPAQUE, FormatError, HEADER, Index, MAGIC, NODE, NONE, SUMMED, VERSION,
    crc32, key_of,
};
use super::{NodeId, Xattrs};

fn length32(length: usize) -> Result<u32, FormatError> {
    u32::try_from(length).ok().filter(|length| *length != NONE).ok_or(FormatError::TooLarge)
}

fn encode_extras(target: &[u8], xattrs: &Xattrs, out: &mut Vec<u8>) -> Result<(u32, u32), FormatError> {
    if target.is_empty() && xattrs.is_empty() {
        return Ok((0, 0));
    }
    let start = out.len();
    out.extend(length32(target.len())?.to_le_bytes());
    out.extend(target);
    out.extend(length32(xattrs.len())?.to_le_bytes());
    for (name, value) in xattrs {
        out.extend(u16::try_from(name.len()).map_err(|_| FormatError::TooLarge)?.to_le_bytes());
        out.extend(length32(value.len())?.to_le_bytes());
        out.extend(name);
        out.extend(value);
    }
    Ok((length32(start)?, length32(out.len() - start)?))
}

/// Which nodes can be reached from the root, in the order in which they were made, and their new numbers.
fn number(nodes: &[Building]) -> (Vec<usize>, Vec<u32>) {
    let mut reached = vec![false; nodes.len()];
    let mut todo = vec![0usize];
    while let Some(at) = todo.pop() {
        let (Some(seen), Some(node)) = (reached.get_mut(at), nodes.get(at)) else { continue };
        if !std::mem::replace(seen, true) {
            todo.extend(node.children.values().filter_map(|child| match child {
                Child::Node(id) => Some(id.0 as usize),
                Child::Whiteout => None,
            }));
        }
    }
    let mut numbers = vec![NONE; nodes.len()];
    let mut order = Vec::new();
    for (old, number) in numbers.iter_mut().enumerate() {
        if reached.get(old) == Some(&true) {
            *number = u32::try_from(order.len()).unwrap_or(NONE);
            order.push(old);
        }
    }
    (order, numbers)
}

pub(super) fn encode(nodes: &[Building]) -> Result<Index, FormatError> {
    let (order, numbers) = number(nodes);
    let new_number = |id: NodeId| numbers.get(id.0 as usize).copied().unwrap_or(NONE);

    let (mut dentries, mut names, mut extras) = (Vec::<u8>::new(), Vec::<u8>::new(), Vec::<u8>::new());
    // Per new number: the first dentry of the node's chain, and how many there are.
    let mut chains = vec![(NONE, 0u32); order.len()];
    let mut ranges = vec![(0, 0); order.len()];
    for ((number, old), range) in order.iter().enumerate().zip(&mut ranges) {
        let Some(node) = nodes.get(*old) else { continue };
        *range = (length32(dentries.len() / DENTRY)?, length32(node.children.len())?);
        for (name, child) in &node.children {
            let this = length32(dentries.len() / DENTRY)?;
            let target = match child {
                Child::Node(id) => new_number(*id),
                Child::Whiteout => NONE,
            };
            let next = match chains.get_mut(target as usize) {
                Some((first, count)) => {
                    *count += 1;
                    std::mem::replace(first, this)
                }
                None => NONE,
            };
            dentries.extend(length32(number)?.to_le_bytes());
            dentries.extend(target.to_le_bytes());
            dentries.extend(length32(names.len())?.to_le_bytes());
            dentries.extend(u16::try_from(name.len()).map_err(|_| FormatError::TooLarge)?.to_le_bytes());
            dentries.extend([0; 2]);
            dentries.extend(next.to_le_bytes());
            names.extend(&**name);
        }
    }

    let mut body = Vec::with_capacity(order.len() * NODE + dentries.len() + names.len());
    for ((old, range), (first, count)) in order.iter().zip(&ranges).zip(&chains) {
        let Some(node) = nodes.get(*old) else { continue };
        let meta = &node.new.meta;
        let (extra_at, extra_length) = encode_extras(&node.new.target, &node.new.xattrs, &mut extras)?;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        body.push(meta.kind as u8);
        body.push(
            flag(node.implied, FLAG_IMPLIED)
                | flag(node.opaque, FLAG_OPAQUE)
                | flag(node.new.digest.is_some(), FLAG_DIGEST),
        );
        body.extend([0; 2]);
        for number in [meta.mode, meta.uid, meta.gid, (*count).max(1), meta.rdev.0, meta.rdev.1, meta.mtime.nsec] {
            body.extend(number.to_le_bytes());
        }
        body.extend(meta.mtime.sec.to_le_bytes());
        body.extend(meta.size.to_le_bytes());
        body.extend(meta.blocks.to_le_bytes());
        for number in [extra_at, extra_length, range.0, range.1, *first, 0] {
            body.extend(number.to_le_bytes());
        }
        body.extend(node.new.digest.map_or([0; 32], |digest| *digest.as_bytes()));
    }
    let counts = [order.len(), dentries.len() / DENTRY, names.len(), extras.len()];
    body.extend(dentries);
    body.extend(names);
    body.extend(extras);

    let key = key_of(&body);
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(key.to_le_bytes());
    for count in counts {
        bytes.extend(length32(count)?.to_le_bytes());
    }
    bytes.extend([0; 24]);
    bytes.extend(body);
    let sum = bytes.get(SUMMED..).map(crc32).unwrap_or_default();
    if let Some(slot) = bytes.get_mut(12..SUMMED) {
        slot.copy_from_slice(&sum.to_le_bytes());
    }
    Index::decode(bytes)
}
