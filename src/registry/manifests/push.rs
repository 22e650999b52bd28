//! Pushing a manifest: what it refers to is there, then manifest, tags and referrer appear in one transaction.

use bytes::Bytes;

use super::{
    super::{
        Damage, Registry, RegistryError, Result,
        changes::{Cause, Changing},
        commit::{Change, Current, HeldBy, MAX_PLANNED, Plan},
        due, fence,
        referrers::listed_as,
        row,
        shelf::present,
    },
    MayBeAbsent, MayPush,
    read::{tagged, written},
};
use crate::{
    clock,
    config::limits::RegistryLimits,
    oci::{Descriptor, Digest, Manifest, Preconditions, Reference, RepoName, Tag},
    storage::{
        Expect, Key, MAX_OPS, ObjectKey, Op, Outcome, Row, StoreError, StoreErrorKind, Version, keys, rows,
        rows::manifest::Body,
    },
};

/// A manifest on its way into a repository.
pub(super) struct Push<'a> {
    pub(super) registry: &'a Registry,
    pub(super) repository: &'a RepoName,
    pub(super) reference: &'a Reference,
    pub(super) digest: Digest,
    pub(super) manifest: Manifest,
    pub(super) body: Bytes,
    pub(super) tags: Vec<Tag>,
    pub(super) cause: Cause<'a>,
    pub(super) may: MayPush,
    pub(super) absent: MayBeAbsent,
    pub(super) only_if: &'a Preconditions,
    /// The object with the body, once it was written.
    pub(super) stored: Option<Stored>,
    /// Whether references were written.
    pub(super) has_referenced: bool,
}

/// A body that is an object already, of no manifest yet.
#[derive(Clone)]
pub(super) struct Stored {
    object: ObjectKey,
    etag: String,
    /// The row that says so: gone, or another, the object is trash.
    due: Key,
    version: Version,
}

/// What of a push is in the repository already.
struct Found {
    /// The manifest's row, deleted or not.
    manifest: Option<Row>,
    /// The tags that name something else, with what that is, if anything.
    tags: Vec<(Tag, Option<Descriptor>)>,
    /// The first of what it refers to that isn't there and has to be; for a manifest that is new, whole as far as is known.
    missing: Option<Digest>,
}

impl Change for Push<'_> {
    type Outcome = ();

    async fn plan(&mut self, current: &Current) -> Result<Plan<()>> {
        let found = self.find().await?;
        let is_new = row::live(found.manifest.as_ref())?.is_none();
        self.check_rights(&found, is_new)?;
        for (tag, _) in found.tags.iter().filter(|(_, named)| named.is_some()) {
            self.registry.settings.immutable.check(self.repository, tag)?;
        }
        self.check_conditions(&found, is_new)?;
        if let Some(digest) = found.missing {
            return Err(RegistryError::ManifestBlobUnknown { digest });
        }
        let former: Option<rows::Manifest> = found.manifest.as_ref().map(row::read_to_rewrite).transpose()?;
        let damage = match &former {
            Some(former) => self.damage(former).await?,
            None => None,
        };
        if !is_new && found.tags.is_empty() && damage.is_none() {
            return Ok(Plan::Done(()));
        }
        let mut ops = Vec::new();
        if is_new {
            // Before the transaction, for there may be hundreds; alone they mean nothing. A collector that removes those
            // of a former life replaces the repository's row, and so refuses this transaction.
            self.write_references().await?;
        }
        if is_new || damage.is_some() {
            ops.extend(self.manifest_ops(former, damage).await?);
        }
        ops.extend(self.tag_ops(&found));
        let manifests = current.manifests() + u64::from(is_new);
        Ok(Plan::Apply {
            ops,
            manifests,
            changing: self.changing(&found, is_new),
            outcome: (),
        })
    }
}

