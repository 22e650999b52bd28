//! The contract of [`BlobStore`].
#![allow(missing_docs, reason = "the names say what is promised")]

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};

use super::names::fresh;
use crate::storage::{
    BlobStore, Object, ObjectKey, Part, PartNumber, Payload, StoreError, StoreErrorKind, Unnamed, dice::Dice,
};

type Store = Arc<dyn BlobStore>;

fn object(name: &str) -> ObjectKey {
    ObjectKey::parse(&format!("contract/{}", fresh(name))).unwrap()
}

fn under(prefix: &str, name: &str) -> ObjectKey {
    ObjectKey::parse(&format!("{prefix}{name}")).unwrap()
}

fn random(seed: u64, len: u64) -> Vec<u8> {
    Dice::new(seed).bytes(usize::try_from(len).unwrap())
}

/// `bytes` in pieces of odd lengths, as they come from a socket.
fn payload(bytes: &[u8]) -> Payload {
    let mut payload = Payload::default();
    for chunk in bytes.chunks(61_003) {
        payload.push(Bytes::copy_from_slice(chunk));
    }
    payload
}

fn number(number: u32) -> PartNumber {
    PartNumber::new(number).unwrap()
}

/// The bytes from `first` to `last`, or the error that the call or the stream ended with.
async fn read(store: &Store, key: &ObjectKey, first: u64, last: u64) -> Result<Vec<u8>, StoreError> {
    let mut stream = store.get(key, first, last).await?.bytes;
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes)
}

async fn length(store: &Store, key: &ObjectKey) -> Option<u64> {
    store.head(key).await.unwrap().map(|object| object.length)
}

async fn check(store: &Store, key: &ObjectKey, bytes: &[u8]) {
    let len = bytes.len() as u64;
    assert_eq!(length(store, key).await, Some(len));
    if len > 0 {
        assert!(
            read(store, key, 0, len - 1).await.unwrap() == bytes,
            "{key}: other bytes"
        );
    }
}

/// Random ranges, the ends, and those around the positions `about`.
async fn check_ranges(store: &Store, key: &ObjectKey, bytes: &[u8], about: &[u64]) {
    let len = bytes.len() as u64;
    let mut dice = Dice::new(len);
    let mut ranges = vec![(0, 0), (len - 1, len - 1), (0, len - 1), (len / 2, len - 1)];
    for at in about {
        ranges.extend([
            (at - 1, *at),
            (*at, *at),
            (at - 1, at - 1),
            (at - 1, len - 1),
            (0, *at),
        ]);
    }
    for _ in 0..10 {
        let first = dice.below(len);
        ranges.push((first, first + dice.below(len - first)));
    }
    for (first, last) in ranges {
        let expected = &bytes[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()];
        let found = read(store, key, first, last).await.unwrap();
        assert!(found == expected, "{key}: bytes {first} to {last} of {len}");
    }
}

async fn upload_part(store: &Store, key: &ObjectKey, upload: &str, n: u32, bytes: &[u8]) -> Part {
    let etag = store.part(key, upload, number(n), payload(bytes)).await.unwrap();
    Part {
        number: number(n),
        etag,
        length: bytes.len() as u64,
    }
}

/// A length that a part may have anywhere, with something on top so that it isn't round.
fn part_length(store: &Store, more: u64) -> u64 {
    store.min_part().max(100_000) + more
}

async fn kind<T>(result: impl Future<Output = Result<T, StoreError>>) -> Option<StoreErrorKind> {
    result.await.err().map(|error| error.kind())
}

pub async fn a_missing_object_has_no_head_and_no_bytes(store: &Store) {
    let key = object("missing");
    assert_eq!(length(store, &key).await, None);
    assert_eq!(
        kind(read(store, &key, 0, 0)).await,
        Some(StoreErrorKind::NotFound)
    );
}

pub async fn an_object_reads_back_whole_and_in_ranges(store: &Store) {
    for len in [1, 2, 4_096, 262_143, 262_144, 262_145, 1_500_001] {
        let (key, bytes) = (object("whole"), random(len, len));
        store.put(&key, payload(&bytes)).await.unwrap();
        check(store, &key, &bytes).await;
        if len > 2 {
            check_ranges(store, &key, &bytes, &[len / 3]).await;
        }
        store.delete(&key).await.unwrap();
    }
    // So many pieces that no system call takes them all.
    let (key, bytes) = (object("pieces"), random(1, 5_000));
    let mut pieces = Payload::default();
    bytes
        .iter()
        .for_each(|byte| pieces.push(Bytes::copy_from_slice(&[*byte])));
    store.put(&key, pieces).await.unwrap();
    check(store, &key, &bytes).await;
}

