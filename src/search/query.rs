//! The questions of the schema.

use futures_util::FutureExt as _;
use juniper::{DefaultScalarValue, Executor, FieldError, FieldResult, graphql_object};

use super::{
    Asking, SearchError,
    counted::{Pulled, Pulls},
    found::{Found, Related, images_of, one},
    paging::{Part, Wanted},
    repositories::Shown,
    schema::{
        CveDiffResult, CveResultForImage, Filter, GlobalSearchResult, ImageInput, ImageSummary, PageInput,
        PaginatedImagesResult, PaginatedReposResult, Referrer, RepoInfo, SortCriteria,
    },
    selected::{pulls_in, shown_in},
    summary::{latest, shown, summarise},
    views,
};
use crate::{
    oci::{Digest, Page, RepoName, Tag},
    registry::Tagged,
};

/// The schema's root.
pub(super) struct Query;

fn failed(error: SearchError) -> FieldError {
    if let SearchError::Registry(source) = &error {
        tracing::warn!(
            error = source as &dyn std::error::Error,
            "a search can't be answered"
        );
    }
    FieldError::new(error, juniper::Value::null())
}

/// `repository:tag`.
fn reference(image: &str) -> Result<(RepoName, Tag), SearchError> {
    let (repository, tag) = image.rsplit_once(':').ok_or(SearchError::NoReference)?;
    let repository = RepoName::parse(repository).map_err(|_| SearchError::NoRepository)?;
    let tag = Tag::parse(tag).map_err(|_| SearchError::NoImage(image.to_owned()))?;
    Ok((repository, tag))
}

impl Asking {
    fn part(&self, asked: Option<PageInput>, order: SortCriteria) -> Result<Part, SearchError> {
        Part::of(asked, order, self.search.limits.page)
    }

    /// A tag that who asks may see.
    async fn named(&self, image: &str) -> Result<(RepoName, Tagged), SearchError> {
        let (repository, tag) = reference(image)?;
        if !self.sees(&repository) {
            return Err(SearchError::NoRepository);
        }
        if let Some(tagged) = one(&self.search.registry, &repository, &tag).await? {
            return Ok((repository, tagged));
        }
        let is_there = self
            .search
            .registry
            .versions(std::slice::from_ref(&repository))
            .await?;
        Err(match is_there.into_iter().flatten().next() {
            Some(_) => SearchError::NoImage(image.to_owned()),
            None => SearchError::NoRepository,
        })
    }

    async fn image(&self, image: &str, pulls: Pulls) -> Result<ImageSummary, SearchError> {
        let (repository, tagged) = self.named(image).await?;
        let overview = self
            .overview(&repository)
            .await?
            .ok_or(SearchError::NoRepository)?;
        let mut found = self.images(&repository, &[&tagged]).await?;
        self.count(pulls, &mut found).await?;
        let attached = self.attached(&repository, &overview, images_of(&found)).await?;
        let shown = found.first().map(|found| found.shown(&attached));
        shown.ok_or_else(|| SearchError::NoImage(image.to_owned()))
    }

    async fn expanded(&self, name: &str, pulls: Pulls) -> Result<RepoInfo, SearchError> {
        let repository = RepoName::parse(name).map_err(|_| SearchError::NoRepository)?;
        let overview = self
            .overview(&repository)
            .await?
            .ok_or(SearchError::NoRepository)?;
        let tags = shown(&overview);
        if tags.len() > self.search.limits.images {
            self.leave_out();
        }
        let tags = latest(tags, self.search.limits.images);
        let wanted: Vec<_> = tags
            .iter()
            .map(|tag| (repository.clone(), tag.digest.clone()))
            .collect();
        let images = self.search.images.load(&wanted).await?;
        let summary = summarise(&overview, &tags, &images);
        let found = tags.into_iter().zip(images).filter_map(|(tagged, image)| {
            Some(Found {
                repository: repository.clone(),
                tagged: tagged.clone(),
                image: image?,
                pulled: Pulled::new(),
            })
        });
        let mut found: Vec<Found> = found.collect();
        found.sort_by(|a, b| {
            let key = |found: &Found| (found.image.created(), found.tagged.pushed_ms);
            key(b).cmp(&key(a)).then_with(|| a.tagged.tag.cmp(&b.tagged.tag))
        });
        self.count(pulls, &mut found).await?;
        let attached = self.attached(&repository, &overview, images_of(&found)).await?;
        let is_deletable = Some(self.asker.may_delete.includes(&repository));
        let images = found.iter().map(|found| ImageSummary {
            is_deletable,
            ..found.shown(&attached)
        });
        let images: Vec<ImageSummary> = images.collect();
        let newest = images
            .iter()
            .find(|image| image.tag.as_deref() == Some(&summary.newest_tag))
            .map(|image| ImageSummary {
                is_deletable: None,
                ..image.clone()
            });
        let summary = self.repository(&repository, &summary, newest).await?;
        Ok(RepoInfo {
            images: Some(images.into_iter().map(Some).collect()),
            summary: Some(summary),
        })
    }

