//! Manifests and configurations as they are shown: whatever isn't understood is left out, for they may say anything.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::words;

/// A text; of what is none, an empty one.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A whole number, also one that is written as a text, as zot writes sizes.
pub(super) fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or_default()
}

/// A manifest of any of the four kinds. `null` is as good as absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) subject: Option<Descriptor>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// What a manifest names.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: Option<String>,
    pub(super) artifact_type: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) platform: Option<Platform>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(super) fn annotation(&self, key: &str) -> &str {
        let annotations = self.annotations.as_ref();
        annotations
            .and_then(|all| all.get(key))
            .map_or("", String::as_str)
    }

    fn media_type(&self) -> Option<&str> {
        self.media_type.as_deref()
    }

    pub(super) fn digest(&self) -> &str {
        self.digest.as_deref().unwrap_or_default()
    }

    pub(super) fn size(&self) -> u64 {
        self.size.unwrap_or_default()
    }
}

/// What something runs on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Platform {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    #[serde(rename = "os.version")]
    os_version: Option<String>,
}

impl Platform {
    /// `linux/arm/v7`.
    pub(super) fn name(&self) -> String {
        let parts = [&self.os, &self.architecture, &self.variant];
        let parts = parts.into_iter().flatten().filter(|part| !part.is_empty());
        let name = parts.map(String::as_str).collect::<Vec<_>>().join("/");
        match &self.os_version {
            Some(version) if !version.is_empty() => words::clipped_to(&format!("{name} {version}"), 80),
            Some(_) | None => words::clipped_to(&name, 80),
        }
    }
}

impl Document {
    /// Reads a manifest.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The media type that says what it is: the artifact's, else the configuration's, unless that is empty, else the first
    /// layer's; of an index its own.
    pub(super) fn kind(&self) -> &str {
        let of = Descriptor::media_type;
        let first = self.layers.as_ref().and_then(|layers| layers.first());
        said(self.artifact_type.as_deref())
            .or_else(|| said(self.config.as_ref().and_then(of)))
            .or_else(|| said(first.and_then(of)))
            .or_else(|| said(self.media_type.as_deref()))
            .unwrap_or_default()
    }

    /// What it and what it names take, each digest once.
    pub(super) fn size(&self) -> u64 {
        let mut seen = std::collections::BTreeSet::new();
        let parts = self.config.iter().chain(self.layers.iter().flatten());
        let parts = parts.filter(|part| seen.insert(part.digest()));
        parts.map(Descriptor::size).fold(0, u64::saturating_add)
    }
}

/// A media type that says something.
fn said(text: Option<&str>) -> Option<&str> {
    const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    text.filter(|text| !text.is_empty() && *text != EMPTY)
}

/// A configuration as rows of names and values: objects by their path, lists in a line.
pub(super) fn rows(config: &Value, most: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(config, String::new(), 0, most, &mut found);
    found
}

/// Levels of a configuration that are shown.
const DEEP: usize = 4;

fn walk(value: &Value, path: String, depth: usize, most: usize, found: &mut Vec<(String, String)>) {
    if found.len() >= most {
        return;
    }
    match value {
        Value::Object(map) if depth < DEEP => {
            for (key, value) in map {
                let key = words::clipped_to(key, 100);
                let path = match path.is_empty() {
                    true => key,
                    false => format!("{path}.{key}"),
                };
                walk(value, path, depth + 1, most, found);
            }
        }
        other => {
            let line = line(other, depth);
            if !line.is_empty() {
                found.push((path, words::clipped_to(&line, 500)));
            }
        }
    }
}

fn line(value: &Value, depth: usize) -> String {
    /// Values of a list that are shown.
    const MANY: usize = 20;
    match value {
        Value::Null => String::new(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => words::clipped_to(text, 500),
        _ if depth > DEEP + 2 => "…".to_owned(),
        Value::Array(list) => joined(list.iter().take(MANY).map(|value| line(value, depth + 1)), ", "),
        Value::Object(map) => joined(map.values().take(MANY).map(|value| line(value, depth + 1)), " "),
    }
}

fn joined(parts: impl Iterator<Item = String>, between: &str) -> String {
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(between)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_manifest_is_what_it_says_it_is_however_little() {
        let kind = |value: Value| {
            Document::read(value.to_string().as_bytes())
                .unwrap()
                .kind()
                .to_owned()
        };
        let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json" });
        for (document, expected) in [
            (json!({}), ""),
            (
                json!({ "artifactType": "a/b", "config": { "mediaType": "c/d" } }),
                "a/b",
            ),
            (
                json!({ "artifactType": null, "config": { "mediaType": "c/d" } }),
                "c/d",
            ),
            (
                json!({ "config": empty, "layers": [{ "mediaType": "l/m" }] }),
                "l/m",
            ),
            (
                json!({ "config": empty, "layers": null, "mediaType": "m/n" }),
                "m/n",
            ),
            (json!({ "mediaType": "m/n", "manifests": [] }), "m/n"),
        ] {
            assert_eq!(kind(document.clone()), expected, "{document}");
        }
        assert!(Document::read(b"[").is_none());
    }

    #[test]
    fn a_configuration_becomes_bounded_rows() {
        let chart = json!({
            "name": "web", "version": "1.2.3", "deprecated": false, "icon": null,
            "maintainers": [{ "name": "Ann", "email": "ann@example.org" }, { "name": "Bo" }],
            "annotations": { "category": "db", "deep": { "er": { "and": { "down": { "x": 1 } } } } },
        });
        let found = rows(&chart, 100);
        let row = |name: &str| {
            found
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        assert_eq!(row("maintainers"), Some("ann@example.org Ann, Bo"));
        assert_eq!(
            (row("name"), row("deprecated"), row("icon")),
            (Some("web"), Some("false"), None)
        );
        assert_eq!(row("annotations.category"), Some("db"));
        assert_eq!(row("annotations.deep.er.and"), Some("1"));
        let wide = json!(
            (0..10_000)
                .map(|n| (n.to_string(), n))
                .collect::<BTreeMap<_, _>>()
        );
        assert_eq!(rows(&wide, 40).len(), 40);
        let mut deep = json!("end");
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert_eq!(
            rows(&json!({ "deep": deep }), 40),
            [("deep".to_owned(), "…".to_owned())]
        );
    }
}