pub async fn an_object_may_be_empty(store: &Store) {
    let key = object("empty");
    store.put(&key, Payload::default()).await.unwrap();
    assert_eq!(length(store, &key).await, Some(0));
    store.delete(&key).await.unwrap();
    assert_eq!(length(store, &key).await, None);
}

/// Where the store knows ETags: as long as the object is the one that was written, it is said to be the same one.
pub async fn an_object_keeps_its_etag(store: &Store) {
    let (key, bytes) = (object("etag"), random(8, 10_000));
    let etag = store.put(&key, payload(&bytes)).await.unwrap();
    let whole = Object { length: 10_000, etag };
    assert!(!whole.etag.contains('"'));
    assert_eq!(store.head(&key).await.unwrap().as_ref(), Some(&whole));
    assert_eq!(store.get(&key, 5, 9).await.unwrap().object, whole);
    store.put(&key, payload(&random(9, 10_000))).await.unwrap();
    let replaced = store.head(&key).await.unwrap().unwrap();
    assert_eq!(replaced.is(10_000, &whole.etag), whole.etag.is_empty());

    let key = object("etag");
    let upload = store.begin(&key).await.unwrap();
    let first = upload_part(store, &key, &upload, 1, &random(1, part_length(store, 1))).await;
    let second = upload_part(store, &key, &upload, 2, b"end").await;
    let length = first.length + 3;
    let etag = store.complete(&key, &upload, &[first, second]).await.unwrap();
    let whole = store.head(&key).await.unwrap().unwrap();
    assert!(whole.is(length, &etag), "{whole:?} {etag}");
    assert_eq!(
        store.get(&key, length - 1, length - 1).await.unwrap().object,
        whole
    );
    store.delete(&key).await.unwrap();
}

pub async fn a_put_may_be_repeated(store: &Store) {
    let (key, bytes) = (object("again"), random(2, 10_000));
    store.put(&key, payload(&bytes)).await.unwrap();
    store.put(&key, payload(&bytes)).await.unwrap();
    check(store, &key, &bytes).await;
}

pub async fn a_range_beyond_the_end_is_an_error(store: &Store) {
    let (key, bytes) = (object("beyond"), random(3, 1_000));
    store.put(&key, payload(&bytes)).await.unwrap();
    for (first, last) in [(0, 1_000), (999, 1_000), (1_000, 1_000), (5_000, 6_000)] {
        assert!(read(store, &key, first, last).await.is_err(), "{first} to {last}");
    }
    assert_eq!(kind(read(store, &key, 5, 4)).await, Some(StoreErrorKind::Misuse));
}

pub async fn delete_is_idempotent(store: &Store) {
    let key = object("delete");
    store.delete(&key).await.unwrap();
    store.put(&key, payload(b"x")).await.unwrap();
    store.delete(&key).await.unwrap();
    assert_eq!(length(store, &key).await, None);
    assert_eq!(
        kind(read(store, &key, 0, 0)).await,
        Some(StoreErrorKind::NotFound)
    );
    store.delete(&key).await.unwrap();
}

pub async fn many_are_deleted_and_no_others(store: &Store) {
    let keys: Vec<_> = (0..150).map(|n| object(&format!("many-{n}"))).collect();
    let stays = object("many-stays");
    store.put(&stays, payload(b"stays")).await.unwrap();
    // Every other one is there.
    for key in keys.iter().step_by(2) {
        store.put(key, payload(b"x")).await.unwrap();
    }
    store.delete_many(&keys).await.unwrap();
    for key in &keys {
        assert_eq!(store.head(key).await.unwrap(), None, "{key}");
    }
    check(store, &stays, b"stays").await;
    store.delete_many(&keys).await.unwrap();
    store.delete_many(&[]).await.unwrap();
}

