//! Mirroring ahead of time, out of turn: `portolan sync now` and `portolan sync retry`.

use std::process::Output;

use tokio::process::Command;

use super::{
    Image,
    fake::{Fake, manifest_path, pages, tags, typed},
    get_manifest, mirror, sync,
};
use crate::support::{
    client::{Ask as _, Request},
    command::run,
    eventually,
    mesh::{MEMBERS, Mesh},
};

async fn portolan(mesh: &Mesh, door: usize, arguments: &[&str]) -> Output {
    let server = format!("http://{}", mesh.door(door));
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command
        .arg("sync")
        .args(arguments)
        .args(["--server", &server])
        .kill_on_drop(true);
    run(command).await
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_ordered_through_any_member_is_visited_now_and_nothing_else() {
    let upstream = Fake::start().await;
    let registry = format!(
        "{{urls: [\"{}\"], pollInterval: 24h, maxRetries: 0, content: [{{prefix: 'ordered/*', destination: far}}]}}",
        upstream.url()
    );
    let mesh = mirror(sync(&registry, "")).await;
    let repositories: Vec<String> = (0..MEMBERS)
        .map(|owner| mesh.names().owned_by(owner, &format!("far/ordered/of-{owner}")))
        .collect();
    let remote = |n: usize| repositories[n].trim_start_matches("far/").to_owned();
    let image = |n: usize, note: &str| Image::named(&format!("{n} {note}"), &[500]);
    let serve = |n: usize, note: &str| {
        image(n, note).serve(&upstream, &remote(n), "v1");
    };
    for n in 0..MEMBERS {
        serve(n, "first");
        tags(&upstream, &remote(n), &["v1"]);
    }
    // One of the first's can't be brought.
    tags(&upstream, &remote(0), &["lost", "v1"]);
    upstream.at(manifest_path(&remote(0), "lost"), |_| {
        typed("text/html", "<html>")
    });
    let remotes: Vec<_> = (0..MEMBERS).map(remote).collect();
    pages(&upstream, &remotes, 10);
    // Whoever looked before there was something to be found is sent once more.
    told(&portolan(&mesh, 1, &["now"]).await);
    let names = async |n: usize, note: &str| {
        let digest = image(n, note).manifest.digest;
        eventually("the tag names it", || async {
            let here = get_manifest(&mesh.client(1), &repositories[n], "v1").await;
            here.status == 200 && here.must("docker-content-digest") == digest
        })
        .await;
    };
    for n in 0..MEMBERS {
        names(n, "first").await;
    }
    let visited = async || {
        eventually("all visits are over", || async {
            let status = mesh.client(0).get("/v2/_portolan/mirror".to_owned()).await;
            let rule = status.unwrap().expect(200).json()["rules"][0].clone();
            rule["repositories"] == MEMBERS && rule["running"] == 0
        })
        .await;
        let lists = |n| upstream.count("GET", &format!("/v2/{}/tags/list", remote(n)));
        (0..MEMBERS).map(lists).collect::<Vec<_>>()
    };
    let before = visited().await;
    // One repository, through who doesn't serve it.
    (0..MEMBERS).for_each(|n| serve(n, "second"));
    let one = portolan(&mesh, 0, &["now", &repositories[1]]).await;
    assert!(
        told(&one).ends_with(&format!(": {} is visited\n", repositories[1])),
        "{one:?}"
    );
    names(1, "second").await;
    let after = visited().await;
    assert_eq!(after, [before[0], before[1] + 1, before[2]]);
    // What failed.
    upstream.manifest(&remote(0), "lost", &image(0, "second").manifest);
    told(&portolan(&mesh, 2, &["retry"]).await);
    names(0, "second").await;
    let retried = visited().await;
    assert_eq!(retried, [after[0] + 1, after[1], after[2]]);
    // All.
    let host = upstream.address.to_string();
    let all = portolan(&mesh, 1, &["now", &host]).await;
    assert_eq!(told(&all), format!("{host}: a round begins\n"));
    names(2, "second").await;
    eventually("each is visited once more", || async {
        visited().await == retried.iter().map(|visits| visits + 1).collect::<Vec<_>>()
    })
    .await;
    let none = portolan(&mesh, 1, &["now", "elsewhere/x"]).await;
    assert!(!none.status.success(), "{none:?}");
    let client = mesh.client(0);
    let none = client.ask(Request::post("/v2/_portolan/mirror/now?of=elsewhere/x").body(""));
    none.await.unwrap().error(404, "NAME_UNKNOWN");
    let wrong = mesh.client(0).get("/v2/_portolan/mirror/retry".to_owned()).await;
    wrong.unwrap().expect(405).with("allow", "POST");
    mesh.stop().await;
}
