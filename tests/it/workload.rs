//! Clients that push, move, delete and read tags through all members at once, and the check that what they were told
//! can be true.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::task::JoinSet;

use crate::{
    history::{Act, Clock, History, Value, is_explainable},
    support::{
        client::{Answer, Ask, Broken, Request},
        content::{Blob, Manifest, Random},
    },
};

/// What a workload does.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) repositories: Vec<String>,
    /// Tags of each repository.
    pub(crate) tags: usize,
    /// How many clients there are.
    pub(crate) clients: usize,
    /// How much each of them does.
    pub(crate) rounds: usize,
    /// The longest pause before each of these.
    pub(crate) pause: Duration,
    pub(crate) seed: u64,
}

/// What all clients share.
struct World<D> {
    workload: Workload,
    doors: Vec<D>,
    clock: Clock,
    // By repository and tag.
    tags: BTreeMap<(String, String), History>,
    // By the number that is their value.
    manifests: Mutex<Vec<(String, Manifest)>>,
    config: Blob,
}

/// How many requests ended how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: usize,
    pub(crate) unavailable: usize,
}

/// What a request came to.
enum Reply {
    /// An answer that says what happened.
    Answer(Answer),
    /// The request failed as it may when stores do.
    Unavailable,
}

fn reply(answer: Result<Answer, Broken>) -> Reply {
    match answer {
        Ok(answer) if answer.is_unavailable() => Reply::Unavailable,
        Ok(answer) => {
            assert!(answer.status < 500, "failing stores are no excuse for {answer}");
            Reply::Answer(answer)
        }
        Err(_) => Reply::Unavailable,
    }
}

/// A workload under way, or over.
pub(crate) struct Ran<D> {
    world: Arc<World<D>>,
    pub(crate) counts: Counts,
}

/// Lets all clients do what `workload` says, through all `doors`.
pub(crate) async fn run<D>(workload: Workload, doors: Vec<D>) -> Ran<D>
where
    D: Ask + Clone + Send + Sync + 'static,
{
    let tags = workload
        .repositories
        .iter()
        .flat_map(|repository| (0..workload.tags).map(|tag| (repository.clone(), format!("tag-{tag}"))));
    let world = Arc::new(World {
        tags: tags.map(|tag| (tag, History::default())).collect(),
        doors,
        clock: Clock::default(),
        manifests: Mutex::default(),
        config: Blob::named(&format!("config {}", workload.seed), 50),
        workload,
    });
    for repository in &world.workload.repositories {
        prepare(&world, repository).await;
    }
    let mut clients = JoinSet::new();
    for client in 0..world.workload.clients {
        let world = world.clone();
        clients.spawn(async move { world.client(client).await });
    }
    let mut counts = Counts::default();
    while let Some(done) = clients.join_next().await {
        let done = done.unwrap();
        counts.acknowledged += done.acknowledged;
        counts.unavailable += done.unavailable;
    }
    Ran { world, counts }
}

