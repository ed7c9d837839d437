//! Archives of Docker before 1.10: `repositories` names the topmost layer of each image, `ID/json` describes it and
//! names the one below, and `ID/layer.tar` is it (moby `image/spec/v1.md`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::plan::{Plan, PlannedLayer, Plans, Reader};
use crate::error::Result;
use crate::id::{DiffId, ImageName};
use crate::image::CONFIG;
use crate::json;

const REPOSITORIES: &str = "repositories";
/// Layers of an image: Docker has 127 at most.
const LAYERS: usize = 500;
/// Fields of a layer's description that are none of an image's config.
const OF_LAYERS: [&str; 6] = ["id", "parent", "Size", "parent_id", "layer_id", "throwaway"];

type Repositories = BTreeMap<String, BTreeMap<String, String>>;

pub(super) fn plans(reader: &Reader<'_>) -> Result<Option<Plans>> {
    let Some(bytes) = reader.top(REPOSITORIES)? else { return Ok(None) };
    let repositories: Repositories = match json::from_slice(&bytes) {
        Ok(repositories) => repositories,
        Err(_) if !reader.is_image => return Ok(None),
        Err(error) => return Err(reader.bad(REPOSITORIES, format!("cannot be understood: {error}"))),
    };
    // Images in the order of their names.
    let mut tops: Vec<(&str, Vec<ImageName>)> = Vec::new();
    for (repository, tags) in &repositories {
        for (tag, top) in tags {
            if !reader.is_image && !reader.documents.has(&format!("{top}/json"))? {
                return Ok(None);
            }
            let place = tops.iter().position(|(known, _)| known == top);
            let place = place.unwrap_or_else(|| {
                tops.push((top, Vec::new()));
                tops.len().saturating_sub(1)
            });
            if reader.wanted.names {
                let name = format!("{repository}:{tag}").parse::<ImageName>();
                let name = name.map_err(|error| reader.bad(REPOSITORIES, error.to_string()))?;
                tops.get_mut(place).into_iter().for_each(|(_, names)| names.push(name.clone()));
            }
            reader.wanted.limits.take_names(reader.archive, tops.iter().map(|(_, names)| names.len()))?;
        }
    }
    if tops.is_empty() {
        return Ok(None);
    }
    let mut known = BTreeMap::new();
    let images = tops.into_iter().map(|(top, names)| plan(reader, top, names, &mut known)).collect::<Result<_>>()?;
    Ok(Some(Plans { images, notes: Vec::new() }))
}

/// One image. The config that it does not have is made of what is known of its topmost layer, as Docker makes it.
fn plan(reader: &Reader<'_>, top: &str, names: Vec<ImageName>, known: &mut BTreeMap<String, DiffId>) -> Result<Plan> {
    let (mut layers, mut history) = (Vec::new(), Vec::new());
    let mut config: Option<Map<String, Value>> = None;
    let mut seen = BTreeSet::new();
    let mut next = Some(top.to_owned());
    while let Some(id) = next {
        let name = format!("{id}/json");
        if !seen.insert(id.clone()) || seen.len() > LAYERS {
            return Err(reader.bad(&name, "is above itself, or above more layers than an image has"));
        }
        let bytes = reader.required(&name, None)?;
        let fields = json::canonical(&bytes, &CONFIG);
        let Value::Object(fields) =
            fields.map_err(|error| reader.bad(&name, format!("cannot be understood: {error}")))?
        else {
            return Err(reader.bad(&name, "describes no layer: it is no JSON object"));
        };
        let member = format!("{id}/layer.tar");
        let diff_id = match known.get(&member) {
            Some(diff_id) => *diff_id,
            None => {
                reader.documents.diff_id(&member)?.ok_or_else(|| reader.bad(&member, reader.documents.why_missing()))?
            }
        };
        known.insert(member.clone(), diff_id);
        layers.push(PlannedLayer { diff_id, member, blob: None });
        history.push(step(&fields));
        let parent = fields.get("parent").or_else(|| fields.get("parent_id")).and_then(Value::as_str);
        next = parent.filter(|parent| !parent.is_empty()).map(str::to_owned);
        config.get_or_insert(fields);
    }
    layers.reverse();
    history.reverse();
    let mut config = config.unwrap_or_default();
    for field in OF_LAYERS {
        config.shift_remove(field);
    }
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
    config.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    config.insert("history".into(), history.into());
    config.sort_keys();
    let name = format!("{top}/json");
    let members = layers.into_iter().map(|layer| (layer.member, None)).collect();
    reader.join(&name, Value::from(config).to_string().into_bytes(), members, names)
}

/// What a layer's description says of how it was made.
fn step(fields: &Map<String, Value>) -> Value {
    let mut step = Map::new();
    for field in ["created", "author", "comment"] {
        step.extend(fields.get(field).filter(|value| value.is_string()).map(|value| (field.to_owned(), value.clone())));
    }
    let words = fields.get("container_config").and_then(|config| config.get("Cmd")).and_then(Value::as_array);
    let words: Vec<&str> = words.into_iter().flatten().filter_map(Value::as_str).collect();
    if !words.is_empty() {
        step.insert("created_by".into(), words.join(" ").into());
    }
    step.into()
}
