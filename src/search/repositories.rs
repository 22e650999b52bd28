//! Lists of repositories.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    sync::Arc,
};

use super::{
    Asking, SearchError,
    catalogue::Facet,
    name_of,
    paging::{Part, Wanted, rank},
    schema::{ImageSummary, PageInfo, Platform, RepoSummary, SortCriteria},
    summary::Signers,
    views::{self, Attached},
};
use crate::{
    oci::{Digest, RepoName, Tag},
    registry::{Preference, Summary, Tagged},
};

/// How much of the newest image is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newest {
    /// What the repository's summary says: its name, and whether it is signed.
    Named,
    /// What it is.
    Shown,
    /// And what refers to it.
    Attached,
}

type Preferences = BTreeMap<RepoName, Preference>;

/// A repository that may be in the list.
struct Candidate {
    name: RepoName,
    facet: Facet,
    rank: u32,
    stars: u64,
}

impl Asking {
    /// The part of the repositories whose names fit what was `searched` and which are `wanted`.
    pub(super) async fn repositories(
        &self,
        searched: &str,
        wanted: &Wanted,
        part: Part,
        newest: Newest,
    ) -> Result<(Vec<RepoSummary>, PageInfo), SearchError> {
        if part.order == SortCriteria::Severity {
            return Err(SearchError::Unsorted("repos", name_of(part.order)));
        }
        self.look().await;
        let preferences = self.preferences().await?;
        let stars = match part.order {
            SortCriteria::Stars => self.search.registry.starred(self.search.limits.walk).await?,
            _ => BTreeMap::new(),
        };
        let candidates = self.candidates(searched, wanted, &preferences, &stars);
        let candidates = self.seen(candidates, |candidate| &candidate.name).await;
        let (found, page) = part.take(candidates, |a, b| compare(part.order, a, b));
        let names: Vec<RepoName> = found.iter().map(|found| found.name.clone()).collect();
        let summaries = self.search.catalogue.summaries(&names).await?;
        let stars = self.search.registry.stars(&names).await?;
        let images = self.newest(&names, &summaries, newest).await?;
        let rows = found.into_iter().zip(summaries).zip(stars).zip(images);
        let shown = rows.map(|(((found, summary), stars), newest)| {
            let preference = preferences.get(&found.name).copied().unwrap_or_default();
            let summary = summary.as_deref();
            shown(&found.name, summary, preference, stars, found.rank, newest)
        });
        Ok((shown.collect(), page))
    }

    /// What is shown of one repository.
    pub(super) async fn repository(
        &self,
        name: &RepoName,
        summary: &Summary,
        newest: Option<ImageSummary>,
    ) -> Result<RepoSummary, SearchError> {
        let stars = self.search.registry.stars(std::slice::from_ref(name)).await?;
        let preference = self.preferences().await?.get(name).copied();
        Ok(shown(
            name,
            Some(summary),
            preference.unwrap_or_default(),
            stars.into_iter().sum(),
            0,
            newest,
        ))
    }

    /// What the user thinks of repositories.
    pub(super) async fn preferences(&self) -> Result<Preferences, SearchError> {
        let most = self.search.limits.preferences;
        match &self.asker.user {
            Some(user) => Ok(self.search.registry.preferences(user, most).await?),
            None => Ok(Preferences::new()),
        }
    }

    /// Whether who asks may see them isn't looked at.
    fn candidates(
        &self,
        searched: &str,
        wanted: &Wanted,
        preferences: &Preferences,
        stars: &BTreeMap<RepoName, u64>,
    ) -> Vec<Candidate> {
        self.search.catalogue.read(|known| {
            let fits = |(name, facet): (&RepoName, &Facet)| {
                let rank = rank(searched, name.as_str())?;
                let platforms = known.platforms(facet).iter();
                let platforms = platforms.map(|(os, architecture)| (os.as_str(), architecture.as_str()));
                let preference = preferences.get(name).copied().unwrap_or_default();
                let is_wanted = wanted.takes(platforms, facet.is_signed)
                    && wanted.takes_preference(preference.bookmarked, preference.starred);
                is_wanted.then(|| Candidate {
                    name: name.clone(),
                    facet: *facet,
                    rank,
                    stars: stars.get(name).copied().unwrap_or_default(),
                })
            };
            // Those of whom the user has said something are few.
            match wanted.is_bookmarked == Some(true) || wanted.is_starred == Some(true) {
                true => preferences
                    .keys()
                    .filter_map(|name| Some((name, known.get(name)?)))
                    .filter_map(fits)
                    .collect(),
                false => known.iter().filter_map(fits).collect(),
            }
        })
    }

