//! Every planted fault is found, and repaired or named; where nothing was planted nothing is found, whatever failed.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use super::{super::testing::*, *};
use crate::{
    oci::{Algorithm, Digest, MediaType, Reference},
    registry::{Holder, Quotas, Stores, manifests::tests::index, row, shelf},
    storage::{
        BlobStore as _, Expect, Key, MetaStore as _, ObjectKey, Op, Outcome, Payload, Version,
        faulty::FaultRates, keys, rows, rows::DueKind,
    },
};

/// A registry with an image, a signature of it, a blob that nothing uses, a manifest that was deleted, and an upload.
pub(super) struct Planted {
    pub(super) world: World,
    layer: Digest,
    manifest: Digest,
    pub(super) unused: Digest,
    deleted: Digest,
    sig: Digest,
}

pub(super) const ONCE: FsckOptions<'static> = FsckOptions {
    repair: false,
    pause: Duration::ZERO,
    min_age: Duration::ZERO,
    may_be_absent: &|_| MayBeAbsent::Nothing,
    tell: &|_, _, _| {},
};
pub(super) const REPAIR: FsckOptions<'static> = FsckOptions { repair: true, ..ONCE };

fn may(lack: &(dyn Fn(&RepoName) -> MayBeAbsent + Send + Sync)) -> FsckOptions<'_> {
    FsckOptions {
        may_be_absent: lack,
        ..ONCE
    }
}

/// Who looks after the stores of a world, without anything in between.
fn keeper(world: &World) -> Registry {
    let holder = Holder {
        member: "127.0.0.1:5000".parse().unwrap(),
        incarnation: crate::ownership::Incarnation::random(),
    };
    let stores = Stores {
        meta: world.meta.clone(),
        blobs: world.blobs.clone(),
    };
    Registry::new(stores, holder, world.settings.clone())
}

pub(super) async fn fsck(world: &World, options: FsckOptions<'_>) -> FsckReport {
    let keeper = keeper(world);
    keeper.fsck(&*world.meta, &*world.blobs, options).await.unwrap()
}

pub(super) fn here() -> RepoName {
    repo("a/x")
}

