//! What somebody might try: to put markup into a page, to see what they may not, to have a visitor change something that they
//! didn't mean to.

use portolan::config::{Extensions, Searching, UserInterface};
use serde_json::json;

use super::{MANIFEST, html, push, show};
use crate::{
    search::world::World,
    support::{
        client::{Ask as _, Client, Http, Request},
        gate,
        mesh::{MEMBERS, Mesh, Plan},
    },
};

/// As it would be in a page that believed it.
const MARKUP: &str = "</title></code><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload='x";

/// Everything that may not stand in a page unless it is escaped.
fn assert_is_text(page: &str, path: &str) {
    for wrong in [
        "<script>alert",
        "<img src=x",
        "javascript:alert(1)\"",
        "\"' onload=",
        "\" onload=",
    ] {
        assert!(!page.contains(wrong), "{wrong} in {path}:\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markup_that_others_wrote_is_text() {
    let world = World::new().await;
    let admin = world.caller(Some("admin"), 0);
    let config = json!({
        "created": MARKUP, "author": MARKUP, "os": MARKUP, "architecture": MARKUP, "variant": MARKUP,
        "config": { "Labels": { MARKUP: MARKUP, "readme.md": MARKUP }, "Cmd": [MARKUP], "Entrypoint": [MARKUP],
            "Env": [MARKUP], "User": MARKUP, "WorkingDir": MARKUP, "ExposedPorts": { MARKUP: {} } },
        "history": [{ "created": MARKUP, "created_by": MARKUP, "comment": MARKUP }, { "created_by": MARKUP, "empty_layer": true }],
    })
    .to_string();
    let said = json!({ "annotations": {
        "org.opencontainers.image.description": MARKUP, "org.opencontainers.image.licenses": MARKUP,
        "org.opencontainers.image.source": "javascript:alert(1)", "org.opencontainers.image.url": "https://x.example/\" onload='x",
        "org.opencontainers.image.title": MARKUP, "org.opencontainers.image.vendor": MARKUP, MARKUP: MARKUP,
    } });
    let image = ("application/vnd.oci.image.config.v1+json", config.as_bytes());
    let subject = push(&admin, "odd/image", Some("v1"), image, said.clone()).await;
    let chart =
        json!({ "name": MARKUP, MARKUP: [MARKUP, { MARKUP: MARKUP }], "icon": "javascript:alert(1)" })
            .to_string();
    let chart = ("application/vnd.cncf.helm.config.v1+json", chart.as_bytes());
    push(&admin, "odd/chart", Some("v1"), chart, said.clone()).await;
    let mut referrer = said;
    referrer["artifactType"] = json!("application/x.odd+json");
    referrer["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
    referrer["annotations"]["org.opencontainers.image.created"] = json!(MARKUP);
    push(&admin, "odd/image", None, ("application/json", b"{}"), referrer).await;
    let asked =
        "%3C/title%3E%3Cscript%3Ealert(1)%3C/script%3E%3Cimg%20src=x%20onerror=alert(1)%3E%22'%20onload='x";
    for (path, status) in [
        ("/".to_owned(), 200),
        (
            format!("/?q={asked}&os={asked}&arch={asked}&sort={asked}&offset={asked}"),
            200,
        ),
        (format!("/?q={asked}:{asked}"), 200),
        ("/image/odd/image".to_owned(), 200),
        (format!("/image/odd/image?tag={asked}&offset=-1"), 200),
        ("/image/odd/image:v1".to_owned(), 200),
        (format!("/image/odd/image@{subject}"), 200),
        ("/image/odd/chart:v1".to_owned(), 200),
        ("/delete/odd/image:v1".to_owned(), 200),
        (format!("/delete/odd/image@{subject}"), 200),
        (format!("/image/{asked}"), 404),
        (format!("/image/odd/image:{asked}"), 404),
        (format!("/assets/{asked}"), 404),
    ] {
        let answer = show(&world, Some("admin"), 1, &path).await.expect(status);
        assert_is_text(html(&answer), &path);
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_any_name_is_shown_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let hash = bcrypt::hash("secret", 4).unwrap();
    std::fs::write(
        folder.path().join("users"),
        format!("<script>alert(1)</script>:{hash}\n"),
    )
    .unwrap();
    let mesh = private(&folder).await;
    let basic = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        "<script>alert(1)</script>:secret",
    );
    let request = Request::get("/").header("authorization", format!("Basic {basic}"));
    let answer = mesh.client(0).ask(request).await.unwrap().expect(200);
    assert!(html(&answer).contains("&lt;script&gt;alert"));
    assert_is_text(html(&answer), "/");
    mesh.stop().await;
}

/// A mesh with the page where nothing is public.
async fn private(folder: &tempfile::TempDir) -> Mesh {
    let users = folder.path().join("users");
    let gate = gate(&format!(
        "{{auth: {{htpasswd: {{path: {}}}, apikey: true}}}}",
        users.display()
    ));
    let extensions = Extensions {
        search: Searching::On,
        ui: UserInterface::On,
        ..Extensions::default()
    };
    Plan::new().gate(gate).extensions(extensions).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_public_nobody_sees_more_than_how_to_log_in() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("users"), "").unwrap();
    let mesh = private(&folder).await;
    for member in 0..MEMBERS {
        for path in [
            "/",
            "/?q=a",
            "/image/a",
            "/image/a:v1",
            "/delete/a:v1",
            "/keys",
            "/login",
        ] {
            for authorization in [
                None,
                Some("Basic YW5uOndyb25n"),
                Some("Bearer x"),
                Some("nonsense"),
            ] {
                let mut request = Request::get(path);
                if let Some(authorization) = authorization {
                    request = request.header("authorization", authorization);
                }
                let answer = mesh.client(member).ask(request).await.unwrap().expect(401);
                let answer = answer.with("www-authenticate", "Basic realm=\"Portolan\", charset=\"UTF-8\"");
                assert!(html(&answer).contains("Log in"), "{answer}");
            }
        }
        mesh.client(member)
            .get("/assets/ui.css".to_owned())
            .await
            .unwrap()
            .expect(200);
    }
    mesh.stop().await;
    // Where nobody has asked for it there is none.
    let mesh = Mesh::of_three().await;
    for path in ["/", "/image/a", "/keys", "/assets/ui.css"] {
        mesh.client(0)
            .get(path.to_owned())
            .await
            .unwrap()
            .error(404, "UNSUPPORTED");
    }
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_may_not_see_looks_like_what_isnt_there() {
    let world = World::new().await;
    world.fill().await;
    for member in 0..MEMBERS {
        for user in [None, Some("alice")] {
            let page = show(&world, user, member, "/").await.expect(200);
            assert!(!html(&page).contains("secret"), "{page}");
            let found = show(&world, user, member, "/?q=secret").await.expect(200);
            assert!(html(&found).contains("0 repositories"), "{found}");
            for path in ["/image/team/NAME", "/image/team/NAME?tag=1"] {
                let secret = show_told(&world, user, member, path, "secret").await;
                let missing = show_told(&world, user, member, path, "nosuch").await;
                assert_eq!(secret, missing, "{user:?} {path}");
            }
        }
        // As `docker pull` is told, whether it is there or not.
        for path in [
            "/image/team/secret:s",
            "/image/team/secret:no",
            "/delete/team/secret:s",
        ] {
            show(&world, None, member, path).await.expect(401);
            let refused = show(&world, Some("alice"), member, path).await.expect(403);
            assert!(!html(&refused).contains("sha256"), "{refused}");
        }
        let page = show(&world, Some("admin"), member, "/?q=secret")
            .await
            .expect(200);
        assert!(html(&page).contains("/image/team/secret"), "{page}");
        // Buttons are for those who may.
        for (user, expected) in [(None, false), (Some("alice"), false), (Some("admin"), true)] {
            let page = show(&world, user, member, "/image/team/web").await.expect(200);
            assert_eq!(html(&page).contains("/delete/"), expected, "{user:?}");
        }
    }
    world.mesh.stop().await;
}

/// The status and the text of a page, whatever the repository is called.
async fn show_told(
    world: &World,
    user: Option<&str>,
    member: usize,
    path: &str,
    name: &str,
) -> (u16, String) {
    let answer = show(world, user, member, &path.replace("NAME", name)).await;
    (answer.status, html(&answer).replace(name, "NAME"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_look_like_paths_lead_nowhere() {
    let world = World::new().await;
    world.push("a/tag/v1", "t", 0).await;
    show(&world, None, 1, "/image/a/tag/v1").await.expect(200);
    show(&world, None, 1, "/image/a%2Ftag%2Fv1:t").await.expect(200);
    for path in [
        "/image/../v2/_catalog",
        "/image/%2e%2e/v2",
        "/image/a/../b",
        "/image//a",
        "/image/a/",
        "/image/a:t:t",
        "/image/a@t",
        "/image/",
        "/image",
        "/image/a%00b",
        "/image/%ff",
        "/delete/a",
        "/image/A",
        "/delete/",
        "/assets/../ui.css",
        "/assets/",
        "/keys/x",
        "/login/x",
        "/image/a/tag/v1/t",
    ] {
        let answer = show(&world, Some("admin"), 1, path).await.expect(404);
        html(&answer);
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_tells_browsers_what_they_may_do_with_it() {
    let world = World::new().await;
    world.push("a", "t", 0).await;
    let client = |http| Client::new(world.mesh.door(1), http);
    for http in [Http::One, Http::Two] {
        for (method, path, status) in [
            ("GET", "/", 200),
            ("GET", "/image/a", 200),
            ("GET", "/image/a:t", 200),
            ("GET", "/image/b", 404),
            ("GET", "/image/B", 404),
            ("GET", "/assets/ui.js", 200),
            ("GET", "/assets/nothing", 404),
            ("GET", "/keys", 401),
            ("GET", "/home", 303),
            ("PUT", "/", 405),
            ("DELETE", "/image/a:t", 405),
            ("POST", "/keys", 403),
            ("HEAD", "/", 200),
        ] {
            // For another site's page, too.
            let request =
                Request::new(method.parse().unwrap(), path).header("origin", "https://evil.example");
            let answer = client(http).ask(request).await.unwrap().expect(status);
            let policy = answer.must("content-security-policy");
            for part in [
                "default-src 'none'",
                "script-src 'self'",
                "frame-ancestors 'none'",
                "form-action 'self'",
                "base-uri 'none'",
            ] {
                assert!(policy.contains(part), "{part}: {answer}");
            }
            assert!(
                !policy.contains("unsafe") && !policy.contains("http:"),
                "{answer}"
            );
            let answer = answer
                .with("x-frame-options", "DENY")
                .with("x-content-type-options", "nosniff");
            answer.with("cache-control", "no-store");
        }
    }
    // Only a file of this very release is kept.
    let page = show(&world, None, 0, "/").await.expect(200);
    let style = html(&page)
        .split("href=\"")
        .find(|rest| rest.starts_with("/assets/ui.css?v="))
        .unwrap();
    let style = style.split('"').next().unwrap();
    let kept = show(&world, None, 2, style).await.expect(200);
    kept.with("cache-control", "public, max-age=31536000, immutable")
        .with("content-type", "text/css; charset=utf-8");
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_of_another_origin_changes_nothing() {
    let world = World::new().await;
    world.push("a", "t", 0).await;
    let host = world.mesh.door(1).to_string();
    let own = format!("http://{host}");
    let foreign: [&[(&str, &str)]; 4] = [
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site"), ("origin", &own)],
    ];
    let send = async |user, path: &str, body: &str, headers: &[(&str, &str)]| {
        let mut request = Request::post(path).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        world.caller(user, 1).ask(request).await.unwrap()
    };
    for headers in foreign {
        send(Some("admin"), "/delete/a:t", "", headers).await.expect(403);
        send(Some("admin"), "/keys", "label=x", headers).await.expect(403);
        send(Some("admin"), "/restore/a:t", "at=2026-01-01T00:00:00Z", headers)
            .await
            .expect(403);
        send(Some("admin"), "/logout", "", headers).await.expect(403);
    }
    show(&world, None, 0, "/image/a:t").await.expect(200);
    let keys = async || {
        show(&world, Some("admin"), 2, "/zot/auth/apikey")
            .await
            .expect(200)
            .json()["apiKeys"]
            .clone()
    };
    assert_eq!(keys().await, json!([]));

    // A form of our own does what its user may.
    let ours: &[(&str, &str)] = &[("origin", &own), ("sec-fetch-site", "same-origin")];
    send(Some("alice"), "/delete/a:t", "", ours).await.expect(403);
    send(None, "/delete/a:t", "", ours).await.expect(401);
    let made = send(
        Some("admin"),
        "/keys",
        "label=x&scopes=repository:a:read&until=2099-01-31",
        ours,
    )
    .await
    .expect(200);
    assert!(html(&made).contains("zak_"), "{made}");
    let key = keys().await[0].clone();
    assert_eq!(key["scopes"], json!(["repository:a:read"]));
    assert_eq!(key["expirationDate"], "2099-01-31T23:59:59Z");
    send(Some("admin"), "/keys", "label=x&until=tomorrow", ours)
        .await
        .expect(400);
    send(Some("admin"), "/keys", &"label=x&".repeat(2000), ours)
        .await
        .expect(400);
    send(
        Some("admin"),
        "/keys",
        &format!("revoke={}", key["uuid"].as_str().unwrap()),
        ours,
    )
    .await
    .expect(303);
    assert_eq!(keys().await, json!([]));
    send(Some("admin"), "/delete/a:t", "", ours)
        .await
        .expect(303)
        .with("location", "/image/a:t");
    let gone = show(&world, None, 2, "/image/a:t").await.expect(200);
    assert!(html(&gone).contains("This tag is deleted"), "{gone}");
    world
        .caller(None, 0)
        .head("/v2/a/manifests/t".to_owned())
        .await
        .unwrap()
        .expect(404);
    world.mesh.stop().await;
}
