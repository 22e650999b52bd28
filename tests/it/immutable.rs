//! `storage.immutableTags`, through the member that owns a repository and through those that don't.

use portolan::{
    config::ImmutableTags,
    oci::{RepoPattern, TagPattern},
    registry::Immutable,
};
use serde_json::json;

use crate::support::{
    client::{Answer, Ask as _, Request},
    content::{Blob, Manifest},
    mesh::{MEMBERS, Plan},
};

/// What a client is told.
#[track_caller]
fn refused(answer: Answer) {
    let error = answer.error(403, "DENIED").json()["errors"][0].clone();
    assert_eq!(
        error["detail"],
        json!({ "tag": "v1", "rule": "releases" }),
        "{error}"
    );
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("v1") && message.contains("releases"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_moves_or_deletes_what_a_rule_keeps_through_any_member() {
    let rule = ImmutableTags {
        name: "releases".to_owned(),
        repositories: vec![RepoPattern::parse("prod/**").unwrap()],
        tags: vec![TagPattern::parse("v*").unwrap()],
        except: Vec::new(),
    };
    let mesh = Plan::new().immutable(Immutable::new(vec![rule])).start().await;
    for door in 0..MEMBERS {
        let client = mesh.client(door);
        let repository = mesh.names().owned_by(0, &format!("prod/door-{door}"));
        let config = Blob::named("config", 100);
        client.push_blob(&repository, &config).await.unwrap().expect(201);
        let [first, second] =
            ["1", "2"].map(|note| Manifest::image(&config, &[]).annotation("n", note).build());
        let push = async |tag: &str, image| client.push_manifest(&repository, tag, image).await.unwrap();
        push("v1", &first).await.expect(201);
        push("v1", &first).await.expect(201);
        refused(push("v1", &second).await);
        let delete = async |reference: &str| {
            let target = format!("/v2/{repository}/manifests/{reference}");
            client.ask(Request::delete(target)).await.unwrap()
        };
        refused(delete("v1").await);
        refused(delete(&first.digest).await);
        // A condition that doesn't hold doesn't matter: the rule is asked before it.
        let conditional =
            Request::delete(format!("/v2/{repository}/manifests/v1")).header("if-match", "\"none\"");
        refused(client.ask(conditional).await.unwrap());
        push("latest", &first).await.expect(201);
        push("latest", &second).await.expect(201);
        delete("latest").await.expect(202);
        delete(&second.digest).await.expect(202);
        let kept = client
            .get(format!("/v2/{repository}/manifests/v1"))
            .await
            .unwrap();
        kept.expect(200).with_body(&first.bytes);
    }
    mesh.stop().await;
}