impl Planted {
    pub(super) async fn new() -> Self {
        let mut world = World::new();
        world.settings.quotas = Quotas::new([(repo("a"), NonZeroU64::new(1 << 20).unwrap())].into());
        let (registry, here) = (world.member(1), here());
        let config = push(&registry, &here, b"{}").await;
        let layer = push(&registry, &here, &content(1, 350)).await;
        let unused = push(&registry, &here, &content(2, 30)).await;
        // Too long for its row.
        let document = image(&[&config, &layer], &"n".repeat(3000));
        let at = |text: &str| Reference::Tag(tag(text));
        registry
            .put_manifest(put(&here, &at("v1"), &document))
            .await
            .unwrap();
        let manifest = sha256(&document);
        let sig: Bytes = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MediaType::IMAGE_MANIFEST,
            "config": { "mediaType": "application/vnd.test.v1+json", "digest": config.as_str(), "size": 2 },
            "layers": [],
            "subject": { "mediaType": MediaType::IMAGE_MANIFEST, "digest": manifest.as_str(), "size": document.len() },
        })
        .to_string()
        .into();
        registry.put_manifest(put(&here, &at("sig"), &sig)).await.unwrap();
        let gone = image(&[&config], "gone");
        registry
            .put_manifest(put(&here, &at("gone"), &gone))
            .await
            .unwrap();
        let deleted = sha256(&gone);
        registry
            .delete_manifest(delete(&here, &Reference::Digest(deleted.clone())))
            .await
            .unwrap();
        registry
            .start_upload(&here, Some(Algorithm::Sha256))
            .await
            .unwrap();
        Self {
            world,
            layer,
            manifest,
            unused,
            deleted,
            sig: sha256(&sig),
        }
    }

    pub(super) async fn write(&self, op: Op) {
        let outcome = self.world.meta.transact(Version::random(), &[op]).await.unwrap();
        assert_eq!(outcome, Outcome::Committed);
    }

    async fn lose(&self, key: Key) {
        assert!(
            self.world.meta.get(&key).await.unwrap().is_some(),
            "{key:?} is there"
        );
        self.write(key.delete(Expect::Any)).await;
    }

    /// Loses the due-row of a kind about what contains this.
    pub(super) async fn lose_due(&self, kind: DueKind, about: &str) {
        let keys = self.world.meta.keys().into_iter();
        let is_it = |key: &Key| {
            keys::due_about(&key.sort)
                .is_some_and(|(of, subject)| of == keys::due_kind(kind) && subject.contains(about))
        };
        let due: Vec<_> = keys
            .filter(|key| key.space == Space::Blobs && is_it(key))
            .collect();
        assert!(!due.is_empty(), "{kind:?} {about}");
        for key in due {
            self.lose(key).await;
        }
    }

    pub(super) async fn row<M: row::Stored>(&self, key: &Key) -> M {
        row::read(&self.world.meta.get(key).await.unwrap().unwrap()).unwrap()
    }

    async fn object(&self) -> ObjectKey {
        let record: rows::Blob = self.row(&keys::blob(&self.layer)).await;
        ObjectKey::parse(&record.object_key).unwrap()
    }

    async fn body(&self) -> ObjectKey {
        let manifest: rows::Manifest = self.row(&keys::manifest(&here(), &self.manifest)).await;
        match manifest.body {
            Some(rows::manifest::Body::ObjectKey(key)) => ObjectKey::parse(&key).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Plants the fault of that name.
    async fn plant(&self, name: &str) {
        let (blobs, here) = (&self.world.blobs, here());
        let nobody = sha256(b"nobody");
        let mark = row::bytes(&rows::Mark { min_reader: 1 });
        match name {
            "lost object" => blobs.delete(&self.object().await).await.unwrap(),
            "short object" => {
                let short = Payload::from(Bytes::from_static(b"short"));
                blobs.put(&self.object().await, short).await.unwrap();
            }
            "flipped object" => {
                let wrong = Payload::from(Bytes::from(content(99, 350)));
                blobs.put(&self.object().await, wrong).await.unwrap();
            }
            "lost document" => blobs.delete(&self.body().await).await.unwrap(),
            "flipped document" => {
                let wrong = Payload::from(Bytes::from(vec![b'x'; 4000]));
                blobs.put(&self.body().await, wrong).await.unwrap();
            }
            "lost link" => self.lose(keys::link(&self.layer, &here)).await,
            "lost record" => self.lose(keys::blob(&self.layer)).await,
            "lost reverse" => self.lose(keys::linked_blob(&here, &self.layer)).await,
            "link elsewhere" => {
                let key = keys::link(&self.layer, &here);
                let link: rows::Link = self.row(&key).await;
                let object_key = format!("uploads/{}/{}", "1".repeat(32), "2".repeat(32));
                let elsewhere = rows::Link { object_key, ..link };
                self.write(key.put(Expect::Any, row::bytes(&elsewhere))).await;
            }
            "link without due-row" => self.lose_due(DueKind::Link, self.unused.as_str()).await,
            "deleted without due-row" => self.lose_due(DueKind::Manifest, self.deleted.as_str()).await,
            "upload without due-row" => {
                let sessions = self
                    .world
                    .meta
                    .keys()
                    .into_iter()
                    .filter(|key| key.space == Space::Uploads);
                for key in sessions.filter(|key| key.sort == ".") {
                    self.lose_due(DueKind::Session, &key.partition).await;
                }
            }
            "record of nobody" => {
                let record: rows::Blob = self.row(&keys::blob(&self.layer)).await;
                let object_key = format!("uploads/{}/{}", "1".repeat(32), "2".repeat(32));
                let record = rows::Blob { object_key, ..record };
                let op = keys::blob(&nobody).put(Expect::Any, row::bytes(&record));
                self.write(op).await;
            }
            "lost reverse of a tag" => {
                self.lose(keys::tag_of(&here, &self.manifest, &tag("v1"))).await;
            }
            "reverse of no tag" => {
                let key = keys::tag_of(&here, &self.manifest, &tag("v0"));
                self.write(key.put(Expect::Any, mark)).await;
            }
            "tag of nothing" => {
                let key = keys::tag(&here, &tag("v1"));
                let named: rows::Tag = self.row(&key).await;
                let digest = nobody.to_string();
                let op = key.put(Expect::Any, row::bytes(&rows::Tag { digest, ..named }));
                self.write(op).await;
            }
            "referrer that isn't there" => {
                let listed: rows::Referrer =
                    self.row(&keys::referrer(&here, &self.manifest, &self.sig)).await;
                let key = keys::referrer(&here, &self.manifest, &nobody);
                self.write(key.put(Expect::Any, row::bytes(&listed))).await;
            }
            "lost referrer" => {
                self.lose(keys::referrer(&here, &self.manifest, &self.sig)).await;
            }
            "lost reference" => {
                self.lose(keys::reference(&here, &self.layer, &self.manifest))
                    .await;
            }
            "shelved link" => {
                let key = keys::link(&self.layer, &here);
                let link: rows::Link = self.row(&key).await;
                let shelved = shelf::shelved(link);
                self.write(key.put(Expect::Any, row::bytes(&shelved))).await;
            }
            "unreadable tag" => {
                let key = keys::tag(&here, &tag("v1"));
                self.write(key.put(Expect::Any, vec![0xff; 9])).await;
            }
            "wrong number of manifests" | "lost row of a repository" => {
                let key = keys::repository(&here);
                let row: rows::Repository = self.row(&key).await;
                let op = match name {
                    "lost row of a repository" => key.delete(Expect::Any),
                    _ => {
                        let manifests = row.manifests + 1;
                        key.put(Expect::Any, row::bytes(&rows::Repository { manifests, ..row }))
                    }
                };
                self.write(op).await;
            }
            "lost entry" => self.lose(keys::catalog_entry(&here)).await,
            "entry of nothing" => {
                let entry = row::bytes(&rows::CatalogEntry { min_reader: 1 });
                let key = keys::catalog_entry(&repo("nobody"));
                self.write(key.put(Expect::Any, entry)).await;
            }
            "wrong count" => {
                let link: rows::Link = self.row(&keys::link(&self.layer, &here)).await;
                let key = keys::usage(&repo("a"), link.counted_shard);
                let usage: rows::Usage = self.row(&key).await;
                let used = usage.used + 7;
                let op = key.put(Expect::Any, row::bytes(&rows::Usage { used, ..usage }));
                self.write(op).await;
            }
            "object of nobody" => {
                let key = format!("uploads/{}/{}", "3".repeat(32), "4".repeat(32));
                let bytes = Payload::from(Bytes::from_static(b"nobody's"));
                blobs.put(&ObjectKey::parse(&key).unwrap(), bytes).await.unwrap();
            }
            "upload of nobody" => {
                let key = format!("uploads/{}/{}", "5".repeat(32), "6".repeat(32));
                blobs.begin(&ObjectKey::parse(&key).unwrap()).await.unwrap();
            }
            "reference of nobody" => {
                let key = keys::reference(&here, &self.layer, &nobody);
                self.write(key.put(Expect::Any, mark)).await;
            }
            "object of others" => {
                let bytes = Payload::from(Bytes::from_static(b"theirs"));
                blobs
                    .put(&ObjectKey::parse("backup/theirs").unwrap(), bytes)
                    .await
                    .unwrap();
            }
            other => panic!("{other}"),
        }
    }
}

/// What is planted, as what it is found, and whether it can be repaired.
const FAULTS: &[(&str, FaultKind, bool)] = &[
    ("lost object", FaultKind::BlobObject, false),
    ("short object", FaultKind::BlobObject, false),
    ("lost document", FaultKind::ManifestDocument, false),
    ("flipped document", FaultKind::ManifestDocument, false),
    ("lost link", FaultKind::ManifestLacks, true),
    ("shelved link", FaultKind::ManifestLacks, true),
    ("flipped object", FaultKind::BlobObject, false),
    ("lost reference", FaultKind::ReferenceMissing, true),
    ("unreadable tag", FaultKind::RowUnreadable, false),
    ("tag of nothing", FaultKind::TagDangling, false),
    ("lost record", FaultKind::LinkWithoutRecord, true),
    ("lost reverse", FaultKind::LinkReverse, true),
    ("link elsewhere", FaultKind::LinkElsewhere, true),
    ("link without due-row", FaultKind::Uncollected, true),
    ("record of nobody", FaultKind::Uncollected, true),
    ("deleted without due-row", FaultKind::Unremoved, true),
    ("upload without due-row", FaultKind::Unremoved, true),
    ("lost reverse of a tag", FaultKind::TagReverse, true),
    ("reverse of no tag", FaultKind::TagReverse, true),
    ("referrer that isn't there", FaultKind::Referrer, true),
    ("lost referrer", FaultKind::Referrer, true),
    ("lost entry", FaultKind::Repository, true),
    ("entry of nothing", FaultKind::Repository, true),
    ("wrong number of manifests", FaultKind::Repository, true),
    ("lost row of a repository", FaultKind::Repository, true),
    ("wrong count", FaultKind::QuotaCount, true),
    ("object of nobody", FaultKind::ObjectUnnamed, true),
    ("upload of nobody", FaultKind::ObjectUnnamed, true),
    ("reference of nobody", FaultKind::ReferenceLeft, true),
];

#[tokio::test]
async fn each_planted_fault_is_found_and_repaired_or_named() {
    for (name, kind, is_repairable) in FAULTS {
        let planted = Planted::new().await;
        let before = fsck(&planted.world, ONCE).await;
        assert_eq!((before.left, before.faults), (0, Vec::new()), "before {name}");
        planted.plant(name).await;
        let rows = planted.world.meta.len();
        let found = fsck(&planted.world, ONCE).await;
        assert!(found.found.contains_key(kind), "{name}: {found}");
        assert_eq!(found.left > 0, kind.is_fault(), "{name}: {found}");
        assert_eq!(planted.world.meta.len(), rows, "{name}: nothing is written");
        let objects = planted.world.blobs.objects();
        let repaired = fsck(&planted.world, REPAIR).await;
        assert_eq!(planted.world.blobs.objects(), objects, "{name}: no content goes");
        let after = fsck(&planted.world, ONCE).await;
        let (fate, is_gone) = match is_repairable {
            true => (Fate::Repaired, true),
            false => (Fate::Unrepairable, false),
        };
        let of_kind = repaired.faults.iter().find(|fault| fault.kind == *kind).unwrap();
        assert_eq!(of_kind.fate, fate, "{name}: {repaired}");
        assert_eq!(!after.found.contains_key(kind), is_gone, "{name}: {after}");
        if *is_repairable {
            assert_eq!((after.left, after.faults), (0, Vec::new()), "{name}");
        }
    }
}

#[tokio::test]
async fn damage_is_named_with_its_repository_its_digest_and_its_tags() {
    let planted = Planted::new().await;
    planted.plant("lost object").await;
    let found = fsck(&planted.world, ONCE).await;
    let [fault] = found.faults.as_slice() else {
        panic!("{found}");
    };
    assert_eq!(fault.repositories, ["a/x"]);
    assert_eq!(fault.digest.as_deref(), Some(planted.layer.as_str()));
    assert_eq!(fault.tags, ["v1"]);
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["found"]["blob-object"], 1, "{json}");
}