impl Push<'_> {
    /// Reads what is there of the manifest, its tags, and what it refers to.
    async fn find(&self) -> Result<Found> {
        let (blobs, children) = (&self.manifest.blobs, &self.manifest.children);
        let mut wanted = vec![keys::manifest(self.repository, &self.digest)];
        wanted.extend(self.tags.iter().map(|tag| keys::tag(self.repository, tag)));
        wanted.extend(blobs.iter().map(|blob| keys::link(&blob.digest, self.repository)));
        wanted.extend(
            children
                .iter()
                .map(|child| keys::manifest(self.repository, &child.digest)),
        );
        let mut found = self.registry.get_all(&wanted).await?.into_iter();

        let manifest = found.next().flatten();
        let mut tags = Vec::new();
        for tag in &self.tags {
            let named: Option<rows::Tag> = found
                .next()
                .flatten()
                .as_ref()
                .map(row::read_to_rewrite)
                .transpose()?;
            let named = named.as_ref().map(tagged).transpose()?;
            if named.as_ref().map(|named| &named.digest) != Some(&self.digest) {
                tags.push((tag.clone(), named));
            }
        }
        let mut missing = None;
        for blob in blobs {
            let link = present(found.next().flatten())?;
            let is_lacking = match &link {
                None => true,
                // What was here already can be tagged, and come back, as it is.
                Some(link) => {
                    manifest.is_none() && self.registry.is_known_to_be_wrong(&blob.digest, link).await?
                }
            };
            if is_lacking && self.absent != MayBeAbsent::Everything {
                missing.get_or_insert(blob);
            }
        }
        for child in children {
            if row::live(found.next().flatten().as_ref())?.is_none() && self.absent == MayBeAbsent::Nothing {
                missing.get_or_insert(child);
            }
        }
        let missing = missing.map(|missing: &Descriptor| missing.digest.clone());
        Ok(Found {
            manifest,
            tags,
            missing,
        })
    }

    fn check_rights(&self, found: &Found, is_new: bool) -> Result<()> {
        let creates = found.tags.iter().any(|(_, named)| named.is_none()) || (is_new && self.tags.is_empty());
        let updates = found.tags.iter().any(|(_, named)| named.is_some());
        if (creates && !self.may.create) || (updates && !self.may.update) {
            return Err(RegistryError::Denied);
        }
        Ok(())
    }

    /// Conditions come after what would be refused without them, and before the content is looked at (RFC 9110, 13.2.1).
    fn check_conditions(&self, found: &Found, is_new: bool) -> Result<()> {
        let current = match self.reference {
            Reference::Tag(tag) => match found.tags.iter().find(|(other, _)| other == tag) {
                Some((_, named)) => named.as_ref().map(|named| &named.digest),
                None => Some(&self.digest),
            },
            Reference::Digest(_) => (!is_new).then_some(&self.digest),
        };
        let is_done = !is_new && found.tags.is_empty();
        let holds = match is_done {
            true => self.only_if.hold_again(current),
            false => self.only_if.hold(current),
        };
        match holds {
            true => Ok(()),
            false => Err(RegistryError::PreconditionFailed {
                current: current.cloned(),
            }),
        }
    }

    /// What becomes of names: nothing where a damaged document is only replaced.
    fn changing(&self, found: &Found, is_new: bool) -> Option<Changing> {
        let mut changing = Changing::new(self.cause);
        let manifest = Descriptor {
            media_type: self.manifest.media_type.clone(),
            digest: self.digest.clone(),
            size: self.body.len() as u64,
        };
        if is_new {
            changing.comes(&manifest);
        }
        for (tag, former) in &found.tags {
            changing.moves(tag, former.as_ref(), Some(&manifest));
        }
        (is_new || !found.tags.is_empty()).then_some(changing)
    }

    /// What is to be removed when the push failed for good, if anything is.
    pub(super) fn orphaned(&self) -> Option<ForgetReferences<'_>> {
        let Manifest {
            blobs,
            optional_blobs,
            children,
            ..
        } = &self.manifest;
        let referenced = blobs.iter().chain(optional_blobs).chain(children);
        self.has_referenced.then(|| ForgetReferences {
            registry: self.registry,
            repository: self.repository,
            digest: &self.digest,
            left: referenced.map(|to| &to.digest).collect(),
        })
    }

    /// The rows that keep from collection what the manifest refers to, also what needn't be here.
    async fn write_references(&mut self) -> Result<()> {
        let Manifest {
            blobs,
            optional_blobs,
            children,
            ..
        } = &self.manifest;
        let mark = row::bytes(&rows::Mark {
            min_reader: rows::SCHEMA,
        });
        let referenced = blobs.iter().chain(optional_blobs).chain(children);
        self.has_referenced = true;
        let ops: Vec<_> = referenced
            .map(|to| {
                keys::reference(self.repository, &to.digest, &self.digest).put(Expect::Any, mark.clone())
            })
            .collect();
        for ops in ops.chunks(MAX_OPS) {
            fence::write(&*self.registry.meta, ops, self.registry.settings.limits.attempts).await?;
        }
        Ok(())
    }

    /// What is wrong with the document that is there. Whoever pushes it has it whole.
    async fn damage(&self, former: &rows::Manifest) -> Result<Option<Damage>> {
        match (&former.body, written(former)?) {
            (_, Some(object)) => self.registry.inspect(&object).await,
            (Some(Body::Inline(document)), None) if *document == self.body => Ok(None),
            (_, None) => Ok(Some(Damage::Bytes)),
        }
    }

    /// The manifest's row and its entry in its subject's list. A deleted manifest's body is still there, and the same,
    /// unless it has this damage.
    async fn manifest_ops(
        &mut self,
        former: Option<rows::Manifest>,
        damage: Option<Damage>,
    ) -> Result<Vec<Op>> {
        let mut ops = Vec::new();
        if let (Some(former), Some(damage)) = (&former, damage) {
            let (repository, digest) = (self.repository, &self.digest);
            tracing::warn!(%repository, %digest, %damage, "a manifest's document is replaced by the one that was pushed");
            if let Some(object) = written(former)? {
                let at_ms = due::after(self.registry.settings.limits.trash_delay);
                ops.push(self.registry.dues.trash(at_ms, object.key.as_str(), None));
            }
        }
        let former = former.filter(|_| damage.is_none());
        let (body, object_etag) = match former.and_then(|former| Some((former.body?, former.object_etag))) {
            Some(kept) => kept,
            None if self.body.len() <= self.registry.settings.limits.inline_manifest => {
                (Body::Inline(self.body.clone()), String::new())
            }
            None => {
                let Stored {
                    object,
                    etag,
                    due,
                    version,
                } = self.store_body().await?;
                // Who finds the row due takes it away before the object.
                ops.push(due.delete(Expect::Version(version)));
                (Body::ObjectKey(object.as_str().to_owned()), etag)
            }
        };
        let subject = self.manifest.subject.as_ref().map(|subject| &subject.digest);
        let manifest = rows::Manifest {
            min_reader: rows::SCHEMA,
            media_type: self.manifest.media_type.as_str().to_owned(),
            size: self.body.len() as u64,
            subject: subject
                .map(|subject| subject.as_str().to_owned())
                .unwrap_or_default(),
            pushed_ms: clock::now_ms(),
            body: Some(body),
            deleted_ms: 0,
            shelved: false,
            object_etag,
        };
        ops.push(keys::manifest(self.repository, &self.digest).put(Expect::Any, row::bytes(&manifest)));
        if let Some(subject) = subject {
            let entry = keys::referrer(self.repository, subject, &self.digest);
            ops.push(entry.put(
                Expect::Any,
                row::bytes(&listed_as(&self.manifest, self.body.len() as u64)),
            ));
        }
        Ok(ops)
    }

    /// Writes the body as an object; once, unless a push lasts so long that the object became trash.
    async fn store_body(&mut self) -> Result<Stored> {
        let meta = &self.registry.meta;
        if let Some(stored) = &self.stored {
            let due = meta.get(&stored.due).await?;
            if due.is_some_and(|row| row.version == stored.version) {
                return Ok(stored.clone());
            }
        }
        let mut stored = self.announce_body().await?;
        let body = self.body.clone().into();
        stored.etag = self.registry.blobs.put(&stored.object, body).await?;
        Ok(self.stored.insert(stored).clone())
    }

    /// Writes the due-row of an object that is yet to be written. Where it isn't known whether that was done, another key
    /// is taken: a row that came late, after the manifest's transaction deleted it, would condemn the body.
    async fn announce_body(&self) -> Result<Stored> {
        let RegistryLimits {
            trash_delay,
            attempts,
            ..
        } = self.registry.settings.limits;
        for _ in 0..attempts {
            let version = Version::random();
            let object = row::object_key(&format!("manifests/{}", hex::encode(version.to_bytes())))?;
            let announced =
                self.registry
                    .dues
                    .manifest_body(due::after(trash_delay), self.repository, &object);
            let due = announced.key.clone();
            match self.registry.meta.transact(version, &[announced]).await? {
                Outcome::Committed => {
                    return Ok(Stored {
                        object,
                        etag: String::new(),
                        due,
                        version,
                    });
                }
                Outcome::Refused { .. } | Outcome::Unknown => {}
            }
        }
        Err(StoreError::new(StoreErrorKind::Unavailable, "announce a manifest's body").into())
    }

    /// The tags that don't name the manifest yet.
    fn tag_ops(&self, found: &Found) -> Vec<Op> {
        let row = rows::Tag {
            min_reader: rows::SCHEMA,
            digest: self.digest.as_str().to_owned(),
            media_type: self.manifest.media_type.as_str().to_owned(),
            size: self.body.len() as u64,
            pushed_ms: clock::now_ms(),
            pushed_by: self.cause.by.to_owned(),
        };
        let (row, mark) = (
            row::bytes(&row),
            row::bytes(&rows::Mark {
                min_reader: rows::SCHEMA,
            }),
        );
        let mut ops = Vec::new();
        for (tag, named) in &found.tags {
            ops.push(keys::tag(self.repository, tag).put(Expect::Any, row.clone()));
            ops.push(keys::tag_of(self.repository, &self.digest, tag).put(Expect::Any, mark.clone()));
            if let Some(former) = named {
                ops.push(keys::tag_of(self.repository, &former.digest, tag).delete(Expect::Any));
            }
        }
        ops
    }
}

