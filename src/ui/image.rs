//! What a tag or digest names: an image with its layers, an index by platform, or another artifact as what it is; with what
//! refers to it and what the tag named before.

use http::HeaderName;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Shown, Trouble, Ui, Visitor,
    document::{self, Descriptor, Document, text},
    history::{self, Past},
    kinds,
    layout::{Place, digest, facts, outward},
    links,
    referrers::{self, Attached},
    repositories::items,
    repository::{pull, trail},
    words,
};
use crate::oci::{Digest, Reference, RepoName, paths};

/// Layers, platforms, annotations and the like of which there are so many in a page.
const MANY: usize = 200;
/// The largest configuration that is looked at, in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// Rows of a configuration that are shown.
const CONFIG_ROWS: usize = 60;
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What is known of what a reference names.
struct Named<'a> {
    name: &'a RepoName,
    reference: &'a Reference,
    digest: Digest,
    document: Document,
    bytes: u64,
    config: Value,
}

/// A configuration of an image, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ImageConfig {
    created: Option<String>,
    author: Option<String>,
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    config: Option<Value>,
    history: Option<Vec<Step>>,
}

/// How a layer came to be.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

impl Ui {
    pub(super) async fn image(
        &self,
        name: &RepoName,
        reference: &Reference,
        visitor: &Visitor,
    ) -> Result<Shown, Trouble> {
        let named = match read(name, reference, visitor).await {
            // A tag that is gone still has its history.
            Err(trouble) if trouble.status == http::StatusCode::NOT_FOUND => {
                return self.gone(name, reference, visitor, trouble).await;
            }
            named => named?,
        };
        let attached = referrers::tree(name, &named.digest, visitor).await?;
        let past = match reference {
            Reference::Tag(tag) => Some(history::of(name, tag, visitor).await?),
            Reference::Digest(_) => None,
        };
        let title = links::named(name, reference);
        let content = shown(&named, &attached, past.as_ref(), visitor);
        Ok(self.page(visitor, Place::Repositories, &title, &content))
    }
}

async fn read<'a>(
    name: &'a RepoName,
    reference: &'a Reference,
    visitor: &Visitor,
) -> Result<Named<'a>, Trouble> {
    let said = visitor
        .ask
        .get(&format!("/v2/{name}/manifests/{}", reference.as_str()))
        .await?;
    let digest = said
        .header(&CONTENT_DIGEST)
        .and_then(|text| Digest::parse(text).ok());
    let digest = digest.ok_or_else(|| Trouble::not_found("It has no digest."))?;
    let document = Document::read(&said.body).unwrap_or_default();
    let mut config = Value::Null;
    if let Some(descriptor) = &document.config
        && descriptor
            .media_type
            .as_deref()
            .is_some_and(|of| of.ends_with("json"))
        && descriptor.size() <= MAX_CONFIG
        && let Ok(digest) = Digest::parse(descriptor.digest())
    {
        // What is missing or no JSON is nothing to show; what it is about is.
        if let Ok(said) = visitor.ask.bytes(&paths::blob(name, &digest)).await {
            config = said.json();
        }
    }
    Ok(Named {
        name,
        reference,
        digest,
        document,
        bytes: said.body.len() as u64,
        config,
    })
}

fn shown(named: &Named<'_>, attached: &Attached, past: Option<&Past<'_>>, visitor: &Visitor) -> Markup {
    let Named {
        name,
        reference,
        document,
        ..
    } = named;
    let kind = kinds::of(document.kind());
    let is_index = document.manifests.is_some();
    let is_image = kind.name == "Container image";
    let config: ImageConfig = match is_image {
        true => serde_json::from_value(named.config.clone()).unwrap_or_default(),
        false => ImageConfig::default(),
    };
    html! {
        (trail(name, Some(reference)))
        div.title {
            h1.name {
                @match reference {
                    Reference::Tag(tag) => (tag),
                    Reference::Digest(digest) => (words::short(digest.as_str())),
                }
            }
            p.chips {
                span.chip.kind { (kind.name) }
                @if attached.is_signed() { span.chip.good { "signed" } }
            }
            @if visitor.deletable.includes(name) {
                a.quiet.end href=(links::delete(name, reference)) { "Delete …" }
            }
        }
        @if let Some(words) = described(named, &config) { p.description { (words) } }
        (facts(&overview(named, &config)))
        (pull(name, reference, kind.tool, visitor))
        @if is_index { (index(named)) } @else { (layers(named, &config)) }
        @if is_image { (settings(&config)) } @else { (other_config(named, kind.name)) }
        (readme(named, &config))
        (referrers::shown(name, attached))
        @if let Some(past) = past { (past.shown(visitor)) }
        (map("Annotations", document.annotations.iter().flatten()))
        (map("Labels", labels(&config).iter().map(|(key, value)| (key, value))))
    }
}

