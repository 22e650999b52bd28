//! What clients do at the very moment when it is collected, over S3 and DynamoDB: what was acknowledged is whole in the end, byte for byte,
//! and of the rest nothing is left in the bucket.
//!
//! By one mesh; by two over the same stores, neither of which knows the other's members, so that two look at each row at once and
//! repositories change their owners all the time; and beside one whose members are killed.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use portolan::config::{DynamoConfig, Limits, S3Config};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    collect::bucket, dynamo_config, dynamo_delete, dynamo_server, proxied::mesh_over, s3_config, s3_server,
};
use crate::support::{
    client::{Answer, Ask as _, Client, Http, Request, octets},
    content::{Blob, Manifest, Random, run_seed},
    eventually,
    mesh::{MEMBERS, Mesh},
    thorough,
};

/// How long what no manifest references stays. Requests take less than half of that, on most machines; who took longer isn't promised
/// anything.
const GRACE: Duration = Duration::from_secs(3);
const HISTORY: Duration = Duration::from_secs(6);
const AT_ONCE: usize = 20;
/// Each about as long as a member needs to find out that another one is gone.
const TRIES: usize = 100;

fn hasten(limits: &mut Limits) {
    let pace = Duration::from_millis(100);
    (limits.upkeep.interval, limits.collection.interval) = (pace, pace);
    // What members left that were killed.
    (limits.upkeep.sweep, limits.collection.sweep) = (50 * pace, 50 * pace);
    let limits = &mut limits.registry;
    limits.session_ttl = Duration::from_secs(10);
    limits.link_grace = GRACE;
    limits.history = HISTORY;
    limits.object_delay = 2 * pace;
    limits.trash_delay = Duration::from_secs(10);
    limits.trash_again = 2 * pace;
    limits.clock_margin = Duration::ZERO;
}

#[derive(Clone, Copy, Debug)]
enum Race {
    Push,
    Mount,
    Head,
    Delete,
    Restore,
}

const RACES: [Race; 5] = [Race::Push, Race::Mount, Race::Head, Race::Delete, Race::Restore];

/// An image that was acknowledged, and wasn't deleted since.
struct Whole {
    repository: String,
    manifest: Manifest,
    layer: Blob,
}

/// Who else is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beside {
    Nobody,
    /// Another mesh.
    Others,
    /// Another mesh, whose members are killed.
    Killed,
}

/// One race, in repositories of its own.
struct Round<'a> {
    mesh: &'a Mesh,
    beside: Beside,
    /// Of all members that run.
    doors: &'a Mutex<Vec<SocketAddr>>,
    name: String,
    layer: Blob,
    random: Random,
}

