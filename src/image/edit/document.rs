//! The config that is being made.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::id::{DiffId, ImageId};
use crate::image::edit::instruction::expanded;
use crate::image::edit::setting::Setting;
use crate::image::edit::value::{directory, list, object};
use crate::image::{CONFIG, ImageConfig, PROCESS, Platform};
use crate::json;
use crate::timestamp::{now, rfc3339, source_date_epoch};

/// One entry of the history.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    /// What made it.
    pub(crate) by: &'static str,
    /// Whether it has a layer.
    pub(crate) has_layer: bool,
}

/// A config, before it has its layers.
#[derive(Debug)]
pub(crate) struct Document {
    fields: Map<String, Value>,
    created: Option<String>,
    comment: Option<String>,
}

/// Of a config in a file these are taken beside its `config`.
const TAKEN: [&str; 6] = ["author", "architecture", "os", "variant", "os.version", "os.features"];
/// Objects whose order says nothing.
const UNORDERED: [&str; 3] = ["Labels", "ExposedPorts", "Volumes"];

impl Document {
    /// That of an image of nothing.
    pub(crate) fn new(platform: &Platform) -> Self {
        let mut fields = Map::new();
        // First, as others write it; set at the end.
        fields.insert("created".into(), Value::Null);
        fields.insert("architecture".into(), platform.architecture.clone().into());
        fields.insert("os".into(), platform.os.clone().into());
        fields.extend(platform.variant.clone().map(|variant| ("variant".to_owned(), variant.into())));
        fields.insert("config".into(), json!({}));
        Self { fields, created: None, comment: None }
    }

    /// That of the image `id`, whose config has these bytes.
    pub(crate) fn of(id: ImageId, config: &[u8]) -> Result<Self> {
        let broken = |why: String| Error::corrupt(format!("image {id}"), why);
        let parsed = ImageConfig::parse(config).map_err(broken)?;
        let Value::Object(mut fields) = json::canonical(config, &CONFIG).map_err(|error| broken(error.to_string()))?
        else {
            return Err(broken("is no image config: it is no JSON object".into()));
        };
        // An image may do without a history; one that begins in the middle would be another layer's.
        let layers = parsed.diff_ids().len();
        if !fields.get("history").is_some_and(Value::is_array) {
            fields.insert("history".into(), vec![json!({}); layers].into());
        }
        Ok(Self { fields, created: None, comment: None })
    }

    /// Takes the config that the content of `file` is in place of the one that is there: an image's, or the `config` of one.
    pub(crate) fn take_config(&mut self, file: &Path, bytes: &[u8]) -> Result<()> {
        let bad = |why: &str| Error::bad_archive(file.display().to_string(), why);
        let read = |shape| json::canonical(bytes, shape).map_err(|error| bad(&format!("is no image config: {error}")));
        let Value::Object(given) = read(&CONFIG)? else {
            return Err(bad("is no image config: it is no JSON object"));
        };
        let inner = match given.get("config") {
            Some(Value::Object(inner)) => inner.clone(),
            Some(Value::Null) => Map::new(),
            Some(_) => return Err(bad("is no image config: its config is no object")),
            None if given.contains_key("rootfs") || given.contains_key("architecture") => Map::new(),
            None => match read(&PROCESS)? {
                Value::Object(inner) => inner,
                _ => Map::new(),
            },
        };
        let is_whole =
            given.contains_key("config") || given.contains_key("rootfs") || given.contains_key("architecture");
        for field in TAKEN.iter().filter(|_| is_whole) {
            if let Some(value) = given.get(*field) {
                self.fields.insert((*field).to_owned(), value.clone());
            }
        }
        self.fields.insert("config".into(), inner.into());
        // What we would not understand in an image is not made one.
        let probe = json!({ "config": self.fields.get("config"), "rootfs": {} }).to_string();
        ImageConfig::parse(probe.as_bytes()).map(drop).map_err(|why| bad(&why))
    }

