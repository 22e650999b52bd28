//! Manifests and the tags that name them.
//!
//! A manifest is kept byte for byte. Deleted, its row stays, marked, until a collector has removed its references, and
//! counts as absent everywhere; pushed again, it lives again.

mod collect;
mod delete;
mod listed;
mod push;
mod read;
#[cfg(test)]
mod conditions;
#[cfg(test)]
mod immutable;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod many_tags;
#[cfg(test)]
mod races;
#[cfg(test)]
pub(super) mod tests;

use bytes::Bytes;
use tokio::time::Instant;

use self::push::{ForgetReferences, Push};
pub(super) use self::{
    delete::{Delete, DeleteTag, Deleted},
    read::{Held, written},
};
use super::{Registry, RegistryError, Result, changes::Cause, row};
use crate::{
    oci::{
        Algorithm, Digest, MAX_MANIFEST_BYTES, MAX_TAGS_PER_PUT, Manifest, MediaType, Preconditions,
        Reference, RepoName, Tag,
    },
    storage::{Key, MAX_OPS, Row},
};

/// A manifest to be pushed.
#[derive(Clone, Debug)]
pub struct PutManifest<'a> {
    /// Where.
    pub repository: &'a RepoName,
    /// Under which tag or digest.
    pub reference: &'a Reference,
    /// Further tags that shall name it.
    pub tags: &'a [Tag],
    /// As what, if the client says.
    pub media_type: Option<MediaType>,
    /// The document.
    pub body: Bytes,
    /// Who pushes, and why.
    pub cause: Cause<'a>,
    /// What the caller may.
    pub may: MayPush,
    /// What of what it refers to may be absent.
    pub absent: MayBeAbsent,
    /// What must be so of what `reference` names. `If-Match` isn't asked where nothing is left to do: that is a repetition.
    pub only_if: &'a Preconditions,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
}

/// A manifest to be deleted, or a tag.
#[derive(Clone, Debug)]
pub struct DeleteManifest<'a> {
    /// Where.
    pub repository: &'a RepoName,
    /// The tag, or the manifest with all its tags.
    pub reference: &'a Reference,
    /// What must be so of what `reference` names.
    pub only_if: &'a Preconditions,
    /// What becomes of a manifest that an index needs.
    pub while_listed: WhileListed,
    /// Who deletes, and why.
    pub cause: Cause<'a>,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
}

/// Whether a manifest is deleted that an index lists which is tagged, or listed by one that is. A tag always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileListed {
    /// It isn't: clients that clean up what has no tag would tear images apart.
    Refuse,
    /// It is: whoever asks deletes the index, too, or has lost it.
    Delete,
}

/// What of what a manifest refers to need not be in the repository. References are written all the same: what comes later is
/// used from then on, and a link still implies a whole object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MayBeAbsent {
    /// Only what its publisher keeps from registries.
    Nothing,
    /// What an index lists, too: the repository says so (`storage.sparseIndexes`).
    Children,
    /// All of it: it is mirrored, and comes when somebody asks for it.
    Everything,
}

/// What the caller of a push may do. Which of them it takes is only known inside the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MayPush {
    /// Push what is new.
    pub create: bool,
    /// Let a tag name something else than before.
    pub update: bool,
}

/// A manifest that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its digest.
    pub digest: Digest,
    /// What it refers to.
    pub subject: Option<Digest>,
    /// The further tags ([`PutManifest::tags`]) that name it now, each once.
    pub tags: Vec<Tag>,
}

