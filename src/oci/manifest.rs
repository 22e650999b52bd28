//! Manifests: which content a document refers to, and whether it is one at all.
//!
//! Only what the registry needs is read; everything else in a document is the client's and stays as it is, for a
//! manifest is kept byte for byte. Deliberately absent: writing manifests, converting between kinds, and the question
//! whether the content exists.

mod json;
mod raw;

use std::collections::{BTreeMap, BTreeSet};

use self::raw::{Listed, RawDescriptor, RawManifest};
use super::{Digest, DigestError, ManifestKind, MediaType, MediaTypeError};

/// The largest manifest that is accepted: the specification's recommendation.
pub const MAX_MANIFEST_BYTES: usize = 4 * 1024 * 1024;

/// How deep objects and lists may be nested, in fields that nobody here reads, too: who pulls the manifest may read them
/// with a parser that recurs. It is the depth at which common ones give up.
pub const MAX_MANIFEST_DEPTH: usize = 128;

/// A reference to content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What the content is.
    pub media_type: MediaType,
    /// Its address.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// What a manifest says about itself and other content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Which kind it is.
    pub kind: ManifestKind,
    /// The media type it is stored and served with.
    pub media_type: MediaType,
    /// Blobs that the repository must hold, each digest once: config and layers. For an index, the entries that aren't
    /// manifests: BuildKit's cache lists its layers there.
    pub blobs: Vec<Descriptor>,
    /// Layers that may be fetched elsewhere, each digest once, none that is also in `blobs`. The repository need not
    /// hold them; what it does hold, the manifest keeps from collection.
    pub optional_blobs: Vec<Descriptor>,
    /// Manifests that an index lists, each digest once.
    pub children: Vec<Descriptor>,
    /// What an index says that its manifests are, of those of which it does (`artifactType`).
    pub children_types: BTreeMap<Digest, String>,
    /// The manifest that this one is about. It need not exist.
    pub subject: Option<Descriptor>,
    /// What a list of referrers gives as the type, and filters by.
    pub artifact_type: Option<String>,
    /// What a list of referrers gives as annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Why bytes are not a manifest that can be stored.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Deeper than [`MAX_MANIFEST_DEPTH`].
    #[error("objects and lists are nested deeper than {MAX_MANIFEST_DEPTH}")]
    TooDeep,
    /// The document is longer than [`MAX_MANIFEST_BYTES`].
    #[error("at most {MAX_MANIFEST_BYTES} bytes are expected")]
    TooLarge,
    /// The media type isn't that of a manifest.
    #[error(
        "the media type '{0}' is not that of a manifest: an OCI image manifest or index, or a Docker schema 2 \
         manifest or list is expected"
    )]
    UnsupportedMediaType(MediaType),
    /// The document calls itself something else than the request did.
    #[error("the document's mediaType '{document}' is expected to be the Content-Type, '{content_type}'")]
    MediaTypeMismatch {
        /// What the request said.
        content_type: MediaType,
        /// What the document says.
        document: MediaType,
    },
    /// Not JSON.
    #[error("a JSON document is expected: {0}")]
    Json(#[source] serde_json::Error),
    /// A field of the wrong type, in the wrong spelling, or there twice.
    #[error("{0}")]
    Field(#[source] serde_json::Error),
    /// `schemaVersion` is missing or another one.
    #[error("schemaVersion 2 is expected")]
    SchemaVersion,
    /// A field that this kind of manifest must have isn't there.
    #[error("the field '{0}' is expected in this kind of manifest")]
    Missing(&'static str),
    /// A descriptor lacks one of its fields.
    #[error("{0} is expected")]
    Incomplete(String),
    /// A field is there that makes the document look like another kind of manifest.
    #[error("the field '{0}' is not expected in this kind of manifest")]
    Unexpected(&'static str),
    /// Neither the request nor the document says what kind of manifest it is, and nor do the fields.
    #[error("a Content-Type or a mediaType is expected")]
    UnknownKind,
    /// A media type within the document is malformed.
    #[error("{at}: {source}")]
    MediaType {
        /// Where.
        at: String,
        /// What is wrong.
        source: MediaTypeError,
    },
    /// A digest within the document is malformed or of an unregistered algorithm.
    #[error("{at}: {source}")]
    Digest {
        /// Where.
        at: String,
        /// What is wrong.
        source: DigestError,
    },
}

impl Manifest {
    /// Reads a manifest that was sent with this `Content-Type`, or none.
    ///
    /// # Errors
    /// [`ManifestError`], the first thing that is wrong.
    pub fn parse(content_type: Option<&MediaType>, bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLarge);
        }
        if let Some(content_type) = content_type {
            kind_of(content_type)?;
        }
        if nesting(bytes) > MAX_MANIFEST_DEPTH {
            return Err(ManifestError::TooDeep);
        }
        let raw = RawManifest::read(bytes).map_err(|error| match error.is_data() {
            true => ManifestError::Field(error),
            false => ManifestError::Json(error),
        })?;
        if raw.schema_version != Some(2) {
            return Err(ManifestError::SchemaVersion);
        }
        let kind = agreed_kind(content_type, &raw)?;
        let subject = raw
            .subject
            .as_ref()
            .map(|raw| descriptor("subject", raw))
            .transpose()?;
        let (content, config_type) = match kind {
            ManifestKind::Image | ManifestKind::DockerManifest => image(&raw)?,
            ManifestKind::Index | ManifestKind::DockerList => (index(&raw)?, None),
        };
        Ok(Self {
            kind,
            media_type: kind.media_type(),
            blobs: content.blobs,
            optional_blobs: content.optional_blobs,
            children: content.children,
            children_types: content.children_types,
            subject,
            artifact_type: raw.artifact_type.or(config_type),
            annotations: raw.annotations,
        })
    }
}

/// How deep objects and lists are nested in a document that may not even be JSON.
fn nesting(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut is_string, mut is_escaped) = (false, false);
    for byte in bytes {
        match (is_string, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => is_string = !is_string,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (true | false, _) => {}
        }
    }
    deepest
}

