//! Objects that somebody took out of the blob store or wrote over, and reads that are wrong: whoever asks is told, and a
//! push through any member makes them whole again.

use std::sync::Arc;

use bytes::Bytes;
use portolan::{
    app::Stores,
    config::Limits,
    storage::{
        BlobStore as _, MemoryBlobs, MemoryMeta, ObjectKey, Payload,
        faulty::{FaultPlan, FaultRates, FaultyBlobs},
    },
};

use crate::support::{
    client::{Ask as _, Client, Http, Request},
    content::{Blob, Manifest},
    eventually,
    mesh::{MEMBERS, Mesh, PART, Plan},
};

/// A mesh, and the objects under it.
struct World {
    mesh: Mesh,
    blobs: Arc<MemoryBlobs>,
    reads: FaultPlan,
}

impl World {
    async fn start(change: impl FnOnce(Plan) -> Plan) -> Self {
        let blobs = Arc::new(MemoryBlobs::new());
        let reads = FaultPlan::new(1, FaultRates::default());
        let stores = Stores {
            meta: Arc::new(MemoryMeta::default()),
            blobs: Arc::new(FaultyBlobs::new(blobs.clone(), reads.clone())),
        };
        let mesh = change(Plan::over(stores)).start().await;
        Self { mesh, blobs, reads }
    }

    /// The objects that appear while `push` is at work.
    async fn written<T>(&self, push: impl Future<Output = T>) -> (Vec<ObjectKey>, T) {
        let before = self.blobs.objects();
        let pushed = push.await;
        let now = self.blobs.objects().into_iter();
        (now.filter(|key| !before.contains(key)).collect(), pushed)
    }

    async fn harm(&self, key: &ObjectKey, bytes: &Bytes, harm: Harm) {
        let bytes = match harm {
            Harm::Gone => return self.blobs.delete(key).await.unwrap(),
            Harm::Short => bytes.slice(..bytes.len() / 2),
            Harm::Long => Bytes::from([bytes, &b"more"[..]].concat()),
            Harm::Other => Blob::named("other", bytes.len()).bytes,
        };
        self.blobs.put(key, Payload::from(bytes)).await.unwrap();
    }

    fn wrong_reads(&self, rate: f64) {
        self.reads.set_rates(FaultRates {
            wrong_read: rate,
            ..FaultRates::default()
        });
    }

    /// Through each member by each version of HTTP.
    fn clients(&self) -> Vec<Client> {
        let versions = [Http::One, Http::Two];
        let doors = (0..MEMBERS).flat_map(|door| versions.map(|http| (door, http)));
        doors
            .map(|(door, http)| Client::new(self.mesh.door(door), http))
            .collect()
    }
}

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Gone,
    Short,
    Long,
    Other,
}

const HARMS: [Harm; 4] = [Harm::Gone, Harm::Short, Harm::Long, Harm::Other];

