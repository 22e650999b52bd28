//! `kill -9` of the whole mesh while clients push and delete: what was acknowledged is there, what was deleted isn't, and
//! nothing is there by half.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinSet};

use crate::support::{
    client::{Answer, Ask as _, Broken, Client},
    content::{Blob, Manifest, Random, run_seed, sha256},
    process::{Dev, Process},
};

const ROUNDS: usize = 8;
const CLIENTS: usize = 5;
const TAGS: u64 = 3;

/// What may be, as far as one client knows: it alone writes its repository.
#[derive(Clone, Debug, Default)]
struct Known {
    /// What each tag may name: one thing, or two when the last change of it wasn't answered.
    tags: BTreeMap<String, Vec<Option<String>>>,
    /// Manifests by digest, and whether each is there; `None` is not known.
    manifests: BTreeMap<String, (Manifest, Option<bool>)>,
    /// Blobs that were acknowledged.
    blobs: Vec<String>,
    /// Blobs whose push wasn't answered.
    perhaps: Vec<String>,
}

/// One client with its own repository, over all rounds.
#[derive(Clone)]
struct Pusher {
    repository: String,
    known: Known,
    random: Random,
}

/// Whether the registry answered that it did it. Anything else but a broken connection is wrong.
fn acknowledged(answer: Result<Answer, Broken>, status: u16) -> bool {
    match answer {
        Ok(answer) if answer.status == 503 => false,
        Ok(answer) => answer.expect(status).status == status,
        Err(_) => false,
    }
}

impl Pusher {
    /// Pushes and deletes until the connection breaks.
    async fn work(&mut self, doors: &[Client], killed: &Notify) {
        loop {
            let step = self.step(doors);
            tokio::select! {
                () = killed.notified() => return,
                went_well = step => if !went_well { return },
            }
        }
    }

    /// One push or deletion; `false` when it wasn't answered. What isn't known is written down before it is asked for, so
    /// that this may be dropped at any moment.
    async fn step(&mut self, doors: &[Client]) -> bool {
        let door = self.random.pick(doors).clone();
        let tag = format!("tag-{}", self.random.below(TAGS));
        match self.random.below(8) {
            0 => self.delete_tag(&door, &tag).await,
            1 => self.delete_manifest(&door).await,
            _ => self.push(&door, &tag).await,
        }
    }

    async fn push(&mut self, door: &Client, tag: &str) -> bool {
        let length = *self.random.pick(&[10, 5000, 300_000, 9 << 20]);
        let layer = Blob::new(self.random.bytes(length));
        let config = Blob::new(self.random.bytes(100));
        for blob in [&config, &layer] {
            self.known.perhaps.push(blob.digest.clone());
            let answer = match self.random.below(3) {
                0 => door.push_blob(&self.repository, blob).await,
                1 => door.push_blob_in_two(&self.repository, blob).await,
                _ => door.push_blob_in_chunks(&self.repository, blob, 5 << 20).await,
            };
            if !acknowledged(answer, 201) {
                return false;
            }
            self.known.blobs.push(blob.digest.clone());
        }
        let manifest = Manifest::image(&config, &[&layer]).build();
        let digest = manifest.digest.clone();
        let named = self
            .known
            .tags
            .entry(tag.to_owned())
            .or_insert_with(|| vec![None]);
        named.push(Some(digest.clone()));
        self.known
            .manifests
            .insert(digest.clone(), (manifest.clone(), None));
        if !acknowledged(door.push_manifest(&self.repository, tag, &manifest).await, 201) {
            return false;
        }
        self.known.tags.insert(tag.to_owned(), vec![Some(digest.clone())]);
        self.known.manifests.insert(digest, (manifest, Some(true)));
        true
    }

    async fn delete_tag(&mut self, door: &Client, tag: &str) -> bool {
        let Some([Some(_)]) = self.known.tags.get(tag).map(Vec::as_slice) else {
            return true;
        };
        self.known.tags.get_mut(tag).unwrap().push(None);
        let target = format!("/v2/{}/manifests/{tag}", self.repository);
        if !acknowledged(door.delete(target).await, 202) {
            return false;
        }
        self.known.tags.insert(tag.to_owned(), vec![None]);
        true
    }

    async fn delete_manifest(&mut self, door: &Client) -> bool {
        let there = self
            .known
            .manifests
            .iter()
            .filter(|(_, (_, there))| *there == Some(true));
        let there: Vec<String> = there.map(|(digest, _)| digest.clone()).collect();
        if there.is_empty() {
            return true;
        }
        let digest = self.random.pick(&there).clone();
        self.known.manifests.get_mut(&digest).unwrap().1 = None;
        let naming = |named: &Vec<Option<String>>| *named == [Some(digest.clone())];
        for named in self.known.tags.values_mut().filter(|named| naming(named)) {
            named.push(None);
        }
        let target = format!("/v2/{}/manifests/{digest}", self.repository);
        if !acknowledged(door.delete(target).await, 202) {
            return false;
        }
        self.known.manifests.get_mut(&digest).unwrap().1 = Some(false);
        for named in self
            .known
            .tags
            .values_mut()
            .filter(|named| named.contains(&Some(digest.clone())))
        {
            *named = vec![None];
        }
        true
    }

