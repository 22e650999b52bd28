//! Clients that push, move, delete and read tags through all members at once, and a blob that comes and goes, and the check that
//! what they were told can be true.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    api::next,
    history::{Act, Clock, History, Told, Value, contradiction, is_explainable},
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
    /// Or until it is told to stop, if that comes first.
    pub(crate) stop: CancellationToken,
    /// The longest pause before each of these.
    pub(crate) pause: Duration,
    /// Of ten requests, how many push. One deletes, and the others read.
    pub(crate) pushes: u64,
    /// Bytes of the layer that is pushed before each manifest, and pulled after it; with 0 there are no layers.
    pub(crate) layer: usize,
    /// Of ten requests, how many are about a blob that comes and goes, one in each repository.
    pub(crate) blobs: u64,
    /// How long after its push such a blob may be collected, for nothing uses it; `None` where it isn't.
    pub(crate) grace: Option<Duration>,
    /// How often what failed is tried again.
    pub(crate) retries: usize,
    pub(crate) choice: Choice,
    pub(crate) seed: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            repositories: Vec::new(),
            tags: 1,
            clients: 1,
            rounds: usize::MAX,
            stop: CancellationToken::new(),
            pause: Duration::ZERO,
            pushes: 4,
            layer: 0,
            blobs: 0,
            grace: None,
            retries: 0,
            choice: Choice::Any,
            seed: 0,
        }
    }
}

/// Which of the doors a client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Any of them, each time.
    Any,
    /// Always the same: that of its own number, counted around.
    Own,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A layer to be taken.
    Layer,
    /// A tag to be moved.
    Push,
    /// A tag to be deleted.
    Delete,
    /// A tag to be read.
    Read,
    /// A layer to be given.
    Pull,
    /// A blob to be let go.
    Unlink,
}

impl Kind {
    /// Whether it changes what a tag means.
    pub(crate) fn is_change(self) -> bool {
        matches!(self, Self::Push | Self::Delete)
    }
}

/// A request, for the record.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) kind: Kind,
    pub(crate) repository: String,
    /// The door's number.
    pub(crate) door: usize,
    pub(crate) begun: Instant,
    pub(crate) ended: Instant,
    /// Why there is no answer that says what happened.
    pub(crate) fault: Option<String>,
}

/// What all clients share.
struct World<D> {
    workload: Workload,
    doors: Vec<D>,
    clock: Clock,
    // By repository and tag.
    tags: BTreeMap<(String, String), History>,
    // Of the blob that comes and goes, by repository. There, it is `THERE`.
    blobs: BTreeMap<String, History>,
    // When a push of it was begun last, likewise.
    blobs_pushed: Mutex<BTreeMap<String, Instant>>,
    // By the number that is their value.
    manifests: Mutex<Vec<(String, Manifest)>>,
    config: Blob,
    asked: Mutex<Vec<Asked>>,
}

/// How many requests ended how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: usize,
    pub(crate) unavailable: usize,
    /// How many of the latter were tried again.
    pub(crate) retried: usize,
}

/// What a client asks for.
#[derive(Clone, Copy)]
enum Step {
    Push(Value),
    Delete,
    Read,
    PushBlob,
    DeleteBlob,
    PullBlob,
}

/// What a blob is that comes and goes, while it is there.
const THERE: Value = 1;

/// What a request came to.
enum Reply {
    /// An answer that says what happened.
    Answer(Answer),
    /// The request failed as it may when stores do, for this reason.
    Unavailable(String),
}

fn reply(answer: Result<Answer, Broken>) -> Reply {
    match answer {
        Ok(answer) if answer.is_unavailable() => Reply::Unavailable(answer.to_string()),
        Ok(answer) => {
            assert!(answer.status < 500, "failing stores are no excuse for {answer}");
            Reply::Answer(answer)
        }
        Err(broken) => Reply::Unavailable(broken.to_string()),
    }
}

/// Before what failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A workload under way, or over.
pub(crate) struct Ran<D> {
    world: Arc<World<D>>,
    pub(crate) counts: Counts,
    /// Those through which it is checked: those of the workload, unless there are more by then.
    pub(crate) doors: Vec<D>,
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
        blobs: workload
            .repositories
            .iter()
            .map(|repository| (repository.clone(), History::default()))
            .collect(),
        blobs_pushed: Mutex::default(),
        doors,
        clock: Clock::default(),
        manifests: Mutex::default(),
        config: Blob::named(&format!("config {}", workload.seed), 50),
        asked: Mutex::default(),
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
        counts.retried += done.retried;
    }
    let doors = world.doors.clone();
    Ran { world, counts, doors }
}

