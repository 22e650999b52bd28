//! Tags that no policy keeps go, whichever member looks; pulls count through every member, HEADs don't.

use std::{path::Path, sync::Arc, time::Duration};

use portolan::{
    app::Stores,
    config::{self, Limits, Retention},
    storage::{Expect, MemoryBlobs, MemoryMeta, Version, keys, rows},
};
use prost::Message as _;

use crate::support::{
    client::{Ask as _, Request},
    content::{Blob, Manifest},
    eventually,
    mesh::{MEMBERS, Mesh, Plan},
};

fn hasten(limits: &mut Limits) {
    limits.clock_margin = Duration::ZERO;
    limits.collection_interval = Duration::from_millis(100);
}

fn retention(policies: &str) -> Retention {
    let text = format!("storage: {{rootDirectory: /d, retention: {{delay: 0s, policies: [{policies}]}}}}");
    config::parse(Path::new("c.yaml"), &text).unwrap().retention
}

/// The tags as every member lists them, where all list the same.
async fn tags(mesh: &Mesh, repository: &str) -> Option<Vec<String>> {
    let mut seen = Vec::new();
    for member in 0..MEMBERS {
        let target = format!("/v2/{repository}/tags/list");
        let answer = mesh.client(member).get(target).await.unwrap().expect(200);
        let names: Vec<String> = serde_json::from_value(answer.json()["tags"].clone()).unwrap();
        seen.push(names);
    }
    seen.dedup();
    (seen.len() == 1).then(|| seen.remove(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tag_stays_that_was_pulled_through_any_member() {
    let stores = Stores {
        meta: Arc::new(MemoryMeta::default()),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    // Nothing but its end makes this one write what was pulled.
    let mesh = Plan::over(stores.clone()).start().await;
    let names: Vec<_> = (0..MEMBERS)
        .map(|owner| mesh.names().owned_by(owner, "kept/app"))
        .collect();
    let other = mesh.names().owned_by(0, "other/app");
    for name in names.iter().chain([&other]) {
        let client = mesh.client(0);
        let config = Blob::new("{}");
        client.push_blob(name, &config).await.unwrap().expect(201);
        for tag in ["a", "b", "c"] {
            let manifest = Manifest::image(&config, &[]).annotation("tag", tag).build();
            client
                .push_manifest(name, tag, &manifest)
                .await
                .unwrap()
                .expect(201);
        }
        let target = |tag: &str| format!("/v2/{name}/manifests/{tag}");
        client.get(target("b")).await.unwrap().expect(200);
        // A HEAD is no pull.
        client.ask(Request::head(target("c"))).await.unwrap().expect(200);
    }
    mesh.stop().await;
    let since = rows::PullsSince {
        min_reader: rows::SCHEMA,
        since_ms: 1,
    };
    let op = keys::pulls_since().put(Expect::Any, since.encode_to_vec());
    stores.meta.transact(Version::random(), &[op]).await.unwrap();

    let policy = "{repositories: ['kept/**'], keepTags: [{mostRecentlyPulledCount: 1}]}";
    let plan = Plan::over(stores).limits(hasten).retention(retention(policy));
    let mesh = plan.start().await;
    for name in &names {
        eventually("only what was pulled is left", || async {
            tags(&mesh, name).await.is_some_and(|tags| tags == ["b"])
        })
        .await;
        for (tag, status) in [("a", 404), ("b", 200), ("c", 404)] {
            let target = format!("/v2/{name}/manifests/{tag}");
            mesh.client(2).get(target).await.unwrap().expect(status);
        }
    }
    assert_eq!(tags(&mesh, &other).await.unwrap(), ["a", "b", "c"]);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_takes_nothing() {
    let policy = "{repositories: ['**'], keepTags: [{patterns: ['^v']}]}";
    let retention = Retention {
        dry_run: true,
        ..retention(policy)
    };
    let mesh = Plan::new().limits(hasten).retention(retention).start().await;
    let (client, name) = (mesh.client(0), mesh.names().owned_by(1, "app"));
    let config = Blob::new("{}");
    client.push_blob(&name, &config).await.unwrap().expect(201);
    let manifest = Manifest::image(&config, &[]).build();
    client
        .push_manifest(&name, "x", &manifest)
        .await
        .unwrap()
        .expect(201);
    eventually("retention has looked", || async {
        let mut looked = 0.0;
        for member in 0..MEMBERS {
            let metrics = mesh.metrics(member).await;
            looked += metrics.sum("portolan_upkeep_rows_total", &[("kind", "retention")]);
        }
        looked >= 1.0
    })
    .await;
    assert_eq!(tags(&mesh, &name).await.unwrap(), ["x"]);
    mesh.stop().await;
}
