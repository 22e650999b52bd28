//! Retention: tags and manifests go that no policy keeps ([`crate::config::Retention`]).
//!
//! Three steps, each by itself: the facts of a repository are read, [`decide()`] says what goes, and that is deleted as a client
//! would delete it. Every deletion expects the repository's row as it was before the facts were read, or as the deletion before
//! left it: whatever else changes the repository ends the run, and it is decided anew.
//!
//! Absent on purpose: when a repository is looked at, and by whom (`maintenance`).

mod decide;
mod plans;
mod runs;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use tokio::time::Instant;

use self::decide::{Decision, Facts, ManifestFact, TagFact, decide};
pub use self::{
    plans::{Applied, PlanItem, PlanPage, PlanStage, RetentionPlan},
    runs::new_run,
};
use super::{
    Registry, RegistryError, Result,
    changes::{Cause, Why},
    commit::{Change, Current, HeldBy, Plan},
    manifests::{Delete, DeleteTag, Deleted, WhileListed},
    pages::Pages,
    row::{self, live},
};
use crate::{
    clock,
    config::{Retention, RetentionPolicy},
    oci::{Digest, Manifest, ManifestKind, Preconditions, RepoName, Tag},
    storage::{MAX_PAGE, Row, Space, Version, keys, rows},
};

/// How often a decision is made anew in one visit when others changed the repository meanwhile.
const TRIES: usize = 5;

/// What a visit of a repository came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Tags that went, or would go.
    pub tags: u64,
    /// Manifests likewise, those that lost their last tag among them.
    pub manifests: u64,
    /// Others changed the repository again and again: it is to be looked at soon.
    pub is_unfinished: bool,
    /// When something may go though nothing changes, in milliseconds since the Unix epoch.
    pub again_ms: Option<u64>,
    /// The version of the repository's row after it, if nobody else has changed it.
    pub version: Option<Version>,
    /// A rule kept something because pulls aren't recorded for long enough.
    pub lacks_pulls: bool,
}

/// How far a decision was carried out.
enum Carried {
    /// To its end.
    Whole,
    /// Others changed the repository.
    Outrun,
    /// There was no time for all of it.
    TimeIsUp,
}

/// Whether what goes is only told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    DryRun,
    Deletes,
}

/// A repository as it was read.
struct Seen {
    row: Row,
    facts: Facts,
}

impl Registry {
    /// Deletes what `retention` doesn't keep, or, in a dry run, says what that is.
    /// `run` is what the run is called of which this is a part: by that it can be undone.
    pub async fn retain(&self, repository: &RepoName, retention: &Retention, run: &str) -> Result<Retained> {
        let Some(policy) = retention.policy(repository) else {
            return Ok(Retained::default());
        };
        let mut retained = Retained::default();
        for _ in 0..TRIES {
            let Some(seen) = self.facts(repository, policy, clock::now_ms()).await? else {
                return Ok(retained);
            };
            let decision = decide(policy, retention.delay, &seen.facts);
            let mode = match retention.dry_run {
                true => Mode::DryRun,
                false => Mode::Deletes,
            };
            tell(repository, mode, &decision, run);
            retained.again_ms = decision.again_ms;
            retained.lacks_pulls = decision.lacks_pulls;
            retained.version = Some(seen.row.version);
            if mode == Mode::DryRun {
                retained.tags = decision.tags.len() as u64;
                retained.manifests = decision.manifests.len() as u64;
                return Ok(retained);
            }
            if !decision.is_nothing() {
                self.note_run(run, repository).await?;
            }
            let carried = self.carry_out(repository, seen.row, decision, run, None, &mut retained);
            match carried.await? {
                Carried::Whole => return Ok(retained),
                Carried::Outrun | Carried::TimeIsUp => {}
            }
        }
        retained.is_unfinished = true;
        Ok(retained)
    }

