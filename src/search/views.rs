//! From what is known to what the schema shows.

use std::collections::BTreeSet;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    attached::Attached,
    counted::Pulled,
    facts::{Build, Facts},
    images::{self, Image},
    schema::{
        Annotation, HistoryDescription, ImageSummary, LayerHistory, LayerSummary, ManifestSummary, Platform,
        Referrer, SignatureSummary, Time,
    },
};
use crate::{
    oci::{Digest, RepoName},
    registry::{self, Summary, Tagged},
    storage::rows,
};

/// Referrers of one manifest that are shown with it.
const MAX_REFERRERS: usize = 100;

/// Whether a manifest is signed, and by what; both `None` if that isn't known.
fn signatures(attached: &Attached, digest: &Digest) -> (Option<bool>, Option<Vec<Option<SignatureSummary>>>) {
    let tools = attached.signatures(digest);
    let shown = |tools: BTreeSet<_>| tools.into_iter().map(|tool| Some(signature(tool))).collect();
    (tools.as_ref().map(|tools| !tools.is_empty()), tools.map(shown))
}

fn referrers(attached: &Attached, digest: &Digest) -> Option<Vec<Option<Referrer>>> {
    let referrers = attached.referrers(digest)?.iter().take(MAX_REFERRERS);
    Some(referrers.map(|found| Some(referrer(found))).collect())
}

pub(super) fn signature(tool: &str) -> SignatureSummary {
    SignatureSummary {
        tool: Some(tool.to_owned()),
        is_trusted: Some(false),
        author: Some(String::new()),
    }
}

/// How an image came by a tag.
pub(super) struct Naming<'a> {
    tag: &'a str,
    pushed_ms: u64,
    pushed_by: &'a str,
}

impl<'a> Naming<'a> {
    /// That of the newest image of a repository.
    pub(super) fn of_newest(summary: &'a Summary) -> Self {
        Self {
            tag: &summary.newest_tag,
            pushed_ms: summary.newest_pushed_ms,
            pushed_by: &summary.newest_pushed_by,
        }
    }
}

impl<'a> From<&'a Tagged> for Naming<'a> {
    fn from(tagged: &'a Tagged) -> Self {
        Self {
            tag: tagged.tag.as_str(),
            pushed_ms: tagged.pushed_ms,
            pushed_by: &tagged.pushed_by,
        }
    }
}

/// A tag and what it names.
pub(super) fn image(
    repository: &RepoName,
    naming: Naming<'_>,
    image: &Image,
    attached: &Attached,
    pulled: &Pulled,
) -> ImageSummary {
    let words = image.words();
    let digest = &image.facts.digest;
    let (is_signed, signature_info) = signatures(attached, digest);
    ImageSummary {
        repo_name: Some(repository.to_string()),
        tag: Some(naming.tag.to_owned()),
        digest: Some(digest.to_string()),
        media_type: Some(image.facts.media_type.clone()),
        manifests: Some(
            image
                .builds()
                .map(|(facts, build)| Some(manifest(facts, build, attached, pulled)))
                .collect(),
        ),
        size: Some(image.size().to_string()),
        download_count: Some(pulls(pulled.get(digest))),
        last_pull_timestamp: pulled.get(digest).map(|pull| at(pull.last_ms)),
        push_timestamp: Some(at(naming.pushed_ms)),
        pushed_by: Some(naming.pushed_by.to_owned()),
        tagged_timestamp: Some(at(naming.pushed_ms)),
        last_updated: image.created().and_then(time),
        description: Some(words.description),
        is_signed,
        signature_info,
        licenses: Some(words.licenses),
        labels: Some(words.labels),
        title: Some(words.title),
        source: Some(words.source),
        documentation: Some(words.documentation),
        vendor: Some(words.vendor),
        authors: Some(words.authors),
        vulnerabilities: None,
        referrers: referrers(attached, digest),
        is_deletable: None,
        artifact_type: image.facts.artifact_type.clone(),
    }
}

fn pulls(pull: Option<&rows::Pull>) -> i32 {
    pull.map_or(0, |pull| i32::try_from(pull.pulls).unwrap_or(i32::MAX))
}

