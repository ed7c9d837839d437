//! The union's only error: an errno.

use rustix::io::Errno as Raw;

/// A result whose error goes to a program as it is.
pub type FsResult<T> = Result<T, Errno>;

/// An error number of `errno(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

macro_rules! names {
    ($($name:ident = $raw:ident),* $(,)?) => {
        #[allow(missing_docs, reason = "the names are those of errno(3)")]
        impl Errno {
            $(pub const $name: Self = Self(Raw::$raw.raw_os_error());)*
        }
    };
}

names! {
    EACCES = ACCESS, EBUSY = BUSY, EEXIST = EXIST, EFBIG = FBIG, EINVAL = INVAL, EIO = IO, EISDIR = ISDIR,
    ELOOP = LOOP, EMFILE = MFILE, EMLINK = MLINK, ENAMETOOLONG = NAMETOOLONG, ENFILE = NFILE, ENODATA = NODATA,
    ENOENT = NOENT, ENOSPC = NOSPC, ENOSYS = NOSYS, ENOTDIR = NOTDIR, ENOTEMPTY = NOTEMPTY, ENOTSUP = NOTSUP,
    ENXIO = NXIO, EPERM = PERM, ERANGE = RANGE, EROFS = ROFS, ESTALE = STALE, ETXTBSY = TXTBSY, EXDEV = XDEV,
}

impl Errno {
    /// Whether an operation that changes names fails with it only before it has changed anything.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::EEXIST
                | Self::EINVAL
                | Self::EISDIR
                | Self::EMLINK
                | Self::ENAMETOOLONG
                | Self::ENOENT
                | Self::ENOSYS
                | Self::ENOTDIR
                | Self::ENOTEMPTY
                | Self::EPERM
                | Self::EROFS
                | Self::ESTALE
                | Self::EXDEV
        )
    }
}

impl From<Raw> for Errno {
    fn from(raw: Raw) -> Self {
        Self(raw.raw_os_error())
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        error.raw_os_error().map_or(Self::EIO, Self)
    }
}

impl From<Errno> for std::io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}