    /// What policies ask about a repository, and its row as it was before that was read.
    async fn facts(
        &self,
        repository: &RepoName,
        policy: &RetentionPolicy,
        now_ms: u64,
    ) -> Result<Option<Seen>> {
        let Some(row) = self.meta.get(&keys::repository(repository)).await? else {
            return Ok(None);
        };
        let mut facts = Facts {
            now_ms,
            pulls_since_ms: self.pulls_since().await?,
            ..Facts::default()
        };
        let (meta, name) = (&*self.meta, repository.as_str());
        let mut tags = Pages::of(Space::Repositories, name, keys::TAGS, MAX_PAGE);
        while let Some(page) = tags.next(meta).await? {
            for entry in page {
                let named: rows::Tag = row::read(&entry.row)?;
                let tag = Tag::parse(&entry.sort[keys::TAGS.len()..]);
                let tag = tag.map_err(|error| row::corrupt("read a tag's name", error))?;
                facts.tags.push(TagFact {
                    is_immutable: self.settings.immutable.check(repository, &tag).is_err(),
                    tag,
                    digest: row::digest(&named.digest)?,
                    pushed_ms: named.pushed_ms,
                });
            }
        }
        let mut manifests = Pages::of(Space::Manifests, name, keys::MANIFESTS, MAX_PAGE);
        while let Some(page) = manifests.next(meta).await? {
            for entry in page {
                let digest = row::digest(&entry.sort[keys::MANIFESTS.len()..])?;
                if let Some(manifest) = live(Some(&entry.row))? {
                    let fact = self.fact(repository, &digest, manifest).await?;
                    facts.manifests.insert(digest, fact);
                }
            }
        }
        if asks_for_pulls(policy) {
            let mut pulls = Pages::of(Space::Manifests, name, keys::PULLS, MAX_PAGE);
            while let Some(page) = pulls.next(meta).await? {
                for entry in page {
                    let digest = row::digest(&entry.sort[keys::PULLS.len()..])?;
                    if let Some(manifest) = facts.manifests.get_mut(&digest) {
                        let pull: rows::Pull = row::read(&entry.row)?;
                        manifest.pulled_ms = Some(pull.last_ms);
                    }
                }
            }
        }
        Ok(Some(Seen { row, facts }))
    }

    async fn fact(
        &self,
        repository: &RepoName,
        digest: &Digest,
        manifest: rows::Manifest,
    ) -> Result<ManifestFact> {
        let media_type = row::media_type(&manifest.media_type)?;
        let mut fact = ManifestFact {
            size: manifest.size,
            pushed_ms: manifest.pushed_ms,
            subject: match manifest.subject.as_str() {
                "" => None,
                subject => Some(row::digest(subject)?),
            },
            ..ManifestFact::default()
        };
        if let Some(ManifestKind::Index | ManifestKind::DockerList) = media_type.manifest_kind() {
            // One that can't be read stops the run: what it lists isn't known.
            let document = self.document(repository, digest, manifest).await?;
            let index = Manifest::parse(Some(&media_type), &document)
                .map_err(|error| row::corrupt("read what an index lists", error))?;
            fact.children = index.children.into_iter().map(|child| child.digest).collect();
        }
        Ok(fact)
    }