#[tokio::test]
async fn a_bucket_that_was_copied_has_other_etags_and_no_fault() {
    let planted = Planted::new().await;
    let blobs = &planted.world.blobs;
    for key in blobs.objects() {
        let length = blobs.head(&key).await.unwrap().unwrap().length;
        let bytes = blobs.get(&key, 0, length - 1).await.unwrap().bytes;
        let bytes: Vec<Bytes> = bytes.try_collect().await.unwrap();
        blobs
            .put(&key, Payload::from(Bytes::from(bytes.concat())))
            .await
            .unwrap();
    }
    let found = fsck(&planted.world, ONCE).await;
    assert_eq!((found.left, found.faults), (0, Vec::new()));
}

#[tokio::test]
async fn where_manifests_are_mirrored_they_may_lack_blobs() {
    let planted = Planted::new().await;
    planted.plant("lost link").await;
    let found = fsck(&planted.world, ONCE).await;
    assert!(found.found.contains_key(&FaultKind::ManifestLacks), "{found}");
    let found = fsck(&planted.world, may(&|_| MayBeAbsent::Children)).await;
    assert!(found.found.contains_key(&FaultKind::ManifestLacks), "{found}");
    let mirrored = |repository: &RepoName| match *repository == here() {
        true => MayBeAbsent::Everything,
        false => MayBeAbsent::Nothing,
    };
    let found = fsck(&planted.world, may(&mirrored)).await;
    assert!(!found.found.contains_key(&FaultKind::ManifestLacks), "{found}");
}

