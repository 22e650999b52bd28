//! Images by their digests: the facts about them, in bounded memory, read for many at once when they aren't there.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::RandomState,
    sync::Arc,
};

use bytes::Bytes;
use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use time::OffsetDateTime;

use super::facts::{Build, Facts, Kind, Read, Words};
use crate::{
    oci::{Digest, RepoName},
    registry::{Asked, Document, Registry, RegistryError},
    storage::rows,
};

/// The longest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 4 << 20;
/// Manifests of an index that are looked at.
const MAX_CHILDREN: usize = 100;
/// Bytes of documents from which on they are parsed beside the requests.
const MANY_BYTES: usize = 128 << 10;

/// A manifest or an index, with the images in it.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) facts: Arc<Facts>,
    /// Itself, or those that it lists and the repository has.
    pub(super) manifests: Vec<Arc<Facts>>,
}

impl Image {
    /// Manifests, configurations and layers, in bytes.
    pub(super) fn size(&self) -> u64 {
        let sizes = self.builds().map(|(facts, build)| size(facts, build));
        sizes.fold(0, u64::saturating_add)
    }

    /// When the newest of its manifests was built.
    pub(super) fn created(&self) -> Option<OffsetDateTime> {
        self.builds().filter_map(|(_, build)| build.created).max()
    }

    /// What it says about itself; what an index leaves out its first manifest says.
    pub(super) fn words(&self) -> Words {
        let words = self.facts.words.clone();
        match self.manifests.first() {
            Some(first) => words.or(&first.words),
            None => words,
        }
    }

    pub(super) fn builds(&self) -> impl Iterator<Item = (&Facts, &Build)> + Clone {
        self.manifests
            .iter()
            .filter_map(|facts| Some((&**facts, facts.build()?)))
    }

    /// Each blob of it with its length, the documents themselves among them.
    pub(super) fn blobs(&self) -> BTreeMap<&Digest, u64> {
        let mut blobs = BTreeMap::from([(&self.facts.digest, self.facts.size)]);
        for (facts, build) in self.builds() {
            blobs.insert(&facts.digest, facts.size);
            let content = build.config.iter().chain(&build.layers);
            blobs.extend(content.map(|(digest, size)| (digest, *size)));
        }
        blobs
    }
}

/// Of what it is asked how often it was pulled, along with images.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counting<'a> {
    pub(super) manifests: &'a [(RepoName, Digest)],
    pub(super) repositories: &'a [RepoName],
}

/// The answers, in the order of the questions.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) manifests: Vec<Option<rows::Pull>>,
    pub(super) repositories: Vec<u64>,
}

/// Manifest, configuration and layers, in bytes. What a manifest says of sizes may be nonsense.
pub(super) fn size(facts: &Facts, build: &Build) -> u64 {
    let content = build.config.iter().chain(&build.layers).map(|(_, size)| *size);
    content.fold(facts.size, u64::saturating_add)
}

#[derive(Clone)]
struct Weight;

impl Weighter<Digest, Arc<Facts>> for Weight {
    fn weight(&self, _: &Digest, facts: &Arc<Facts>) -> u64 {
        facts.weight()
    }
}

/// All images.
pub(super) struct Images {
    registry: Arc<Registry>,
    known: Cache<Digest, Arc<Facts>, Weight, RandomState>,
}

impl Images {
    /// Remembers facts of up to `bytes`.
    pub(super) fn new(registry: Arc<Registry>, bytes: u64) -> Self {
        let options = OptionsBuilder::new()
            .shards(4)
            .weight_capacity(bytes)
            .estimated_items_capacity(usize::try_from(bytes / 4096).unwrap_or(usize::MAX))
            .build();
        #[expect(clippy::expect_used, reason = "it wants both capacities, and has them")]
        let options = options.expect("complete options");
        let known = Cache::with_options(options, Weight, RandomState::new(), DefaultLifecycle::default());
        Self { registry, known }
    }

    /// The manifests or indexes, in the order of `wanted`; `None` for one that isn't there or isn't one. Four requests to the
    /// metadata store for up to a hundred of them, none for those that are remembered.
    pub(super) async fn load(
        &self,
        wanted: &[(RepoName, Digest)],
    ) -> Result<Vec<Option<Image>>, RegistryError> {
        Ok(self.load_and_count(wanted, Counting::default()).await?.0)
    }

