//! The OCI image layout: `index.json`, and blobs that are named by their digests (OCI `image-layout.md`,
//! `image-index.md`, `manifest.md`; Docker's manifests of version 2, schema 2 have the same fields).
//!
//! Images that `index.json` names come in, each one; of an image index the one that is best for the machine. What is no
//! image is passed over.

use std::collections::HashMap;

use super::blob::{Blob, BlobDigest};
use super::oci_documents::{Descriptor, Document, why_no_image};
use super::plan::{Note, Plan, Plans, Reader};
use crate::error::{Error, Result};
use crate::id::ImageName;
use crate::image::ImageConfig;
use crate::image::{Platform, Platforms};
use crate::json;

const INDEX: &str = "index.json";
/// An index may name an index, which may name another; more is no archive that any tool writes.
const DEPTH: usize = 8;
/// Names under which tools keep an image's full name, best first.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// What is behind a descriptor.
enum Found {
    Image(Box<Plan>),
    /// Those of an index.
    Images(Vec<Plan>),
    /// Not an image.
    Other(Note),
    /// Parts of it are not in the archive.
    Absent(Note),
    /// An index without an image for the machine, only for these.
    Elsewhere(String, Vec<Platform>),
}

pub(super) fn plans(reader: &Reader<'_>) -> Result<Option<Plans>> {
    let Some(bytes) = reader.top(INDEX)? else { return Ok(None) };
    let manifests = match parse(reader, INDEX, &bytes) {
        Err(_bad) if !reader.is_image => return Ok(None),
        parsed => parsed?.manifests,
    };
    let Some(manifests) = manifests else {
        return if reader.is_image { Err(reader.bad(INDEX, "is no image index")) } else { Ok(None) };
    };
    let names_blobs = manifests.iter().any(|descriptor| descriptor.digest.parse::<BlobDigest>().is_ok());
    if !reader.is_image && !names_blobs {
        return Ok(None);
    }
    let mut plans = Plans::default();
    let (mut absent, mut elsewhere) = (Vec::new(), Vec::new());
    let is_empty = manifests.is_empty();
    for descriptor in &manifests {
        match descend(reader, INDEX, descriptor, DEPTH, &mut plans.notes)? {
            Found::Image(image) => plans.images.push(*image),
            Found::Images(images) => plans.images.extend(images),
            Found::Other(note) => plans.notes.push(note),
            Found::Absent(note) => absent.push(note),
            Found::Elsewhere(member, platforms) => elsewhere.push((member, platforms)),
        }
    }
    let wanted = reader.wanted.platforms.one();
    let why = |platforms: &[Platform]| {
        let platforms: Vec<String> = platforms.iter().map(ToString::to_string).collect();
        format!("has no image for {wanted}, only for {}", platforms.join(", "))
    };
    if plans.images.is_empty() {
        if let Some((member, _)) = elsewhere.first() {
            let platforms: Vec<Platform> = elsewhere.iter().flat_map(|(_, platforms)| platforms.clone()).collect();
            return Err(reader.bad(member, why(&platforms)));
        }
        // Something else may have a file of this name.
        if !reader.is_image && plans.notes.is_empty() {
            return Ok(None);
        }
        return Err(match (absent.into_iter().next(), plans.notes.into_iter().next()) {
            (Some(Note { member, why }), _) => reader.bad(&member, why),
            (None, Some(Note { member, why })) => {
                Error::bad_archive(reader.archive, format!("has no image in it: {member} {why}"))
            }
            (None, None) if is_empty => Error::bad_archive(reader.archive, "has no image in it"),
            (None, None) => reader.bad(INDEX, "has no image in it"),
        });
    }
    plans.notes.extend(absent);
    plans.notes.extend(elsewhere.into_iter().map(|(member, platforms)| Note { member, why: why(&platforms) }));
    name_once(&mut plans.images, &reader.wanted.platforms);
    Ok(Some(plans))
}

/// A name that several images have is that of the one which is best for the machine, or else of the last one.
fn name_once(images: &mut [Plan], platforms: &Platforms) {
    let mut owners: HashMap<ImageName, (u32, usize)> = HashMap::new();
    for (number, image) in images.iter().enumerate() {
        let platform = image.names.first().and_then(|_| platform_of(&image.config));
        let rank = platform.and_then(|platform| platforms.rank(&platform)).unwrap_or(u32::MAX);
        for name in &image.names {
            let owner = owners.entry(name.clone()).or_insert((rank, number));
            if rank <= owner.0 {
                *owner = (rank, number);
            }
        }
    }
    for (number, image) in images.iter_mut().enumerate() {
        image.names.retain(|name| owners.get(name).is_some_and(|(_, owner)| *owner == number));
    }
}

fn platform_of(config: &[u8]) -> Option<Platform> {
    ImageConfig::parse(config).ok().and_then(|config| config.platform())
}

fn parse(reader: &Reader<'_>, entry: &str, bytes: &[u8]) -> Result<Document> {
    let document: Document =
        json::from_slice(bytes).map_err(|error| reader.bad(entry, format!("cannot be understood: {error}")))?;
    // Tools would differ in what it is (CVE-2021-41190).
    if document.manifests.is_some() && (document.config.is_some() || document.layers.is_some()) {
        return Err(reader.bad(entry, "is an index and a manifest in one"));
    }
    Ok(document)
}

fn blob(reader: &Reader<'_>, entry: &str, descriptor: &Descriptor) -> Result<(String, Blob)> {
    let digest: BlobDigest = descriptor.digest.parse().map_err(|error| reader.bad(entry, format!("{error}")))?;
    Ok((digest.member(), Blob { digest, size: Some(descriptor.size) }))
}

