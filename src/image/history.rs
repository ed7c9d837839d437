//! The history in an image's config (OCI `config.md`, "history"): which step made which layer.

use serde_json::Value;

use crate::id::DiffId;
use crate::image::CONFIG;
use crate::json;

/// One step of how an image was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryStep {
    /// When, in RFC 3339.
    pub created: Option<String>,
    /// By which command.
    pub created_by: Option<String>,
    /// The author.
    pub author: Option<String>,
    /// What was said of it.
    pub comment: Option<String>,
    /// The layer that it made; `None` for a step that changed no file, or more of which are told than there are layers.
    pub layer: Option<DiffId>,
    /// Whether it says that it changed no file.
    pub is_empty: bool,
}

/// The steps, the first one first. Whatever the config tells, every layer is in one: those of which it tells nothing
/// come last. A malformed value is treated as missing: builders do not check a history when they make an image.
#[must_use]
pub fn history(config: &[u8], layers: &[DiffId]) -> Vec<HistoryStep> {
    let config: Value = json::canonical(config, &CONFIG).unwrap_or_default();
    let told = config.get("history").and_then(Value::as_array);
    let mut layers = layers.iter().copied();
    let mut steps: Vec<HistoryStep> = Vec::new();
    for step in told.into_iter().flatten() {
        let text = |field: &str| step.get(field).and_then(Value::as_str).map(str::to_owned);
        let is_empty = step.get("empty_layer").and_then(Value::as_bool).unwrap_or_default();
        steps.push(HistoryStep {
            created: text("created"),
            created_by: text("created_by"),
            author: text("author"),
            comment: text("comment"),
            layer: if is_empty { None } else { layers.next() },
            is_empty,
        });
    }
    steps.extend(layers.map(|layer| HistoryStep { layer: Some(layer), ..HistoryStep::default() }));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;

    #[test]
    fn every_layer_is_in_one_step() {
        let layers = [b"a", b"b"].map(|bytes| DiffId(Digest::of(bytes)));
        let made = |config: &str| -> Vec<Option<DiffId>> {
            history(config.as_bytes(), &layers).iter().map(|step| step.layer).collect()
        };
        let [a, b] = layers.map(Some);
        for (config, wanted) in [
            (r#"{"history":[{},{"empty_layer":true},{"created_by":"x"}]}"#, vec![a, None, b]),
            (r#"{"history":[{}]}"#, vec![a, b]),
            (r#"{"history":[{},{},{}]}"#, vec![a, b, None]),
            (r#"{"history":null}"#, vec![a, b]),
            (r#"{"History":[{},{"Empty_Layer":true},{}]}"#, vec![a, None, b]),
            (r#"{"history":[1,{"created_by":7,"empty_layer":"yes"}]}"#, vec![a, b]),
            ("{}", vec![a, b]),
            ("no JSON", vec![a, b]),
        ] {
            assert_eq!(made(config), wanted, "{config}");
        }
    }
}
