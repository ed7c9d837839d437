//! What rustix does not say in one call. The only module that may use `unsafe`.

mod allocator;
pub mod call;
mod dir;
mod dir_stack;
pub mod fs;
mod fuse_device;
mod handle;
mod keyring;
mod map;
mod mount;
mod mount_table;
mod open;
mod overlay;
mod own_mount;
mod process;
mod retry;
mod seccomp;
pub mod sha256;
mod socket;
mod super_block;
mod terminal;
mod write_back;
mod xattr;

pub use allocator::map_large_memory;
pub use dir::{Dir, DirEntry};
pub use dir_stack::DirStack;
pub use fuse_device::{clone_fuse_device, close_backing_file, refer_to};
pub use handle::{file_handle, open_fuse_inode};
pub use keyring::new_session_keyring;
pub use map::map;
pub use mount::{detached_read_only, detached_without_access_times, detached_without_programs};
pub use mount_table::{MountLine, mount_id, mount_table, mount_table_at};
pub use open::{find_in_root, open_below, open_beneath, open_in, open_regular};
pub use overlay::{OVERLAY, OVERLAY_MAGIC, Overlay, Upper, is_upper_in_use};
pub use own_mount::{FS_TYPE, is_in_own_mount};
pub use process::{
    close_others, execute, fork, inherited, is_ignored, lift_limits, new_namespaces, pass_on, raise_descriptor_limit,
    unshare_directories,
};
pub use retry::{SystemError, is_want, retry};
pub use seccomp::{Instruction, filter_system_calls};
pub use socket::{peer_process, receive_descriptor, send_descriptor};
pub use super_block::set_read_only;
pub use terminal::{
    Disposition, block_signals_but, is_same_open_file, set_disposition, stop_process_group, terminal_device,
};
pub use write_back::{start_write_back, write_back};
pub use xattr::{
    list_xattrs, list_xattrs_following, proc_path, read_xattr, read_xattr_following, read_xattr_of, read_xattrs,
};
