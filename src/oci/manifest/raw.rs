//! The fields of a document that are read at all, not yet validated.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::IgnoredAny};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawManifest {
    pub(super) schema_version: Option<u64>,
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) config: Option<RawDescriptor>,
    #[serde(default, deserialize_with = "list")]
    pub(super) layers: Option<Vec<RawDescriptor>>,
    #[serde(default, deserialize_with = "list")]
    pub(super) manifests: Option<Vec<RawDescriptor>>,
    pub(super) subject: Option<RawDescriptor>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawDescriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    urls: Option<Vec<IgnoredAny>>,
}

impl RawDescriptor {
    pub(super) fn has_urls(&self) -> bool {
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

/// A list that is there. Go writes an empty one as `null`.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<RawDescriptor>>, D::Error> {
    Ok(Some(Option::deserialize(from)?.unwrap_or_default()))
}
