//! Manifests that say they are something else, and very many things: they show as what they are, and cost bounded time.

use portolan::{
    config::{Extensions, Searching, UserInterface},
    oci::{Algorithm, Digest, RepoName},
    storage::{Expect, MAX_OPS, Outcome, Version, keys, rows},
};
use prost::Message as _;
use serde_json::json;

use super::{MANIFEST, html, push, show};
use crate::{
    search::{SEARCH, world::World},
    support::{
        client::{Ask as _, Request},
        mesh::{Mesh, Plan, memory},
    },
};

const IMAGE: &str = "application/vnd.oci.image.config.v1+json";
const CHART: &str = "application/vnd.cncf.helm.config.v1+json";
/// The largest page of one manifest, in bytes, whatever that says.
const MOST: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_says_that_it_is_something_else_is_shown_all_the_same() {
    let world = World::new().await;
    let admin = world.caller(Some("admin"), 0);
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let wide = serde_json::to_vec(&(0..50_000).map(|n| format!("x{n}")).collect::<Vec<_>>()).unwrap();
    for (n, (kind, content, expected)) in [
        (IMAGE, &b"not JSON at all"[..], "Container image"),
        (IMAGE, b"[1,2,3]", "Container image"),
        (IMAGE, b"null", "Container image"),
        (
            IMAGE,
            br#"{"os":7,"config":"x","history":{"a":1}}"#,
            "Container image",
        ),
        (
            IMAGE,
            br#"{"history":[{"created":"2020-01-01T00:00:00Z"},{},{},{}],"config":{"Labels":["x"]}}"#,
            "Container image",
        ),
        (IMAGE, deep.as_bytes(), "Container image"),
        (CHART, b"\xff\xfe\x00", "Helm chart"),
        (CHART, &wide, "Helm chart"),
        (
            CHART,
            br#"{"name":{"name":{"name":{"name":{"name":"x"}}}}}"#,
            "Helm chart",
        ),
        ("application/vnd.oci.empty.v1+json", b"{}", "Artifact"),
        ("application/vnd.wasm.config.v0+json", b"{}", "WebAssembly module"),
        (
            "application/vnd.docker.ai.model.config.v0.1+json",
            b"{}",
            "AI model",
        ),
        ("application/vnd.nobody.knows+json", b"{}", "Artifact"),
    ]
    .into_iter()
    .enumerate()
    {
        push(&admin, "odd", Some(&format!("v{n}")), (kind, content), json!({})).await;
        let page = show(&world, None, n % 3, &format!("/image/odd:v{n}"))
            .await
            .expect(200);
        let page = html(&page);
        assert!(
            page.contains(&format!("<span class=\"chip kind\">{expected}</span>")),
            "v{n}: {page}"
        );
        assert!(page.len() < MOST, "v{n}: {}", page.len());
    }
    let list = show(&world, None, 1, "/image/odd").await.expect(200);
    assert!(
        html(&list).contains("13 tags") && html(&list).contains("Helm chart"),
        "{list}"
    );
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_of_four_mebibytes_is_a_page_of_one() {
    let world = World::new().await;
    let admin = world.caller(Some("admin"), 0);
    let annotations: serde_json::Map<_, _> = (0..30_000)
        .map(|n| (format!("key.{n}"), json!("v".repeat(100))))
        .collect();
    push(
        &admin,
        "wide",
        Some("annotations"),
        (IMAGE, b"{}"),
        json!({ "annotations": annotations }),
    )
    .await;
    let long = json!({ "annotations": { "org.opencontainers.image.description": "d".repeat(4_000_000), "readme": "r" } });
    push(&admin, "wide", Some("long"), (IMAGE, b"{}"), long).await;
    let layer = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" });
    let layers = json!({ "layers": vec![layer; 20_000] });
    push(&admin, "wide", Some("layers"), (IMAGE, b"{}"), layers).await;
    for tag in ["annotations", "long", "layers"] {
        let page = show(&world, None, 2, &format!("/image/wide:{tag}"))
            .await
            .expect(200);
        assert!(page.body.len() < MOST, "{tag}: {}", page.body.len());
    }
    show(&world, None, 2, "/image/wide").await.expect(200);
    world.mesh.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_net_of_referrers_takes_a_bounded_number_of_questions() {
    let extensions = Extensions {
        search: Searching::On,
        ui: UserInterface::On,
        ..Extensions::default()
    };
    let mesh = Plan::new().extensions(extensions).start().await;
    let (admin, visitor) = (mesh.client(0), mesh.client(1));
    let subject = push(&admin, "net", Some("v1"), (IMAGE, b"{}"), json!({})).await;
    let refer = async |to: &str, n: usize| {
        let more = json!({
            "artifactType": "application/spdx+json", "annotations": { "n": n.to_string() },
            "subject": { "mediaType": MANIFEST, "digest": to, "size": 1 },
        });
        push(
            &admin,
            "net",
            None,
            ("application/vnd.oci.empty.v1+json", b"{}"),
            more,
        )
        .await
    };
    // Wide, and deep below the first.
    let mut last = refer(&subject, 0).await;
    for n in 1..120 {
        refer(&subject, n).await;
    }
    for n in 1000..1012 {
        last = refer(&last, n).await;
    }
    let page = shown_in_part(&mesh).await;
    assert!(page.contains("SBOM (SPDX)"), "{page}");
    // One that refers to what isn't there.
    let nothing = format!("sha256:{}", "0".repeat(64));
    let lonely = refer(&nothing, 1).await;
    let page = visitor
        .get(format!("/image/net@{lonely}"))
        .await
        .unwrap()
        .expect(200);
    assert!(html(&page).contains(&format!("/image/net@{nothing}")));
    visitor
        .get(format!("/image/net@{nothing}"))
        .await
        .unwrap()
        .expect(404);
    mesh.stop().await;
}

/// The page of an image with more referrers than it shows, which takes a bounded number of questions.
async fn shown_in_part(mesh: &Mesh) -> String {
    let asked = async || {
        let labels = [("route", "referrers")];
        mesh.metrics(1).await.sum("portolan_requests_total", &labels)
    };
    let before = asked().await;
    let page = mesh.client(1).get("/image/net:v1".to_owned()).await;
    let page = page.unwrap().expect(200);
    let after = asked().await;
    assert!((1.0..=25.0).contains(&(after - before)), "{before} to {after}");
    let page = html(&page);
    assert!(
        page.contains("There is more than is shown") && page.len() < MOST,
        "{page}"
    );
    page.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_referrers_in_a_circle_take_a_bounded_number_of_questions() {
    let extensions = Extensions {
        search: Searching::On,
        ui: UserInterface::On,
        ..Extensions::default()
    };
    let stores = memory();
    let mesh = Plan::over(stores.clone()).extensions(extensions).start().await;
    let visitor = mesh.client(1);
    let subject = push(&mesh.client(0), "net", Some("v1"), (IMAGE, b"{}"), json!({})).await;
    let (repository, subject) = (RepoName::parse("net").unwrap(), Digest::parse(&subject).unwrap());
    // Their rows alone: nobody can push a circle, for who would have to know a digest before its content.
    let digest = |n: u32| Digest::of(Algorithm::Sha256, &n.to_be_bytes());
    let refers = |digest: &Digest, subject: &Digest| {
        let row = rows::Referrer {
            min_reader: rows::SCHEMA,
            media_type: MANIFEST.to_owned(),
            size: 500,
            artifact_type: "application/spdx+json".to_owned(),
            ..rows::Referrer::default()
        };
        keys::referrer(&repository, subject, digest).put(Expect::Absent, row.encode_to_vec())
    };
    let to_subject = (0..10_000).map(|n| refers(&digest(n), &subject));
    let circle = (0..10).map(|n| refers(&subject, &digest(n)));
    let ops: Vec<_> = to_subject.chain(circle).collect();
    for ops in ops.chunks(MAX_OPS) {
        let done = stores.meta.transact(Version::random(), ops).await.unwrap();
        assert_eq!(done, Outcome::Committed);
    }
    shown_in_part(&mesh).await;
    // Search has them in part, and says so.
    for (query, list, most) in [
        (
            format!("{{Referrers(repo:\"net\" digest:\"{subject}\"){{Digest}}}}"),
            "/data/Referrers",
            1000,
        ),
        (
            "{Image(image:\"net:v1\"){Referrers{Digest}}}".to_owned(),
            "/data/Image/Referrers",
            100,
        ),
        (
            "{ExpandedRepoInfo(repo:\"net\"){Images{Referrers{Digest}}}}".to_owned(),
            "/data/ExpandedRepoInfo/Images/0/Referrers",
            100,
        ),
    ] {
        let request = Request::post(SEARCH).body(json!({ "query": query }).to_string());
        let found = visitor.ask(request).await.unwrap().expect(200);
        assert!(found.must("warning").starts_with("299 "), "{found}");
        let found = found.json();
        assert_eq!(
            found.pointer(list).unwrap().as_array().unwrap().len(),
            most,
            "{query}"
        );
        assert_eq!(found["extensions"]["partial"], true, "{query}");
    }
    mesh.stop().await;
}
