//! Directories that are in a mount of this program.

use std::io;
use std::path::Path;

use rustix::fs::FsWord;
use rustix::io::Errno;

use super::call;

/// The type that `mount(8)` and `/proc/mounts` show for mounts of ours.
pub const FS_TYPE: &str = "fuse.layerctl";
/// `FUSE_SUPER_MAGIC` (include/uapi/linux/magic.h).
const FUSE_MAGIC: FsWord = 0x6573_5546;

/// Whether `path`, or the nearest directory above it that is there, is in a mount of ours. Names that begin with `.wh.`
/// cannot be made there.
///
/// # Errors
/// As `statfs(2)` and `stat(2)`; what reading `/proc/self/mountinfo` gives.
pub fn is_in_own_mount(path: &Path) -> io::Result<bool> {
    for dir in path.ancestors() {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match call::statfs(dir) {
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
            Ok(found) if found.f_type != FUSE_MAGIC => return Ok(false),
            Ok(_) => {
                let device = call::stat(dir)?.st_dev;
                return has_own_type(&std::fs::read("/proc/self/mountinfo")?, device);
            }
        }
    }
    Ok(false)
}

/// Whether the mount table (proc(5)) has a mount of ours with this device number.
fn has_own_type(table: &[u8], device: u64) -> io::Result<bool> {
    let device = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    for line in table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let mut fields = line.split(|byte| *byte == b' ');
        let of = fields.nth(2);
        let fs_type = fields.skip_while(|field| *field != b"-").nth(1);
        let (Some(of), Some(fs_type)) = (of, fs_type) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "/proc/self/mountinfo has a line that is no mount"));
        };
        if of == device.as_bytes() {
            return Ok(fs_type == FS_TYPE.as_bytes());
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mount_of_ours_is_one() {
        let table = b"21 1 8:1 / / rw - ext4 /dev/vda1 rw\n36 21 0:41 / /mnt rw shared:1 - fuse.layerctl box rw\n\
            37 21 0:42 / /sshfs rw - fuse.sshfs host rw\n";
        let is_own = |major, minor| has_own_type(table, rustix::fs::makedev(major, minor)).unwrap();
        assert_eq!([is_own(8, 1), is_own(0, 41), is_own(0, 42), is_own(9, 9)], [false, true, false, false]);
        assert!(has_own_type(b"garbage\n", 1).is_err());
        assert!(!is_in_own_mount(Path::new("/proc/none/such")).unwrap());
        assert!(!is_in_own_mount(Path::new("none/such")).unwrap());
    }
}
