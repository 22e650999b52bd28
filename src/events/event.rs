//! What an event says: CloudEvents 1.0, types and data as zot has them.

use serde_json::{Map, Value, json};

use crate::{
    config,
    oci::{Descriptor, RepoName, Timestamp},
    registry::changes::{NameChange, Why},
};

/// zot's source.
const SOURCE: &str = "zotregistry.dev";
/// What zot's types begin with.
const PREFIX: &str = "zotregistry";
/// And those that zot doesn't have.
const OWN_PREFIX: &str = "portolan";
/// Who did it, in the data.
const ACTOR: &str = "actor";

/// How events are called.
#[derive(Clone, Debug, Default)]
pub struct Naming {
    source: Option<String>,
    prefix: Option<String>,
}

impl From<&config::Events> for Naming {
    fn from(config: &config::Events) -> Self {
        Self {
            source: config.source.clone(),
            prefix: config.type_prefix.clone(),
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct CloudEvent {
    /// The same whoever tells of it, and however often: by source and id who is told twice sees it.
    pub id: String,
    /// What happened.
    pub kind: String,
    /// Which registry says so.
    pub source: String,
    /// When.
    pub time: Timestamp,
    /// Why, in a word: an attribute of ours.
    pub reason: Option<&'static str>,
    /// What zot says of it.
    pub data: Map<String, Value>,
    /// The manifest whose document belongs to it, where there is one.
    pub manifest: Option<Descriptor>,
}

impl CloudEvent {
    /// All of it as one document (structured mode).
    #[must_use]
    pub fn document(&self) -> Value {
        let mut document = json!({
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.kind,
            "time": self.time.to_string(),
            "datacontenttype": "application/json",
            "data": self.data,
        });
        if let Some(reason) = self.reason {
            document["reason"] = reason.into();
        }
        document
    }

    /// Leaves out who did it.
    pub(super) fn hide_actor(&mut self) {
        self.data.remove(ACTOR);
    }

    /// Its attributes but for the type of its data, by the names that they have in headers.
    pub(super) fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = vec![
            ("ce-specversion", "1.0".to_owned()),
            ("ce-id", self.id.clone()),
            ("ce-source", self.source.clone()),
            ("ce-type", self.kind.clone()),
            ("ce-time", self.time.to_string()),
        ];
        attributes.extend(self.reason.map(|reason| ("ce-reason", reason.to_owned())));
        attributes
    }
}

/// What a change is told as, in this order; always the same.
#[must_use]
pub fn events_of(change: &NameChange, naming: &Naming) -> Vec<CloudEvent> {
    let mut made = Making {
        change,
        naming,
        events: Vec::new(),
    };
    if let Some(taken) = &change.taken {
        let data = json!({ "name": change.repository.as_str(), "from": taken.from, "to": taken.by });
        made.event(OWN_PREFIX, "repository.taken_over", data, None);
    }
    if !change.came.is_empty() && change.manifests_then + change.went.len() as u64 == change.came.len() as u64
    {
        let data = json!({ "name": change.repository.as_str() });
        made.event(PREFIX, "repository.created", data, None);
    }
    for moved in &change.tags {
        if let Some(named) = &moved.to {
            made.image("image.updated", moved.tag.as_str(), named);
        }
    }
    for came in &change.came {
        let is_named =
            |named: &Option<Descriptor>| named.as_ref().is_some_and(|named| named.digest == came.digest);
        if !change.tags.iter().any(|moved| is_named(&moved.to)) {
            made.image("image.updated", came.digest.as_str(), came);
        }
    }
    for moved in &change.tags {
        if let (Some(named), None) = (&moved.from, &moved.to) {
            made.image("image.deleted", moved.tag.as_str(), named);
        }
    }
    for went in &change.went {
        made.image("image.deleted", went.digest.as_str(), went);
    }
    made.events
}

struct Making<'a> {
    change: &'a NameChange,
    naming: &'a Naming,
    events: Vec<CloudEvent>,
}

impl Making<'_> {
    fn image(&mut self, kind: &'static str, reference: &str, manifest: &Descriptor) {
        let data = json!({
            "name": self.change.repository.as_str(),
            "reference": reference,
            "digest": manifest.digest.as_str(),
            "mediaType": manifest.media_type.as_str(),
        });
        let of = (kind == "image.updated").then(|| manifest.clone());
        self.event(PREFIX, kind, data, of);
    }