/// Clients may delete what an index lists that has no tag.
#[tokio::test]
async fn what_a_tagged_index_lists_is_there_unless_it_may_be_sparse() {
    let planted = Planted::new().await;
    let (one, at) = (planted.world.member(1), Reference::Tag(tag("list")));
    let listed = image(&[&sha256(b"{}")], "listed");
    let digest = sha256(&listed);
    let by_digest = Reference::Digest(digest.clone());
    one.put_manifest(put(&here(), &by_digest, &listed)).await.unwrap();
    let list = index(&[&listed], None, "");
    one.put_manifest(put(&here(), &at, &list)).await.unwrap();
    assert_eq!(fsck(&planted.world, ONCE).await.left, 0);
    planted.lose(keys::manifest(&here(), &digest)).await;
    let found = fsck(&planted.world, ONCE).await;
    let lacks = |found: &FsckReport| {
        let mut faults = found.faults.iter().cloned();
        faults.find(|fault| fault.kind == FaultKind::ManifestLacks)
    };
    let fault = lacks(&found).unwrap_or_else(|| panic!("{found}"));
    assert_eq!(fault.digest.as_deref(), Some(digest.as_str()));
    assert_eq!(
        (fault.tags, fault.fate),
        (vec!["list".to_owned()], Fate::Unrepairable)
    );
    let found = fsck(&planted.world, may(&|_| MayBeAbsent::Children)).await;
    assert!(lacks(&found).is_none(), "{found}");
    one.delete_manifest(delete(&here(), &at)).await.unwrap();
    let found = fsck(&planted.world, ONCE).await;
    assert!(lacks(&found).is_none(), "{found}");
}