/// Puts the config into a repository, however often that takes.
async fn prepare<D: Ask>(world: &World<D>, repository: &str) {
    for attempt in 0..100 {
        if let Reply::Answer(answer) = reply(
            world.doors[attempt % world.doors.len()]
                .push_blob(repository, &world.config)
                .await,
        ) {
            answer.expect(201);
            return;
        }
        // Its member may be down for a while.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    panic!("a blob can't be pushed in a hundred tries");
}

impl<D: Ask> World<D> {
    /// The number of a new manifest.
    fn manifest(&self, repository: &str) -> Value {
        let mut manifests = self.manifests.lock();
        let value = manifests.len() as Value;
        let layer = self.layer(value);
        let layers: Vec<&Blob> = layer.iter().collect();
        let manifest = Manifest::image(&self.config, &layers)
            .annotation("value", &value.to_string())
            .build();
        manifests.push((repository.to_owned(), manifest));
        value
    }

    /// The layer of the manifest with this number, if they have any.
    fn layer(&self, value: Value) -> Option<Blob> {
        let Workload { layer, seed, .. } = self.workload;
        (layer > 0).then(|| Blob::named(&format!("layer {seed} {value}"), layer))
    }

    async fn client(&self, number: usize) -> Counts {
        let mut random = Random::seeded(self.workload.seed ^ (number as u64) << 32);
        let mut counts = Counts::default();
        let tags: Vec<&(String, String)> = self.tags.keys().collect();
        let doors: Vec<usize> = match self.workload.choice {
            Choice::Any => (0..self.doors.len()).collect(),
            Choice::Own => vec![number % self.doors.len()],
        };
        for _ in 0..self.workload.rounds {
            let (repository, tag) = random.pick(&tags);
            let mut door = *random.pick(&doors);
            if !self.workload.pause.is_zero() {
                tokio::time::sleep(self.workload.pause.mul_f64(random.below(1000) as f64 / 1000.0)).await;
            }
            if self.workload.stop.is_cancelled() {
                break;
            }
            let step = self.step(&mut random, repository);
            for attempt in 0..=self.workload.retries {
                if attempt > 0 {
                    counts.retried += 1;
                    door = *random.pick(&doors);
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                let answered = match step {
                    Step::Push(value) => self.push(door, repository, tag, value).await,
                    Step::Delete => self.delete(door, repository, tag).await,
                    Step::Read => self.read(door, repository, tag).await,
                    Step::PushBlob => self.push_blob(door, repository).await,
                    Step::DeleteBlob => self.delete_blob(door, repository).await,
                    Step::PullBlob => self.pull_blob(door, repository).await,
                };
                if answered {
                    counts.acknowledged += 1;
                    break;
                }
                counts.unavailable += 1;
            }
        }
        counts
    }

    fn step(&self, random: &mut Random, repository: &str) -> Step {
        let Workload { blobs, pushes, .. } = self.workload;
        if blobs > 0 && random.below(10) < blobs {
            return match random.below(6) {
                0 => Step::PushBlob,
                1 => Step::DeleteBlob,
                _ => Step::PullBlob,
            };
        }
        match random.below(10) {
            n if n < pushes => Step::Push(self.manifest(repository)),
            n if n == pushes => Step::Delete,
            _ => Step::Read,
        }
    }

    /// Asks, and keeps a record of it.
    async fn ask(
        &self,
        kind: Kind,
        door: usize,
        repository: &str,
        request: impl Future<Output = Result<Answer, Broken>>,
    ) -> Option<Answer> {
        let begun = Instant::now();
        let (answer, fault) = match reply(request.await) {
            Reply::Answer(answer) => (Some(answer), None),
            Reply::Unavailable(fault) => (None, Some(fault)),
        };
        self.asked.lock().push(Asked {
            kind,
            repository: repository.to_owned(),
            door,
            begun,
            ended: Instant::now(),
            fault,
        });
        answer
    }

    fn history(&self, repository: &str, tag: &str) -> &History {
        &self.tags[&(repository.to_owned(), tag.to_owned())]
    }

    async fn push(&self, door: usize, repository: &str, tag: &str, value: Value) -> bool {
        let through = &self.doors[door];
        if let Some(layer) = self.layer(value) {
            let pushed = through.push_blob(repository, &layer);
            match self.ask(Kind::Layer, door, repository, pushed).await {
                Some(answer) => drop(answer.expect(201)),
                None => return false,
            }
        }
        let (_, manifest) = self.manifests.lock()[value as usize].clone();
        let begun = self.clock.tick();
        let pushed = through.push_manifest(repository, tag, &manifest);
        let history = self.history(repository, tag);
        match self.ask(Kind::Push, door, repository, pushed).await {
            Some(answer) => {
                answer.expect(201).with("docker-content-digest", &manifest.digest);
                history.answered(begun, &self.clock, Act::Push(value));
                true
            }
            None => {
                history.lost(begun, Act::Push(value));
                false
            }
        }
    }

    async fn delete(&self, door: usize, repository: &str, tag: &str) -> bool {
        let begun = self.clock.tick();
        let history = self.history(repository, tag);
        let deleted = self.doors[door].delete(format!("/v2/{repository}/manifests/{tag}"));
        match self.ask(Kind::Delete, door, repository, deleted).await {
            Some(answer) => {
                history.answered(begun, &self.clock, deletion(&answer));
                true
            }
            None => {
                history.lost(begun, Act::MayDelete);
                false
            }
        }
    }

    async fn read(&self, door: usize, repository: &str, tag: &str) -> bool {
        let through = &self.doors[door];
        let begun = self.clock.tick();
        let read = through.get(format!("/v2/{repository}/manifests/{tag}"));
        let Some(answer) = self.ask(Kind::Read, door, repository, read).await else {
            return false;
        };
        let value = self.was_read(begun, repository, tag, &answer);
        let Some(layer) = value.and_then(|value| self.layer(value)) else {
            return true;
        };
        let pulled = through.get(format!("/v2/{repository}/blobs/{}", layer.digest));
        match self.ask(Kind::Pull, door, repository, pulled).await {
            Some(answer) => {
                answer.expect(200).with_body(&layer.bytes);
                true
            }
            None => false,
        }
    }

    /// The blob that comes and goes: no manifest refers to it.
    fn blob(&self) -> Blob {
        Blob::named(&format!("blob {}", self.workload.seed), 500)
    }

    async fn push_blob(&self, door: usize, repository: &str) -> bool {
        let (begun, history) = (self.clock.tick(), &self.blobs[repository]);
        let blob = self.blob();
        self.blobs_pushed
            .lock()
            .insert(repository.to_owned(), Instant::now());
        let pushed = self.doors[door].push_blob(repository, &blob);
        let act = Act::Push(THERE);
        match self.ask(Kind::Layer, door, repository, pushed).await {
            Some(answer) => {
                answer.expect(201);
                history.answered(begun, &self.clock, act);
                true
            }
            None => {
                history.lost(begun, act);
                false
            }
        }
    }

    async fn delete_blob(&self, door: usize, repository: &str) -> bool {
        let (begun, history) = (self.clock.tick(), &self.blobs[repository]);
        let target = format!("/v2/{repository}/blobs/{}", self.blob().digest);
        let deleted = self.doors[door].delete(target);
        match self.ask(Kind::Unlink, door, repository, deleted).await {
            Some(answer) => {
                let did = deletion(&answer);
                if did == Act::DeleteNothing {
                    self.may_be_collected(begun, repository);
                }
                history.answered(begun, &self.clock, did);
                true
            }
            None => {
                history.lost(begun, Act::MayDelete);
                false
            }
        }
    }

    /// Somebody who asked then didn't find the blob: it may have been collected, if nobody has pushed it for that long.
    fn may_be_collected(&self, begun: u64, repository: &str) {
        let pushed = self.blobs_pushed.lock().get(repository).copied();
        let (Some(grace), Some(pushed)) = (self.workload.grace, pushed) else {
            return;
        };
        if pushed.elapsed() >= grace {
            self.blobs[repository].answered(begun, &self.clock, Act::MayDelete);
        }
    }

    async fn pull_blob(&self, door: usize, repository: &str) -> bool {
        let begun = self.clock.tick();
        let target = format!("/v2/{repository}/blobs/{}", self.blob().digest);
        let pulled = self.doors[door].get(target);
        match self.ask(Kind::Pull, door, repository, pulled).await {
            Some(answer) => {
                self.was_pulled(begun, repository, answer);
                true
            }
            None => false,
        }
    }

    /// Records what was pulled of the blob that comes and goes.
    fn was_pulled(&self, begun: u64, repository: &str, answer: Answer) {
        let found = match answer.status {
            200 => {
                answer.with_body(&self.blob().bytes);
                Some(THERE)
            }
            404 => {
                self.may_be_collected(begun, repository);
                None
            }
            _ => panic!("{answer}"),
        };
        self.blobs[repository].answered(begun, &self.clock, Act::Read(found));
    }

    /// Records what was read of a tag.
    fn was_read(&self, begun: u64, repository: &str, tag: &str, answer: &Answer) -> Option<Value> {
        let value = match answer.status {
            200 => Some(value(answer)),
            404 => None,
            _ => panic!("{answer}"),
        };
        self.history(repository, tag)
            .answered(begun, &self.clock, Act::Read(value));
        value
    }
}

/// What a DELETE came to.
fn deletion(answer: &Answer) -> Act {
    match answer.status {
        202 => Act::Delete,
        404 => Act::DeleteNothing,
        _ => panic!("{answer}"),
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
    /// Every request that was made so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.world.asked.lock().clone()
    }

    /// Asserts that all histories can be true, when each is read once more through every door, and that every acknowledged
    /// manifest is there, and so is what the listing says. Nothing may fail any more.
    pub(crate) async fn check(self) {
        assert!(!self.pushed().is_empty(), "something got through");
        self.check_what_was_told().await;
    }

    /// The same of one that may have been cut short before anything got through.
    pub(crate) async fn check_what_was_told(self) {
        let world = &self.world;
        for ((repository, tag), history) in &world.tags {
            for door in &self.doors {
                let begun = world.clock.tick();
                let answer = door.get(format!("/v2/{repository}/manifests/{tag}")).await;
                world.was_read(begun, repository, tag, &answer.expect("nothing fails any more"));
            }
            assert!(
                is_explainable(&history.events()),
                "{repository}:{tag} has a history that can't be (seed {}):\n{}",
                world.workload.seed,
                history.tail()
            );
            self.check_told(repository, tag, history).await;
        }
        for (repository, history) in &world.blobs {
            for door in &self.doors {
                let begun = world.clock.tick();
                let answer = door
                    .get(format!("/v2/{repository}/blobs/{}", world.blob().digest))
                    .await;
                world.was_pulled(begun, repository, answer.expect("nothing fails any more"));
            }
            assert!(
                is_explainable(&history.events()),
                "a blob of {repository} has a history that can't be (seed {}):\n{}",
                world.workload.seed,
                history.tail()
            );
        }
        for repository in &world.workload.repositories {
            self.check_listing(repository).await;
        }
        self.check_manifests().await;
    }

    /// What the registry tells of the tag is what clients did.
    async fn check_told(&self, repository: &str, tag: &str, history: &History) {
        let world = &self.world;
        let values: BTreeMap<String, Value> = (0..)
            .zip(world.manifests.lock().iter())
            .map(|(value, (_, manifest))| (manifest.digest.clone(), value))
            .collect();
        let door = &self.doors[0];
        let read = door
            .get(format!("/v2/{repository}/manifests/{tag}"))
            .await
            .unwrap();
        let now = (read.status == 200).then(|| value(&read));
        for door in &self.doors {
            let (mut told, mut at) = (
                Vec::new(),
                Some(format!("/v2/{repository}/_oci/tag-history/{tag}?n=7")),
            );
            while let Some(target) = at {
                let answer = door.get(target).await.unwrap().expect(200);
                let page = answer.json();
                for event in page["manifests"].as_array().unwrap() {
                    let value = values[event["digest"].as_str().unwrap()];
                    let kind = &event["annotations"]["org.opencontainers.distribution.tag.event"];
                    told.push(match kind.as_str().unwrap() {
                        "created" => Told::Created(value),
                        _ => Told::Deleted(value),
                    });
                }
                at = next(&answer);
            }
            told.reverse();
            if let Some(why) = contradiction(&history.events(), &told, now) {
                panic!(
                    "{repository}:{tag} (seed {}): {why}\ntold: {told:?}\n{}",
                    world.workload.seed,
                    history.tail()
                );
            }
        }
    }

    /// The list of tags is what reading each of them says.
    async fn check_listing(&self, repository: &str) {
        let world = &self.world;
        let mut expected = Vec::new();
        for (_, tag) in world.tags.keys().filter(|(of, _)| of == repository) {
            let answer = self.doors[0]
                .head(format!("/v2/{repository}/manifests/{tag}"))
                .await
                .unwrap();
            if answer.status == 200 {
                expected.push(tag.clone());
            }
        }
        for door in &self.doors {
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

    /// Each push that was acknowledged.
    pub(crate) fn pushed(&self) -> Vec<Value> {
        let events = self.world.tags.values().flat_map(History::events);
        events.filter_map(|event| event.acknowledged_push()).collect()
    }

    /// Nobody deleted a manifest or a layer, so each one whose push was acknowledged is there.
    async fn check_manifests(&self) {
        let world = &self.world;
        let manifests = world.manifests.lock().clone();
        for (n, value) in self.pushed().into_iter().enumerate() {
            let (repository, manifest) = &manifests[value as usize];
            let door = &self.doors[n % self.doors.len()];
            let request = Request::get(format!("/v2/{repository}/manifests/{}", manifest.digest));
            door.ask(request)
                .await
                .unwrap()
                .expect(200)
                .with_body(&manifest.bytes);
            if let Some(layer) = world.layer(value) {
                let answer = door.get(format!("/v2/{repository}/blobs/{}", layer.digest)).await;
                answer.unwrap().expect(200).with_body(&layer.bytes);
            }
        }
    }
}