/// The end of the references that a push wrote which failed: nobody would find them again. It is a change like any other, so that
/// another push of the same manifest, under way, writes them anew.
pub(super) struct ForgetReferences<'a> {
    registry: &'a Registry,
    repository: &'a RepoName,
    digest: &'a Digest,
    left: Vec<&'a Digest>,
}

impl<'a> ForgetReferences<'a> {
    pub(super) fn repository(&self) -> &'a RepoName {
        self.repository
    }

    /// Whether some are left.
    pub(super) fn goes_on(&self) -> bool {
        !self.left.is_empty()
    }

    /// One change's worth of them is gone.
    pub(super) fn forget(&mut self) {
        self.left.drain(..self.left.len().min(MAX_PLANNED));
    }
}

impl Change for ForgetReferences<'_> {
    type Outcome = ();

    const HELD_BY: HeldBy = HeldBy::Holder;

    async fn plan(&mut self, current: &Current) -> Result<Plan<()>> {
        let found = self
            .registry
            .meta
            .get(&keys::manifest(self.repository, self.digest))
            .await?;
        // There, or deleted: then they go with it.
        if found.is_some() {
            self.left.clear();
            return Ok(Plan::Done(()));
        }
        let ops = self.left.iter().take(MAX_PLANNED);
        let ops = ops.map(|to| keys::reference(self.repository, to, self.digest).delete(Expect::Any));
        Ok(Plan::Apply {
            ops: ops.collect(),
            manifests: current.manifests(),
            changing: None,
            outcome: (),
        })
    }
}
