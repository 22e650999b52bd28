//! Uploads: sessions that any member can carry on, one request at a time.
//!
//! A session's row says what is acknowledged: so many bytes, the state of their digest, the parts and the tail that hold
//! them. A request reads the row, receives, and replaces it if it still has the version that was read; so of requests at
//! work on one session one is acknowledged, and the others find that the upload moved on. Until then a request only
//! reserves part numbers, and leaves objects under keys that nobody else knows.
//!
//! Up to one part's length a blob is one object, put by the request that ends the session or, when bytes were
//! acknowledged before, the *tail* that this request left. Longer blobs are multipart uploads: full parts, and again a tail
//! for what comes after them, since an object store gives no part back.
//!
//! What is left behind lies under `uploads/<id>/` and is swept when the session's due-row is: a closed session's row
//! names the one object there that is to be kept.

mod aside;
mod end;
mod finish;
mod park;
mod receive;
mod session;
mod unshared;
#[cfg(test)]
mod left;
#[cfg(test)]
mod races;
#[cfg(test)]
mod repeated;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

pub use self::aside::Aside;
pub(super) use self::unshared::Waiting;
use self::{
    receive::{Body, Intake, Received},
    session::{Session, Tail},
    unshared::Unshared,
};
use super::{
    Registry, RegistryError, Result,
    hash::{Hasher, Hashing},
    objects::Written,
    row,
};
use crate::{
    admission::BodyError,
    oci::{Algorithm, ChunkRange, Digest, RepoName, UploadId},
    storage::{Expect, ObjectKey, Op, Part, Payload, Version, keys, rows},
};

/// Parts in one row. A part takes about 50 bytes there.
const PARTS_PER_ROW: usize = 2000;

/// What tells whether a tail that is read back is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TailHash {
    /// A digest of its own.
    OfItself,
    /// That of the session: the tail is all it has.
    OfTheSession,
}

/// An upload session as its client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its name.
    pub id: UploadId,
    /// Bytes acknowledged.
    pub offset: u64,
}

impl Registry {
    /// Begins an upload. Its digest runs with `algorithm` (SHA-256 without); the digest that ends it may still be of
    /// another, at the price of reading everything again.
    pub async fn start_upload(&self, repository: &RepoName, algorithm: Option<Algorithm>) -> Result<Upload> {
        self.check_quota(repository, None, None).await?;
        let session = self
            .open_session(repository, algorithm.unwrap_or(Algorithm::Sha256))
            .await?;
        Ok(Upload {
            id: session.id,
            offset: 0,
        })
    }

    /// How far an upload got.
    pub async fn upload(&self, repository: &RepoName, id: &UploadId) -> Result<Upload> {
        let session = self.session(repository, id).await?;
        Ok(Upload {
            id: session.id,
            offset: session.row.offset,
        })
    }

    /// Adds the body to the upload: all of it, or nothing.
    pub async fn append<B>(
        &self,
        repository: &RepoName,
        id: &UploadId,
        range: Option<ChunkRange>,
        length: Option<u64>,
        mut body: B,
    ) -> Result<Upload>
    where
        B: Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin,
    {
        let session = self.session(repository, id).await?;
        self.append_to(session, repository, range, length, &mut body)
            .await
    }

    /// Adds the body, and makes the repository hold the blob if it all has `digest`. Asked for again, for an answer that was
    /// lost or at the same time, it is the same: the session is remembered for as long as trash lies.
    pub async fn finish<B>(
        &self,
        repository: &RepoName,
        id: &UploadId,
        digest: &Digest,
        range: Option<ChunkRange>,
        length: Option<u64>,
        mut body: B,
    ) -> Result<()>
    where
        B: Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin,
    {
        let finished = match self.session(repository, id).await {
            Ok(session) => {
                self.finish_with(session, repository, digest, range, length, &mut body)
                    .await
            }
            Err(error) => Err(error),
        };
        match finished {
            Err(RegistryError::UploadUnknown) if self.ended_as(repository, id, digest).await? => {
                pass_over(&mut body).await
            }
            finished => finished,
        }
    }

    /// Ends the upload and throws away what came.
    pub async fn cancel(&self, repository: &RepoName, id: &UploadId) -> Result<()> {
        let mut session = self.session(repository, id).await?;
        self.close_session(&mut session).await
    }

    /// Takes a whole blob in one request.
    pub async fn push_blob<B>(
        &self,
        repository: &RepoName,
        digest: &Digest,
        length: Option<u64>,
        mut body: B,
    ) -> Result<()>
    where
        B: Stream<Item = std::result::Result<Bytes, BodyError>> + Send + Unpin,
    {
        self.check_quota(repository, Some(digest), length).await?;
        // The session's row must be there before the first byte, so that a crash leaves nothing unknown.
        let session = self.open_session(repository, digest.algorithm()).await?;
        let unshared = Unshared::new(self, repository, &session.id);
        let pushed = self
            .finish_with(session, repository, digest, None, length, &mut body)
            .await;
        if pushed.is_ok() {
            unshared.disarm();
        }
        pushed
    }

