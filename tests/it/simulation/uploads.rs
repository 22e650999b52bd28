//! Clients that push blobs in chunks, each chunk through whichever member, and go on where they stand when one is lost.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Door, PART, space::GRACE};
use crate::support::{
    client::{Answer, Ask as _, Broken, Request, chunk, finish},
    content::{Blob, IMAGE, Manifest, Random, sha256},
};

const REPOSITORY: &str = "blobs";
const CLIENTS: u64 = 2;
const BLOBS: usize = 3;

/// Pushes blobs; gives those that were acknowledged.
pub(super) async fn run(doors: &[Door], seed: u64) -> Vec<Blob> {
    let clients = (0..CLIENTS).map(|client| {
        let random = Random::seeded(seed ^ client << 40);
        Client { doors, random }.push_all()
    });
    futures_util::future::join_all(clients).await.concat()
}

/// Asserts that all of them are there, through every member.
pub(super) async fn check(doors: &[Door], blobs: &[Blob]) {
    for blob in blobs {
        for door in doors {
            let target = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
            let answer = door.get(target).await.unwrap().expect(200);
            assert_eq!(sha256(&answer.body), blob.digest);
        }
    }
}

struct Client<'a> {
    doors: &'a [Door],
    random: Random,
}

impl Client<'_> {
    async fn push_all(mut self) -> Vec<Blob> {
        let mut pushed = Vec::new();
        for _ in 0..BLOBS {
            let length = 2 + self.random.below(4 * PART as u64) as usize;
            let blob = Blob::new(self.random.bytes(length));
            for _ in 0..4 {
                let begun = Instant::now();
                if self.push(&blob).await.is_some() && self.name(&blob, begun).await.is_some() {
                    pushed.push(blob);
                    break;
                }
            }
        }
        pushed
    }

    /// Pushes a manifest that references the blob, or it would be collected; nothing if nobody says that it is there, or it took longer
    /// than the blob waits for that.
    async fn name(&mut self, blob: &Blob, begun: Instant) -> Option<()> {
        let manifest = Manifest::image(blob, &[]).build();
        for _ in 0..20 {
            let target = format!("/v2/{REPOSITORY}/manifests/{}", manifest.digest);
            let push = Request::put(target)
                .header("content-type", IMAGE)
                .body(manifest.bytes.clone());
            match self.ask(push).await {
                Ok(answer) if answer.status == 404 && begun.elapsed() > GRACE / 2 => return None,
                Ok(answer) => {
                    answer.expect(201);
                    return Some(());
                }
                Err(_) => {}
            }
        }
        None
    }

    async fn ask(&mut self, request: Request) -> Result<Answer, Broken> {
        let pause = self.random.below(3_000);
        sleep(Duration::from_millis(pause)).await;
        let answer = self.random.pick(self.doors).ask(request).await?;
        match answer.is_unavailable() {
            true => Err(Broken(answer.to_string())),
            false => Ok(answer),
        }
    }

    /// One session; nothing if it came to nothing.
    async fn push(&mut self, blob: &Blob) -> Option<()> {
        let start = Request::post(format!("/v2/{REPOSITORY}/blobs/uploads/")).header("content-length", "0");
        let location = self.ask(start).await.ok()?.expect(202).location();
        let mut at = 0;
        for _ in 0..40 {
            if at == blob.len() {
                match self.ask(finish(&location, &blob.digest)).await {
                    Ok(answer) if answer.status == 404 => return self.is_there(blob).await,
                    Ok(answer) if answer.status == 416 => {}
                    Ok(answer) => {
                        answer.expect(201).with("docker-content-digest", &blob.digest);
                        return Some(());
                    }
                    Err(_) => {}
                }
            } else {
                let length = (2 + self.random.below(2 * PART as u64) as usize).min(blob.len() - at);
                let bytes = blob.bytes.slice(at..at + length);
                match self.ask(chunk(&location, at, bytes)).await {
                    Ok(answer) if answer.status == 202 => {
                        at += length;
                        continue;
                    }
                    Ok(answer) => assert!(matches!(answer.status, 404 | 416), "{answer}"),
                    Err(_) => {}
                }
            }
            // What became of it is in the session.
            at = self.offset(&location).await?.unwrap_or(at);
        }
        None
    }

    /// How far the session got; nothing when it is over, `None` within when nobody says.
    async fn offset(&mut self, location: &str) -> Option<Option<usize>> {
        let Ok(answer) = self.ask(Request::get(location)).await else {
            return Some(None);
        };
        match answer.status {
            204 => {
                let range = answer.must("range");
                let (_, last) = range.split_once('-').unwrap();
                let last: usize = last.parse().unwrap();
                Some(Some(if last == 0 { 0 } else { last + 1 }))
            }
            404 => None,
            _ => panic!("{answer}"),
        }
    }

    /// Whether a session that is over became the blob.
    async fn is_there(&mut self, blob: &Blob) -> Option<()> {
        let head = Request::head(format!("/v2/{REPOSITORY}/blobs/{}", blob.digest));
        let answer = self.ask(head).await.ok()?;
        (answer.status == 200).then_some(())
    }
}
