//! Tokens of workloads as logins: the three ways they come, through the owner and another member, and what makes one useless.

use std::{fs, time::Duration};

use portolan::{auth::GateSpec, config};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{OTHER, OWNER, world::basic};
use crate::support::{
    client::{Ask as _, Request},
    issuer::Issuer,
    mesh::{Mesh, Plan},
};

const CONFIG: &str = "
storage: {rootDirectory: /unused}
http:
  auth:
    bearer:
      oidc:
      - issuer: ISSUER
        audiences: [registry, other-name]
        certificateAuthorityFile: CERTIFICATE
        claimMapping:
          variables:
          - {name: namespace, expression: \"claims['kubernetes.io'].namespace\"}
          validations:
          - {expression: \"vars.namespace != 'sandbox'\", message: sandboxes have no images}
          username: \"'system:serviceaccount:' + vars.namespace + ':' + claims['kubernetes.io'].serviceaccount.name\"
          groups: \"['ns:' + vars.namespace]\"
  accessControl:
    repositories:
      build/**: {policies: [{groups: ['ns:build'], actions: [read, create]}]}
      seven/**:
        policies:
        - groups: ['ns:build']
          actions: [read, create]
          conditions: [{expression: \"req.claims['kubernetes.io'].serviceaccount.uid == '7'\", message: not the seventh}]
      one/**: {policies: [{users: ['system:serviceaccount:build:one'], actions: [read]}]}
";

struct World {
    mesh: Mesh,
    issuer: Issuer,
    _folder: TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::start(folder.path()).await;
        let text = CONFIG
            .replace("ISSUER", &issuer.url)
            .replace("CERTIFICATE", issuer.certificate.to_str().unwrap());
        let file = folder.path().join("c.yaml");
        fs::write(&file, &text).unwrap();
        let config = config::parse(&file, &text).unwrap();
        let plan = Plan::new().gate(GateSpec::from(&config)).limits(|limits| {
            limits.providers.again_after = Duration::from_millis(10);
        });
        Self {
            mesh: plan.start().await,
            issuer,
            _folder: folder,
        }
    }

    /// The status of a push's first request, at each of two members.
    async fn pushes(&self, authorization: &str, repository: &str) -> [u16; 2] {
        let mut statuses = [0; 2];
        for (status, door) in statuses.iter_mut().zip([OWNER, OTHER]) {
            let request = Request::post(format!("/v2/{repository}/blobs/uploads/"))
                .header("authorization", authorization.to_owned());
            *status = self.mesh.client(door).ask(request).await.unwrap().status;
        }
        statuses
    }

    /// What a token of ours got by `authorization` is, as a header.
    async fn exchanged(&self, authorization: &str, repository: &str) -> String {
        let target = format!("/zot/auth/token?service=registry&scope=repository:{repository}:pull,push");
        let request = Request::get(target).header("authorization", authorization.to_owned());
        let answer = self.mesh.client(OTHER).ask(request).await.unwrap().expect(200);
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    }
}

/// Of a pod, for five minutes.
fn claims(namespace: &str) -> Value {
    json!({
        "sub": format!("system:serviceaccount:{namespace}:one"),
        "aud": ["registry"],
        "exp": now() + 300,
        "kubernetes.io": { "namespace": namespace, "serviceaccount": { "name": "one", "uid": "7" } },
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims("build");
    claims[name] = value;
    claims
}

fn now() -> u64 {
    portolan::clock::now_ms() / 1000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_logs_in_by_its_token_in_three_ways() {
    let world = World::new().await;
    let token = world.issuer.token(claims("build"));
    let bearer = format!("Bearer {token}");
    let password = basic("whoever", &token);
    for authorization in [
        bearer.clone(),
        password.clone(),
        world.exchanged(&bearer, "build/app").await,
        world.exchanged(&password, "build/app").await,
    ] {
        assert_eq!(world.pushes(&authorization, "build/app").await, [202; 2]);
        let elsewhere = world.pushes(&authorization, "elsewhere/app").await;
        assert!(
            elsewhere.iter().all(|status| [401, 403].contains(status)),
            "{elsewhere:?}"
        );
    }
    // By its name, which is made of what the token says.
    let request = Request::get("/v2/one/app/tags/list").header("authorization", bearer.clone());
    assert_eq!(world.mesh.client(OWNER).ask(request).await.unwrap().status, 404);
    // Nobody makes keys by it, and a token of ours isn't exchanged for another.
    let request = Request::post("/zot/auth/apikey").header("authorization", bearer.clone());
    assert!([403, 404].contains(&world.mesh.client(OWNER).ask(request).await.unwrap().status));
    let ours = world.exchanged(&bearer, "build/app").await;
    let request = Request::get("/zot/auth/token").header("authorization", ours);
    world.mesh.client(OWNER).ask(request).await.unwrap().expect(401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_for_here_and_now_is_nobodys() {
    let world = World::new().await;
    let stranger_folder = tempfile::tempdir().unwrap();
    let stranger = Issuer::start(stranger_folder.path()).await;
    let issuer = &world.issuer;
    for (what, token) in [
        ("expired", issuer.token(with("exp", json!(now() - 120)))),
        ("not yet", issuer.token(with("nbf", json!(now() + 120)))),
        (
            "for somebody else",
            issuer.token(with("aud", json!(["elsewhere"]))),
        ),
        ("for nobody", issuer.token(with("aud", Value::Null))),
        ("of another issuer", stranger.token(claims("build"))),
        (
            "of another issuer that says it is this one",
            stranger.token(with("iss", json!(issuer.url))),
        ),
        ("refused by a validation", issuer.token(claims("sandbox"))),
        (
            "without what makes its name",
            issuer.token(with("kubernetes.io", Value::Null)),
        ),
        (
            "with too much in it",
            issuer.token(with("more", json!(vec![0; 600]))),
        ),
    ] {
        for authorization in [format!("Bearer {token}"), basic("whoever", &token)] {
            assert_eq!(
                world.pushes(&authorization, "build/app").await,
                [401; 2],
                "{what}"
            );
        }
    }
    let good = issuer.token(with("aud", json!("other-name")));
    assert_eq!(
        world.pushes(&format!("Bearer {good}"), "build/app").await,
        [202; 2]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_and_an_issuer_that_is_down_is_missed_by_nobody_else() {
    let world = World::new().await;
    let before = format!("Bearer {}", world.issuer.token(claims("build")));
    assert_eq!(world.pushes(&before, "build/app").await, [202; 2]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.issuer.rotate("second");
    let after = format!("Bearer {}", world.issuer.token(claims("build")));
    assert_eq!(world.pushes(&after, "build/app").await, [202; 2]);
    assert_eq!(
        world.pushes(&before, "build/app").await,
        [401; 2],
        "its key is gone"
    );
    world.issuer.is_down();
    assert_eq!(
        world.pushes(&after, "build/app").await,
        [202; 2],
        "the keys are known"
    );

    // A mesh that starts while it is down knows none: it says so, and others aren't kept out by it.
    let folder = tempfile::tempdir().unwrap();
    let down = Issuer::start(folder.path()).await;
    down.is_down();
    let text = CONFIG
        .replace("ISSUER", &down.url)
        .replace("CERTIFICATE", down.certificate.to_str().unwrap())
        .replace("one/**:", "open/**: {anonymousPolicy: [read]}\n      one/**:");
    let file = folder.path().join("c.yaml");
    fs::write(&file, &text).unwrap();
    let config = config::parse(&file, &text).unwrap();
    let mesh = Plan::new().gate(GateSpec::from(&config)).start().await;
    let client = mesh.client(OWNER);
    let token = format!("Bearer {}", down.token(claims("build")));
    let request = Request::get("/v2/build/app/tags/list").header("authorization", token);
    client.ask(request).await.unwrap().expect(503);
    client
        .get("/v2/open/app/tags/list".to_owned())
        .await
        .unwrap()
        .expect(404);
    let said = client.get("/readyz".to_owned()).await.unwrap().expect(200);
    let said = String::from_utf8(said.body.to_vec()).unwrap();
    assert!(
        said.starts_with("ok\n") && said.contains("http.auth.bearer.oidc"),
        "{said}"
    );
}

/// Conditions know what a token says, in each of the ways in which it comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_asks_what_a_workloads_token_says() {
    let world = World::new().await;
    let mut eighth = claims("build");
    eighth["kubernetes.io"]["serviceaccount"]["uid"] = json!("8");
    for (claims, expected) in [(claims("build"), 202), (eighth, 403)] {
        let token = world.issuer.token(claims);
        let (bearer, password) = (format!("Bearer {token}"), basic("whoever", &token));
        for authorization in [
            bearer.clone(),
            password.clone(),
            world.exchanged(&bearer, "seven/app").await,
            world.exchanged(&password, "seven/app").await,
        ] {
            assert_eq!(world.pushes(&authorization, "seven/app").await, [expected; 2]);
        }
    }
    world.mesh.stop().await;
}