impl Registry {
    /// Stores a manifest, and lets its tags name it.
    pub async fn put_manifest(&self, push: PutManifest<'_>) -> Result<Pushed> {
        let PutManifest {
            repository,
            reference,
            tags,
            media_type,
            body,
            cause,
            may,
            absent,
            only_if,
            deadline,
        } = push;
        if body.len() > MAX_MANIFEST_BYTES {
            return Err(RegistryError::ManifestTooLarge);
        }
        let algorithm = match reference {
            Reference::Tag(_) => Algorithm::Sha256,
            Reference::Digest(digest) => digest.algorithm(),
        };
        let (manifest, digest) = understand(media_type, body.clone(), algorithm).await?;
        if let Reference::Digest(expected) = reference
            && *expected != digest
        {
            return Err(RegistryError::DigestMismatch {
                expected: expected.clone(),
                actual: digest,
            });
        }
        let mut further: Vec<Tag> = Vec::new();
        for tag in tags {
            if !further.contains(tag) {
                further.push(tag.clone());
            }
        }
        let mut all = further.clone();
        if let Reference::Tag(tag) = reference
            && !all.contains(tag)
        {
            all.push(tag.clone());
        }
        if all.len() > MAX_TAGS_PER_PUT + 1 {
            return Err(RegistryError::TooManyTags);
        }
        let pushed = Pushed {
            digest: digest.clone(),
            subject: manifest.subject.as_ref().map(|subject| subject.digest.clone()),
            tags: further,
        };
        let mut push = Push {
            registry: self,
            repository,
            reference,
            digest,
            manifest,
            body,
            tags: all,
            cause,
            may,
            absent,
            only_if,
            stored: None,
            has_referenced: false,
        };
        match self.commit(repository, deadline, &mut push).await {
            Ok(()) => Ok(pushed),
            Err(RegistryError::OutcomeUnknown) => Err(RegistryError::OutcomeUnknown),
            Err(error) => {
                if let Some(references) = push.orphaned() {
                    self.forget_references(references).await;
                }
                Err(error)
            }
        }
    }

    /// What fails here keeps nothing but its own rows: references whose blob is collected go with it.
    async fn forget_references(&self, mut references: ForgetReferences<'_>) {
        let (repository, deadline) = (references.repository(), self.commit_deadline());
        while references.goes_on() {
            if let Err(error) = self.commit(repository, deadline, &mut references).await {
                tracing::debug!(%repository, ?error, "references of a failed push stay");
                return;
            }
            references.forget();
        }
    }

    /// Deletes the tag, or the manifest with all its tags.
    pub async fn delete_manifest(&self, delete: DeleteManifest<'_>) -> Result<()> {
        let DeleteManifest {
            repository,
            reference,
            only_if,
            while_listed,
            cause,
            deadline,
        } = delete;
        let digest = match reference {
            Reference::Tag(tag) => {
                let change = DeleteTag {
                    registry: self,
                    repository,
                    tag,
                    only_if,
                    cause,
                };
                return self.commit(repository, deadline, change).await;
            }
            Reference::Digest(digest) => digest,
        };
        let mut change = Delete {
            registry: self,
            repository,
            digest,
            only_if,
            cause,
            while_listed,
            grace: self.settings.limits.link_grace,
            known: None,
            is_begun: false,
        };
        loop {
            match self.commit(repository, deadline, &mut change).await {
                Ok(Deleted::Whole) => return Ok(()),
                Ok(Deleted::SomeTags) => change.is_begun = true,
                Err(error) if !change.is_begun => return Err(error),
                // Someone else brought it to its end.
                Err(RegistryError::ManifestUnknown) => return Ok(()),
                Err(RegistryError::OutcomeUnknown) => return Err(RegistryError::OutcomeUnknown),
                Err(error) => return Err(RegistryError::Unfinished(Box::new(error))),
            }
        }
    }

    /// The rows at `keys`, however many these are.
    pub(in crate::registry) async fn get_all(&self, keys: &[Key]) -> Result<Vec<Option<Row>>> {
        let mut found = Vec::with_capacity(keys.len());
        for keys in keys.chunks(MAX_OPS) {
            found.extend(self.meta.get_many(keys).await?);
        }
        Ok(found)
    }
}

/// Parses and hashes a document; a large one where that delays nobody.
async fn understand(
    media_type: Option<MediaType>,
    body: Bytes,
    algorithm: Algorithm,
) -> Result<(Manifest, Digest)> {
    const LARGE: usize = 64 << 10;
    let is_large = body.len() > LARGE;
    let work = move || -> Result<(Manifest, Digest)> {
        let manifest = Manifest::parse(media_type.as_ref(), &body)?;
        Ok((manifest, Digest::of(algorithm, &body)))
    };
    if !is_large {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| row::corrupt("parse a manifest", error))?
}
