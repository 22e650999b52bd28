//! `import`: what is in layouts is pushed.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use bytes::Bytes;
use clap::Args;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use parking_lot::Mutex;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::Instant,
};

use super::{
    Account, MovingError, Result, aside, each_blob,
    place::{Named, Place, joined},
    progress::Progress,
    registry,
};
use crate::{
    causes,
    cli::output,
    config::Limits,
    layout::{Content, Entry, Layout, find},
    oci::{Descriptor, Digest, Manifest, MediaType, Reference, RepoName, Tag},
    upstream::{Outgoing, Purpose, Pushed, Upstream, UpstreamError},
};

#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArgs {
    /// OCI image layout: a directory, a tar archive, or a directory with layouts below it, as zot keeps them
    layout: PathBuf,
    /// Where to: `HOST[:PORT]`, and the repository, or what names of repositories begin with; of one image, its tag, too
    to: String,
    #[command(flatten)]
    account: Account,
}

/// What an image becomes.
struct Item {
    layout: Layout,
    entry: Entry,
    repository: RepoName,
    tag: Option<Tag>,
}

impl Item {
    fn reference(&self) -> Reference {
        match &self.tag {
            Some(tag) => Reference::Tag(tag.clone()),
            None => Reference::Digest(self.entry.digest.clone()),
        }
    }
}

/// Whether anything had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pushed,
    There,
}