    /// The newest images of the repositories, in their order.
    async fn newest(
        &self,
        names: &[RepoName],
        summaries: &[Option<Arc<Summary>>],
        newest: Newest,
    ) -> Result<Vec<Option<ImageSummary>>, SearchError> {
        let mut named: Vec<Option<ImageSummary>> = names
            .iter()
            .zip(summaries)
            .map(|(name, summary)| named(name, summary.as_deref()?))
            .collect();
        if newest == Newest::Named {
            return Ok(named);
        }
        let tagged = |summary: &Option<Arc<Summary>>| {
            let summary = summary.as_ref()?;
            let digest = Digest::parse(&summary.newest_digest).ok()?;
            Some((Tag::parse(&summary.newest_tag).ok()?, digest))
        };
        let wanted: Vec<(usize, Tag, Digest)> = summaries
            .iter()
            .enumerate()
            .filter_map(|(n, summary)| tagged(summary).map(|(tag, digest)| (n, tag, digest)))
            .collect();
        let tags: Vec<_> = wanted
            .iter()
            .map(|(n, tag, _)| (names[*n].clone(), tag.clone()))
            .collect();
        let tags = self.search.registry.named_by(&tags).await?;
        let images: Vec<_> = wanted
            .iter()
            .map(|(n, _, digest)| (names[*n].clone(), digest.clone()))
            .collect();
        let images = self.search.images.load(&images).await?;
        for (((n, ..), tagged), image) in wanted.iter().zip(tags).zip(images) {
            let (Some(tagged), Some(image)) = (tagged, image) else {
                continue;
            };
            // The tag may have moved since.
            if tagged.digest != image.facts.digest {
                continue;
            }
            let attached = match newest {
                Newest::Attached => self.attached_to(&names[*n], &tagged).await?,
                Newest::Named | Newest::Shown => Attached::nothing(),
            };
            let mut shown = views::image(&names[*n], &tagged, &image, &attached);
            if let Some(known) = named[*n].take() {
                shown.is_signed = known.is_signed;
                shown.signature_info = known.signature_info;
            }
            named[*n] = Some(shown);
        }
        Ok(named)
    }

    async fn attached_to(&self, repository: &RepoName, tagged: &Tagged) -> Result<Attached, SearchError> {
        let most = self.search.limits.referrers;
        let page = crate::oci::Page {
            limit: most.min(crate::oci::MAX_PAGE),
            last: None,
        };
        let referrers = self
            .search
            .registry
            .referrers(repository, &tagged.digest, &[], &page)
            .await?;
        Ok(Attached {
            signers: Signers::default(),
            referrers: BTreeMap::from([(tagged.digest.clone(), referrers.referrers)]),
        })
    }
}

fn compare(order: SortCriteria, a: &Candidate, b: &Candidate) -> Ordering {
    let by_name = || a.name.cmp(&b.name);
    match order {
        SortCriteria::AlphabeticAsc => by_name(),
        SortCriteria::AlphabeticDsc => by_name().reverse(),
        // Pulls aren't counted: all have the same number.
        SortCriteria::UpdateTime | SortCriteria::Downloads => Reverse(a.facet.changed_ms)
            .cmp(&Reverse(b.facet.changed_ms))
            .then_with(by_name),
        SortCriteria::Stars => Reverse(a.stars).cmp(&Reverse(b.stars)).then_with(by_name),
        SortCriteria::Relevance | SortCriteria::Severity => a.rank.cmp(&b.rank).then_with(by_name),
    }
}

/// What the summary says of the newest image.
fn named(repository: &RepoName, summary: &Summary) -> Option<ImageSummary> {
    let is_signed = !summary.newest_signatures.is_empty();
    let signatures = summary.newest_signatures.iter();
    (!summary.newest_tag.is_empty()).then(|| ImageSummary {
        repo_name: Some(repository.to_string()),
        tag: Some(summary.newest_tag.clone()),
        digest: Some(summary.newest_digest.clone()),
        is_signed: Some(is_signed),
        signature_info: Some(signatures.map(|tool| Some(views::signature(tool))).collect()),
        ..ImageSummary::default()
    })
}

fn shown(
    name: &RepoName,
    summary: Option<&Summary>,
    preference: Preference,
    stars: u64,
    rank: u32,
    newest_image: Option<ImageSummary>,
) -> RepoSummary {
    let number = |n: u64| Some(i32::try_from(n).unwrap_or(i32::MAX));
    let platforms = summary.iter().flat_map(|summary| &summary.platforms);
    let vendors = summary.iter().flat_map(|summary| &summary.vendors);
    RepoSummary {
        name: Some(name.to_string()),
        last_updated: summary
            .map(|summary| summary.changed_ms)
            .filter(|ms| *ms > 0)
            .map(views::at),
        size: Some(summary.map_or(0, |summary| summary.size).to_string()),
        platforms: Some(
            platforms
                .map(|platform| {
                    Some(Platform {
                        os: Some(platform.os.clone()),
                        arch: Some(platform.architecture.clone()),
                    })
                })
                .collect(),
        ),
        vendors: Some(vendors.cloned().map(Some).collect()),
        newest_image,
        download_count: Some(0),
        star_count: number(stars),
        is_bookmarked: Some(preference.bookmarked),
        is_starred: Some(preference.starred),
        rank: number(rank.into()),
    }
}