    /// Sets what the user has set, in this order.
    ///
    /// # Errors
    /// [`Error::Usage`] for an instruction that makes no sense with the variables of this image.
    pub(crate) fn apply(&mut self, settings: &[Setting]) -> Result<()> {
        // As Docker has it: the old Cmd would be arguments of the new Entrypoint.
        let sets = |field| settings.iter().any(|one| matches!(one, Setting::Config(set, _) if *set == field));
        if sets("Entrypoint") && !sets("Cmd") {
            self.set(&Setting::Config("Cmd", Value::Null));
        }
        for setting in settings {
            match setting {
                // An instruction has the variables of those before it, and not its own.
                Setting::Instruction { name, rest } => {
                    let made = expanded(name, rest, &|name| self.variable(name))?;
                    made.iter().for_each(|setting| self.set(setting));
                }
                setting => self.set(setting),
            }
        }
        let Some(config) = object(&mut self.fields, "config").filter(|_| !settings.is_empty()) else { return Ok(()) };
        for field in UNORDERED {
            if let Some(members) = config.get_mut(field).and_then(Value::as_object_mut) {
                members.sort_keys();
            }
        }
        config.sort_keys();
        Ok(())
    }

    /// What a variable of the image's Env is.
    fn variable(&self, name: &str) -> Option<String> {
        let variables = self.fields.get("config")?.get("Env")?.as_array()?;
        let of = |line: &Value| {
            line.as_str()?.split_once('=').filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        variables.iter().find_map(of)
    }

    fn set(&mut self, setting: &Setting) {
        match setting {
            Setting::Image(field, value) => put(&mut self.fields, field, value),
            Setting::Created(time) => self.created = Some(time.clone()),
            Setting::Comment(text) => self.comment = Some(text.clone()).filter(|text| !text.is_empty()),
            inner => {
                if let Some(config) = object(&mut self.fields, "config") {
                    set_inner(config, inner);
                }
            }
        }
    }

    /// Adds to the history what was not set as a comment.
    pub(crate) fn set_comment(&mut self, comment: Option<String>) {
        self.comment = comment.or_else(|| self.comment.take());
    }

    /// The bytes, for an image of these layers, of which the last ones are the steps'.
    pub(crate) fn finish(self, layers: &[DiffId], steps: &[Step]) -> Result<Vec<u8>> {
        let Self { mut fields, created, comment } = self;
        let created = match created {
            Some(created) => created,
            None => rfc3339(source_date_epoch()?.unwrap_or_else(now)),
        };
        let author =
            fields.get("author").filter(|author| author.as_str().is_some_and(|text| !text.is_empty())).cloned();
        fields.insert("created".into(), created.clone().into());
        fields.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": layers }));
        let last = steps.len().saturating_sub(1);
        if let Some(history) = list(&mut fields, "history") {
            for (number, Step { by, has_layer }) in steps.iter().enumerate() {
                let mut step = Map::new();
                step.insert("created".into(), created.clone().into());
                step.insert("created_by".into(), (*by).into());
                step.extend(author.clone().map(|author| ("author".to_owned(), author)));
                let comment = comment.clone().filter(|_| number == last);
                step.extend(comment.map(|comment| ("comment".to_owned(), comment.into())));
                step.extend(Some(("empty_layer".to_owned(), true.into())).filter(|_| !has_layer));
                history.push(step.into());
            }
        }
        serde_json::to_vec(&fields).map_err(|error| Error::Unsupported(format!("cannot write a config: {error}")))
    }
}

fn put(fields: &mut Map<String, Value>, field: &str, value: &Value) {
    if value.is_null() {
        // What stays keeps its order.
        fields.shift_remove(field);
    } else {
        fields.insert(field.to_owned(), value.clone());
    }
}

fn set_inner(config: &mut Map<String, Value>, setting: &Setting) {
    match setting {
        Setting::Config(field, value) => put(config, field, value),
        Setting::Member { field, key, value } => {
            if let Some(members) = object(config, field) {
                members.insert(key.clone(), value.clone());
            }
        }
        Setting::Item(field, text) => {
            if let Some(items) = list(config, field) {
                items.push(text.clone().into());
            }
        }
        Setting::Env { name, value } => {
            let is_it = |known: &&mut Value| {
                known.as_str().and_then(|known| known.split_once('=')).is_some_and(|(known, _)| known == name)
            };
            let line = Value::from(format!("{name}={value}"));
            if let Some(variables) = list(config, "Env") {
                match variables.iter_mut().find(is_it) {
                    Some(known) => *known = line,
                    None => variables.push(line),
                }
            }
        }
        Setting::WorkingDir(path) if path.is_empty() => put(config, "WorkingDir", &Value::Null),
        Setting::WorkingDir(path) => {
            let base = config.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
            put(config, "WorkingDir", &directory(base, path).into());
        }
        Setting::Image(..) | Setting::Created(_) | Setting::Comment(_) | Setting::Instruction { .. } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Digest;

    fn document(config: &str) -> Document {
        let text = format!(r#"{{"os":"linux","architecture":"amd64","config":{config},"rootfs":{{"diff_ids":[]}}}}"#);
        Document::of(ImageId(Digest::of(b"")), text.as_bytes()).unwrap()
    }

    fn after(config: &str, settings: &[&str]) -> Value {
        let mut document = document(config);
        let settings: Vec<Setting> = settings.iter().flat_map(|text| Setting::parse(text).unwrap()).collect();
        document.apply(&settings).unwrap();
        document.fields["config"].clone()
    }

    #[test]
    fn what_is_set_takes_the_place_of_what_was_there() {
        let base = r#"{"Env":["A=1","B=2"],"Cmd":["x"],"WorkingDir":"/w","Healthcheck":{"Test":["NONE"]}}"#;
        let config = after(base, &["Env=A=3", "Env=C=4", "WorkingDir=sub", "User=1:2"]);
        assert_eq!(config["Env"], json!(["A=3", "B=2", "C=4"]));
        assert_eq!((&config["WorkingDir"], &config["User"]), (&json!("/w/sub"), &json!("1:2")));
        assert_eq!((&config["Cmd"], &config["Healthcheck"]), (&json!(["x"]), &json!({"Test": ["NONE"]})));
    }

    #[test]
    fn a_new_entrypoint_has_no_arguments_of_the_old_command() {
        assert_eq!(after(r#"{"Cmd":["x"]}"#, &["Entrypoint=[\"e\"]"]), json!({"Entrypoint": ["e"]}));
        let both = after(r#"{"Cmd":["x"]}"#, &["Cmd=[\"c\"]", "Entrypoint=[\"e\"]"]);
        assert_eq!(both, json!({"Cmd": ["c"], "Entrypoint": ["e"]}));
    }

    #[test]
    fn an_instruction_has_the_variables_of_the_image_and_of_those_before_it() {
        let mut document = document(r#"{"Env":["PATH=/bin","A=1"]}"#);
        let changes = [
            "ENV PATH=$PATH:/opt A=2 B=$A",
            "ENV C=$A$B",
            "WORKDIR /w/$C",
            "EXPOSE ${A}0",
            "LABEL x=${NONE:-y}",
            "CMD echo $A",
        ];
        let settings: Vec<Setting> =
            changes.iter().flat_map(|text| crate::image::edit::instruction(text).unwrap()).collect();
        document.apply(&settings).unwrap();
        let config = &document.fields["config"];
        assert_eq!(config["Env"], json!(["PATH=/bin:/opt", "A=2", "B=1", "C=21"]));
        assert_eq!((&config["WorkingDir"], &config["Labels"]), (&json!("/w/21"), &json!({"x": "y"})));
        assert_eq!(config["ExposedPorts"], json!({"20/tcp": {}}));
        assert_eq!(config["Cmd"], json!(["/bin/sh", "-c", "echo $A"]));
        let settings = crate::image::edit::instruction("EXPOSE $NONE/x").unwrap();
        assert!(document.apply(&settings).unwrap_err().to_string().contains("no port"));
    }

    #[test]
    fn the_order_of_settings_that_have_none_does_not_matter() {
        let one = after("null", &["Labels=b=2", "User=x", "Labels=a=1"]);
        let two = after("{}", &["Labels=a=1", "Labels=b=2", "User=x"]);
        assert_eq!(one.to_string(), two.to_string());
        assert_eq!(one.to_string(), r#"{"Labels":{"a":"1","b":"2"},"User":"x"}"#);
    }
}