fn labels(config: &ImageConfig) -> Vec<(String, String)> {
    let labels = config
        .config
        .as_ref()
        .and_then(|config| config["Labels"].as_object());
    let labels = labels.into_iter().flatten();
    labels
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// What it says of itself by an annotation, else by a label.
fn said(named: &Named<'_>, config: &ImageConfig, key: &str) -> Option<String> {
    let annotation = named.document.annotations.as_ref().and_then(|all| all.get(key));
    let label = || {
        labels(config)
            .into_iter()
            .find(|(label, _)| label == key)
            .map(|(_, value)| value)
    };
    annotation
        .cloned()
        .or_else(label)
        .filter(|text| !text.trim().is_empty())
}

fn described(named: &Named<'_>, config: &ImageConfig) -> Option<String> {
    let said = said(named, config, "org.opencontainers.image.description");
    let chart = || Some(text(&named.config["description"]).to_owned()).filter(|text| !text.is_empty());
    said.or_else(chart).map(|text| words::clipped(&text))
}

fn overview(named: &Named<'_>, config: &ImageConfig) -> Vec<(String, Markup)> {
    let document = &named.document;
    let mut rows: Vec<(String, Markup)> = Vec::new();
    let mut say = |name: &str, value: Markup| rows.push((name.to_owned(), value));
    say("Digest", digest(named.digest.as_str()));
    let platform = [&config.os, &config.architecture, &config.variant];
    let platform: Vec<&str> = platform
        .into_iter()
        .flatten()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    if !platform.is_empty() {
        say("Platform", html! { (words::clipped_to(&platform.join("/"), 80)) });
    }
    if document.manifests.is_none() {
        say(
            "Size",
            html! { (words::size(document.size().saturating_add(named.bytes))) },
        );
    }
    if let Some(ago) = config.created.as_deref().and_then(words::ago) {
        say("Built", ago);
    }
    let media_type = document.media_type.as_deref().unwrap_or_default();
    let kind = document.kind();
    if !kind.is_empty() && kind != media_type {
        say("Type", html! { code { (words::clipped_to(kind, 200)) } });
    }
    if !media_type.is_empty() {
        say(
            "Manifest",
            html! { code { (words::clipped_to(media_type, 200)) } },
        );
    }
    if let Some(subject) = document
        .subject
        .as_ref()
        .and_then(|subject| Digest::parse(subject.digest()).ok())
    {
        let link = links::digest(named.name, &subject);
        say(
            "Refers to",
            html! { a href=(link) { code { (words::short(subject.as_str())) } } },
        );
    }
    for (label, key) in [
        ("Version", "org.opencontainers.image.version"),
        ("Licences", "org.opencontainers.image.licenses"),
        ("Vendor", "org.opencontainers.image.vendor"),
        ("Authors", "org.opencontainers.image.authors"),
        ("Source", "org.opencontainers.image.source"),
        ("Revision", "org.opencontainers.image.revision"),
        ("Documentation", "org.opencontainers.image.documentation"),
        ("Home", "org.opencontainers.image.url"),
    ] {
        if let Some(value) = said(named, config, key) {
            say(label, outward(&value));
        }
    }
    if let Some(author) = config.author.as_deref().filter(|author| !author.is_empty()) {
        say("Author", html! { (words::clipped_to(author, 200)) });
    }
    rows
}

/// The manifests of an index, by what they run on.
fn index(named: &Named<'_>) -> Markup {
    let manifests = named.document.manifests.as_deref().unwrap_or_default();
    html! {
        section aria-labelledby="platforms" {
            h2 #platforms { "Platforms" }
            div.scroll tabindex="0" role="region" aria-label="Table of platforms" {
                table {
                    thead { tr {
                        th scope="col" { "Platform" }
                        th scope="col" { "Digest" }
                        th.number scope="col" { "Manifest" }
                    } }
                    tbody { @for one in manifests.iter().take(MANY) { (child(named.name, one)) } }
                }
            }
            (more(manifests.len()))
        }
    }
}

fn child(name: &RepoName, one: &Descriptor) -> Markup {
    let platform = one
        .platform
        .as_ref()
        .map(document::Platform::name)
        .unwrap_or_default();
    let is_attestation = one.annotation("vnd.docker.reference.type") == "attestation-manifest";
    let kind = one
        .artifact_type
        .as_deref()
        .or(one.media_type.as_deref())
        .unwrap_or_default();
    let what = match (is_attestation, platform.as_str()) {
        (true, _) => "Attestation (BuildKit)".to_owned(),
        (false, "" | "unknown/unknown") if kind.contains("image.manifest") => "Any".to_owned(),
        (false, "" | "unknown/unknown") => kinds::of(kind).name.to_owned(),
        (false, _) => platform,
    };
    let link = Digest::parse(one.digest())
        .ok()
        .map(|digest| links::digest(name, &digest));
    html! {
        tr {
            th scope="row" { @match link { Some(link) => a href=(link) { (what) }, None => (what) } }
            td { (digest(one.digest())) }
            td.number { (words::size(one.size())) }
        }
    }
}

/// Layers with the steps that made them, and the steps that made none.
fn layers(named: &Named<'_>, config: &ImageConfig) -> Markup {
    let layers = named.document.layers.as_deref().unwrap_or_default();
    let steps = config.history.as_deref().unwrap_or_default();
    let largest = layers
        .iter()
        .map(Descriptor::size)
        .max()
        .unwrap_or_default()
        .max(1);
    let mut rest = layers.iter();
    let mut rows: Vec<(Option<&Step>, Option<&Descriptor>)> = Vec::new();
    for step in steps.iter().take(2 * MANY) {
        let layer = match step.empty_layer {
            Some(true) => None,
            Some(false) | None => rest.next(),
        };
        rows.push((Some(step), layer));
    }
    rows.extend(rest.map(|layer| (None, Some(layer))));
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="layers" {
                div.heading {
                    h2 #layers { "Layers" }
                    span.muted { (words::count(layers.len(), "layer")) }
                }
                ol.layers {
                    @for (step, layer) in rows.iter().take(MANY) { (row(*step, *layer, largest)) }
                }
                (more(rows.len()))
            }
        }
    }
}

