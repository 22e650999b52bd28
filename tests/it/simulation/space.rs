//! Clients whose images come, go and come back, while members collect what nobody needs and retention takes what nobody keeps.
//!
//! Each image has a layer of its own and only its client touches it, so the client knows what must be there, but for what it wasn't
//! told. In the end time passes until all that may go has gone: what must be there is there, byte for byte, and of the rest nothing.

use std::{collections::BTreeMap, time::Duration};

use portolan::{
    config::{Limits, Retention},
    oci::Digest,
    storage::{MetaStore, keys},
};
use tokio::time::{Instant, sleep};

use super::Door;
use crate::support::{
    client::{Answer, Ask as _, Request},
    content::{Blob, Manifest, Random, sha256},
};

const REPOSITORIES: [&str; 2] = ["space/app", "space/other"];
const CLIENTS: u64 = 3;
const ROUNDS: usize = 8;
/// Longer than members' clocks differ, and than most of what chaos holds up.
pub(super) const GRACE: Duration = Duration::from_secs(6 * 60);
const HISTORY: Duration = Duration::from_secs(9 * 60);
/// After its push a tag is left to retention.
const DELAY: Duration = Duration::from_secs(10 * 60);
/// From look to look at what is due, and longer than members' clocks differ.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);
const TRIES: usize = 20;
/// Longer than a request lives whose client has heard nothing of it: it may still change something.
const STRAY: Duration = Duration::from_secs(150);

/// What members collect, and when.
pub(super) fn hasten(limits: &mut Limits) {
    (limits.upkeep.interval, limits.collection.interval) = (INTERVAL, INTERVAL);
    let limits = &mut limits.registry;
    limits.link_grace = GRACE;
    limits.history = HISTORY;
    limits.object_delay = INTERVAL;
    limits.clock_margin = INTERVAL;
}

/// Tags that begin with an `x` go, in these repositories and in those that are mirrored.
pub(super) fn retention() -> Retention {
    let text = "storage: {rootDirectory: /d, retention: {delay: DELAY, policies: [{repositories: ['space/**', 'mirrored/**'], keepTags: [{patterns: ['^v']}]}]}}";
    let text = text.replace("DELAY", &format!("{}s", DELAY.as_secs()));
    portolan::config::parse(std::path::Path::new("c.yaml"), &text)
        .unwrap()
        .retention
}

/// Longer than anything waits.
pub(super) async fn let_time_pass() {
    sleep(DELAY + HISTORY + 3 * (GRACE + 3 * INTERVAL)).await;
}

/// What must be true of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was pushed, or brought back, to stay.
    There,
    /// It was deleted.
    Gone,
    /// Nobody said what became of the last change.
    Unknown,
    /// It was pushed, or brought back: retention takes it, sooner or later.
    Passing,
}

impl State {
    /// Of what was pushed, or brought back, with this tag.
    fn of(tag: &str) -> Self {
        match tag.starts_with('x') {
            true => Self::Passing,
            false => Self::There,
        }
    }
}

/// An image, and what its client was told.
#[derive(Clone, Debug)]
pub(super) struct Image {
    repository: &'static str,
    tag: String,
    layer: Blob,
    manifest: Manifest,
    state: State,
    /// When it was deleted, before that was asked for.
    deleted: Option<Instant>,
}

/// What clients did, and how often they were told what came of it.
pub(super) type Raced = BTreeMap<&'static str, usize>;

/// Lets images come and go; gives them all.
pub(super) async fn run(doors: &[Door], seed: u64) -> (Vec<Image>, Raced) {
    let clients = (0..CLIENTS).map(|number| {
        let client = Client {
            doors,
            number,
            random: Random::seeded(seed ^ number << 32),
            images: Vec::new(),
            raced: Raced::new(),
        };
        client.live()
    });
    let (mut images, mut raced) = (Vec::new(), Raced::new());
    for client in futures_util::future::join_all(clients).await {
        images.extend(client.images);
        for (what, times) in client.raced {
            *raced.entry(what).or_default() += times;
        }
    }
    (images, raced)
}

