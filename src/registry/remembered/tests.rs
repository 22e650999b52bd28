//! What is remembered is as good as read: whatever others do, and however a store shows their transactions.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures_util::future::join_all;
use parking_lot::Mutex;

use super::{super::testing::*, *};
use crate::{
    clock,
    oci::Reference,
    ownership::Incarnation,
    registry::{Holder, MountSource, RegistryError, Stores, row},
    storage::{BlobStore as _, Expect, MetaStore, Op, Outcome, Page, Space, StoreError, rows},
};

/// Longer than what is kept of a blob.
const LONG: usize = 70_000;

/// An image of these blobs in the repository, under the tag `t`.
async fn pushed(registry: &Registry, name: &RepoName, blobs: &[&[u8]]) -> Vec<Digest> {
    let mut digests = Vec::new();
    for blob in blobs {
        digests.push(push(registry, name, blob).await);
    }
    let body = image(&digests.iter().collect::<Vec<_>>(), "");
    let tag = Reference::Tag(tag("t"));
    registry.put_manifest(put(name, &tag, &body)).await.unwrap();
    digests.push(sha256(&body));
    digests
}

fn is_unknown<T: std::fmt::Debug>(answer: Result<T>) {
    assert!(matches!(answer, Err(RegistryError::BlobUnknown)), "{answer:?}");
}

#[tokio::test]
async fn what_was_pulled_once_costs_a_read_of_the_row_and_nothing_else() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let blobs: [&[u8]; 2] = [b"{}", b"layer"];
    let digests = pushed(&two, &name, &blobs).await;
    let manifest = Reference::Digest(digests[2].clone());
    for cost in ["read×2 snapshot×3", "get×3"] {
        world.calls.take();
        for (digest, content) in digests.iter().zip(blobs) {
            assert_eq!(pull(&one, &name, digest).await.unwrap(), content);
        }
        one.manifest(&name, &manifest).await.unwrap();
        assert_eq!(world.calls.take(), cost);
    }
    // Bytes are the same whoever holds them; that a repository holds them is its own.
    let other = repo("b");
    is_unknown(one.blob(&other, &digests[0]).await);
    let from = MountSource::Repository(&name);
    two.mount(&other, &digests[0], from).await.unwrap();
    world.calls.take();
    assert_eq!(pull(&one, &other, &digests[0]).await.unwrap(), b"{}");
    assert_eq!(world.calls.take(), "snapshot×1");
}

#[tokio::test]
async fn a_long_blob_is_read_again_and_its_link_is_not() {
    let world = World::new();
    let (one, name, content) = (world.member(1), repo("a"), content(1, LONG));
    let digests = pushed(&one, &name, &[b"{}", &content]).await;
    for cost in ["read×1 snapshot×1", "get×1 read×1"] {
        world.calls.take();
        assert_eq!(pull(&one, &name, &digests[1]).await.unwrap(), content);
        assert_eq!(world.calls.take(), cost);
    }
}

#[tokio::test]
async fn what_another_member_does_counts_at_once() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    pushed(&two, &name, &[b"{}"]).await;
    let digest = sha256(b"comes and goes");
    for _ in 0..3 {
        // That it isn't there is not remembered: a link comes without replacing the repository's row.
        is_unknown(one.blob(&name, &digest).await);
        push(&two, &name, b"comes and goes").await;
        for _ in 0..2 {
            assert_eq!(pull(&one, &name, &digest).await.unwrap(), b"comes and goes");
        }
        two.delete_blob(&name, &digest, soon()).await.unwrap();
    }
    is_unknown(one.blob(&name, &digest).await);
}

#[tokio::test]
async fn nothing_is_remembered_of_a_repository_without_a_row() {
    let world = World::new();
    let (one, name) = (world.member(1), repo("a"));
    let digest = push(&one, &name, b"layer").await;
    for _ in 0..2 {
        world.calls.take();
        one.blob(&name, &digest).await.unwrap();
        assert_eq!(world.calls.take(), "snapshot×1");
    }
}

