//! Clients that pull what another registry has, while that has bad times, members fail, and what nobody keeps or needs goes.
//!
//! What ends whole is right, always. What was here once is whole in the end; what is kept stays when the other registry is down.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Door,
    upstream::{Times, Upstream},
};
use crate::{
    mirror::fake::{blob_path, manifest_path},
    support::{
        client::{Answer, Ask as _, Request},
        content::{Blob, Manifest, Random},
    },
};

const REPOSITORIES: [&str; 2] = ["mirrored/app", "mirrored/two/three"];
/// Retention takes those that begin with an `x`; they come again when somebody asks for them.
const TAGS: [&str; 3] = ["v-0", "v-1", "x-0"];
const CLIENTS: u64 = 4;
const ROUNDS: usize = 12;
/// Of a mesh that is well.
const AT_ONCE: u64 = 6;
const TRIES: usize = 60;

/// An image that the other registry has.
struct Image {
    repository: &'static str,
    tag: &'static str,
    manifest: Manifest,
    blobs: Vec<Blob>,
}

/// See the module.
pub(super) struct Mirrored {
    doors: Vec<Door>,
    upstream: Upstream,
    // The newest of a tag comes after those that it named before.
    images: Mutex<Vec<Arc<Image>>>,
}

/// How often a manifest or a blob came whole, and how often not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pulled {
    pub(super) whole: usize,
    pub(super) not: usize,
}

impl Mirrored {
    /// An image for each tag is there already.
    pub(super) fn new(doors: &[Door], upstream: Upstream, seed: u64) -> Self {
        let mirrored = Self {
            doors: doors.to_vec(),
            upstream,
            images: Mutex::default(),
        };
        let mut random = Random::seeded(seed);
        for repository in REPOSITORIES {
            for tag in TAGS {
                mirrored.publish(repository, tag, &mut random);
            }
        }
        mirrored
    }

    /// Another image is what the tag names there.
    fn publish(&self, repository: &'static str, tag: &'static str, random: &mut Random) -> Arc<Image> {
        let lengths = [200, 1 + random.below(6_000), 10_000 + random.below(50_000)];
        let blobs = lengths.map(|length| Blob::new(random.bytes(length as usize)));
        let [config, layers @ ..] = &blobs;
        let manifest = Manifest::image(config, &layers.iter().collect::<Vec<_>>()).build();
        for blob in &blobs {
            self.upstream.keep(repository, blob);
        }
        self.upstream.name(repository, tag, &manifest);
        let image = Arc::new(Image {
            repository,
            tag,
            manifest,
            blobs: blobs.to_vec(),
        });
        self.images.lock().push(image.clone());
        image
    }

    /// What each tag names there now.
    fn newest(&self) -> Vec<Arc<Image>> {
        let images = self.images.lock();
        let newest = |repository, tag| {
            let mut images = images.iter().rev();
            images
                .find(|image| (image.repository, image.tag) == (repository, tag))
                .cloned()
        };
        let tags = REPOSITORIES
            .iter()
            .flat_map(|repository| TAGS.map(|tag| (*repository, tag)));
        tags.filter_map(|(repository, tag)| newest(repository, tag))
            .collect()
    }

    /// Clients pull, whatever fails.
    pub(super) async fn run(&self, seed: u64) -> Pulled {
        let clients = (0..CLIENTS).map(|number| {
            let random = Random::seeded(seed ^ number << 16);
            self.client(random).live()
        });
        let mut all = Pulled::default();
        for Pulled { whole, not } in futures_util::future::join_all(clients).await {
            all.whole += whole;
            all.not += not;
        }
        all
    }

    fn client(&self, random: Random) -> Client<'_> {
        Client {
            all: self,
            random,
            pulled: Pulled::default(),
        }
    }

    /// Of a mesh that is well, many ask for the same at once; asserts that the other registry is asked for each blob once at a time,
    /// though it has bad times.
    pub(super) async fn run_when_the_mesh_is_well(&self, seed: u64) {
        self.upstream.shared_badly();
        let mut random = Random::seeded(seed);
        let done = CancellationToken::new();
        let pulls = async {
            for _ in 0..4 {
                let (repository, tag) = (*random.pick(&REPOSITORIES), *random.pick(&TAGS));
                let image = self.publish(repository, tag, &mut random);
                let clients = (0..AT_ONCE).map(|number| {
                    let client = self.client(Random::seeded(random.number() ^ number));
                    client.pull_until_whole(image.clone())
                });
                futures_util::future::join_all(clients.collect::<Vec<_>>()).await;
            }
            done.cancel();
        };
        tokio::join!(pulls, self.upstream.reign(&done));
        let shared_badly = self.upstream.shared_badly();
        assert!(shared_badly.is_empty(), "{shared_badly:?}");
    }

    /// Asserts that everything that was ever there comes whole through every member, and that then nothing is fetched any more.
    pub(super) async fn check(&self) {
        for image in self.newest() {
            for door in &self.doors {
                whole(door, &image, image.tag).await;
            }
        }
        let images = self.images.lock().clone();
        for image in images {
            for door in &self.doors {
                whole(door, &image, &image.manifest.digest).await;
            }
        }
        // Referrers are asked for behind a pull.
        sleep(Duration::from_secs(60)).await;
        self.upstream.check();
    }

    /// Asserts that what is kept is here, though the other registry is down.
    pub(super) async fn check_alone(&self) {
        self.upstream.be(Times::Down);
        for image in self.newest() {
            if image.tag.starts_with('v') {
                for door in &self.doors {
                    whole(door, &image, image.tag).await;
                }
            }
        }
    }
}

