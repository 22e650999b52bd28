//! The end of an upload: its digest is verified, then it becomes a blob of the repository, or nothing.

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{
    super::{
        Registry, RegistryError, Result, due,
        hash::{Hasher, Hashing},
        links::Linked,
        objects::Written,
        pause::Pause,
        row,
    },
    announced, digest_of,
    receive::{Body, Intake},
    session::{Session, lost},
};
use crate::{
    oci::{Algorithm, ChunkRange, Digest, RepoName},
    storage::{Expect, ObjectKey, Part, PartNumber, Space, StoreErrorKind, keys, rows, rows::SessionState},
};

impl Registry {
    pub(super) async fn finish_with(
        &self,
        mut session: Session,
        repository: &RepoName,
        digest: &Digest,
        range: Option<ChunkRange>,
        length: Option<u64>,
        body: Body<'_>,
    ) -> Result<()> {
        let announced = announced(&session, range, length)?;
        self.check_left(&mut session, announced).await?;
        self.check_large(&session, repository, Some(digest), announced)
            .await?;
        let hasher = match session.row.offset {
            // Nothing was hashed yet: the digest decides with what.
            0 => Hasher::new(digest.algorithm()),
            _ => session.hasher()?,
        };
        let mut intake = Intake::new(self, session, hasher).await?;
        if let Err(error) = intake.receive(body, announced).await {
            intake.abandon().await;
            return Err(error);
        }
        if intake.session.is_multipart() {
            self.finish_large(intake, repository, digest).await
        } else {
            self.finish_small(intake, repository, digest).await
        }
    }

    /// All bytes fit into one part: they are in the buffer, or they are the session's tail.
    async fn finish_small(
        &self,
        mut intake: Intake<'_>,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<()> {
        let size = intake.session.row.offset + intake.received;
        let (stored, superseded) = match (intake.received, intake.session.tail()?) {
            (0, tail) => (tail, None),
            (_, tail) => (None, tail),
        };
        let (rest, _room) = intake.take_rest();
        let received = intake.finish().await?;
        let (mut session, hasher) = (received.session, received.hasher);

        let actual = if hasher.algorithm() == digest.algorithm() {
            hasher.digest()?
        } else {
            let read = match &stored {
                Some(tail) => self.collect(tail).await?,
                None => rest.clone(),
            };
            digest_of(digest.algorithm(), &read).await?
        };
        if actual != *digest {
            return Err(self.refused(&mut session, digest, actual).await);
        }
        if let Some(tail) = stored {
            return self.publish(&session, repository, digest, &tail.object).await;
        }
        let key = session.fresh_key()?;
        let etag = self.blobs.put(&key, rest).await?;
        let object = Written { key, size, etag };
        match self.publish(&session, repository, digest, &object).await {
            Ok(()) => {
                self.discard_tail(superseded.as_ref()).await;
                Ok(())
            }
            // It may have been published.
            Err(RegistryError::OutcomeUnknown) => Err(RegistryError::OutcomeUnknown),
            Err(error) => {
                self.discard(&object.key).await;
                Err(error)
            }
        }
    }

