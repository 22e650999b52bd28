//! What goes by a plan: the tags and manifests of each repository, in rows of some hundred.

use super::super::decide::{Decision, Facts, Why};
use crate::{
    oci::{Digest, RepoName, Tag},
    registry::{Registry, Result, fence, row},
    storage::{Expect, Row, Space, keys, rows, rows::PlanLeft, rows::PlanWhy},
};

/// Items of one row: of some 150 bytes, and of 300 at most.
const A_ROW: usize = 500;
/// Rows that are read, or written, at once.
const ROWS: usize = 10;

/// Something that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanItem {
    /// Where.
    pub repository: RepoName,
    /// The tag; `None` is the manifest, with all its tags.
    pub tag: Option<Tag>,
    /// What the tag names, or the manifest. `None`: the repository can't be read, and nothing goes from it.
    pub digest: Option<Digest>,
    /// Why it goes, for people.
    pub why: &'static str,
    /// Why it was left after all, in one word.
    pub left: Option<&'static str>,
}

/// Some of what goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanPage {
    /// In the order of repositories.
    pub items: Vec<PlanItem>,
    /// There are more: ask again for those after this.
    pub next: Option<String>,
}

/// A place among the items of repositories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) repository: RepoName,
    /// The row, or how many pieces of the manifests come before.
    pub(super) n: u32,
}

impl Place {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (name, n) = text.rsplit_once('#')?;
        let repository = RepoName::parse(name).ok()?;
        Some(Self {
            repository,
            n: n.parse().ok()?,
        })
    }

    pub(super) fn text(&self) -> String {
        format!("{}#{}", self.repository, self.n)
    }
}

/// A repository of a plan.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) repository: RepoName,
    pub(super) row: rows::PlanPart,
}

impl Registry {
    /// Some of what goes by a plan.
    ///
    /// # Errors
    /// [`PlanUnknown`](crate::registry::RegistryError::PlanUnknown), also where `after` is no place in it.
    pub async fn plan_items(&self, id: &str, after: Option<&str>) -> Result<PlanPage> {
        self.noted_plan(id).await?;
        let mut page = PlanPage::default();
        let after = match after {
            Some(text) => Some(Place::parse(text).ok_or(crate::registry::RegistryError::PlanUnknown)?),
            None => None,
        };
        let (mut part, mut n) = match after {
            Some(place) => (self.part_of(id, &place.repository).await?, place.n + 1),
            None => (self.next_part(id, None).await?, 0),
        };
        let mut rows = 0;
        while let Some(found) = part {
            let repository = &found.repository;
            while n < found.row.rows {
                for item in self.items(id, &found, n).await? {
                    page.items.push(told(repository, &item)?);
                }
                rows += 1;
                if rows == ROWS {
                    let repository = repository.clone();
                    page.next = Some(Place { repository, n }.text());
                    return Ok(page);
                }
                n += 1;
            }
            if found.row.unread {
                page.items.push(PlanItem {
                    repository: repository.clone(),
                    tag: None,
                    digest: None,
                    why: "the repository can't be read, or not in time",
                    left: Some("unread"),
                });
            }
            part = self.next_part(id, Some(repository)).await?;
            n = 0;
        }
        Ok(page)
    }

    /// The first repository of a plan, or the one after this.
    pub(super) async fn next_part(&self, id: &str, after: Option<&RepoName>) -> Result<Option<Part>> {
        let after = after.map(|repository| keys::plan_part(id, repository).sort);
        let (space, partition) = (Space::Repositories, keys::plan_partition(id));
        let page = self
            .meta
            .range(space, &partition, keys::PLAN_PARTS, after.as_deref(), 1)
            .await?;
        let Some(entry) = page.entries.into_iter().next() else {
            return Ok(None);
        };
        let name = &entry.sort[keys::PLAN_PARTS.len()..];
        let repository = RepoName::parse(name)
            .map_err(|error| row::corrupt("read a repository's name in a plan", error))?;
        Ok(Some(Part {
            repository,
            row: row::read_to_rewrite(&entry.row)?,
        }))
    }

    pub(super) async fn part_of(&self, id: &str, repository: &RepoName) -> Result<Option<Part>> {
        let row = self.meta.get(&keys::plan_part(id, repository)).await?;
        let repository = repository.clone();
        row.map(|row| {
            Ok(Part {
                repository,
                row: row::read_to_rewrite(&row)?,
            })
        })
        .transpose()
    }

    /// The items of one row.
    pub(super) async fn items(&self, id: &str, part: &Part, n: u32) -> Result<Vec<rows::PlanItem>> {
        let key = keys::plan_items(id, &part.repository, &part.row.attempt, n);
        read_items(self.meta.get(&key).await?.as_ref())
    }

