//! `fsck`: whether rows agree with each other and with the bucket, beside members that run.
//!
//! Every row of a space is looked at in turn with all that has to agree with it ([`look`]). Requests and workers change rows
//! meanwhile, and a walk isn't a snapshot: so what seems wrong is looked at again, the rows at one moment, and once more a
//! while later. What a due-row is about is seen to, and no fault. Only what is wrong each time is.
//!
//! Repairs are transactions that expect what was read, changes of the repository (rule R2) that look anew, or due-rows that have
//! the members do what they do anyway ([`mend`]). Nothing is deleted here but rows that follow from others.
//!
//! Memory is bounded: a piece of rows, a batch of suspects, a window of the bucket.
//!
//! Absent on purpose: whether bytes have their digest, unless their ETag is another one; and histories, feeds, and what is
//! found out or counted about repositories, none of which keeps or lets go any content.

mod bucket;
mod finding;
mod look;
mod mend;
mod quotas;
mod report;
#[cfg(test)]
mod repairs;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

pub use self::report::{Fate, Fault, FaultKind, FsckReport};
use self::{
    finding::{About, Finding},
    look::{Look, Sight},
    quotas::Sums,
};
use super::{MayBeAbsent, Registry, RegistryError, Result, pages::Pages};
use crate::{
    oci::RepoName,
    storage::{
        AllObjects, AllRows, Space, Walked,
        keys::{self, DUE_PARTITIONS, Queue, Subject},
    },
};

/// Faults that are told one by one.
const MOST_TOLD: usize = 10_000;
/// Looks at the same time.
const AT_ONCE: usize = 16;
/// Rows of one piece of a walk.
const PIECE: usize = 1_000;
/// Suspects that are looked at again together.
const BATCH: usize = 5_000;

/// How to look.
#[derive(Clone, Copy)]
pub struct FsckOptions<'a> {
    /// Whether to repair what can be.
    pub repair: bool,
    /// Between the two last looks at what seems wrong: longer than a change takes.
    pub pause: Duration,
    /// Younger objects that no row names are in flight: longer than the longest upload.
    pub min_age: Duration,
    /// What manifests may lack, by repository.
    pub may_be_absent: &'a (dyn Fn(&RepoName) -> MayBeAbsent + Send + Sync),
    /// Hears of what is looked at, and how many rows and objects were.
    pub tell: &'a (dyn Fn(&str, u64, u64) + Send + Sync),
}

impl Registry {
    /// Looks at everything in the stores, which are the registry's.
    ///
    /// # Errors
    /// A store that fails; what is found is then not known to be all.
    pub async fn fsck(
        &self,
        rows: &dyn AllRows,
        objects: &dyn AllObjects,
        options: FsckOptions<'_>,
    ) -> Result<FsckReport> {
        let mut fsck = Fsck {
            registry: self,
            all_rows: rows,
            all_objects: objects,
            options,
            report: FsckReport::default(),
            suspects: Vec::new(),
        };
        let mut sums = Sums::default();
        for space in [
            Space::Repositories,
            Space::Manifests,
            Space::Blobs,
            Space::Links,
            Space::Uploads,
        ] {
            fsck.space(space, &mut sums).await?;
        }
        fsck.confirm().await?;
        fsck.quotas(sums).await?;
        fsck.bucket().await?;
        Ok(fsck.report)
    }
}

struct Fsck<'a> {
    registry: &'a Registry,
    all_rows: &'a dyn AllRows,
    all_objects: &'a dyn AllObjects,
    options: FsckOptions<'a>,
    report: FsckReport,
    suspects: Vec<Subject>,
}

