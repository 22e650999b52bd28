//! What is attached to images: what refers to them, and the signatures of cosign's tags.

use std::collections::{BTreeMap, BTreeSet};

use super::{Asking, SearchError, found::Found, summary::Signers, views::Attached};
use crate::{
    oci::{Digest, MAX_PAGE, Page, RepoName},
    registry::{Overview, Referrer},
};

impl Asking {
    /// What is attached to the repository's manifests, if who asks may see it.
    pub(super) async fn attached_of(&self, repository: &RepoName) -> Result<Attached, SearchError> {
        match self.overview(repository).await? {
            Some(overview) => self.attached(repository, &overview).await,
            None => Ok(Attached::nothing()),
        }
    }

    /// The same, where its tags are known.
    pub(super) async fn attached(
        &self,
        repository: &RepoName,
        overview: &Overview,
    ) -> Result<Attached, SearchError> {
        let (referrers, more) = self.first_referrers(repository).await?;
        if more {
            self.leave_out();
        }
        Ok(Attached {
            signers: Signers::of(overview),
            referrers,
        })
    }

    /// What is attached to one image, however much is to others of its repository.
    pub(super) async fn attached_to(
        &self,
        found: &Found,
        overview: &Overview,
    ) -> Result<Attached, SearchError> {
        let (mut referrers, more) = self.first_referrers(&found.repository).await?;
        if more {
            let manifests = found.image.manifests.iter().chain([&found.image.facts]);
            let subjects: BTreeSet<&Digest> = manifests.map(|facts| &facts.digest).collect();
            for subject in subjects {
                let of_this = self.referrers_of(&found.repository, subject, &[]).await?;
                referrers.insert(subject.clone(), of_this);
            }
        }
        Ok(Attached {
            signers: Signers::of(overview),
            referrers,
        })
    }

    /// What refers to one manifest, of one of these types if there are any.
    pub(super) async fn referrers_of(
        &self,
        repository: &RepoName,
        subject: &Digest,
        types: &[String],
    ) -> Result<Vec<Referrer>, SearchError> {
        let page = Page {
            limit: self.search.limits.referrers.min(MAX_PAGE),
            last: None,
        };
        let registry = &self.search.registry;
        let found = registry.referrers(repository, subject, types, &page).await?;
        if found.next.is_some() {
            self.leave_out();
        }
        Ok(found.referrers)
    }

    /// The first of all, by subject, and whether there are more.
    async fn first_referrers(
        &self,
        repository: &RepoName,
    ) -> Result<(BTreeMap<Digest, Vec<Referrer>>, bool), SearchError> {
        let most = self.search.limits.referrers;
        Ok(self.search.registry.all_referrers(repository, most).await?)
    }
}
