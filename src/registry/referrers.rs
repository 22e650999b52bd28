//! The manifests that refer to another one.

use std::collections::BTreeMap;

use super::{Registry, Result, row};
use crate::{
    oci::{Descriptor, Digest, Manifest, Page, RepoName, signing_tool},
    storage::{Entry, MAX_PAGE, Space, keys, rows},
};

/// A manifest that refers to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// What it is.
    pub descriptor: Descriptor,
    /// What it is about its subject.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A piece of the list of referrers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrers {
    /// In the order of their digests.
    pub referrers: Vec<Referrer>,
    /// There may be more after this digest (which need not be among the above).
    pub next: Option<String>,
}

/// The longest page, as JSON: the specification's bound of a manifest, less what surrounds the descriptors.
const PAGE_BYTES: usize = (4 << 20) - (4 << 10);
/// The longest annotations, as JSON, that lie in the referrer's row.
const INLINE_ANNOTATIONS: usize = 8 << 10;
/// How many rows are looked at for one page: a filter may match few.
const MAX_ROWS: usize = 10 * MAX_PAGE;

/// The row by which a manifest of `size` bytes is found by its subject.
pub(super) fn listed_as(manifest: &Manifest, size: u64) -> rows::Referrer {
    let annotations: &BTreeMap<String, String> = &manifest.annotations;
    let length: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.len() + 6)
        .sum();
    let is_short = length <= INLINE_ANNOTATIONS;
    rows::Referrer {
        min_reader: rows::SCHEMA,
        media_type: manifest.media_type.as_str().to_owned(),
        size,
        artifact_type: manifest.artifact_type.clone().unwrap_or_default(),
        annotations: if is_short {
            annotations.clone().into_iter().collect()
        } else {
            Default::default()
        },
        annotations_in_manifest: !is_short,
    }
}

impl Registry {
    /// Manifests of the repository that refer to `subject`, of one of the artifact types `types` if there are any.
    pub async fn referrers(
        &self,
        repository: &RepoName,
        subject: &Digest,
        types: &[String],
        page: &Page,
    ) -> Result<Referrers> {
        let prefix = keys::referrers_of(subject);
        let (mut found, mut bytes, mut rows) = (Referrers::default(), 0, 0);
        let mut after = page.last.clone();
        if page.limit == 0 {
            return Ok(found);
        }
        loop {
            let from = after.as_ref().map(|last| format!("{prefix}{last}"));
            let (space, partition) = (Space::Manifests, repository.as_str());
            let listed = self
                .meta
                .range(space, partition, &prefix, from.as_deref(), MAX_PAGE)
                .await?;
            let count = listed.entries.len();
            for (n, entry) in listed.entries.into_iter().enumerate() {
                let digest = row::digest(&entry.sort[prefix.len()..])?;
                let Some(referrer) = self.referrer(repository, &digest, &entry, types).await? else {
                    after = Some(digest.to_string());
                    continue;
                };
                bytes += json_length(&referrer);
                if bytes > PAGE_BYTES && !found.referrers.is_empty() {
                    // It begins the next page.
                    found.next = after;
                    return Ok(found);
                }
                after = Some(digest.to_string());
                found.referrers.push(referrer);
                if found.referrers.len() == page.limit {
                    found.next = after.filter(|_| listed.more || n + 1 < count);
                    return Ok(found);
                }
            }
            rows += count;
            if !listed.more || count == 0 {
                return Ok(found);
            }
            if rows >= MAX_ROWS {
                found.next = after;
                return Ok(found);
            }
        }
    }

    /// The descriptor of an entry, if it is of one of the types.
    async fn referrer(
        &self,
        repository: &RepoName,
        digest: &Digest,
        entry: &Entry,
        types: &[String],
    ) -> Result<Option<Referrer>> {
        let listed: rows::Referrer = row::read(&entry.row)?;
        if !types.is_empty() && !types.contains(&listed.artifact_type) {
            return Ok(None);
        }
        let is_short = !listed.annotations_in_manifest;
        let mut referrer = Referrer::listed(digest.clone(), listed)?;
        if !is_short {
            referrer.annotations = match self.live_manifest(repository, digest).await? {
                Some(manifest) => {
                    let media_type = row::media_type(&manifest.media_type)?;
                    let document = self.document(repository, digest, manifest).await?;
                    let parsed = Manifest::parse(Some(&media_type), &document);
                    // An older release may have taken what this one wouldn't: it is a referrer all the same.
                    parsed.map(|manifest| manifest.annotations).unwrap_or_default()
                }
                // Deleted since the list was read.
                None => return Ok(None),
            };
        }
        if json_length(&referrer) > PAGE_BYTES {
            // Too long for any page: they are in the manifest.
            referrer.annotations.clear();
        }
        Ok(Some(referrer))
    }
}

impl Referrer {
    /// The tool whose signature it is, if it is one.
    #[must_use]
    pub fn signing_tool(&self) -> Option<&'static str> {
        signing_tool(self.artifact_type.as_deref()?)
    }

    /// As its row says; annotations that are too long for that are left out.
    pub(super) fn listed(digest: Digest, listed: rows::Referrer) -> Result<Self> {
        Ok(Self {
            descriptor: Descriptor {
                media_type: row::media_type(&listed.media_type)?,
                digest,
                size: listed.size,
            },
            artifact_type: Some(listed.artifact_type).filter(|artifact_type| !artifact_type.is_empty()),
            annotations: listed.annotations.into_iter().collect(),
        })
    }
}

/// At least as many bytes as the descriptor has as JSON.
fn json_length(referrer: &Referrer) -> usize {
    const NAMES_AND_NUMBERS: usize = 128;
    let Descriptor {
        media_type, digest, ..
    } = &referrer.descriptor;
    let artifact_type = referrer.artifact_type.as_deref().map_or(0, json_string);
    let annotations: usize = referrer
        .annotations
        .iter()
        .map(|(key, value)| json_string(key) + json_string(value) + 2)
        .sum();
    NAMES_AND_NUMBERS + media_type.as_str().len() + digest.as_str().len() + artifact_type + annotations
}

/// At least as many bytes as `text` has as a JSON string.
fn json_string(text: &str) -> usize {
    let escaped = |b: u8| match b {
        b'"' | b'\\' => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(escaped).sum::<usize>() + 2
}
