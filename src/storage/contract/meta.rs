//! The contract of [`MetaStore`], for one caller at a time.
#![allow(missing_docs, reason = "the names say what is promised")]

use std::sync::Arc;

use bytes::Bytes;

use super::names::{fresh, key};
use crate::storage::{
    Effect, Expect, Key, MAX_OPS, MAX_PAGE, MAX_ROW, MAX_TRANSACTION, MetaStore, Op, Outcome, Row, Space,
    StoreErrorKind, Version,
};

type Store = Arc<dyn MetaStore>;

/// Applies `ops` as a transaction of its own; gives its version.
async fn commit(store: &Store, ops: &[Op]) -> Version {
    let version = Version::random();
    assert_eq!(store.transact(version, ops).await.unwrap(), Outcome::Committed);
    version
}

async fn put(store: &Store, key: &Key, bytes: impl Into<Bytes>) -> Row {
    let bytes = bytes.into();
    let version = commit(store, &[key.clone().put(Expect::Any, bytes.clone())]).await;
    Row { bytes, version }
}

async fn refused(store: &Store, ops: &[Op]) -> (usize, Option<Row>) {
    match store.transact(Version::random(), ops).await.unwrap() {
        Outcome::Refused { index, current } => (index, current),
        other => panic!("{other:?}"),
    }
}

pub async fn a_missing_row_is_none(store: &Store) {
    let key = key(Space::Blobs, &fresh("missing"), ".");
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(store.get_many(&[key]).await.unwrap(), [None]);
    assert_eq!(store.get_many(&[]).await.unwrap(), []);
    assert_eq!(store.snapshot(&[]).await.unwrap(), []);
}

pub async fn a_put_is_read_back_with_the_version_of_its_transaction(store: &Store) {
    let partition = fresh("put");
    let keys = Space::ALL.map(|space| key(space, &partition, "s#1"));
    let bytes = [
        vec![],
        vec![0, 255, 0],
        vec![7; MAX_ROW],
        b"x".to_vec(),
        b"y".to_vec(),
        b"z".to_vec(),
        vec![0; 300],
        b"zz".to_vec(),
    ];
    assert_eq!(keys.len(), bytes.len());
    let ops: Vec<Op> = keys
        .iter()
        .zip(&bytes)
        .map(|(key, bytes)| key.clone().put(Expect::Absent, bytes.clone()))
        .collect();
    let version = commit(store, &ops).await;
    for (key, bytes) in keys.iter().zip(bytes) {
        let bytes = Bytes::from(bytes);
        assert_eq!(store.get(key).await.unwrap(), Some(Row { bytes, version }));
    }
    let second = put(store, &keys[0], "again").await;
    assert_ne!(second.version, version);
    assert_eq!(store.get(&keys[0]).await.unwrap(), Some(second));
    assert_eq!(store.get(&keys[1]).await.unwrap().unwrap().version, version);
}

pub async fn absent_refuses_a_row_that_exists_and_shows_it(store: &Store) {
    let key = key(Space::Links, &fresh("absent"), "a");
    commit(store, &[key.clone().check(Expect::Absent)]).await;
    let row = put(store, &key, "1").await;
    for op in [
        key.clone().put(Expect::Absent, "2"),
        key.clone().delete(Expect::Absent),
        key.clone().check(Expect::Absent),
    ] {
        assert_eq!(refused(store, &[op]).await, (0, Some(row.clone())));
    }
    assert_eq!(store.get(&key).await.unwrap(), Some(row));
}

pub async fn a_version_refuses_any_other_row(store: &Store) {
    let key = key(Space::Uploads, &fresh("version"), "a");
    let other = Expect::Version(Version::random());
    assert_eq!(refused(store, &[key.clone().put(other, "1")]).await, (0, None));
    let first = put(store, &key, "1").await;
    let second = put(store, &key, "1").await;
    for stale in [Expect::Version(first.version), other] {
        for op in [
            key.clone().put(stale, "2"),
            key.clone().delete(stale),
            key.clone().check(stale),
        ] {
            assert_eq!(refused(store, &[op]).await, (0, Some(second.clone())));
        }
    }
    let right = Expect::unchanged(Some(&second));
    commit(store, &[key.clone().check(right)]).await;
    commit(store, &[key.clone().put(right, "3")]).await;
    let third = store.get(&key).await.unwrap();
    assert_eq!(third.as_ref().unwrap().bytes, "3");
    commit(store, &[key.clone().delete(Expect::unchanged(third.as_ref()))]).await;
    assert_eq!(store.get(&key).await.unwrap(), None);
    commit(store, &[key.put(Expect::unchanged(None), "4")]).await;
}

pub async fn a_refused_transaction_changes_nothing(store: &Store) {
    let partition = fresh("refused");
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|sort| key(Space::Repositories, &partition, sort));
    let (row_b, row_c) = (put(store, &b, "b").await, put(store, &c, "c").await);
    let ops = [
        a.clone().put(Expect::Absent, "new"),
        b.clone().put(Expect::Any, "new"),
        c.clone().delete(Expect::unchanged(Some(&row_c))),
        d.clone().check(Expect::Version(Version::random())),
    ];
    assert_eq!(refused(store, &ops).await, (3, None));
    let rows = store.get_many(&[a, b, c, d]).await.unwrap();
    assert_eq!(rows, [None, Some(row_b), Some(row_c), None]);
}