/// Reads what a descriptor in `entry` names.
fn descend(
    reader: &Reader<'_>,
    entry: &str,
    descriptor: &Descriptor,
    depth: usize,
    notes: &mut Vec<Note>,
) -> Result<Found> {
    let (member, named) = blob(reader, entry, descriptor)?;
    let note = |why: String| Note { member: member.clone(), why };
    if let Some(why) = descriptor.why_no_image() {
        return Ok(Found::Other(note(why)));
    }
    let missing = || reader.documents.why_missing().to_owned();
    let Some(bytes) = reader.documents.document(&member)? else { return Ok(Found::Absent(note(missing()))) };
    reader.check(&member, &bytes, Some(named))?;
    let document = parse(reader, &member, &bytes)?;
    let types = [&descriptor.media_type, &document.media_type];
    let types = types.map(|media_type| Some(media_type.as_str()).filter(|word| !word.is_empty()));
    let is_index = |media_type: &str| media_type.contains(".index.") || media_type.contains(".list.");
    if types.into_iter().flatten().any(|media_type| is_index(media_type) != document.manifests.is_some()) {
        let kind = if document.manifests.is_some() { "an index" } else { "no index" };
        let [said, is] = types.map(|media_type| media_type.unwrap_or("nothing"));
        return Err(reader.bad(&member, format!("is {kind}, was named as {said} and says that it is {is}")));
    }
    if let Some(why) = why_no_image(&document) {
        return Ok(Found::Other(note(why)));
    }
    if let Some(manifests) = &document.manifests {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(reader.bad(&member, "is an index too deep in other indexes"));
        };
        let names = name(reader, descriptor);
        return index(reader, &member, manifests, names, depth, notes);
    }
    let (Some(config), Some(layers)) = (&document.config, &document.layers) else {
        let kind = &descriptor.media_type;
        let why = format!("is neither an image manifest nor an index {kind}");
        return Err(reader.bad(&member, why.trim_end()));
    };
    let (config_name, named) = blob(reader, &member, config)?;
    let Some(bytes) = reader.documents.document(&config_name)? else {
        return Ok(Found::Absent(Note { member: config_name, why: missing() }));
    };
    reader.check(&config_name, &bytes, Some(named))?;
    let layers = layers
        .iter()
        .map(|layer| blob(reader, &member, layer).map(|(name, blob)| (name, Some(blob))))
        .collect::<Result<_>>()?;
    let plan = reader.join(&config_name, bytes, layers, name(reader, descriptor).into_iter().collect())?;
    Ok(Found::Image(Box::new(Plan { may_be_absent: true, ..plan })))
}

/// Takes the images of the image index `member` that are wanted.
fn index(
    reader: &Reader<'_>,
    member: &str,
    manifests: &[Descriptor],
    name: Option<ImageName>,
    depth: usize,
    notes: &mut Vec<Note>,
) -> Result<Found> {
    let platforms = &reader.wanted.platforms;
    let mut candidates = Vec::new();
    let mut elsewhere = Vec::new();
    for descriptor in manifests {
        match descriptor.platform() {
            _ if descriptor.why_no_image().is_some() => {
                let (member, _) = blob(reader, member, descriptor)?;
                notes.extend(descriptor.why_no_image().map(|why| Note { member, why }));
            }
            Some(platform) => match platforms.rank(&platform) {
                Some(rank) => candidates.push((rank, descriptor)),
                None => elsewhere.push(platform),
            },
            // Its config may say it.
            None => candidates.push((u32::MAX, descriptor)),
        }
    }
    candidates.sort_by_key(|(rank, _)| *rank);
    let (mut found, mut absent) = (Vec::new(), None);
    for (_, descriptor) in candidates {
        if !found.is_empty() && *platforms != Platforms::All {
            // It is not wanted; but it may be no image, which is told.
            if descriptor.platform().is_none()
                && let Some(Found::Other(note)) = unless_bad(descend(reader, member, descriptor, depth, notes))?
            {
                notes.push(note);
            }
            continue;
        }
        match descend(reader, member, descriptor, depth, notes)? {
            Found::Image(image) => {
                let platform = platform_of(&image.config).filter(|_| descriptor.platform().is_none());
                match platform.filter(|platform| platforms.rank(platform).is_none()) {
                    Some(platform) => elsewhere.push(platform),
                    None => found.push(*image),
                }
            }
            Found::Images(images) => found.extend(images),
            Found::Other(note) => notes.push(note),
            Found::Absent(note) if *platforms == Platforms::All => notes.push(note),
            Found::Absent(note) => absent = absent.or(Some(note)),
            Found::Elsewhere(_, platforms) => elsewhere.extend(platforms),
        }
    }
    for image in &mut found {
        image.names.extend(name.clone().filter(|_| image.names.is_empty()));
    }
    Ok(match absent {
        _ if !found.is_empty() => Found::Images(found),
        Some(note) => Found::Absent(note),
        None if elsewhere.is_empty() => {
            Found::Other(Note { member: member.to_owned(), why: "has no image in it".into() })
        }
        None => Found::Elsewhere(member.to_owned(), elsewhere),
    })
}

/// What is wrong with something that is not wanted does no harm.
fn unless_bad(found: Result<Found>) -> Result<Option<Found>> {
    match found {
        Err(Error::BadArchive { .. }) => Ok(None),
        found => found.map(Some),
    }
}

/// The name that the archive gives, if it is more than a tag.
fn name(reader: &Reader<'_>, descriptor: &Descriptor) -> Option<ImageName> {
    let names = NAMES.iter().filter_map(|key| descriptor.annotations.get(*key)).filter(|_| reader.wanted.names);
    names.filter(|name| name.contains([':', '/'])).find_map(|name| name.parse().ok())
}