    /// The bytes are parts of a multipart upload, and perhaps a last part that is yet to be sent.
    async fn finish_large(
        &self,
        mut intake: Intake<'_>,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<()> {
        let size = intake.session.row.offset + intake.received;
        let sent = async {
            intake.load_tail().await?;
            if intake.buffered() > 0 {
                intake.send().await?;
            }
            Ok(())
        };
        if let Err(error) = sent.await {
            intake.abandon().await;
            return Err(error);
        }
        let received = intake.finish().await?;
        let (mut session, hasher) = (received.session, received.hasher);

        let is_hashed = hasher.algorithm() == digest.algorithm();
        if is_hashed {
            let actual = hasher.digest()?;
            if actual != *digest {
                return Err(self.refused(&mut session, digest, actual).await);
            }
        }
        let mut parts = self.acknowledged_parts(&session).await?;
        parts.extend(received.parts);
        if parts.iter().map(|part| part.length).sum::<u64>() != size {
            return Err(row::corrupt(
                "put an upload together",
                "its parts don't add up to its length",
            ));
        }

        self.check_quota(repository, Some(digest), Some(size)).await?;
        // From here on nobody else may: the object that appears under the key is made of these parts, or there is none.
        let fixed = rows::Session {
            state: SessionState::Finishing.into(),
            ..session.row.clone()
        };
        self.replace_session(&mut session, fixed, Vec::new()).await?;
        let key = row::object_key(&session.row.object_key)?;
        let object = match self.complete(&session, &key, &parts, size).await {
            Ok(object) => object,
            Err(error) => {
                if matches!(error, RegistryError::UploadLost) {
                    self.close_session(&mut session).await?;
                }
                return Err(error);
            }
        };
        if !is_hashed {
            let mut actual = self.digest_of_object(digest.algorithm(), &object).await?;
            if actual != *digest {
                // The store may have read it wrongly.
                actual = self.digest_of_object(digest.algorithm(), &object).await?;
            }
            if actual != *digest {
                return Err(self.refused(&mut session, digest, actual).await);
            }
        }
        let former_tail = session.tail()?;
        match self.publish(&session, repository, digest, &object).await {
            Ok(()) => {
                self.discard_tail(former_tail.as_ref()).await;
                Ok(())
            }
            // Others took the room meanwhile, and nobody can carry on what is complete.
            Err(error @ RegistryError::QuotaExceeded { .. }) => {
                self.throw_away(&mut session).await;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// The content isn't what its digest says.
    async fn refused(&self, session: &mut Session, expected: &Digest, actual: Digest) -> RegistryError {
        self.throw_away(session).await;
        RegistryError::DigestMismatch {
            expected: expected.clone(),
            actual,
        }
    }

    /// The session ends, and what it left goes.
    async fn throw_away(&self, session: &mut Session) {
        let is_complete = session.row.state() == SessionState::Finishing;
        let object = row::object_key(&session.row.object_key).ok();
        match self.close_session(session).await {
            Ok(()) => {
                if let Some(key) = object.filter(|_| is_complete) {
                    self.discard(&key).await;
                }
            }
            // It expires; nothing of it is visible.
            Err(error) => tracing::debug!(upload = %session.id, ?error, "a refused upload is left to expire"),
        }
    }

    /// The parts that the session's row stands for. It knows how many rows of them there are.
    async fn acknowledged_parts(&self, session: &Session) -> Result<Vec<Part>> {
        let (mut parts, mut found, mut after) = (Vec::new(), 0, None::<String>);
        while found < session.row.part_rows {
            let (space, id) = (Space::Uploads, session.id.as_str());
            let page = self
                .meta
                .range(space, id, keys::PARTS, after.as_deref(), 100)
                .await?;
            for entry in &page.entries {
                for part in row::read::<rows::Parts>(&entry.row)?.parts {
                    let number = PartNumber::new(part.number)
                        .ok_or_else(|| row::corrupt("read an upload's parts", "a number out of range"))?;
                    parts.push(Part {
                        number,
                        etag: part.etag,
                        length: part.length,
                    });
                }
                found += 1;
            }
            after = page.entries.last().map(|entry| entry.sort.clone());
            if after.is_none() {
                return Err(row::corrupt("read an upload's parts", "rows are missing"));
            }
        }
        Ok(parts)
    }

    /// Makes the object. What a failure means is asked of the object itself: only this request can have made it.
    async fn complete(
        &self,
        session: &Session,
        key: &ObjectKey,
        parts: &[Part],
        size: u64,
    ) -> Result<Written> {
        let written = |etag| Written {
            key: key.clone(),
            size,
            etag,
        };
        let (deadline, mut pause) = (self.commit_deadline(), Pause::new());
        let mut attempt = 1;
        loop {
            let error = match self.blobs.complete(key, &session.row.multipart_id, parts).await {
                Ok(etag) if !etag.is_empty() => return Ok(written(etag)),
                // Ceph's gateway doesn't say it.
                Ok(_) => {
                    let found = self.blobs.head(key).await.ok().flatten();
                    return Ok(written(found.map(|object| object.etag).unwrap_or_default()));
                }
                Err(error) => error,
            };
            tracing::debug!(%key, attempt, ?error, "completing an upload failed");
            match self.blobs.head(key).await {
                Ok(Some(object)) if object.length == size => return Ok(written(object.etag)),
                Ok(Some(_)) => {
                    return Err(row::corrupt(
                        "complete an upload",
                        "the object has another length",
                    ));
                }
                Ok(None) if error.kind() == StoreErrorKind::InvalidPart => {
                    return Err(RegistryError::UploadLost);
                }
                Ok(None) | Err(_) => {}
            }
            // A store that hangs takes its time for each attempt.
            if attempt == self.settings.limits.attempts || Instant::now() >= deadline {
                return Err(match error.kind() {
                    StoreErrorKind::NotFound => RegistryError::UploadLost,
                    _ => error.into(),
                });
            }
            attempt += 1;
            pause.wait(deadline).await;
        }
    }

    /// The digest of a stored object, read again.
    async fn digest_of_object(&self, algorithm: Algorithm, object: &Written) -> Result<Digest> {
        let mut hashing = Hashing::new(Hasher::new(algorithm));
        if let Some(last) = object.size.checked_sub(1) {
            let mut stream = self.blobs.get(&object.key, 0, last).await?.bytes;
            while let Some(chunk) = stream.next().await {
                hashing.update(chunk?).await?;
            }
        }
        hashing.finish().await?.digest()
    }
}

impl Registry {
    /// Closes the session and makes the repository hold what it brought (rule G1).
    async fn publish(
        &self,
        session: &Session,
        repository: &RepoName,
        digest: &Digest,
        object: &Written,
    ) -> Result<()> {
        let close = |kept: Option<&ObjectKey>| {
            let removed_ms = due::after(self.settings.limits.trash_delay);
            let row = rows::Session {
                digest: digest.as_str().to_owned(),
                ..session.closed(kept, removed_ms)
            };
            keys::session(&session.id).put(Expect::Version(session.version), row::bytes(&row))
        };
        match self.link_upload(repository, digest, object, close).await? {
            Linked::Committed => Ok(()),
            Linked::SessionLost(current) => Err(lost(current.as_ref())),
        }
    }
}
