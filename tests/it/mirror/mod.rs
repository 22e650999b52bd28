//! `extensions.sync`: what isn't here and another registry has.

mod ahead;
mod budget;
pub(crate) mod fake;
mod lies;
mod logins;
mod orders;
mod pulls;
mod referrers;
mod sharing;
mod signed;
mod status;
mod whole;

use std::{path::Path, time::Duration};

use portolan::{
    app::Stores,
    config::{self, Limits, Sync},
};

use crate::support::{
    PATIENCE,
    client::{Answer, Ask as _, Client},
    content::{Blob, Manifest},
    mesh::{Mesh, Plan, memory},
};

/// An image that only upstream has.
struct Image {
    config: Blob,
    layers: Vec<Blob>,
    manifest: Manifest,
}

impl Image {
    fn named(name: &str, lengths: &[usize]) -> Self {
        let config = Blob::named(&format!("{name} config"), 300);
        let layers: Vec<_> = lengths
            .iter()
            .enumerate()
            .map(|(n, length)| Blob::named(&format!("{name} {n}"), *length))
            .collect();
        let manifest = Manifest::image(&config, &layers.iter().collect::<Vec<_>>()).build();
        Self {
            config,
            layers,
            manifest,
        }
    }

    fn blobs(&self) -> impl Iterator<Item = &Blob> {
        [&self.config].into_iter().chain(&self.layers)
    }

    async fn push(&self, client: &Client, repository: &str, tag: &str) {
        for blob in self.blobs() {
            client.push_blob(repository, blob).await.unwrap().expect(201);
        }
        let pushed = client.push_manifest(repository, tag, &self.manifest).await;
        pushed.unwrap().expect(201);
    }

    fn serve(&self, upstream: &fake::Fake, repository: &str, tag: &str) {
        for blob in self.blobs() {
            upstream.blob(repository, blob);
        }
        upstream.manifest(repository, tag, &self.manifest);
    }
}

/// What a configuration says of one registry, after its url.
pub(crate) fn sync_from(url: &str, more: &str) -> Sync {
    sync(
        &format!("{{urls: [\"{url}\"], onDemand: true, retryDelay: 10ms, {more}}}"),
        "",
    )
}

fn sync(registries: &str, more: &str) -> Sync {
    let text = format!(
        "extensions: {{sync: {{registries: [{registries}], {more}}}}}\nstorage: {{rootDirectory: /nowhere}}"
    );
    let config = config::parse(Path::new("c.yaml"), &text).unwrap_or_else(|error| panic!("{error}"));
    config.sync.unwrap()
}

/// A mesh that mirrors, with pieces that are small enough to be put aside in tests.
fn plan(stores: Stores, sync: Sync) -> Plan {
    Plan::over(stores).sync(sync).limits(|limits: &mut Limits| {
        limits.mirror.piece = 64 << 10;
        limits.mirror.withheld = 16 << 10;
        limits.upstream.answer = Duration::from_secs(3);
        limits.upstream.stall = Duration::from_secs(3);
    })
}

/// One that upstream never answers too late, however slow the machine is.
fn patient(sync: Sync) -> Plan {
    plan(memory(), sync).limits(|limits| {
        limits.upstream.answer = PATIENCE;
        limits.upstream.look = PATIENCE;
        limits.upstream.stall = PATIENCE;
        limits.mirror.referrers_time = PATIENCE;
    })
}

async fn mirror(sync: Sync) -> Mesh {
    plan(memory(), sync).start().await
}

async fn get_manifest(client: &Client, repository: &str, reference: &str) -> Answer {
    let answer = client.get(fake::manifest_path(repository, reference)).await;
    answer.unwrap()
}

async fn get_blob(client: &Client, repository: &str, blob: &Blob) -> Answer {
    client
        .get(fake::blob_path(repository, &blob.digest))
        .await
        .unwrap()
}

/// Pulls the whole image as clients do, and compares it.
async fn pull(client: &Client, repository: &str, tag: &str, image: &Image) {
    let answer = get_manifest(client, repository, tag).await.expect(200);
    let answer = answer.with("docker-content-digest", &image.manifest.digest);
    answer.with_body(&image.manifest.bytes);
    for blob in image.blobs() {
        let answer = get_blob(client, repository, blob).await.expect(200);
        answer
            .with("docker-content-digest", &blob.digest)
            .with_body(&blob.bytes);
    }
}
