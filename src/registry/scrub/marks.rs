//! What was found by reading all of an object is noted where the object is named. Wrong bytes, in the place of its ETag: so a client
//! that pushes is told to send it, through whichever member, and nobody gets it whole without its being hashed. Right bytes under
//! another ETag than was written: that one, so the object counts as whole again.

use super::super::{
    Registry, Result,
    commit::{Change, Current, HeldBy, Plan},
    fence::{self, Fenced},
    row,
};
use crate::{
    clock,
    oci::{Digest, RepoName},
    storage::{Expect, MetaStore, ObjectKey, Row, Version, keys, rows, rows::manifest::Body},
};

impl Registry {
    /// Notes the ETag in the blob's record as it was read, and in all links (rule G5). Where the blob was pushed again or collected
    /// meanwhile, there is nothing to note.
    pub(super) async fn mark_blob(&self, digest: &Digest, found: &Row, etag: &str) -> Result<()> {
        let record: rows::Blob = row::read_to_rewrite(found)?;
        let object = row::object_key(&record.object_key)?;
        let etag = etag.to_owned();
        let ops = [
            keys::blob(digest).put(
                Expect::Version(found.version),
                row::bytes(&rows::Blob { etag, ..record }),
            ),
            // For who dies on the way.
            self.dues.relink(clock::now_ms(), digest, &object),
        ];
        let deadline = self.commit_deadline();
        match fence::transact(&*self.meta, Version::random(), &ops, deadline).await? {
            Fenced::Committed => self.relink(digest, &object).await,
            Fenced::Refused { .. } => Ok(()),
        }
    }

    /// Notes the ETag in the manifest's row, as long as that names the object.
    pub(super) async fn mark_manifest(
        &self,
        repository: &RepoName,
        digest: &Digest,
        object: &ObjectKey,
        etag: &str,
    ) -> Result<()> {
        let change = MarkManifest {
            meta: &*self.meta,
            repository,
            digest,
            object,
            etag,
        };
        self.commit(repository, self.commit_deadline(), change).await
    }
}

/// It replaces the repository's row, so that nobody goes by what they remember.
struct MarkManifest<'a> {
    meta: &'a dyn MetaStore,
    repository: &'a RepoName,
    digest: &'a Digest,
    object: &'a ObjectKey,
    etag: &'a str,
}

impl Change for MarkManifest<'_> {
    type Outcome = ();

    const HELD_BY: HeldBy = HeldBy::Holder;

    async fn plan(&mut self, current: &Current) -> Result<Plan<()>> {
        let key = keys::manifest(self.repository, self.digest);
        let Some(found) = self.meta.get(&key).await? else {
            return Ok(Plan::Done(()));
        };
        let manifest: rows::Manifest = row::read_to_rewrite(&found)?;
        let names_it = matches!(&manifest.body, Some(Body::ObjectKey(key)) if key == self.object.as_str());
        if !names_it || manifest.deleted_ms > 0 || manifest.object_etag == self.etag {
            return Ok(Plan::Done(()));
        }
        let object_etag = self.etag.to_owned();
        let marked = rows::Manifest {
            object_etag,
            ..manifest
        };
        Ok(Plan::Apply {
            ops: vec![key.put(Expect::Version(found.version), row::bytes(&marked))],
            manifests: current.manifests(),
            changing: None,
            outcome: (),
        })
    }
}
