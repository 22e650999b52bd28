//! `index.json`: what is in a layout, under which names.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};

use super::LayoutError;
use crate::oci::{Digest, MediaType};

/// The annotation with the name of an entry (image-spec, annotations.md).
const NAME: &str = "org.opencontainers.image.ref.name";

/// Where containerd, docker's `save` and BuildKit have it in full, a registry first; the other one is a tag alone then.
const FULL_NAME: &str = "io.containerd.image.name";

/// A manifest that a layout has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its kind; some writers leave it to the document to say.
    pub media_type: Option<MediaType>,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its name, if it has one: by itself a tag, mostly.
    pub name: Option<String>,
}

/// All entries, with what else is said of them.
#[derive(Debug, Default)]
pub(super) struct Index {
    // By name; what has none, by its digest.
    entries: BTreeMap<String, Value>,
}

impl Index {
    /// Reads the list of the layout at `path`.
    pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Self, LayoutError> {
        let problem = |problem: String| LayoutError::Index {
            path: path.to_owned(),
            problem,
        };
        let mut index: Value = serde_json::from_slice(bytes).map_err(|error| problem(error.to_string()))?;
        let Some(Value::Array(entries)) = index.get_mut("manifests").map(Value::take) else {
            return Err(problem("a list of manifests is expected".to_owned()));
        };
        let mut read = Self::default();
        for (n, value) in entries.into_iter().enumerate() {
            let entry = entry(&value).map_err(|why| problem(format!("entry {}: {why}", n + 1)))?;
            let key = key(&entry);
            if let Some(other) = read.entries.get(&key).and_then(|other| other["digest"].as_str())
                && other != entry.digest.as_str()
            {
                let digest = &entry.digest;
                return Err(problem(format!(
                    "two entries, {other} and {digest}, are called {key:?}: which of them is meant?"
                )));
            }
            read.entries.insert(key, value);
        }
        Ok(read)
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries
            .values()
            .filter_map(|value| entry(value).ok())
            .collect()
    }

    /// Adds an entry, in the place of one of its name.
    pub(super) fn enter(&mut self, entry: &Entry) {
        let mut value = json!({ "digest": entry.digest.as_str(), "size": entry.size });
        if let Some(media_type) = &entry.media_type {
            value["mediaType"] = media_type.as_str().into();
        }
        if let Some(name) = &entry.name {
            value["annotations"] = json!({ NAME: name });
        }
        self.entries.insert(key(entry), value);
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let entries: Vec<&Value> = self.entries.values().collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::IMAGE_INDEX,
            "manifests": entries,
        });
        format!("{index:#}\n").into_bytes()
    }
}

fn key(entry: &Entry) -> String {
    entry.name.clone().unwrap_or_else(|| entry.digest.to_string())
}

fn entry(value: &Value) -> Result<Entry, String> {
    let digest = value["digest"].as_str().ok_or("a digest is expected")?;
    let media_type = value["mediaType"].as_str().map(MediaType::parse).transpose();
    Ok(Entry {
        media_type: media_type.map_err(|error| error.to_string())?,
        digest: Digest::parse(digest).map_err(|error| format!("{digest:?}: {error}"))?,
        size: value["size"].as_u64().ok_or("a size is expected")?,
        name: name(&value["annotations"]).map(str::to_owned),
    })
}

/// What an entry is called, without a registry where one is sure to be in front.
fn name(annotations: &Value) -> Option<&str> {
    let full = annotations[FULL_NAME]
        .as_str()
        .and_then(|name| name.split_once('/'));
    full.map(|(_registry, name)| name).or(annotations[NAME].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn images_are_called_as_docker_and_containerd_call_them() {
        for (full, tag, expected) in [
            (
                Some("docker.io/library/alpine:3"),
                Some("3"),
                Some("library/alpine:3"),
            ),
            (Some("localhost:5000/a/b:v1"), Some("v1"), Some("a/b:v1")),
            (Some("ghcr.io/a/b:v1"), None, Some("a/b:v1")),
            // Kubernetes' containerd calls an image by its configuration, too.
            (Some("sha256:00"), Some("v1"), Some("v1")),
            (None, Some("v1"), Some("v1")),
            (None, None, None),
        ] {
            let annotations = json!({ FULL_NAME: full, NAME: tag });
            assert_eq!(name(&annotations), expected, "{full:?}");
        }
    }

    #[test]
    fn what_others_wrote_stays_and_names_are_taken_over() {
        let digest = |text: &str| Digest::of(Algorithm::Sha256, text.as_bytes());
        let (old, new) = (digest("old"), digest("new"));
        let read = |text: &str| Index::read(Path::new("l"), text.as_bytes());
        let text = format!(
            r#"{{"schemaVersion": 2, "manifests": [
                {{"digest": "{old}", "size": 3, "annotations": {{"{NAME}": "v1", "other": "x"}}, "platform": {{"os": "linux"}}}},
                {{"digest": "{old}", "size": 3}},
                {{"digest": "{old}", "size": 3, "annotations": {{"{NAME}": "v2"}}}}]}}"#
        );
        let mut index = read(&text).unwrap();
        index.enter(&Entry {
            media_type: Some(MediaType::parse(MediaType::IMAGE_MANIFEST).unwrap()),
            digest: new.clone(),
            size: 4,
            name: Some("v2".to_owned()),
        });
        let bytes = index.bytes();
        let again = read(std::str::from_utf8(&bytes).unwrap()).unwrap();
        let names = again
            .entries()
            .into_iter()
            .map(|entry| (entry.name, entry.digest));
        let name = |name: &str| Some(name.to_owned());
        assert_eq!(
            names.collect::<Vec<_>>(),
            [(None, old.clone()), (name("v1"), old), (name("v2"), new)]
        );
        assert_eq!(again.entries["v1"]["platform"]["os"], "linux");
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"manifests": [{}]}"#,
            r#"{"manifests": [{"digest": "sha256:a", "size": 1}]}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