fn row(step: Option<&Step>, layer: Option<&Descriptor>, largest: u64) -> Markup {
    let by = step
        .and_then(|step| step.created_by.as_deref())
        .unwrap_or_default();
    let by = by
        .strip_prefix("/bin/sh -c #(nop) ")
        .or_else(|| by.strip_prefix("/bin/sh -c "))
        .unwrap_or(by);
    let comment = step.and_then(|step| step.comment.as_deref()).unwrap_or_default();
    let title = layer
        .map(|layer| layer.annotation("org.opencontainers.image.title"))
        .unwrap_or_default();
    let kind = layer
        .and_then(|layer| layer.media_type.as_deref())
        .unwrap_or_default();
    let what = [by, title, comment, kind]
        .into_iter()
        .find(|text| !text.trim().is_empty())
        .unwrap_or("Layer");
    html! {
        li.empty[layer.is_none()] {
            div.what {
                code { (words::clipped_to(what.trim(), 600)) }
                @if let Some(ago) = step.and_then(|step| words::ago(step.created.as_deref()?)) { " " span.muted { (ago) } }
            }
            @if let Some(layer) = layer {
                @let share = (layer.size() as f64 / largest as f64 * 100.0).max(0.5);
                div.weight {
                    svg.bar viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" {
                        rect.track width="100" height="4" {}
                        rect.fill width=(format!("{share:.1}")) height="4" {}
                    }
                    span.number { (words::size(layer.size())) }
                    (digest(layer.digest()))
                }
            }
        }
    }
}