fn manifest(facts: &Facts, build: &Build, attached: &Attached, pulled: &Pulled) -> ManifestSummary {
    let (is_signed, signature_info) = signatures(attached, &facts.digest);
    ManifestSummary {
        digest: Some(facts.digest.to_string()),
        config_digest: build.config.as_ref().map(|(digest, _)| digest.to_string()),
        last_updated: build.created.and_then(time),
        size: Some(images::size(facts, build).to_string()),
        is_signed,
        signature_info,
        platform: Some(Platform {
            os: Some(build.os.clone()),
            arch: Some(build.architecture.clone()),
        }),
        download_count: Some(pulls(pulled.get(&facts.digest))),
        layers: Some(build.layers.iter().map(|found| Some(layer(found))).collect()),
        history: Some(history(build)),
        vulnerabilities: None,
        referrers: referrers(attached, &facts.digest),
        artifact_type: facts.artifact_type.clone(),
    }
}

/// Each step with the layer that it made, as far as both go; then the layers of which nothing is told.
fn history(build: &Build) -> Vec<Option<LayerHistory>> {
    let mut layers = build.layers.iter();
    let mut shown: Vec<Option<LayerHistory>> = build
        .history
        .iter()
        .map(|step| {
            let made = (!step.is_empty).then(|| layers.next()).flatten();
            Some(LayerHistory {
                layer: made.map(layer),
                history_description: Some(HistoryDescription {
                    created: step.created.and_then(time),
                    created_by: Some(step.created_by.clone()),
                    author: Some(step.author.clone()),
                    comment: Some(step.comment.clone()),
                    empty_layer: Some(step.is_empty),
                }),
            })
        })
        .collect();
    shown.extend(layers.map(|found| {
        Some(LayerHistory {
            layer: Some(layer(found)),
            history_description: Some(HistoryDescription::default()),
        })
    }));
    shown
}

fn layer((digest, size): &(Digest, u64)) -> LayerSummary {
    LayerSummary {
        size: Some(size.to_string()),
        digest: Some(digest.to_string()),
    }
}

pub(super) fn referrer(found: &registry::Referrer) -> Referrer {
    let annotation = |(key, value): (&String, &String)| {
        Some(Annotation {
            key: Some(key.clone()),
            value: Some(value.clone()),
        })
    };
    Referrer {
        media_type: Some(found.descriptor.media_type.as_str().to_owned()),
        artifact_type: Some(found.artifact_type.clone().unwrap_or_default()),
        size: Some(i32::try_from(found.descriptor.size).unwrap_or(i32::MAX)),
        digest: Some(found.descriptor.digest.to_string()),
        annotations: found.annotations.iter().map(annotation).collect(),
    }
}

fn time(moment: OffsetDateTime) -> Option<Time> {
    moment.format(&Rfc3339).ok().map(Time)
}

/// Milliseconds since the Unix epoch.
pub(super) fn at(ms: u64) -> Time {
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    moment
        .ok()
        .and_then(time)
        .unwrap_or_else(|| Time("1970-01-01T00:00:00Z".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{super::facts::Step, *};

    #[test]
    fn steps_and_layers_are_matched_as_far_as_both_go() {
        let digest = |n: u8| Digest::of(crate::oci::Algorithm::Sha256, &[n]);
        let step = |is_empty| Step {
            created: None,
            created_by: String::new(),
            author: String::new(),
            comment: String::new(),
            is_empty,
        };
        let shown = |steps: &[bool], layers: u8| -> Vec<(Option<String>, Option<bool>)> {
            let build = Build {
                history: steps.iter().map(|is_empty| step(*is_empty)).collect(),
                layers: (0..layers).map(|n| (digest(n), 1)).collect(),
                ..Build::default()
            };
            let shown = history(&build).into_iter().flatten();
            shown
                .map(|shown| {
                    let layer = shown.layer.and_then(|layer| layer.digest);
                    (layer, shown.history_description.and_then(|step| step.empty_layer))
                })
                .collect()
        };
        let layer = |n| Some(digest(n).to_string());
        assert_eq!(
            shown(&[false, true, false], 3),
            [
                (layer(0), Some(false)),
                (None, Some(true)),
                (layer(1), Some(false)),
                (layer(2), None)
            ]
        );
        assert_eq!(
            shown(&[false, false], 1),
            [(layer(0), Some(false)), (None, Some(false))]
        );
        assert_eq!(shown(&[], 1), [(layer(0), None)]);
    }
}
