//! What a report says of the archive itself, before its images.

use serde_json::{Value, json};

use crate::archive::Plans;
use crate::import::{Import, Policy};

impl Import<'_> {
    /// Fields of an object, without its braces.
    pub(super) fn report_head(&self, plans: &Plans, is_refused: bool, is_root_file_system: bool) -> String {
        let policy = if self.options.policy == Policy::Strict { "strict" } else { "compat" };
        let passed_over = plans.notes.iter().map(|note| json!({ "member": note.member, "why": note.why }));
        let config_names = plans.images.iter().filter_map(|plan| plan.config_name.as_deref());
        let lines: [&[(&str, Value)]; 4] = [
            &[("archive", json!(self.archive)), ("policy", json!(policy)), ("refused", json!(is_refused))],
            &[("rootFileSystem", json!(is_root_file_system)), ("spooled", json!(self.is_spooled))],
            &[("passedOver", passed_over.collect())],
            &[("configNames", config_names.collect())],
        ];
        let line = |fields: &&[(&str, Value)]| {
            let fields = fields.iter().map(|(name, value)| format!("\"{name}\": {value}"));
            fields.collect::<Vec<_>>().join(", ")
        };
        lines.iter().map(line).collect::<Vec<_>>().join(",\n")
    }
}
