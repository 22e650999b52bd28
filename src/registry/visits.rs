//! Visits to another registry: how mirroring a repository ahead of time is going, or went the last time.
//!
//! Whoever begins one writes its row, by the version of the row that it read: so of two members one begins, and both know who.
//! Nothing else depends on these rows; without them everything is looked at once more.

use super::{
    Registry, Result,
    fence::{self, Fenced},
    row,
};
use crate::{
    oci::RepoName,
    ownership::Incarnation,
    placement::MemberId,
    storage::{Entry, Expect, MAX_PAGE, Space, Version, keys, rows},
};

/// What is visited.
#[derive(Clone, Copy, Debug)]
pub struct Visited<'a> {
    /// The registry.
    pub upstream: &'a str,
    /// The repository here.
    pub repository: &'a RepoName,
    /// The rule that says what of it, in at most 64 hexadecimal digits: that of another rule is another visit.
    pub rule: &'a str,
}

/// A visit that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Who visits, and its start.
    pub by: (MemberId, Incarnation),
    /// When it began, in milliseconds since the Unix epoch.
    pub began_ms: u64,
    /// When it ended; not yet, or never.
    pub ended_ms: Option<u64>,
    /// It ended early, and is to be begun anew.
    pub is_cut: bool,
    /// What came of it.
    pub counts: Counts,
    /// The last thing that went wrong.
    pub error: Option<String>,
}

/// What came of visits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tags that were asked for.
    pub tags: u64,
    /// Those that name something else here by now.
    pub moved: u64,
    /// Those that couldn't be brought.
    pub failed: u64,
    /// Manifests that were fetched.
    pub manifests: u64,
    /// Blobs that were fetched.
    pub blobs: u64,
    /// Bytes of both.
    pub bytes: u64,
}

impl Counts {
    /// Adds what came of another.
    pub fn add(&mut self, other: Self) {
        self.tags += other.tags;
        self.moved += other.moved;
        self.failed += other.failed;
        self.manifests += other.manifests;
        self.blobs += other.blobs;
        self.bytes += other.bytes;
    }
}

/// A part of a list of visits.
#[derive(Debug)]
pub struct Visits {
    /// The repository here, the rule, the visit, and the version of its row.
    pub visits: Vec<(RepoName, String, Visit, Version)>,
    /// Where it goes on, if it does.
    pub next: Option<String>,
}

impl Registry {
    /// The last visit, and the version of its row.
    pub async fn visit(&self, visited: Visited<'_>) -> Result<Option<(Visit, Version)>> {
        let found = self.meta.get(&key(visited)).await?;
        found
            .map(|found| Ok((visit(row::read(&found)?)?, found.version)))
            .transpose()
    }

    /// Writes a visit over the one of this version, or where there was none: `None` if another one stands there by now.
    pub async fn note_visit(
        &self,
        visited: Visited<'_>,
        visit: &Visit,
        over: Option<Version>,
    ) -> Result<Option<Version>> {
        let Counts {
            tags,
            moved,
            failed,
            manifests,
            blobs,
            bytes,
        } = visit.counts;
        let (member, incarnation) = &visit.by;
        let written = rows::Visit {
            min_reader: rows::SCHEMA,
            member: member.as_str().to_owned(),
            incarnation: incarnation.to_bytes().to_vec().into(),
            began_ms: visit.began_ms,
            ended_ms: visit.ended_ms.unwrap_or_default(),
            is_cut: visit.is_cut,
            tags,
            moved,
            failed,
            manifests,
            blobs,
            bytes,
            error: visit.error.clone().unwrap_or_default(),
        };
        let expect = over.map_or(Expect::Absent, Expect::Version);
        let (version, ops) = (
            Version::random(),
            [key(visited).put(expect, row::bytes(&written))],
        );
        match fence::transact(&*self.meta, version, &ops, self.commit_deadline()).await? {
            Fenced::Committed => Ok(Some(version)),
            Fenced::Refused { .. } => Ok(None),
        }
    }

