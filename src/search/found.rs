//! Images, by their repository, by a digest, and by the layers that they share.
//!
//! Where a digest is found two rows lead: which repositories hold a blob, and which of their manifests reference it. So
//! neither the number of repositories nor that of their images matters. Manifests have no such row, and nor has a part of a
//! digest: for those a bounded number of repositories is looked through, and the answer says if there were more.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    AT_A_TIME, Asking, SearchError,
    attached::Attached,
    counted::{Pulled, Pulls, pulled},
    images::Image,
    known::Known,
    name_of,
    paging::{Part, Wanted},
    schema::{ImageSummary, PageInfo, SortCriteria},
    summary::{latest, shown},
    views,
};
use crate::{
    admission::Visible,
    oci::{Digest, RepoName, Tag},
    registry::{Overview, Registry, RegistryError, Tagged},
};

/// Manifests that reference one blob, in one repository, that are looked at.
const MAX_PARENTS: usize = 1000;
/// Different layers of an image that are looked for.
const MAX_LAYERS: usize = 128;

/// A tag of a repository.
pub(super) struct Found {
    pub(super) repository: RepoName,
    pub(super) tagged: Tagged,
    pub(super) image: Image,
    /// As far as it was counted.
    pub(super) pulled: Pulled,
}

/// What a digest is searched for among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Related {
    /// Images that have all layers of one of its manifests.
    Derived,
    /// Images of which one of its manifests has all layers.
    Base,
}

impl Found {
    /// What is shown of it.
    pub(super) fn shown(&self, attached: &Attached) -> ImageSummary {
        let naming = (&self.tagged).into();
        views::image(&self.repository, naming, &self.image, attached, &self.pulled)
    }

    fn place(&self) -> (&RepoName, &Image) {
        (&self.repository, &self.image)
    }

    /// Whether it is for what is wanted, signed or not.
    fn has_platform(&self, wanted: &Wanted) -> bool {
        let builds = self.image.builds();
        let platforms = builds.map(|(_, build)| (build.os.as_str(), build.architecture.as_str()));
        wanted.takes_platforms(platforms)
    }
}

impl Asking {
    /// A repository's tags, if who asks may see it.
    pub(super) async fn overview(&self, repository: &RepoName) -> Result<Option<Overview>, SearchError> {
        if !self.sees(repository) {
            return Ok(None);
        }
        let overview = self
            .search
            .registry
            .overview(repository, self.search.limits.tags)
            .await?;
        if overview.as_ref().is_some_and(|overview| overview.more) {
            self.leave_out();
        }
        Ok(overview)
    }

    /// The images of those tags, as far as they are images.
    pub(super) async fn images(
        &self,
        repository: &RepoName,
        tags: &[&Tagged],
    ) -> Result<Vec<Found>, SearchError> {
        let wanted: Vec<_> = tags
            .iter()
            .map(|tag| (repository.clone(), tag.digest.clone()))
            .collect();
        let images = self.search.images.load(&wanted).await?;
        let found = |(tagged, image): (&&Tagged, Option<Image>)| {
            Some(Found {
                repository: repository.clone(),
                tagged: (*tagged).clone(),
                image: image?,
                pulled: Pulled::new(),
            })
        };
        Ok(tags.iter().zip(images).filter_map(found).collect())
    }

