//! What became of names: one row for every transaction that changed some (rule R8), from which history, search, events and
//! replication are told.
//!
//! - [`commit`](super::commit) puts the row into a *queue*, in the transaction itself. Its time is later than that of the
//!   repository's former change, so a repository's rows are in the order of its versions whatever clocks say.
//! - [`settle`] moves rows from the queue into the repository's history, into that of each tag, and into a *feed*: in the
//!   background, many at once. Whoever has made a change does it, any member may, and a fence lets one win.
//! - [`feed`] is what followers read: batches without gaps, each repository's changes in order. A cursor can't pass a change
//!   that commits later with an earlier time, for what isn't settled has no place in the feed yet.
//! - [`trim`] removes what isn't kept any longer: batches that everybody has followed, and events of long ago.
//! - [`history`] is read strongly: first what isn't settled, then what is. A change that moves meanwhile is in both.
//!
//! Absent on purpose: what a manifest says, and pulls.

mod feed;
mod followers;
mod history;
mod settle;
mod trim;
#[cfg(test)]
pub(super) mod checks;
#[cfg(test)]
mod tests;

pub use self::{
    feed::{Ends, Feed, Followed},
    followers::{NotedPlace, Place},
    history::{HistoryPage, TagEvent, TagEvents},
    settle::Settled,
    trim::Trimmed,
};
pub(super) use self::{settle::Unsettled, trim::Days};
use super::{Result, row};
use crate::{
    oci::{Descriptor, RepoName, Tag},
    storage::{Row, rows, rows::ManifestEffect},
};

/// How many partitions there are; each has a queue and a feed.
pub const PARTITIONS: u8 = crate::storage::keys::CHANGE_PARTITIONS;

/// Why names were changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A client asked for it.
    Client,
    /// A rule of retention.
    Retention,
    /// It was fetched from another registry.
    Mirror,
    /// Somebody brought back what had been deleted or overwritten.
    Restore,
}

impl Why {
    /// In one word, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Retention => "retention",
            Self::Mirror => "mirror",
            Self::Restore => "restore",
        }
    }
}

/// Who changes names, and why.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'a> {
    /// Who, for people to read; empty is nobody known.
    pub by: &'a str,
    /// Why.
    pub why: Why,
}

impl<'a> Cause<'a> {
    /// A client's request.
    #[must_use]
    pub fn client(by: &'a str) -> Self {
        Self { by, why: Why::Client }
    }
}

/// What one transaction changed of the names in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameChange {
    /// Where.
    pub repository: RepoName,
    /// When, in milliseconds since the Unix epoch. No two changes of a repository have the same time, and later ones a later.
    pub at_ms: u64,
    /// Who; empty is nobody known.
    pub by: String,
    /// Why; `None` is for a reason that this release doesn't know.
    pub why: Option<Why>,
    /// The tags that name something else than before.
    pub tags: Vec<TagMove>,
    /// Manifests that came.
    pub came: Vec<Descriptor>,
    /// Manifests that went.
    pub went: Vec<Descriptor>,
    /// How many manifests the repository had then: with none it doesn't exist.
    pub manifests_then: u64,
    /// That another member held the repository before.
    pub taken: Option<Taken>,
}

/// A repository went from one member to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Who held it before.
    pub from: String,
    /// Who holds it since.
    pub by: String,
}

/// A tag that names something else than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagMove {
    /// Which.
    pub tag: Tag,
    /// What it named, if anything.
    pub from: Option<Descriptor>,
    /// What it names, if anything.
    pub to: Option<Descriptor>,
}

/// What a planned transaction changes of names, as its row will say.
#[derive(Clone, Debug)]
pub(super) struct Changing(rows::NameChange);

impl Changing {
    pub(super) fn new(cause: Cause<'_>) -> Self {
        Self(rows::NameChange {
            min_reader: rows::SCHEMA,
            by: cause.by.to_owned(),
            why: of_why(cause.why).into(),
            ..rows::NameChange::default()
        })
    }

    /// The manifest is there from now on.
    pub(super) fn comes(&mut self, manifest: &Descriptor) {
        let place = self.place(manifest);
        self.0.manifests[place].set_effect(ManifestEffect::Came);
    }

    /// The manifest isn't there any more.
    pub(super) fn goes(&mut self, manifest: &Descriptor) {
        let place = self.place(manifest);
        self.0.manifests[place].set_effect(ManifestEffect::Went);
    }

