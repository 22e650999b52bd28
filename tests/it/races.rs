//! Two requests at work on one upload session at once, through different members.
//!
//! A client or a balancer that sends a chunk again, or two clients that share a session by mistake: what is published
//! under a digest is what has that digest, whoever else pushes it, and wherever.

use bytes::Bytes;
use http::Method;

use crate::support::{
    client::{Answer, Ask as _, Client, Request, chunk, finish, octets, with_digest},
    content::{Blob, Random, run_seed, sha256},
    mesh::{MEMBERS, Mesh, PART},
};

/// Lengths of a chunk: one object, and several parts with something left over.
const SMALL: usize = 3000;
const LARGE: usize = 3 * PART + 1234;

/// Rounds with each.
fn rounds() -> impl Iterator<Item = (usize, usize)> {
    (0..48_usize).map(|round| (round, if round % 2 == 0 { SMALL } else { LARGE }))
}

pub(crate) struct Race {
    mesh: Mesh,
    doors: Vec<Client>,
    repository: String,
    /// Where others push the same content, in peace.
    elsewhere: String,
    random: Random,
    /// Through how many members what was acknowledged is read.
    readers: usize,
    /// In every how many rounds content is pushed elsewhere, too.
    elsewhere_every: usize,
    // What has to be readable at the end.
    acknowledged: Vec<(String, String)>,
}

impl Race {
    async fn begin(test: &str) -> Self {
        Self::on(Mesh::of_three().await, test)
    }

    pub(crate) fn on(mesh: Mesh, test: &str) -> Self {
        let random = Random::seeded(run_seed(test));
        let doors = mesh.clients();
        let repository = mesh.names().owned_by(0, "race");
        let elsewhere = mesh.names().owned_by(1, "peace");
        Self {
            mesh,
            doors,
            repository,
            elsewhere,
            random,
            readers: MEMBERS,
            elsewhere_every: 1,
            acknowledged: Vec::new(),
        }
    }

    /// With fewer bytes beside those that race.
    pub(crate) fn sparing(mut self) -> Self {
        (self.readers, self.elsewhere_every) = (1, 5);
        self
    }

    fn door(&mut self) -> Client {
        self.random.pick(&self.doors).clone()
    }

    /// A new session that has taken `before`, if that isn't empty.
    async fn session(&mut self, before: &Bytes) -> String {
        let location = self
            .door()
            .start(&self.repository)
            .await
            .unwrap()
            .expect(202)
            .location();
        if !before.is_empty() {
            self.door()
                .ask(chunk(&location, 0, before.clone()))
                .await
                .unwrap()
                .expect(202);
        }
        location
    }

    /// Sends two requests at once through two different members.
    async fn both(&mut self, one: Request, other: Request) -> [Answer; 2] {
        let first = self.random.below(MEMBERS as u64) as usize;
        let second = (first + 1 + self.random.below(MEMBERS as u64 - 1) as usize) % MEMBERS;
        let (one, other) = tokio::join!(self.doors[first].ask(one), self.doors[second].ask(other));
        [one.unwrap(), other.unwrap()]
    }

    fn holds(&mut self, repository: &str, digest: &str) {
        self.acknowledged.push((repository.to_owned(), digest.to_owned()));
    }

    /// Pushes content where nobody races.
    async fn push_elsewhere(&mut self, content: &Bytes) {
        let blob = Blob::new(content.clone());
        self.door()
            .push_blob(&self.elsewhere, &blob)
            .await
            .unwrap()
            .expect(201);
        self.holds(&self.elsewhere.clone(), &blob.digest);
    }

    /// A round in which one chunk of `length` bytes is sent twice at once.
    pub(crate) async fn one_chunk_twice(&mut self, round: usize, length: usize) {
        let before = self.random.bytes(if round % 4 < 2 { 0 } else { 1000 });
        let content = self.random.bytes(length);
        let location = self.session(&before).await;
        let request = chunk(&location, before.len(), content.clone());
        let answers = self.both(request.clone(), request).await;
        one_accepted(&answers);
        let whole = Blob::new([&before[..], &content[..]].concat());
        let status = self.door().get(location.clone()).await.unwrap().expect(204);
        assert_eq!(status.must("range"), format!("0-{}", whole.len() - 1));
        self.door()
            .ask(finish(&location, &whole.digest))
            .await
            .unwrap()
            .expect(201);
        self.holds(&self.repository.clone(), &whole.digest);
    }

