//! Mirroring ahead of time (`pollInterval`): what the rules say of a registry is brought here before anybody asks for it.
//!
//! Every member walks the catalogue upstream, and of what it finds visits the repositories that it is ranked first for among the
//! members that live. Each visit has a row, which says who is at it and what came of it: so a repository is one member's at a time,
//! what a member left undone that died is done by the next one at once, and what it had done isn't done again before its time. In a
//! visit upstream is asked of each tag only what it names (`HEAD`), and for what isn't here. A tag moves here when all of its
//! image has come, so whoever pulls it never waits.
//!
//! Who wants something visited before its time writes an order ([`orders`](super::orders)), which each member looks for while it waits
//! for the next walk, and between two visits.
//!
//! Deliberately absent: deleting what is gone upstream.

use std::{collections::BTreeSet, sync::Arc};

use tokio::time::{Duration, Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Mirror, Shared, SyncError, Wanted,
    rules::{self, Rule, Source},
    whole::Way,
};
use crate::{
    causes, clock,
    maintenance::Share,
    oci::{Descriptor, Reference, RepoName, Tag},
    registry::{Counts, Visit, Visited},
    upstream::{Fetched, UpstreamError},
};

/// After the start, so that members know of each other; and how often it is looked whether there are others by now, or orders.
const LOOK: Duration = Duration::from_secs(5);
/// After a walk that left something undone, at most.
const AGAIN: Duration = Duration::from_secs(600);
/// After so long nobody is thought to be at it still.
const LONGEST_MS: u64 = 86_400_000;
/// For how long it is known of a repository what came of the last visit.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// What is walked, and by whom.
#[derive(Clone, Copy)]
struct Poll<'a> {
    source: &'a Source,
    interval: Duration,
    share: &'a Share,
    end: &'a CancellationToken,
}

/// Which visits are to be made anew though it isn't time: those that began before, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ordered {
    all_ms: u64,
    /// Of those that failed.
    failed_ms: u64,
}

/// What a walk came to, for the log.
#[derive(Debug)]
struct Walk {
    /// By what is visited.
    ordered: Ordered,
    /// When it was last looked for orders.
    looked: Instant,
    repositories: usize,
    counts: Counts,
    /// Others were at it.
    left: usize,
}

impl Walk {
    fn new() -> Self {
        Self {
            ordered: Ordered::default(),
            looked: Instant::now(),
            repositories: 0,
            counts: Counts::default(),
            left: 0,
        }
    }
}

impl Mirror {
    /// Mirrors ahead of time, walk after walk, until `end` is cancelled; then it notes that it stops where it stands.
    pub async fn poll(self, share: Share, end: CancellationToken) {
        let walks = self.shared.sources.iter().filter_map(|source| {
            Some(self.shared.poll(Poll {
                source,
                interval: source.poll_interval?,
                share: &share,
                end: &end,
            }))
        });
        futures_util::future::join_all(walks).await;
    }
}

impl Poll<'_> {
    /// What comes of `work`, unless this member ends before.
    async fn within<T, E: Into<SyncError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SyncError> {
        let done = self.end.run_until_cancelled(work).await;
        done.ok_or(SyncError::Ended)?.map_err(Into::into)
    }

    async fn sleep(&self, time: Duration) {
        let _: Option<()> = self.end.run_until_cancelled(sleep(time)).await;
    }
}

