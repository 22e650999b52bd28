//! Bringing back what a tag named, by the page.

use super::{html, show};
use crate::{
    search::world::World,
    support::client::{Answer, Ask as _, Request},
};

/// The moments that the history of a tag offers to go back to, the newest first.
fn offered(page: &Answer) -> Vec<String> {
    let forms = html(page).split("action=\"/restore/").skip(1);
    let moments = forms.map(|form| form.split("name=\"at\" value=\"").nth(1).unwrap());
    moments
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_names_again_what_it_named() {
    let world = World::new().await;
    for tag in ["t", "other"] {
        world.push("team/app", tag, 0).await;
    }
    let first = world.digest("team/app", "t").await;
    let other = world.digest("team/app", "other").await;
    // The tag moves to what the other one names.
    let admin = world.caller(Some("admin"), 1);
    let target = format!("/v2/team/app/manifests/{other}");
    let manifest = admin.get(target).await.unwrap().expect(200);
    let put = Request::put("/v2/team/app/manifests/t")
        .header("content-type", super::MANIFEST)
        .body(manifest.body);
    admin.ask(put).await.unwrap().expect(201);

    let own = format!("http://{}", world.mesh.door(2));
    let restore = async |user, path: &str, at: &str, origin: &str| {
        let request = Request::post(path)
            .body(format!("at={at}"))
            .header("origin", origin);
        world.caller(user, 2).ask(request).await.unwrap()
    };
    let page = async |user| show(&world, user, 1, "/image/team/app:t").await.expect(200);
    let path = "/restore/team/app:t";
    let back = offered(&page(Some("admin")).await);
    assert_eq!(back.len(), 1, "what it names isn't offered");
    // Who may not isn't offered it, and can't.
    assert!(offered(&page(Some("alice")).await).is_empty() && offered(&page(None).await).is_empty());
    restore(Some("alice"), path, &back[0], &own).await.expect(403);
    restore(None, path, &back[0], &own).await.expect(401);
    restore(Some("admin"), path, &back[0], "https://evil.example")
        .await
        .expect(403);
    for (at, status) in [("yesterday", 400), ("", 400), ("2001-01-01T00:00:00Z", 404)] {
        restore(Some("admin"), path, at, &own).await.expect(status);
    }
    for (method, path, status) in [
        ("GET", path, 405),
        ("POST", "/restore/team/app", 404),
        ("POST", &format!("/restore/team/app@{first}"), 404),
    ] {
        let request = Request::new(method.parse().unwrap(), path).header("origin", own.clone());
        world
            .caller(Some("admin"), 2)
            .ask(request)
            .await
            .unwrap()
            .expect(status);
    }
    assert_eq!(world.digest("team/app", "t").await, other);

    let done = restore(Some("admin"), path, &back[0], &own).await.expect(303);
    done.with("location", "/image/team/app:t");
    assert_eq!(world.digest("team/app", "t").await, first);

    // What is deleted comes back, too.
    let gone = format!("/v2/team/app/manifests/{first}");
    admin.ask(Request::delete(gone)).await.unwrap().expect(202);
    let deleted = page(Some("admin")).await;
    assert!(html(&deleted).contains("This tag is deleted"), "{deleted}");
    let back = offered(&deleted);
    assert!(offered(&page(Some("alice")).await).is_empty());
    restore(Some("admin"), path, &back[0], &own).await.expect(303);
    assert_eq!(world.digest("team/app", "t").await, first);
    world.mesh.stop().await;
}