#[tokio::test]
async fn what_others_keep_beside_is_told_and_never_touched() {
    let planted = Planted::new().await;
    planted.plant("object of others").await;
    let rows = planted.world.meta.len();
    let found = fsck(&planted.world, REPAIR).await;
    assert_eq!(found.found, [(FaultKind::ObjectForeign, 1)].into());
    assert_eq!((found.left, planted.world.meta.len()), (0, rows));
}

#[tokio::test]
async fn rows_that_name_nothing_of_a_bucket_let_nothing_of_it_go() {
    let planted = Planted::new().await;
    let mut others = planted.world;
    others.meta = Arc::default();
    let found = fsck(&others, REPAIR).await;
    assert!(found.left > 0 && found.left == found.found[&FaultKind::ObjectUnnamed]);
    assert_eq!(others.meta.len(), 0);
}

#[tokio::test]
async fn while_others_push_and_delete_and_their_stores_fail_nothing_is_found() {
    for seed in 0..8 {
        let mut world = World::with_faults(seed, FaultRates::each(0.02));
        world.settings.quotas = Quotas::new([(repo("a"), NonZeroU64::new(1 << 20).unwrap())].into());
        let (one, two) = (world.member(1), world.member(2));
        let pushed = AtomicU64::new(0);
        let work = async |registry: &Registry, first: u64| {
            let here = here();
            for n in first..first + 12 {
                let bytes = content(seed * 1000 + n, 150);
                let digest = sha256(&bytes);
                let blob = registry.push_blob(&here, &digest, None, body(&bytes, 64)).await;
                let document = image(&[&digest], &"n".repeat(if n % 2 == 0 { 10 } else { 3000 }));
                let reference = Reference::Tag(tag(&format!("t{}", n % 5)));
                let put = registry.put_manifest(put(&here, &reference, &document)).await;
                if blob.is_ok() && put.is_ok() {
                    pushed.fetch_add(1, Ordering::Relaxed);
                }
                if n % 3 == 0 {
                    // May fail: then it is there.
                    let _ = registry
                        .delete_manifest(delete(&here, &Reference::Digest(sha256(&document))))
                        .await;
                }
            }
        };
        let beside = async {
            let mut worst = 0;
            for _ in 0..3 {
                let options = FsckOptions {
                    pause: Duration::from_millis(20),
                    ..ONCE
                };
                worst = worst.max(fsck(&world, options).await.left);
            }
            worst
        };
        let (_, _, beside) = tokio::join!(work(&one, 0), work(&two, 100), beside);
        assert!(pushed.into_inner() > 0, "seed {seed}");
        world.settled().await;
        let found = fsck(&world, ONCE).await;
        assert_eq!((beside, found.left), (0, 0), "seed {seed}: {found}");
        assert!(found.rows > 10);
    }
}