    /// The same, and how often something was pulled, which takes no request more where images aren't remembered.
    pub(super) async fn load_and_count(
        &self,
        wanted: &[(RepoName, Digest)],
        counting: Counting<'_>,
    ) -> Result<(Vec<Option<Image>>, Counted), RegistryError> {
        let (found, counted) = self.facts(wanted, counting).await?;
        let mut listed = Vec::new();
        for ((repository, _), facts) in wanted.iter().zip(&found) {
            if let Some(Kind::Index(children)) = facts.as_ref().map(|facts| &facts.kind) {
                let children = children.iter().take(MAX_CHILDREN);
                listed.extend(children.map(|child| (repository.clone(), child.clone())));
            }
        }
        let (children, _) = self.facts(&listed, Counting::default()).await?;
        let mut children = children.into_iter();
        let image = |facts: Option<Arc<Facts>>| {
            let facts = facts?;
            let manifests = match &facts.kind {
                Kind::Image(_) => vec![facts.clone()],
                Kind::Index(listed) => {
                    let of_this = children.by_ref().take(listed.len().min(MAX_CHILDREN));
                    // An index within an index is nobody's platform.
                    of_this
                        .flatten()
                        .filter(|facts| facts.build().is_some())
                        .collect()
                }
            };
            Some(Image { facts, manifests })
        };
        Ok((found.into_iter().map(image).collect(), counted))
    }

    async fn facts(
        &self,
        wanted: &[(RepoName, Digest)],
        counting: Counting<'_>,
    ) -> Result<(Vec<Option<Arc<Facts>>>, Counted), RegistryError> {
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        let mut found: HashMap<Digest, Arc<Facts>> = HashMap::new();
        for (repository, digest) in wanted {
            if !seen.insert(digest) {
                continue;
            }
            match self.known.get(digest) {
                Some(facts) => {
                    found.insert(digest.clone(), facts);
                }
                None => missing.push((repository.clone(), digest.clone())),
            }
        }
        let (read, counted) = self.read(missing, counting).await?;
        for facts in read {
            let facts = Arc::new(facts);
            self.known.insert(facts.digest.clone(), facts.clone());
            found.insert(facts.digest.clone(), facts);
        }
        let facts = wanted.iter().map(|(_, digest)| found.get(digest).cloned());
        Ok((facts.collect(), counted))
    }

    async fn read(
        &self,
        missing: Vec<(RepoName, Digest)>,
        counting: Counting<'_>,
    ) -> Result<(Vec<Facts>, Counted), RegistryError> {
        let asked = Asked {
            documents: &missing,
            pulls: counting.manifests,
            downloads: counting.repositories,
        };
        let told = self.registry.told(asked).await?;
        let counted = Counted {
            manifests: told.pulls,
            repositories: told.downloads,
        };
        let documents = told.documents;
        let bytes = documents
            .iter()
            .flatten()
            .map(|document| document.bytes.len())
            .sum();
        let read = beside(bytes, move || parsed(missing, documents)).await;
        let configs: Vec<(RepoName, Digest)> = read
            .iter()
            .filter_map(|(repository, read)| Some((repository.clone(), read.config()?)))
            .collect();
        let found = self.registry.small_blobs(&configs, MAX_CONFIG).await?;
        let bytes = found.iter().flatten().map(Bytes::len).sum();
        let configs: HashMap<Digest, Bytes> = configs
            .into_iter()
            .zip(found)
            .filter_map(|((_, digest), bytes)| Some((digest, bytes?)))
            .collect();
        Ok((beside(bytes, move || facts(read, &configs)).await, counted))
    }
}

fn parsed(wanted: Vec<(RepoName, Digest)>, documents: Vec<Option<Document>>) -> Vec<(RepoName, Read)> {
    let read = |((repository, digest), document): ((RepoName, Digest), Option<Document>)| {
        let document = document?;
        let read = Read::manifest(&digest, &document.media_type, &document.bytes)?;
        Some((repository, read))
    };
    wanted.into_iter().zip(documents).filter_map(read).collect()
}

fn facts(read: Vec<(RepoName, Read)>, configs: &HashMap<Digest, Bytes>) -> Vec<Facts> {
    let one = |(_, read): (RepoName, Read)| {
        let config = read.config().and_then(|digest| configs.get(&digest));
        read.facts(config.map(|bytes| &**bytes))
    };
    read.into_iter().map(one).collect()
}

/// What `work` makes of so many bytes: of many in a thread of its own, so that nobody waits for it who needn't.
async fn beside<T: Default + Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    if bytes < MANY_BYTES {
        return work();
    }
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "reading documents panicked");
        T::default()
    })
}