    async fn append_to(
        &self,
        mut session: Session,
        repository: &RepoName,
        range: Option<ChunkRange>,
        length: Option<u64>,
        body: Body<'_>,
    ) -> Result<Upload> {
        let announced = announced(&session, range, length)?;
        self.check_left(&mut session, None).await?;
        self.check_large(&session, repository, None, announced).await?;
        let hasher = session.hasher()?;
        let mut intake = Intake::new(self, session, hasher).await?;
        if let Err(error) = intake.receive(body, announced).await {
            intake.abandon().await;
            return Err(error);
        }
        let received = intake.received;
        if received == 0 {
            return Ok(Upload {
                offset: intake.session.row.offset,
                id: intake.session.id,
            });
        }
        // The parts' last milliseconds and the tail's go by at the same time.
        let (rest, _room) = intake.take_rest();
        let tail_key = if rest.is_empty() {
            None
        } else {
            Some(intake.session.fresh_key()?)
        };
        let hashed = match intake.session.is_multipart() {
            true => TailHash::OfItself,
            false => TailHash::OfTheSession,
        };
        let (tail, finished) = tokio::join!(self.put_tail(tail_key.as_ref(), rest, hashed), intake.finish());
        let mut brought = match (finished, &tail_key) {
            (Ok(brought), _) => brought,
            (Err(error), key) => {
                self.discard_some(key.as_ref()).await;
                return Err(error);
            }
        };
        let acknowledged = match tail {
            Ok(tail) => self.acknowledge(&mut brought, received, tail).await,
            Err(error) => Err(error),
        };
        if let Err(error) = acknowledged {
            // Where the outcome isn't known, the session's row may name the tail.
            if !matches!(error, RegistryError::OutcomeUnknown) {
                self.give_back(&mut brought.session, brought.reserved_from).await;
                self.discard_some(tail_key.as_ref()).await;
            }
            return Err(error);
        }
        Ok(Upload {
            offset: brought.session.row.offset,
            id: brought.session.id,
        })
    }

    /// Refuses a body of more than a part that has no room in the quota before it is received; the link decides about all.
    async fn check_large(
        &self,
        session: &Session,
        repository: &RepoName,
        digest: Option<&Digest>,
        announced: Option<u64>,
    ) -> Result<()> {
        match announced {
            Some(length) if length > self.settings.limits.part_size => {
                let size = session.row.offset.saturating_add(length);
                self.check_quota(repository, digest, Some(size)).await
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn discard_some(&self, key: Option<&ObjectKey>) {
        if let Some(key) = key {
            self.discard(key).await;
        }
    }

    /// Puts the bytes after the last full part, if there are any.
    async fn put_tail(
        &self,
        key: Option<&ObjectKey>,
        rest: Payload,
        hashed: TailHash,
    ) -> Result<Option<Tail>> {
        let Some(key) = key else { return Ok(None) };
        let put = async { Ok(self.blobs.put(key, rest.clone()).await?) };
        let hash = async {
            match hashed {
                TailHash::OfItself => digest_of(Algorithm::Sha256, &rest).await.map(Some),
                TailHash::OfTheSession => Ok(None),
            }
        };
        let (etag, digest) = tokio::try_join!(put, hash)?;
        let (key, size) = (key.clone(), rest.len());
        Ok(Some(Tail {
            object: Written { key, size, etag },
            digest,
        }))
    }

    /// Replaces the session's row by one that has what a request brought.
    async fn acknowledge(&self, brought: &mut Received, received: u64, tail: Option<Tail>) -> Result<()> {
        let part_rows = part_rows(&brought.session, &brought.parts);
        let mut row = brought.session.row.clone();
        row.offset += received;
        row.hash = Some(brought.hasher.save());
        let former_tail = brought.session.tail()?;
        match tail {
            Some(Tail { object, digest }) => {
                row.tail_key = object.key.as_str().to_owned();
                row.tail_length = object.size;
                row.tail_etag = object.etag;
                row.tail_digest = digest.map(|digest| digest.to_string()).unwrap_or_default();
            }
            None => {
                row.tail_key.clear();
                row.tail_length = 0;
                row.tail_etag.clear();
                row.tail_digest.clear();
            }
        }
        brought.count_parts(&mut row);
        row.part_rows += u32::try_from(part_rows.len()).unwrap_or(u32::MAX);
        self.replace_session(&mut brought.session, row, part_rows).await?;
        self.discard_tail(former_tail.as_ref()).await;
        Ok(())
    }
}

/// Receives what isn't needed: answered before they have sent it all, many clients call the request a failure.
async fn pass_over(body: Body<'_>) -> Result<()> {
    while let Some(piece) = body.next().await {
        piece.map_err(RegistryError::Body)?;
    }
    Ok(())
}

/// The digest of bytes in memory.
async fn digest_of(algorithm: Algorithm, payload: &Payload) -> Result<Digest> {
    let mut hashing = Hashing::new(Hasher::new(algorithm));
    for chunk in payload.chunks() {
        hashing.update(chunk.clone()).await?;
    }
    hashing.finish().await?.digest()
}

/// How many bytes the body must have, if that is known. It must begin where the session stands.
fn announced(session: &Session, range: Option<ChunkRange>, length: Option<u64>) -> Result<Option<u64>> {
    let Some(range) = range else { return Ok(length) };
    if range.first != session.row.offset {
        return Err(RegistryError::RangeMismatch {
            offset: session.row.offset,
        });
    }
    match length {
        Some(received) if received != range.len() => Err(RegistryError::SizeMismatch {
            announced: range.len(),
            received,
        }),
        _ => Ok(Some(range.len())),
    }
}

/// The rows that keep `parts`.
fn part_rows(session: &Session, parts: &[Part]) -> Vec<Op> {
    let attempt = hex::encode(Version::random().to_bytes());
    let rows = parts.chunks(PARTS_PER_ROW).map(|parts| {
        let first = parts.first().map_or(0, |part| part.number.get());
        let parts = parts.iter().map(|part| rows::Part {
            number: part.number.get(),
            etag: part.etag.clone(),
            length: part.length,
        });
        let row = rows::Parts {
            min_reader: rows::SCHEMA,
            parts: parts.collect(),
        };
        keys::parts(&session.id, first, &attempt).put(Expect::Absent, row::bytes(&row))
    });
    rows.collect()
}
