//! Manifests: tags that may have moved upstream, digests that aren't here.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Kind, Looked, Mirror, OwnedWanted, Shared, SyncError, Thing, Wanted,
    jobs::{Asked, Outcome},
    rules::{self, Source},
    whole::parsed,
};
use crate::{
    causes,
    oci::{Descriptor, Preconditions, Reference, RepoName},
    registry::{
        MayBeAbsent, MayPush, PutManifest, RegistryError,
        changes::{Cause, Why},
    },
    telemetry::Waited,
    upstream::{Fetched, UpstreamError},
};

impl Mirror {
    /// Sees to it that what `reference` names upstream is here, if it is mirrored.
    ///
    /// # Errors
    /// [`SyncError`]: it isn't here, and upstream didn't give it.
    pub async fn look(&self, wanted: Wanted<'_>, reference: &Reference) -> Outcome {
        let shared = &self.shared;
        if shared.candidates(wanted, Some(reference)).next().is_none() {
            return Ok(Looked::Here);
        }
        let here = shared
            .here(wanted.repository, reference)
            .await
            .map_err(Arc::new)?;
        let thing = shared.thing(Kind::Manifest, wanted, reference.clone());
        match (&here, reference) {
            // Content never changes under its digest.
            (Some(_), Reference::Digest(_)) => {
                shared.metrics.mirror("manifest", "hit");
                return Ok(Looked::Here);
            }
            (here, _) if shared.absent.knows(&thing) => {
                let told = if here.is_some() { "hit" } else { "absent" };
                shared.metrics.mirror("manifest", told);
                return Ok(Looked::Here);
            }
            (Some(_), Reference::Tag(_)) => {
                let mut sources = shared.candidates(wanted, Some(reference));
                let interval = sources.next().and_then(|(source, _)| source.check_interval);
                if let Some(interval) = interval {
                    shared.metrics.mirror("manifest", "hit");
                    if !shared.looked.knows(&thing) {
                        shared.looked.remember(thing, interval);
                        let _in_the_background = shared.ask(wanted, reference, here);
                    }
                    return Ok(Looked::Here);
                }
            }
            (None, _) => {}
        }
        let outcome = Waited::for_upstream(shared.ask(wanted, reference, here)).await;
        shared.metrics.mirror("manifest", super::told(&outcome));
        match outcome {
            Err(error) if error.is_absent() => Ok(Looked::Here),
            outcome => outcome,
        }
    }
}