impl Shared {
    async fn poll(self: &Arc<Self>, poll: Poll<'_>) {
        let look = LOOK.min(poll.interval / 2);
        poll.sleep(look / 2 + clock::part_of(look / 2)).await;
        while !poll.end.is_cancelled() {
            let (began, members) = (Instant::now(), poll.share.members());
            let again = || Instant::now() + AGAIN.min(poll.interval / 4);
            let mut walk = Walk::new();
            let ended = self.walk(poll, &mut walk).await;
            let mut until = match &ended {
                Ok(()) if walk.left == 0 => began + poll.interval,
                Ok(()) | Err(_) => again(),
            };
            say(poll.source, &walk, ended, began.elapsed());
            loop {
                let left = until.saturating_duration_since(Instant::now());
                poll.sleep(left.min(look)).await;
                if left.is_zero() || poll.share.members() != members || poll.end.is_cancelled() {
                    break;
                }
                let (began, mut visits) = (Instant::now(), Walk::new());
                let ordered = self.obey(poll, &mut visits).await;
                let is_for_all = ordered.as_ref().is_ok_and(|ordered| *ordered != walk.ordered);
                if ordered.is_err() {
                    until = until.min(again());
                }
                if ordered.is_err() || visits.repositories > 0 {
                    say(poll.source, &visits, ordered.map(drop), began.elapsed());
                }
                if is_for_all {
                    break;
                }
            }
        }
    }

    /// Visits repositories of this member's of which that was ordered. What was ordered of all.
    async fn obey(self: &Arc<Self>, poll: Poll<'_>, walk: &mut Walk) -> Result<Ordered, SyncError> {
        let Poll { source, share, .. } = poll;
        let work = source.work();
        let orders = poll.within(self.registry.orders(&work)).await?;
        for (repository, at_ms, version) in orders.repositories {
            if !share.serves(&repository) {
                continue;
            }
            let (ordered, left) = (
                Ordered {
                    all_ms: at_ms,
                    failed_ms: 0,
                },
                walk.left,
            );
            let mut came = Ok(());
            for (rule, remote) in source.rules_of(&repository) {
                came = self.visit(poll, rule, &remote, ordered, walk).await;
                if came.is_err() {
                    break;
                }
            }
            // Who ends leaves the order to the others. Else a visit that was cut is made again like every other.
            if walk.left == left && !matches!(came, Err(SyncError::Ended)) {
                let done = self.registry.order_done(&work, &repository, version);
                poll.within(done).await?;
            }
            came?;
        }
        walk.looked = Instant::now();
        Ok(Ordered {
            all_ms: orders.now_ms,
            failed_ms: orders.retry_ms,
        })
    }

    async fn walk(self: &Arc<Self>, poll: Poll<'_>, walk: &mut Walk) -> Result<(), SyncError> {
        let source = poll.source;
        walk.ordered = self.obey(poll, walk).await?;
        // Where all rules name repositories, there needn't be a catalogue (Docker Hub has none).
        let (named, patterns): (Vec<_>, Vec<_>) = source
            .rules()
            .iter()
            .partition(|rule| rule.content.literal().is_some());
        for rule in named {
            if let Some(remote) = rule.content.literal() {
                self.visit_in_turn(poll, rule, &remote, walk).await?;
            }
        }
        let mut pages = source.upstream.repositories();
        while !patterns.is_empty()
            && let Some(page) = poll.within(pages.next(Instant::now() + self.within)).await?
        {
            for remote in &page {
                for rule in &patterns {
                    self.visit_in_turn(poll, rule, remote, walk).await?;
                }
            }
        }
        poll.within(self.forget(poll)).await
    }

    /// A visit of a walk, after those that were ordered meanwhile.
    async fn visit_in_turn(
        self: &Arc<Self>,
        poll: Poll<'_>,
        rule: &Rule,
        remote: &RepoName,
        walk: &mut Walk,
    ) -> Result<(), SyncError> {
        if walk.looked.elapsed() >= LOOK {
            self.obey(poll, walk).await?;
        }
        self.visit(poll, rule, remote, walk.ordered, walk).await
    }