    /// The visits to a registry, by repository and rule, after the place where the page before ended.
    pub async fn visits(&self, upstream: &str, after: Option<String>) -> Result<Visits> {
        let partition = keys::visits(upstream);
        let page = self
            .meta
            .range(Space::Repositories, &partition, "", after.as_deref(), MAX_PAGE)
            .await?;
        let next = page.entries.last().filter(|_| page.more);
        let next = next.map(|entry| entry.sort.clone());
        let read = |entry: Entry| {
            let (name, rule) = entry.sort.split_once('#').unwrap_or((&entry.sort, ""));
            let name = RepoName::parse(name).map_err(|error| row::corrupt("read a visit", error))?;
            let visit = visit(row::read(&entry.row)?)?;
            Ok((name, rule.to_owned(), visit, entry.row.version))
        };
        let visits: Result<_> = page.entries.into_iter().map(read).collect();
        Ok(Visits {
            visits: visits?,
            next,
        })
    }

    /// Forgets a visit, if it is of this version still.
    pub async fn forget_visit(&self, visited: Visited<'_>, version: Version) -> Result<()> {
        let op = key(visited).delete(Expect::Version(version));
        fence::transact(&*self.meta, Version::random(), &[op], self.commit_deadline()).await?;
        Ok(())
    }
}

fn key(visited: Visited<'_>) -> crate::storage::Key {
    keys::visit(visited.upstream, visited.repository, visited.rule)
}

fn visit(row: rows::Visit) -> Result<Visit> {
    let member = MemberId::parse(&row.member).map_err(|error| row::corrupt("read a visit", error))?;
    let incarnation = <[u8; 16]>::try_from(&row.incarnation[..]);
    let incarnation = incarnation.map_err(|error| row::corrupt("read a visit", error))?;
    Ok(Visit {
        by: (member, Incarnation::from_bytes(incarnation)),
        began_ms: row.began_ms,
        ended_ms: Some(row.ended_ms).filter(|ended_ms| *ended_ms > 0),
        is_cut: row.is_cut,
        counts: Counts {
            tags: row.tags,
            moved: row.moved,
            failed: row.failed,
            manifests: row.manifests,
            blobs: row.blobs,
            bytes: row.bytes,
        },
        error: Some(row.error).filter(|error| !error.is_empty()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::{World, repo};

    #[tokio::test]
    async fn of_two_members_one_begins_a_visit_and_all_know_what_came_of_it() {
        let world = World::new();
        let (first, second) = (world.member(1), world.member(2));
        let repository = repo("team/app");
        let visited = Visited {
            upstream: "quay.io",
            repository: &repository,
            rule: "0123456789abcdef",
        };
        let mut visit = Visit {
            by: (MemberId::parse("a:1").unwrap(), Incarnation::random()),
            began_ms: 5_000,
            ended_ms: None,
            is_cut: false,
            counts: Counts::default(),
            error: None,
        };
        assert_eq!(first.visit(visited).await.unwrap(), None);
        let begun = first.note_visit(visited, &visit, None).await.unwrap();
        assert!(begun.is_some());
        let refused = second.note_visit(visited, &visit, None).await.unwrap();
        assert_eq!(refused, None, "it was begun");
        assert_eq!(
            second.visit(visited).await.unwrap(),
            begun.map(|begun| (visit.clone(), begun))
        );
        visit.ended_ms = Some(6_000);
        visit.counts = Counts {
            tags: 1,
            moved: 2,
            failed: 3,
            manifests: 4,
            blobs: 5,
            bytes: 6,
        };
        visit.error = Some("v1: gone".to_owned());
        assert!(first.note_visit(visited, &visit, begun).await.unwrap().is_some());
        let listed = second.visits("quay.io", None).await.unwrap();
        assert_eq!(listed.next, None);
        let [(name, rule, found, version)] = &listed.visits[..] else {
            panic!("{listed:?}");
        };
        assert_eq!((name, rule.as_str(), found), (&repository, visited.rule, &visit));
        second.forget_visit(visited, *version).await.unwrap();
        assert_eq!(first.visit(visited).await.unwrap(), None);
    }
}