pub async fn an_object_is_made_of_the_named_parts_in_their_order(store: &Store) {
    let key = object("parts");
    let upload = store.begin(&key).await.unwrap();
    let (mut parts, mut bytes) = (Vec::new(), Vec::new());
    // With gaps in the numbers, and uploaded in another order.
    let numbers = [1, 2, 7, 300, PartNumber::MAX];
    for n in [7, PartNumber::MAX, 1, 300, 2] {
        let length = if n == PartNumber::MAX {
            17
        } else {
            part_length(store, u64::from(n))
        };
        parts.push(upload_part(store, &key, &upload, n, &random(n.into(), length)).await);
    }
    parts.sort_by_key(|part| part.number);
    for (n, part) in numbers.into_iter().zip(&parts) {
        bytes.extend(random(n.into(), part.length));
    }
    store.complete(&key, &upload, &parts).await.unwrap();
    check(store, &key, &bytes).await;
    store.delete(&key).await.unwrap();
    assert_eq!(length(store, &key).await, None);
}

pub async fn ranges_cross_the_borders_of_parts(store: &Store) {
    let key = object("borders");
    let upload = store.begin(&key).await.unwrap();
    let (mut parts, mut bytes, mut borders) = (Vec::new(), Vec::new(), Vec::new());
    for n in 1..=4 {
        let piece = random(n, part_length(store, 300_001 * n));
        let n = u32::try_from(n).unwrap() * 10;
        parts.push(upload_part(store, &key, &upload, n, &piece).await);
        bytes.extend(piece);
        borders.push(bytes.len() as u64);
    }
    borders.pop();
    store.complete(&key, &upload, &parts).await.unwrap();
    check_ranges(store, &key, &bytes, &borders).await;
    let len = bytes.len() as u64;
    assert!(read(store, &key, 0, len).await.is_err());
    assert!(read(store, &key, len, len).await.is_err());
    store.delete(&key).await.unwrap();
}

pub async fn nothing_is_visible_before_complete(store: &Store) {
    let key = object("invisible");
    let upload = store.begin(&key).await.unwrap();
    assert_eq!(length(store, &key).await, None);
    let part = upload_part(store, &key, &upload, 1, b"abc").await;
    assert_eq!(length(store, &key).await, None);
    assert_eq!(
        kind(read(store, &key, 0, 2)).await,
        Some(StoreErrorKind::NotFound)
    );
    store.complete(&key, &upload, &[part]).await.unwrap();
    check(store, &key, b"abc").await;
}

pub async fn a_part_may_have_the_least_length(store: &Store) {
    let key = object("least");
    let upload = store.begin(&key).await.unwrap();
    let bytes = random(4, 2 * store.min_part() + 1);
    let (first, rest) = bytes.split_at(usize::try_from(store.min_part()).unwrap());
    let parts = [
        upload_part(store, &key, &upload, 1, first).await,
        upload_part(store, &key, &upload, 2, rest).await,
    ];
    store.complete(&key, &upload, &parts).await.unwrap();
    check(store, &key, &bytes).await;
    store.delete(&key).await.unwrap();
}

/// Left out, or (Ceph) nothing is made at all.
pub async fn a_part_that_was_not_named_is_never_in_the_object(store: &Store) {
    let key = object("unnamed");
    let upload = store.begin(&key).await.unwrap();
    let (first, other, last) = (
        random(5, part_length(store, 1)),
        random(6, part_length(store, 2)),
        random(7, 30),
    );
    let mut parts = Vec::new();
    for (n, bytes) in [(1, &first), (2, &other), (3, &last), (4, &other)] {
        parts.push(upload_part(store, &key, &upload, n, bytes).await);
    }
    let named = [parts[0].clone(), parts[2].clone()];
    match kind(store.complete(&key, &upload, &named)).await {
        None => {
            assert_eq!(store.unnamed(), Unnamed::Vanish);
            check(store, &key, &[first, last].concat()).await;
        }
        Some(StoreErrorKind::InvalidPart) => {
            assert_ne!(store.unnamed(), Unnamed::Vanish);
            assert_eq!(length(store, &key).await, None);
        }
        Some(other) => panic!("{other:?}"),
    }
    store.abort(&key, &upload).await.unwrap();
    store.delete(&key).await.unwrap();
}