/// Asserts that the image comes whole.
async fn whole(door: &Door, image: &Image, reference: &str) {
    let Image {
        repository,
        manifest,
        blobs,
        ..
    } = image;
    let answer = door.get(manifest_path(repository, reference)).await.unwrap();
    answer.expect(200).with_body(&manifest.bytes);
    for blob in blobs {
        let answer = door.get(blob_path(repository, &blob.digest)).await.unwrap();
        answer.expect(200).with_body(&blob.bytes);
    }
}

/// Somebody who pulls.
struct Client<'a> {
    all: &'a Mirrored,
    random: Random,
    pulled: Pulled,
}

impl Client<'_> {
    async fn live(mut self) -> Pulled {
        for _ in 0..ROUNDS {
            let pause = self.random.below(60_000);
            sleep(Duration::from_millis(pause)).await;
            let (repository, tag) = (*self.random.pick(&REPOSITORIES), *self.random.pick(&TAGS));
            if self.random.below(6) == 0 {
                self.all.publish(repository, tag, &mut self.random);
            }
            let image = match self.random.below(3) {
                0 => {
                    let images = self.all.images.lock().clone();
                    let image = self.random.pick(&images).clone();
                    self.manifest(image.repository, &image.manifest.digest).await
                }
                _ => self.manifest(repository, tag).await,
            };
            if let Some(image) = image {
                self.blobs(&image).await;
            }
        }
        self.pulled
    }

    async fn pull_until_whole(mut self, image: Arc<Image>) {
        for _ in 0..TRIES {
            let came = self.manifest(image.repository, &image.manifest.digest).await;
            if came.is_some() && self.blobs(&image).await {
                return;
            }
            sleep(Duration::from_secs(5)).await;
        }
        panic!("never whole: {}:{}", image.repository, image.tag);
    }

    /// The image that the reference names, if that is told.
    async fn manifest(&mut self, repository: &str, reference: &str) -> Option<Arc<Image>> {
        let answer = self
            .ask(Request::get(manifest_path(repository, reference)))
            .await?;
        let images = self.all.images.lock();
        let mut images = images.iter().filter(|image| image.repository == repository);
        let image = images.find(|image| image.manifest.bytes == answer.body);
        let image = image.unwrap_or_else(|| panic!("that never was there: {answer}"));
        let names = [image.tag, &image.manifest.digest];
        assert!(names.contains(&reference), "{reference} never was that: {answer}");
        Some(image.clone())
    }

    /// Pulls the blobs of an image in any order; whether all came whole.
    async fn blobs(&mut self, image: &Image) -> bool {
        let mut all_came = true;
        let begin = self.random.below(image.blobs.len() as u64) as usize;
        let (rest, first) = image.blobs.split_at(begin);
        for blob in first.iter().chain(rest) {
            all_came &= self.blob(image.repository, blob).await.is_some();
        }
        all_came
    }

    async fn blob(&mut self, repository: &str, blob: &Blob) -> Option<()> {
        let path = blob_path(repository, &blob.digest);
        let length = blob.len() as u64;
        match self.random.below(6) {
            // Nobody knows yet whether the length that it tells is true.
            0 => drop(self.ask(Request::head(&path)).await?),
            1 => {
                let first = self.random.below(length);
                let last = first + self.random.below(length - first);
                let part = Request::get(&path).header("range", format!("bytes={first}-{last}"));
                let answer = self.ask(part).await?.expect(206);
                answer.with_body(&blob.bytes[first as usize..=last as usize]);
            }
            // Who doesn't wait for it.
            2 => {
                let patience = Duration::from_millis(self.random.below(2_000));
                let _ = timeout(patience, self.ask(Request::get(&path))).await;
            }
            _ => {}
        }
        let answer = self.ask(Request::get(path)).await?.expect(200);
        answer.with_body(&blob.bytes);
        Some(())
    }

    /// What is asked for, if it comes whole. It is there, so nobody says that it isn't; but a tag may go by retention just when
    /// upstream has said that it still names what is here.
    async fn ask(&mut self, request: Request) -> Option<Answer> {
        let door = self.random.pick(&self.all.doors).clone();
        let may_go = request.target.contains("/manifests/x-");
        let answer = door.ask(request).await.ok();
        match answer.as_ref().map(|answer| answer.status) {
            Some(200 | 206) => self.pulled.whole += 1,
            None | Some(429 | 502..=504 | 507) => self.pulled.not += 1,
            Some(404) if may_go => self.pulled.not += 1,
            Some(_) => panic!("{}", answer.as_ref().map_or(String::new(), ToString::to_string)),
        }
        answer.filter(|answer| matches!(answer.status, 200 | 206))
    }
}
