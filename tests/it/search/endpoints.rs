//! What stands beside search: management, preferences, discovery, and which pages may ask.

use serde_json::json;

use super::{SEARCH, world::World};
use crate::support::{
    client::{Ask as _, Request},
    mesh::{MEMBERS, Mesh},
};

const PREFERENCES: &str = "/v2/_zot/ext/userprefs";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn management_and_discovery_are_open_to_everybody() {
    let world = World::new().await;
    for member in 0..MEMBERS {
        for user in [None, Some("alice")] {
            let caller = world.caller(user, member);
            let answer = caller
                .get("/v2/_zot/ext/mgmt".to_owned())
                .await
                .unwrap()
                .expect(200);
            let expected = json!({
                "distSpecVersion": "1.1.1", "commit": "", "releaseTag": "", "binaryType": "",
                "http": { "auth": { "htpasswd": {}, "apikey": true } },
            });
            assert_eq!(answer.json(), expected);
            let answer = caller
                .get("/v2/_oci/ext/discover".to_owned())
                .await
                .unwrap()
                .expect(200);
            let extension = &answer.json()["extensions"][0];
            assert_eq!(extension["name"], "_zot");
            let endpoints = [SEARCH, PREFERENCES, "/v2/_zot/ext/mgmt"];
            assert_eq!(extension["endpoints"], json!(endpoints));
        }
    }
    world.mesh.stop().await;
    // Where nobody has asked for it there is none.
    let mesh = Mesh::of_three().await;
    for path in [SEARCH, PREFERENCES, "/v2/_zot/ext/mgmt"] {
        mesh.client(0).get(path.to_owned()).await.unwrap().expect(404);
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repositories_are_listed_below_whole_components_of_their_names() {
    let world = World::new().await;
    world.fill().await;
    for (n, name) in ["team-b/x", "team.c", "team", "team/web/sub"]
        .into_iter()
        .enumerate()
    {
        world.push(name, "t", n % MEMBERS).await;
    }
    let names =
        |names: &[&str]| -> serde_json::Value { names.iter().map(|name| json!({ "name": name })).collect() };
    for member in 0..MEMBERS {
        for (user, path, expected) in [
            (
                None,
                "team/_oci/repositories",
                &["team/multi", "team/web", "team/web/sub"][..],
            ),
            (
                Some("admin"),
                "team/_oci/repositories",
                &["team/multi", "team/secret", "team/web", "team/web/sub"],
            ),
            (Some("alice"), "team/web/_oci/repositories", &["team/web/sub"]),
            (Some("alice"), "tea/_oci/repositories", &[]),
            (
                Some("alice"),
                "team/_oci/repositories?last=team/multi",
                &["team/web", "team/web/sub"],
            ),
            (
                Some("alice"),
                "team/_oci/repositories?last=a",
                &["team/multi", "team/web", "team/web/sub"],
            ),
            (Some("alice"), "team/_oci/repositories?last=z", &[]),
            (
                Some("alice"),
                "_oci/repositories?last=team/",
                &["team/multi", "team/web", "team/web/sub", "zz-last"],
            ),
        ] {
            let caller = world.caller(user, member);
            let answer = caller.get(format!("/v2/{path}")).await.unwrap().expect(200);
            assert_eq!(answer.json(), names(expected), "{path}");
            answer.lacks("link");
        }
        // Page by page.
        let caller = world.caller(Some("alice"), member);
        let (mut path, mut found) = (Some("/v2/_oci/repositories?n=2".to_owned()), Vec::new());
        while let Some(next) = path {
            let answer = caller.get(next).await.unwrap().expect(200);
            found.extend(answer.json().as_array().unwrap().clone());
            path = answer
                .header("link")
                .map(|link| link[1..link.find('>').unwrap()].to_owned());
        }
        let all = caller
            .get("/v2/_oci/repositories".to_owned())
            .await
            .unwrap()
            .expect(200)
            .json();
        assert_eq!(json!(found), all);
        assert_eq!(found.len(), 10);
        caller
            .get("/v2/Team/_oci/repositories".to_owned())
            .await
            .unwrap()
            .expect(400);
        caller
            .get("/v2/_oci/repositories?n=x".to_owned())
            .await
            .unwrap()
            .expect(400);
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preferences_are_kept_for_each_user_and_known_to_every_member() {
    let world = World::new().await;
    world.fill().await;
    let change = |query: &str| Request::put(format!("{PREFERENCES}?{query}"));
    for (user, query, status) in [
        (Some("alice"), "action=toggleStar&repo=library/base", 200),
        (Some("alice"), "action=toggleStar&repo=library%2Fbase", 200),
        (Some("alice"), "action=toggleStar&repo=nope", 404),
        (Some("alice"), "action=x&repo=team/web", 400),
        (Some("alice"), "repo=team/web", 400),
        (Some("alice"), "action=toggleStar", 400),
        (Some("alice"), "action=toggleStar&repo=No/Name", 400),
        (None, "action=toggleStar&repo=team/web", 403),
        (Some("alice"), "action=toggleStar&repo=team/secret", 403),
        (Some("admin"), "action=toggleStar&repo=team/web", 200),
        (Some("admin"), "action=toggleStar&repo=team/secret", 200),
    ] {
        let answer = world.caller(user, 2).ask(change(query)).await.unwrap();
        assert_eq!(answer.status, status, "{query}: {answer}");
    }
    let liked =
        "{StarredRepos{Results{Name IsStarred IsBookmarked StarCount}} BookmarkedRepos{Results{Name}}}";
    let repository = |name: &str, stars: u32| json!({ "Name": name, "IsStarred": true, "IsBookmarked": false, "StarCount": stars });
    for member in 0..MEMBERS {
        let found = world.find(Some("alice"), member, liked).await;
        assert_eq!(
            found["data"]["StarredRepos"]["Results"],
            json!([repository("team/web", 2)])
        );
        assert_eq!(
            found["data"]["BookmarkedRepos"]["Results"],
            json!([{ "Name": "team/multi" }])
        );
        let found = world.find(Some("admin"), member, liked).await;
        let expected = json!([repository("team/secret", 1), repository("team/web", 2)]);
        assert_eq!(found["data"]["StarredRepos"]["Results"], expected);
        let sorted = "{RepoListWithNewestImage(requestedPage:{limit:1 sortBy:STARS}){Results{Name}}}";
        let found = world.find(Some("admin"), member, sorted).await;
        assert_eq!(
            found["data"]["RepoListWithNewestImage"]["Results"],
            json!([{ "Name": "team/web" }])
        );
    }
    // All at once: each counts.
    let callers: Vec<_> = (0..8)
        .map(|n| world.caller(Some(["alice", "admin"][n % 2]), n % MEMBERS))
        .collect();
    let toggles = callers
        .iter()
        .map(|caller| caller.ask(change("action=toggleStar&repo=zz-last")));
    for answer in futures_util::future::join_all(toggles).await {
        answer.unwrap().expect(200);
    }
    let stars = "{GlobalSearch(query:\"zz-last\"){Repos{StarCount IsStarred}}}";
    let found = world.find(Some("alice"), 0, stars).await;
    assert_eq!(
        found["data"]["GlobalSearch"]["Repos"][0],
        json!({ "StarCount": 0, "IsStarred": false })
    );
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_the_origins_that_are_listed_may_ask() {
    for (listed, told) in [
        (&[][..], "*"),
        (&["https://ui.example.org"], "https://ui.example.org"),
    ] {
        let world = World::with_origins(listed).await;
        let ask = |method: &str, path: &str| {
            let request = Request::new(method.parse().unwrap(), path);
            request.header("origin", "https://ui.example.org")
        };
        let nobody = world.caller(None, 0);
        for (path, methods) in [
            (SEARCH, "GET,POST,OPTIONS"),
            (PREFERENCES, "PUT,OPTIONS"),
            ("/v2/_zot/ext/mgmt", "GET,OPTIONS"),
            ("/v2/_oci/ext/discover", "GET,OPTIONS"),
        ] {
            let answer = nobody.ask(ask("OPTIONS", path)).await.unwrap().expect(204);
            let answer = answer
                .with("access-control-allow-origin", told)
                .with("access-control-allow-methods", methods)
                .with(
                    "access-control-allow-headers",
                    "Authorization,content-type,X-ZOT-API-CLIENT",
                );
            answer.lacks("access-control-allow-credentials");
        }
        let answer = nobody
            .ask(ask("GET", &format!("{SEARCH}?query={{__typename}}")))
            .await
            .unwrap();
        answer.expect(200).with("access-control-allow-origin", told);
        // Pages that are told that they may ask may change what zot's have to, and nothing else.
        world.push("a", "t", 0).await;
        let alice = world.caller(Some("alice"), 0);
        let others = if listed.is_empty() { 200 } else { 403 };
        for (origin, status) in [("https://ui.example.org", 200), ("https://evil.example", others)] {
            let star = Request::put(format!("{PREFERENCES}?action=toggleStar&repo=a"));
            let star = star
                .header("origin", origin)
                .header("sec-fetch-site", "cross-site");
            let answer = alice.ask(star).await.unwrap();
            assert_eq!(answer.status, status, "{listed:?} {origin}: {answer}");
            let key = Request::post("/zot/auth/apikey")
                .body("{}")
                .header("origin", origin);
            alice.ask(key).await.unwrap().error(403, "DENIED");
            let search = Request::post(SEARCH).body("{\"query\": \"{__typename}\"}");
            let search = search
                .header("origin", origin)
                .header("sec-fetch-site", "cross-site");
            alice.ask(search).await.unwrap().expect(200);
        }
        let elsewhere = Request::get("/v2/_zot/ext/mgmt").header("origin", "https://evil.example");
        let answer = nobody.ask(elsewhere).await.unwrap().expect(200);
        match listed.is_empty() {
            true => answer.with("access-control-allow-origin", "*"),
            false => answer.lacks("access-control-allow-origin").with("vary", "Origin"),
        };
        world.mesh.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zots_page_is_refused_without_a_challenge() {
    let world = World::new().await;
    let wrong = |client: Option<&str>| {
        let request = Request::post(SEARCH)
            .header("authorization", "Basic YWxpY2U6d3Jvbmc=")
            .body("{}");
        match client {
            Some(client) => request.header("x-zot-api-client", client),
            None => request,
        }
    };
    let nobody = world.caller(None, 0);
    assert!(
        nobody
            .ask(wrong(None))
            .await
            .unwrap()
            .expect(401)
            .header("www-authenticate")
            .is_some()
    );
    nobody
        .ask(wrong(Some("zot-ui")))
        .await
        .unwrap()
        .expect(401)
        .lacks("www-authenticate");
    world.mesh.stop().await;
}
