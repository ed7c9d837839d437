//! Text that should be a digest, a name, a platform.

use std::str::FromStr;

use layerctl::archive::{named_digest, normal_name};
use layerctl::id::{ContainerId, Digest, ImageName};
use layerctl::image::Platform;

use super::is_one_sentence;

pub(crate) fn run(data: &[u8]) -> bool {
    let name = normal_name(data);
    assert_eq!(normal_name(name.as_bytes()), name, "a normal name is one");
    assert!(!name.starts_with('/') && !name.ends_with('/') && !name.contains("//"));
    let digest = named_digest(&name);
    if let Some(digest) = digest {
        assert!(name.contains(&digest.hex()), "a digest that the name does not have");
    }
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let mut understood = digest.is_some() || comes_back::<Digest>(text).is_some();
    understood |= comes_back::<ContainerId>(text).is_some() | comes_back::<Platform>(text).is_some();
    if let Some(name) = comes_back::<ImageName>(text) {
        understood = true;
        assert!(text.len() <= 255 + 1 + 128, "a name that is too long");
        assert!(
            name.repository().split('/').all(|part| !matches!(part, "" | "." | "..")),
            "a path that leads elsewhere"
        );
    }
    if let Ok(digest) = Digest::from_hex(text) {
        assert_eq!(digest.hex(), text, "a digest has one spelling");
    }
    understood
}

/// What was understood is understood as the same when it is shown.
fn comes_back<T: FromStr + ToString + PartialEq>(text: &str) -> Option<T>
where
    T::Err: std::fmt::Display,
{
    match text.parse::<T>() {
        Ok(value) => {
            let again = value.to_string().parse::<T>();
            assert!(again.is_ok_and(|again| again == value), "{text:?} is shown as something else");
            Some(value)
        }
        Err(error) => {
            is_one_sentence(&error);
            None
        }
    }
}
