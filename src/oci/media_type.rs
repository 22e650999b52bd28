//! Media types, and the four of them that are manifests.
//!
//! Deliberately absent: parameters (the specification has them ignored), negotiation by `Accept`, and Docker's schema 1.

use std::sync::Arc;

use super::text_newtype;

/// The longest name on either side of the slash (RFC 6838, section 4.2).
const MAX_SIDE_BYTES: usize = 127;

/// A media type without parameters, `type/subtype`, of at most 255 bytes. The case is kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Arc<str>);

/// The text is not a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a media type is expected: 'type/subtype', each of at most 127 characters as RFC 6838 allows them")]
pub struct MediaTypeError;

impl MediaType {
    /// An OCI image manifest.
    pub const IMAGE_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const IMAGE_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// A Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_MANIFEST_LIST: &'static str =
        "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Bytes of which nothing is known: what a blob is served as.
    pub const OCTET_STREAM: &'static str = "application/octet-stream";

    /// Reads a media type; parameters such as `; charset=utf-8` are dropped.
    ///
    /// # Errors
    /// [`MediaTypeError`] when what stands before the first `;` isn't `type/subtype`.
    pub fn parse(text: &str) -> Result<Self, MediaTypeError> {
        let essence = text.split_once(';').map_or(text, |(essence, _)| essence);
        let essence = essence.trim_matches([' ', '\t']);
        match essence.split_once('/') {
            Some((top, sub)) if is_restricted_name(top) && is_restricted_name(sub) => {
                Ok(Self(essence.into()))
            }
            _ => Err(MediaTypeError),
        }
    }

    /// The media type, without parameters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which kind of manifest this names, if any.
    #[must_use]
    pub fn manifest_kind(&self) -> Option<ManifestKind> {
        match self.as_str() {
            Self::IMAGE_MANIFEST => Some(ManifestKind::Image),
            Self::IMAGE_INDEX => Some(ManifestKind::Index),
            Self::DOCKER_MANIFEST => Some(ManifestKind::DockerManifest),
            Self::DOCKER_MANIFEST_LIST => Some(ManifestKind::DockerList),
            _ => None,
        }
    }

    /// Whether this is a layer that its publisher does not allow to be copied to registries.
    pub(super) fn is_nondistributable(&self) -> bool {
        self.0
            .starts_with("application/vnd.oci.image.layer.nondistributable.v1.")
            || self.0.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

text_newtype!(MediaType, MediaTypeError);

/// RFC 6838's `restricted-name`.
fn is_restricted_name(text: &str) -> bool {
    text.len() <= MAX_SIDE_BYTES
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
}

/// The kinds of manifest a registry stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ManifestKind {
    /// An OCI image manifest: a config and layers.
    Image,
    /// An OCI image index: a list of manifests.
    Index,
    /// A Docker manifest, schema 2: a config and layers.
    DockerManifest,
    /// A Docker manifest list.
    DockerList,
}

impl ManifestKind {
    /// The media type as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => MediaType::IMAGE_MANIFEST,
            Self::Index => MediaType::IMAGE_INDEX,
            Self::DockerManifest => MediaType::DOCKER_MANIFEST,
            Self::DockerList => MediaType::DOCKER_MANIFEST_LIST,
        }
    }

    /// The media type that names this kind.
    #[must_use]
    pub fn media_type(self) -> MediaType {
        MediaType(self.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_dropped() {
        for text in [
            "application/json; charset=utf-8",
            " application/json ;a=\"b/c;d\"",
            "application/json",
        ] {
            assert_eq!(MediaType::parse(text).unwrap().as_str(), "application/json");
        }
    }

    #[test]
    fn texts_that_are_no_media_type_are_refused() {
        let long = format!("a/{}", "b".repeat(128));
        for text in [
            "", "/", "a", "a/", "/b", "a/b/c", "a b/c", "*/*", "+a/b", "a/b,c/d", "ä/b", &long,
        ] {
            assert_eq!(MediaType::parse(text), Err(MediaTypeError), "{text:?}");
        }
    }

    #[test]
    fn a_kind_and_its_media_type_agree() {
        use ManifestKind::{DockerList, DockerManifest, Image, Index};
        for kind in [Image, Index, DockerManifest, DockerList] {
            assert_eq!(kind.media_type().manifest_kind(), Some(kind));
            assert_eq!(MediaType::parse(kind.as_str()), Ok(kind.media_type()));
        }
        assert_eq!(
            MediaType::parse("application/json").unwrap().manifest_kind(),
            None
        );
    }

    proptest! {
        #[test]
        fn a_media_type_is_displayed_as_it_was_written(
            text in "[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]{0,126}"
        ) {
            prop_assert_eq!(MediaType::parse(&text).unwrap().to_string(), text);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,300}") {
            if let Ok(media_type) = MediaType::parse(&text) {
                prop_assert!(media_type.as_str().len() <= 255);
                prop_assert_eq!(MediaType::parse(media_type.as_str()), Ok(media_type));
            }
        }
    }
}