/// What a manifest refers to, apart from its subject.
#[derive(Default)]
struct Content {
    blobs: Vec<Descriptor>,
    optional_blobs: Vec<Descriptor>,
    children: Vec<Descriptor>,
    children_types: BTreeMap<Digest, String>,
}

/// The content of an image manifest, and its config's media type, as it was written.
///
/// A document that has the fields of both kinds could be read as either: refused (CVE-2021-41190).
fn image(raw: &RawManifest) -> Result<(Content, Option<String>), ManifestError> {
    if raw.manifests.is_there() {
        return Err(ManifestError::Unexpected("manifests"));
    }
    let config = raw.config.as_ref().ok_or(ManifestError::Missing("config"))?;
    let layers = raw.layers.required().ok_or(ManifestError::Missing("layers"))?;
    let mut content = Content {
        blobs: vec![descriptor("config", config)?],
        ..Content::default()
    };
    for (i, layer) in layers.iter().enumerate() {
        let descriptor = descriptor(&format!("layers[{i}]"), layer)?;
        if layer.has_urls || descriptor.media_type.is_nondistributable() {
            content.optional_blobs.push(descriptor);
        } else {
            content.blobs.push(descriptor);
        }
    }
    // A digest that one layer requires is required, whatever another says.
    let mut seen = BTreeSet::new();
    content.blobs.retain(|blob| seen.insert(blob.digest.clone()));
    content
        .optional_blobs
        .retain(|blob| seen.insert(blob.digest.clone()));
    Ok((content, config.media_type.clone()))
}

fn index(raw: &RawManifest) -> Result<Content, ManifestError> {
    if raw.config.is_some() {
        return Err(ManifestError::Unexpected("config"));
    }
    if raw.layers.is_there() {
        return Err(ManifestError::Unexpected("layers"));
    }
    let manifests = raw
        .manifests
        .required()
        .ok_or(ManifestError::Missing("manifests"))?;
    let mut content = Content::default();
    let mut seen = BTreeSet::new();
    for (i, entry) in manifests.iter().enumerate() {
        let descriptor = descriptor(&format!("manifests[{i}]"), entry)?;
        if !seen.insert(descriptor.digest.clone()) {
            continue;
        }
        match descriptor.media_type.manifest_kind() {
            Some(_) => {
                if let Some(artifact_type) = &entry.artifact_type {
                    let digest = descriptor.digest.clone();
                    content.children_types.insert(digest, artifact_type.clone());
                }
                content.children.push(descriptor);
            }
            None => content.blobs.push(descriptor),
        }
    }
    Ok(content)
}

fn kind_of(media_type: &MediaType) -> Result<ManifestKind, ManifestError> {
    media_type
        .manifest_kind()
        .ok_or_else(|| ManifestError::UnsupportedMediaType(media_type.clone()))
}

/// The kind that request and document agree on; where neither says, the one whose fields the document has.
fn agreed_kind(content_type: Option<&MediaType>, raw: &RawManifest) -> Result<ManifestKind, ManifestError> {
    let document = match &raw.media_type {
        Some(text) => Some(media_type("mediaType", text)?),
        None => None,
    };
    match (content_type, document) {
        (Some(content_type), Some(document)) if *content_type != document => {
            Err(ManifestError::MediaTypeMismatch {
                content_type: content_type.clone(),
                document,
            })
        }
        (Some(content_type), _) => kind_of(content_type),
        (None, Some(document)) => kind_of(&document),
        (None, None) => match (&raw.config, &raw.manifests) {
            (Some(_), Listed::Absent | Listed::Null) => Ok(ManifestKind::Image),
            (None, Listed::There(_) | Listed::Null) => Ok(ManifestKind::Index),
            (Some(_), Listed::There(_)) | (None, Listed::Absent) => Err(ManifestError::UnknownKind),
        },
    }
}

fn descriptor(at: &str, raw: &RawDescriptor) -> Result<Descriptor, ManifestError> {
    let lacks = |field: &str| ManifestError::Incomplete(format!("{at}.{field}"));
    let named = raw.media_type.as_ref().ok_or_else(|| lacks("mediaType"))?;
    let digest = raw.digest.as_ref().ok_or_else(|| lacks("digest"))?;
    Ok(Descriptor {
        media_type: media_type(&format!("{at}.mediaType"), named)?,
        digest: Digest::parse(digest).map_err(|source| ManifestError::Digest {
            at: format!("{at}.digest"),
            source,
        })?,
        size: raw.size.ok_or_else(|| lacks("size"))?,
    })
}

fn media_type(at: &str, text: &str) -> Result<MediaType, ManifestError> {
    MediaType::parse(text).map_err(|source| ManifestError::MediaType {
        at: at.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