#[tokio::test]
async fn a_repository_that_ended_and_came_back_is_another_one() {
    let world = World::new();
    let (one, two, name) = (world.member(1), world.member(2), repo("a"));
    let digests = pushed(&two, &name, &[b"{}", b"layer"]).await;
    let manifest = Reference::Digest(digests[2].clone());
    for _ in 0..2 {
        pull(&one, &name, &digests[0]).await.unwrap();
        one.manifest(&name, &manifest).await.unwrap();
    }
    two.delete_manifest(delete(&name, &manifest)).await.unwrap();
    let gone = one.manifest(&name, &manifest).await;
    assert!(matches!(gone, Err(RegistryError::ManifestUnknown)));
    two.delete_blob(&name, &digests[0], soon()).await.unwrap();
    // The tombstone's time is over.
    let op = keys::repository(&name).delete(Expect::Any);
    world.meta.transact(Version::random(), &[op]).await.unwrap();
    is_unknown(one.blob(&name, &digests[0]).await);
    let again = pushed(&two, &name, &[b"{}", b"another"]).await;
    let gone = one.manifest(&name, &manifest).await;
    assert!(matches!(gone, Err(RegistryError::ManifestUnknown)));
    assert_eq!(pull(&one, &name, &again[0]).await.unwrap(), b"{}");
    assert_eq!(pull(&one, &name, &again[1]).await.unwrap(), b"another");
}

#[tokio::test]
async fn a_link_that_followed_its_blob_is_remembered_anew() {
    let world = World::new();
    let (one, two, name, content) = (world.member(1), world.member(2), repo("a"), content(1, LONG));
    let digests = pushed(&two, &name, &[b"{}", &content]).await;
    let former = one.blob(&name, &digests[1]).await.unwrap().object_key;
    world.blobs.delete(&former).await.unwrap();
    push(&two, &repo("b"), &content).await;
    // The key that is remembered is the link's until that follows; the bytes are found all the same.
    assert_eq!(one.blob(&name, &digests[1]).await.unwrap().object_key, former);
    assert_eq!(pull(&one, &name, &digests[1]).await.unwrap(), content);
    two.relink(&digests[1], &former).await.unwrap();
    let now = one.blob(&name, &digests[1]).await.unwrap().object_key;
    assert_ne!(now, former);
    assert_eq!(one.blob(&name, &digests[1]).await.unwrap().object_key, now);
}

/// Makes the link look as if it had been armed so much longer ago, and sets whether it is in use.
async fn mark(world: &World, name: &RepoName, digest: &Digest, older_ms: u64, in_use: bool) {
    let key = keys::link(digest, name);
    let found = world.meta.get(&key).await.unwrap().unwrap();
    let link: rows::Link = row::read(&found).unwrap();
    let marked = rows::Link {
        armed_ms: link.armed_ms - older_ms,
        in_use,
        ..link
    };
    let op = key.put(Expect::Version(found.version), row::bytes(&marked));
    world.meta.transact(Version::random(), &[op]).await.unwrap();
}

#[tokio::test]
async fn a_head_goes_by_a_remembered_link_only_while_that_stays() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let world = World::new();
    let name = repo("a");
    for (older_ms, in_use, cost) in [
        (0, false, "get×1"),
        (20 * DAY, true, "get×1"),
        (20 * DAY, false, "answered×1 get×1 transact×1"),
    ] {
        let one = world.member(1);
        let digests = pushed(&one, &name, &[b"{}", b"layer"]).await;
        mark(&world, &name, &digests[1], older_ms, in_use).await;
        pull(&one, &name, &digests[1]).await.unwrap();
        let before = clock::now_ms();
        world.calls.take();
        one.whole_blob(&name, &digests[1]).await.unwrap();
        assert_eq!(world.calls.take(), cost, "{older_ms} {in_use}");
        let found = world.meta.get(&keys::link(&digests[1], &name)).await.unwrap();
        let link: rows::Link = row::read(&found.unwrap()).unwrap();
        assert!(link.in_use || link.armed_ms + DAY / 2 > before);
    }
}

#[tokio::test]
async fn no_more_of_short_blobs_is_kept_than_was_allowed() {
    let mut world = World::new();
    world.settings.limits.remembered = 80_000;
    let (one, name) = (world.member(1), repo("a"));
    let all: Vec<_> = (0..20).map(|seed| content(seed, 4000)).collect();
    for content in &all {
        let digest = push(&one, &name, content).await;
        pull(&one, &name, &digest).await.unwrap();
    }
    let contents = &one.remembered.contents;
    let kept = all
        .iter()
        .filter(|content| contents.find(&sha256(content)).is_some());
    assert!((1..=7).contains(&kept.count()));
}

type Answer<T> = std::result::Result<T, StoreError>;

