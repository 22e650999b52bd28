//! What must hold of histories, for all tests that change names.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    oci::{Digest, Page},
    registry::{RegistryError, testing::World},
    storage::{Key, MetaStore as _, Space, keys},
};

/// Whether a row tells what names were: it outlives what they named.
pub(in crate::registry) fn is_of_changes(key: &Key) -> bool {
    let in_repository = key.sort.starts_with(keys::HISTORY) || key.sort.starts_with("e#");
    key.space == Space::Repositories
        && (in_repository
            || ["_changes#", "_feed#", "_days#"]
                .iter()
                .any(|prefix| key.partition.starts_with(prefix)))
}

/// All changes of a repository, the oldest first, each of which must begin where the former one ended. In the end the
/// repository must be as they say, and each tag's history must be its part of them.
pub(in crate::registry) async fn check_history(
    world: &World,
    registry: &crate::registry::Registry,
    name: &RepoName,
) -> Vec<NameChange> {
    let mut changes = Vec::new();
    let mut before_ms = None;
    loop {
        let (page, more) = registry.history(name, before_ms, 7).await.unwrap();
        before_ms = page.last().map(|change| change.at_ms);
        changes.extend(page);
        if !more {
            break;
        }
    }
    changes.reverse();
    let mut tags: BTreeMap<Tag, Descriptor> = BTreeMap::new();
    let mut manifests: BTreeSet<Digest> = BTreeSet::new();
    let mut at_ms = 0;
    for change in &changes {
        assert!(change.at_ms > at_ms, "times grow: {change:?}");
        at_ms = change.at_ms;
        assert!(!change.tags.is_empty() || !change.came.is_empty() || !change.went.is_empty());
        for came in &change.came {
            assert!(manifests.insert(came.digest.clone()), "it was there: {change:?}");
        }
        for moved in &change.tags {
            assert_eq!(tags.get(&moved.tag), moved.from.as_ref(), "{change:?}");
            assert_ne!(moved.from, moved.to, "{change:?}");
            match &moved.to {
                Some(to) => drop(tags.insert(moved.tag.clone(), to.clone())),
                None => drop(tags.remove(&moved.tag)),
            }
        }
        for went in &change.went {
            assert!(manifests.remove(&went.digest), "it wasn't there: {change:?}");
        }
        assert_eq!(change.manifests_then, manifests.len() as u64, "{change:?}");
        assert!(tags.values().all(|named| manifests.contains(&named.digest)));
    }
    let listed = match registry.tags(name, &Page::default()).await {
        Ok(listed) => listed.names,
        Err(RegistryError::NameUnknown) => Vec::new(),
        Err(error) => panic!("{error:?}"),
    };
    let expected: Vec<_> = tags.keys().map(|tag| tag.as_str().to_owned()).collect();
    assert_eq!(listed, expected);
    for (tag, named) in &tags {
        let read = registry
            .describe_manifest(name, &crate::oci::Reference::Tag(tag.clone()))
            .await;
        assert_eq!(read.unwrap(), *named);
    }
    let page = world
        .meta
        .range(Space::Manifests, name.as_str(), "m#", None, 1000)
        .await
        .unwrap();
    let live = page.entries.iter().filter(|entry| {
        let manifest: rows::Manifest = row::read(&entry.row).unwrap();
        manifest.deleted_ms == 0
    });
    let live: BTreeSet<_> = live
        .map(|entry| Digest::parse(&entry.sort["m#".len()..]).unwrap())
        .collect();
    assert_eq!(live, manifests);
    let moved: BTreeSet<_> = changes
        .iter()
        .flat_map(|change| &change.tags)
        .map(|moved| &moved.tag)
        .collect();
    for tag in moved {
        check_tag(registry, name, tag, &changes).await;
    }
    changes
}

/// The tag's history, read in pages, is what the changes say of it.
async fn check_tag(registry: &crate::registry::Registry, name: &RepoName, tag: &Tag, changes: &[NameChange]) {
    let mut events = Vec::new();
    let mut page = HistoryPage {
        limit: 3,
        before_ms: None,
        since_ms: None,
        digest: None,
    };
    loop {
        let read = registry.tag_history(name, tag, &page).await.unwrap();
        events.extend(read.events);
        if !read.more {
            break;
        }
        page.before_ms = read.until_ms;
    }
    let of_tag = changes.iter().rev().filter_map(|change| {
        let moved = change.tags.iter().find(|moved| moved.tag == *tag)?;
        Some((change.at_ms, moved.from.clone(), moved.to.clone()))
    });
    let events = events
        .into_iter()
        .map(|event| (event.at_ms, event.from, event.to));
    assert_eq!(events.collect::<Vec<_>>(), of_tag.collect::<Vec<_>>());
}

/// Everything in the feeds, by repository. Numbers have no gaps.
pub(in crate::registry) async fn followed(feed: &Feed) -> BTreeMap<RepoName, Vec<NameChange>> {
    let mut found: BTreeMap<RepoName, Vec<NameChange>> = BTreeMap::new();
    for n in 0..PARTITIONS {
        let mut after = 0;
        loop {
            let followed = feed.read(n, after).await.unwrap();
            assert!(!followed.missed);
            assert!(followed.upto > after || followed.changes.is_empty());
            after = followed.upto;
            for change in followed.changes {
                assert_eq!(keys::change_partition(&change.repository), n);
                found.entry(change.repository.clone()).or_default().push(change);
            }
            if !followed.more {
                break;
            }
        }
        assert_eq!(feed.ends().await.unwrap()[n as usize], after);
    }
    found
}

/// Settles everything, which somebody else may do, too.
pub(in crate::registry) async fn settle_all(registry: &crate::registry::Registry) {
    for n in 0..PARTITIONS {
        while registry.settle_changes(n).await.unwrap().outrun {}
    }
}
