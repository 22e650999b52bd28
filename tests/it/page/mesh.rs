//! The mesh, as the page shows it: to whom, while a member is gone, and to how many who watch.

use portolan::config::{Extensions, Searching, UserInterface};

use super::{html, show};
use crate::{
    search::world::World,
    support::{
        client::{Answer, Ask as _, Client, Http, Request},
        eventually, gate,
        mesh::{MEMBERS, Plan},
    },
};

/// Who may watch at one member at once.
const WATCHERS: usize = 32;

/// A member's line in the status.
fn status(live: usize) -> String {
    format!("{live} of 3 members live")
}

/// What one of the page's parts says, without its tags.
fn part(answer: &Answer, id: &str) -> String {
    let page = html(answer);
    let begin = page.find(&format!("id=\"{id}\"")).unwrap();
    let rest = &page[begin..];
    let end = rest.find("data-part").unwrap();
    // To where the next part begins.
    let part = rest[end + 9..].split("data-part").next().unwrap();
    let (mut text, mut is_tag) = (String::new(), true);
    for c in part.chars() {
        match c {
            '<' => is_tag = true,
            '>' => is_tag = false,
            c if !is_tag => text.push(c),
            _ => {}
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mesh_is_for_administrators() {
    let world = World::new().await;
    world.push("team/secret", "t", 0).await;
    for member in 0..MEMBERS {
        for path in ["/mesh", "/mesh/live"] {
            for (user, expected) in [(None, 401), (Some("alice"), 403)] {
                let refused = show(&world, user, member, path).await.expect(expected);
                assert!(!html(&refused).contains("members"), "{refused}");
            }
        }
        for (user, expected) in [(None, false), (Some("alice"), false), (Some("admin"), true)] {
            let page = show(&world, user, member, "/").await.expect(200);
            assert_eq!(html(&page).contains("href=\"/mesh\""), expected, "{user:?}");
        }
        let page = show(&world, Some("admin"), member, "/mesh").await.expect(200);
        assert_eq!(part(&page, "mesh-now").split(',').next(), Some(&*status(3)));
        for n in 0..MEMBERS {
            let name = world.mesh.door(n).to_string();
            assert!(part(&page, "mesh-members").contains(&name), "{page}");
        }
        assert!(part(&page, "mesh-members").contains("team/secret"), "{page}");
        assert!(part(&page, "mesh-placement").contains("1 repository, "), "{page}");
    }
    // A change has no place there.
    for (method, path, expected) in [
        ("POST", "/mesh", 405),
        ("HEAD", "/mesh/live", 405),
        ("GET", "/mesh/x", 404),
    ] {
        let request = Request::new(method.parse().unwrap(), path);
        let answer = world.caller(Some("admin"), 1).ask(request).await.unwrap();
        answer.expect(expected);
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_read_metrics_sees_figures_and_no_names_of_what_they_may_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let line = |user: &str| format!("{user}:{}\n", bcrypt::hash("secret", 4).unwrap());
    let users = folder.path().join("users");
    std::fs::write(&users, ["watcher", "ann"].map(line).concat()).unwrap();
    let gate = gate(&format!(
        "{{auth: {{htpasswd: {{path: {}}}, apikey: true}}, accessControl: {{
            metrics: {{users: [watcher]}}, repositories: {{'**': {{policies: [{{users: [ann], actions: [read, create]}}]}}}}}}}}",
        users.display()
    ));
    let extensions = Extensions {
        search: Searching::On,
        ui: UserInterface::On,
        ..Extensions::default()
    };
    let mesh = Plan::new().gate(gate).extensions(extensions).start().await;
    let basic = |user: &str| {
        let engine = base64::engine::general_purpose::STANDARD;
        format!(
            "Basic {}",
            base64::Engine::encode(&engine, format!("{user}:secret"))
        )
    };
    let ask = async |user: &str, request: Request| {
        let request = request.header("authorization", basic(user));
        mesh.client(1).ask(request).await.unwrap()
    };
    let config = crate::support::content::sha256(b"{}");
    let blob = Request::post(format!("/v2/quiet/thing/blobs/uploads/?digest={config}")).body("{}");
    ask("ann", crate::support::client::octets(blob)).await.expect(201);
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": super::MANIFEST, "layers": [],
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
    });
    let put = Request::put("/v2/quiet/thing/manifests/t").header("content-type", super::MANIFEST);
    ask("ann", put.body(manifest.to_string())).await.expect(201);

    let page = ask("watcher", Request::get("/mesh")).await.expect(200);
    assert!(part(&page, "mesh-now").contains(&status(3)), "{page}");
    assert!(part(&page, "mesh-placement").contains("1 repository, "), "{page}");
    assert!(!html(&page).contains("quiet/thing"), "{page}");
    ask("ann", Request::get("/mesh")).await.expect(403);
    ask("ann", Request::get("/mesh/live")).await.expect(403);
    mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_gone_is_shown_as_gone_and_what_others_took_over_of_it() {
    let mut world = World::new().await;
    let repository = world.mesh.names().owned_by(2, "team/taken").to_string();
    world.push(&repository, "v1", 0).await;
    let gone = world.mesh.door(2).to_string();
    let page = show(&world, Some("admin"), 0, "/mesh").await.expect(200);
    assert!(part(&page, "mesh-taken").contains("None since"), "{page}");
    // It was forwarded.
    let sent = part(&page, "mesh-traffic");
    assert!(
        sent.contains(&world.mesh.door(0).to_string()) && sent.contains(&gone),
        "{sent}"
    );
    world.mesh.crash(2).await;
    for member in [0, 1] {
        eventually("the member is seen to be gone", || async {
            let page = show(&world, Some("admin"), member, "/mesh").await.expect(200);
            part(&page, "mesh-now").contains(&status(2))
        })
        .await;
    }
    world.push(&repository, "v2", 0).await;
    for member in [0, 1] {
        // It looks once a second.
        eventually("the take-over is seen", || async {
            let page = show(&world, Some("admin"), member, "/mesh").await.expect(200);
            let taken = part(&page, "mesh-taken");
            taken.contains(&repository) && taken.contains(&format!("{gone} →"))
        })
        .await;
        let page = show(&world, Some("admin"), member, "/mesh").await.expect(200);
        let members = part(&page, "mesh-members");
        assert!(
            members.contains("gone") && !members.contains("silent"),
            "{members}"
        );
    }
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_is_told_again_and_again_and_so_many_may_watch() {
    use http_body_util::BodyExt as _;
    let world = World::new().await;
    let watch = async |user, http| {
        let request = Request::get("/mesh/live").header("authorization", world.basic(user));
        let client = Client::new(world.mesh.door(1), http);
        client.open(&request).await.unwrap()
    };
    let mut watching = Vec::new();
    // One has as many as they leave to others.
    for n in 0..WATCHERS / 2 {
        let answer = watch("admin", if n % 2 == 0 { Http::One } else { Http::Two }).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        assert!(answer.headers().contains_key("content-security-policy"));
        watching.push(answer.into_body());
    }
    for http in [Http::One, Http::Two] {
        assert_eq!(watch("admin", http).await.status(), 503);
        assert_eq!(watch("warden", http).await.status(), 200);
    }
    for body in watching.iter_mut().take(2) {
        let mut said = String::new();
        while said.matches("\n\n").count() < 2 {
            let frame = body.frame().await.unwrap().unwrap();
            said += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
        }
        for event in said.split_terminator("\n\n") {
            let (name, data) = event.split_once('\n').unwrap();
            assert_eq!(name, "event: mesh");
            assert!(data.starts_with("data: <p") && !data.contains('\n'), "{event}");
            assert!(data.contains(&status(3)), "{event}");
        }
    }
    // Who leaves makes room for the next.
    drop(watching.pop());
    eventually("there is room for another one", || async {
        watch("admin", Http::One).await.status() == 200
    })
    .await;
    // Nobody who watches keeps a member from ending: what `stop` asserts.
    world.mesh.stop().await;
    drop(watching);
}
