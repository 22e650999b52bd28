//! The manifests that refer to another one.

use std::collections::BTreeMap;

use super::{Registry, Result};
use crate::oci::{Descriptor, Digest, Page, RepoName};

/// A manifest that refers to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// What it is.
    pub descriptor: Descriptor,
    /// What it is about its subject.
    pub artifact_type: Option<String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// A piece of the list of referrers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrers {
    /// In the order of their digests.
    pub referrers: Vec<Referrer>,
    /// There may be more after this digest (which need not be among the above).
    pub next: Option<String>,
}

impl Registry {
    /// Manifests of the repository that refer to `subject`, of one of the artifact types `types` if there are any.
    pub async fn referrers(
        &self,
        repository: &RepoName,
        subject: &Digest,
        types: &[String],
        page: &Page,
    ) -> Result<Referrers> {
        let _ = (repository, subject, types, page);
        todo!()
    }
}
