//! What is attached to images: what refers to them, and the signatures of cosign's tags.
//!
//! Of a repository a bounded number of referrers is looked at. Where it has more, those of the images that are shown are looked
//! for; and of what may have some that weren't seen it isn't said that it has none.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use super::{Asking, SearchError, images::Image, summary::Signers};
use crate::{
    oci::{Digest, RepoName},
    registry::{Overview, Referrer, Referring},
};

/// Manifests whose referrers are looked for at the same time.
const AT_ONCE: usize = 16;

/// What is attached to manifests of a repository.
#[derive(Default)]
pub(super) struct Attached {
    signers: Signers,
    /// By subject.
    referrers: BTreeMap<Digest, Referring>,
    /// Of which further subjects it is known that they have none.
    looked_at: LookedAt,
}

#[derive(Default)]
enum LookedAt {
    #[default]
    All,
    /// Those whose digests come before this one.
    Before(Digest),
    None,
}

impl Attached {
    /// What refers to one manifest, where nobody looked at others.
    pub(super) fn to(subject: Digest, referring: Referring) -> Self {
        Self {
            signers: Signers::default(),
            referrers: BTreeMap::from([(subject, referring)]),
            looked_at: LookedAt::None,
        }
    }

    /// By which tools a manifest is signed; `None` if that isn't known.
    pub(super) fn signatures(&self, digest: &Digest) -> Option<BTreeSet<&'static str>> {
        let (first, is_all) = self.of(digest);
        let mut tools = self.signers.of_tag(digest);
        tools.extend(first.iter().filter_map(Referrer::signing_tool));
        (is_all || !tools.is_empty()).then_some(tools)
    }

    pub(super) fn is_signed(&self, digest: &Digest) -> Option<bool> {
        self.signatures(digest).map(|tools| !tools.is_empty())
    }

    /// What refers to a manifest; `None` if that isn't known.
    pub(super) fn referrers(&self, digest: &Digest) -> Option<&[Referrer]> {
        let (first, is_all) = self.of(digest);
        (is_all || !first.is_empty()).then_some(first)
    }

    /// What is known to refer to a manifest, and whether that is all that does.
    fn of(&self, digest: &Digest) -> (&[Referrer], bool) {
        match (self.referrers.get(digest), &self.looked_at) {
            (Some(referring), _) => (&referring.first, !referring.more),
            (None, LookedAt::All) => (&[], true),
            (None, LookedAt::Before(end)) => (&[], digest < end),
            (None, LookedAt::None) => (&[], false),
        }
    }
}

impl Asking {
    /// Adds what is attached to these images, where nothing is known of their repository yet.
    pub(super) async fn attach<'a>(
        &self,
        attached: &mut HashMap<RepoName, Attached>,
        images: impl Iterator<Item = (&'a RepoName, &'a Image)>,
    ) -> Result<(), SearchError> {
        let mut missing: BTreeMap<&RepoName, Vec<&Image>> = BTreeMap::new();
        for (repository, image) in images.filter(|(repository, _)| !attached.contains_key(*repository)) {
            missing.entry(repository).or_default().push(image);
        }
        let most = (self.search.limits.page / missing.len().max(1)).max(1);
        for (repository, images) in missing {
            let of = match self.overview(repository).await? {
                Some(overview) => {
                    let images = images.into_iter();
                    self.attached_of(repository, &overview, images, most).await?
                }
                None => Attached::default(),
            };
            attached.insert(repository.clone(), of);
        }
        Ok(())
    }

    /// What is attached to images of one repository, whose tags are these.
    pub(super) async fn attached<'a>(
        &self,
        repository: &RepoName,
        overview: &Overview,
        images: impl Iterator<Item = &'a Image>,
    ) -> Result<Attached, SearchError> {
        let most = self.search.limits.page;
        self.attached_of(repository, overview, images, most).await
    }

    /// The same. If the repository has too many referrers, those of so many manifests are looked for: no more of all together.
    async fn attached_of<'a>(
        &self,
        repository: &RepoName,
        overview: &Overview,
        images: impl Iterator<Item = &'a Image>,
        manifests: usize,
    ) -> Result<Attached, SearchError> {
        let (registry, most) = (&self.search.registry, self.search.limits.referrers);
        let (referrers, more) = registry.all_referrers(repository, most).await?;
        let last = referrers.keys().next_back().filter(|_| more).cloned();
        let mut attached = Attached {
            signers: Signers::of(overview),
            looked_at: last.map_or(LookedAt::All, LookedAt::Before),
            referrers,
        };
        if !more {
            return Ok(attached);
        }
        let mut unknown = unknown(&attached, images);
        if unknown.len() > manifests {
            self.leave_out();
            unknown.truncate(manifests);
        }
        let each = (most / unknown.len().max(1)).max(1);
        let asked: Vec<_> = unknown
            .iter()
            .map(|subject| self.referring_to(repository, subject, each).boxed())
            .collect();
        let found: Vec<Referring> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
        attached.referrers.extend(unknown.into_iter().zip(found));
        Ok(attached)
    }

    /// What refers to one manifest, at most so much.
    pub(super) async fn referring_to(
        &self,
        repository: &RepoName,
        subject: &Digest,
        most: usize,
    ) -> Result<Referring, SearchError> {
        let found = self
            .search
            .registry
            .referring_to(repository, subject, most)
            .await?;
        if found.more {
            self.leave_out();
        }
        Ok(found)
    }
}

/// The manifests of these images of which it isn't known what all refers to them, first those that tags name.
fn unknown<'a>(attached: &Attached, images: impl Iterator<Item = &'a Image>) -> Vec<Digest> {
    let mut seen = BTreeSet::new();
    let mut unknown: Vec<(usize, &Digest)> = images
        .flat_map(|image| [&image.facts].into_iter().chain(&image.manifests).enumerate())
        .map(|(n, facts)| (n, &facts.digest))
        .filter(|(_, digest)| !attached.of(digest).1 && seen.insert(*digest))
        .collect();
    unknown.sort_by_key(|(n, _)| *n);
    unknown.into_iter().map(|(_, digest)| digest.clone()).collect()
}
