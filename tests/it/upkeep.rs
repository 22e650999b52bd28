//! Space of what is gone comes back, whichever member finds it due, and nothing that is used goes with it.

use std::{sync::Arc, time::Duration};

use portolan::{
    app::Stores,
    config::Limits,
    storage::{MemoryBlobs, MemoryMeta},
};

use crate::support::{
    client::{Ask as _, Request, chunk, finish},
    content::{Blob, Manifest},
    eventually,
    mesh::{MEMBERS, PART, Plan},
};

/// Everything expires while one looks.
fn hasten(limits: &mut Limits) {
    let short = Duration::from_millis(500);
    limits.registry.session_ttl = Duration::from_secs(3);
    limits.registry.trash_delay = short;
    limits.registry.trash_again = short;
    limits.registry.tombstone = short;
    limits.registry.link_grace = short;
    limits.registry.history = Duration::ZERO;
    limits.registry.clock_margin = Duration::ZERO;
    limits.upkeep.interval = Duration::from_millis(100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_abandoned_or_deleted_goes_and_what_is_used_stays() {
    let blobs = Arc::new(MemoryBlobs::new());
    let stores = Stores {
        meta: Arc::new(MemoryMeta::default()),
        blobs: blobs.clone(),
    };
    let mesh = Plan::over(stores).limits(hasten).start().await;
    let client = mesh.client(0);
    let (kept, gone) = (mesh.names().owned_by(0, "kept"), mesh.names().owned_by(1, "gone"));

    let large = Blob::named("large", 3 * PART + 99);
    let location = client.start(&kept).await.unwrap().expect(202).location();
    let (head, rest) = (large.bytes.slice(..2 * PART), large.bytes.slice(2 * PART..));
    client.ask(chunk(&location, 0, head)).await.unwrap().expect(202);
    client
        .ask(chunk(&location, 2 * PART, rest))
        .await
        .unwrap()
        .expect(202);
    client
        .ask(finish(&location, &large.digest))
        .await
        .unwrap()
        .expect(201);
    let config = Blob::new("{}");
    client.push_blob(&kept, &config).await.unwrap().expect(201);
    let manifest = Manifest::image(&config, &[&large]).build();
    client
        .push_manifest(&kept, "v1", &manifest)
        .await
        .unwrap()
        .expect(201);

    // An upload with parts and a tail that nobody comes back to, and a manifest that is an object.
    let location = client.start(&gone).await.unwrap().expect(202).location();
    client
        .ask(chunk(&location, 0, large.bytes.clone()))
        .await
        .unwrap()
        .expect(202);
    client.push_blob(&gone, &config).await.unwrap().expect(201);
    let note = "n".repeat(40 << 10);
    let long = Manifest::image(&config, &[]).annotation("note", &note).build();
    client
        .push_manifest(&gone, "v1", &long)
        .await
        .unwrap()
        .expect(201);
    let target = format!("/v2/{gone}/manifests/{}", long.digest);
    client.ask(Request::delete(target)).await.unwrap().expect(202);
    assert!(blobs.uploads().len() == 1 && blobs.objects().len() >= 3);

    // The two blobs are all that stays, and every session is removed.
    eventually("what is gone gives its space back", || async {
        let mut done = [0.0; 3];
        for member in 0..MEMBERS {
            let metrics = mesh.metrics(member).await;
            for (kind, done) in ["session", "manifest", "tombstone"].iter().zip(&mut done) {
                *done += metrics.sum(
                    "portolan_upkeep_rows_total",
                    &[("kind", kind), ("outcome", "done")],
                );
            }
        }
        done[0] >= 4.0
            && done[1] >= 1.0
            && done[2] >= 1.0
            && blobs.objects().len() == 2
            && blobs.uploads().is_empty()
    })
    .await;
    client.get(location).await.unwrap().expect(404);
    for member in 0..MEMBERS {
        let target = format!("/v2/{kept}/blobs/{}", large.digest);
        mesh.client(member)
            .get(target)
            .await
            .unwrap()
            .expect(200)
            .with_body(&large.bytes);
        let target = format!("/v2/{kept}/manifests/v1");
        mesh.client(member)
            .get(target)
            .await
            .unwrap()
            .expect(200)
            .with_body(&manifest.bytes);
    }
    mesh.stop().await;
}