impl Shared {
    /// The registries from which a repository is mirrored, with its names there; the one that is meant, if one is.
    pub(super) fn candidates<'a>(
        &'a self,
        wanted: Wanted<'a>,
        reference: Option<&'a Reference>,
    ) -> impl Iterator<Item = (&'a Source, RepoName)> {
        let meant = self.meant(wanted);
        let sources = self.sources.iter().filter(|source| source.on_demand);
        let sources = sources.filter(move |source| meant.is_none_or(|host| source.is(host)));
        sources.filter_map(move |source| Some((source, source.remote(wanted.repository, reference)?)))
    }

    /// The host by which a registry is meant that is mirrored.
    fn meant<'a>(&self, wanted: Wanted<'a>) -> Option<&'a str> {
        let is_mirrored = |host: &&str| self.sources.iter().any(|source| source.is(host));
        wanted.of.filter(is_mirrored)
    }

    pub(super) fn thing(&self, kind: Kind, wanted: Wanted<'_>, reference: Reference) -> Thing {
        Thing {
            kind,
            repository: wanted.repository.clone(),
            reference,
            of: self.meant(wanted).map(str::to_ascii_lowercase),
        }
    }

    /// It isn't absent upstream, whoever asks.
    pub(super) fn came(&self, thing: &Thing) {
        self.absent.forget(thing);
        self.absent.forget(&Thing {
            of: None,
            ..thing.clone()
        });
    }

    pub(super) async fn here(
        &self,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<Option<Descriptor>, SyncError> {
        match self.registry.describe_manifest(repository, reference).await {
            Ok(descriptor) => Ok(Some(descriptor)),
            Err(RegistryError::ManifestUnknown | RegistryError::NameUnknown) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn ask(self: &Arc<Self>, wanted: Wanted<'_>, reference: &Reference, here: Option<Descriptor>) -> Asked {
        let (shared, reference) = (self.clone(), reference.clone());
        self.ask_behind(
            Kind::Manifest,
            wanted,
            reference.clone(),
            move |wanted| async move { shared.bring(wanted.borrowed(), &reference, here).await },
        )
    }

    /// Asks as a task of this member, unless that is being asked already.
    pub(super) fn ask_behind<W>(
        self: &Arc<Self>,
        kind: Kind,
        wanted: Wanted<'_>,
        reference: Reference,
        work: impl FnOnce(OwnedWanted) -> W,
    ) -> Asked
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let question = self.thing(kind, wanted, reference);
        let wanted = OwnedWanted::of(wanted);
        self.looks.ask(question, &self.drain, move || work(wanted))
    }

    /// Asks each registry in turn.
    async fn bring(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
        reference: &Reference,
        here: Option<Descriptor>,
    ) -> Outcome {
        let until = Instant::now() + self.within;
        let thing = self.thing(Kind::Manifest, wanted, reference.clone());
        let mut last = SyncError::from(UpstreamError::NotFound);
        for (source, remote) in self.candidates(wanted, Some(reference)) {
            let stored = async {
                self.check_subject(source, wanted.repository, reference).await?;
                let fetched = match &here {
                    Some(here) => self.newer(source, &remote, reference, here, until).await?,
                    None => Some(source.upstream.manifest(&remote, reference, until).await?),
                };
                let Some(fetched) = fetched else {
                    return Ok::<_, SyncError>(None);
                };
                self.check_signed(source, &remote, wanted, reference, &fetched, until)
                    .await?;
                let digest = fetched.digest.clone();
                self.store(wanted, reference, fetched).await?;
                Ok(Some(digest))
            };
            last = match stored.await {
                Ok(None) => return Ok(Looked::Here),
                Ok(Some(digest)) => {
                    self.came(&thing);
                    if rules::subject_of(reference).is_none() {
                        let _behind = self.ask_referrers(wanted, &digest);
                    }
                    return Ok(Looked::Fetched);
                }
                Err(error) => error,
            };
            if !last.is_absent() {
                let repository = wanted.repository;
                tracing::warn!(%repository, %reference, error = causes::in_a_line(&last), "a manifest isn't mirrored");
                break;
            }
        }
        // Whether what it belongs to is here is soon told, and soon otherwise.
        if last.is_absent() && !matches!(last, SyncError::Alone(_)) {
            self.absent.remember(thing, self.limits.absent);
        }
        match here {
            Some(_) if last.is_absent() => Ok(Looked::Here),
            Some(_) => Ok(Looked::Stale(Arc::new(last))),
            None => Err(Arc::new(last)),
        }
    }

    /// What a tag names upstream, if that isn't what it names here.
    async fn newer(
        &self,
        source: &Source,
        remote: &RepoName,
        reference: &Reference,
        here: &Descriptor,
        until: Instant,
    ) -> Result<Option<Fetched>, UpstreamError> {
        let soon = until.min(Instant::now() + self.upstream.look);
        let named = source.upstream.look(remote, reference, soon).await?;
        let there: Reference = match named.digest {
            Some(digest) if digest == here.digest => return Ok(None),
            // Not by the tag, which may move once more meanwhile.
            Some(digest) => digest.into(),
            None => reference.clone(),
        };
        let fetched = source.upstream.manifest(remote, &there, until).await?;
        Ok(Some(fetched).filter(|fetched| fetched.digest != here.digest))
    }

    /// Stores a manifest, as a push of whoever asked for it.
    pub(super) async fn store(
        &self,
        wanted: Wanted<'_>,
        reference: &Reference,
        fetched: Fetched,
    ) -> Result<(), SyncError> {
        let children = parsed(&fetched)?.children;
        let Fetched {
            media_type, bytes, ..
        } = fetched;
        let put = PutManifest {
            repository: wanted.repository,
            reference,
            tags: &[],
            media_type: Some(media_type),
            body: bytes,
            cause: Cause {
                by: wanted.by,
                why: Why::Mirror,
            },
            may: MayPush {
                create: true,
                update: true,
            },
            absent: MayBeAbsent::Everything,
            only_if: &Preconditions::default(),
            deadline: Instant::now() + self.within,
        };
        self.registry
            .put_manifest(put)
            .await
            .map_err(|error| match error {
                RegistryError::ManifestInvalid(_)
                | RegistryError::ManifestTooLarge
                | RegistryError::DigestMismatch { .. } => {
                    SyncError::from(UpstreamError::Nonsense("something that is no manifest"))
                }
                error => error.into(),
            })?;
        // They may come now, if they didn't because nothing here named them.
        for child in children {
            self.came(&self.thing(Kind::Manifest, wanted, child.digest.into()));
        }
        Ok(())
    }
}