    /// Deletes what was decided on, as long as nobody else changes the repository, and until about `until`.
    async fn carry_out(
        &self,
        repository: &RepoName,
        mut row: Row,
        decision: Decision,
        run: &str,
        until: Option<Instant>,
        retained: &mut Retained,
    ) -> Result<Carried> {
        let is_time_up = || until.is_some_and(|until| Instant::now() >= until);
        let only_if = Preconditions::default();
        let cause = Cause {
            by: run,
            why: Why::Retention,
        };
        let whole: BTreeSet<_> = decision.manifests.iter().map(|(digest, _)| digest).collect();
        let alone = decision
            .tags
            .iter()
            .filter(|(_, digest, _)| !whole.contains(digest));
        for (tag, ..) in alone {
            let delete = DeleteTag {
                registry: self,
                repository,
                tag,
                only_if: &only_if,
                cause,
            };
            match self.unless_changed(repository, &row, delete).await? {
                Some((row_now, ())) => row = row_now,
                None => return Ok(Carried::Outrun),
            }
            retained.tags += 1;
            if is_time_up() {
                return Ok(Carried::TimeIsUp);
            }
        }
        for (digest, _) in &decision.manifests {
            let mut delete = Delete {
                registry: self,
                repository,
                digest,
                only_if: &only_if,
                cause,
                // What lists it is decided about.
                while_listed: WhileListed::Delete,
                grace: self.settings.limits.link_grace,
                known: None,
                is_begun: false,
            };
            loop {
                let Some((row_now, deleted)) = self.unless_changed(repository, &row, &mut delete).await?
                else {
                    return Ok(Carried::Outrun);
                };
                row = row_now;
                match deleted {
                    Deleted::SomeTags => {}
                    Deleted::Whole => break,
                }
            }
            retained.manifests += 1;
            retained.tags += decision.tags.iter().filter(|(_, of, _)| of == digest).count() as u64;
            if is_time_up() {
                return Ok(Carried::TimeIsUp);
            }
        }
        retained.version = Some(row.version);
        Ok(Carried::Whole)
    }

    /// Makes a change if the repository's row is still this one. Gives the row as the change leaves it; `None` if others came
    /// first or right after.
    async fn unless_changed<C: Change>(
        &self,
        repository: &RepoName,
        row: &Row,
        change: C,
    ) -> Result<Option<(Row, C::Outcome)>> {
        let deadline = Instant::now() + self.settings.limits.commit_within;
        let change = UnlessChanged {
            change,
            is_begun: false,
        };
        let current = Current::of(Some(row))?;
        let (outcome, version) = match self.commit_read(repository, deadline, change, current).await {
            Ok((Some(outcome), Some(version))) => (outcome, version),
            // What was there is gone.
            Ok(_) | Err(RegistryError::ManifestUnknown) => return Ok(None),
            Err(error) => return Err(error),
        };
        let now = self.meta.get(&keys::repository(repository)).await?;
        Ok(now.filter(|now| now.version == version).map(|now| (now, outcome)))
    }
}

/// A change that isn't planned again once others have changed the repository.
struct UnlessChanged<C> {
    change: C,
    is_begun: bool,
}

impl<C: Change> Change for UnlessChanged<C> {
    type Outcome = Option<C::Outcome>;

    const HELD_BY: HeldBy = HeldBy::Holder;

    async fn plan(&mut self, current: &Current) -> Result<Plan<Self::Outcome>> {
        if self.is_begun && !current.continues() {
            return Ok(Plan::Done(None));
        }
        self.is_begun = true;
        Ok(match self.change.plan(current).await? {
            Plan::Apply {
                ops,
                manifests,
                changing,
                outcome,
            } => Plan::Apply {
                ops,
                manifests,
                changing,
                outcome: Some(outcome),
            },
            Plan::Step {
                ops,
                changing,
                so_far,
            } => Plan::Step {
                ops,
                changing,
                so_far: Some(so_far),
            },
            Plan::Done(outcome) => Plan::Done(Some(outcome)),
        })
    }
}

fn asks_for_pulls(policy: &RetentionPolicy) -> bool {
    let entries = policy.keep_tags.iter().map(|entry| entry.rules);
    entries
        .chain([policy.keep_untagged])
        .any(|rules| rules.most_recently_pulled.is_some() || rules.pulled_within.is_some())
}

/// Says what goes and why.
fn tell(repository: &RepoName, mode: Mode, decision: &Decision, run: &str) {
    let dry_run = mode == Mode::DryRun;
    for (tag, digest, why) in &decision.tags {
        let reason = why.as_str();
        tracing::info!(%repository, %tag, %digest, reason, dry_run, run, "retention: the tag goes");
    }
    for (digest, why) in &decision.manifests {
        let reason = why.as_str();
        tracing::info!(%repository, %digest, reason, dry_run, run, "retention: the manifest goes");
    }
}