    /// The tag names something else.
    pub(super) fn moves(&mut self, tag: &Tag, from: Option<&Descriptor>, to: Option<&Descriptor>) {
        let mut number =
            |manifest: Option<&Descriptor>| manifest.map_or(0, |named| self.place(named) as u32 + 1);
        let (former, named) = (number(from), number(to));
        let tag = tag.as_str().to_owned();
        self.0.tags.push(rows::ChangedTag { tag, former, named });
    }

    /// The row, once it is known where and when.
    pub(super) fn made(
        self,
        repository: &RepoName,
        at_ms: u64,
        manifests_then: u64,
        taken: Option<Taken>,
    ) -> rows::NameChange {
        let (taken_from, taken_by) = taken.map_or_else(Default::default, |taken| (taken.from, taken.by));
        rows::NameChange {
            repository: repository.as_str().to_owned(),
            at_ms,
            manifests_then,
            taken_from,
            taken_by,
            ..self.0
        }
    }

    /// Where the manifest stands in the list.
    fn place(&mut self, manifest: &Descriptor) -> usize {
        let all = &mut self.0.manifests;
        if let Some(place) = all
            .iter()
            .position(|known| known.digest == manifest.digest.as_str())
        {
            return place;
        }
        all.push(rows::ChangedManifest {
            digest: manifest.digest.as_str().to_owned(),
            media_type: manifest.media_type.as_str().to_owned(),
            size: manifest.size,
            effect: ManifestEffect::Unspecified.into(),
        });
        all.len() - 1
    }
}

fn of_why(why: Why) -> rows::ChangeWhy {
    match why {
        Why::Client => rows::ChangeWhy::Client,
        Why::Retention => rows::ChangeWhy::Retention,
        Why::Mirror => rows::ChangeWhy::Mirror,
        Why::Restore => rows::ChangeWhy::Restore,
    }
}

fn why_of(why: rows::ChangeWhy) -> Option<Why> {
    match why {
        rows::ChangeWhy::Unspecified => None,
        rows::ChangeWhy::Client => Some(Why::Client),
        rows::ChangeWhy::Retention => Some(Why::Retention),
        rows::ChangeWhy::Mirror => Some(Why::Mirror),
        rows::ChangeWhy::Restore => Some(Why::Restore),
    }
}

impl NameChange {
    fn read(row: &Row) -> Result<Self> {
        Self::of(&row::read(row)?)
    }

    fn of(row: &rows::NameChange) -> Result<Self> {
        let repository = RepoName::parse(&row.repository)
            .map_err(|error| row::corrupt("read a repository's name in a change", error))?;
        let (mut came, mut went) = (Vec::new(), Vec::new());
        for manifest in &row.manifests {
            match manifest.effect() {
                ManifestEffect::Came => came.push(descriptor(manifest)?),
                ManifestEffect::Went => went.push(descriptor(manifest)?),
                ManifestEffect::Unspecified => {}
            }
        }
        let tags = row.tags.iter().map(|moved| {
            Ok(TagMove {
                tag: tag(&moved.tag)?,
                from: numbered(row, moved.former)?.map(descriptor).transpose()?,
                to: numbered(row, moved.named)?.map(descriptor).transpose()?,
            })
        });
        Ok(Self {
            repository,
            at_ms: row.at_ms,
            by: row.by.clone(),
            why: why_of(row.why()),
            tags: tags.collect::<Result<_>>()?,
            came,
            went,
            manifests_then: row.manifests_then,
            taken: (!row.taken_from.is_empty()).then(|| Taken {
                from: row.taken_from.clone(),
                by: row.taken_by.clone(),
            }),
        })
    }
}

/// A manifest of the change, by its number.
fn numbered(change: &rows::NameChange, number: u32) -> Result<Option<&rows::ChangedManifest>> {
    let Some(place) = (number as usize).checked_sub(1) else {
        return Ok(None);
    };
    let missing = || row::corrupt("read a change", "no such manifest");
    change.manifests.get(place).map(Some).ok_or_else(missing)
}

fn descriptor(manifest: &rows::ChangedManifest) -> Result<Descriptor> {
    Ok(Descriptor {
        media_type: row::media_type(&manifest.media_type)?,
        digest: row::digest(&manifest.digest)?,
        size: manifest.size,
    })
}

fn tag(text: &str) -> Result<Tag> {
    Tag::parse(text).map_err(|error| row::corrupt("read a tag in a change", error))
}
