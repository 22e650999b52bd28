//! Due-rows: what has to be looked at when its time has come ([`super::upkeep`]). Each is a hint; who looks decides by
//! what is there then, so a due-row too many costs a look. One of a manifest's body is more than that: as long as it is
//! there, the manifest isn't.

use std::time::Duration;

use super::row;
use crate::{
    clock,
    oci::{Digest, RepoName, UploadId},
    placement::MemberId,
    storage::{
        Expect, Key, ObjectKey, Op, Version,
        keys::{self, Homes},
        rows,
        rows::DueKind,
    },
};

/// Milliseconds since the Unix epoch, `delay` from now.
pub(super) fn after(delay: Duration) -> u64 {
    clock::now_ms().saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX))
}

/// Where a member writes what is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dues {
    homes: Homes,
}

impl Dues {
    pub(super) fn of(member: &MemberId) -> Self {
        Self {
            homes: Homes::of(member),
        }
    }

    /// An upload session may have expired, or is closed and can be removed.
    pub(super) fn session(&self, at_ms: u64, id: &UploadId) -> Op {
        self.put(at_ms, id.as_str(), row_of(DueKind::Session, id.as_str(), None))
    }

    /// No manifest of the repository may reference the blob.
    pub(super) fn link(&self, at_ms: u64, repository: &RepoName, digest: &Digest) -> Op {
        let subject = in_repository(repository, digest);
        self.put(
            at_ms,
            &subject,
            row_of(DueKind::Link, digest.as_str(), Some(repository)),
        )
    }

    /// No repository may hold the blob.
    pub(super) fn digest(&self, at_ms: u64, digest: &Digest) -> Op {
        self.put(
            at_ms,
            digest.as_str(),
            row_of(DueKind::Digest, digest.as_str(), None),
        )
    }

    /// No record names the object of a blob any more. It has `size` bytes.
    pub(super) fn object(&self, at_ms: u64, object: &str, size: u64) -> Op {
        self.put(
            at_ms,
            object,
            rows::Due {
                size,
                ..row_of(DueKind::Object, object, None)
            },
        )
    }

    /// Such an object was deleted once, and is to be deleted once more.
    pub(super) fn deleted_object(&self, at_ms: u64, object: &str) -> Op {
        self.put(
            at_ms,
            object,
            rows::Due {
                passes: 1,
                ..row_of(DueKind::Object, object, None)
            },
        )
    }

    /// Everything under `prefix` is to be deleted, but for `keep`.
    pub(super) fn trash(&self, at_ms: u64, prefix: &str, keep: Option<&ObjectKey>) -> Op {
        let keep = keep.iter().map(|key| key.as_str().to_owned()).collect();
        self.put(
            at_ms,
            prefix,
            rows::Due {
                keep,
                ..row_of(DueKind::Trash, prefix, None)
            },
        )
    }

    /// A deleted repository's row may be removed.
    pub(super) fn tombstone(&self, at_ms: u64, repository: &RepoName) -> Op {
        self.put(
            at_ms,
            repository.as_str(),
            row_of(DueKind::Tombstone, repository.as_str(), Some(repository)),
        )
    }

    /// An object may have been written for a manifest that was never stored. The manifest's transaction deletes the row.
    pub(super) fn manifest_body(&self, at_ms: u64, repository: &RepoName, object: &ObjectKey) -> Op {
        self.put(
            at_ms,
            object.as_str(),
            row_of(DueKind::ManifestBody, object.as_str(), Some(repository)),
        )
    }

    /// A manifest was deleted: its references, its row and its object can be removed.
    pub(super) fn manifest(&self, at_ms: u64, repository: &RepoName, digest: &Digest) -> Op {
        let subject = in_repository(repository, digest);
        self.put(
            at_ms,
            &subject,
            row_of(DueKind::Manifest, digest.as_str(), Some(repository)),
        )
    }

    /// Links name an object that was lost: they are to name the one that the digest's record names now.
    pub(super) fn relink(&self, at_ms: u64, digest: &Digest, former: &ObjectKey) -> Op {
        let subject = format!("{digest}#{former}");
        self.put(
            at_ms,
            &subject,
            rows::Due {
                object_key: former.as_str().to_owned(),
                ..row_of(DueKind::Relink, digest.as_str(), None)
            },
        )
    }

    /// A due-row as it stands, about `subject`.
    pub(super) fn put(&self, at_ms: u64, subject: &str, due: rows::Due) -> Op {
        keys::due(self.homes, at_ms, due.kind(), subject).put(Expect::Any, row::bytes(&due))
    }
}

/// Tells one repository's work on a digest from another's.
pub(super) fn in_repository(repository: &RepoName, digest: &Digest) -> String {
    format!("{digest}#{repository}")
}

fn row_of(kind: DueKind, key: &str, repository: Option<&RepoName>) -> rows::Due {
    rows::Due {
        min_reader: rows::SCHEMA,
        kind: kind.into(),
        key: key.to_owned(),
        repository: repository
            .map(|repository| repository.as_str().to_owned())
            .unwrap_or_default(),
        keep: Vec::new(),
        passes: 0,
        object_key: String::new(),
        size: 0,
    }
}

/// A row as it was read, or written: what a transaction expects of it.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) key: Key,
    pub(super) version: Version,
}

impl Expected {
    pub(super) fn check(&self) -> Op {
        self.key.clone().check(Expect::Version(self.version))
    }

    pub(super) fn delete(&self) -> Op {
        self.key.clone().delete(Expect::Version(self.version))
    }
}