    /// All items of a repository, row by row.
    pub(super) async fn all_items(&self, id: &str, part: &Part) -> Result<Vec<Vec<rows::PlanItem>>> {
        let keys = (0..part.row.rows).map(|n| keys::plan_items(id, &part.repository, &part.row.attempt, n));
        let (keys, mut all) = (keys.collect::<Vec<_>>(), Vec::new());
        for keys in keys.chunks(ROWS) {
            for row in self.meta.get_many(keys).await? {
                all.push(read_items(row.as_ref())?);
            }
        }
        Ok(all)
    }

    /// Writes the items of a repository, and gives how many rows they take.
    pub(super) async fn write_items(
        &self,
        id: &str,
        repository: &RepoName,
        attempt: &str,
        items: &[rows::PlanItem],
    ) -> Result<u32> {
        let pieces: Vec<_> = items.chunks(A_ROW).zip(0..).collect();
        for pieces in pieces.chunks(ROWS) {
            let ops: Vec<_> = pieces
                .iter()
                .map(|(items, n)| {
                    let key = keys::plan_items(id, repository, attempt, *n);
                    key.put(Expect::Any, items_row(items.to_vec()))
                })
                .collect();
            fence::write(&*self.meta, &ops, self.settings.limits.attempts).await?;
        }
        Ok(u32::try_from(pieces.len()).unwrap_or(u32::MAX))
    }

    /// Writes again those rows that say of something that it was left.
    pub(super) async fn write_left(
        &self,
        id: &str,
        part: &Part,
        all: Vec<Vec<rows::PlanItem>>,
    ) -> Result<()> {
        let is_left = |item: &rows::PlanItem| item.left() != PlanLeft::Unspecified;
        for (n, items) in (0..).zip(all) {
            if items.iter().any(is_left) {
                let key = keys::plan_items(id, &part.repository, &part.row.attempt, n);
                let op = key.put(Expect::Any, items_row(items));
                fence::write(&*self.meta, &[op], self.settings.limits.attempts).await?;
            }
        }
        Ok(())
    }
}

fn items_row(items: Vec<rows::PlanItem>) -> bytes::Bytes {
    row::bytes(&rows::PlanItems {
        min_reader: rows::SCHEMA,
        items,
    })
}

fn read_items(row: Option<&Row>) -> Result<Vec<rows::PlanItem>> {
    let row = row.ok_or_else(|| row::corrupt("read a plan", "some of it isn't there"))?;
    Ok(row::read_to_rewrite::<rows::PlanItems>(row)?.items)
}

/// What was decided on, the tags first.
pub(super) fn items_of(decision: &Decision, facts: &Facts) -> Vec<rows::PlanItem> {
    let pushed: std::collections::BTreeMap<_, _> = facts
        .tags
        .iter()
        .map(|fact| (&fact.tag, fact.pushed_ms))
        .collect();
    let tags = decision.tags.iter().map(|(tag, digest, why)| rows::PlanItem {
        tag: tag.as_str().to_owned(),
        digest: digest.as_str().to_owned(),
        pushed_ms: pushed.get(tag).copied().unwrap_or_default(),
        why: of_why(*why).into(),
        left: PlanLeft::Unspecified.into(),
    });
    let manifests = decision.manifests.iter().map(|(digest, why)| rows::PlanItem {
        tag: String::new(),
        digest: digest.as_str().to_owned(),
        pushed_ms: facts.manifests.get(digest).map_or(0, |fact| fact.pushed_ms),
        why: of_why(*why).into(),
        left: PlanLeft::Unspecified.into(),
    });
    tags.chain(manifests).collect()
}

fn of_why(why: Why) -> PlanWhy {
    match why {
        Why::NoPattern => PlanWhy::NoPattern,
        Why::NoRule => PlanWhy::NoRule,
        Why::Untagged => PlanWhy::Untagged,
        Why::SubjectGone => PlanWhy::SubjectGone,
    }
}

fn told(repository: &RepoName, item: &rows::PlanItem) -> Result<PlanItem> {
    let tag = match item.tag.as_str() {
        "" => None,
        tag => Some(Tag::parse(tag).map_err(|error| row::corrupt("read a tag in a plan", error))?),
    };
    let why = match item.why() {
        PlanWhy::Unspecified => "for a reason that this release doesn't know",
        PlanWhy::NoPattern => Why::NoPattern.as_str(),
        PlanWhy::NoRule => Why::NoRule.as_str(),
        PlanWhy::Untagged => Why::Untagged.as_str(),
        PlanWhy::SubjectGone => Why::SubjectGone.as_str(),
    };
    let left = match item.left() {
        PlanLeft::Unspecified => None,
        PlanLeft::Moved => Some("moved"),
        PlanLeft::Gone => Some("gone"),
        PlanLeft::Kept => Some("kept"),
        PlanLeft::Unread => Some("unread"),
        PlanLeft::Untold => Some("unknown"),
    };
    Ok(PlanItem {
        repository: repository.clone(),
        tag,
        digest: Some(row::digest(&item.digest)?),
        why,
        left,
    })
}