impl Round<'_> {
    /// The answer of any member, and whether it was asked for more than once, for members that die don't say what they did.
    async fn ask(&mut self, request: Request) -> (Answer, bool) {
        for tries in 0..TRIES {
            let door = *self.random.pick(&self.doors.lock());
            let answer = Client::new(door, Http::One).ask(request.clone()).await;
            match answer {
                Ok(answer) if !answer.is_unavailable() => return (answer, tries > 0),
                failed => assert_ne!(self.beside, Beside::Nobody, "{failed:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody answers {request}");
    }

    /// About when what is `due` after that goes: a little before, or a little after.
    async fn about(&mut self, due: Duration) {
        let around = self.random.below(1200);
        tokio::time::sleep((due + Duration::from_millis(around)).saturating_sub(Duration::from_millis(600)))
            .await;
    }

    async fn push(&mut self, repository: &str, blob: &Blob) {
        let target = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
        let request = octets(Request::post(target)).body(blob.bytes.clone());
        self.ask(request).await.0.expect(201);
    }

    async fn tag(&mut self, repository: &str, note: &str) -> (Manifest, Answer) {
        let manifest = Manifest::image(&config(), &[&self.layer])
            .annotation("note", note)
            .build();
        let request = Request::put(format!("/v2/{repository}/manifests/t"))
            .header("content-type", &manifest.media_type)
            .body(manifest.bytes.clone());
        (manifest, self.ask(request).await.0)
    }

    /// Pushes everything until it is taken, though it may go in between.
    async fn push_whole(&mut self, repository: &str, note: &str) -> Whole {
        for _ in 0..10 {
            let begun = Instant::now();
            let layer = self.layer.clone();
            self.push(repository, &config()).await;
            self.push(repository, &layer).await;
            let (manifest, answer) = self.tag(repository, note).await;
            if answer.status == 404 && begun.elapsed() > GRACE / 2 {
                continue;
            }
            answer.expect(201);
            let repository = repository.to_owned();
            return Whole {
                repository,
                manifest,
                layer,
            };
        }
        panic!("it can't be pushed in time");
    }

    /// The manifest of what is there since `promised`, or everything anew where that took too long.
    async fn tag_what_is_there(&mut self, repository: &str, promised: Instant) -> Whole {
        let (manifest, answer) = self.tag(repository, "there").await;
        if answer.status == 404 && promised.elapsed() > GRACE / 2 {
            return self.push_whole(repository, "again").await;
        }
        answer.expect(201);
        Whole {
            repository: repository.to_owned(),
            manifest,
            layer: self.layer.clone(),
        }
    }

    async fn run(mut self, race: Race) -> Vec<Whole> {
        let (layer, owner) = (self.layer.clone(), self.random.below(MEMBERS as u64) as usize);
        let one = self.mesh.names().owned_by(owner, &self.name);
        let two = self.mesh.names().owned_by((owner + 1) % MEMBERS, &self.name);
        match race {
            Race::Push => {
                self.push(&one, &config()).await;
                self.push(&one, &layer).await;
                self.about(GRACE).await;
                let (manifest, answer) = self.tag(&one, "late").await;
                if answer.status == 404 {
                    return vec![self.push_whole(&one, "again").await];
                }
                answer.expect(201);
                vec![Whole {
                    repository: one,
                    manifest,
                    layer,
                }]
            }
            Race::Mount => {
                self.push(&one, &layer).await;
                self.about(GRACE).await;
                self.push(&two, &config()).await;
                let begun = Instant::now();
                let target = format!("/v2/{two}/blobs/uploads/?mount={}&from={one}", layer.digest);
                let (mounted, _) = self.ask(Request::post(target).body("")).await;
                match mounted.status {
                    201 => vec![self.tag_what_is_there(&two, begun).await],
                    202 => vec![self.push_whole(&two, "pushed").await],
                    _ => panic!("{mounted}"),
                }
            }
            Race::Head => {
                self.push(&one, &layer).await;
                self.about(GRACE).await;
                self.push(&one, &config()).await;
                let begun = Instant::now();
                let target = format!("/v2/{one}/blobs/{}", layer.digest);
                let (head, _) = self.ask(Request::head(target)).await;
                match head.status {
                    200 => vec![self.tag_what_is_there(&one, begun).await],
                    404 => vec![self.push_whole(&one, "pushed").await],
                    _ => panic!("{head}"),
                }
            }
            Race::Delete => {
                let former = self.push_whole(&one, "former").await;
                let elsewhere = self.push_whole(&two, "elsewhere").await;
                self.delete(&former).await;
                // When the links of what was deleted are let go, and when they go.
                let due = *self.random.pick(&[GRACE, 2 * GRACE, HISTORY]);
                self.about(due).await;
                vec![self.push_whole(&one, "newer").await, elsewhere]
            }
            Race::Restore => {
                let image = self.push_whole(&one, "image").await;
                let begun = Instant::now();
                self.delete(&image).await;
                let due = *self.random.pick(&[GRACE, 2 * GRACE, HISTORY]);
                self.about(due).await;
                let target = format!("/v2/{one}/_portolan/restore?digest={}", image.manifest.digest);
                let (restored, again) = self.ask(Request::post(target).body("")).await;
                match restored.status {
                    200 => {
                        // Asked again, what is done is done.
                        let expected = json!([image.manifest.digest]);
                        assert!(again || restored.json()["manifests"] == expected, "{restored}");
                        vec![image]
                    }
                    404 => {
                        assert!(begun.elapsed() >= HISTORY, "{restored}");
                        Vec::new()
                    }
                    _ => panic!("{restored}"),
                }
            }
        }
    }

    async fn delete(&mut self, image: &Whole) {
        let target = format!("/v2/{}/manifests/{}", image.repository, image.manifest.digest);
        match self.ask(Request::delete(target)).await {
            (answer, true) if answer.status == 404 => {}
            (answer, _) => {
                answer.expect(202);
            }
        }
    }
}

fn config() -> Blob {
    Blob::new("{}")
}

/// A mesh over the same stores as others.
async fn mesh(tables: &DynamoConfig, s3: &S3Config) -> Mesh {
    mesh_over(tables, s3, &Limits::default(), |plan| plan.limits(hasten)).await
}

/// Starts a mesh and kills its members, again and again, until `done`.
async fn kill(
    tables: &DynamoConfig,
    s3: &S3Config,
    doors: &Mutex<Vec<SocketAddr>>,
    done: &CancellationToken,
    mut random: Random,
) -> usize {
    let mut killed = 0;
    while !done.is_cancelled() {
        let mut others = mesh(tables, s3).await;
        doors.lock().extend((0..MEMBERS).map(|n| others.door(n)));
        for n in 0..MEMBERS {
            let life = Duration::from_millis(random.below(2_000));
            let _ = done.run_until_cancelled(tokio::time::sleep(life)).await;
            others.crash(n).await;
            doors.lock().retain(|door| *door != others.door(n));
            killed += 1;
        }
    }
    killed
}

/// Runs all races.
async fn race(name: &str, beside: Beside) {
    let (tables, s3) = (dynamo_config(&dynamo_server()), s3_config(&s3_server()));
    let one = mesh(&tables, &s3).await;
    let others = match beside {
        Beside::Others => Some(mesh(&tables, &s3).await),
        Beside::Nobody | Beside::Killed => None,
    };
    let known = [&one].into_iter().chain(&others);
    let doors = known.flat_map(|mesh| (0..MEMBERS).map(|n| mesh.door(n)));
    let doors = Mutex::new(doors.collect());
    let rounds = RACES.len() * if thorough() { 500 } else { 8 };
    let seed = run_seed(name);
    let raced = (0..rounds).map(|n| {
        let round = Round {
            mesh: &one,
            beside,
            doors: &doors,
            name: format!("round-{n}"),
            layer: Blob::named(&format!("layer {seed} {n}"), 1000 + n),
            random: Random::seeded(seed ^ (n as u64) << 32),
        };
        round.run(RACES[n % RACES.len()])
    });
    let done = CancellationToken::new();
    let raced = async {
        let whole: Vec<Vec<Whole>> = stream::iter(raced).buffer_unordered(AT_ONCE).collect().await;
        done.cancel();
        whole.into_iter().flatten().collect::<Vec<_>>()
    };
    let killing = async {
        match beside {
            Beside::Killed => kill(&tables, &s3, &doors, &done, Random::seeded(seed)).await,
            Beside::Nobody | Beside::Others => 0,
        }
    };
    let (whole, killed) = tokio::join!(raced, killing);
    println!(
        "{rounds} races with the collector, {killed} members killed: {} images are to be whole",
        whole.len()
    );
    let mut digests = BTreeSet::from([config().digest]);
    for (n, image) in whole.iter().enumerate() {
        let client = one.client(n % MEMBERS);
        let at = |rest: &str| format!("/v2/{}/{rest}", image.repository);
        let manifest = client
            .get(at(&format!("manifests/{}", image.manifest.digest)))
            .await;
        manifest.unwrap().expect(200).with_body(&image.manifest.bytes);
        let layer = client.get(at(&format!("blobs/{}", image.layer.digest))).await;
        layer.unwrap().expect(200).with_body(&image.layer.bytes);
        digests.insert(image.layer.digest.clone());
    }
    eventually(
        "the bucket has an object for each blob, and nothing else",
        || async { bucket(&s3).await.len() == digests.len() },
    )
    .await;
    for mesh in others.into_iter().chain([one]) {
        mesh.stop().await;
    }
    dynamo_delete(&tables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_while_it_is_collected_is_whole() {
    race(
        "what_is_acknowledged_while_it_is_collected_is_whole",
        Beside::Nobody,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_whole_where_two_collect_at_once_and_owners_change() {
    race(
        "it_is_whole_where_two_collect_at_once_and_owners_change",
        Beside::Others,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_whole_where_members_are_killed() {
    race("it_is_whole_where_members_are_killed", Beside::Killed).await;
}