/// Puts the config into a repository, however often that takes.
async fn prepare<D: Ask>(world: &World<D>, repository: &str) {
    for _ in 0..100 {
        if let Reply::Answer(answer) = reply(world.doors[0].push_blob(repository, &world.config).await) {
            answer.expect(201);
            return;
        }
        // Its member may be down for a while.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("a blob can't be pushed in a hundred tries");
}

impl<D: Ask> World<D> {
    /// A new manifest and the number that it is the value of.
    fn manifest(&self, repository: &str) -> (Value, Manifest) {
        let mut manifests = self.manifests.lock();
        let value = manifests.len() as Value;
        let manifest = Manifest::image(&self.config, &[])
            .annotation("value", &value.to_string())
            .build();
        manifests.push((repository.to_owned(), manifest.clone()));
        (value, manifest)
    }

    async fn client(&self, number: usize) -> Counts {
        let mut random = Random::seeded(self.workload.seed ^ (number as u64) << 32);
        let mut counts = Counts::default();
        let tags: Vec<&(String, String)> = self.tags.keys().collect();
        for _ in 0..self.workload.rounds {
            let (repository, tag) = *random.pick(&tags);
            let door = random.pick(&self.doors);
            if !self.workload.pause.is_zero() {
                tokio::time::sleep(self.workload.pause.mul_f64(random.below(1000) as f64 / 1000.0)).await;
            }
            let answered = match random.below(10) {
                0..4 => self.push(door, repository, tag).await,
                4 => self.delete(door, repository, tag).await,
                _ => self.read(door, repository, tag).await,
            };
            match answered {
                true => counts.acknowledged += 1,
                false => counts.unavailable += 1,
            }
        }
        counts
    }

    fn history(&self, repository: &str, tag: &str) -> &History {
        &self.tags[&(repository.to_owned(), tag.to_owned())]
    }

    async fn push(&self, door: &D, repository: &str, tag: &str) -> bool {
        let (value, manifest) = self.manifest(repository);
        let begun = self.clock.tick();
        match reply(door.push_manifest(repository, tag, &manifest).await) {
            Reply::Answer(answer) => {
                answer.expect(201).with("docker-content-digest", &manifest.digest);
                self.history(repository, tag)
                    .answered(begun, &self.clock, Act::Push(value));
                true
            }
            Reply::Unavailable => {
                self.history(repository, tag).lost(begun, Act::Push(value));
                false
            }
        }
    }

    async fn delete(&self, door: &D, repository: &str, tag: &str) -> bool {
        let begun = self.clock.tick();
        let history = self.history(repository, tag);
        match reply(door.delete(format!("/v2/{repository}/manifests/{tag}")).await) {
            Reply::Answer(answer) => {
                let act = match answer.status {
                    202 => Act::Delete,
                    404 => Act::DeleteNothing,
                    _ => panic!("{answer}"),
                };
                history.answered(begun, &self.clock, act);
                true
            }
            Reply::Unavailable => {
                history.lost(begun, Act::MayDelete);
                false
            }
        }
    }

    async fn read(&self, door: &D, repository: &str, tag: &str) -> bool {
        let begun = self.clock.tick();
        let Reply::Answer(answer) = reply(door.get(format!("/v2/{repository}/manifests/{tag}")).await) else {
            return false;
        };
        let value = match answer.status {
            200 => Some(value(&answer)),
            404 => None,
            _ => panic!("{answer}"),
        };
        self.history(repository, tag)
            .answered(begun, &self.clock, Act::Read(value));
        true
    }
}

/// The number in a manifest that was pulled.
fn value(answer: &Answer) -> Value {
    let manifest = answer.json();
    let Json::String(number) = &manifest["annotations"]["value"] else {
        panic!("not one of ours: {answer}")
    };
    number.parse().unwrap()
}

impl<D: Ask> Ran<D> {
    /// Asserts that all tags' histories can be true, when each is read once more through every door, and that every
    /// acknowledged manifest is there, and so is what the listing says. Nothing may fail any more.
    pub(crate) async fn check(self) {
        let world = &self.world;
        for ((repository, tag), history) in &world.tags {
            for door in &world.doors {
                assert!(world.read(door, repository, tag).await, "nothing fails any more");
            }
            assert!(
                is_explainable(&history.events()),
                "{repository}:{tag} has a history that can't be (seed {}):\n{}",
                world.workload.seed,
                history.tail()
            );
        }
        for repository in &world.workload.repositories {
            self.check_listing(repository).await;
        }
        self.check_manifests().await;
    }

    /// The list of tags is what reading each of them says.
    async fn check_listing(&self, repository: &str) {
        let world = &self.world;
        let mut expected = Vec::new();
        for (_, tag) in world.tags.keys().filter(|(of, _)| of == repository) {
            let answer = world.doors[0]
                .head(format!("/v2/{repository}/manifests/{tag}"))
                .await
                .unwrap();
            if answer.status == 200 {
                expected.push(tag.clone());
            }
        }
        for door in &world.doors {
            let answer = door.get(format!("/v2/{repository}/tags/list")).await.unwrap();
            let listed: Vec<String> = match answer.status {
                200 => serde_json::from_value(answer.json()["tags"].clone()).unwrap(),
                _ => {
                    answer.error(404, "NAME_UNKNOWN");
                    Vec::new()
                }
            };
            assert_eq!(listed, expected, "{repository}");
        }
    }

    /// Nobody deleted a manifest, so each one whose push was acknowledged is there.
    async fn check_manifests(&self) {
        let world = &self.world;
        let acknowledged: Vec<Value> = world
            .tags
            .values()
            .flat_map(History::events)
            .filter_map(|event| event.acknowledged_push())
            .collect();
        assert!(!acknowledged.is_empty(), "something got through");
        let manifests = world.manifests.lock().clone();
        for (n, value) in acknowledged.into_iter().enumerate() {
            let (repository, manifest) = &manifests[value as usize];
            let door = &world.doors[n % world.doors.len()];
            let request = Request::get(format!("/v2/{repository}/manifests/{}", manifest.digest));
            door.ask(request)
                .await
                .unwrap()
                .expect(200)
                .with_body(&manifest.bytes);
        }
    }
}
