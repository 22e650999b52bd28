//! What `fsck` finds and repairs of what is planted below a mesh that runs, over each pair of stores.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use portolan::{
    app::Stores,
    config::{Limits, Storage},
    oci::{Digest, RepoName, Tag},
    ownership::Incarnation,
    registry::{Fate, FaultKind, FsckOptions, FsckReport, Holder, MayBeAbsent, Quotas, Registry, Settings},
    storage::{
        AllObjects, AllRows, Expect, Key, ObjectKey, Op, Outcome, Space, Version, keys, open_existing, rows,
    },
};
use prost::Message;

use super::{
    dynamo_config, dynamo_delete, dynamo_open, dynamo_server,
    postgres::{opened, server::Server},
    s3_config, s3_open, s3_server,
};
use crate::support::{
    client::{Ask as _, Client, Request},
    content::{Blob, Manifest},
    mesh::{Mesh, Plan},
};

/// Stores that faults are planted in.
struct Below {
    meta: Arc<dyn AllRows>,
    blobs: Arc<dyn AllObjects>,
}

/// What was pushed.
struct Pushed {
    repository: RepoName,
    layers: Vec<Blob>,
    image: Manifest,
    signature: Manifest,
    unused: Blob,
}

const LAYERS: usize = 6;

fn of(text: &str) -> Digest {
    Digest::parse(text).unwrap()
}

