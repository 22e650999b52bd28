//! skopeo, through HAProxy, as people push and pull.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{Cluster, told};
use crate::support::{
    client::{Ask as _, Request},
    content::{Blob, Manifest},
};

/// How often it is tried again what fails.
const TRIES: usize = 30;
const PAUSE: Duration = Duration::from_millis(500);

/// How long it may take before it is ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with images, and where they go.
pub(super) struct Skopeo {
    folder: tempfile::TempDir,
    balancer: String,
    seed: u64,
}

/// What it pushed.
#[derive(Debug, Default)]
pub(super) struct Pushed {
    /// Repository, tag and manifest of each push that it said went well.
    images: Vec<(String, String, Manifest)>,
    pub(super) pulls: usize,
    pub(super) retried: usize,
}

impl Pushed {
    pub(super) fn len(&self) -> usize {
        self.images.len()
    }

    /// Asserts that all of it is there, by every door.
    pub(super) async fn check(&self, cluster: &Cluster) {
        for (repository, tag, manifest) in &self.images {
            let target = format!("/v2/{repository}/manifests/{tag}");
            for door in cluster.clients() {
                let request = Request::get(&target).header("accept", &manifest.media_type);
                let answer = door.ask(request).await.unwrap();
                answer.expect(200).with_body(&manifest.bytes);
            }
        }
    }
}

impl Skopeo {
    pub(super) fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let trusted = folder.path().join("trusted");
        std::fs::create_dir(&trusted).unwrap();
        std::fs::copy(told("PORTOLAN_TEST_CA"), trusted.join("ca.crt")).unwrap();
        Self {
            folder,
            balancer: told("PORTOLAN_TEST_BALANCER"),
            seed,
        }
    }

    /// Pushes one image after the other, each under a tag of its own, and pulls it again, until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) -> Pushed {
        let mut pushed = Pushed::default();
        while !stop.is_cancelled() {
            let n = pushed.len();
            let (repository, tag) = (format!("skopeo-{}/{}", self.seed, n % 3), format!("v{n}"));
            let (from, to) = (self.path(&format!("from-{n}")), self.path(&format!("to-{n}")));
            let manifest = self.image(n, &from);
            let there = format!("docker://{}/{repository}:{tag}", self.balancer);
            pushed.retried += self.copy(&format!("dir:{}", from.display()), &there).await;
            pushed.images.push((repository, tag, manifest));
            pushed.retried += self.copy(&there, &format!("dir:{}", to.display())).await;
            pushed.pulls += 1;
            for entry in std::fs::read_dir(&from).unwrap() {
                let name = entry.unwrap().file_name();
                let [sent, came] = [&from, &to].map(|folder| std::fs::read(folder.join(&name)).unwrap());
                assert!(
                    sent == came,
                    "{} of {there} isn't what was pushed",
                    name.display()
                );
            }
            for folder in [from, to] {
                std::fs::remove_dir_all(folder).unwrap();
            }
        }
        pushed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes an image of two layers as skopeo's `dir:` has it.
    fn image(&self, n: usize, folder: &Path) -> Manifest {
        let layers =
            [1_000, 300_000].map(|length| Blob::named(&format!("{} {n} {length}", self.seed), length));
        let ids: Vec<&str> = layers.iter().map(|layer| &*layer.digest).collect();
        let config =
            json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}});
        let config = Blob::new(config.to_string());
        let manifest = Manifest::image(&config, &[&layers[0], &layers[1]]).build();
        std::fs::create_dir(folder).unwrap();
        for blob in layers.iter().chain([&config]) {
            let name = blob.digest.trim_start_matches("sha256:");
            std::fs::write(folder.join(name), &blob.bytes).unwrap();
        }
        std::fs::write(folder.join("version"), "Directory Transport Version: 1.1\n").unwrap();
        std::fs::write(folder.join("manifest.json"), &manifest.bytes).unwrap();
        manifest
    }

    /// Copies an image until that goes well. Gives how often it was tried again.
    async fn copy(&self, from: &str, to: &str) -> usize {
        let mut said = String::new();
        for retried in 0..TRIES {
            let copied = Command::new("skopeo")
                .args(["copy", "--quiet", "--preserve-digests", "--src-cert-dir"])
                .arg(self.path("trusted"))
                .arg("--dest-cert-dir")
                .arg(self.path("trusted"))
                .args([from, to])
                .kill_on_drop(true)
                .output();
            match tokio::time::timeout(PATIENCE, copied).await {
                Ok(output) => {
                    let output = output.expect("skopeo is there");
                    if output.status.success() {
                        return retried;
                    }
                    said = String::from_utf8_lossy(&output.stderr).into_owned();
                }
                Err(_) => said = "it didn't end".to_owned(),
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("skopeo copy {from} {to} fails {TRIES} times, the last time: {said}");
    }
}
