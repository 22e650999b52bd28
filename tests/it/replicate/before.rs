//! What was there before replication began is brought, too.

use super::{begun, hasten, named, replicate};
use crate::support::{
    client::{Ask as _, Request},
    content::{Blob, Manifest},
    eventually,
    mesh::{Plan, memory},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_there_before_is_brought_with_its_untagged_manifests_and_what_comes_after_is_carried() {
    let target = Plan::new().start().await;
    let stores = memory();
    let before = Plan::over(stores.clone()).limits(hasten).start().await;
    let client = before.client(0);
    let config = Blob::named("config", 100);
    let image = |note: &str| Manifest::image(&config, &[]).annotation("note", note).build();
    let repositories: Vec<_> = (0..12).map(|n| format!("before/{n}")).collect();
    for repository in repositories.iter().map(String::as_str).chain(["else/x"]) {
        client.push_blob(repository, &config).await.unwrap().expect(201);
        for note in ["old", "new"] {
            let pushed = client.push_manifest(repository, "t", &image(note)).await;
            pushed.unwrap().expect(201);
        }
    }
    // What went here before is nobody's to take away there.
    let there = target.client(0);
    there.push_blob("before/5", &config).await.unwrap().expect(201);
    for (client, tag) in [(&client, "gone"), (&there, "theirs")] {
        let pushed = client.push_manifest("before/5", tag, &image("gone")).await;
        pushed.unwrap().expect(201);
    }
    let gone = Request::delete(format!("/v2/before/5/manifests/{}", image("gone").digest));
    client.ask(gone).await.unwrap().expect(202);
    before.stop().await;
    let content = "content: [{prefix: \"before/**\"}]";
    let plan = Plan::over(stores).replicate(replicate(&target, content));
    let source = begun(plan.limits(hasten)).await;
    let (here, there) = (source.client(1), target.client(2));
    here.push_manifest("before/3", "t", &image("old"))
        .await
        .unwrap()
        .expect(201);
    for repository in &repositories {
        let (tag, other) = match repository.as_str() {
            "before/3" => ("old", "new"),
            _ => ("new", "old"),
        };
        let (tag, other) = (image(tag).digest, image(other).digest);
        eventually("it is brought whole", || async {
            named(&there, repository, "t").await.as_ref() == Some(&tag)
                && named(&there, repository, &other).await.as_ref() == Some(&other)
        })
        .await;
    }
    assert_eq!(named(&there, "else/x", "t").await, None);
    assert_eq!(
        named(&there, "before/5", "theirs").await,
        Some(image("gone").digest)
    );
    eventually("nothing is behind", || async {
        let told = here.get("/v2/_portolan/mirror".to_owned()).await.unwrap();
        let told = told.expect(200).json()["registries"][0].clone();
        told["behind"] == 0 && told["waitingSince"].is_null()
    })
    .await;
    source.stop().await;
    target.stop().await;
}