    fn event(&mut self, prefix: &str, kind: &str, data: Value, manifest: Option<Descriptor>) {
        let change = self.change;
        let mut data = match data {
            Value::Object(data) => data,
            _ => Map::new(),
        };
        match change.why {
            _ if change.by.is_empty() => {}
            // Nobody did: that is the run.
            Some(Why::Retention) => drop(data.insert("run".to_owned(), json!(change.by))),
            _ => drop(data.insert(ACTOR.to_owned(), json!({ "name": change.by }))),
        }
        let prefix = self.naming.prefix.as_deref().unwrap_or(prefix);
        self.events.push(CloudEvent {
            id: id(&change.repository, change.at_ms, self.events.len()),
            kind: format!("{prefix}.{kind}"),
            source: self.naming.source.clone().unwrap_or_else(|| SOURCE.to_owned()),
            time: Timestamp::from_ms(change.at_ms),
            reason: change.why.map(Why::name),
            data,
            manifest,
        });
    }
}

/// No two changes of a repository have the same time.
fn id(repository: &RepoName, at_ms: u64, n: usize) -> String {
    format!("{repository}@{at_ms}.{n}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oci::{Algorithm, Digest, MediaType, Tag},
        registry::changes::{TagMove, Taken},
    };

    fn image(content: &str) -> Descriptor {
        Descriptor {
            media_type: MediaType::parse(MediaType::IMAGE_MANIFEST).unwrap(),
            digest: Digest::of(Algorithm::Sha256, content.as_bytes()),
            size: 3,
        }
    }

    fn change() -> NameChange {
        NameChange {
            repository: RepoName::parse("team/app").unwrap(),
            at_ms: 1_795_831_957_123,
            by: String::new(),
            why: Some(Why::Client),
            tags: Vec::new(),
            came: Vec::new(),
            went: Vec::new(),
            manifests_then: 1,
            taken: None,
        }
    }

    fn moves(tag: &str, from: Option<&str>, to: Option<&str>) -> TagMove {
        TagMove {
            tag: Tag::parse(tag).unwrap(),
            from: from.map(image),
            to: to.map(image),
        }
    }

    /// The end of each type, and what it is about.
    fn told(change: &NameChange) -> Vec<(String, String)> {
        let events = events_of(change, &Naming::default());
        let about = |event: &CloudEvent| {
            event
                .data
                .get("reference")
                .and_then(Value::as_str)
                .unwrap_or("-")
                .to_owned()
        };
        events
            .iter()
            .map(|event| (event.kind.clone(), about(event)))
            .collect()
    }

    #[test]
    fn a_change_is_told_once_for_each_name_and_in_one_order() {
        let pushed = NameChange {
            tags: vec![moves("a", None, Some("x")), moves("b", Some("y"), Some("x"))],
            came: vec![image("x")],
            manifests_then: 2,
            ..change()
        };
        let (updated, deleted) = ("zotregistry.image.updated", "zotregistry.image.deleted");
        let of = |kind: &str, about: &str| (kind.to_owned(), about.to_owned());
        assert_eq!(told(&pushed), [of(updated, "a"), of(updated, "b")]);
        let first = NameChange {
            came: vec![image("x")],
            taken: Some(Taken {
                from: "a:1".to_owned(),
                by: "b:1".to_owned(),
            }),
            ..change()
        };
        let by_digest = image("x").digest.as_str().to_owned();
        let expected = [
            of("portolan.repository.taken_over", "-"),
            of("zotregistry.repository.created", "-"),
            of(updated, &by_digest),
        ];
        assert_eq!(told(&first), expected);
        let gone = NameChange {
            tags: vec![moves("a", Some("x"), None)],
            went: vec![image("x")],
            manifests_then: 0,
            ..change()
        };
        assert_eq!(told(&gone), [of(deleted, "a"), of(deleted, &by_digest)]);
    }

    #[test]
    fn an_event_says_where_when_why_and_by_whom() {
        let restored = NameChange {
            tags: vec![moves("a", None, Some("x"))],
            by: "alice".to_owned(),
            why: Some(Why::Restore),
            ..change()
        };
        let naming = Naming {
            source: Some("registry.example.org".to_owned()),
            prefix: Some("org.example".to_owned()),
        };
        let events = events_of(&restored, &naming);
        let expected = json!({
            "specversion": "1.0",
            "id": "team/app@1795831957123.0",
            "source": "registry.example.org",
            "type": "org.example.image.updated",
            "time": "2026-11-28T02:12:37.123Z",
            "datacontenttype": "application/json",
            "reason": "restore",
            "data": {
                "name": "team/app",
                "reference": "a",
                "digest": image("x").digest.as_str(),
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "actor": { "name": "alice" },
            },
        });
        assert_eq!(
            events.iter().map(CloudEvent::document).collect::<Vec<_>>(),
            [expected]
        );
    }

    #[test]
    fn retention_is_a_run_and_nobody() {
        let kept = NameChange {
            tags: vec![moves("a", Some("x"), None)],
            by: "01J".to_owned(),
            why: Some(Why::Retention),
            ..change()
        };
        let event = events_of(&kept, &Naming::default()).remove(0);
        assert_eq!((event.reason, event.data.get(ACTOR)), (Some("retention"), None));
        assert_eq!(event.data["run"], "01J");
    }
}