    async fn image_list(
        &self,
        repository: &str,
        asked: Option<PageInput>,
        pulls: Pulls,
    ) -> Result<PaginatedImagesResult, SearchError> {
        let part = self.part(asked, SortCriteria::Relevance)?;
        let found = match RepoName::parse(repository) {
            Ok(repository) => {
                self.tagged(&repository, "", &Wanted::default(), part, pulls)
                    .await?
            }
            Err(_) => None,
        };
        let (results, page) = found.unwrap_or_default();
        Ok(PaginatedImagesResult {
            page: Some(page),
            results,
        })
    }

    async fn referrers(
        &self,
        name: &str,
        digest: &str,
        types: &[String],
    ) -> Result<Vec<Option<Referrer>>, SearchError> {
        let subject = Digest::parse(digest).map_err(|_| SearchError::BadDigest(digest.to_owned()))?;
        let repository = RepoName::parse(name).map_err(|_| SearchError::NoRepository)?;
        let versions = self
            .search
            .registry
            .versions(std::slice::from_ref(&repository))
            .await?;
        let is_there = versions.into_iter().flatten().next().is_some();
        if !is_there || !self.sees(&repository) {
            return Err(SearchError::NoRepository);
        }
        let page = Page::default();
        let registry = &self.search.registry;
        let found = registry.referrers(&repository, &subject, types, &page).await?;
        if found.next.is_some() {
            self.leave_out();
        }
        let shown = found.referrers.iter().map(views::referrer);
        Ok(shown.map(Some).collect())
    }

    async fn search(
        &self,
        query: &str,
        filter: Option<Filter>,
        asked: Option<PageInput>,
        shown: Shown,
        pulls: Pulls,
    ) -> Result<GlobalSearchResult, SearchError> {
        let part = self.part(asked, SortCriteria::Relevance)?;
        let wanted = Wanted::of(filter);
        let mut result = GlobalSearchResult {
            page: None,
            images: Some(Vec::new()),
            repos: None,
            layers: Some(Vec::new()),
        };
        // As in zot: a digest begins with its algorithm, and a tag stands after a colon.
        let (images, page) = match query.split_once(':') {
            None => {
                let (repositories, page) = self.repositories(query.trim(), &wanted, part, shown).await?;
                result.repos = Some(repositories.into_iter().map(Some).collect());
                result.page = Some(page);
                return Ok(result);
            }
            Some(("sha256" | "sha512", _)) => self.with_digest(query, &wanted, part, pulls).await?,
            Some((repository, tag)) => match RepoName::parse(repository) {
                Ok(repository) => self
                    .tagged(&repository, tag, &wanted, part, pulls)
                    .await?
                    .unwrap_or_default(),
                Err(_) => Default::default(),
            },
        };
        result.page = Some(page);
        result.images = Some(images.into_iter().map(Some).collect());
        Ok(result)
    }

    async fn related_to(
        &self,
        image: &str,
        digest: Option<&str>,
        related: Related,
        asked: Option<PageInput>,
        pulls: Pulls,
    ) -> Result<PaginatedImagesResult, SearchError> {
        let part = self.part(asked, SortCriteria::UpdateTime)?;
        let (repository, tagged) = self.named(image).await.map_err(|error| match error {
            SearchError::NoRepository => SearchError::NoImageRepository,
            error => error,
        })?;
        let found = self.images(&repository, &[&tagged]).await?;
        let found = found.into_iter().next();
        let found = found.ok_or_else(|| SearchError::NoImage(image.to_owned()))?;
        let (results, page) = self.related(&found.image, digest, related, part, pulls).await?;
        Ok(PaginatedImagesResult {
            page: Some(page),
            results,
        })
    }