/// Refused, or (SeaweedFS) the object is made of the bytes that were named, which it still has.
pub async fn a_part_that_was_overwritten_is_never_another_one(store: &Store) {
    let key = object("overwritten");
    let upload = store.begin(&key).await.unwrap();
    let old = upload_part(store, &key, &upload, 1, b"the old bytes").await;
    let new = upload_part(store, &key, &upload, 1, b"the new bytes").await;
    match kind(store.complete(&key, &upload, std::slice::from_ref(&old))).await {
        None => check(store, &key, b"the old bytes").await,
        Some(StoreErrorKind::InvalidPart) => {
            assert_eq!(length(store, &key).await, None);
            store.complete(&key, &upload, &[new]).await.unwrap();
            check(store, &key, b"the new bytes").await;
        }
        Some(other) => panic!("{other:?}"),
    }
}

pub async fn a_part_that_never_was_is_invalid(store: &Store) {
    let key = object("invented");
    let upload = store.begin(&key).await.unwrap();
    let part = upload_part(store, &key, &upload, 3, b"bytes").await;
    let invented = [
        Part {
            etag: "0123456789abcdef0123456789abcdef".to_owned(),
            ..part.clone()
        },
        Part {
            number: number(4),
            ..part.clone()
        },
    ];
    for invented in invented {
        assert_eq!(
            kind(store.complete(&key, &upload, &[invented])).await,
            Some(StoreErrorKind::InvalidPart)
        );
    }
    assert_eq!(
        kind(store.complete(&key, &upload, &[])).await,
        Some(StoreErrorKind::Misuse)
    );
    assert_eq!(length(store, &key).await, None);
    store.complete(&key, &upload, &[part]).await.unwrap();
    check(store, &key, b"bytes").await;
}

pub async fn the_last_part_is_known(store: &Store) {
    let key = object("last");
    let upload = store.begin(&key).await.unwrap();
    assert_eq!(store.last_part(&key, &upload).await.unwrap(), None);
    for (n, last) in [(3, 3), (70, 70), (2, 70)] {
        upload_part(store, &key, &upload, n, b"bytes").await;
        assert_eq!(store.last_part(&key, &upload).await.unwrap(), Some(number(last)));
    }
    store.abort(&key, &upload).await.unwrap();
}

pub async fn complete_may_be_repeated(store: &Store) {
    let key = object("twice");
    let upload = store.begin(&key).await.unwrap();
    let part = upload_part(store, &key, &upload, 1, b"bytes").await;
    store
        .complete(&key, &upload, std::slice::from_ref(&part))
        .await
        .unwrap();
    let again = kind(store.complete(&key, &upload, &[part])).await;
    assert!(
        matches!(again, None | Some(StoreErrorKind::NotFound)),
        "{again:?}"
    );
    check(store, &key, b"bytes").await;
}

/// An upload that is over, with a part that was in it.
async fn cannot_be_completed(store: &Store, key: &ObjectKey, upload: &str, part: &Part) {
    let late = kind(store.complete(key, upload, std::slice::from_ref(part))).await;
    // Ceph says that it has a fault of its own.
    assert!(
        matches!(
            late,
            Some(StoreErrorKind::NotFound | StoreErrorKind::InvalidPart | StoreErrorKind::Unavailable)
        ),
        "{late:?}"
    );
    assert_eq!(length(store, key).await, None);
}

pub async fn abort_is_idempotent_and_final(store: &Store) {
    let key = object("abort");
    let upload = store.begin(&key).await.unwrap();
    let part = upload_part(store, &key, &upload, 1, b"bytes").await;
    store.abort(&key, &upload).await.unwrap();
    store.abort(&key, &upload).await.unwrap();
    cannot_be_completed(store, &key, &upload, &part).await;

    let other = store.begin(&key).await.unwrap();
    let part = upload_part(store, &key, &other, 1, b"other").await;
    store.abort(&key, &upload).await.unwrap();
    store.complete(&key, &other, &[part]).await.unwrap();
    check(store, &key, b"other").await;
}

pub async fn a_late_part_is_in_no_object(store: &Store) {
    let key = object("late");
    let aborted = store.begin(&key).await.unwrap();
    store.abort(&key, &aborted).await.unwrap();
    let completed = store.begin(&key).await.unwrap();
    let part = upload_part(store, &key, &completed, 1, b"bytes").await;
    store.complete(&key, &completed, &[part]).await.unwrap();
    for upload in [aborted, completed] {
        let late = kind(store.part(&key, &upload, number(2), payload(b"late"))).await;
        assert!(matches!(late, Some(StoreErrorKind::NotFound) | None), "{late:?}");
    }
    check(store, &key, b"bytes").await;
}