pub async fn a_refusal_names_the_lowest_index(store: &Store) {
    let partition = fresh("lowest");
    let [a, b, c] = ["a", "b", "c"].map(|sort| key(Space::Members, &partition, sort));
    let row = put(store, &b, "b").await;
    let ops = [
        c.clone().put(Expect::Absent, "c"),
        b.clone().check(Expect::Absent),
        a.clone().put(Expect::Version(Version::random()), "a"),
    ];
    assert_eq!(refused(store, &ops).await, (1, Some(row.clone())));
    let ops = [ops[2].clone(), ops[1].clone(), ops[0].clone()];
    assert_eq!(refused(store, &ops).await, (0, None));
}

pub async fn a_check_changes_nothing(store: &Store) {
    let partition = fresh("check");
    let [a, b] = ["a", "b"].map(|sort| key(Space::Manifests, &partition, sort));
    let row = put(store, &a, "a").await;
    let ops = [
        a.clone().check(Expect::unchanged(Some(&row))),
        b.clone().check(Expect::Absent),
    ];
    commit(store, &ops).await;
    commit(
        store,
        &[a.clone().check(Expect::Any), b.clone().check(Expect::Any)],
    )
    .await;
    assert_eq!(store.get_many(&[a, b]).await.unwrap(), [Some(row), None]);
}

pub async fn deleting_a_missing_row_is_no_error(store: &Store) {
    let key = key(Space::Blobs, &fresh("delete"), "a");
    commit(store, &[key.clone().delete(Expect::Any)]).await;
    commit(store, &[key.clone().delete(Expect::Absent)]).await;
    put(store, &key, "1").await;
    commit(store, &[key.clone().delete(Expect::Any)]).await;
    assert_eq!(store.get(&key).await.unwrap(), None);
}

pub async fn many_rows_come_in_the_order_of_their_keys(store: &Store) {
    let partition = fresh("many");
    let keys: Vec<Key> = (0..MAX_OPS)
        .map(|n| {
            key(
                Space::ALL[n % Space::ALL.len()],
                &partition,
                &format!("{:03}", 999 - 7 * n),
            )
        })
        .collect();
    let present: Vec<Op> = keys
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 3 > 0)
        .map(|(n, key)| key.clone().put(Expect::Absent, n.to_string()))
        .collect();
    let version = commit(store, &present).await;
    let rows = store.get_many(&keys).await.unwrap();
    for (n, row) in rows.iter().enumerate() {
        let bytes = Bytes::from(n.to_string());
        assert_eq!(*row, (n % 3 > 0).then_some(Row { bytes, version }), "{n}");
    }
    assert_eq!(store.snapshot(&keys).await.unwrap(), rows);
}

pub async fn spaces_and_partitions_are_apart(store: &Store) {
    let partition = fresh("apart");
    let longer = format!("{partition}a");
    let sort = "a";
    let mine = put(store, &key(Space::Blobs, &partition, sort), "mine").await;
    for other in [
        key(Space::Links, &partition, sort),
        key(Space::Blobs, &longer, sort),
        key(Space::Blobs, &partition, "b"),
    ] {
        assert_eq!(store.get(&other).await.unwrap(), None);
    }
    put(store, &key(Space::Blobs, &longer, "0"), "other").await;
    put(store, &key(Space::Links, &partition, "0"), "other").await;
    let page = store.range(Space::Blobs, &partition, "", None, 10).await.unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!((page.entries[0].row.clone(), page.more), (mine, false));
}

/// All sort keys of a range, read in pages of `limit`.
async fn sorts(
    store: &Store,
    at: (Space, &str),
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    loop {
        let after = found.last().map(String::as_str).or(after);
        let page = store.range(at.0, at.1, prefix, after, limit).await.unwrap();
        assert!(page.entries.len() <= limit);
        assert!(
            !page.more || !page.entries.is_empty(),
            "a page that may go on leads on"
        );
        found.extend(page.entries.into_iter().map(|entry| entry.sort));
        if !page.more {
            return found;
        }
    }
}

pub async fn a_range_is_in_byte_order(store: &Store) {
    let partition = fresh("order");
    let mut names = [
        "z",
        "a",
        "a#b",
        "a.b",
        "a/b",
        "a-b",
        "ab",
        "A",
        "a ",
        "\u{e9}",
        "\u{1f600}",
        "\u{ffee}",
        "a\u{1}",
        "~",
        "10",
        "9",
        "_",
        ".",
        "t#latest",
        "t#v1",
        "t#v10",
        "t#v2",
        "u#",
    ];
    for name in names {
        put(store, &key(Space::Repositories, &partition, name), name).await;
    }
    names.sort_unstable();
    for limit in [1, 4, names.len() - 1, names.len(), MAX_PAGE] {
        assert_eq!(
            sorts(store, (Space::Repositories, &partition), "", None, limit).await,
            names,
            "{limit}"
        );
    }
    let page = store
        .range(Space::Repositories, &partition, "", None, names.len())
        .await
        .unwrap();
    assert!(page.entries.iter().all(|entry| entry.row.bytes == entry.sort));
}

