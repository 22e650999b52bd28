//! What a zot answers is what we answer: the content and the questions of a real one, through every member of a mesh, and
//! what of it somebody may know.
//!
//! Left out of the comparison: times; counts of pulls, which are 0 here; the wording of what is wrong with a query, whose
//! status and code are the same.

mod attacks;
mod endpoints;
pub(crate) mod world;

use std::collections::BTreeSet;

use portolan::oci::{Algorithm, Digest};
use serde_json::{Value, json};

use self::world::World;
use crate::support::{
    client::{Ask as _, Request},
    eventually,
    mesh::MEMBERS,
};

pub(super) const SEARCH: &str = "/v2/_zot/ext/search";

/// Where two answers differ, if they do.
fn difference(path: &str, expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let names: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
            names.into_iter().find_map(|name| {
                let (one, other) = (expected.get(name), found.get(name));
                let path = format!("{path}.{name}");
                difference(&path, one.unwrap_or(&Value::Null), other.unwrap_or(&Value::Null))
            })
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let mut pairs = expected.iter().zip(found).enumerate();
            pairs.find_map(|(n, (one, other))| difference(&format!("{path}[{n}]"), one, other))
        }
        (Value::String(expected), Value::String(found)) if expected == "(a time)" => {
            let is_time = time::OffsetDateTime::parse(found, &time::format_description::well_known::Rfc3339);
            is_time.is_err().then(|| format!("{path}: no time: {found}"))
        }
        _ if expected == found => None,
        _ => Some(format!("{path}: {expected} was expected, {found} came")),
    }
}

#[test]
fn the_comparison_of_answers_sees_what_differs() {
    let expected = json!({ "a": [1, "(a time)"], "c": 3 });
    let same = json!({ "a": [1, "2026-01-02T03:04:05Z"], "c": 3 });
    assert_eq!(difference("", &expected, &same), None);
    for other in [
        json!({ "a": [1, "now"], "c": 3 }),
        json!({ "a": [2, "2026-01-02T03:04:05Z"], "c": 3 }),
        json!({ "a": [1], "c": 3 }),
        json!({ "a": [1, "2026-01-02T03:04:05Z"], "c": 4 }),
        json!({ "a": [1, "2026-01-02T03:04:05Z"], "c": 3, "b": false }),
        json!({ "c": 3 }),
    ] {
        assert!(difference("", &expected, &other).is_some(), "{other}");
    }
}