pub async fn parts_may_be_uploaded_at_once(store: &Store) {
    let key = object("parallel");
    let upload = store.begin(&key).await.unwrap();
    let pieces: Vec<Vec<u8>> = (0..6).map(|n| random(n, part_length(store, n))).collect();
    let uploads = (1..)
        .zip(&pieces)
        .map(|(n, piece)| upload_part(store, &key, &upload, n, piece));
    let parts = join_all(uploads).await;
    store.complete(&key, &upload, &parts).await.unwrap();
    check(store, &key, &pieces.concat()).await;
    store.delete(&key).await.unwrap();
}

pub async fn a_reader_sees_nothing_or_all(store: &Store) {
    for n in 0..8 {
        let key = object("visible");
        let bytes = random(n, 700_000);
        let write = async {
            if n % 2 == 0 {
                return drop(store.put(&key, payload(&bytes)).await.unwrap());
            }
            let upload = store.begin(&key).await.unwrap();
            let part = upload_part(store, &key, &upload, 1, &bytes).await;
            store.complete(&key, &upload, &[part]).await.unwrap();
        };
        let look = async {
            loop {
                let whole = length(store, &key).await;
                assert!(whole.is_none_or(|len| len == 700_000), "{whole:?}");
                match read(store, &key, 0, 699_999).await {
                    Ok(found) => break assert!(found == bytes),
                    Err(error) => assert_eq!(error.kind(), StoreErrorKind::NotFound),
                }
                assert!(whole.is_none(), "an object that was there is gone");
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(write, look);
    }
}

pub async fn sweep_deletes_all_under_a_prefix_but_what_is_kept(store: &Store) {
    let prefix = format!("contract/{}/", fresh("sweep"));
    let long = "0123456789abcdef0123456789abcdef";
    let names = [
        "a",
        "b/c",
        "b/d",
        long,
        &format!("c/{long}/e"),
        "kept",
        "b/kept",
        "kept-not",
    ];
    let keys: Vec<ObjectKey> = names.iter().map(|name| under(&prefix, name)).collect();
    for key in &keys {
        store.put(key, payload(b"x")).await.unwrap();
    }
    let outside = [under(&prefix[..prefix.len() - 1], "0"), object("outside")];
    for key in &outside {
        store.put(key, payload(b"x")).await.unwrap();
    }
    let keep = [keys[5].clone(), keys[6].clone()];
    for _ in 0..2 {
        store.sweep(&prefix, &keep).await.unwrap();
        for (n, key) in keys.iter().enumerate() {
            let left = store.head(key).await.unwrap().is_some();
            assert_eq!(left, n == 5 || n == 6, "{key}");
        }
        for key in &outside {
            assert_eq!(length(store, key).await, Some(1), "{key}");
        }
    }
    store.sweep(&prefix, &[]).await.unwrap();
    for key in &keep {
        assert_eq!(length(store, key).await, None, "{key}");
    }
    store
        .sweep(&format!("contract/{}/", fresh("never")), &[])
        .await
        .unwrap();
}

pub async fn sweep_aborts_uploads_under_a_prefix_but_what_is_kept(store: &Store) {
    let prefix = format!("contract/{}/", fresh("swept"));
    let keys = [
        under(&prefix, "lost"),
        under(&prefix, "b/kept"),
        object("outside"),
    ];
    let mut uploads = Vec::new();
    for key in &keys {
        let upload = store.begin(key).await.unwrap();
        let part = upload_part(store, key, &upload, 1, b"bytes").await;
        uploads.push((key, upload, part));
    }
    for _ in 0..2 {
        store.sweep(&prefix, &keys[1..2]).await.unwrap();
        let (lost, upload, part) = &uploads[0];
        cannot_be_completed(store, lost, upload, part).await;
    }
    for (key, upload, part) in &uploads[1..] {
        store
            .complete(key, upload, std::slice::from_ref(part))
            .await
            .unwrap();
        check(store, key, b"bytes").await;
        store.delete(key).await.unwrap();
    }
}
