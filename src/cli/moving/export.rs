//! `export`: what a registry has is written into a layout.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use clap::Args;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use parking_lot::Mutex;
use tokio::{
    sync::{OnceCell, Semaphore},
    time::Instant,
};

use super::{Account, MovingError, Result, aside, each_blob, place::Place, progress::Progress, registry};
use crate::{
    causes,
    cli::output,
    config::Limits,
    layout::{Entry, Growing, Incoming, LayoutError, pack},
    oci::{Descriptor, Digest, Manifest, MediaType, Reference, RepoName, RepoPattern},
    upstream::{Purpose, Referring, Upstream, UpstreamError},
};

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

/// How often the list of what is there is written.
const SAVE_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// What: `HOST[:PORT]` is all of it, HOST/PATTERN repositories by a pattern such as team/**, `HOST/REPOSITORY[:TAG|@DIGEST]` one
    from: String,
    /// Where to: a directory, or a file whose name ends with .tar
    to: PathBuf,
    #[command(flatten)]
    account: Account,
}

/// What is wanted.
#[derive(Debug)]
enum Wanted {
    /// All that the pattern matches.
    Many(RepoPattern),
    /// One repository, or something of it.
    One(RepoName, Option<Reference>),
}

impl Wanted {
    fn parse(path: &str) -> Result<Self> {
        let path = if path.is_empty() { "**" } else { path };
        let named = match (path.split_once('@'), path.split_once(':')) {
            (Some((name, digest)), _) => Some((name, Digest::parse(digest).ok().map(Reference::Digest))),
            (None, Some((name, tag))) => {
                let tag = crate::oci::Tag::parse(tag).ok();
                Some((name, tag.map(Reference::Tag)))
            }
            (None, None) => None,
        };
        let wrong = |error: &dyn std::fmt::Display| MovingError::What(format!("{path:?}: {error}"));
        match named {
            Some((name, Some(reference))) => {
                let repository = RepoName::parse(name).map_err(|error| wrong(&error))?;
                Ok(Self::One(repository, Some(reference)))
            }
            Some((_, None)) => Err(wrong(&"neither a tag nor a digest is at its end")),
            None => match RepoName::parse(path) {
                Ok(repository) => Ok(Self::One(repository, None)),
                Err(_) => {
                    let pattern = RepoPattern::parse(path).map_err(|error| wrong(&error))?;
                    Ok(Self::Many(pattern))
                }
            },
        }
    }

    /// What an entry is called. Of one repository the names are tags, as other tools have it.
    fn name(&self, repository: &RepoName, reference: &Reference) -> Option<String> {
        match (self, reference) {
            (Self::Many(_), Reference::Tag(tag)) => Some(format!("{repository}:{tag}")),
            (Self::Many(_), Reference::Digest(digest)) => Some(format!("{repository}@{digest}")),
            (Self::One(..), Reference::Tag(tag)) => Some(tag.to_string()),
            (Self::One(..), Reference::Digest(_)) => None,
        }
    }
}

pub(in crate::cli) async fn export(args: &ExportArgs) -> Result<ExitCode> {
    let place = Place::parse(&args.from)?;
    let wanted = Wanted::parse(&place.path)?;
    let archive = args.to.extension().is_some_and(|extension| extension == "tar");
    let folder = match archive {
        true => args.to.with_extension("tar.unfinished"),
        false => args.to.clone(),
    };
    let opened = folder.clone();
    let to = aside(move || Growing::open(&opened)).await??;
    let jobs = usize::from(args.account.jobs);
    let from = registry(&place, &args.account, Purpose::Pull)?;
    let items = items(&from, &wanted, jobs).await?;
    let export = Export {
        from,
        to: Arc::new(to),
        wanted,
        progress: Progress::new(items.len()),
        manifests: Mutex::default(),
        contents: Mutex::default(),
        saved: Mutex::new(Instant::now()),
        turns: Semaphore::new(jobs),
        jobs,
        limits: Limits::default(),
    };
    let work = stream::iter(&items)
        .map(|(repository, reference)| export.told(repository, reference))
        .buffer_unordered(jobs)
        .fold(0, |failed, is_well| async move { failed + usize::from(!is_well) });
    let failed = export.progress.along(work).await;
    output::complain(export.progress.summary("fetched"));
    let to = export.to;
    if failed > 0 {
        to.save()?;
        output::complain(format_args!(
            "{failed} of {} images are not exported: start it again",
            items.len()
        ));
        return Ok(ExitCode::FAILURE);
    }
    let target = args.to.clone();
    aside(move || done(&to, &folder, archive.then_some(&*target))).await??;
    Ok(ExitCode::SUCCESS)
}