/// Referrers are in the order of their digests here, in that of their pushes there.
fn sorted(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if name == "Referrers"
                    && let Some(list) = field.as_array_mut()
                {
                    list.sort_by_key(|referrer| referrer["Digest"].to_string());
                }
                sorted(field);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(sorted),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_answered_as_by_zot_through_every_member() {
    let world = World::new().await;
    world.fill().await;
    let questions: Vec<Value> = serde_json::from_str(include_str!("answers.json")).unwrap();
    assert_eq!(questions.len(), 85);
    let mut wrong = Vec::new();
    for member in 0..MEMBERS {
        for question in &questions {
            let text = |name: &str| question[name].as_str().unwrap_or_default().to_owned();
            let client = world.caller(question["user"].as_str(), member);
            let request = match question["method"].as_str() {
                Some("GET") => Request::get(format!(
                    "{SEARCH}?query={}",
                    percent_encoding::utf8_percent_encode(&text("query"), percent_encoding::NON_ALPHANUMERIC)
                )),
                _ => {
                    let body = json!({ "query": question["query"], "variables": question.get("variables") });
                    Request::post(SEARCH)
                        .header("content-type", "application/json")
                        .body(body.to_string())
                }
            };
            let answer = client.ask(request).await.unwrap();
            let status = u64::from(answer.status);
            let (mut found, mut expected) = (answer.json(), question["answer"].clone());
            if status != question["status"] {
                wrong.push(format!("{}: {answer}", text("name")));
                continue;
            }
            if status == 422 {
                for errors in [&mut found, &mut expected] {
                    let error = errors["errors"][0].as_object_mut().unwrap();
                    error.remove("message");
                    error.remove("locations");
                }
            }
            sorted(&mut found);
            sorted(&mut expected);
            if let Some(difference) = difference("", &expected, &found) {
                wrong.push(format!("{} through {member}: {difference}", text("name")));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    world.mesh.stop().await;
}

/// Asks for what was just pushed as `repository:tag`: it is there, the newest of its repository and of all.
async fn assert_found(world: &World, member: usize, repository: &str, tag: &str) {
    let query = format!(
        "{{GlobalSearch(query:\"{repository}\"){{Repos{{Name NewestImage{{Tag}} LastUpdated}}}} \
         ImageList(repo:\"{repository}\"){{Results{{Tag}}}} \
         RepoListWithNewestImage(requestedPage:{{limit:1}}){{Results{{Name}}}}}}"
    );
    let found = world.find(Some("alice"), member, &query).await;
    // Neither an error nor a part: the look at the store that this waited for took less than two seconds.
    assert!(
        found.get("errors").is_none() && found.get("extensions").is_none(),
        "{found}"
    );
    let data = &found["data"];
    assert_eq!(data["GlobalSearch"]["Repos"][0]["Name"], *repository);
    assert_eq!(
        data["GlobalSearch"]["Repos"][0]["NewestImage"]["Tag"], *tag,
        "{found}"
    );
    assert_eq!(
        data["RepoListWithNewestImage"]["Results"][0]["Name"], *repository,
        "{found}"
    );
    let tags = data["ImageList"]["Results"].as_array().unwrap();
    assert!(tags.iter().any(|found| found["Tag"] == *tag), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_pushes_are_found_through_another_member_at_once_also_when_the_owner_was_killed() {
    let mut world = World::new().await;
    world.fill().await;
    let names = world.mesh.names();
    // Some of each member's.
    let repositories: Vec<String> = (0..9)
        .map(|n| names.owned_by(n % MEMBERS, &format!("many/r{n}")).to_string())
        .collect();
    let mut live: Vec<usize> = (0..MEMBERS).collect();
    for n in 0..200 {
        if n == 140 {
            world.mesh.crash(2).await;
            live.pop();
        }
        // The first after that are those of the killed one.
        let repository = &repositories[if n >= 140 { (n * 2) % 9 } else { n % 9 }];
        let (through, asked) = (live[n % live.len()], live[(n + 1) % live.len()]);
        let tag = format!("t{n}");
        world.push(repository, &tag, through).await;
        assert_found(&world, asked, repository, &tag).await;
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_are_told_of_images() {
    let world = World::new().await;
    let (repository, tag) = ("fresh/pulled", "v1");
    world.push(repository, tag, 0).await;
    // One image may have many tags.
    let path = |tag: &str| format!("/v2/{repository}/manifests/{tag}");
    let admin = world.caller(Some("admin"), 0);
    let manifest = admin.get(path(tag)).await.unwrap().expect(200);
    let again = Request::put(path("again"))
        .header("content-type", manifest.must("content-type"))
        .body(manifest.body.clone());
    admin.ask(again).await.unwrap().expect(201);
    let pulls = MEMBERS + 1;
    for member in 0..MEMBERS {
        let client = world.caller(Some("alice"), member);
        let pulled = client.get(path(tag)).await;
        pulled.unwrap().expect(200);
    }
    let digest = Digest::of(Algorithm::Sha256, &manifest.body);
    let query = format!(
        r#"{{ Image(image: "{repository}:{tag}") {{ DownloadCount LastPullTimestamp }}
            ImageList(repo: "{repository}") {{ Results {{ DownloadCount }} }}
            GlobalSearch(query: "{repository}:") {{ Images {{ DownloadCount }} }}
            ImageListForDigest(id: "{digest}") {{ Results {{ DownloadCount }} }}
            ExpandedRepoInfo(repo: "{repository}") {{
                Images {{ DownloadCount Manifests {{ DownloadCount }} }}
                Summary {{ DownloadCount NewestImage {{ DownloadCount LastPullTimestamp }} }} }}
            RepoListWithNewestImage {{ Results {{ DownloadCount NewestImage {{ DownloadCount LastPullTimestamp }} }} }} }}"#
    );
    // They are written in batches.
    eventually("all pulls are told of", || async {
        let answer = world.find(Some("alice"), 1, &query).await;
        answer["data"]["Image"]["DownloadCount"] == json!(pulls)
    })
    .await;
    let data = &world.find(Some("alice"), 2, &query).await["data"];
    assert!(data["Image"]["LastPullTimestamp"].is_string(), "{data}");
    for images in [
        &data["ImageList"]["Results"],
        &data["GlobalSearch"]["Images"],
        &data["ImageListForDigest"]["Results"],
    ] {
        let both = json!([{ "DownloadCount": pulls }, { "DownloadCount": pulls }]);
        assert_eq!(*images, both, "{data}");
    }
    let images = &data["ExpandedRepoInfo"]["Images"];
    let one = json!({ "DownloadCount": pulls, "Manifests": [{ "DownloadCount": pulls }] });
    assert_eq!(*images, json!([one, one]), "{data}");
    let lists = &data["RepoListWithNewestImage"]["Results"];
    for repository in [&data["ExpandedRepoInfo"]["Summary"], &lists[0]] {
        assert_eq!(repository["DownloadCount"], json!(pulls), "{data}");
        let newest = &repository["NewestImage"];
        assert_eq!(newest["DownloadCount"], json!(pulls), "{data}");
        assert!(newest["LastPullTimestamp"].is_string(), "{data}");
    }
    world.mesh.stop().await;
}

/// By rows that others write, whatever a member knew of a repository before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pulled_most_comes_first() {
    let world = World::new().await;
    for (repository, tag) in [("a", "v1"), ("b", "v1"), ("b", "v2"), ("c", "v1")] {
        world.push(&format!("pulled/{repository}"), tag, 0).await;
    }
    let page = "requestedPage: { limit: 10, offset: 0, sortBy: DOWNLOADS }";
    let query = format!(
        r#"{{ RepoListWithNewestImage({page}) {{ Results {{ Name DownloadCount }} }}
            GlobalSearch(query: "pulled/b:v", {page}) {{ Images {{ Tag }} }} }}"#
    );
    let pull = async |path: &str, times: usize| {
        for member in 0..times {
            let client = world.caller(Some("alice"), member % MEMBERS);
            let answer = client.get(format!("/v2/pulled/{path}")).await;
            answer.unwrap().expect(200);
        }
    };
    let is = async |member: usize, repositories: [(&str, usize); 3], tags: [&str; 2]| {
        let answer = world.find(Some("alice"), member, &query).await;
        let shown =
            repositories.map(|(name, n)| json!({ "Name": format!("pulled/{name}"), "DownloadCount": n }));
        let images = tags.map(|tag| json!({ "Tag": tag }));
        answer["data"]["RepoListWithNewestImage"]["Results"] == json!(shown)
            && answer["data"]["GlobalSearch"]["Images"] == json!(images)
    };
    // What was never pulled is in the order of names.
    assert!(is(1, [("a", 0), ("b", 0), ("c", 0)], ["v1", "v2"]).await);
    pull("c/manifests/v1", 2).await;
    pull("b/manifests/v2", 1).await;
    for member in 0..MEMBERS {
        let told = || is(member, [("c", 2), ("b", 1), ("a", 0)], ["v2", "v1"]);
        eventually("what was pulled comes first", told).await;
    }
    pull("b/manifests/v1", 3).await;
    for member in 0..MEMBERS {
        let told = || is(member, [("b", 4), ("c", 2), ("a", 0)], ["v1", "v2"]);
        eventually("and so does what is pulled later", told).await;
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_is_found_through_every_other_member_at_once() {
    let world = World::new().await;
    world.fill().await;
    for n in 0..12 {
        let (repository, tag) = (format!("fresh/r{}", n % 4), format!("t{n}"));
        let (through, asked) = (n % MEMBERS, (n + 1 + n / MEMBERS % 2) % MEMBERS);
        world.push(&repository, &tag, through).await;
        assert_found(&world, asked, &repository, &tag).await;
    }
    // And what is gone isn't found.
    let root = world.caller(Some("admin"), 0);
    for n in [0, 4, 8] {
        root.delete(format!("/v2/fresh/r0/manifests/t{n}"))
            .await
            .unwrap()
            .expect(202);
    }
    let digests = world
        .find(Some("admin"), 1, "{ImageList(repo:\"fresh/r0\"){Results{Tag}}}")
        .await;
    assert_eq!(digests["data"]["ImageList"]["Results"], json!([]));
    let found = world
        .find(
            Some("alice"),
            2,
            "{GlobalSearch(query:\"fresh/r0\"){Repos{Name NewestImage{Tag}}}}",
        )
        .await;
    assert_eq!(
        found["data"]["GlobalSearch"]["Repos"][0]["NewestImage"],
        Value::Null
    );
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_an_answer_depends_on_what_the_caller_may_not_read() {
    let world = World::new().await;
    world.fill().await;
    let secret = world.digest("team/secret", "s").await;
    let layer = {
        let query = "{Image(image:\"team/secret:s\"){Manifests{Layers{Digest} ConfigDigest}}}";
        world.find(Some("admin"), 0, query).await
    };
    let manifest = &layer["data"]["Image"]["Manifests"][0];
    let (layer, config) = (
        manifest["Layers"][0]["Digest"].clone(),
        manifest["ConfigDigest"].clone(),
    );
    let queries = |name: &str| {
        vec![
            format!("{{GlobalSearch(query:\"{name}\"){{Page{{TotalCount ItemCount}} Repos{{Name}}}}}}"),
            format!("{{GlobalSearch(query:\"team/{name}:\"){{Page{{TotalCount}} Images{{Tag}}}}}}"),
            format!("{{ImageList(repo:\"team/{name}\"){{Page{{TotalCount}} Results{{Tag}}}}}}"),
            format!("{{ExpandedRepoInfo(repo:\"team/{name}\"){{Images{{Tag}}}}}}"),
            format!("{{Image(image:\"team/{name}:s\"){{Tag}}}}"),
            format!("{{Image(image:\"team/{name}:none\"){{Tag}}}}"),
            format!("{{DerivedImageList(image:\"team/{name}:s\"){{Results{{Tag}}}}}}"),
            format!("{{BaseImageList(image:\"team/{name}:s\"){{Results{{Tag}}}}}}"),
            format!("{{Referrers(repo:\"team/{name}\" digest:\"{secret}\"){{Digest}}}}"),
        ]
    };
    for member in 0..MEMBERS {
        for user in [None, Some("alice")] {
            // As if it weren't there.
            for (of_secret, of_nothing) in queries("secret").into_iter().zip(queries("nought")) {
                let found = world.find(user, member, &of_secret).await.to_string();
                let nothing = world.find(user, member, &of_nothing).await.to_string();
                assert_eq!(found.replace("secret", "nought"), nothing, "{of_secret}");
            }
            for digest in [json!(secret), layer.clone(), config.clone()] {
                let query =
                    format!("{{ImageListForDigest(id:{digest}){{Page{{TotalCount}} Results{{RepoName}}}}}}");
                let found = world.find(user, member, &query).await;
                assert_eq!(
                    found["data"]["ImageListForDigest"]["Page"]["TotalCount"], 0,
                    "{found}"
                );
            }
            let all = "{RepoListWithNewestImage{Page{TotalCount} Results{Name}}}";
            let found = world.find(user, member, all).await;
            assert_eq!(found["data"]["RepoListWithNewestImage"]["Page"]["TotalCount"], 6);
            assert!(!found.to_string().contains("secret"), "{found}");
        }
        for digest in [json!(secret), layer.clone(), config.clone()] {
            let query = format!("{{ImageListForDigest(id:{digest}){{Results{{RepoName}}}}}}");
            let found = world.find(Some("admin"), member, &query).await;
            let results = &found["data"]["ImageListForDigest"]["Results"];
            assert_eq!(*results, json!([{ "RepoName": "team/secret" }]), "{found}");
        }
        let may = "{ExpandedRepoInfo(repo:\"team/web\"){Images{IsDeletable}}}";
        for (user, expected) in [("alice", false), ("admin", true)] {
            let found = world.find(Some(user), member, may).await;
            let image = &found["data"]["ExpandedRepoInfo"]["Images"][0];
            assert_eq!(image["IsDeletable"], expected, "{found}");
        }
    }
    world.mesh.stop().await;
}
