//! What a manifest and its configuration say of an image. Pure: from documents to facts, which never change, for both are
//! named by their digests.
//!
//! What isn't understood is left out: any artifact is shown as what it is, whatever it calls itself.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::oci::{Digest, MediaType};

/// Media types of configurations that say what an image is.
const IMAGE_CONFIGS: [&str; 2] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
];

/// What a document says.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    /// Length of the document.
    pub(super) size: u64,
    pub(super) artifact_type: Option<String>,
    /// What it says about itself, by annotations, and for an image by labels, too.
    pub(super) words: Words,
    /// The vendor by its annotations alone: what zot takes a repository's vendors from.
    pub(super) vendor: Option<String>,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Image(Box<Build>),
    /// The manifests that an index lists.
    Index(Vec<Digest>),
}

/// One image, or another artifact.
#[derive(Debug, Default)]
pub(super) struct Build {
    pub(super) config: Option<(Digest, u64)>,
    /// Lowest first, as the manifest lists them.
    pub(super) layers: Vec<(Digest, u64)>,
    pub(super) created: Option<OffsetDateTime>,
    pub(super) os: String,
    /// With its variant after a slash.
    pub(super) architecture: String,
    pub(super) history: Vec<Step>,
}

/// A step of the history.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) created: Option<OffsetDateTime>,
    pub(super) created_by: String,
    pub(super) author: String,
    pub(super) comment: String,
    pub(super) is_empty: bool,
}

/// What people read of an image. Empty where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) description: String,
    pub(super) licenses: String,
    pub(super) labels: String,
    pub(super) title: String,
    pub(super) source: String,
    pub(super) documentation: String,
    pub(super) vendor: String,
    pub(super) authors: String,
}