    /// Forgets visits of long ago to this member's repositories: of rules, and to repositories, that aren't there any more.
    async fn forget(&self, poll: Poll<'_>) -> Result<(), SyncError> {
        let Poll {
            source,
            interval,
            share,
            ..
        } = poll;
        let kept_ms = KEPT.max(4 * interval).as_millis();
        let mut after = None;
        loop {
            let page = self.registry.visits(source.name(), after).await?;
            for (repository, rule, visit, version) in &page.visits {
                let age_ms = clock::now_ms().saturating_sub(visit.began_ms);
                if u128::from(age_ms) > kept_ms && share.serves(repository) {
                    let visited = Visited {
                        upstream: source.name(),
                        repository,
                        rule,
                    };
                    self.registry.forget_visit(visited, *version).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Visits a repository upstream, if it is the rule's and this member's, and its time has come. An error ends the walk: upstream
    /// is gone, or this member's stores are, or it ends.
    async fn visit(
        self: &Arc<Self>,
        poll: Poll<'_>,
        rule: &Rule,
        remote: &RepoName,
        ordered: Ordered,
        walk: &mut Walk,
    ) -> Result<(), SyncError> {
        // Nothing of the rest of the page is visited, nor said to be.
        if poll.end.is_cancelled() {
            return Err(SyncError::Ended);
        }
        let Poll {
            source,
            interval,
            share,
            ..
        } = poll;
        let Some(local) = rule.content.target(remote) else {
            return Ok(());
        };
        if !share.serves(&local) {
            return Ok(());
        }
        let visited = Visited {
            upstream: source.name(),
            repository: &local,
            rule: &rule.mark,
        };
        let last = self.registry.visit(visited).await?;
        let mut over = None;
        if let Some((last, version)) = last {
            let age_ms = clock::now_ms().saturating_sub(last.began_ms);
            let is_ordered =
                last.began_ms < ordered.all_ms || (last.error.is_some() && last.began_ms < ordered.failed_ms);
            let is_due = last.is_cut || is_ordered;
            match last.ended_ms {
                // Half: who walks a little faster this time doesn't leave it to the next one.
                Some(_) if !is_due && u128::from(age_ms) < interval.as_millis() / 2 => return Ok(()),
                None if age_ms < LONGEST_MS && share.is_another(&last.by).await => {
                    walk.left += 1;
                    return Ok(());
                }
                Some(_) | None => over = Some(version),
            }
        }
        let mut visit = Visit {
            by: share.me(),
            began_ms: clock::now_ms(),
            ended_ms: None,
            is_cut: false,
            counts: Counts::default(),
            error: None,
        };
        let Some(version) = self.registry.note_visit(visited, &visit, over).await? else {
            walk.left += 1;
            return Ok(());
        };
        let way = Way {
            source,
            remote,
            wanted: Wanted {
                repository: &local,
                of: None,
                by: "",
            },
        };
        let ended = poll.within(self.go(way, rule, &mut visit)).await;
        walk.repositories += 1;
        walk.counts.add(visit.counts);
        visit.ended_ms = Some(clock::now_ms());
        if let Err(error) = &ended {
            visit.is_cut = true;
            if !matches!(error, SyncError::Ended) {
                visit.error = Some(causes::in_a_line(error));
            }
        }
        self.registry.note_visit(visited, &visit, Some(version)).await?;
        ended
    }

    /// Tag by tag. An error ends the walk.
    async fn go(self: &Arc<Self>, way: Way<'_>, rule: &Rule, visit: &mut Visit) -> Result<(), SyncError> {
        let (source, local) = (way.source, way.wanted.repository);
        let mut pages = source.upstream.tags(way.remote);
        loop {
            let page = match pages.next(Instant::now() + self.within).await {
                Ok(Some(page)) => page,
                Ok(None) => return Ok(()),
                Err(error) if !error.is_everywhere() => {
                    visit.counts.failed += 1;
                    failed(local, None, &error.into(), visit);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            for tag in page.iter().filter(|tag| source.wants(&rule.content, tag)) {
                visit.counts.tags += 1;
                let outcome = match self.bring_tag(way, tag, &mut visit.counts).await {
                    Ok(false) => "hit",
                    Ok(true) => {
                        visit.counts.moved += 1;
                        "fetched"
                    }
                    Err(SyncError::Unsigned(_) | SyncError::Alone(_)) => "unsigned",
                    Err(error) => {
                        visit.counts.failed += 1;
                        failed(local, Some(tag), &error, visit);
                        if error.is_everywhere() {
                            return Err(error);
                        }
                        "failed"
                    }
                };
                self.metrics.mirror("ahead", outcome);
            }
        }
    }

    /// Whether the tag names something else here now.
    async fn bring_tag(
        self: &Arc<Self>,
        way: Way<'_>,
        tag: &Tag,
        counts: &mut Counts,
    ) -> Result<bool, SyncError> {
        let Way {
            source,
            remote,
            wanted,
        } = way;
        let reference = Reference::Tag(tag.clone());
        self.check_subject(source, wanted.repository, &reference).await?;
        let here = self.here(wanted.repository, &reference).await?;
        let until = || Instant::now() + self.within;
        let there = match source.upstream.look(remote, &reference, until()).await {
            Ok(there) => there.digest,
            // It went while the list was read.
            Err(UpstreamError::NotFound) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if let Some(here) = &here
            && there.as_ref() == Some(&here.digest)
        {
            self.complete(way, here, counts).await?;
            return Ok(false);
        }
        // Not by the tag, which may move once more meanwhile.
        let exact = there.map_or_else(|| reference.clone(), Reference::Digest);
        let fetched = source.upstream.manifest(remote, &exact, until()).await?;
        self.check_signed(source, remote, wanted, &reference, &fetched, until())
            .await?;
        self.bring_contents(way, &fetched, 0, &mut BTreeSet::new(), counts)
            .await?;
        let before = here.map(|here| here.digest);
        if before.as_ref() == Some(&fetched.digest) {
            return Ok(false);
        }
        if rules::subject_of(&reference).is_none() {
            self.bring_along(way, &fetched.digest, counts).await?;
        }
        self.hold_blobs(way, &fetched, counts).await?;
        // A client's pull may have moved the tag on while the blobs came: then the next visit sees to it.
        let now = self.here(wanted.repository, &reference).await?;
        if now.map(|now| now.digest) != before {
            return Ok(false);
        }
        self.count_and_store(wanted, &reference, fetched, counts).await?;
        Ok(true)
    }

    /// A client may have pulled it through, and only parts of it; or a visit was cut.
    async fn complete(
        self: &Arc<Self>,
        way: Way<'_>,
        here: &Descriptor,
        counts: &mut Counts,
    ) -> Result<(), SyncError> {
        let reference = Reference::Digest(here.digest.clone());
        let (descriptor, bytes) = self.registry.manifest(way.wanted.repository, &reference).await?;
        let here = Fetched {
            media_type: descriptor.media_type,
            digest: descriptor.digest,
            bytes,
        };
        self.bring_contents(way, &here, 0, &mut BTreeSet::new(), counts)
            .await
    }
}

fn failed(local: &RepoName, tag: Option<&Tag>, error: &SyncError, visit: &mut Visit) {
    let (repository, tag, error) = (local, tag.map(tracing::field::display), causes::in_a_line(error));
    tracing::warn!(%repository, tag, error, "isn't mirrored ahead; it is tried again in the next round");
    visit.error = Some(match &tag {
        Some(tag) => format!("{tag}: {error}"),
        None => error,
    });
}

fn say(source: &Source, walk: &Walk, ended: Result<(), SyncError>, took: Duration) {
    let Walk {
        ordered: _,
        looked: _,
        repositories,
        counts,
        left,
    } = walk;
    let Counts {
        tags,
        moved,
        failed,
        manifests,
        blobs,
        bytes,
    } = counts;
    let upstream = source.name();
    match ended {
        // A walk that found everything done.
        Ok(()) if *repositories == 0 => tracing::debug!(upstream, left, ?took, "nothing to mirror ahead"),
        Err(SyncError::Ended) => tracing::debug!(upstream, repositories, "mirroring ahead stops"),
        Ok(()) => tracing::info!(
            upstream,
            repositories,
            tags,
            moved,
            failed,
            manifests,
            blobs,
            bytes,
            left,
            ?took,
            "mirrored ahead"
        ),
        Err(error) => tracing::warn!(
            upstream,
            repositories,
            tags,
            moved,
            failed,
            error = causes::in_a_line(&error),
            "mirroring ahead ended early; it goes on in a while"
        ),
    }
}
