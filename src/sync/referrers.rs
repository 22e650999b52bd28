//! What refers to a manifest upstream: signatures, attestations, lists of contents.
//!
//! They come along when a client pulls a manifest through, behind its answer, so that whoever verifies it later can, also when
//! upstream is gone; and when somebody asks what refers to it. What refers to them in turn comes when that is asked for.

use std::sync::Arc;

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    Kind, Looked, Mirror, Shared, SyncError, Wanted,
    jobs::{Outcome, answer},
    rules,
    whole::Way,
};
use crate::{
    causes,
    oci::{Digest, Reference},
    registry::Counts,
    telemetry::Waited,
    upstream::UpstreamError,
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
            answer(shared.ask_referrers(wanted, subject)),
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
    pub(super) fn ask_referrers(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
        subject: &Digest,
    ) -> watch::Receiver<Option<Outcome>> {
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
            match self.referrers_from(way, subject, &mut counts).await {
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
        let most = self.limits.referrers;
        let look = || Instant::now() + self.upstream.look;
        let listed = source.upstream.referrers(remote, subject, most, look()).await?;
        let mut missing = Vec::new();
        for referrer in listed.into_iter().take(most) {
            let reference = Reference::Digest(referrer.digest);
            if self.here(wanted.repository, &reference).await?.is_none() {
                missing.push(reference);
            }
        }
        let tags = rules::signature_tags(subject).filter(|_| source.cosign_tags);
        for reference in tags.map(Reference::Tag) {
            let there = match source.upstream.look(remote, &reference, look()).await {
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
            match self.bring_referrer(way, &reference, counts).await {
                Err(error) if error.is_only_of_this() => outcome = Err(error),
                brought => brought?,
            }
        }
        outcome
    }

    async fn bring_referrer(
        self: &Arc<Self>,
        way: Way<'_>,
        reference: &Reference,
        counts: &mut Counts,
    ) -> Result<(), SyncError> {
        let until = Instant::now() + self.within;
        let fetched = way.source.upstream.manifest(way.remote, reference, until).await?;
        self.bring_blobs(way, &fetched, counts).await?;
        self.hold_blobs(way, &fetched, counts).await?;
        self.count_and_store(way.wanted, reference, fetched, counts).await
    }
}