impl Below {
    async fn row<M: Message + Default>(&self, key: &Key) -> M {
        let found = self.meta.get(key).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("{key:?} isn't there"));
        M::decode(found.bytes).unwrap()
    }

    async fn write(&self, op: Op) {
        let outcome = self.meta.transact(Version::random(), &[op]).await.unwrap();
        assert_eq!(outcome, Outcome::Committed);
    }

    async fn lose(&self, key: Key) {
        assert!(self.meta.get(&key).await.unwrap().is_some(), "{key:?}");
        self.write(key.delete(Expect::Any)).await;
    }

    /// Where the blob's bytes are.
    async fn object(&self, blob: &Blob) -> ObjectKey {
        let record: rows::Blob = self.row(&keys::blob(&of(&blob.digest))).await;
        ObjectKey::parse(&record.object_key).unwrap()
    }

    /// Loses the due-rows about what contains this.
    async fn lose_due(&self, about: &str) {
        let (mut lost, mut last) = (0, None::<Key>);
        loop {
            let piece = self.meta.walk(Space::Blobs, last.as_ref(), 1_000).await.unwrap();
            for (key, _) in &piece.rows {
                let is_due = key.partition.starts_with("_due#") || key.partition.starts_with("_collect#");
                if is_due && key.sort.contains(about) {
                    self.lose(key.clone()).await;
                    lost += 1;
                }
            }
            last = piece.rows.into_iter().next_back().map(|(key, _)| key);
            if !piece.more {
                break;
            }
        }
        assert!(lost > 0, "{about}");
    }

    async fn fsck(&self, repair: bool) -> FsckReport {
        let stores = Stores {
            meta: self.meta.clone(),
            blobs: self.blobs.clone(),
        };
        let holder = Holder {
            member: "127.0.0.1:5000".parse().unwrap(),
            incarnation: Incarnation::random(),
        };
        let options = FsckOptions {
            repair,
            pause: Duration::from_millis(200),
            min_age: Duration::ZERO,
            may_be_absent: &|_| MayBeAbsent::Nothing,
            tell: &|_, _, _| {},
        };
        let registry = Registry::new(stores, holder, Settings::default());
        registry.fsck(&*self.meta, &*self.blobs, options).await.unwrap()
    }

    async fn mesh(&self) -> Mesh {
        let stores = Stores {
            meta: self.meta.clone(),
            blobs: self.blobs.clone(),
        };
        let quota = ("team".parse().unwrap(), (100_u64 << 20).try_into().unwrap());
        let plan = Plan::over(stores).quotas(Quotas::new([quota].into()));
        plan.start().await
    }

    /// One fault of each kind; gives the kinds.
    async fn plant(&self, pushed: &Pushed) -> BTreeSet<FaultKind> {
        let Pushed {
            repository,
            layers,
            image,
            signature,
            unused,
        } = pushed;
        let digests: Vec<_> = layers.iter().map(|layer| of(&layer.digest)).collect();
        let (image, signature) = (of(&image.digest), of(&signature.digest));
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        // 1: an object is gone. 2: one is cut short.
        self.blobs.delete(&self.object(&layers[0]).await).await.unwrap();
        let short = bytes::Bytes::from_static(b"short");
        self.blobs
            .put(&self.object(&layers[1]).await, short.into())
            .await
            .unwrap();
        // 3: the repository doesn't hold a layer of an image.
        self.lose(keys::link(&digests[2], repository)).await;
        self.lose(keys::linked_blob(repository, &digests[2])).await;
        // 4: a blob without a record.
        self.lose(keys::blob(&digests[3])).await;
        // 5: a link without its reverse.
        self.lose(keys::linked_blob(repository, &digests[4])).await;
        // 6: nothing keeps a layer from collection.
        self.lose(keys::reference(repository, &digests[5], &image)).await;
        // 7: what a digest is tagged as. 8: a tag that names nothing.
        self.lose(keys::tag_of(repository, &signature, &tag("sig"))).await;
        let key = keys::tag(repository, &tag("v2"));
        let named: rows::Tag = self.row(&key).await;
        self.lose(keys::tag_of(repository, &image, &tag("v2"))).await;
        let digest = Blob::new("nobody").digest;
        let dangling = rows::Tag { digest, ..named };
        self.write(key.put(Expect::Any, dangling.encode_to_vec())).await;
        // 9: a signature that its subject doesn't know of.
        self.lose(keys::referrer(repository, &image, &signature)).await;
        // 10: what nothing uses, and nothing looks at.
        self.lose_due(&unused.digest).await;
        // 11: the catalogue lacks a repository.
        self.lose(keys::catalog_entry(repository)).await;
        // 12: a count is wrong.
        let link: rows::Link = self.row(&keys::link(&digests[4], repository)).await;
        let key = keys::usage(&"team".parse().unwrap(), link.counted_shard);
        let usage: rows::Usage = self.row(&key).await;
        let used = usage.used + 7;
        let wrong = rows::Usage { used, ..usage };
        self.write(key.put(Expect::Any, wrong.encode_to_vec())).await;
        // 13: an object of nobody.
        let nobodys = format!("uploads/{}/{}", "3".repeat(32), "4".repeat(32));
        let nobodys = ObjectKey::parse(&nobodys).unwrap();
        let bytes = bytes::Bytes::from_static(b"nobody's");
        self.blobs.put(&nobodys, bytes.into()).await.unwrap();
        [
            FaultKind::BlobObject,
            FaultKind::ManifestLacks,
            FaultKind::LinkWithoutRecord,
            FaultKind::LinkReverse,
            FaultKind::ReferenceMissing,
            FaultKind::TagReverse,
            FaultKind::TagDangling,
            FaultKind::Referrer,
            FaultKind::Uncollected,
            FaultKind::Repository,
            FaultKind::QuotaCount,
            FaultKind::ObjectUnnamed,
        ]
        .into()
    }
}

async fn push(client: &Client) -> Pushed {
    let repository = "team/app";
    // Of several parts, by one request, and too short for either.
    let lengths = [11 << 20, 100_000, 1_000, 1_000, 1_000, 1_000];
    let layers: Vec<_> = (0..LAYERS)
        .map(|n| Blob::named(&format!("fsck {n}"), lengths[n]))
        .collect();
    let (config, unused) = (Blob::new("{}"), Blob::named("fsck unused", 500));
    for blob in layers.iter().chain([&config, &unused]) {
        client.push_blob(repository, blob).await.unwrap().expect(201);
    }
    let image = Manifest::image(&config, &layers.iter().collect::<Vec<_>>()).build();
    let signature = Manifest::image(&config, &[]).subject(&image).build();
    for (name, manifest) in [("v1", &image), ("v2", &image), ("sig", &signature)] {
        let pushed = client.push_manifest(repository, name, manifest).await;
        pushed.unwrap().expect(201);
    }
    Pushed {
        repository: repository.parse().unwrap(),
        layers,
        image,
        signature,
        unused,
    }
}

