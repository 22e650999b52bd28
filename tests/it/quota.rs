//! `storage.quota`, through the member that owns a repository and through one that doesn't.

use std::collections::BTreeMap;

use portolan::{
    app::{FsckRun, fsck},
    config::{self, Limits},
    oci::Digest,
    registry::{Fate, FaultKind, Quotas},
    storage::{Expect, Version, keys, rows},
};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{
    client::{Answer, Ask as _, Client, Request, finish, octets, with_digest},
    content::{Blob, Manifest},
    embedded,
    mesh::{MEMBERS, Mesh, Plan},
};

const ALLOWED: u64 = 300_000;

async fn mesh() -> Mesh {
    let team = ("team".parse().unwrap(), ALLOWED.try_into().unwrap());
    Plan::new()
        .quotas(Quotas::new(BTreeMap::from([team])))
        .start()
        .await
}

/// What a client is told of a quota without room for what it asked for.
#[track_caller]
fn told(answer: Answer, used: u64, asked: Value) {
    let error = answer.error(403, "DENIED").json()["errors"][0].clone();
    let expected = json!({ "prefix": "team", "used": used, "allowed": ALLOWED, "asked": asked });
    assert_eq!(error["detail"], expected, "{error}");
    let message = error["message"].as_str().unwrap();
    for part in ["team and what is below it", &used.to_string(), "300000"] {
        assert!(message.contains(part), "{message}");
    }
}

async fn mount(client: &Client, repository: &str, blob: &Blob, from: &str) -> Answer {
    let target = format!(
        "/v2/{repository}/blobs/uploads/?mount={}&from={from}",
        blob.digest
    );
    client.ask(Request::post(target)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_prefix_takes_nothing_through_any_member() {
    let mesh = mesh().await;
    let elsewhere = "teams";
    for door in 0..MEMBERS {
        let client = mesh.client(door);
        // Of another member for two of the doors, with a name of its own for each.
        let repository = mesh.names().owned_by(0, &format!("team/door-{door}"));
        let blobs = [0, 1, 2].map(|n| Blob::named(&format!("{repository} {n}"), 100_000));
        let [one, two, other] = &blobs;
        client.push_blob(&repository, one).await.unwrap().expect(201);
        client.push_blob(&repository, two).await.unwrap().expect(201);
        client.push_blob(elsewhere, other).await.unwrap().expect(201);

        let large = Blob::named(&format!("{repository} large"), 100_001);
        told(
            client.push_blob(&repository, &large).await.unwrap(),
            200_000,
            json!(100_001),
        );
        let location = client.start(&repository).await.unwrap().expect(202).location();
        let whole = octets(Request::put(with_digest(&location, &large.digest))).body(large.bytes.clone());
        told(client.ask(whole).await.unwrap(), 200_000, json!(100_001));
        // In chunks nobody knows how many come: the end is told.
        let told_late = client
            .push_blob_in_chunks(&repository, &large, 50_000)
            .await
            .unwrap();
        told(told_late, 200_000, json!(100_001));

        mount(&client, &repository, other, elsewhere).await.expect(201);
        told(client.start(&repository).await.unwrap(), 300_000, Value::Null);
        let more = Blob::named(&format!("{repository} more"), 1);
        client.push_blob(elsewhere, &more).await.unwrap().expect(201);
        told(
            mount(&client, &repository, &more, elsewhere).await,
            300_000,
            json!(1),
        );
        // What is there costs nothing, and manifests don't count.
        mount(&client, &repository, other, elsewhere).await.expect(201);
        client.push_blob(&repository, one).await.unwrap().expect(201);
        let image = Manifest::image(one, &[two]).build();
        client
            .push_manifest(&repository, "v1", &image)
            .await
            .unwrap()
            .expect(201);

        let blob = |blob: &Blob| format!("/v2/{repository}/blobs/{}", blob.digest);
        client.delete(blob(other)).await.unwrap().expect(202);
        let location = client.start(&repository).await.unwrap().expect(202).location();
        let small = Blob::named(&format!("{repository} small"), 99_999);
        let sent = octets(Request::patch(&location)).body(small.bytes.clone());
        let location = client.ask(sent).await.unwrap().expect(202).location();
        client
            .ask(finish(&location, &small.digest))
            .await
            .unwrap()
            .expect(201);

        let manifest = format!("/v2/{repository}/manifests/{}", image.digest);
        client.delete(manifest).await.unwrap().expect(202);
        for gone in [one, two, &small] {
            client.delete(blob(gone)).await.unwrap().expect(202);
        }
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fsck_holds_again_is_counted_or_refused_as_a_push_is() {
    for (allowed, fate) in [(100, Fate::Repaired), (99, Fate::Unrepairable)] {
        let folder = tempfile::tempdir().unwrap();
        let stores = embedded(folder.path()).await;
        let (config, layer) = (Blob::new("{}"), Blob::named("layer", 100));
        let mesh = Plan::over(stores.stores()).start().await;
        for blob in [&config, &layer] {
            mesh.client(0)
                .push_blob("team/app", blob)
                .await
                .unwrap()
                .expect(201);
        }
        let image = Manifest::image(&config, &[&layer]).build();
        let pushed = mesh.client(0).push_manifest("team/app", "v1", &image).await;
        pushed.unwrap().expect(201);
        mesh.stop().await;
        let link = keys::link(
            &Digest::parse(&layer.digest).unwrap(),
            &"team/app".parse().unwrap(),
        );
        let lost = link.clone().delete(Expect::Any);
        stores
            .stores()
            .meta
            .transact(Version::random(), &[lost])
            .await
            .unwrap();
        stores.close().await;

        let text = format!(
            "storage: {{rootDirectory: {:?}, quota: {{team: {allowed}}}}}",
            folder.path()
        );
        let config = config::parse(std::path::Path::new("c.yaml"), &text).unwrap();
        let run = FsckRun {
            repair: true,
            tell: &|_, _, _| {},
        };
        let mut limits = Limits::default();
        limits.registry.fsck_pause = std::time::Duration::ZERO;
        let report = fsck(&config, &run, &limits).await.unwrap();
        let mut faults = report.faults.iter();
        let lacks = faults.find(|fault| fault.kind == FaultKind::ManifestLacks);
        assert_eq!(lacks.unwrap().fate, fate, "{report}");
        let stores = embedded(folder.path()).await;
        let found = stores.stores().meta.get(&link).await.unwrap();
        let held = found.map(|found| rows::Link::decode(found.bytes).unwrap());
        let counted = held.map(|held| (held.size, held.counted_under));
        let expected = (fate == Fate::Repaired).then(|| (100, "team".to_owned()));
        assert_eq!(counted, expected);
        stores.close().await;
    }
}