pub(in crate::cli) async fn import(args: &ImportArgs) -> Result<ExitCode> {
    let place = Place::parse(&args.to)?;
    let (path, prefix) = (args.layout.clone(), place.path.clone());
    let items = aside(move || items(&path, &prefix)).await??;
    let jobs = usize::from(args.account.jobs);
    let limits = Limits::default();
    let import = Import {
        to: registry(&place, &args.account, Purpose::Push)?,
        progress: Arc::new(Progress::new(items.len())),
        blobs: Mutex::default(),
        held: Mutex::default(),
        turns: Semaphore::new(jobs),
        jobs,
        limits,
    };
    let work = stream::iter(&items)
        .map(|item| import.told(item))
        .buffer_unordered(jobs)
        .fold(0, |failed, is_well| async move { failed + usize::from(!is_well) });
    let failed = import.progress.along(work).await;
    output::complain(import.progress.summary("sent"));
    if failed > 0 {
        output::complain(format_args!(
            "{failed} of {} images are not imported",
            items.len()
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// What is in the layouts at `path`, and what it becomes at `to`. Everything has a place before anything is sent.
fn items(path: &Path, to: &str) -> Result<Vec<Item>> {
    let (prefix, given) = match to.rsplit_once(':') {
        None => (to, None),
        Some((prefix, tag)) => {
            let tag = Tag::parse(tag).map_err(|error| MovingError::What(format!("{to:?}: {error}")))?;
            (prefix, Some(tag))
        }
    };
    let mut items = Vec::new();
    for (below, layout) in find(path)? {
        for entry in layout.entries()? {
            let wrong = |problem: &str| {
                let name = entry.name.as_deref().unwrap_or(entry.digest.as_str());
                MovingError::What(format!("{name:?} in {}: {problem}", layout.path().display()))
            };
            // A tag that is given names the whole place, whatever the image was called.
            let (repository, tag) = match &given {
                Some(tag) => (prefix.to_owned(), Some(tag.clone())),
                None => {
                    let named = Named::of(entry.name.as_deref())
                        .ok_or_else(|| wrong("neither a tag nor a repository with a tag"))?;
                    (joined(&[prefix, &below, &named.repository]), named.tag)
                }
            };
            if repository.is_empty() {
                return Err(wrong("it doesn't say its repository: name one, HOST/REPOSITORY"));
            }
            let repository = RepoName::parse(&repository)
                .map_err(|error| wrong(&format!("it would become {repository:?}: {error}")))?;
            items.push(Item {
                layout: layout.clone(),
                entry,
                repository,
                tag,
            });
        }
    }
    if given.is_some() && items.len() != 1 {
        let problem = format!("{to:?}: a tag is for one image, and there are {}", items.len());
        return Err(MovingError::What(problem));
    }
    let mut places = HashMap::new();
    for item in &items {
        let digest = &item.entry.digest;
        let Some(tag) = &item.tag else { continue };
        match places.insert((&item.repository, tag), digest) {
            Some(other) if other != digest => {
                let place = format!("{}:{tag}", item.repository);
                let problem =
                    format!("{other} and {digest} would both become {place}: which of them is meant?");
                return Err(MovingError::What(problem));
            }
            Some(_) | None => {}
        }
    }
    Ok(items)
}

type Blobs = HashMap<(RepoName, Digest), Arc<OnceCell<()>>>;
type Held = HashMap<Digest, Arc<tokio::sync::Mutex<Option<RepoName>>>>;

struct Import {
    to: Upstream,
    progress: Arc<Progress>,
    // What was looked at, or is being, so that nobody does it twice.
    blobs: Mutex<Blobs>,
    // A repository that has it: another one waits for that, and mounts it from there.
    held: Mutex<Held>,
    // Blobs at once: each takes a chunk of memory.
    turns: Semaphore,
    jobs: usize,
    limits: Limits,
}

impl Import {
    /// Whether the image is there now; what came of it is said.
    async fn told(&self, item: &Item) -> bool {
        let outcome = self.item(item).await;
        self.progress.image();
        let Item {
            repository, entry, ..
        } = item;
        let name = match &item.tag {
            Some(tag) => format!("{repository}:{tag}"),
            None => repository.to_string(),
        };
        match outcome {
            Ok(outcome) => {
                let what = match outcome {
                    Outcome::Pushed => "pushed",
                    Outcome::There => "there already",
                };
                output::say(format_args!("{name}@{}  {what}", entry.digest));
                true
            }
            Err(error) => {
                let error = causes::in_a_line(&error);
                output::complain(format_args!("{name}@{}  {error}", entry.digest));
                false
            }
        }
    }

    async fn item(&self, item: &Item) -> Result<Outcome> {
        let (reference, entry) = (item.reference(), &item.entry);
        // What it refers to is there, too: no registry takes it without.
        if self.is_there(&item.repository, &reference, &entry.digest).await? {
            return Ok(Outcome::There);
        }
        let media_type = entry.media_type.as_ref();
        self.tree(item, &entry.digest, media_type, reference, 0).await?;
        Ok(Outcome::Pushed)
    }

    async fn is_there(&self, repository: &RepoName, reference: &Reference, digest: &Digest) -> Result<bool> {
        match self.to.look(repository, reference, self.soon()).await {
            Ok(named) => Ok(named.digest.as_ref() == Some(digest)),
            Err(UpstreamError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Pushes a manifest, after what it refers to.
    fn tree<'a>(
        &'a self,
        item: &'a Item,
        digest: &'a Digest,
        media_type: Option<&'a MediaType>,
        reference: Reference,
        depth: usize,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            if depth > self.limits.visits.depth {
                return Err(MovingError::Deep(digest.clone()));
            }
            let (layout, wanted) = (item.layout.clone(), digest.clone());
            let bytes = aside(move || layout.document(&wanted)).await??;
            let bytes = bytes.ok_or_else(|| MovingError::Missing(digest.clone()))?;
            let manifest = Manifest::parse(media_type, &bytes).map_err(|source| MovingError::Manifest {
                digest: digest.clone(),
                source,
            })?;
            for child in &manifest.children {
                let by_digest = Reference::Digest(child.digest.clone());
                // An index may lack some of its platforms. Whether it may here is for the registry to say.
                if item.layout.content(&child.digest)?.is_some()
                    && !self.is_there(&item.repository, &by_digest, &child.digest).await?
                {
                    self.tree(item, &child.digest, Some(&child.media_type), by_digest, depth + 1)
                        .await?;
                }
            }
            each_blob(&manifest, self.jobs, |blob, is_required| {
                self.blob(item, blob, is_required).boxed()
            })
            .await?;
            let length = bytes.len() as u64;
            self.progress.needs(length);
            let pushed = self
                .to
                .push_manifest(&item.repository, &reference, &manifest.media_type, bytes);
            pushed.await?;
            self.progress.moved(length);
            Ok(())
        }
        .boxed()
    }

    /// Sees that the repository has a blob.
    async fn blob(&self, item: &Item, blob: &Descriptor, is_required: bool) -> Result<()> {
        let key = (item.repository.clone(), blob.digest.clone());
        let seen = self.blobs.lock().entry(key).or_default().clone();
        seen.get_or_try_init(|| self.push(item, blob, is_required))
            .await?;
        Ok(())
    }

    async fn push(&self, item: &Item, blob: &Descriptor, is_required: bool) -> Result<()> {
        let held = self.held.lock().entry(blob.digest.clone()).or_default().clone();
        let mut held = held.lock().await;
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|error| MovingError::Work(io::Error::other(error)))?;
        let (repository, digest) = (&item.repository, &blob.digest);
        match self.to.blob_length(repository, digest, self.soon()).await {
            Ok(_) => {
                self.progress.needs(blob.size);
                self.progress.has(blob.size);
                *held = Some(repository.clone());
                return Ok(());
            }
            Err(UpstreamError::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
        let Some(content) = item.layout.content(digest)? else {
            return match is_required {
                true => Err(MovingError::Missing(digest.clone())),
                false => Ok(()),
            };
        };
        let length = content.length();
        self.progress.needs(length);
        let (content, progress) = (Arc::new(content), self.progress.clone());
        let read = move |at, most| read(content.clone(), progress.clone(), at, most).boxed();
        let outgoing = Outgoing { length, read: &read };
        let chunk = self.limits.visits.chunk;
        match self
            .to
            .push_blob(repository, digest, held.as_ref(), &outgoing, chunk)
            .await?
        {
            Pushed::Sent => {}
            Pushed::Mounted => self.progress.has(length),
        }
        *held = Some(repository.clone());
        Ok(())
    }

    fn soon(&self) -> Instant {
        Instant::now() + self.limits.visits.answer
    }
}

/// Reads what is sent, and counts it.
async fn read(content: Arc<Content>, progress: Arc<Progress>, at: u64, most: usize) -> io::Result<Bytes> {
    let read = tokio::task::spawn_blocking(move || content.read(at, most)).await;
    let bytes = read.map_err(io::Error::other)??;
    progress.moved(bytes.len() as u64);
    Ok(bytes)
}
