//! What refers to a manifest upstream: signatures, attestations, lists of contents.
//!
//! They come along when a client pulls a manifest through, behind its answer, so that whoever verifies it later can, also when
//! upstream is gone; and when somebody asks what refers to it. What refers to them in turn comes when that is asked for.

use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::{
    Kind, Looked, Mirror, Shared, SyncError, Wanted,
    jobs::{Asked, Outcome},
    rules,
    whole::{Way, parsed},
};
use crate::{
    causes,
    oci::{Digest, Reference},
    registry::Counts,
    telemetry::Waited,
    upstream::{Referring, UpstreamError},
};

impl Mirror {
    /// Sees to it that what refers to `subject` upstream is here, if it is mirrored. What takes too long goes on coming when who asks
    /// has been told of what is here.
    ///
    /// # Errors
    /// [`SyncError`]: this member ends. Where upstream can't be asked, that is [`Looked::Stale`].
    pub async fn referrers(&self, wanted: Wanted<'_>, subject: &Digest) -> Outcome {
        let shared = &self.shared;
        if shared.candidates(wanted, None).next().is_none() || shared.knows_referrers(wanted, subject) {
            return Ok(Looked::Here);
        }
        let coming = timeout(
            shared.limits.referrers_time,
            shared.ask_referrers(wanted, subject),
        );
        let outcome = Waited::for_upstream(coming).await;
        let outcome = outcome.unwrap_or_else(|_| Ok(Looked::Stale(Arc::new(SyncError::Late))));
        shared.metrics.mirror("referrers", super::told(&outcome));
        outcome
    }
}

impl Shared {
    /// Whether they were asked for a moment ago, as far as `manifestCheckInterval` lets that count.
    fn knows_referrers(&self, wanted: Wanted<'_>, subject: &Digest) -> bool {
        let thing = self.thing(Kind::Referrers, wanted, subject.clone().into());
        self.looked.knows(&thing)
    }

    /// Asks for them, behind whatever is answered.
    pub(super) fn ask_referrers(self: &Arc<Self>, wanted: Wanted<'_>, subject: &Digest) -> Asked {
        let (shared, subject) = (self.clone(), subject.clone());
        self.ask_behind(
            Kind::Referrers,
            wanted,
            subject.clone().into(),
            move |wanted| async move { shared.bring_referrers(wanted.borrowed(), &subject).await },
        )
    }

    async fn bring_referrers(self: &Arc<Self>, wanted: Wanted<'_>, subject: &Digest) -> Outcome {
        let (mut looked, mut interval) = (Looked::Here, None);
        for (source, remote) in self.candidates(wanted, None) {
            interval = interval.max(source.check_interval);
            let mut counts = Counts::default();
            let way = Way {
                source,
                remote: &remote,
                wanted,
            };
            let come = async {
                // What doesn't come has nothing here that refers to it either.
                if source.only_signed && !self.has_place(wanted.repository, subject).await? {
                    return Ok(());
                }
                self.referrers_from(way, subject, &mut counts).await
            };
            match come.await {
                Ok(()) if counts.manifests == 0 => {}
                Ok(()) => looked = Looked::Fetched,
                Err(error) => {
                    let repository = wanted.repository;
                    tracing::info!(%repository, %subject, error = causes::in_a_line(&error), "referrers aren't mirrored");
                    return Ok(Looked::Stale(Arc::new(error)));
                }
            }
        }
        if let Some(interval) = interval {
            let thing = self.thing(Kind::Referrers, wanted, subject.clone().into());
            self.looked.remember(thing, interval);
        }
        Ok(looked)
    }

    /// Brings those that aren't here, with their blobs. One that can't be had keeps no other from coming.
    pub(super) async fn referrers_from(
        self: &Arc<Self>,
        way: Way<'_>,
        subject: &Digest,
        counts: &mut Counts,
    ) -> Result<(), SyncError> {
        let Way {
            source,
            remote,
            wanted,
        } = way;
        let until = Instant::now() + self.within;
        let mut missing = Vec::new();
        for referrer in self.listed(way, subject, until).await? {
            let reference = Reference::Digest(referrer.digest);
            if self.here(wanted.repository, &reference).await?.is_none() {
                missing.push(reference);
            }
        }
        let tags = rules::signature_tags(subject).filter(|_| source.cosign_tags);
        for reference in tags.map(Reference::Tag) {
            let there = match source.upstream.look(remote, &reference, until).await {
                Ok(there) => there.digest,
                Err(UpstreamError::NotFound) => continue,
                Err(error) => return Err(error.into()),
            };
            let here = self.here(wanted.repository, &reference).await?;
            if here.is_none_or(|here| Some(here.digest) != there) {
                missing.push(reference);
            }
        }
        let mut outcome = Ok(());
        for reference in missing {
            match self.bring_referrer(way, subject, &reference, counts).await {
                Err(error) if error.is_only_of_this() => outcome = Err(error),
                brought => brought?,
            }
        }
        outcome
    }

    /// Those that come: the first that upstream lists, and of these its signatures before the others. Where it is here because of
    /// one, that is among them, however late it is listed.
    async fn listed(
        &self,
        way: Way<'_>,
        subject: &Digest,
        until: Instant,
    ) -> Result<Vec<Referring>, UpstreamError> {
        let most = self.limits.referrers;
        let (mut signatures, mut others) = (Vec::new(), Vec::new());
        let mut pages = way.source.upstream.referrers(way.remote, subject);
        while (signatures.len() + others.len() < most || (way.source.only_signed && signatures.is_empty()))
            && let Some(page) = pages.next(until).await?
        {
            let (signing, other): (Vec<_>, Vec<_>) = page.into_iter().partition(Referring::is_signature);
            signatures.extend(signing);
            others.extend(other);
            others.truncate(most);
        }
        Ok(signatures.into_iter().chain(others).take(most).collect())
    }

    async fn bring_referrer(
        self: &Arc<Self>,
        way: Way<'_>,
        subject: &Digest,
        reference: &Reference,
        counts: &mut Counts,
    ) -> Result<(), SyncError> {
        let until = Instant::now() + self.within;
        let fetched = way.source.upstream.manifest(way.remote, reference, until).await?;
        // What a list names has to say so itself; cosign's tags say it by their names.
        let named = parsed(&fetched)?.subject.map(|subject| subject.digest);
        if matches!(reference, Reference::Digest(_)) && named.as_ref() != Some(subject) {
            let repository = way.wanted.repository;
            tracing::info!(%repository, %subject, %reference, "upstream lists as a referrer what refers to something else");
            return Ok(());
        }
        self.bring_blobs(way, &fetched, counts).await?;
        self.hold_blobs(way, &fetched, counts).await?;
        self.count_and_store(way.wanted, reference, fetched, counts).await
    }
}
