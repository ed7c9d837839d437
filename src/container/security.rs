//! The security options of a command: `--security-opt`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The options of `--security-opt`, as docker spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// Whether the system calls are filtered.
    pub seccomp: bool,
    /// Whether set-user-id programs and file capabilities give the command no privileges (`no_new_privs`).
    pub no_new_privileges: bool,
}

impl Default for Security {
    fn default() -> Self {
        Self { seccomp: true, no_new_privileges: false }
    }
}

impl Security {
    /// The defaults with these options, of which the last one of a kind holds.
    ///
    /// # Errors
    /// [`Error::Usage`] for any other option.
    pub fn parse<S: AsRef<str>>(options: &[S]) -> Result<Self> {
        options.iter().try_fold(Self::default(), |security, option| security.with(option.as_ref()))
    }

    fn with(self, option: &str) -> Result<Self> {
        // docker took a colon before it took an equals sign, and still does.
        let (key, value) = option.split_once(['=', ':']).map_or((option, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("seccomp", Some("unconfined")) => Ok(Self { seccomp: false, ..self }),
            ("seccomp", Some("builtin")) => Ok(Self { seccomp: true, ..self }),
            ("no-new-privileges", None | Some("true" | "1")) => Ok(Self { no_new_privileges: true, ..self }),
            ("no-new-privileges", Some("false" | "0")) => Ok(Self { no_new_privileges: false, ..self }),
            _ => Err(Error::Usage(format!(
                "--security-opt takes seccomp=unconfined, seccomp=builtin and no-new-privileges[=false], not {option}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_docker() {
        let parsed =
            |options: &[&str]| Security::parse(options).map(|security| (security.seccomp, security.no_new_privileges));
        for (options, expected) in [
            (&[][..], (true, false)),
            (&["seccomp=unconfined"], (false, false)),
            (&["seccomp:unconfined"], (false, false)),
            (&["seccomp=unconfined", "seccomp=builtin"], (true, false)),
            (&["no-new-privileges"], (true, true)),
            (&["no-new-privileges:true", "seccomp=unconfined"], (false, true)),
            (&["no-new-privileges=true", "no-new-privileges=false"], (true, false)),
        ] {
            assert_eq!(parsed(options).unwrap(), expected, "{options:?}");
        }
        for option in ["", "seccomp", "seccomp=profile.json", "no-new-privileges=maybe", "apparmor=x", "unconfined"] {
            assert!(matches!(parsed(&[option]), Err(Error::Usage(_))), "{option}");
        }
    }
}