    async fn repository_list(
        &self,
        asked: Option<PageInput>,
        wanted: &Wanted,
        shown: Shown,
    ) -> Result<PaginatedReposResult, SearchError> {
        let part = self.part(asked, SortCriteria::UpdateTime)?;
        let (results, page) = self.repositories("", wanted, part, shown).await?;
        Ok(PaginatedReposResult {
            page: Some(page),
            results,
        })
    }
}

// Boxed, for the compiler can't see through all that lies behind a resolver that it can be sent to another thread.
/// What zot calls its root.
#[graphql_object(context = Asking, name = "Query", scalar = DefaultScalarValue)]
impl Query {
    /// Vulnerabilities of an image: nothing is scanned.
    #[graphql(name = "CVEListForImage")]
    async fn cve_list_for_image(
        #[graphql(name = "image")] _image: String,
        #[graphql(name = "requestedPage")] _page: Option<PageInput>,
        #[graphql(name = "searchedCVE")] _searched: Option<String>,
        #[graphql(name = "excludedCVE")] _excluded: Option<String>,
        #[graphql(name = "severity")] _severity: Option<String>,
    ) -> FieldResult<CveResultForImage> {
        Err(failed(SearchError::NoCves))
    }

    /// Vulnerabilities of one image that another hasn't: nothing is scanned.
    #[graphql(name = "CVEDiffListForImages")]
    async fn cve_diff_list_for_images(
        #[graphql(name = "minuend")] _minuend: ImageInput,
        #[graphql(name = "subtrahend")] _subtrahend: ImageInput,
        #[graphql(name = "requestedPage")] _page: Option<PageInput>,
        #[graphql(name = "searchedCVE")] _searched: Option<String>,
        #[graphql(name = "excludedCVE")] _excluded: Option<String>,
    ) -> FieldResult<CveDiffResult> {
        Err(failed(SearchError::NoCves))
    }

    /// Images with a vulnerability: nothing is scanned.
    #[graphql(name = "ImageListForCVE")]
    async fn image_list_for_cve(
        #[graphql(name = "id")] _id: String,
        #[graphql(name = "filter")] _filter: Option<Filter>,
        #[graphql(name = "requestedPage")] _page: Option<PageInput>,
    ) -> FieldResult<PaginatedImagesResult> {
        Err(failed(SearchError::NoCves))
    }

    /// Images without a vulnerability that others have: nothing is scanned.
    #[graphql(name = "ImageListWithCVEFixed")]
    async fn image_list_with_cve_fixed(
        #[graphql(name = "id")] _id: String,
        #[graphql(name = "image")] _image: String,
        #[graphql(name = "filter")] _filter: Option<Filter>,
        #[graphql(name = "requestedPage")] _page: Option<PageInput>,
    ) -> FieldResult<PaginatedImagesResult> {
        Err(failed(SearchError::NoCves))
    }

    /// Images in which a digest is found: theirs, a manifest's, the configuration's, a layer's.
    #[graphql(name = "ImageListForDigest")]
    async fn image_list_for_digest(
        executor: &Executor<'_, '_, Asking>,
        context: &Asking,
        id: String,
        #[graphql(name = "requestedPage")] page: Option<PageInput>,
    ) -> FieldResult<PaginatedImagesResult> {
        let part = context.part(page, SortCriteria::Relevance).map_err(failed)?;
        let pulls = pulls_in(executor, &[&["Results"]]);
        let wanted = Wanted::default();
        let found = context.with_digest(&id, &wanted, part, pulls).boxed().await;
        let (results, page) = found.map_err(failed)?;
        Ok(PaginatedImagesResult {
            page: Some(page),
            results,
        })
    }

    /// All repositories.
    #[graphql(name = "RepoListWithNewestImage")]
    async fn repo_list_with_newest_image(
        executor: &Executor<'_, '_, Asking>,
        context: &Asking,
        #[graphql(name = "requestedPage")] page: Option<PageInput>,
    ) -> FieldResult<PaginatedReposResult> {
        let shown = shown_in(executor, "Results");
        let found = context
            .repository_list(page, &Wanted::default(), shown)
            .boxed()
            .await;
        found.map_err(failed)
    }

    /// The images of a repository.
    #[graphql(name = "ImageList")]
    async fn image_list(
        executor: &Executor<'_, '_, Asking>,
        context: &Asking,
        repo: String,
        #[graphql(name = "requestedPage")] page: Option<PageInput>,
    ) -> FieldResult<PaginatedImagesResult> {
        let pulls = pulls_in(executor, &[&["Results"]]);
        let found = context.image_list(&repo, page, pulls).boxed().await;
        found.map_err(failed)
    }