    /// Images of one repository whose tags begin with `prefix`. `None` if it isn't there, or not for who asks.
    pub(super) async fn tagged(
        &self,
        repository: &RepoName,
        prefix: &str,
        wanted: &Wanted,
        part: Part,
        pulls: Pulls,
    ) -> Result<Option<(Vec<ImageSummary>, PageInfo)>, SearchError> {
        sortable(part)?;
        let Some(overview) = self.overview(repository).await? else {
            return Ok(None);
        };
        if wanted.is_personal() {
            let preferences = self.preferences().await?;
            let preference = preferences.get(repository).copied().unwrap_or_default();
            if !wanted.takes_preference(preference.bookmarked, preference.starred) {
                return Ok(Some((Vec::new(), PageInfo::default())));
            }
        }
        let mut tags = shown(&overview);
        tags.retain(|tagged| tagged.tag.as_str().starts_with(prefix));
        let by_tag = |a: &&Tagged, b: &&Tagged| a.tag.cmp(&b.tag);
        let needs_no_facts = match part.order {
            SortCriteria::AlphabeticAsc | SortCriteria::Relevance | SortCriteria::AlphabeticDsc => {
                wanted.takes_any_platform() && !wanted.is_signed
            }
            _ => false,
        };
        if needs_no_facts {
            let is_backwards = part.order == SortCriteria::AlphabeticDsc;
            let (tags, page) = part.take(tags, |a, b| match is_backwards {
                true => by_tag(a, b).reverse(),
                false => by_tag(a, b),
            });
            let mut found = self.images(repository, &tags).await?;
            self.count(pulls, &mut found).await?;
            let attached = self.attached(repository, &overview, images_of(&found)).await?;
            let images = found.iter().map(|found| found.shown(&attached)).collect();
            return Ok(Some((images, page)));
        }
        let most = self.search.limits.images;
        if tags.len() > most {
            self.leave_out();
        }
        let mut found = self.images(repository, &latest(tags, most)).await?;
        found.retain(|found| found.has_platform(wanted));
        let mut attached = None;
        if wanted.is_signed {
            let of_all = self.attached(repository, &overview, images_of(&found)).await?;
            found.retain(|found| of_all.is_signed(&found.tagged.digest) == Some(true));
            attached = Some(of_all);
        }
        let (found, page) = self.part_of_found(found, part, pulls).await?;
        let attached = match attached {
            Some(attached) => attached,
            None => self.attached(repository, &overview, images_of(&found)).await?,
        };
        let images = found.iter().map(|found| found.shown(&attached)).collect();
        Ok(Some((images, page)))
    }

    /// Images in which a digest has this beginning: their own, a manifest's, the configuration's, a layer's.
    pub(super) async fn with_digest(
        &self,
        digest: &str,
        wanted: &Wanted,
        part: Part,
        pulls: Pulls,
    ) -> Result<(Vec<ImageSummary>, PageInfo), SearchError> {
        sortable(part)?;
        if matches!(self.asker.sees, Visible::Nothing) {
            return Ok(Default::default());
        }
        let mut found = match Digest::parse(digest) {
            Ok(digest) => self.by_rows(&digest).await?,
            Err(_) => self.by_walk(digest).await?,
        };
        found.retain(|found| {
            let contains = |other: &Digest| other.as_str().contains(digest);
            contains(&found.tagged.digest)
                || found.image.builds().any(|(facts, build)| {
                    let blobs = build.config.iter().chain(&build.layers);
                    contains(&facts.digest) || blobs.map(|(digest, _)| digest).any(contains)
                })
        });
        self.show(found, wanted, part, pulls).await
    }

    /// Images that are built on this one, or that it is built on.
    pub(super) async fn related(
        &self,
        image: &Image,
        digest: Option<&str>,
        related: Related,
        part: Part,
        pulls: Pulls,
    ) -> Result<(Vec<ImageSummary>, PageInfo), SearchError> {
        sortable(part)?;
        let builds = image.builds();
        let of: Vec<(Digest, Vec<Digest>)> = builds
            .filter(|(facts, _)| digest.is_none_or(|digest| facts.digest.as_str() == digest))
            .map(|(facts, build)| {
                let layers = build.layers.iter().map(|(digest, _)| digest.clone());
                (facts.digest.clone(), layers.collect::<Vec<_>>())
            })
            .filter(|(_, layers)| !layers.is_empty())
            .collect();
        let starts: BTreeSet<Digest> = match related {
            // Whatever is built on one has its last layer, which the fewest others have.
            Related::Derived => of
                .iter()
                .filter_map(|(_, layers)| layers.last().cloned())
                .collect(),
            Related::Base => of.iter().flat_map(|(_, layers)| layers.iter().cloned()).collect(),
        };
        if starts.len() > MAX_LAYERS {
            self.leave_out();
        }
        let mut candidates = BTreeMap::new();
        for layer in starts.iter().take(MAX_LAYERS) {
            self.holding(layer, &mut candidates).await?;
        }
        let mut found = self.tags_of(candidates).await?;
        found.retain(|found| {
            found.image.builds().any(|(facts, build)| {
                let theirs: BTreeSet<&Digest> = build.layers.iter().map(|(digest, _)| digest).collect();
                of.iter().any(|(digest, ours)| {
                    let ours: BTreeSet<&Digest> = ours.iter().collect();
                    let fits = match related {
                        Related::Derived => ours.is_subset(&theirs),
                        Related::Base => !theirs.is_empty() && theirs.is_subset(&ours),
                    };
                    fits && *digest != facts.digest
                })
            })
        });
        self.show(found, &Wanted::default(), part, pulls).await
    }