impl Fsck<'_> {
    fn tell(&self, what: &str) {
        (self.options.tell)(what, self.report.rows, self.report.objects);
    }

    /// The next piece of a space after `last`; none at the end.
    async fn walk(&self, space: Space, last: &mut Option<Walked>) -> Result<bool> {
        let after = match last {
            None => None,
            Some(Walked { rows, more: true }) => match rows.last() {
                Some((key, _)) => Some(key),
                None => return Ok(false),
            },
            Some(Walked { more: false, .. }) => return Ok(false),
        };
        let walked = self.all_rows.walk(space, after, PIECE).await?;
        *last = Some(walked);
        Ok(true)
    }

    fn look(&self, sight: Sight) -> Look<'_> {
        Look {
            registry: self.registry,
            options: &self.options,
            sight,
        }
    }

    /// Looks at each row of a space.
    async fn space(&mut self, space: Space, sums: &mut Sums) -> Result<()> {
        let mut piece = None;
        while self.walk(space, &mut piece).await? {
            let rows = piece.as_ref().map_or(&[][..], |walked| &walked.rows);
            self.report.rows += rows.len() as u64;
            self.tell(space.as_str());
            let mut subjects = Vec::new();
            for (key, found) in rows {
                sums.meet(key, found);
                subjects.extend(Subject::of(key));
            }
            let seen = self.look_at(Sight::Cheap, subjects).await?;
            self.suspects.extend(seen.into_iter().map(|(subject, _)| subject));
            if self.suspects.len() >= BATCH {
                self.confirm().await?;
            }
        }
        Ok(())
    }

    /// What is wrong with these, if anything is.
    async fn look_at(&self, sight: Sight, subjects: Vec<Subject>) -> Result<Vec<(Subject, Vec<Finding>)>> {
        let look = self.look(sight);
        let looks = stream::iter(subjects).map(|subject| async move {
            let found = look.at(&subject).await?;
            Ok::<_, RegistryError>((subject, found))
        });
        let looks = looks.buffered(AT_ONCE);
        looks
            .try_filter(|(_, found)| std::future::ready(!found.is_empty()))
            .try_collect()
            .await
    }

    /// Looks again at what seemed wrong, twice if need be.
    async fn confirm(&mut self) -> Result<()> {
        let suspects = std::mem::take(&mut self.suspects);
        let wrong = self.look_again(suspects).await?;
        if wrong.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(self.options.pause).await;
        let suspects = wrong.into_iter().map(|(subject, _)| subject).collect();
        for (_, findings) in self.look_again(suspects).await? {
            for finding in findings {
                self.found(finding).await?;
            }
        }
        Ok(())
    }

    /// What is wrong with the suspects and not seen to by a due-row.
    async fn look_again(&self, suspects: Vec<Subject>) -> Result<Vec<(Subject, Vec<Finding>)>> {
        let mut found = self.look_at(Sight::Sharp, suspects).await?;
        let findings = found.iter().flat_map(|(_, findings)| findings);
        let doubtful = findings
            .filter_map(|finding| finding.unless_due.clone())
            .collect();
        let due = self.due(doubtful).await?;
        let is_due = |finding: &Finding| {
            finding
                .unless_due
                .as_ref()
                .is_some_and(|about| due.contains(about))
        };
        for (_, findings) in &mut found {
            findings.retain(|finding| !is_due(finding));
        }
        found.retain(|(_, findings)| !findings.is_empty());
        Ok(found)
    }

    /// Which of these due-rows are about.
    async fn due(&self, wanted: BTreeSet<About>) -> Result<BTreeSet<About>> {
        let mut due = BTreeSet::new();
        for queue in [Queue::Upkeep, Queue::Collection] {
            if !wanted.iter().any(|(of, ..)| *of == queue) {
                continue;
            }
            let partitions = stream::iter(0..DUE_PARTITIONS).map(|n| self.due_in(queue, n, &wanted));
            let found: Vec<Vec<About>> = partitions.buffer_unordered(AT_ONCE).try_collect().await?;
            due.extend(found.into_iter().flatten());
        }
        Ok(due)
    }

    async fn due_in(&self, queue: Queue, n: u16, wanted: &BTreeSet<About>) -> Result<Vec<About>> {
        let (partition, mut found) = (queue.partition(n), Vec::new());
        let mut rows = Pages::of(Space::Blobs, &partition, "", PIECE);
        while let Some(page) = rows.next(&*self.registry.meta).await? {
            let about = page.iter().filter_map(|entry| {
                let (kind, subject) = keys::due_about(&entry.sort)?;
                Some((queue, kind, subject.to_owned()))
            });
            found.extend(about.filter(|about| wanted.contains(about)));
        }
        Ok(found)
    }

    /// Takes down a fault, and repairs it if that is asked for.
    async fn found(&mut self, finding: Finding) -> Result<()> {
        let mut fault = finding.fault;
        if let (true, Some(mend)) = (self.options.repair, finding.mend) {
            fault.fate = self.registry.mend(mend).await?;
        }
        *self.report.found.entry(fault.kind).or_default() += 1;
        if fault.kind.is_fault() && fault.fate != Fate::Repaired {
            self.report.left += 1;
        }
        if self.report.faults.len() < MOST_TOLD {
            self.report.faults.push(fault);
        }
        Ok(())
    }
}
