//! Who asks for events instead of being told.

use std::collections::BTreeMap;

use portolan::{auth::GateSpec, config};
use serde_json::Value;

use super::told::{self, ask};
use crate::{
    search::world::World,
    support::{
        client::{Ask, Request},
        content::{Blob, Manifest},
        eventually,
        mesh::{Mesh, Plan},
    },
};

async fn push(door: &impl Ask, repository: &str, tag: &str) {
    let config = Blob::named("config", 20);
    door.push_blob(repository, &config).await.unwrap().expect(201);
    let manifest = Manifest::image(&config, &[]).build();
    door.push_manifest(repository, tag, &manifest)
        .await
        .unwrap()
        .expect(201);
}

#[tokio::test]
async fn every_member_tells_who_asks_from_where_they_were_on() {
    let mesh = Mesh::of_three().await;
    let doors = mesh.clients();
    let begin = doors[0]
        .get("/v2/_portolan/events".to_owned())
        .await
        .unwrap()
        .expect(200)
        .json();
    assert_eq!(begin["events"], Value::Array(Vec::new()));
    let begin = begin["next"].as_str().unwrap().to_owned();
    for n in 0..20 {
        push(&doors[n % 3], &format!("a/r{}", n % 5), &format!("t{n}")).await;
    }
    let mut counted = BTreeMap::new();
    for door in &doors {
        eventually("all changes are in the feeds", || async {
            told::asked(door).await.len() >= 25
        })
        .await;
        let (mut after, mut kinds) = (begin.clone(), Vec::new());
        loop {
            let page = ask(door, &after)
                .await
                .expect(200)
                .with("cache-control", "no-store")
                .json();
            let events = page["events"].as_array().unwrap();
            kinds.extend(
                events
                    .iter()
                    .map(|event| event["type"].as_str().unwrap().to_owned()),
            );
            page["next"].as_str().unwrap().clone_into(&mut after);
            if events.is_empty() {
                break;
            }
        }
        for kind in kinds {
            *counted.entry(kind).or_insert(0) += 1;
        }
    }
    let updated = "zotregistry.image.updated".to_owned();
    let created = "zotregistry.repository.created".to_owned();
    assert_eq!(counted, BTreeMap::from([(updated, 20 * 3), (created, 5 * 3)]));
    // A place that nothing ever comes to.
    let last = ["ffffffffffffffff"; 8].join("-");
    assert_eq!(ask(&doors[2], &last).await.expect(200).json()["next"], *last);
    for wrong in [
        "x",
        "1",
        "0-0-0-0-0-0-0-0-0",
        "-",
        "0-0-0-0-0-0-0-g",
        "+1-0-0-0-0-0-0-0",
    ] {
        let target = format!("/v2/_portolan/events?after={}", wrong.replace('+', "%2B"));
        let answer = doors[1].ask(Request::get(target)).await.unwrap();
        answer.error(400, "UNSUPPORTED");
    }
    let wrong = doors[1].ask(Request::post("/v2/_portolan/events")).await.unwrap();
    wrong.expect(405).with("allow", "GET, HEAD");
    mesh.stop().await;
}

#[tokio::test]
async fn nobody_is_told_of_repositories_that_they_may_not_read() {
    let text = "
storage: {rootDirectory: /unused}
http:
  accessControl:
    repositories:
      open/**: {anonymousPolicy: [read, create, update]}
      hidden/**: {anonymousPolicy: [create, update]}
";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.yaml");
    std::fs::write(&file, text).unwrap();
    let config = config::parse(&file, text).unwrap();
    let mesh = Plan::new().gate(GateSpec::from(&config)).start().await;
    for name in ["hidden/a", "open/a", "hidden/b", "open/b"] {
        push(&mesh.client(0), name, "t").await;
    }
    for door in mesh.clients() {
        eventually("both are told", || async { told::asked(&door).await.len() >= 4 }).await;
        for told in told::asked(&door).await {
            assert!(
                told.data["name"].as_str().unwrap().starts_with("open/"),
                "{told:?}"
            );
        }
    }
    mesh.stop().await;
}

#[tokio::test]
async fn who_pushed_is_told_those_who_may_move_tags() {
    let world = World::new().await;
    push(&world.caller(Some("admin"), 0), "team/who", "t").await;
    for door in 0..3 {
        for (user, expected) in [(Some("admin"), true), (Some("alice"), false), (None, false)] {
            let caller = world.caller(user, door);
            eventually("it is told", || async { !told::asked(&caller).await.is_empty() }).await;
            for told in told::asked(&caller).await {
                let actor = expected.then(|| serde_json::json!({ "name": "admin" }));
                assert_eq!(told.data.get("actor"), actor.as_ref(), "{user:?} {told:?}");
            }
        }
    }
    world.mesh.stop().await;
}
