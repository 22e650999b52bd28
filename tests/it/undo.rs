//! What retention deleted comes back by the command line, which asks any member.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser as _;
use portolan::{
    app::Stores,
    cli::Cli,
    config::{self, Limits},
    storage::{MemoryBlobs, MemoryMeta},
};
use serde_json::{Value, json};

use crate::support::{
    client::{Ask as _, Client},
    content::{Blob, Manifest},
    eventually,
    mesh::Plan,
};

fn hasten(limits: &mut Limits) {
    limits.registry.clock_margin = Duration::ZERO;
    limits.collection.interval = Duration::from_millis(100);
}

async fn portolan(arguments: &[&str]) -> Result<ExitCode, String> {
    let cli = Cli::try_parse_from([&["portolan"], arguments].concat()).unwrap();
    cli.run().await.map_err(|error| error.to_string())
}

async fn tags(client: &Client, name: &str) -> Value {
    let answer = client.get(format!("/v2/{name}/tags/list")).await.unwrap();
    match answer.status {
        404 => json!([]),
        _ => answer.expect(200).json()["tags"].clone(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_retention_is_undone_in_all_repositories() {
    let stores = Stores {
        meta: Arc::new(MemoryMeta::default()),
        blobs: Arc::new(MemoryBlobs::new()),
    };
    let mesh = Plan::over(stores.clone()).start().await;
    let names: Vec<String> = (0..3).map(|owner| mesh.names().owned_by(owner, "app")).collect();
    let client = mesh.client(0);
    for name in &names {
        let config = Blob::new("{}");
        client.push_blob(name, &config).await.unwrap().expect(201);
        for tag in ["a", "b"] {
            let manifest = Manifest::image(&config, &[]).annotation("tag", tag).build();
            client
                .push_manifest(name, tag, &manifest)
                .await
                .unwrap()
                .expect(201);
        }
    }
    mesh.stop().await;
    let text = "storage: {rootDirectory: /d, retention: {delay: 0s, policies: [{repositories: ['**'], keepTags: [{patterns: ['^none$']}]}]}}";
    let retention = config::parse(Path::new("c.yaml"), text).unwrap().retention;
    let plan = Plan::over(stores.clone()).limits(hasten).retention(retention);
    let mesh = plan.start().await;
    eventually("everything is gone", || async {
        for name in &names {
            if tags(&mesh.client(0), name).await != json!([]) {
                return false;
            }
        }
        true
    })
    .await;
    mesh.stop().await;

    // With other policies, or it would go again.
    let mesh = Plan::over(stores).start().await;
    let client = mesh.client(1);
    let server = format!("http://{}", mesh.members[2]);
    let mut runs = Vec::new();
    for name in &names {
        let history = client.get(format!("/v2/{name}/_portolan/history")).await.unwrap();
        let changes = history.expect(200).json()["changes"].as_array().unwrap().clone();
        let of = changes.iter().filter_map(|change| change["run"].as_str());
        runs.extend(of.map(str::to_owned));
        portolan(&["history", name, "--server", &server]).await.unwrap();
    }
    runs.sort();
    runs.dedup();
    assert!(!runs.is_empty());
    for run in &runs {
        let code = portolan(&["restore", "--run", run, "--server", &server]).await;
        assert_eq!(code, Ok(ExitCode::SUCCESS));
    }
    for name in &names {
        assert_eq!(tags(&client, name).await, json!(["a", "b"]));
    }
    let unknown = portolan(&["restore", "--run", "0123", "--server", &server]).await;
    assert!(unknown.unwrap_err().contains("0123"));
    mesh.stop().await;
}
