//! From what the union gives to a reply.

use std::time::Duration;

use fuser::{ReplyAttr, ReplyEmpty, ReplyEntry, ReplyWrite, ReplyXattr};

use super::attr_invalidation::Answer;
use super::filesystem::Filesystem;
use super::renew::{self, When};
use super::value::{AT_ONCE, FOREVER, generation, reply as errno};
use crate::index::Kind;
use crate::union::{Attr, Errno, FsResult, Ino, SetAttr};

pub(super) fn empty(result: FsResult<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn written(result: FsResult<u64>, reply: ReplyWrite) {
    match result {
        Ok(length) => reply.written(u32::try_from(length).unwrap_or(u32::MAX)),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn attribute(result: FsResult<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match result {
        Err(error) => reply.error(errno(error)),
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > size as usize => reply.error(errno(Errno::ERANGE)),
        Ok(value) => reply.data(&value),
    }
}

/// Records that the kernel is about to get these attributes, if they are a directory's.
pub(super) fn record_attr(answer: &Answer<'_>, result: FsResult<Attr>) -> FsResult<Attr> {
    // error: it goes on with the result.
    if let Ok(attr) = &result
        && attr.kind == Kind::Directory
    {
        answer.has(attr.ino);
    }
    result
}

impl Filesystem {
    pub(super) fn entry(&self, result: FsResult<Attr>, reply: ReplyEntry) {
        match result {
            Ok(attr) => {
                reply.entry_with_ttls(&self.valid(attr.ino), &FOREVER, &self.file_attr(&attr), generation(&attr));
            }
            Err(error) => reply.error(errno(error)),
        }
    }

    pub(super) fn attributes(&self, result: FsResult<Attr>, reply: ReplyAttr) {
        match result {
            Ok(attr) => reply.attr(&self.valid(attr.ino), &self.file_attr(&attr)),
            Err(error) => reply.error(errno(error)),
        }
    }

    /// The reply to a change of attributes.
    pub(super) fn set_attributes(&self, ino: Ino, set: &SetAttr, result: FsResult<Attr>, reply: ReplyAttr) {
        let needed = match &result {
            Ok(attr) if self.negotiated.writeback => renew::is_needed(set, attr),
            // error: it is told to the caller below.
            _ => None,
        };
        let Some(when) = needed else { return self.attributes(result, reply) };
        let valid = self.valid(ino);
        let result = result.map(|attr| self.file_attr(&attr));
        let answer = move || match result {
            Ok(attr) => reply.attr(&valid, &attr),
            Err(error) => reply.error(errno(error)),
        };
        match when {
            When::BeforeReply => {
                renew::wait(&renew::renew(&self.renewals, &self.union, ino));
                answer();
            }
            When::AfterReply => {
                answer();
                drop(renew::renew(&self.renewals, &self.union, ino));
            }
        }
    }

    /// How long an inode's attributes are what they are now, if no message changes them.
    pub(super) fn valid(&self, ino: Ino) -> Duration {
        if self.open_files.as_ref().is_some_and(|open_files| open_files.is_written(ino)) { AT_ONCE } else { FOREVER }
    }
}