/// How an image runs.
fn settings(config: &ImageConfig) -> Markup {
    let Some(config) = config.config.as_ref() else {
        return html! {};
    };
    let list = |key: &str| {
        let words = items(&config[key]).iter().take(MANY).map(text);
        words.map(|word| words::clipped_to(word, 500)).collect::<Vec<_>>()
    };
    let mut rows: Vec<(String, Markup)> = Vec::new();
    for (label, key) in [("Entry point", "Entrypoint"), ("Command", "Cmd")] {
        let words = list(key);
        if !words.is_empty() {
            rows.push((label.to_owned(), html! { code { (words.join(" ")) } }));
        }
    }
    for (label, key) in [
        ("Working directory", "WorkingDir"),
        ("User", "User"),
        ("Stop signal", "StopSignal"),
    ] {
        let value = text(&config[key]);
        if !value.is_empty() {
            rows.push((
                label.to_owned(),
                html! { code { (words::clipped_to(value, 500)) } },
            ));
        }
    }
    if let Some(ports) = config["ExposedPorts"]
        .as_object()
        .filter(|ports| !ports.is_empty())
    {
        let ports: Vec<String> = ports
            .keys()
            .take(MANY)
            .map(|port| words::clipped_to(port, 40))
            .collect();
        rows.push(("Ports".to_owned(), html! { (ports.join(", ")) }));
    }
    let environment = list("Env");
    if !environment.is_empty() {
        let lines = html! { ul.plain { @for line in &environment { li { code { (line) } } } } };
        rows.push(("Environment".to_owned(), lines));
    }
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="runs" { h2 #runs { "How it runs" } (facts(&rows)) }
        }
    }
}

/// What the configuration of another artifact says: a chart's `Chart.yaml`, a model's card.
fn other_config(named: &Named<'_>, kind: &str) -> Markup {
    let rows = match named.config.is_object() {
        true => document::rows(&named.config, CONFIG_ROWS),
        false => Vec::new(),
    };
    let rows: Vec<(String, Markup)> = rows
        .into_iter()
        .map(|(name, value)| (name, outward(&value)))
        .collect();
    html! {
        @if !rows.is_empty() {
            section aria-labelledby="config" {
                h2 #config { @if kind == "Helm chart" { "Chart.yaml" } @else { "Configuration" } }
                (facts(&rows))
                @if rows.len() >= CONFIG_ROWS { p.muted { "The first " (CONFIG_ROWS) " values are shown." } }
            }
        }
    }
}

/// A README that comes with the manifest, as the text that it is.
fn readme(named: &Named<'_>, config: &ImageConfig) -> Markup {
    let annotations = named.document.annotations.iter().flatten();
    let annotations = annotations.map(|(key, value)| (key.clone(), value.clone()));
    let found = annotations.chain(labels(config)).find(|(key, value)| {
        let key = key.to_ascii_lowercase();
        (key.ends_with("readme") || key.ends_with("readme.md")) && !value.trim().is_empty()
    });
    html! {
        @if let Some((_, text)) = found {
            section aria-labelledby="readme" {
                h2 #readme { "README" }
                div.readme { (words::clipped_to(&text, 50_000)) }
            }
        }
    }
}

fn map<'a>(title: &str, rows: impl Iterator<Item = (&'a String, &'a String)>) -> Markup {
    let rows: Vec<(String, Markup)> = rows
        .take(MANY)
        .map(|(key, value)| (key.clone(), outward(value)))
        .collect();
    html! {
        @if !rows.is_empty() {
            details.more {
                summary { (title) " " span.muted { "(" (rows.len()) ")" } }
                (facts(&rows))
            }
        }
    }
}

fn more(all: usize) -> Markup {
    html! {
        @if all > MANY { p.muted { "The first " (MANY) " of " (all) " are shown." } }
    }
}