pub async fn a_range_honours_prefix_after_and_limit(store: &Store) {
    let partition = fresh("range");
    let at = (Space::Manifests, partition.as_str());
    for name in ["s", "t", "t#", "t#a", "t#b", "t#b#c", "t#d", "t$", "u"] {
        put(store, &key(at.0, at.1, name), "").await;
    }
    let all = ["t#", "t#a", "t#b", "t#b#c", "t#d"];
    for limit in [1, 2, 5, 9] {
        assert_eq!(sorts(store, at, "t#", None, limit).await, all);
        // Greater than `after`, which need not exist nor begin with the prefix.
        assert_eq!(sorts(store, at, "t#", Some("a"), limit).await, all);
        assert_eq!(sorts(store, at, "t#", Some("t#a"), limit).await, all[2..]);
        assert_eq!(sorts(store, at, "t#", Some("t#aa"), limit).await, all[2..]);
        assert_eq!(sorts(store, at, "t#", Some("t#d"), limit).await, [""; 0]);
        assert_eq!(sorts(store, at, "t#", Some("zzz"), limit).await, [""; 0]);
        assert_eq!(sorts(store, at, "none", None, limit).await, [""; 0]);
        assert_eq!(sorts(store, at, "", Some("t$"), limit).await, ["u"]);
    }
    let page = store.range(at.0, at.1, "t#", None, 4).await.unwrap();
    assert!(page.more && page.entries.len() == 4);
    let page = store.range(at.0, at.1, "t#", None, 6).await.unwrap();
    assert!(!page.more && page.entries.len() == 5);
    let nothing = store.range(at.0, &fresh("nothing"), "", None, 5).await.unwrap();
    assert!(!nothing.more && nothing.entries.is_empty());
}

pub async fn a_range_of_big_rows_reaches_the_end(store: &Store) {
    let partition = fresh("big");
    let names: Vec<String> = (0..12).map(|n| format!("{n:02}")).collect();
    for name in &names {
        put(store, &key(Space::Manifests, &partition, name), vec![1; MAX_ROW]).await;
    }
    for limit in [3, MAX_PAGE] {
        assert_eq!(
            sorts(store, (Space::Manifests, &partition), "", None, limit).await,
            names
        );
    }
}

pub async fn the_largest_transaction_is_applied(store: &Store) {
    let partition = fresh("largest");
    let bytes = vec![3; MAX_TRANSACTION / MAX_OPS];
    let keys: Vec<Key> = (0..MAX_OPS)
        .map(|n| key(Space::ALL[n % Space::ALL.len()], &partition, &n.to_string()))
        .collect();
    let ops: Vec<Op> = keys
        .iter()
        .map(|key| key.clone().put(Expect::Absent, bytes.clone()))
        .collect();
    let version = commit(store, &ops).await;
    let again = refused(store, &ops).await;
    assert_eq!(
        again,
        (
            0,
            Some(Row {
                bytes: bytes.into(),
                version
            })
        )
    );
    let deletes: Vec<Op> = keys
        .iter()
        .map(|key| key.clone().delete(Expect::Version(version)))
        .collect();
    commit(store, &deletes).await;
    assert_eq!(store.get_many(&keys).await.unwrap(), vec![None; MAX_OPS]);
}

pub async fn what_breaks_the_bounds_is_misuse(store: &Store) {
    let partition = fresh("misuse");
    let op = |n: usize, bytes: usize| Op {
        key: key(Space::Blobs, &partition, &n.to_string()),
        expect: Expect::Any,
        effect: Effect::Put(vec![0; bytes].into()),
    };
    let keys: Vec<Key> = (0..=MAX_OPS).map(|n| op(n, 0).key).collect();
    let transactions = [
        vec![],
        (0..=MAX_OPS).map(|n| op(n, 0)).collect(),
        vec![op(1, 0), op(1, 0)],
        vec![op(1, MAX_ROW + 1)],
        (0..MAX_OPS)
            .map(|n| op(n, MAX_TRANSACTION / MAX_OPS + 1))
            .collect(),
    ];
    for ops in transactions {
        let error = store.transact(Version::random(), &ops).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misuse);
    }
    for keys in [&keys[..], &[keys[0].clone(), keys[0].clone()]] {
        for refused in [store.get_many(keys).await, store.snapshot(keys).await] {
            assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Misuse);
        }
    }
    for limit in [0, MAX_PAGE + 1] {
        let error = store
            .range(Space::Blobs, &partition, "", None, limit)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Misuse);
    }
    assert_eq!(store.get_many(&keys[1..]).await.unwrap(), vec![None; MAX_OPS]);
}
