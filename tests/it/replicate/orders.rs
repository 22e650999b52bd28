//! `portolan sync retry`: what another registry lacks is tried at once.

use std::time::Duration;

use portolan::{
    config::ImmutableTags,
    oci::{RepoPattern, TagPattern},
    registry::Immutable,
};

use super::{Relay, begun, counted, hasten, named, replicate, replicate_to};
use crate::support::{
    client::{Ask as _, Request},
    content::{Blob, Manifest},
    eventually,
    mesh::{Mesh, Plan},
};

/// What anybody orders of replication, through that member.
async fn retry(source: &Mesh, door: usize) {
    let order = Request::post("/v2/_portolan/mirror/retry").body("");
    let told = source.client(door).ask(order).await.unwrap().expect(202).json();
    assert_eq!(told["ordered"].as_array().unwrap().len(), 1, "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_or_is_behind_is_tried_at_once_when_that_is_ordered() {
    let rule = ImmutableTags {
        name: "kept".to_owned(),
        repositories: vec![RepoPattern::parse("kept/**").unwrap()],
        tags: vec![TagPattern::parse("v*").unwrap()],
        except: Vec::new(),
    };
    let target = Plan::new().immutable(Immutable::new(vec![rule])).start().await;
    let plan = Plan::new().replicate(replicate(&target, "")).limits(|limits| {
        hasten(limits);
        // Nobody tries by themselves what is behind.
        limits.replication.look_interval = Duration::from_secs(86_400);
    });
    let source = begun(plan).await;
    let (here, there) = (source.client(1), target.client(2));
    let config = Blob::named("config", 100);
    let image = |note: &str| Manifest::image(&config, &[]).annotation("note", note).build();
    here.push_blob("kept/a", &config).await.unwrap().expect(201);
    for note in ["one", "two"] {
        let pushed = here.push_manifest("kept/a", "v1", &image(note)).await;
        pushed.unwrap().expect(201);
        if note == "one" {
            eventually("it is there", || async {
                named(&there, "kept/a", "v1").await == Some(image("one").digest)
            })
            .await;
        }
    }
    counted(&source, "behind").await;
    for (tag, note) in [("v1", "one"), ("w", "three")] {
        let pushed = here.push_manifest("kept/a", tag, &image(note)).await;
        pushed.unwrap().expect(201);
    }
    retry(&source, 0).await;
    eventually("it is brought whole", || async {
        named(&there, "kept/a", "w").await == Some(image("three").digest)
    })
    .await;
    counted(&source, "caught_up").await;
    source.stop().await;
    target.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_was_not_taken_is_carried_again_at_once_when_that_is_ordered() {
    let target = Plan::new().start().await;
    let relay = Relay::to(target.door(0)).await;
    let to = replicate_to([relay.address].into_iter(), "maxRetries: 0");
    let plan = Plan::new().replicate(to).limits(|limits| {
        hasten(limits);
        limits.events.pause_min = Duration::from_secs(86_400);
        limits.events.pause_max = Duration::from_secs(86_400);
    });
    let source = begun(plan).await;
    let (here, there) = (source.client(1), target.client(0));
    relay.is_open.send_replace(false);
    let config = Blob::named("config", 100);
    let image = Manifest::image(&config, &[]).build();
    here.push_blob("a/b", &config).await.unwrap().expect(201);
    here.push_manifest("a/b", "t", &image).await.unwrap().expect(201);
    counted(&source, "failed").await;
    relay.is_open.send_replace(true);
    eventually("it is carried, as often as that is ordered", || async {
        retry(&source, 2).await;
        named(&there, "a/b", "t").await.as_deref() == Some(&image.digest)
    })
    .await;
    source.stop().await;
    target.stop().await;
}
