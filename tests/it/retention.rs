//! Tags that no policy keeps go, whichever member looks; pulls count through every member, HEADs don't.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser as _;
use portolan::{
    app::Stores,
    cli::Cli,
    config::{self, Limits, Retention},
    storage::{Expect, MemoryBlobs, MemoryMeta, Version, keys, rows},
};
use prost::Message as _;
use serde_json::{Value, json};

use crate::support::{
    client::{Ask as _, Client, Http, Request},
    content::{Blob, Manifest},
    eventually,
    mesh::{MEMBERS, Mesh, Plan},
};

fn hasten(limits: &mut Limits) {
    limits.registry.clock_margin = Duration::ZERO;
    limits.collection.interval = Duration::from_millis(100);
}

fn retention(policies: &str) -> Retention {
    let text = format!("storage: {{rootDirectory: /d, retention: {{delay: 0s, policies: [{policies}]}}}}");
    config::parse(Path::new("c.yaml"), &text).unwrap().retention
}

/// How one tries policies: tags that don't begin with a `v` would go.
fn dry_run() -> Retention {
    Retention {
        dry_run: true,
        ..retention("{repositories: ['**'], keepTags: [{patterns: ['^v']}]}")
    }
}

/// A mesh that tries them, and a repository with the tag `x`.
async fn with_a_tag(plan: Plan) -> (Mesh, String) {
    let mesh = plan.retention(dry_run()).start().await;
    let name = mesh.names().owned_by(1, "app");
    let config = Blob::new("{}");
    let pushed = mesh.client(0).push_blob(&name, &config).await;
    pushed.unwrap().expect(201);
    let manifest = Manifest::image(&config, &[]).build();
    let pushed = mesh.client(0).push_manifest(&name, "x", &manifest).await;
    pushed.unwrap().expect(201);
    (mesh, name)
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
    let (mesh, name) = with_a_tag(Plan::new().limits(hasten)).await;
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

async fn portolan(arguments: &[&str]) -> Result<ExitCode, String> {
    let cli = Cli::try_parse_from([&["portolan"], arguments].concat()).unwrap();
    cli.run().await.map_err(|error| error.to_string())
}

/// A dry run, which is how one tries policies: nothing goes but by a plan.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_made_applied_and_undone_through_any_member() {
    let plan = Plan::new().retention(dry_run()).limits(|limits| {
        // A piece at a time.
        limits.registry.plan_step = Duration::ZERO;
    });
    let mesh = plan.start().await;
    let names: Vec<_> = (0..MEMBERS)
        .map(|owner| mesh.names().owned_by(owner, "app"))
        .collect();
    for name in &names {
        let client = mesh.client(0);
        let config = Blob::named(name, 1000);
        client.push_blob(name, &config).await.unwrap().expect(201);
        for tag in ["v1", "x1"] {
            let manifest = Manifest::image(&config, &[]).annotation("tag", tag).build();
            let pushed = client.push_manifest(name, tag, &manifest).await;
            pushed.unwrap().expect(201);
        }
    }
    const DESK: &str = "/v2/_portolan/retention";
    for (member, http) in [(0, Http::One), (1, Http::Two)] {
        let any = |n: usize| Client::new(mesh.door((member + n) % MEMBERS), http);
        let begun = any(0)
            .ask(Request::post(DESK).body(""))
            .await
            .unwrap()
            .expect(201);
        let (place, id) = (
            begun.location(),
            begun.json()["plan"].as_str().unwrap().to_owned(),
        );
        assert_eq!(place, format!("{DESK}/{id}"));
        let early = Request::post(format!("{place}/apply")).body("");
        let early = any(1).ask(early).await.unwrap();
        early.error(409, "UNSUPPORTED");
        let carried_on = async |target: &str, end: &str| {
            for n in 0.. {
                let now = any(n)
                    .ask(Request::post(target).body(""))
                    .await
                    .unwrap()
                    .expect(200);
                if now.json()["state"] == end {
                    return now.json();
                }
                assert!(n < 1000, "{now}");
            }
            unreachable!()
        };
        let ready = carried_on(&place, "ready").await;
        assert_eq!(
            (&ready["tags"], &ready["manifests"]),
            (&json!(3), &json!(3)),
            "{ready}"
        );
        let shown = any(2).get(place.clone()).await.unwrap().expect(200).json();
        let items = shown["items"].as_array().unwrap();
        let told: Vec<_> = items
            .iter()
            .map(|item| (&item["repository"], &item["tag"]))
            .collect();
        let mut expected: Vec<_> = names.iter().map(|name| json!(name)).collect();
        expected.sort_by_key(ToString::to_string);
        let (x1, none) = (json!("x1"), Value::Null);
        let expected: Vec<_> = expected
            .iter()
            .flat_map(|name| [(name, &x1), (name, &none)])
            .collect();
        assert_eq!(told, expected);
        // One is moved meanwhile.
        let moved = Manifest::image(&Blob::named(&names[0], 1000), &[])
            .annotation("tag", "newer")
            .build();
        any(1)
            .push_manifest(&names[0], "x1", &moved)
            .await
            .unwrap()
            .expect(201);
        let done = carried_on(&format!("{place}/apply"), "applied").await;
        let came_of_it = json!({"repositories": 3, "tags": 2, "manifests": 3, "left": 1});
        assert_eq!(done["applied"], came_of_it, "{done}");
        let shown = any(0).get(place.clone()).await.unwrap().expect(200).json();
        let left = shown["items"].as_array().unwrap().iter();
        let left: Vec<_> = left.filter(|item| item["left"].is_string()).collect();
        assert_eq!(
            (left.len(), &left[0]["left"], &left[0]["tag"]),
            (1, &json!("moved"), &json!("x1"))
        );
        assert_eq!(left[0]["repository"], json!(names[0]));

        let server = format!("http://{}", mesh.members[member]);
        portolan(&["restore", "--run", &id, "--server", &server])
            .await
            .unwrap();
        for name in &names {
            assert_eq!(tags(&mesh, name).await.unwrap(), ["v1", "x1"]);
        }
        // What it names now goes next time; the others name what they did.
        let client = any(0);
        let target = format!("/v2/{}/manifests/{}", names[0], moved.digest);
        client.delete(target).await.unwrap().expect(202);
        let former = Manifest::image(&Blob::named(&names[0], 1000), &[])
            .annotation("tag", "x1")
            .build();
        client
            .push_manifest(&names[0], "x1", &former)
            .await
            .unwrap()
            .expect(201);
    }
    for wrong in [
        "/v2/_portolan/retention/0123",
        "/v2/_portolan/retention/x",
        "/v2/_portolan/retention/",
    ] {
        mesh.client(0).get(wrong.to_owned()).await.unwrap().expect(404);
    }
    let wrong = mesh.client(0).delete(DESK.to_owned()).await.unwrap().expect(405);
    wrong.with("allow", "GET, HEAD, POST");
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_plans_and_applies() {
    let (mesh, name) = with_a_tag(Plan::new()).await;
    let client = mesh.client(0);
    let server = format!("http://{}", mesh.members[2]);
    for json in [&[][..], &["--json"]] {
        let asked = [&["retention", "plan", "--server", &server], json].concat();
        portolan(&asked).await.unwrap();
        assert_eq!(tags(&mesh, &name).await.unwrap(), ["x"]);
    }
    let plans = client
        .get("/v2/_portolan/retention".to_owned())
        .await
        .unwrap()
        .expect(200)
        .json();
    let plans = plans["plans"].as_array().unwrap();
    assert_eq!(plans.len(), 2, "{plans:?}");
    let id = plans[1]["plan"].as_str().unwrap();
    portolan(&["retention", "apply", id, "--server", &server])
        .await
        .unwrap();
    client
        .get(format!("/v2/{name}/tags/list"))
        .await
        .unwrap()
        .expect(404);
    for wrong in ["0123", "no id"] {
        let refused = portolan(&["retention", "apply", wrong, "--server", &server]).await;
        assert!(refused.is_err(), "{wrong}");
    }
    mesh.stop().await;
}
