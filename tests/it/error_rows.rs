//! The tables of what each command does in each situation.

/// What a command does in a situation.
#[derive(Clone, Copy)]
pub(crate) enum Expect {
    /// This exit status, one sentence with these words, and nothing changed.
    Refuse(i32, &'static [&'static str]),
    /// It works, whatever else is wrong.
    Work,
    /// It works, and changes nothing.
    Look,
    /// It has found damage.
    Find,
    /// It says no by its exit status, and nothing else.
    Deny,
    /// The situation does not touch it.
    Impossible,
}
use Expect::{Deny, Find, Impossible, Look, Refuse, Work};

/// A command, its words, and what it does.
pub(crate) type Row = (&'static str, &'static [&'static str], Expect);

const NO: Expect = Refuse(1, &["no such", "nowhere"]);
const IN_USE: Expect = Refuse(125, &["in use"]);
const DAMAGED: Expect = Refuse(125, &["damaged"]);
const FULL: Expect = Refuse(125, &["cannot ", "No space left on device"]);

pub(crate) const UNKNOWN_NAME: &[Row] = &[
    ("import", &["nowhere"], NO),
    ("build", &["nowhere"], NO),
    ("build", &["--from", "nowhere", "dir"], NO),
    ("build", &["--config-from", "nowhere", "dir"], NO),
    ("images", &[], Impossible),
    ("rmi", &["nowhere"], NO),
    ("run-mount", &["nowhere"], NO),
    ("ps", &[], Impossible),
    ("umount", &["nowhere"], NO),
    ("commit", &["nowhere"], NO),
    ("rm", &["nowhere"], NO),
    ("save", &["nowhere", "-o", "out"], NO),
    ("export", &["nowhere", "-o", "out"], NO),
    ("cp", &["nowhere:/etc/plain", "out"], NO),
    ("cp", &["nowhere", "box:/tmp"], NO),
    ("cp", &["box:/nowhere", "out"], NO),
    ("inspect", &["nowhere"], NO),
    ("union", &["-o", "lowerdir=nowhere", "mnt"], NO),
    ("union", &["-o", "lowerdir=.", "nowhere"], NO),
    ("layers", &[], Impossible),
    ("df", &[], Impossible),
    ("prune", &[], Impossible),
    ("verify", &["nowhere"], NO),
    ("verify", &["--repair", "--from", "nowhere"], NO),
    ("tag", &["nowhere", "name:1"], NO),
    ("untag", &["nowhere"], NO),
    ("exists", &["nowhere"], Deny),
    ("history", &["nowhere"], NO),
    ("diff", &["nowhere"], NO),
    ("diff", &["used:1", "nowhere"], NO),
    ("explain", &["nowhere", "/etc"], NO),
    ("explain", &["used:1", "/nowhere"], NO),
];

/// An image's name is taken from who had it, as with Docker; a container's is not.
pub(crate) const NAME_IN_USE: &[Row] = &[
    ("import", &["new.tar", "-t", "used:1"], Work),
    ("build", &["-t", "used:1", "dir"], Work),
    ("images", &[], Impossible),
    ("rmi", &["used:1"], IN_USE),
    ("run-mount", &["--name", "box", "free:latest"], Refuse(125, &["container box exists already"])),
    ("ps", &[], Impossible),
    ("umount", &[], Impossible),
    ("commit", &["box", "-t", "free:latest"], Work),
    ("rm", &[], Impossible),
    ("save", &["used:1", "-o", "dir"], Refuse(125, &["dir"])),
    ("export", &["box", "-o", "dir"], Refuse(125, &["dir"])),
    ("cp", &["box:/etc", "file"], Refuse(125, &["file"])),
    ("inspect", &[], Impossible),
    ("union", &[], Impossible),
    ("layers", &[], Impossible),
    ("df", &[], Impossible),
    ("prune", &[], Impossible),
    ("verify", &[], Impossible),
    ("tag", &["used:1", "free:latest"], Work),
    ("untag", &[], Impossible),
    ("exists", &[], Impossible),
    ("history", &[], Impossible),
    ("diff", &["used:1", "--tar", "-o", "dir"], Refuse(125, &["dir"])),
    ("explain", &[], Impossible),
];

/// The container is mounted, and a process has a file of it open.
pub(crate) const CONTAINER_RUNNING: &[Row] = &[
    ("import", &["new.tar"], Work),
    ("build", &["--from", "used:1", "dir"], Work),
    ("images", &[], Look),
    ("rmi", &["used:1"], IN_USE),
    ("run-mount", &["--name", "box"], IN_USE),
    ("run-mount", &["--name", "box", "used:1"], IN_USE),
    ("ps", &[], Look),
    ("umount", &["box"], IN_USE),
    ("commit", &["box"], Work),
    ("rm", &["box"], IN_USE),
    ("save", &["used:1", "-o", "out"], Look),
    ("export", &["box", "-o", "out"], Look),
    ("cp", &["box:/etc/noted", "out"], Look),
    ("inspect", &["box"], Look),
    ("union", &["-o", "lowerdir=nowhere", "mnt"], NO),
    ("layers", &[], Look),
    ("df", &[], Look),
    ("prune", &["--all", "--containers"], Work),
    ("verify", &[], Look),
    ("verify", &["--repair"], Look),
    ("tag", &["used:1", "name:1"], Work),
    ("untag", &["free:latest"], Work),
    ("exists", &["box"], Look),
    ("history", &["used:1"], Look),
    ("diff", &["box"], Look),
    ("explain", &["box", "/etc/noted"], Look),
];

/// Index, split and a file of a layer are damaged.
pub(crate) const BROKEN_LAYER: &[Row] = &[
    ("import", &["used.tar"], Work),
    ("build", &["--from", "used:1", "dir"], Work),
    ("images", &[], Look),
    ("rmi", &["free:latest"], Work),
    ("run-mount", &["used:1"], DAMAGED),
    ("run-mount", &["--name", "box"], DAMAGED),
    ("run-mount", &["--rm", "used:1", "--", "true"], DAMAGED),
    ("ps", &[], Look),
    ("umount", &["box"], Refuse(1, &["box"])),
    ("commit", &["box"], DAMAGED),
    ("rm", &["box"], Work),
    ("save", &["used:1", "-o", "out"], DAMAGED),
    ("export", &["box", "-o", "out"], DAMAGED),
    ("export", &["used:1", "-o", "out"], DAMAGED),
    ("cp", &["box:/etc/noted", "out"], DAMAGED),
    ("cp", &["file", "box:/tmp"], DAMAGED),
    ("inspect", &["used:1"], Look),
    ("union", &[], Impossible),
    ("layers", &[], Look),
    ("df", &[], Look),
    ("prune", &["--all"], Work),
    ("verify", &[], Find),
    ("verify", &["--repair"], Find),
    ("tag", &["used:1", "name:1"], Work),
    ("untag", &["used:1"], Work),
    ("exists", &["used:1"], Look),
    ("history", &["used:1"], Look),
    ("diff", &["used:1"], DAMAGED),
    ("diff", &["box"], DAMAGED),
    ("explain", &["used:1", "/etc/noted"], DAMAGED),
];

/// Neither a block nor an inode is left where the store is.
pub(crate) const FULL_DISK: &[Row] = &[
    ("import", &["new.tar"], FULL),
    ("build", &["--from", "used:1", "dir"], FULL),
    ("build", &["new.tar"], FULL),
    ("images", &[], Look),
    ("rmi", &["free:latest"], Work),
    ("run-mount", &["used:1"], FULL),
    ("ps", &[], Look),
    ("umount", &["nowhere"], NO),
    ("commit", &["box"], FULL),
    ("rm", &["box"], Work),
    ("save", &["used:1", "-o", "disk/out"], FULL),
    ("export", &["used:1", "-o", "disk/out"], FULL),
    ("cp", &["file", "box:/etc"], FULL),
    ("cp", &["used.tar", "box:/etc"], FULL),
    ("cp", &["box:/etc/noted", "disk/out"], FULL),
    ("inspect", &["used:1"], Look),
    ("union", &[], Impossible),
    ("layers", &[], Look),
    ("df", &[], Look),
    ("prune", &["--all"], Work),
    ("verify", &[], Look),
    ("verify", &["--repair"], FULL),
    ("tag", &["used:1", "name:1"], FULL),
    ("untag", &["free:latest"], Work),
    ("exists", &["used:1"], Look),
    ("history", &["used:1"], Look),
    ("diff", &["used:1"], Look),
    ("diff", &["used:1", "--tar", "-o", "disk/out"], FULL),
    ("explain", &["used:1", "/etc/noted"], Look),
];

/// What says something says it to a disk that is full.
pub(crate) const FULL_OUTPUT: &[Row] = &[
    ("images", &[], FULL),
    ("ps", &[], FULL),
    ("save", &["used:1"], FULL),
    ("export", &["used:1"], FULL),
    ("cp", &["box:/etc", "-"], FULL),
    ("inspect", &["used:1"], FULL),
    ("layers", &[], FULL),
    ("df", &[], FULL),
    ("history", &["used:1"], FULL),
    ("diff", &["used:1"], FULL),
    ("diff", &["used:1", "--tar"], FULL),
    ("explain", &["used:1", "/etc/noted"], FULL),
];

/// All of them, as a user who may not open the store.
pub(crate) const WORDS: &[(&str, &[&str])] = &[
    ("import", &["new.tar"]),
    ("build", &["dir"]),
    ("images", &[]),
    ("rmi", &["used:1"]),
    ("run-mount", &["used:1"]),
    ("ps", &[]),
    ("umount", &["box"]),
    ("commit", &["box"]),
    ("rm", &["box"]),
    ("save", &["used:1"]),
    ("export", &["used:1"]),
    ("cp", &["box:/etc", "-"]),
    ("inspect", &["used:1"]),
    ("union", &["-o", "lowerdir=.", "mnt"]),
    ("layers", &[]),
    ("df", &[]),
    ("prune", &["--all"]),
    ("verify", &[]),
    ("tag", &["used:1", "name:1"]),
    ("untag", &["used:1"]),
    ("exists", &["used:1"]),
    ("history", &["used:1"]),
    ("diff", &["used:1"]),
    ("explain", &["used:1", "/etc"]),
];
