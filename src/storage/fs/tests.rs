use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt;

use super::*;
use crate::storage::contract;

fn key(key: &str) -> ObjectKey {
    ObjectKey::parse(key).unwrap()
}

fn payload(bytes: impl Into<Bytes>) -> Payload {
    bytes.into().into()
}

async fn open(root: &Path) -> FsBlobs {
    FsBlobs::open(root).await.unwrap().with_min_part(1)
}

/// The files below `root`, as paths relative to it.
fn files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

async fn read(store: &FsBlobs, key: &ObjectKey) -> Vec<u8> {
    let len = store.head(key).await.unwrap().unwrap().length;
    let stream = store.get(key, 0, len - 1).await.unwrap().bytes;
    stream.try_collect::<Vec<_>>().await.unwrap().concat()
}

async fn upload(store: &FsBlobs, key: &ObjectKey, pieces: &[&'static [u8]]) -> (String, Vec<Part>) {
    let id = store.begin(key).await.unwrap();
    let mut parts = Vec::new();
    for (n, piece) in (1..).zip(pieces) {
        let number = PartNumber::new(n).unwrap();
        let etag = store.part(key, &id, number, payload(*piece)).await.unwrap();
        let length = piece.len() as u64;
        parts.push(Part { number, etag, length });
    }
    (id, parts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()).await);
    contract::run_blobs(store.clone()).await;
    contract::run_lists(store).await;
}

#[tokio::test]
async fn it_keeps_the_contract_with_parts_of_s3s_length() {
    let dir = tempfile::tempdir().unwrap();
    contract::run_blobs(Arc::new(FsBlobs::open(dir.path()).await.unwrap())).await;
}

#[tokio::test]
async fn everything_survives_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts, later) = (key("b/0123456789abcdef"), key("b/parts"), key("b/later"));
    let store = open(dir.path()).await;
    store.put(&whole, payload("whole")).await.unwrap();
    let (id, named) = upload(&store, &parts, &[b"one", b"two"]).await;
    store.complete(&parts, &id, &named).await.unwrap();
    let (id, named) = upload(&store, &later, &[b"three", b"four"]).await;
    drop(store);

    let store = open(dir.path()).await;
    assert_eq!(read(&store, &whole).await, b"whole");
    assert_eq!(read(&store, &parts).await, b"onetwo");
    assert_eq!(store.head(&later).await.unwrap(), None);
    store.complete(&later, &id, &named).await.unwrap();
    assert_eq!(read(&store, &later).await, b"threefour");
}

#[tokio::test]
async fn completing_moves_no_byte_and_leaves_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let object = key("b/object");
    let (id, parts) = upload(&store, &object, &[b"one", b"two", b"three"]).await;
    let number = parts[0].number;
    let etag = store.part(&object, &id, number, payload("again")).await.unwrap();
    let first = Part {
        number,
        etag,
        length: 5,
    };
    assert_eq!(files(dir.path()).len(), 3, "the replaced part is gone");
    store
        .complete(&object, &id, &[first.clone(), parts[2].clone()])
        .await
        .unwrap();
    let expected = [
        "b/object.o/parts".to_owned(),
        format!("b/object.o/00001.{}", first.etag),
        format!("b/object.o/00003.{}", parts[2].etag),
    ];
    assert_eq!(files(dir.path()), expected.into());
    store.delete(&object).await.unwrap();
    assert!(files(dir.path()).is_empty());
}

#[tokio::test]
async fn a_part_uploaded_twice_at_once_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let object = key("b/object");
    for _ in 0..20 {
        let id = store.begin(&object).await.unwrap();
        let number = PartNumber::new(1).unwrap();
        let part = || store.part(&object, &id, number, payload("bytes"));
        let (a, b, c) = tokio::join!(part(), part(), part());
        let mut valid = 0;
        for etag in [a.unwrap(), b.unwrap(), c.unwrap()] {
            let part = Part {
                number,
                etag,
                length: 5,
            };
            valid += usize::from(store.complete(&object, &id, &[part]).await.is_ok());
        }
        assert_eq!(valid, 1);
        store.delete(&object).await.unwrap();
    }
    assert!(files(dir.path()).is_empty());
}