/// Asserts that what must be there is there, through every member, and that of what mustn't be nothing is left in the store.
pub(super) async fn check(doors: &[Door], images: &[Image], meta: &dyn MetaStore) {
    for image in images {
        let at = |rest: String| format!("/v2/{}/{rest}", image.repository);
        let manifest = at(format!("manifests/{}", image.manifest.digest));
        let layer = at(format!("blobs/{}", image.layer.digest));
        let mut statuses = Vec::new();
        for door in doors {
            let answer = door.get(manifest.clone()).await.unwrap();
            statuses.push(answer.status);
            if answer.status == 200 {
                assert_eq!(sha256(&answer.body), image.manifest.digest);
                let answer = door.get(layer.clone()).await.unwrap().expect(200);
                assert_eq!(sha256(&answer.body), image.layer.digest);
            }
        }
        statuses.dedup();
        match (image.state, statuses.as_slice()) {
            (State::There, [200]) => {}
            (State::Gone | State::Passing, [404]) => {
                let digest = Digest::parse(&image.layer.digest).unwrap();
                let record = meta.get(&keys::blob(&digest)).await.unwrap();
                assert!(record.is_none(), "{} has left its layer: {image:?}", image.tag);
            }
            (State::Unknown, [200 | 404]) => {}
            _ => panic!("{statuses:?} for {}: {image:?}", image.tag),
        }
    }
}

/// Somebody with images.
struct Client<'a> {
    doors: &'a [Door],
    number: u64,
    random: Random,
    images: Vec<Image>,
    raced: Raced,
}