/// Everything is there.
fn done(layout: &Growing, folder: &Path, archive: Option<&Path>) -> std::result::Result<(), LayoutError> {
    layout.finish()?;
    let Some(archive) = archive else { return Ok(()) };
    pack(folder, archive)?;
    fs::remove_dir_all(folder).map_err(|source| LayoutError::File {
        path: folder.to_owned(),
        source,
    })
}

/// What is to be exported: every tag of what is wanted.
async fn items(from: &Upstream, wanted: &Wanted, jobs: usize) -> Result<Vec<(RepoName, Reference)>> {
    let repositories = match wanted {
        Wanted::One(repository, Some(reference)) => {
            return Ok(vec![(repository.clone(), reference.clone())]);
        }
        Wanted::One(repository, None) => vec![repository.clone()],
        Wanted::Many(pattern) => {
            let (mut names, mut pages) = (Vec::new(), from.repositories());
            while let Some(page) = pages.next(soon()).await? {
                names.extend(page.into_iter().filter(|name| pattern.matches(name)));
            }
            names
        }
    };
    let tags = |repository: RepoName| async move {
        let (mut items, mut pages) = (Vec::new(), from.tags(&repository));
        while let Some(page) = pages.next(soon()).await? {
            let tags = page.into_iter();
            items.extend(tags.map(|tag| (repository.clone(), Reference::Tag(tag))));
        }
        Ok::<_, MovingError>(items)
    };
    let all: Vec<Vec<_>> = stream::iter(repositories)
        .map(tags)
        .buffered(jobs)
        .try_collect()
        .await?;
    Ok(all.into_iter().flatten().collect())
}

fn soon() -> Instant {
    Instant::now() + Limits::default().visits.answer
}

/// What is known of a manifest that is there.
type Known = (MediaType, u64);
type Manifests = HashMap<(RepoName, Digest), Arc<OnceCell<Known>>>;

struct Export {
    from: Upstream,
    to: Arc<Growing>,
    wanted: Wanted,
    progress: Progress,
    // What was looked at, or is being, so that nobody does it twice: with all that it refers to, and by itself.
    manifests: Mutex<Manifests>,
    contents: Mutex<HashMap<Digest, Arc<OnceCell<()>>>>,
    saved: Mutex<Instant>,
    // Blobs at once.
    turns: Semaphore,
    jobs: usize,
    limits: Limits,
}

impl Export {
    /// Whether the image is there now; what came of it is said.
    async fn told(&self, repository: &RepoName, reference: &Reference) -> bool {
        let outcome = self.item(repository, reference).await;
        self.progress.image();
        let joint = match reference {
            Reference::Tag(_) => ':',
            Reference::Digest(_) => '@',
        };
        match outcome {
            Ok(digest) => {
                output::say(format_args!("{repository}{joint}{reference}  {digest}"));
                true
            }
            Err(error) => {
                let error = causes::in_a_line(&error);
                output::complain(format_args!("{repository}{joint}{reference}  {error}"));
                false
            }
        }
    }

    async fn item(&self, repository: &RepoName, reference: &Reference) -> Result<Digest> {
        let (digest, fetched) = match reference {
            Reference::Digest(digest) => (digest.clone(), None),
            Reference::Tag(_) => match self.from.look(repository, reference, soon()).await?.digest {
                Some(digest) => (digest, None),
                None => {
                    let fetched = self.from.manifest(repository, reference, soon()).await?;
                    (fetched.digest, Some(fetched.bytes))
                }
            },
        };
        let mut fresh = VecDeque::new();
        self.manifest(repository, &digest, fetched, 0, &mut fresh).await?;
        self.enter(repository, reference, &digest).await?;
        self.referrers(repository, fresh).await?;
        Ok(digest)
    }

    /// Sees that what refers to `subjects` is there, too, and what refers to that. Only now that the image is: an index may both list a
    /// manifest and refer to it.
    async fn referrers(&self, repository: &RepoName, mut subjects: VecDeque<Digest>) -> Result<()> {
        let (most, mut come) = (self.limits.visits.referrers, 0);
        while let Some(subject) = subjects.pop_front() {
            let listed = self
                .from
                .referrers(repository, &subject)
                .first(most, soon())
                .await?;
            come += listed.len();
            if come > most {
                return Err(MovingError::Referrers(most));
            }
            for Referring { digest, .. } in listed {
                self.manifest(repository, &digest, None, 0, &mut subjects).await?;
                let by_digest = Reference::Digest(digest.clone());
                self.enter(repository, &by_digest, &digest).await?;
            }
        }
        Ok(())
    }

