//! A session's row: read, replaced, closed. Its version is the fence of everything that happens to the upload.

use std::ops::Range;

use tokio::time::Instant;

use super::super::{
    Registry, RegistryError, Result, due,
    fence::{self, Fenced},
    hash::Hasher,
    objects::Written,
    pause::Pause,
    row,
    shelf::present,
};
use crate::{
    clock,
    oci::{Algorithm, Digest, RepoName, UploadId},
    storage::{Expect, ObjectKey, Op, Row, StoreErrorKind, Version, keys, rows, rows::SessionState},
};

/// A session as a request found it, and as it replaced it since.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) id: UploadId,
    pub(super) row: rows::Session,
    pub(super) version: Version,
}

/// Bytes of a session in an object that is read back.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    pub(super) object: Written,
    pub(super) digest: Option<Digest>,
}

impl Session {
    /// What all its objects' keys begin with. The row is there before the first of them.
    pub(super) fn prefix(&self) -> String {
        format!("uploads/{}/", self.id)
    }

    /// A key that no attempt ever used.
    pub(super) fn fresh_key(&self) -> Result<ObjectKey> {
        row::object_key(&format!(
            "{}{}",
            self.prefix(),
            hex::encode(Version::random().to_bytes())
        ))
    }

    /// Whether a multipart upload was begun.
    pub(super) fn is_multipart(&self) -> bool {
        !self.row.multipart_id.is_empty()
    }

    /// The object with the acknowledged bytes after the last full part.
    pub(super) fn tail(&self) -> Result<Option<Tail>> {
        if self.row.tail_length == 0 {
            return Ok(None);
        }
        let object = Written {
            key: row::object_key(&self.row.tail_key)?,
            size: self.row.tail_length,
            etag: self.row.tail_etag.clone(),
        };
        let digest = match (self.row.tail_digest.as_str(), self.is_multipart()) {
            ("", false) => Some(self.hasher()?.digest()?),
            // Of a former release.
            ("", true) => None,
            (text, _) => Some(row::digest(text)?),
        };
        Ok(Some(Tail { object, digest }))
    }

    /// Part numbers that requests reserved which were never acknowledged, and may have used.
    pub(super) fn left(&self) -> Range<u32> {
        match self.row.unnamed_part {
            // Of a former release: nothing is known.
            0 => 0..0,
            unnamed => unnamed..self.row.next_part,
        }
    }

    /// The digest's state at the session's offset.
    pub(super) fn hasher(&self) -> Result<Hasher> {
        let state = self.row.hash.as_ref();
        Hasher::restore(state.ok_or_else(|| row::corrupt("read a session", "no digest's state"))?)
    }

    /// The row of the session when it is over, with the object that it became, if it became one. It is removed after
    /// `expires_ms`.
    pub(super) fn closed(&self, published: Option<&ObjectKey>, expires_ms: u64) -> rows::Session {
        rows::Session {
            min_reader: rows::SCHEMA,
            repository: self.row.repository.clone(),
            state: SessionState::Closed.into(),
            offset: self.row.offset,
            // What a sweep of the session's prefix has to keep.
            object_key: published.map(|key| key.as_str().to_owned()).unwrap_or_default(),
            expires_ms,
            part_rows: self.row.part_rows,
            ..rows::Session::default()
        }
    }
}

impl Registry {
    /// Writes a new session, with the due-row that ends it.
    pub(super) async fn open_session(&self, repository: &RepoName, algorithm: Algorithm) -> Result<Session> {
        let (id, version) = (UploadId::random(), Version::random());
        let expires_ms = due::after(self.settings.limits.session_ttl);
        let row = rows::Session {
            min_reader: rows::SCHEMA,
            repository: repository.as_str().to_owned(),
            state: SessionState::Open.into(),
            hash: Some(Hasher::new(algorithm).save()),
            next_part: 1,
            unnamed_part: 1,
            expires_ms,
            ..rows::Session::default()
        };
        let ops = [
            keys::session(&id).put(Expect::Absent, row::bytes(&row)),
            self.dues.session(expires_ms, &id),
        ];
        match fence::transact(&*self.meta, version, &ops, self.commit_deadline()).await? {
            Fenced::Committed => Ok(Session { id, row, version }),
            // 128 random bits, drawn twice.
            Fenced::Refused { .. } => Err(RegistryError::Contended),
        }
    }

    /// Reads the session, which must be open and of this repository.
    pub(super) async fn session(&self, repository: &RepoName, id: &UploadId) -> Result<Session> {
        let session = self.any_session(repository, id).await?;
        let session = session.filter(|Session { row, .. }| {
            row.state() == SessionState::Open && row.expires_ms > clock::now_ms()
        });
        session.ok_or(RegistryError::UploadUnknown)
    }

