//! Lists of repositories.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
};

use super::{
    Asking, SearchError,
    attached::Attached,
    catalogue::Wants,
    counted::{Pulled, Pulls},
    images::{Counted, Counting, Image},
    known::{Facet, Known},
    name_of,
    paging::{Part, Searched, Wanted},
    schema::{ImageSummary, PageInfo, Platform, RepoSummary, SortCriteria},
    views::{self, Naming},
};
use crate::{
    admission::Visible,
    oci::{Digest, RepoName},
    registry::{Asked, Listed, Preference, Summary},
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

/// What of repositories is asked for, as far as it decides what is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) newest: Newest,
    /// Of the newest image.
    pub(super) pulls: Pulls,
    /// How often the repository was pulled.
    pub(super) has_downloads: bool,
}

type Preferences = BTreeMap<RepoName, Preference>;

/// A repository that may be in the list, with what lists are sorted by.
struct Candidate<N> {
    name: N,
    rank: u32,
    stars: u64,
    downloads: u64,
    changed_ms: u64,
    /// Its platforms aren't known, so it may not be what is wanted.
    is_doubtful: bool,
}

impl Candidate<&RepoName> {
    fn owned(self) -> Candidate<RepoName> {
        Candidate {
            name: self.name.clone(),
            rank: self.rank,
            stars: self.stars,
            downloads: self.downloads,
            changed_ms: self.changed_ms,
            is_doubtful: self.is_doubtful,
        }
    }
}