/// A look is never remembered, and due-rows are looked at while one looks.
fn hasten(limits: &mut Limits) {
    limits.registry.seen_for = std::time::Duration::ZERO;
    limits.registry.clock_margin = std::time::Duration::ZERO;
    limits.registry.trash_delay = std::time::Duration::from_millis(500);
    limits.upkeep.interval = std::time::Duration::from_millis(100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_blob_is_told_and_healed_through_any_member() {
    let world = World::start(|plan| plan.limits(hasten)).await;
    let clients = world.clients();
    for (n, kind) in HARMS.into_iter().enumerate() {
        for (m, length) in [1000, 3 * PART + 70_000].into_iter().enumerate() {
            let name = world.mesh.names().owned_by(0, &format!("heal/{n}-{m}"));
            let elsewhere = world.mesh.names().owned_by(1, &format!("heal/elsewhere-{n}-{m}"));
            let blob = Blob::named(&name, length);
            let (written, pushed) = world.written(clients[0].push_blob(&name, &blob)).await;
            pushed.unwrap().expect(201);
            let [former] = written.as_slice() else {
                panic!("{written:?}");
            };
            world.harm(former, &blob.bytes, kind).await;
            let target = format!("/v2/{name}/blobs/{}", blob.digest);
            for client in &clients {
                client.head(target.clone()).await.unwrap().expect(404);
                match client.get(target.clone()).await {
                    Ok(answer) => {
                        let error = answer.error(500, "UNKNOWN").json()["errors"][0].clone();
                        let reason = error["detail"]["reason"].as_str().unwrap();
                        assert!(reason.contains("than w") || reason == "is missing", "{error}");
                        assert_eq!(error["detail"]["digest"], blob.digest);
                        assert!(error["detail"]["requestId"].is_string(), "{error}");
                        assert!(error["message"].as_str().unwrap().contains("pushing it again"));
                    }
                    // The bytes of another object are there, but for the end.
                    Err(_) => assert_eq!(kind, Harm::Other),
                }
            }
            // docker asks, tries to mount, and sends what isn't there.
            let mount = format!("/v2/{elsewhere}/blobs/uploads/?mount={}&from={name}", blob.digest);
            clients[2].ask(Request::post(mount)).await.unwrap().expect(202);
            let door = (n * 2 + m) % clients.len();
            let pushed = clients[door].push_blob(&elsewhere, &blob).await.unwrap();
            pushed.expect(201);
            for client in &clients {
                for name in [&name, &elsewhere] {
                    let target = format!("/v2/{name}/blobs/{}", blob.digest);
                    client.head(target.clone()).await.unwrap().expect(200);
                    let answer = client.get(target.clone()).await.unwrap().expect(200);
                    answer.with_body(&blob.bytes);
                    let range = Request::get(target).header("range", "bytes=100-899");
                    let answer = client.ask(range).await.unwrap().expect(206);
                    answer.with_body(&blob.bytes[100..900]);
                }
            }
            eventually("the former object is gone", || async {
                !world.blobs.objects().contains(former)
            })
            .await;
            for client in &clients {
                let answer = client.get(target.clone()).await.unwrap().expect(200);
                answer.with_body(&blob.bytes);
            }
        }
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_manifest_is_told_and_healed_through_any_member() {
    let world = World::start(|plan| {
        plan.limits(hasten)
            .limits(|limits| limits.registry.remembered = 0)
    })
    .await;
    let clients = world.clients();
    for (n, kind) in HARMS.into_iter().enumerate() {
        let name = world.mesh.names().owned_by(0, &format!("heal/manifest-{n}"));
        let config = Blob::named(&name, 100);
        clients[0].push_blob(&name, &config).await.unwrap().expect(201);
        let manifest = Manifest::image(&config, &[]).build_with_length(100_000);
        let (written, pushed) = world
            .written(clients[0].push_manifest(&name, "v1", &manifest))
            .await;
        pushed.unwrap().expect(201);
        let [former] = written.as_slice() else {
            panic!("{written:?}");
        };
        world.harm(former, &manifest.bytes, kind).await;
        let targets = ["v1", &manifest.digest].map(|reference| format!("/v2/{name}/manifests/{reference}"));
        for client in &clients {
            for target in &targets {
                client.head(target.clone()).await.unwrap().expect(404);
                client.get(target.clone()).await.unwrap().error(500, "UNKNOWN");
            }
        }
        let door = n % clients.len();
        let pushed = clients[door].push_manifest(&name, "v1", &manifest).await.unwrap();
        pushed.expect(201);
        for client in &clients {
            for target in &targets {
                client.head(target.clone()).await.unwrap().expect(200);
                let answer = client.get(target.clone()).await.unwrap().expect(200);
                answer.with_body(&manifest.bytes);
            }
        }
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_read_is_never_served_nor_kept() {
    let world = World::start(Plan::verify_reads).await;
    let clients = world.clients();
    let name = world.mesh.names().owned_by(0, "heal/wrong");
    let short = Blob::named("short", 5000);
    let long = Blob::named("long", 200_000);
    for blob in [&short, &long] {
        clients[0].push_blob(&name, blob).await.unwrap().expect(201);
    }
    let manifest = Manifest::image(&short, &[&long]).build_with_length(300_000);
    let pushed = clients[0].push_manifest(&name, "v1", &manifest).await.unwrap();
    pushed.expect(201);
    let contents = [
        (format!("/v2/{name}/manifests/v1"), &manifest.bytes),
        (
            format!("/v2/{name}/manifests/{}", manifest.digest),
            &manifest.bytes,
        ),
        (format!("/v2/{name}/blobs/{}", short.digest), &short.bytes),
        (format!("/v2/{name}/blobs/{}", long.digest), &long.bytes),
    ];
    world.wrong_reads(1.0);
    for client in &clients {
        for (target, _) in &contents {
            // Told, or broken off before the end.
            if let Ok(answer) = client.get(target.clone()).await {
                answer.error(500, "UNKNOWN");
            }
        }
    }
    world.wrong_reads(0.3);
    for client in &clients {
        for (target, bytes) in &contents {
            match client.get(target.clone()).await {
                Ok(answer) if answer.status == 200 => drop(answer.with_body(bytes)),
                Ok(answer) => drop(answer.error(500, "UNKNOWN")),
                Err(_) => {}
            }
        }
    }
    world.wrong_reads(0.0);
    for client in &clients {
        for (target, bytes) in &contents {
            let answer = client.get(target.clone()).await.unwrap().expect(200);
            answer.with_body(bytes);
        }
    }
    world.mesh.stop().await;
}