#[track_caller]
fn nothing(report: &FsckReport) {
    assert!(report.found.is_empty() && report.left == 0, "{report}");
}

/// Plants every fault, and has it found, repaired as far as that can be, and healed by a push of what is lost.
async fn each_fault_is_found_and_repaired(below: Below) {
    let mesh = below.mesh().await;
    let client = mesh.client(1);
    let pushed = push(&client).await;
    let before = below.fsck(false).await;
    nothing(&before);
    assert!(before.rows > 40 && before.objects >= LAYERS as u64, "{before}");

    let planted = below.plant(&pushed).await;
    let found = below.fsck(false).await;
    let kinds: BTreeSet<_> = found.found.keys().copied().collect();
    assert!(kinds.is_superset(&planted), "{found}");
    let again = below.fsck(false).await;
    assert_eq!(again.found, found.found, "looking changes nothing");

    let repaired = below.fsck(true).await;
    let lost: BTreeSet<_> = [FaultKind::BlobObject, FaultKind::TagDangling].into();
    for fault in &repaired.faults {
        let fate = match lost.contains(&fault.kind) {
            true => Fate::Unrepairable,
            false => Fate::Repaired,
        };
        assert_eq!(fault.fate, fate, "{fault}");
    }
    let damaged = repaired
        .faults
        .iter()
        .filter(|fault| fault.kind == FaultKind::BlobObject);
    let damaged: BTreeSet<_> = damaged
        .map(|fault| {
            assert_eq!(fault.repositories, ["team/app"], "{fault}");
            assert_eq!(fault.tags, ["v1"], "{fault}");
            fault.digest.clone().unwrap()
        })
        .collect();
    let wanted = pushed.layers[..2].iter().map(|layer| layer.digest.clone());
    assert_eq!(damaged, wanted.collect());

    // What only clients have, they bring back.
    for blob in &pushed.layers[..2] {
        client.push_blob("team/app", blob).await.unwrap().expect(201);
    }
    let tagged = client.push_manifest("team/app", "v2", &pushed.image).await;
    tagged.unwrap().expect(201);
    let after = below.fsck(false).await;
    nothing(&after);
    for layer in &pushed.layers {
        let target = format!("/v2/team/app/blobs/{}", layer.digest);
        let pulled = client.ask(Request::get(target)).await.unwrap().expect(200);
        pulled.with_body(&layer.bytes);
    }
    let listed = Request::get(format!("/v2/team/app/referrers/{}", pushed.image.digest));
    let listed = client.ask(listed).await.unwrap().json();
    assert_eq!(listed["manifests"][0]["digest"], pushed.signature.digest);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_found_and_repaired_in_a_bucket_and_tables() {
    let tables = dynamo_config(&dynamo_server());
    let below = Below {
        meta: Arc::new(dynamo_open(&tables).await),
        blobs: Arc::new(s3_open(&s3_config(&s3_server())).await),
    };
    each_fault_is_found_and_repaired(below).await;
    dynamo_delete(&tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_found_and_repaired_in_a_database() {
    let server = Server::start(&[]).await;
    let below = Below {
        meta: Arc::new(opened(&server.config()).await),
        blobs: Arc::new(s3_open(&s3_config(&s3_server())).await),
    };
    each_fault_is_found_and_repaired(below).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_found_and_repaired_in_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::embedded(folder.path().to_owned());
    assert!(
        open_existing(&storage, &Limits::default()).await.is_err(),
        "nothing is made"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    crate::support::embedded(folder.path()).await.close().await;
    let opened = open_existing(&storage, &Limits::default()).await.ok().unwrap();
    let below = Below {
        meta: opened.meta.clone(),
        blobs: opened.blobs.clone(),
    };
    each_fault_is_found_and_repaired(below).await;
    opened.close().await;
}
