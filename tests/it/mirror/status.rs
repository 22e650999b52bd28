//! How mirroring ahead of time goes, and whom it is told.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    fake::{Fake, manifest_path, typed},
    plan, sync,
};
use crate::support::{
    client::{Ask as _, Request},
    eventually, gate,
    mesh::{MEMBERS, memory},
};

/// Who may see metrics sees how many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_went_wrong_is_told_of_repositories_that_may_be_read() {
    let upstream = Fake::start().await;
    let registry = format!(
        "{{urls: [\"{}\"], pollInterval: 1h, maxRetries: 0, content: [{{prefix: 'wrong/*'}}]}}",
        upstream.url()
    );
    let json = |text: &'static str| typed("application/json", text);
    upstream.at("/v2/_catalog", move |_| {
        json("{\"repositories\": [\"wrong/a\", \"wrong/b\"]}")
    });
    for repository in ["wrong/a", "wrong/b"] {
        upstream.at(format!("/v2/{repository}/tags/list"), move |_| {
            json("{\"tags\": [\"lost\"]}")
        });
        upstream.at(manifest_path(repository, "lost"), |_| {
            typed("text/html", "<html>")
        });
    }
    let folder = tempfile::tempdir().unwrap();
    let line = |user: &str| format!("{user}:{}\n", bcrypt::hash("secret", 4).unwrap());
    let users = folder.path().join("users");
    std::fs::write(&users, ["watcher", "ann", "bob"].map(line).concat()).unwrap();
    let gate = gate(&format!(
        "{{auth: {{htpasswd: {{path: {}}}}}, accessControl: {{
            metrics: {{users: [watcher, ann]}}, repositories: {{
            'wrong/a': {{policies: [{{users: [ann, bob], actions: [read], conditions: [{{expression: \"req.method == 'GET'\"}}]}}]}}}}}}}}",
        users.display()
    ));
    let mesh = plan(memory(), sync(&registry, "")).gate(gate).start().await;
    let ask = async |user: &str, door: usize| {
        let basic = STANDARD.encode(format!("{user}:secret"));
        let request = Request::get("/v2/_portolan/mirror").header("authorization", format!("Basic {basic}"));
        mesh.client(door).ask(request).await.unwrap()
    };
    for door in 0..MEMBERS {
        for (user, named) in [("watcher", &[][..]), ("ann", &["wrong/a"])] {
            eventually("both have failed", || async {
                let told = ask(user, door).await.expect(200).json();
                let rule = &told["rules"][0];
                let troubles = rule["troubles"].as_array().unwrap();
                let found: Vec<&str> = troubles
                    .iter()
                    .map(|trouble| trouble["repository"].as_str().unwrap())
                    .collect();
                assert!(found.iter().all(|name| named.contains(name)), "{user}: {told}");
                rule["repositories"] == 2 && rule["failed"] == 2 && found == named
            })
            .await;
        }
        ask("bob", door).await.error(403, "DENIED");
    }
    mesh.stop().await;
}