    /// Images with this digest, found by the rows that lead to them.
    async fn by_rows(&self, digest: &Digest) -> Result<Vec<Found>, SearchError> {
        let mut candidates = BTreeMap::new();
        self.holding(digest, &mut candidates).await?;
        // It may be a manifest's.
        self.look().await;
        let names = self.first_names().await;
        for repository in self.search.registry.with_manifest(&names, digest).await? {
            let manifests: &mut BTreeSet<Digest> = candidates.entry(repository).or_default();
            manifests.insert(digest.clone());
        }
        self.tags_of(candidates).await
    }

    /// The first repositories that who asks may see.
    async fn first_names(&self) -> Vec<RepoName> {
        let most = self.search.limits.walk;
        let (mut names, mut last) = (Vec::new(), None);
        while names.len() <= most {
            let after = |known: &Known| known.names_after(last.as_ref(), AT_A_TIME);
            let part = self.search.catalogue.read(after);
            let Some(end) = part.last().cloned() else {
                break;
            };
            names.extend(self.seen(part, |name| name).await);
            last = Some(end);
        }
        if names.len() > most {
            self.leave_out();
            names.truncate(most);
        }
        names
    }

    /// All images of the first repositories.
    async fn by_walk(&self, part_of_digest: &str) -> Result<Vec<Found>, SearchError> {
        /// A walk reads all that a repository has, not a row.
        const DEARER: usize = 20;
        // Nothing else stands in a digest.
        let is_possible = part_of_digest
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b":sha".contains(&b));
        if !is_possible {
            return Ok(Vec::new());
        }
        self.look().await;
        let names = self.first_names().await;
        let most = (self.search.limits.walk / DEARER).max(1);
        if names.len() > most {
            self.leave_out();
        }
        let mut found = Vec::new();
        for repository in names.iter().take(most) {
            let Some(overview) = self.overview(repository).await? else {
                continue;
            };
            let tags = latest(shown(&overview), self.search.limits.page);
            found.extend(self.images(repository, &tags).await?);
        }
        Ok(found)
    }

    /// Adds the manifests that reference the blob, by repository.
    async fn holding(
        &self,
        blob: &Digest,
        candidates: &mut BTreeMap<RepoName, BTreeSet<Digest>>,
    ) -> Result<(), SearchError> {
        let (holders, more) = self
            .search
            .registry
            .holders(blob, self.search.limits.walk)
            .await?;
        if more {
            self.leave_out();
        }
        for repository in holders {
            if !self.sees(&repository) {
                continue;
            }
            let parents = self
                .search
                .registry
                .parents(&repository, blob, MAX_PARENTS)
                .await?;
            candidates.entry(repository).or_default().extend(parents);
        }
        Ok(())
    }

    /// The images that name one of the candidates, or an index that lists one.
    async fn tags_of(
        &self,
        candidates: BTreeMap<RepoName, BTreeSet<Digest>>,
    ) -> Result<Vec<Found>, SearchError> {
        let registry = &self.search.registry;
        let mut wanted: Vec<(RepoName, Tag)> = Vec::new();
        for (repository, manifests) in candidates {
            let mut all = manifests.clone();
            for manifest in &manifests {
                all.extend(registry.parents(&repository, manifest, MAX_PARENTS).await?);
            }
            for manifest in &all {
                let tags = registry
                    .tags_of(&repository, manifest, self.search.limits.page)
                    .await?;
                wanted.extend(tags.into_iter().map(|tag| (repository.clone(), tag)));
            }
            if wanted.len() > self.search.limits.images {
                self.leave_out();
                break;
            }
        }
        let tags = registry.named_by(&wanted).await?;
        let tags: Vec<(RepoName, Tagged)> = wanted
            .into_iter()
            .zip(tags)
            .filter_map(|((repository, _), tagged)| Some((repository, tagged?)))
            .filter(|(_, tagged)| super::summary::attached_to(&tagged.tag).is_none())
            .collect();
        let images: Vec<_> = tags
            .iter()
            .map(|(repository, tagged)| (repository.clone(), tagged.digest.clone()))
            .collect();
        let images = self.search.images.load(&images).await?;
        let found = |((repository, tagged), image): ((RepoName, Tagged), Option<Image>)| {
            Some(Found {
                repository,
                tagged,
                image: image?,
                pulled: Pulled::new(),
            })
        };
        Ok(tags.into_iter().zip(images).filter_map(found).collect())
    }

    /// The part that is asked for of what was found in several repositories.
    async fn show(
        &self,
        mut found: Vec<Found>,
        wanted: &Wanted,
        part: Part,
        pulls: Pulls,
    ) -> Result<(Vec<ImageSummary>, PageInfo), SearchError> {
        if wanted.is_personal() {
            let preferences = self.preferences().await?;
            found.retain(|found| {
                let preference = preferences.get(&found.repository).copied().unwrap_or_default();
                wanted.takes_preference(preference.bookmarked, preference.starred)
            });
        }
        found.retain(|found| found.has_platform(wanted));
        let mut attached = HashMap::new();
        if wanted.is_signed {
            self.attach(&mut attached, found.iter().map(Found::place)).await?;
            found.retain(|found| attached[&found.repository].is_signed(&found.tagged.digest) == Some(true));
        }
        let (found, page) = self.part_of_found(found, part, pulls).await?;
        self.attach(&mut attached, found.iter().map(Found::place)).await?;
        let images = found
            .iter()
            .map(|found| found.shown(&attached[&found.repository]))
            .collect();
        Ok((images, page))
    }

    /// Counts what was found.
    pub(super) async fn count(&self, pulls: Pulls, found: &mut [Found]) -> Result<(), SearchError> {
        let counted = self.counted(pulls, found.iter().map(Found::place)).await?;
        for found in found {
            found.pulled = pulled(pulls, &found.repository, &found.image, &counted);
        }
        Ok(())
    }

    /// The part that is asked for, counted as far as that is asked: all that was found where they are sorted by it.
    async fn part_of_found(
        &self,
        mut found: Vec<Found>,
        part: Part,
        pulls: Pulls,
    ) -> Result<(Vec<Found>, PageInfo), SearchError> {
        if part.order == SortCriteria::Downloads {
            let pulls = Pulls {
                of_images: true,
                ..Pulls::default()
            };
            self.count(pulls, &mut found).await?;
        }
        let (mut found, page) = part.take(found, |a, b| compare(part.order, a, b));
        self.count(pulls, &mut found).await?;
        Ok((found, page))
    }
}