impl Client<'_> {
    async fn live(mut self) -> Self {
        for round in 0..ROUNDS {
            let pause = self.random.below(90_000);
            sleep(Duration::from_millis(pause)).await;
            let known = self.images.len() as u64;
            match self.random.below(8) {
                0..=2 => self.push(round, "v").await,
                3 => self.push(round, "x").await,
                4 | 5 if known > 0 => self.delete().await,
                6 if known > 0 => self.restore().await,
                7 if known > 0 => self.push_what_is_there(round).await,
                _ => self.push(round, "v").await,
            }
        }
        self
    }

    fn count(&mut self, what: &'static str) {
        *self.raced.entry(what).or_default() += 1;
    }

    /// An answer that says what happened; `None` when none does. What may have been done without one may be done again.
    async fn ask(&mut self, request: &Request) -> Option<Answer> {
        let mut answered = None;
        for tries in 0..TRIES {
            let door = self.random.pick(self.doors).clone();
            answered = match door.ask(request.clone()).await {
                Ok(answer) if !answer.is_unavailable() => Some(answer),
                Ok(_) | Err(_) => None,
            };
            match (&answered, tries) {
                (Some(_), 0) => return answered,
                (Some(_), _) => break,
                (None, _) => sleep(Duration::from_secs(3)).await,
            }
        }
        sleep(STRAY).await;
        answered
    }

    async fn push(&mut self, round: usize, kind: &str) {
        let layer = Blob::new(self.random.bytes(500));
        let repository = *self.random.pick(&REPOSITORIES);
        self.push_with(round, kind, repository, layer, Layer::Pushed)
            .await;
    }

    /// Relies on a layer that a HEAD or a mount said is there, though its image may be gone.
    async fn push_what_is_there(&mut self, round: usize) {
        let Image {
            repository, layer, ..
        } = self.random.pick(&self.images).clone();
        let (begun, digest) = (Instant::now(), &layer.digest);
        let to = *self.random.pick(&REPOSITORIES);
        let (what, request) = match to == repository {
            true => ("head", Request::head(format!("/v2/{to}/blobs/{digest}"))),
            false => {
                let target = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={repository}");
                ("mount", Request::post(target).body(""))
            }
        };
        let Some(answer) = self.ask(&request).await else {
            return;
        };
        self.count(what);
        match answer.status {
            200 | 201 => {}
            // For a mount that it may be pushed.
            404 | 202 => return,
            _ => panic!("{answer}"),
        }
        // Half of that is promised, and chaos takes its time.
        let pause = self.random.below(GRACE.as_millis() as u64 / 4);
        sleep(Duration::from_millis(pause)).await;
        self.push_with(round, "v", to, layer, Layer::There(begun)).await;
    }

    async fn push_with(
        &mut self,
        round: usize,
        kind: &str,
        repository: &'static str,
        layer: Blob,
        is: Layer,
    ) {
        let config = Blob::named(&format!("config {}", self.number), 40);
        let (pushed, begun, promised): (&[&Blob], _, _) = match is {
            Layer::Pushed => (&[&config, &layer], Instant::now(), GRACE),
            Layer::There(begun) => (&[&config], begun, GRACE / 2),
        };
        for blob in pushed {
            let target = format!("/v2/{repository}/blobs/uploads/?digest={}", blob.digest);
            let request = Request::post(target)
                .header("content-type", "application/octet-stream")
                .body(blob.bytes.clone());
            let Some(answer) = self.ask(&request).await else {
                return;
            };
            answer.expect(201);
        }
        let tag = format!("{kind}-{}-{round}", self.number);
        let manifest = Manifest::image(&config, &[&layer])
            .annotation("tag", &tag)
            .build();
        let request = Request::put(format!("/v2/{repository}/manifests/{tag}"))
            .header("content-type", crate::support::content::IMAGE)
            .body(manifest.bytes.clone());
        let state = match self.ask(&request).await {
            None => State::Unknown,
            // It took longer than that is promised to stay.
            Some(answer) if answer.status == 404 && begun.elapsed() + INTERVAL > promised => return,
            Some(answer) => {
                answer.expect(201);
                self.count("push");
                State::of(&tag)
            }
        };
        // Its layer stays with the other image.
        if matches!(is, Layer::There(_)) {
            for other in &mut self.images {
                if other.layer.digest == layer.digest && other.state != State::There {
                    other.state = State::Unknown;
                }
            }
        }
        self.images.push(Image {
            repository,
            tag,
            layer,
            manifest,
            state,
            deleted: None,
        });
    }

    /// One of its images, but for those that go by themselves.
    fn image(&mut self) -> Option<usize> {
        let n = self.random.below(self.images.len() as u64) as usize;
        (self.images[n].state != State::Passing).then_some(n)
    }

    async fn delete(&mut self) {
        let Some(n) = self.image() else { return };
        let Image {
            repository, manifest, ..
        } = &self.images[n];
        let request = Request::delete(format!("/v2/{repository}/manifests/{}", manifest.digest));
        if self.images[n].state == State::There {
            self.images[n].deleted = Some(Instant::now());
        }
        self.images[n].state = match self.ask(&request).await {
            None => State::Unknown,
            Some(answer) => {
                assert!(matches!(answer.status, 202 | 404), "{answer}");
                self.count("delete");
                State::Gone
            }
        };
        if self.shares(n) && self.images[n].state == State::Gone {
            self.images[n].state = State::Unknown;
        }
    }

    /// Whether another image has its layer, which stays with that one.
    fn shares(&self, n: usize) -> bool {
        let digest = &self.images[n].layer.digest;
        let with_it = self.images.iter().filter(|image| image.layer.digest == *digest);
        with_it.count() > 1
    }

    async fn restore(&mut self) {
        let Some(n) = self.image() else { return };
        let Image {
            repository, manifest, ..
        } = &self.images[n];
        let target = format!("/v2/{repository}/_portolan/restore?digest={}", manifest.digest);
        let answer = self.ask(&Request::post(target).body("")).await;
        answer.iter().for_each(|_| self.count("restore"));
        match answer {
            None => self.images[n].state = State::Unknown,
            Some(answer) if answer.status == 200 => {
                self.images[n].state = match State::of(&self.images[n].tag) {
                    State::Passing if self.shares(n) => State::Unknown,
                    state => state,
                };
            }
            // It isn't kept any more, or never came to be.
            Some(answer) => {
                assert_eq!(answer.status, 404, "{answer}");
                let Image { state, deleted, .. } = &self.images[n];
                let is_kept = deleted.is_some_and(|deleted| deleted.elapsed() + INTERVAL < HISTORY);
                let must_be = *state == State::There || (*state == State::Gone && is_kept);
                assert!(!must_be, "{answer}");
            }
        }
    }
}

/// Where a manifest's layer comes from.
#[derive(Clone, Copy)]
enum Layer {
    /// It is pushed.
    Pushed,
    /// It was there, as a HEAD said that was asked for then.
    There(Instant),
}