    /// Reads the session, if there is one in this repository, open or not.
    async fn any_session(&self, repository: &RepoName, id: &UploadId) -> Result<Option<Session>> {
        let Some(found) = self.meta.get(&keys::session(id)).await? else {
            return Ok(None);
        };
        let session = Session {
            id: id.clone(),
            row: row::read_to_rewrite(&found)?,
            version: found.version,
        };
        Ok(Some(session).filter(|session| session.row.repository == repository.as_str()))
    }

    /// Whether the session ended as the blob of this digest, and the repository still holds that. Where a request is about
    /// to end it, that is waited for; its member may have died, though.
    pub(super) async fn ended_as(
        &self,
        repository: &RepoName,
        id: &UploadId,
        digest: &Digest,
    ) -> Result<bool> {
        let (deadline, mut pause) = (self.commit_deadline(), Pause::new());
        while let Some(Session { row, .. }) = self.any_session(repository, id).await? {
            match row.state() {
                SessionState::Closed if row.digest == digest.as_str() => {
                    let link = self.meta.get(&keys::link(digest, repository)).await?;
                    return Ok(present(link)?.is_some());
                }
                SessionState::Finishing if Instant::now() < deadline => pause.wait(deadline).await,
                SessionState::Closed
                | SessionState::Finishing
                | SessionState::Open
                | SessionState::Unspecified => break,
            }
        }
        Ok(false)
    }

    /// Replaces the session's row, if nobody else did, with `others` in the same transaction.
    pub(super) async fn replace_session(
        &self,
        session: &mut Session,
        mut row: rows::Session,
        others: Vec<Op>,
    ) -> Result<()> {
        if row.state() != SessionState::Closed {
            row.expires_ms = due::after(self.settings.limits.session_ttl);
        }
        let version = Version::random();
        let replaced = keys::session(&session.id).put(Expect::Version(session.version), row::bytes(&row));
        let ops: Vec<_> = std::iter::once(replaced).chain(others).collect();
        match fence::transact(&*self.meta, version, &ops, self.commit_deadline()).await {
            Ok(Fenced::Committed) => {
                (session.row, session.version) = (row, version);
                Ok(())
            }
            Ok(Fenced::Refused { current, .. }) => Err(lost(current.as_ref())),
            Err(RegistryError::Store(error)) if error.kind() == StoreErrorKind::Contended => {
                Err(RegistryError::Contended)
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the session without a blob. What it left in the blob store goes to the trash, and at once where that is easy.
    pub(super) async fn close_session(&self, session: &mut Session) -> Result<()> {
        // Whoever still sends to it has ended then.
        let at_ms = due::after(self.settings.limits.trash_delay);
        let row = session.closed(None, at_ms);
        let trash = self.dues.trash(at_ms, &session.prefix(), None);
        let former = session.clone();
        self.replace_session(session, row, vec![trash]).await?;
        self.discard_tail(former.tail()?.as_ref()).await;
        if former.is_multipart() {
            let key = row::object_key(&former.row.object_key)?;
            self.abort(&key, &former.row.multipart_id).await;
        }
        Ok(())
    }

    /// Why a request that held `session` has lost it, if it has.
    pub(super) async fn loss_of(&self, session: &Session) -> Result<Option<RegistryError>> {
        let current = self.meta.get(&keys::session(&session.id)).await?;
        let is_ours = current.as_ref().is_some_and(|row| row.version == session.version);
        Ok((!is_ours).then(|| lost(current.as_ref())))
    }

    /// Deletes an object that no row names, or will. A failure leaves it to the session's due-row.
    pub(super) async fn discard(&self, key: &ObjectKey) {
        if let Err(error) = self.blobs.delete(key).await {
            tracing::debug!(%key, ?error, "an object is left to the sweep");
        }
    }

    /// The same of a tail, if there is one.
    pub(super) async fn discard_tail(&self, tail: Option<&Tail>) {
        if let Some(tail) = tail {
            self.discard(&tail.object.key).await;
        }
    }

    /// Drops a multipart upload that no row names, or will. A failure leaves it to the session's due-row.
    pub(super) async fn abort(&self, key: &ObjectKey, multipart_id: &str) {
        if let Err(error) = self.blobs.abort(key, multipart_id).await {
            tracing::debug!(%key, ?error, "a multipart upload is left to the sweep");
        }
    }
}

/// Another request replaced the session's row: what that means to this one.
pub(super) fn lost(current: Option<&Row>) -> RegistryError {
    let Some(current) = current else {
        return RegistryError::UploadUnknown;
    };
    match row::read::<rows::Session>(current) {
        Ok(row) if row.state() == SessionState::Open => RegistryError::RangeMismatch { offset: row.offset },
        Ok(_) => RegistryError::UploadUnknown,
        Err(error) => error,
    }
}

/// What lies in objects, in the order of the body. In memory are the bytes after it.
#[derive(Debug, Default)]
pub(super) struct Parked(pub(super) Vec<Tail>);

impl Parked {
    /// Bytes in them.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|piece| piece.object.size).sum()
    }
}
