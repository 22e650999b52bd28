//! What was told, compared with what the registry says became of its tags.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::client::{Answer, Ask, Client, Request};

/// Of each repository.
const TAGS: [&str; 2] = ["tag-0", "tag-1"];

/// An event as a sink has got it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) data: Value,
}

impl Told {
    pub(super) fn of_document(document: &Value) -> Self {
        assert_eq!(document["specversion"], "1.0");
        assert_eq!(document["source"], "zotregistry.dev");
        Self {
            id: document["id"].as_str().unwrap().to_owned(),
            kind: document["type"].as_str().unwrap().to_owned(),
            data: document["data"].clone(),
        }
    }

    fn text(&self, name: &str) -> &str {
        self.data[name].as_str().unwrap_or_default()
    }
}

/// All that any member says when it is asked.
pub(super) async fn asked(door: &impl Ask) -> Vec<Told> {
    let (mut after, mut all) = ("0".to_owned(), Vec::new());
    loop {
        let answer = ask(door, &after).await.expect(200).json();
        assert_eq!(answer["missed"], false);
        let events = answer["events"].as_array().unwrap();
        all.extend(events.iter().map(Told::of_document));
        answer["next"].as_str().unwrap().clone_into(&mut after);
        if answer["more"] == false && events.is_empty() {
            return all;
        }
    }
}

pub(super) async fn ask(door: &impl Ask, after: &str) -> Answer {
    let target = format!("/v2/_portolan/events?after={after}");
    door.ask(Request::get(target)).await.unwrap()
}

/// Whether as much was told as has become of the tags, and all that those are told who ask.
pub(super) async fn is_all(door: &Client, repositories: &[String], told: &[Told]) -> bool {
    let ids: BTreeSet<&str> = told.iter().map(|told| told.id.as_str()).collect();
    if !asked(door)
        .await
        .iter()
        .all(|known| ids.contains(known.id.as_str()))
    {
        return false;
    }
    let told = in_order(told);
    for repository in repositories {
        let Some(told) = told.get(repository) else {
            return false;
        };
        for tag in TAGS {
            let of_tag = told.iter().filter(|told| told.text("reference") == tag);
            if of_tag.count() < history(door, repository, tag).await.len() {
                return false;
            }
        }
    }
    true
}

/// By repository, each the first time that it was told.
fn in_order(told: &[Told]) -> BTreeMap<String, Vec<Told>> {
    let (mut seen, mut found) = (BTreeSet::new(), BTreeMap::<String, Vec<Told>>::new());
    for told in told.iter().filter(|told| seen.insert(told.id.clone())) {
        found
            .entry(told.text("name").to_owned())
            .or_default()
            .push(told.clone());
    }
    found
}

/// What was told is what is in the histories of the repositories' tags, in that order, and what is told who ask.
pub(super) async fn check(door: &Client, repositories: &[String], told: &[Told]) {
    let (told, mut known) = (in_order(told), in_order(&asked(door).await));
    let mut events = 0;
    for repository in repositories {
        let (told, known) = (&told[repository], known.get_mut(repository).unwrap());
        assert_eq!(told.len(), known.len(), "{repository}");
        for (told, known) in told.iter().zip(&*known) {
            // Who is told gets the document, too, if it is there by then.
            let mut without = told.clone();
            without.data.as_object_mut().unwrap().remove("manifest");
            assert_eq!(without, *known);
        }
        for tag in TAGS {
            let expected = history(door, repository, tag).await;
            let of_tag = told.iter().filter(|told| told.text("reference") == tag);
            let told: Vec<Option<String>> = of_tag
                .map(|told| match told.kind.as_str() {
                    "zotregistry.image.updated" => Some(told.text("digest").to_owned()),
                    "zotregistry.image.deleted" => None,
                    other => panic!("{other} has a tag"),
                })
                .collect();
            assert_eq!(told, expected, "{repository}:{tag}");
            events += told.len();
        }
    }
    assert!(events > 60, "{events} events of tags");
}

/// What a tag has named, the oldest first; `None` is that it was deleted.
async fn history(door: &Client, repository: &str, tag: &str) -> Vec<Option<String>> {
    let target = format!("/v2/{repository}/_oci/tag-history/{tag}?n=1000");
    let answer = door.ask(Request::get(target)).await.unwrap().expect(200).json();
    let events = answer["manifests"].as_array().unwrap().iter().rev();
    events
        .map(
            |event| match event["annotations"]["org.opencontainers.distribution.tag.event"].as_str() {
                Some("created") => Some(event["digest"].as_str().unwrap().to_owned()),
                Some("deleted") => None,
                other => panic!("{other:?} is no event"),
            },
        )
        .collect()
}
