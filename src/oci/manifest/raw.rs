//! The fields of a document that the specification types, not yet validated.

use std::collections::BTreeMap;

use serde::de::{DeserializeSeed as _, MapAccess};

use super::json::{Base64, Fields, List, Place, Read, Shape, Size, Text, Texts};

/// A document. `None` is a field that is absent, `null`, or an empty string: all the same.
#[derive(Default)]
pub(super) struct RawManifest {
    pub(super) schema_version: Option<u64>,
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) config: Option<RawDescriptor>,
    pub(super) layers: Listed,
    pub(super) manifests: Listed,
    pub(super) subject: Option<RawDescriptor>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// A list of descriptors. One that is required must be there, but Go writes an empty one as `null`.
#[derive(Default)]
pub(super) enum Listed {
    #[default]
    Absent,
    Null,
    There(Vec<RawDescriptor>),
}

impl Listed {
    /// What is in the list, if there is one.
    pub(super) fn required(&self) -> Option<&[RawDescriptor]> {
        match self {
            Self::Absent => None,
            Self::Null => Some(&[]),
            Self::There(list) => Some(list),
        }
    }

    /// Whether a document that shouldn't have the list has it.
    pub(super) fn is_there(&self) -> bool {
        match self {
            Self::Absent | Self::Null => false,
            Self::There(_) => true,
        }
    }
}

#[derive(Default)]
pub(super) struct RawDescriptor {
    pub(super) media_type: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) artifact_type: Option<String>,
    pub(super) has_urls: bool,
}

impl RawManifest {
    /// # Errors
    /// The first place that doesn't hold what is expected there, or where the text isn't JSON.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let found = Read::<Self>::at(Place::Document).deserialize(&mut json)?;
        let document = Read::<Self>::needed(Place::Document, found)?;
        json.end()?;
        Ok(document)
    }
}

impl Shape for RawManifest {
    type Value = Self;
    const EXPECTED: &'static str = "an object";

    fn object<'de, A: MapAccess<'de>>(at: Place<'_>, object: A) -> Result<Self, A::Error> {
        const KNOWN: &[&str] = &[
            "schemaVersion",
            "mediaType",
            "artifactType",
            "config",
            "layers",
            "manifests",
            "subject",
            "annotations",
        ];
        let mut fields = Fields::new(at, KNOWN, object);
        let mut found = Self::default();
        while let Some(name) = fields.next()? {
            match name {
                "schemaVersion" => found.schema_version = fields.read::<Size>(name)?,
                "mediaType" => found.media_type = given(fields.read::<Text>(name)?),
                "artifactType" => found.artifact_type = given(fields.read::<Text>(name)?),
                "config" => found.config = fields.read::<RawDescriptor>(name)?,
                "layers" => found.layers = listed(fields.read::<List<RawDescriptor>>(name)?),
                "manifests" => found.manifests = listed(fields.read::<List<RawDescriptor>>(name)?),
                "subject" => found.subject = fields.read::<RawDescriptor>(name)?,
                _ => found.annotations = fields.read::<Texts>(name)?.unwrap_or_default(),
            }
        }
        Ok(found)
    }
}

impl Shape for RawDescriptor {
    type Value = Self;
    const EXPECTED: &'static str = "an object";

    fn object<'de, A: MapAccess<'de>>(at: Place<'_>, object: A) -> Result<Self, A::Error> {
        const KNOWN: &[&str] = &[
            "mediaType",
            "digest",
            "size",
            "urls",
            "annotations",
            "data",
            "artifactType",
            "platform",
        ];
        let mut fields = Fields::new(at, KNOWN, object);
        let mut found = Self::default();
        while let Some(name) = fields.next()? {
            match name {
                "mediaType" => found.media_type = given(fields.read::<Text>(name)?),
                "digest" => found.digest = given(fields.read::<Text>(name)?),
                "size" => found.size = fields.read::<Size>(name)?,
                "urls" => {
                    let urls = fields.read::<List<Text>>(name)?;
                    found.has_urls = urls.is_some_and(|urls| !urls.is_empty());
                }
                "annotations" => fields.check::<Texts>(name)?,
                "data" => fields.check::<Base64>(name)?,
                "artifactType" => found.artifact_type = given(fields.read::<Text>(name)?),
                _ => fields.check::<Platform>(name)?,
            }
        }
        Ok(found)
    }
}

/// What an image runs on. Nothing here depends on it.
struct Platform;

impl Shape for Platform {
    type Value = ();
    const EXPECTED: &'static str = "an object";

    fn object<'de, A: MapAccess<'de>>(at: Place<'_>, object: A) -> Result<(), A::Error> {
        const KNOWN: &[&str] = &["architecture", "os", "os.version", "os.features", "variant"];
        let mut fields = Fields::new(at, KNOWN, object);
        while let Some(name) = fields.next()? {
            match name {
                "os.features" => fields.check::<List<Text>>(name)?,
                _ => fields.check::<Text>(name)?,
            }
        }
        Ok(())
    }
}

fn given(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn listed(list: Option<Vec<RawDescriptor>>) -> Listed {
    list.map_or(Listed::Null, Listed::There)
}