/// Shows what a transaction did to some of its rows before it shows the rest, as DynamoDB may until it answers. A snapshot
/// waits.
struct Torn {
    inner: Arc<dyn MetaStore>,
    hidden: Mutex<HashMap<Key, Option<Row>>>,
    random: AtomicU64,
    /// One transaction at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Torn {
    fn over(inner: Arc<dyn MetaStore>, seed: u64) -> Self {
        Self {
            inner,
            hidden: Mutex::default(),
            random: AtomicU64::new(seed << 40),
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn below(&self, end: u64) -> u64 {
        let random = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        (random >> 33) % end
    }

    async fn dawdle(&self) {
        for _ in 0..self.below(8) {
            tokio::task::yield_now().await;
        }
    }

    fn shown(&self, key: &Key, now: Option<Row>) -> Option<Row> {
        self.hidden.lock().get(key).cloned().unwrap_or(now)
    }
}

#[async_trait]
impl MetaStore for Torn {
    async fn get(&self, key: &Key) -> Answer<Option<Row>> {
        self.dawdle().await;
        let row = self.inner.get(key).await?;
        Ok(self.shown(key, row))
    }

    async fn get_many(&self, keys: &[Key]) -> Answer<Vec<Option<Row>>> {
        join_all(keys.iter().map(|key| self.get(key)))
            .await
            .into_iter()
            .collect()
    }

    async fn snapshot(&self, keys: &[Key]) -> Answer<Vec<Option<Row>>> {
        self.dawdle().await;
        let _turn = self.turn.lock().await;
        self.inner.snapshot(keys).await
    }

    async fn range(
        &self,
        space: Space,
        partition: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Answer<Page> {
        self.inner.range(space, partition, prefix, after, limit).await
    }

    async fn transact(&self, version: Version, ops: &[Op]) -> Answer<Outcome> {
        let _turn = self.turn.lock().await;
        for op in ops {
            let before = self.inner.get(&op.key).await?;
            if self.below(2) == 0 {
                self.hidden.lock().insert(op.key.clone(), before);
            }
        }
        let outcome = self.inner.transact(version, ops).await;
        self.dawdle().await;
        self.dawdle().await;
        self.hidden.lock().clear();
        outcome
    }
}

#[tokio::test]
async fn no_answer_is_older_than_what_was_acknowledged_before_it_was_asked_for() {
    const CHANGES: usize = 60;
    let mut remembered = 0;
    for seed in 0..20 {
        let world = World::new();
        let torn: Arc<dyn MetaStore> = Arc::new(Torn::over(world.meta.clone(), seed));
        let member = |n: u8| {
            let stores = Stores {
                meta: torn.clone(),
                blobs: world.blobs.clone(),
            };
            let holder = Holder {
                member: format!("127.0.0.{n}:5000").parse().unwrap(),
                incarnation: Incarnation::random(),
            };
            Registry::new(stores, holder, world.settings.clone())
        };
        let (members, name) = ([member(1), member(2)], repo("a"));
        let writer = member(3);
        pushed(&writer, &name, &[b"{}"]).await;
        let digest = sha256(b"comes and goes");
        // After an odd number of changes it is there.
        let (begun, made, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let write = async {
            for change in 1..=CHANGES {
                begun.store(change, Ordering::SeqCst);
                match change % 2 {
                    1 => drop(push(&writer, &name, b"comes and goes").await),
                    _ => writer.delete_blob(&name, &digest, soon()).await.unwrap(),
                }
                made.store(change, Ordering::SeqCst);
                for _ in 0..change % 7 * 4 {
                    tokio::task::yield_now().await;
                }
            }
            over.store(true, Ordering::SeqCst);
        };
        let reads = (0..6).map(|n| {
            let (member, name, digest) = (&members[n % 2], &name, &digest);
            let (begun, made, over) = (&begun, &made, &over);
            async move {
                let mut count = 0;
                while !over.load(Ordering::SeqCst) {
                    let least = made.load(Ordering::SeqCst);
                    let noted = member.remembered.links.find(&(name.clone(), digest.clone()));
                    let found = match member.blob(name, digest).await {
                        Ok(_) => 1,
                        Err(RegistryError::BlobUnknown) => 0,
                        Err(error) => panic!("{error:?}"),
                    };
                    let most = begun.load(Ordering::SeqCst);
                    assert!(
                        (least..=most).any(|changes| changes % 2 == found),
                        "{found} after {least} to {most} changes, seed {seed}"
                    );
                    count += usize::from(found == 1 && noted.is_some());
                    tokio::task::yield_now().await;
                }
                count
            }
        });
        let ((), counts) = tokio::join!(write, join_all(reads));
        remembered += counts.into_iter().sum::<usize>();
    }
    assert!(remembered > 100, "{remembered} answers may have been remembered");
}