impl Asking {
    /// The part of the repositories whose names fit what was `searched` and which are `wanted`.
    pub(super) async fn repositories(
        &self,
        searched: &str,
        wanted: &Wanted,
        part: Part,
        asked: Shown,
    ) -> Result<(Vec<RepoSummary>, PageInfo), SearchError> {
        if part.order == SortCriteria::Severity {
            return Err(SearchError::Unsorted("repos", name_of(part.order)));
        }
        if matches!(self.asker.sees, Visible::Nothing) {
            return Ok(Default::default());
        }
        self.look_for(match part.order {
            SortCriteria::Downloads => Wants::Downloads,
            _ => Wants::Repositories,
        })
        .await;
        let preferences = match wanted.is_personal() {
            true => self.preferences().await?,
            false => Preferences::new(),
        };
        let stars = match part.order {
            SortCriteria::Stars => self.search.registry.starred(self.search.limits.walk).await?,
            _ => BTreeMap::new(),
        };
        let searched = Searched::of(searched);
        let (found, page) = if self.asker.sees.is_everything() {
            self.search.catalogue.read(|known| {
                let fitting = candidates(known, &searched, wanted, &preferences, &stars);
                let (found, page) = self.part_of(fitting, part);
                (found.into_iter().map(Candidate::owned).collect(), page)
            })
        } else {
            let fitting: Vec<_> = self.search.catalogue.read(|known| {
                let fitting = candidates(known, &searched, wanted, &preferences, &stars);
                fitting.map(Candidate::owned).collect()
            });
            self.part_of(self.seen(fitting, |candidate| &candidate.name).await, part)
        };
        let names: Vec<RepoName> = found.iter().map(|found| found.name.clone()).collect();
        let mut listed = self.listed(&names).await?;
        let kept = listed.iter_mut().map(|listed| listed.summary.take()).collect();
        let summaries = self.search.catalogue.summaries(&names, kept).await?;
        let (images, downloads) = self.newest(&names, &summaries, asked).await?;
        let rows = found.into_iter().zip(listed).zip(summaries).zip(images);
        let mut downloads = downloads.into_iter();
        let shown = rows.map(|(((found, listed), summary), newest)| {
            let downloads = downloads.next().unwrap_or_default();
            shown(
                &found.name,
                summary.as_ref(),
                &listed,
                downloads,
                found.rank,
                newest,
            )
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
        let names = std::slice::from_ref(name);
        let listed = self.listed(names).await?.pop().unwrap_or_default();
        let asked = Asked {
            downloads: names,
            ..Asked::default()
        };
        let downloads = self.search.registry.told(asked).await?.downloads.pop();
        let downloads = downloads.unwrap_or_default();
        Ok(shown(name, Some(summary), &listed, downloads, 0, newest))
    }

    async fn listed(&self, names: &[RepoName]) -> Result<Vec<Listed>, SearchError> {
        let user = self.asker.user.as_deref();
        Ok(self.search.registry.listed(names, user).await?)
    }

    /// What the user thinks of repositories.
    pub(super) async fn preferences(&self) -> Result<Preferences, SearchError> {
        let most = self.search.limits.preferences;
        match &self.asker.user {
            Some(user) => Ok(self.search.registry.preferences(user, most).await?),
            None => Ok(Preferences::new()),
        }
    }

    /// The part that is asked for of all that who asks may see.
    fn part_of<N: Ord>(
        &self,
        seen: impl IntoIterator<Item = Candidate<N>>,
        part: Part,
    ) -> (Vec<Candidate<N>>, PageInfo) {
        let seen = seen.into_iter().inspect(|candidate| {
            if candidate.is_doubtful {
                self.leave_out();
            }
        });
        part.take(seen, |a, b| compare(part.order, a, b))
    }

    /// The newest images of the repositories, and how often these were pulled if that is asked, in their order.
    async fn newest(
        &self,
        names: &[RepoName],
        summaries: &[Option<Summary>],
        asked: Shown,
    ) -> Result<(Vec<Option<ImageSummary>>, Vec<u64>), SearchError> {
        let pairs = names.iter().zip(summaries);
        let of = |(name, summary): (_, &Option<Summary>)| named(name, summary.as_ref()?);
        let mut shown: Vec<Option<ImageSummary>> = pairs.clone().map(of).collect();
        let of = |(name, summary): (&RepoName, &Option<Summary>)| {
            Some((
                name.clone(),
                Digest::parse(&summary.as_ref()?.newest_digest).ok()?,
            ))
        };
        let wanted: Vec<_> = match asked.newest {
            Newest::Named => Vec::new(),
            Newest::Shown | Newest::Attached => pairs.clone().filter_map(of).collect(),
        };
        let counting = Counting {
            manifests: if asked.pulls.of_images { &wanted } else { &[] },
            repositories: if asked.has_downloads { names } else { &[] },
        };
        let (images, counted) = self.search.images.load_and_count(&wanted, counting).await?;
        let Counted {
            manifests: pulls,
            repositories: downloads,
        } = counted;
        let mut pulls = pulls.into_iter();
        let mut images: HashMap<RepoName, (Image, Pulled)> = wanted
            .into_iter()
            .zip(images)
            .filter_map(|((name, digest), image)| {
                let pulled = pulls.next().flatten().map(|pull| (digest, pull));
                Some((name, (image?, pulled.into_iter().collect())))
            })
            .collect();
        if asked.pulls.of_manifests {
            self.count_manifests(&mut images).await?;
        }
        for ((name, summary), shown) in pairs.zip(&mut shown) {
            let (Some(summary), Some((image, pulled))) = (summary, images.remove(name)) else {
                continue;
            };
            let attached = match asked.newest {
                Newest::Attached => {
                    let (subject, most) = (&image.facts.digest, self.search.limits.referrers);
                    let referring = self.referring_to(name, subject, most).await?;
                    Attached::to(subject.clone(), referring)
                }
                Newest::Named | Newest::Shown => Attached::default(),
            };
            let signed = shown.take();
            *shown = Some(ImageSummary {
                is_signed: signed.as_ref().and_then(|signed| signed.is_signed),
                signature_info: signed.and_then(|signed| signed.signature_info),
                ..views::image(name, Naming::of_newest(summary), &image, &attached, &pulled)
            });
        }
        Ok((shown, downloads))
    }
}

/// The repositories that fit, whether or not who asks may see them.
fn candidates<'a>(
    known: &'a Known,
    searched: &'a Searched,
    wanted: &'a Wanted,
    preferences: &'a Preferences,
    stars: &'a BTreeMap<RepoName, u64>,
) -> Box<dyn Iterator<Item = Candidate<&'a RepoName>> + 'a> {
    let fits = move |(name, facet): (&'a RepoName, &'a Facet)| {
        let rank = searched.rank(name.as_str())?;
        let platforms = known.platforms(facet);
        let are_wanted = |platforms: &[(String, String)]| {
            let platforms = platforms.iter();
            wanted.takes_platforms(platforms.map(|(os, architecture)| (os.as_str(), architecture.as_str())))
        };
        let is_wanted = wanted.takes_signed(facet.is_signed) && platforms.is_none_or(are_wanted);
        let is_liked = || {
            let Preference { starred, bookmarked } = preferences.get(name).copied().unwrap_or_default();
            wanted.takes_preference(bookmarked, starred)
        };
        (is_wanted && (!wanted.is_personal() || is_liked())).then(|| Candidate {
            name,
            rank,
            stars: stars.get(name).copied().unwrap_or_default(),
            downloads: facet.downloads(),
            changed_ms: facet.changed_ms,
            is_doubtful: platforms.is_none() && !wanted.takes_any_platform(),
        })
    };
    // Those of whom the user has said something are few.
    if wanted.is_bookmarked == Some(true) || wanted.is_starred == Some(true) {
        let liked = preferences
            .keys()
            .filter_map(|name| Some((name, known.get(name)?)));
        return Box::new(liked.filter_map(fits));
    }
    Box::new(known.iter().filter_map(fits))
}

fn compare<N: Ord>(order: SortCriteria, a: &Candidate<N>, b: &Candidate<N>) -> Ordering {
    let by_name = || a.name.cmp(&b.name);
    match order {
        SortCriteria::AlphabeticAsc => by_name(),
        SortCriteria::AlphabeticDsc => by_name().reverse(),
        SortCriteria::UpdateTime => b.changed_ms.cmp(&a.changed_ms).then_with(by_name),
        SortCriteria::Downloads => b.downloads.cmp(&a.downloads).then_with(by_name),
        SortCriteria::Stars => b.stars.cmp(&a.stars).then_with(by_name),
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
    listed: &Listed,
    downloads: u64,
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
        download_count: number(downloads),
        star_count: number(listed.stars),
        is_bookmarked: Some(listed.preference.bookmarked),
        is_starred: Some(listed.preference.starred),
        rank: number(rank.into()),
    }
}