    /// A round in which two chunks of `length` bytes are sent at once, of which one fits.
    pub(crate) async fn two_chunks(&mut self, round: usize, length: usize) {
        let before = self.random.bytes(if round % 4 < 2 { 0 } else { 1000 });
        let contents = [self.random.bytes(length), self.random.bytes(length)];
        let wholes = contents
            .each_ref()
            .map(|content| Blob::new([&before[..], &content[..]].concat()));
        // Someone has, or will have, pushed what loses.
        let elsewhere = round.is_multiple_of(self.elsewhere_every);
        let pushed_first = elsewhere && (round / self.elsewhere_every).is_multiple_of(3);
        if pushed_first {
            self.push_elsewhere(&wholes[0].bytes).await;
        }
        let location = self.session(&before).await;
        let [one, other] = contents.map(|content| chunk(&location, before.len(), content));
        let answers = self.both(one, other).await;
        let winner = one_accepted(&answers);
        if round.is_multiple_of(2) {
            self.door()
                .ask(finish(&location, &wholes[winner].digest))
                .await
                .unwrap()
                .expect(201);
            self.holds(&self.repository.clone(), &wholes[winner].digest);
        } else {
            // The loser finishes without having looked: it isn't what came.
            let request = finish(&location, &wholes[1 - winner].digest);
            self.door()
                .ask(request)
                .await
                .unwrap()
                .error(400, "DIGEST_INVALID");
            let repository = self.repository.clone();
            let target = format!("/v2/{repository}/blobs/{}", wholes[1 - winner].digest);
            self.door().head(target).await.unwrap().expect(404);
        }
        for whole in wholes.iter().filter(|_| elsewhere) {
            self.push_elsewhere(&whole.bytes).await;
        }
    }

    /// Every acknowledged blob reads back through every member as its digest says.
    pub(crate) async fn end(self) {
        assert!(!self.acknowledged.is_empty());
        for (n, (repository, digest)) in self.acknowledged.iter().enumerate() {
            for door in self.doors.iter().cycle().skip(n % MEMBERS).take(self.readers) {
                let answer = door
                    .get(format!("/v2/{repository}/blobs/{digest}"))
                    .await
                    .unwrap()
                    .expect(200);
                assert_eq!(sha256(&answer.body), *digest, "in {repository}");
            }
        }
        self.mesh.stop().await;
    }
}

