//! What is executed: the file that a command's first word means, its words and its environment.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Spec;
use crate::error::{Error, Result};
use crate::sys;

const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The operands of execve.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Program {
    /// The command of `spec`, looked up from the root and working directories of this process.
    pub(super) fn find(spec: &Spec, home: &[u8], term: Option<&[u8]>) -> Result<Self> {
        let Some(word) = spec.args.first() else { return Err(Error::Usage("there is no command to run".into())) };
        let name = String::from_utf8_lossy(word).into_owned();
        let env = complete(&spec.env, home, term);
        let path = if word.contains(&b'/') {
            word.clone()
        } else {
            // The first one, as `getenv` has it.
            let path = env.iter().find_map(|entry| entry.strip_prefix(b"PATH=")).unwrap_or(DEFAULT_PATH);
            look_up(word, path, &name)?
        };
        Ok(Self { name, path: c_string(path)?, args: c_strings(&spec.args)?, env: c_strings(&env)? })
    }

    /// Becomes the program. Comes back only with an error.
    pub(super) fn execute(self) -> Error {
        let Self { name: command, path, args, env } = self;
        match sys::execute(&path, &args, &env) {
            source if source.kind() == io::ErrorKind::NotFound => {
                // A script's `#!`, or a program's loader.
                match sys::fs::metadata(OsStr::from_bytes(path.as_bytes())) {
                    Ok(_) => Error::InterpreterNotFound { command },
                    // error: execve(2) has said it already
                    Err(_) => Error::CommandNotFound { command },
                }
            }
            source => Error::CommandNotRunnable { command, source },
        }
    }
}

/// The environment of an image with what every program may count on.
fn complete(env: &[Vec<u8>], home: &[u8], term: Option<&[u8]>) -> Vec<Vec<u8>> {
    let mut env = env.to_vec();
    for (key, value) in [("PATH=", Some(DEFAULT_PATH)), ("HOME=", Some(home)), ("TERM=", term)] {
        if let Some(value) = value.filter(|_| !env.iter().any(|entry| entry.starts_with(key.as_bytes()))) {
            env.push([key.as_bytes(), value].concat());
        }
    }
    env
}

/// The first file in the directories of `path` that may be run. An empty directory is the current one.
fn look_up(word: &[u8], path: &[u8], name: &str) -> Result<Vec<u8>> {
    let mut found = false;
    for dir in path.split(|byte| *byte == b':').filter(|_| !word.is_empty()) {
        let file = Path::new(if dir.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(dir) })
            .join(OsStr::from_bytes(word));
        // error: as execvp(3), which looks in the next directory; execve(2) tells of what is found
        let Ok(metadata) = sys::fs::metadata(&file) else { continue };
        if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
            return Ok(file.into_os_string().into_vec());
        }
        found = true;
    }
    let command = name.to_owned();
    if !found {
        return Err(Error::CommandNotFound { command });
    }
    Err(Error::CommandNotRunnable { command, source: io::Error::from_raw_os_error(libc::EACCES) })
}

fn c_strings(words: &[Vec<u8>]) -> Result<Vec<CString>> {
    words.iter().cloned().map(c_string).collect()
}

fn c_string(word: Vec<u8>) -> Result<CString> {
    CString::new(word).map_err(|error| {
        Error::Usage(format!("a word has a NUL byte in it: {}", String::from_utf8_lossy(&error.into_vec())))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_absent_is_added() {
        let env = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(
            complete(&env(&["A=b", "HOME=", "A=c"]), b"/h", Some(b"vt")),
            env(&["A=b", "HOME=", "A=c", &format!("PATH={}", str::from_utf8(DEFAULT_PATH).unwrap()), "TERM=vt"])
        );
        assert_eq!(complete(&env(&["PATH=/x"]), b"/h", None), env(&["PATH=/x", "HOME=/h"]));
    }

    #[test]
    fn a_command_is_the_first_file_that_may_be_run() {
        let temporary = tempfile::tempdir().unwrap();
        let at = |name: &str| temporary.path().join(name);
        for dir in ["a", "a/dir", "b", "c"] {
            fs::create_dir(at(dir)).unwrap();
        }
        for (file, mode) in [("a/x", 0o644), ("b/x", 0o755), ("c/x", 0o755), ("a/y", 0o644)] {
            fs::write(at(file), "").unwrap();
            fs::set_permissions(at(file), fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = ["missing", "a", "b", "c"].map(|dir| at(dir).to_str().unwrap().to_owned()).join(":");
        let found = |word: &str| look_up(word.as_bytes(), path.as_bytes(), word);
        assert_eq!(found("x").unwrap(), at("b/x").as_os_str().as_bytes());
        assert!(matches!(found("y"), Err(Error::CommandNotRunnable { .. })));
        assert!(matches!(found("dir"), Err(Error::CommandNotRunnable { .. })));
        assert!(matches!(found("z"), Err(Error::CommandNotFound { .. })));
        assert!(matches!(found(""), Err(Error::CommandNotFound { .. })));
    }
}