#[tokio::test]
async fn what_a_crash_leaves_is_swept_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let (object, other) = (key("u/0123456789abcdef/data"), key("u/0123456789abcdee/data"));
    store.put(&object, payload("kept")).await.unwrap();
    store.put(&other, payload("other")).await.unwrap();
    let place = layout::Place::of(dir.path(), &object);
    fs::write(place.temporary(), "half").unwrap();
    fs::create_dir(place.trash()).unwrap();
    fs::write(place.trash(), "half").unwrap();
    let (_, _) = upload(&store, &object, &[b"one"]).await;
    assert_eq!(files(dir.path()).len(), 5);
    store
        .sweep("u/0123456789abcdef", std::slice::from_ref(&object))
        .await
        .unwrap();
    assert_eq!(
        files(dir.path()).len(),
        3,
        "an upload towards a key that is kept is kept"
    );
    store.sweep("u/0123456789abcdef/", &[]).await.unwrap();
    assert_eq!(
        files(dir.path()),
        ["u/01.s/0123456789abcdee/data.o".to_owned()].into()
    );
    assert!(!place.dir.exists(), "empty directories go");
}

#[tokio::test]
async fn a_sweep_touches_no_file_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    store.put(&key("a/b"), payload("x")).await.unwrap();
    fs::write(dir.path().join("a/README.txt"), "not ours").unwrap();
    store.sweep("a", &[]).await.unwrap();
    assert_eq!(files(dir.path()), ["a/README.txt".to_owned()].into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_that_come_and_go_fail_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let rounds = (0..4).map(async |n| {
        for _ in 0..40 {
            let object = key(&format!("a/b/c/0123456789abcdef/{n}"));
            store.put(&object, payload("x")).await.unwrap();
            store.delete(&object).await.unwrap();
        }
    });
    futures_util::future::join_all(rounds).await;
    assert!(files(dir.path()).is_empty());
}

#[tokio::test]
async fn a_stream_survives_the_deletion_of_a_file_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let object = key("a/b");
    let bytes = vec![7; 3 << 20];
    store.put(&object, payload(bytes.clone())).await.unwrap();
    let mut stream = store.get(&object, 0, bytes.len() as u64 - 1).await.unwrap().bytes;
    let first = stream.try_next().await.unwrap().unwrap();
    store.delete(&object).await.unwrap();
    let rest: Vec<Bytes> = stream.try_collect().await.unwrap();
    assert_eq!(
        first.len() + rest.iter().map(Bytes::len).sum::<usize>(),
        bytes.len()
    );
}

#[tokio::test]
async fn a_truncated_file_ends_its_stream_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let object = key("a/b");
    let (id, parts) = upload(&store, &object, &[&[1; 600_000], &[2; 600_000]]).await;
    store.complete(&object, &id, &parts).await.unwrap();
    let second = dir.path().join(format!("a/b.o/00002.{}", parts[1].etag));
    fs::File::options()
        .write(true)
        .open(second)
        .unwrap()
        .set_len(300_000)
        .unwrap();
    assert_eq!(store.head(&object).await.unwrap().unwrap().length, 900_000);
    let stream = store.get(&object, 0, 1_199_999).await.unwrap().bytes;
    let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
}

#[tokio::test]
async fn pieces_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let object = key("a/b");
    store.put(&object, payload(vec![7; 5_000_000])).await.unwrap();
    let stream = store.get(&object, 1, 4_999_998).await.unwrap().bytes;
    let pieces: Vec<Bytes> = stream.try_collect().await.unwrap();
    assert!(
        pieces
            .iter()
            .all(|piece| piece.len() <= 256 << 10 && !piece.is_empty())
    );
    assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), 4_999_998);
}