/// A manifest as far as it was read, and what is still needed to tell more.
pub(super) struct Read {
    raw: RawManifest,
    media_type: MediaType,
    size: u64,
    digest: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    #[serde(default)]
    layers: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    manifests: Option<Vec<RawDescriptor>>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawConfig {
    created: Option<String>,
    author: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    os: Option<String>,
    config: Option<RawSettings>,
    history: Option<Vec<RawStep>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawSettings {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawStep {
    created: Option<String>,
    created_by: Option<String>,
    author: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

impl Read {
    /// Reads a manifest. `None` if it isn't one.
    pub(super) fn manifest(digest: &Digest, media_type: &MediaType, document: &[u8]) -> Option<Self> {
        Some(Self {
            raw: serde_json::from_slice(document).ok()?,
            media_type: media_type.clone(),
            size: document.len() as u64,
            digest: digest.clone(),
        })
    }

    /// The configuration that would tell more.
    pub(super) fn config(&self) -> Option<Digest> {
        let config = self.raw.config.as_ref()?;
        let is_known = IMAGE_CONFIGS.contains(&config.media_type.as_str());
        let digest = Digest::parse(&config.digest).ok()?;
        is_known.then_some(digest)
    }

    /// All that is known, with the configuration if it was found.
    pub(super) fn facts(self, config: Option<&[u8]>) -> Facts {
        let RawManifest {
            artifact_type,
            config: config_descriptor,
            layers,
            manifests,
            annotations,
        } = self.raw;
        let annotations = annotations.unwrap_or_default();
        let config: RawConfig = config
            .and_then(|bytes| serde_json::from_slice(bytes).ok())
            .unwrap_or_default();
        let labels = config.config.and_then(|config| config.labels).unwrap_or_default();
        let mut words = Words::of(&annotations, &labels);
        if words.authors.is_empty() {
            words.authors = config.author.unwrap_or_default();
        }
        let config_type = config_descriptor
            .as_ref()
            .map(|config| config.media_type.clone())
            .filter(|media_type| !media_type.is_empty());
        let descriptor = |raw: RawDescriptor| Some((Digest::parse(&raw.digest).ok()?, raw.size));
        let kind = match manifests {
            Some(listed) if config_descriptor.is_none() => {
                let mut seen = HashSet::new();
                let children = listed
                    .into_iter()
                    .filter_map(descriptor)
                    .map(|(digest, _)| digest);
                Kind::Index(children.filter(|child| seen.insert(child.clone())).collect())
            }
            Some(_) | None => {
                let history: Vec<Step> = config.history.unwrap_or_default().into_iter().map(step).collect();
                let built = config.created.as_deref().and_then(moment);
                let architecture = config.architecture.unwrap_or_default();
                Kind::Image(Box::new(Build {
                    config: config_descriptor.and_then(descriptor),
                    layers: layers
                        .unwrap_or_default()
                        .into_iter()
                        .filter_map(descriptor)
                        .collect(),
                    created: built.or_else(|| history.last().and_then(|step| step.created)),
                    os: config.os.unwrap_or_default(),
                    architecture: match config.variant {
                        Some(variant) if !variant.is_empty() => format!("{architecture}/{variant}"),
                        Some(_) | None => architecture,
                    },
                    history,
                }))
            }
        };
        Facts {
            digest: self.digest,
            media_type: self.media_type.as_str().to_owned(),
            size: self.size,
            artifact_type: artifact_type.filter(|kind| !kind.is_empty()).or(config_type),
            words,
            vendor: said(&annotations, &VENDOR).map(str::to_owned),
            kind,
        }
    }
}

impl Facts {
    /// Bytes of memory that it takes, roughly.
    pub(super) fn weight(&self) -> u64 {
        const ITEM: usize = 128;
        let words = &self.words;
        let texts = [
            &words.description,
            &words.licenses,
            &words.labels,
            &words.title,
            &words.source,
            &words.documentation,
            &words.vendor,
            &words.authors,
        ];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        let rest = match &self.kind {
            Kind::Index(children) => children.len() * ITEM,
            Kind::Image(build) => {
                let step =
                    |step: &Step| ITEM + step.created_by.len() + step.author.len() + step.comment.len();
                build.layers.len() * ITEM + build.history.iter().map(step).sum::<usize>()
            }
        };
        (4 * ITEM + texts + rest) as u64
    }

    /// What it is, if it is an image and not an index of some.
    pub(super) fn build(&self) -> Option<&Build> {
        match &self.kind {
            Kind::Image(build) => Some(build),
            Kind::Index(_) => None,
        }
    }
}

/// Where a word may stand: OCI's annotation, and what was there before it.
type Keys = [&'static str; 2];

const VENDOR: Keys = ["org.opencontainers.image.vendor", "org.label-schema.vendor"];

fn said<'a>(map: &'a BTreeMap<String, String>, keys: &Keys) -> Option<&'a str> {
    let found = keys.iter().filter_map(|key| map.get(*key));
    found.map(String::as_str).find(|word| !word.is_empty())
}

impl Words {
    fn of(annotations: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> Self {
        let word = |keys: Keys| {
            let said = said(annotations, &keys).or_else(|| said(labels, &keys));
            said.unwrap_or_default().to_owned()
        };
        Self {
            description: word([
                "org.opencontainers.image.description",
                "org.label-schema.description",
            ]),
            licenses: word(["org.opencontainers.image.licenses", "org.label-schema.license"]),
            labels: word(["org.opencontainers.image.labels", "org.label-schema.labels"]),
            title: word(["org.opencontainers.image.title", "org.label-schema.name"]),
            source: word(["org.opencontainers.image.source", "org.label-schema.vcs-url"]),
            documentation: word(["org.opencontainers.image.documentation", "org.label-schema.usage"]),
            vendor: word(VENDOR),
            authors: word(["org.opencontainers.image.authors", "org.label-schema.authors"]),
        }
    }

    /// What isn't said here as another says it.
    pub(super) fn or(mut self, other: &Self) -> Self {
        let pairs = [
            (&mut self.description, &other.description),
            (&mut self.licenses, &other.licenses),
            (&mut self.labels, &other.labels),
            (&mut self.title, &other.title),
            (&mut self.source, &other.source),
            (&mut self.documentation, &other.documentation),
            (&mut self.vendor, &other.vendor),
            (&mut self.authors, &other.authors),
        ];
        for (word, other) in pairs {
            if word.is_empty() {
                word.clone_from(other);
            }
        }
        self
    }
}

fn step(raw: RawStep) -> Step {
    Step {
        created: raw.created.as_deref().and_then(moment),
        created_by: raw.created_by.unwrap_or_default(),
        author: raw.author.unwrap_or_default(),
        comment: raw.comment.unwrap_or_default(),
        is_empty: raw.empty_layer.unwrap_or_default(),
    }
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(crate::oci::Algorithm::Sha256, text.as_bytes())
    }

    fn read(document: &serde_json::Value, config: Option<&serde_json::Value>) -> Facts {
        let media_type = MediaType::parse("application/vnd.oci.image.manifest.v1+json").unwrap();
        let read = Read::manifest(&digest("m"), &media_type, document.to_string().as_bytes()).unwrap();
        let config = config.map(ToString::to_string);
        read.facts(config.as_deref().map(str::as_bytes))
    }

    #[test]
    fn annotations_come_before_labels_and_labels_before_what_was_before_them() {
        let document = json!({"annotations": {"org.opencontainers.image.title": "annotated"}});
        let config = json!({"author": "me", "config": {"Labels": {
            "org.opencontainers.image.title": "labelled",
            "org.label-schema.vendor": "old",
            "org.opencontainers.image.licenses": "MIT",
        }}});
        let facts = read(&document, Some(&config));
        let expected = Words {
            title: "annotated".into(),
            vendor: "old".into(),
            licenses: "MIT".into(),
            authors: "me".into(),
            ..Words::default()
        };
        assert_eq!(facts.words, expected);
        assert_eq!(facts.vendor, None);
    }

    #[test]
    fn an_image_whose_configuration_is_something_else_shows_as_what_it_is() {
        let helm = json!({
            "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest("c").as_str(), "size": 2},
            "layers": [{"digest": digest("l").as_str(), "size": 5}, {"digest": "nonsense", "size": 1}],
        });
        let facts = read(&helm, None);
        assert_eq!(
            facts.artifact_type.as_deref(),
            Some("application/vnd.cncf.helm.config.v1+json")
        );
        let build = facts.build().unwrap();
        assert_eq!(build.layers, [(digest("l"), 5)]);
        assert_eq!((build.os.as_str(), build.created), ("", None));
        // What isn't a configuration says nothing.
        for config in [
            json!([]),
            json!("x"),
            json!({"created": 5}),
            json!({"history": [{"created": "x"}]}),
        ] {
            let facts = read(&json!({}), Some(&config));
            assert_eq!(facts.build().unwrap().created, None);
        }
        let media_type = MediaType::parse("application/json").unwrap();
        for document in ["", "[]", "{\"layers\": 1}", "null"] {
            let found = Read::manifest(&digest("m"), &media_type, document.as_bytes());
            assert!(found.is_none(), "{document}");
        }
    }

    #[test]
    fn an_index_lists_each_child_once() {
        let child = |text: &str| json!({"digest": digest(text).as_str(), "size": 1});
        let facts = read(&json!({"manifests": [child("a"), child("b"), child("a")]}), None);
        let Kind::Index(children) = facts.kind else {
            panic!("an image")
        };
        assert_eq!(children, [digest("a"), digest("b")]);
    }
}
