//! A document, read as Go reads it: as a config, and written with each field once.

use layerctl::image::{CONFIG, ImageConfig};
use layerctl::json;
use serde_json::Value;

use super::is_one_sentence;

/// What is empty and what is not there are the same.
fn normal(mut config: ImageConfig) -> ImageConfig {
    let mut process = config.config.take().unwrap_or_default();
    for words in [&mut process.env, &mut process.entrypoint, &mut process.cmd] {
        *words = words.take().filter(|words| !words.is_empty());
    }
    process.labels = process.labels.take().filter(|labels| !labels.is_empty());
    config.rootfs.diff_ids = config.rootfs.diff_ids.take().filter(|layers| !layers.is_empty());
    config.config = Some(process);
    config
}

pub(crate) fn run(data: &[u8]) -> bool {
    let config = ImageConfig::parse(data);
    if let Err(why) = &config {
        assert!(!why.is_empty());
    }
    let canonical = match json::canonical(data, &CONFIG) {
        Ok(canonical) => canonical,
        Err(error) => {
            is_one_sentence(&error.to_string().replace(char::is_control, "?").chars().take(1000).collect::<String>());
            return false;
        }
    };
    let bytes = canonical.to_string().into_bytes();
    let again = json::canonical(&bytes, &CONFIG).expect("what was written can be read");
    assert_eq!(again, canonical, "a document with each field once is as it is");
    let plain: Value = serde_json::from_slice(&bytes).expect("it is JSON");
    assert_eq!(plain, canonical);
    let Ok(config) = config else { return false };
    let written = ImageConfig::parse(&bytes).expect("it says the same");
    assert_eq!(normal(written), normal(config), "it says the same");
    true
}