    /// Compares what is there with what may be, and takes it as known.
    async fn check(&mut self, door: &Client) {
        let repository = self.repository.clone();
        let context = |what: &str| format!("{repository}: {what}");
        let mut listed = Vec::new();
        for (tag, may_name) in &mut self.known.tags {
            let answer = door
                .get(format!("/v2/{repository}/manifests/{tag}"))
                .await
                .unwrap();
            let names = match answer.status {
                200 => Some(answer.must("docker-content-digest")),
                _ => {
                    answer.clone().error(404, "MANIFEST_UNKNOWN");
                    None
                }
            };
            assert!(
                may_name.contains(&names),
                "{}",
                context(&format!("{tag} is {names:?}, not of {may_name:?}"))
            );
            if names.is_some() {
                assert_eq!(names.as_deref(), Some(&*sha256(&answer.body)));
                listed.push(tag.clone());
            }
            *may_name = vec![names];
        }
        let answer = door.get(format!("/v2/{repository}/tags/list")).await.unwrap();
        match answer.status {
            200 => assert_eq!(answer.json()["tags"], serde_json::json!(listed), "{repository}"),
            _ => assert!(answer.status == 404 && listed.is_empty(), "{answer}"),
        }
        for (digest, (manifest, there)) in &mut self.known.manifests {
            let answer = door
                .get(format!("/v2/{repository}/manifests/{digest}"))
                .await
                .unwrap();
            let is_there = answer.status == 200;
            assert!(
                there.is_none_or(|there| there == is_there),
                "{}",
                context(&answer.to_string())
            );
            if is_there {
                let answer = answer.with_body(&manifest.bytes);
                self.known.blobs.extend(referenced(&answer));
            }
            *there = Some(is_there);
        }
        for digest in &self.known.blobs {
            let answer = door
                .get(format!("/v2/{repository}/blobs/{digest}"))
                .await
                .unwrap()
                .expect(200);
            assert_eq!(sha256(&answer.body), *digest, "{repository}");
        }
        for digest in &self.known.perhaps {
            let answer = door
                .get(format!("/v2/{repository}/blobs/{digest}"))
                .await
                .unwrap();
            if answer.status == 200 {
                assert_eq!(sha256(&answer.body), *digest, "{repository}");
            } else {
                answer.error(404, "BLOB_UNKNOWN");
            }
        }
        // Checked once, they are checked with every manifest that needs them.
        self.known.blobs.clear();
        self.known.perhaps.clear();
    }
}

/// The blobs that a manifest needs.
fn referenced(manifest: &Answer) -> Vec<String> {
    let manifest = manifest.json();
    let layers = manifest["layers"].as_array().unwrap();
    [&manifest["config"]]
        .into_iter()
        .chain(layers)
        .map(|d| d["digest"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    let seed = run_seed("what_was_acknowledged_survives_kill_9");
    let mut random = Random::seeded(seed);
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::new(folder.path());
    let mut pushers: Vec<Pusher> = (0..CLIENTS)
        .map(|n| Pusher {
            repository: format!("crash/client-{n}"),
            known: Known::default(),
            random: Random::seeded(seed ^ (n as u64 + 1) << 40),
        })
        .collect();
    let mut process = dev.start().await;
    for round in 0..ROUNDS {
        pushers = work_until_killed(process, pushers, random.below(900)).await;
        process = dev.start().await;
        for pusher in &mut pushers {
            let door = process.client(round % process.doors.len());
            pusher.check(&door).await;
        }
    }
    let there: usize = pushers
        .iter()
        .map(|pusher| {
            pusher
                .known
                .manifests
                .values()
                .filter(|(_, there)| *there == Some(true))
                .count()
        })
        .sum();
    println!("{there} manifests survived {ROUNDS} kills");
    assert!(there > 0, "something was pushed");
}

/// Lets all clients work for a while and kills the process under them.
async fn work_until_killed(process: Process, pushers: Vec<Pusher>, millis: u64) -> Vec<Pusher> {
    let killed = Arc::new(Notify::new());
    let mut working = JoinSet::new();
    for mut pusher in pushers {
        let doors: Vec<Client> = (0..process.doors.len()).map(|n| process.client(n)).collect();
        let killed = killed.clone();
        working.spawn(async move {
            pusher.work(&doors, &killed).await;
            pusher
        });
    }
    tokio::time::sleep(Duration::from_millis(300 + millis)).await;
    process.kill().await;
    killed.notify_waiters();
    working.join_all().await
}