/// The answers of which one is 202 and the other 416, the accepted one first; whether they came in this order.
fn one_accepted(answers: &[Answer; 2]) -> usize {
    match answers.each_ref().map(|answer| answer.status) {
        [202, 416] => 0,
        [416, 202] => 1,
        _ => panic!(
            "not one accepted and the other refused:\n{}\n{}",
            answers[0], answers[1]
        ),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_chunk_sent_twice_at_once_is_taken_once() {
    let mut race = Race::begin("one_chunk_sent_twice_at_once_is_taken_once").await;
    for (round, length) in rounds() {
        race.one_chunk_twice(round, length).await;
    }
    race.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_chunks_racing_one_is_taken_and_none_mixed() {
    let mut race = Race::begin("of_two_chunks_racing_one_is_taken_and_none_mixed").await;
    for (round, length) in rounds() {
        race.two_chunks(round, length).await;
    }
    race.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_streams_without_a_range_none_is_mixed() {
    let mut race = Race::begin("of_two_streams_without_a_range_none_is_mixed").await;
    for (_, length) in rounds() {
        let contents = [race.random.bytes(length), race.random.bytes(length)];
        let location = race.session(&Bytes::new()).await;
        let [one, other] = contents.each_ref().map(|content| {
            let pieces = content
                .chunks(7000)
                .map(|piece| content.slice_ref(piece))
                .collect();
            octets(Request::patch(&location)).pieces(pieces)
        });
        let answers = race.both(one, other).await;
        // Without a range both may be right, one after the other.
        let taken: Vec<usize> = (0..2).filter(|n| answers[*n].status == 202).collect();
        let orders: Vec<Vec<u8>> = match taken[..] {
            [n] => {
                answers[1 - n].clone().expect(416);
                vec![contents[n].to_vec()]
            }
            [_, _] => vec![contents.concat(), [&contents[1][..], &contents[0][..]].concat()],
            _ => panic!("none was taken:\n{}\n{}", answers[0], answers[1]),
        };
        let mut finished = 0;
        for order in orders {
            let whole = Blob::new(order);
            let answer = race.door().ask(finish(&location, &whole.digest)).await.unwrap();
            if answer.status == 201 {
                race.holds(&race.repository.clone(), &whole.digest);
                finished += 1;
            }
        }
        // A wrong digest ends a session, so with two orders the first guess may have spoiled the second.
        assert!(finished == 1 || taken.len() == 2);
    }
    race.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_ends_racing_at_most_one_is_taken() {
    let mut race = Race::begin("of_two_ends_racing_at_most_one_is_taken").await;
    for (round, length) in rounds() {
        let before = race.random.bytes(if round % 4 < 2 { 0 } else { 1000 });
        let location = race.session(&before).await;
        let wholes = [0, 1].map(|_| Blob::new([&before[..], &race.random.bytes(length)[..]].concat()));
        let same = round % 3 == 0;
        let end = |whole: &Blob| {
            octets(Request::put(with_digest(&location, &whole.digest)))
                .body(whole.bytes.slice(before.len()..))
        };
        let requests = if same {
            [end(&wholes[0]), end(&wholes[0])]
        } else {
            [end(&wholes[0]), end(&wholes[1])]
        };
        let [one, other] = requests;
        let answers = race.both(one, other).await;
        let taken: Vec<usize> = (0..2).filter(|n| answers[*n].status == 201).collect();
        assert!(
            !taken.is_empty() && (same || taken.len() == 1),
            "{}\n{}",
            answers[0],
            answers[1]
        );
        for n in 0..2 {
            let whole = &wholes[if same { 0 } else { n }];
            if taken.contains(&n) {
                race.holds(&race.repository.clone(), &whole.digest);
            } else {
                assert!(matches!(answers[n].status, 404 | 416), "{}", answers[n]);
                assert!(
                    !same || answers[n].status == 416,
                    "the upload is known: {}",
                    answers[n]
                );
            }
        }
        // The one that was taken is asked for again, of any member.
        let again = finish(&location, &wholes[if same { 0 } else { taken[0] }].digest);
        race.door().ask(again).await.unwrap().expect(201);
        for whole in &wholes {
            race.push_elsewhere(&whole.bytes).await;
        }
    }
    race.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_racing_with_a_chunk_or_a_cancel_is_true_to_its_answer() {
    let mut race = Race::begin("an_end_racing_with_a_chunk_or_a_cancel_is_true_to_its_answer").await;
    for (round, length) in rounds() {
        let whole = Blob::new(race.random.bytes(length));
        let location = race.session(&whole.bytes).await;
        let other = match round % 4 {
            0 | 1 => chunk(&location, length, race.random.bytes(length)),
            _ => Request::new(Method::DELETE, &location),
        };
        let end = finish(&location, &whole.digest);
        let [ended, other] = race.both(end, other).await;
        let target = format!("/v2/{}/blobs/{}", race.repository, whole.digest);
        match (ended.status, other.status) {
            (201, _) => {
                race.holds(&race.repository.clone(), &whole.digest);
                assert!(matches!(other.status, 404 | 416), "{ended}\n{other}");
            }
            // The other one came first.
            (400 | 404 | 416, 202 | 204) => {
                race.door().head(target).await.unwrap().expect(404);
            }
            _ => panic!("{ended}\n{other}"),
        }
    }
    race.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_content_pushed_by_many_at_once_is_there_for_all() {
    let mut race = Race::begin("one_content_pushed_by_many_at_once_is_there_for_all").await;
    for (_, length) in rounds().take(16) {
        let blob = Blob::new(race.random.bytes(length));
        let mut pushes = tokio::task::JoinSet::new();
        for n in 0..9 {
            let (door, blob) = (race.doors[n % MEMBERS].clone(), blob.clone());
            let repository = race.mesh.names().owned_by(n / MEMBERS, "many");
            race.holds(&repository, &blob.digest);
            pushes.spawn(async move {
                let answer = match n % 3 {
                    0 => door.push_blob(&repository, &blob).await,
                    1 => door.push_blob_in_two(&repository, &blob).await,
                    _ => door.push_blob_in_chunks(&repository, &blob, 70_000).await,
                };
                answer.unwrap().expect(201);
            });
        }
        pushes.join_all().await;
    }
    race.end().await;
}
