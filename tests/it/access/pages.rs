//! What a browser sends by itself, a password as well as a cookie, does nothing for another site's page.

use serde_json::json;

use super::{
    OTHER, OWNER, Repository,
    world::{Recorded, World},
};
use crate::support::client::{Ask as _, Client, Http, Request};

/// What a page can make a browser send without being asked for it (the fetch standard's CORS-safelisted requests), and what
/// it can't.
fn changes(repository: &Repository) -> Vec<Request> {
    let at = |rest: &str| format!("/v2/{}/{rest}", repository.name);
    let post = |target: &str, body: &str| {
        let request = Request::post(target.to_owned()).header("content-type", "text/plain");
        request.body(body.to_owned())
    };
    vec![
        post("/zot/auth/apikey", "{\"label\": \"planted\"}"),
        post("/zot/auth/apikey?robot=planted", "{\"groups\": [\"writers\"]}"),
        post("/v2/_portolan/retention", ""),
        post("/v2/_portolan/mirror/now", ""),
        post("/v2/_portolan/mirror/retry", ""),
        post(&at("_portolan/restore?tag=v1&at=2999-01-31T12:00:00Z"), ""),
        post(
            &at(&format!("_portolan/restore?digest={}", repository.image.digest)),
            "",
        ),
        post(&at("blobs/uploads/"), ""),
        Request::delete("/zot/auth/apikey?user=root&all=true"),
        Request::delete(at("manifests/v1")),
        Request::delete(at(&format!("blobs/{}", repository.spare.digest))),
        Request::delete(&repository.doomed),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_sites_page_changes_nothing_by_a_password_that_a_browser_keeps() {
    let world = World::new().await;
    let root = world.root();
    for (door, http) in [(OWNER, Http::One), (OTHER, Http::Two)] {
        let name = world.mesh.names().owned_by(OWNER, &format!("team/pages-{door}"));
        let repository = Repository::fill(&root, name).await;
        let own = format!("http://{}", world.mesh.door(door));
        let by = |headers: &[(&'static str, &str)]| Recorded {
            client: Client::new(world.mesh.door(door), http),
            authorization: root.authorization.clone(),
            more: headers
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()))
                .collect(),
        };
        let keys = async || {
            let listed = root.get("/zot/auth/apikey?all=true".to_owned()).await;
            listed.unwrap().expect(200).json()
        };
        let before = keys().await;
        for headers in [
            &[("sec-fetch-site", "cross-site")][..],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", &*own)],
            &[("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("origin", "https://evil.example"), ("x-zot-api-client", "zot-ui")],
        ] {
            let page = by(headers);
            for request in changes(&repository) {
                let what = format!("{http:?} {headers:?} {request}");
                let answer = page.ask(request).await.unwrap();
                assert_eq!(answer.status, 403, "{what}: {answer}");
                let refused = answer.error(403, "DENIED");
                assert!(refused.to_string().contains("another site's page"), "{what}");
            }
            // It may be looked at, though no page of another origin gets to see it.
            page.get(format!("/v2/{}/tags/list", repository.name))
                .await
                .unwrap()
                .expect(200);
        }
        assert_eq!(keys().await, before);
        repository.is_untouched(&root).await;
        // The registry's own pages, who types an address, and programs.
        for headers in [
            &[("sec-fetch-site", "same-origin")][..],
            &[("sec-fetch-site", "same-origin"), ("origin", &*own)],
            &[("sec-fetch-site", "none")],
            &[("origin", &*own)],
            &[],
        ] {
            let restore = format!(
                "/v2/{}/_portolan/restore?tag=v1&at=2999-01-31T12:00:00Z",
                repository.name
            );
            let page = by(headers);
            page.ask(Request::post(restore).body(""))
                .await
                .unwrap()
                .expect(200);
            let wish = json!({ "label": "own" }).to_string();
            let made = page.ask(Request::post("/zot/auth/apikey").body(wish)).await;
            let id = made.unwrap().expect(201).json()["uuid"].clone();
            let end = format!("/zot/auth/apikey?id={}", id.as_str().unwrap());
            page.delete(end).await.unwrap().expect(200);
        }
    }
    world.mesh.stop().await;
}
