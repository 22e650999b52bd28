//! The contracts of [`AllRows`] and [`AllObjects`].
#![allow(missing_docs, reason = "the names say what is promised")]

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::names::{fresh, key};
use crate::storage::{
    AllObjects, AllRows, Expect, Key, MAX_PAGE, MAX_ROW, ObjectKey, Outcome, Row, Space, StoreErrorKind,
    Version,
};

/// All rows of a space in the order in which they are met.
async fn walked(store: &Arc<dyn AllRows>, space: Space, limit: usize) -> Vec<(Key, Row)> {
    let mut found: Vec<(Key, Row)> = Vec::new();
    loop {
        let after = found.last().map(|(key, _)| key);
        let piece = store.walk(space, after, limit).await.unwrap();
        assert!(piece.rows.len() <= limit && (!piece.more || !piece.rows.is_empty()));
        found.extend(piece.rows);
        if !piece.more {
            return found;
        }
    }
}

pub async fn a_walk_meets_every_row_of_a_space_once(store: &Arc<dyn AllRows>) {
    let base = fresh("walk");
    let mut put: BTreeMap<Key, Row> = BTreeMap::new();
    let partitions = ["", "#1", "-", "/a", "0", "a", "b#c", "\u{e9}", "~"];
    for partition in partitions {
        for (n, sort) in [".", "a", "b#c", "\u{1f600}"].into_iter().enumerate() {
            let key = key(Space::Links, &format!("{base}{partition}"), sort);
            // More than one answer holds.
            let bytes = Bytes::from(vec![1; if n == 0 { MAX_ROW } else { n }]);
            let version = Version::random();
            let op = key.clone().put(Expect::Any, bytes.clone());
            assert_eq!(store.transact(version, &[op]).await.unwrap(), Outcome::Committed);
            put.insert(key, Row { bytes, version });
        }
    }
    let other = key(Space::Blobs, &base, "other").put(Expect::Any, "other");
    store.transact(Version::random(), &[other]).await.unwrap();
    let mut orders = Vec::new();
    for limit in [3, 7, MAX_PAGE] {
        let met = walked(store, Space::Links, limit).await;
        let ours: Vec<_> = met
            .into_iter()
            .filter(|(key, _)| key.partition.starts_with(&base))
            .collect();
        assert_eq!(ours.len(), put.len(), "each once, by {limit}");
        let found: BTreeMap<_, _> = ours.iter().cloned().collect();
        assert!(found == put, "other rows than were put, by {limit}");
        orders.push(ours.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
    }
    assert!(
        orders.iter().all(|order| *order == orders[0]),
        "always in one order"
    );
    for limit in [0, MAX_PAGE + 1] {
        let error = store.walk(Space::Links, None, limit).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misuse);
    }
}

/// The keys and lengths of all objects, as they are listed.
async fn listed(store: &Arc<dyn AllObjects>) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = Vec::new();
    loop {
        let after = found.last().map(|(key, _)| key.as_str());
        let page = store.list(after).await.unwrap();
        assert!(!page.more || !page.objects.is_empty());
        found.extend(page.objects.into_iter().map(|object| (object.key, object.length)));
        if !page.more {
            return found;
        }
    }
}

pub async fn a_listing_has_every_object_once_in_the_order_of_keys(store: &Arc<dyn AllObjects>) {
    let random = || hex::encode(Version::random().to_bytes());
    let mut put = BTreeMap::new();
    // More than one page; several below one prefix.
    let uploads: Vec<String> = (0..100).map(|_| random()).collect();
    for n in 0..1_100_u64 {
        let key = match n % 3 {
            0 => format!("manifests/{}", random()),
            _ => format!("uploads/{}/{}", uploads[n as usize % uploads.len()], random()),
        };
        put.insert(key, n % 50);
    }
    let puts = stream::iter(put.clone()).map(|(key, length)| async move {
        let key = ObjectKey::parse(&key).unwrap();
        let bytes = Bytes::from(vec![7; usize::try_from(length).unwrap()]);
        store.put(&key, bytes.into()).await.unwrap();
    });
    puts.buffer_unordered(32).collect::<Vec<()>>().await;
    let found = listed(store).await;
    assert!(found.is_sorted_by(|(one, _), (other, _)| one < other));
    let ours: BTreeMap<_, _> = found
        .into_iter()
        .filter(|(key, _)| put.contains_key(key))
        .collect();
    assert_eq!(ours.len(), put.len());
    assert!(ours == put);
    assert!(store.has_any("manifests/").await.unwrap() && !store.has_any("nothing/").await.unwrap());
    let gone: Vec<_> = put.keys().filter_map(|key| ObjectKey::parse(key)).collect();
    store.delete_many(&gone).await.unwrap();
    let left = listed(store).await;
    assert!(left.iter().all(|(key, _)| !put.contains_key(key)));
}

pub async fn what_is_unfinished_is_listed_until_it_is_over(store: &Arc<dyn AllObjects>) {
    let name = format!("uploads/{}/{}", fresh("unfinished"), fresh("object"));
    let key = ObjectKey::parse(&name).unwrap();
    let upload = store.begin(&key).await.unwrap();
    let is_listed = async || {
        let unfinished = store.unfinished().await.unwrap();
        unfinished.iter().any(|listed| listed.key == name)
    };
    assert!(is_listed().await);
    assert!(listed(store).await.iter().all(|(listed, _)| *listed != name));
    store.abort(&key, &upload).await.unwrap();
    assert!(!is_listed().await);
}