    /// Enters what is there into the list.
    async fn enter(&self, repository: &RepoName, reference: &Reference, digest: &Digest) -> Result<()> {
        let known = self.known(repository, digest).get().cloned();
        let (media_type, size) = known.ok_or_else(|| MovingError::Missing(digest.clone()))?;
        self.to.enter(&Entry {
            media_type: Some(media_type),
            digest: digest.clone(),
            size,
            name: self.wanted.name(repository, reference),
        });
        let is_due = {
            let mut saved = self.saved.lock();
            let is_due = saved.elapsed() >= SAVE_EVERY;
            if is_due {
                *saved = Instant::now();
            }
            is_due
        };
        if is_due {
            let to = self.to.clone();
            aside(move || to.save()).await??;
        }
        Ok(())
    }

    fn known(&self, repository: &RepoName, digest: &Digest) -> Arc<OnceCell<Known>> {
        let key = (repository.clone(), digest.clone());
        self.manifests.lock().entry(key).or_default().clone()
    }

    /// Sees that a manifest is there with all that it refers to. What this looked at is `fresh`.
    fn manifest<'a>(
        &'a self,
        repository: &'a RepoName,
        digest: &'a Digest,
        fetched: Option<Bytes>,
        depth: usize,
        fresh: &'a mut VecDeque<Digest>,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            if depth > self.limits.visits.depth {
                return Err(MovingError::Deep(digest.clone()));
            }
            let known = self.known(repository, digest);
            known
                .get_or_try_init(|| self.fetch(repository, digest, fetched, depth, fresh))
                .await?;
            Ok(())
        }
        .boxed()
    }

    async fn fetch(
        &self,
        repository: &RepoName,
        digest: &Digest,
        fetched: Option<Bytes>,
        depth: usize,
        fresh: &mut VecDeque<Digest>,
    ) -> Result<Known> {
        let (to, wanted) = (self.to.clone(), digest.clone());
        // It is written after what it refers to.
        let here = aside(move || to.document(&wanted)).await??;
        let is_new = here.is_none();
        let bytes = match (here, fetched) {
            (Some(bytes), _) => Bytes::from(bytes),
            (None, Some(bytes)) => bytes,
            (None, None) => {
                let reference = Reference::Digest(digest.clone());
                self.from.manifest(repository, &reference, soon()).await?.bytes
            }
        };
        let manifest = Manifest::parse(None, &bytes).map_err(|source| MovingError::Manifest {
            digest: digest.clone(),
            source,
        })?;
        for child in &manifest.children {
            let child = self.manifest(repository, &child.digest, None, depth + 1, fresh);
            match child.await {
                // An index may lack some of its platforms.
                Ok(()) | Err(MovingError::Registry(UpstreamError::NotFound)) => {}
                Err(error) => return Err(error),
            }
        }
        if is_new {
            each_blob(&manifest, self.jobs, |blob, is_required| {
                self.blob(repository, blob, is_required).boxed()
            })
            .await?;
        }
        self.document(digest, bytes.clone()).await?;
        fresh.push_back(digest.clone());
        Ok((manifest.media_type, bytes.len() as u64))
    }

    /// Writes a manifest, unless it is there.
    async fn document(&self, digest: &Digest, bytes: Bytes) -> Result<()> {
        let once = self.contents.lock().entry(digest.clone()).or_default().clone();
        let write = || async {
            let (to, digest, length) = (self.to.clone(), digest.clone(), bytes.len() as u64);
            self.progress.needs(length);
            if self.to.has(&digest) {
                self.progress.has(length);
                return Ok::<_, MovingError>(());
            }
            aside(move || {
                let mut incoming = to.begin(&digest)?;
                incoming.write(&bytes)?;
                incoming.finish()
            })
            .await??;
            self.progress.moved(length);
            Ok(())
        };
        once.get_or_try_init(write).await?;
        Ok(())
    }

    async fn blob(&self, repository: &RepoName, blob: &Descriptor, is_required: bool) -> Result<()> {
        let once = self
            .contents
            .lock()
            .entry(blob.digest.clone())
            .or_default()
            .clone();
        match once.get_or_try_init(|| self.download(repository, blob)).await {
            Err(MovingError::Registry(UpstreamError::NotFound)) if !is_required => Ok(()),
            // Not as a manifest that isn't there, which an index may list.
            Err(MovingError::Registry(UpstreamError::NotFound)) => {
                Err(MovingError::Absent(blob.digest.clone()))
            }
            outcome => {
                outcome?;
                Ok(())
            }
        }
    }

    /// Fetches a blob, from where a former run was ended. What breaks is continued as long as it gets anywhere.
    async fn download(&self, repository: &RepoName, blob: &Descriptor) -> Result<()> {
        let turn = self.turns.acquire().await;
        let _turn = turn.map_err(|error| MovingError::Work(std::io::Error::other(error)))?;
        self.progress.needs(blob.size);
        if self.to.has(&blob.digest) {
            self.progress.has(blob.size);
            return Ok(());
        }
        let (to, digest) = (self.to.clone(), blob.digest.clone());
        let mut incoming = aside(move || to.begin(&digest)).await??;
        self.progress.has(incoming.length());
        let mut left = self.limits.visits.retries;
        while incoming.length() < blob.size {
            let before = incoming.length();
            let (after, outcome) = self.pieces(repository, blob, incoming).await?;
            incoming = after;
            match outcome {
                Err(error) if left == 0 && incoming.length() == before => return Err(error.into()),
                Err(error @ (UpstreamError::NotFound | UpstreamError::Length { .. })) => {
                    return Err(error.into());
                }
                Err(_) if incoming.length() == before => {
                    tokio::time::sleep(self.from.pause(self.limits.visits.retries - left)).await;
                    left -= 1;
                }
                Err(_) => left = self.limits.visits.retries,
                // Shorter than its manifest says: the digest tells.
                Ok(()) => break,
            }
        }
        aside(move || incoming.finish()).await??;
        Ok(())
    }

    /// Writes what comes of a blob, as long as it comes.
    async fn pieces(
        &self,
        repository: &RepoName,
        blob: &Descriptor,
        mut incoming: Incoming,
    ) -> Result<(Incoming, std::result::Result<(), UpstreamError>)> {
        let begun = self
            .from
            .blob(repository, &blob.digest, incoming.length(), soon())
            .await;
        let mut pieces = match begun {
            Ok(begun) => begun.pieces,
            Err(error) => return Ok((incoming, Err(error))),
        };
        let mut gathered = BytesMut::new();
        loop {
            let piece = pieces.next().await;
            if let Some(Ok(piece)) = &piece {
                gathered.extend_from_slice(piece);
                let now = incoming.length() + gathered.len() as u64;
                if now > blob.size {
                    let before = blob.size;
                    return Ok((incoming, Err(UpstreamError::Length { before, now })));
                }
            }
            if gathered.len() >= PIECE || !matches!(piece, Some(Ok(_))) {
                let bytes = gathered.split().freeze();
                self.progress.moved(bytes.len() as u64);
                incoming = aside(move || incoming.write(&bytes).map(|()| incoming)).await??;
            }
            match piece {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Ok((incoming, Err(error))),
                None => return Ok((incoming, Ok(()))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_a_repository_something_of_it_or_a_pattern() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let repository = RepoName::parse("team/app").unwrap();
        let tag = Reference::Tag(crate::oci::Tag::parse("v1").unwrap());
        let by_digest = Reference::Digest(Digest::parse(&digest).unwrap());
        for (path, one, of_it, name) in [
            ("", false, None, Some("team/app:v1")),
            ("team/**", false, None, Some("team/app:v1")),
            ("team/app", true, None, Some("v1")),
            ("team/app:v1", true, Some(tag.clone()), Some("v1")),
            (
                &*format!("team/app@{digest}"),
                true,
                Some(by_digest.clone()),
                Some("v1"),
            ),
        ] {
            let wanted = Wanted::parse(path).unwrap();
            assert_eq!(wanted.name(&repository, &tag).as_deref(), name, "{path}");
            match &wanted {
                Wanted::One(named, reference) => {
                    assert_eq!((true, &repository, &of_it), (one, named, reference))
                }
                Wanted::Many(pattern) => assert!(!one && pattern.matches(&repository), "{path}"),
            }
            let nameless = wanted.name(&repository, &by_digest);
            assert_eq!(nameless.is_none(), one, "{path}");
        }
        for wrong in ["team/app:", "team/app@sha256:a", "Team/app", "a:b:c"] {
            assert!(Wanted::parse(wrong).is_err(), "{wrong}");
        }
    }
}