/// Reads one tag with its image.
pub(super) async fn one(
    registry: &Registry,
    repository: &RepoName,
    tag: &Tag,
) -> Result<Option<Tagged>, RegistryError> {
    let found = registry.named_by(&[(repository.clone(), tag.clone())]).await?;
    Ok(found.into_iter().next().flatten())
}

pub(super) fn images_of(found: &[Found]) -> impl Iterator<Item = &Image> {
    found.iter().map(|found| &found.image)
}

fn sortable(part: Part) -> Result<(), SearchError> {
    match part.order {
        SortCriteria::Severity | SortCriteria::Stars => {
            Err(SearchError::Unsorted("images", name_of(part.order)))
        }
        SortCriteria::Relevance
        | SortCriteria::UpdateTime
        | SortCriteria::AlphabeticAsc
        | SortCriteria::AlphabeticDsc
        | SortCriteria::Downloads => Ok(()),
    }
}

fn compare(order: SortCriteria, a: &Found, b: &Found) -> std::cmp::Ordering {
    let by_name = || (&a.repository, &a.tagged.tag).cmp(&(&b.repository, &b.tagged.tag));
    match order {
        SortCriteria::AlphabeticDsc => by_name().reverse(),
        SortCriteria::UpdateTime => {
            let key = |found: &Found| (found.image.created(), found.tagged.pushed_ms);
            key(b).cmp(&key(a)).then_with(by_name)
        }
        SortCriteria::Downloads => {
            let pulls = |found: &Found| found.pulled.get(&found.tagged.digest).map(|pull| pull.pulls);
            pulls(b).cmp(&pulls(a)).then_with(by_name)
        }
        SortCriteria::Relevance
        | SortCriteria::AlphabeticAsc
        | SortCriteria::Severity
        | SortCriteria::Stars => by_name(),
    }
}