    /// A repository with its images.
    #[graphql(name = "ExpandedRepoInfo")]
    async fn expanded_repo_info(
        executor: &Executor<'_, '_, Asking>,
        context: &Asking,
        repo: String,
    ) -> FieldResult<RepoInfo> {
        let pulls = pulls_in(executor, &[&["Images"], &["Summary", "NewestImage"]]);
        context.expanded(&repo, pulls).boxed().await.map_err(failed)
    }

    /// What is found by a part of a repository's name; by `repository:` and the beginning of a tag; by a digest.
    #[graphql(name = "GlobalSearch")]
    async fn global_search(
        executor: &Executor<'_, '_, Asking>,
        context: &Asking,
        query: String,
        filter: Option<Filter>,
        #[graphql(name = "requestedPage")] page: Option<PageInput>,
    ) -> FieldResult<GlobalSearchResult> {
        let shown = shown_in(executor, "Repos");
        let pulls = pulls_in(executor, &[&["Images"]]);
        context
            .search(&query, filter, page, shown, pulls)
            .boxed()
            .await
            .map_err(failed)
    }

    /// Images that are built on an image.
    #[graphql(name = "DerivedImageList")]
    async fn derived_image_list(
        executor: &Executor<'_, '_, Asking>,
        context: &Asking,
        image: String,
        digest: Option<String>,
        #[graphql(name = "requestedPage")] page: Option<PageInput>,
    ) -> FieldResult<PaginatedImagesResult> {
        let pulls = pulls_in(executor, &[&["Results"]]);
        let found = context
            .related_to(&image, digest.as_deref(), Related::Derived, page, pulls)
            .boxed()
            .await;
        found.map_err(failed)
    }

    /// Images that an image is built on.
    #[graphql(name = "BaseImageList")]
    async fn base_image_list(
        executor: &Executor<'_, '_, Asking>,
        context: &Asking,
        image: String,
        digest: Option<String>,
        #[graphql(name = "requestedPage")] page: Option<PageInput>,
    ) -> FieldResult<PaginatedImagesResult> {
        let pulls = pulls_in(executor, &[&["Results"]]);
        let found = context
            .related_to(&image, digest.as_deref(), Related::Base, page, pulls)
            .boxed()
            .await;
        found.map_err(failed)
    }

    /// An image.
    #[graphql(name = "Image")]
    async fn image(
        executor: &Executor<'_, '_, Asking>,
        context: &Asking,
        image: String,
    ) -> FieldResult<ImageSummary> {
        let pulls = pulls_in(executor, &[&[]]);
        context.image(&image, pulls).boxed().await.map_err(failed)
    }

    /// What refers to a manifest.
    #[graphql(name = "Referrers")]
    async fn referrers(
        context: &Asking,
        repo: String,
        digest: String,
        #[graphql(name = "type")] types: Option<Vec<String>>,
    ) -> FieldResult<Vec<Option<Referrer>>> {
        let types = types.unwrap_or_default();
        context
            .referrers(&repo, &digest, &types)
            .boxed()
            .await
            .map_err(failed)
    }

    /// Repositories that who asks has starred.
    #[graphql(name = "StarredRepos")]
    async fn starred_repos(
        executor: &Executor<'_, '_, Asking>,
        context: &Asking,
        #[graphql(name = "requestedPage")] page: Option<PageInput>,
    ) -> FieldResult<PaginatedReposResult> {
        let shown = shown_in(executor, "Results");
        let wanted = Wanted {
            is_starred: Some(true),
            ..Wanted::default()
        };
        context
            .repository_list(page, &wanted, shown)
            .boxed()
            .await
            .map_err(failed)
    }

    /// Repositories that who asks has bookmarked.
    #[graphql(name = "BookmarkedRepos")]
    async fn bookmarked_repos(
        executor: &Executor<'_, '_, Asking>,
        context: &Asking,
        #[graphql(name = "requestedPage")] page: Option<PageInput>,
    ) -> FieldResult<PaginatedReposResult> {
        let shown = shown_in(executor, "Results");
        let wanted = Wanted {
            is_bookmarked: Some(true),
            ..Wanted::default()
        };
        context
            .repository_list(page, &wanted, shown)
            .boxed()
            .await
            .map_err(failed)
    }
}
