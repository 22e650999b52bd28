//! zot's search API: its GraphQL schema over what the registry holds.
//!
//! Any member answers, without another one's help: whatever is shown comes from rows that are read strongly, or from what
//! is remembered of documents, which never change. A question costs what it shows: repositories are found in memory
//! ([`catalogue`]), what they come to is kept beside them ([`summary`]), images are read by the hundred ([`images`]).
//! Nothing of this happens in a push.
//!
//! Who asks sees what they may read, and nothing of an answer depends on the rest: not the counts, not the errors.
//!
//! Absent on purpose: HTTP, and who may read what, which the caller brings along; vulnerabilities, which nothing here
//! looks for.

mod answer;
mod attached;
mod catalogue;
#[cfg(test)]
mod costs;
mod counted;
mod facts;
mod found;
mod images;
mod known;
mod paging;
mod query;
mod repositories;
mod schema;
mod selected;
mod summary;
#[cfg(test)]
mod tests;
mod views;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

pub use self::answer::{Answer, Question};
use self::{
    answer::Root,
    catalogue::{Catalogue, Completeness, Wants},
    images::Images,
    schema::SortCriteria,
    summary::{Depth, Summaries},
};
use crate::{
    admission::Visible,
    config::limits::SearchLimits,
    oci::RepoName,
    registry::{Registry, RegistryError},
};

/// Who asks.
#[derive(Clone)]
pub struct Asker {
    /// Their name; `None` is anybody.
    pub user: Option<String>,
    /// What they may read.
    pub sees: Visible,
    /// What they may delete.
    pub may_delete: Visible,
}

/// Search over one registry. It answers what it knows without a task; with [`run`](Self::run) it knows the repositories.
pub struct Search {
    registry: Arc<Registry>,
    images: Arc<Images>,
    catalogue: Catalogue,
    limits: SearchLimits,
    root: Root,
}

impl Search {
    /// Over `registry`.
    pub fn new(registry: Arc<Registry>, limits: SearchLimits) -> Self {
        let images = Arc::new(Images::new(registry.clone(), limits.memory));
        let depth = Depth {
            tags: limits.tags,
            images: limits.images,
        };
        let summaries = Summaries::new(registry.clone(), images.clone(), depth);
        let catalogue = Catalogue::new(registry.clone(), summaries, limits.patience);
        Self {
            registry,
            images,
            catalogue,
            limits,
            root: answer::root(),
        }
    }

    /// Looks which repositories there are, after the start and whenever somebody asks, until `end`.
    pub async fn run(self: Arc<Self>, end: CancellationToken) {
        self.catalogue.run(end).await;
    }

    /// Looks at the store, and has `read` every repository with the bytes that its images take together; a blob counts in each
    /// repository that has it. Nobody waits for a lock meanwhile. Says whether that were all there are. `None` where `read` panics.
    pub async fn survey<T: Send + 'static>(
        self: Arc<Self>,
        read: impl FnOnce(&mut dyn Iterator<Item = (RepoName, f64)>) -> T + Send + 'static,
    ) -> Option<(T, bool)> {
        let completeness = self.catalogue.fresh(Wants::Repositories).await;
        let all = move || {
            let mut last: Option<RepoName> = None;
            let parts = std::iter::from_fn(|| {
                let part: Vec<(RepoName, f64)> = self.catalogue.read(|known| {
                    let next = known.after(last.as_ref()).take(AT_A_TIME);
                    next.map(|(name, facet)| (name.clone(), f64::from(facet.size)))
                        .collect()
                });
                last = Some(part.last()?.0.clone());
                Some(part)
            });
            read(&mut parts.flatten())
        };
        let read = tokio::task::spawn_blocking(all).await.ok()?;
        Some((read, completeness == Completeness::Whole))
    }
}

/// Repositories that are read of those known in one go, or about which it is asked whether they may be seen.
const AT_A_TIME: usize = 100;

/// A question on its way: what its resolvers share.
struct Asking {
    search: Arc<Search>,
    asker: Asker,
    /// Something was left out.
    is_partial: AtomicBool,
}

impl juniper::Context for Asking {}

impl Asking {
    fn sees(&self, repository: &RepoName) -> bool {
        self.asker.sees.includes(repository)
    }

    /// Those of them that who asks may see. To find out may take asking conditions of policies: nobody waits for a lock meanwhile, and
    /// others have their turn.
    async fn seen<T>(&self, all: Vec<T>, name: impl Fn(&T) -> &RepoName) -> Vec<T> {
        let mut seen = Vec::new();
        for (n, one) in all.into_iter().enumerate() {
            if n % AT_A_TIME == AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
            if self.sees(name(&one)) {
                seen.push(one);
            }
        }
        seen
    }

    /// What an answer is called that leaves something out.
    fn leave_out(&self) {
        self.is_partial.store(true, Ordering::Relaxed);
    }

    /// Looks which repositories there are.
    async fn look(&self) {
        self.look_for(Wants::Repositories).await;
    }

    /// Looks at the store.
    async fn look_for(&self, wants: Wants) {
        match self.search.catalogue.fresh(wants).await {
            Completeness::Whole => {}
            Completeness::Partial => self.leave_out(),
        }
    }
}

/// Why a question has no answer. The texts are zot's, where it has one.
#[derive(Debug, thiserror::Error)]
enum SearchError {
    #[error("cve search is disabled")]
    NoCves,
    #[error("repo metadata not found for given repo name")]
    NoRepository,
    #[error("repository not found")]
    NoImageRepository,
    #[error("can't find image: {0}")]
    NoImage(String),
    #[error("no reference provided")]
    NoReference,
    #[error("bad digest string from request '{0}' invalid checksum digest format")]
    BadDigest(String),
    #[error("pagination {0} has negative value")]
    Negative(&'static str),
    #[error("sorting {0} by '{1}' is not supported the pagination sort criteria is not supported")]
    Unsorted(&'static str, &'static str),
    #[error("the registry's stores can't be asked now")]
    Registry(#[from] RegistryError),
}

/// How a criterion is called.
fn name_of(order: SortCriteria) -> &'static str {
    match order {
        SortCriteria::Relevance => "RELEVANCE",
        SortCriteria::UpdateTime => "UPDATE_TIME",
        SortCriteria::AlphabeticAsc => "ALPHABETIC_ASC",
        SortCriteria::AlphabeticDsc => "ALPHABETIC_DSC",
        SortCriteria::Severity => "SEVERITY",
        SortCriteria::Stars => "STARS",
        SortCriteria::Downloads => "DOWNLOADS",
    }
}
