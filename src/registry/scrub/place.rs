//! How far scrubbing is in a part: a row, which whoever goes on replaces by the version that they read.

use serde::Serialize;

use super::{
    super::{
        Registry, Result,
        fence::{self, Fenced},
        row,
    },
    LOOKED_AT, Read,
};
use crate::{
    oci::{Digest, RepoName},
    storage::{Expect, Key, Row, Version, keys, rows},
};

/// Of what is damaged in one part, so much is kept in the place, to be named again by who goes on.
const KEPT: usize = 100;

/// What a round has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScrubSums {
    /// Repositories that are done.
    pub repositories: u64,
    /// Blobs and manifests that were read, those that are missing included.
    pub read: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those of them that are damaged.
    pub damaged: u64,
    /// Those that couldn't be read.
    pub unread: u64,
}

/// How far a part is.
#[derive(Clone, Debug)]
pub struct ScrubPlace {
    key: Key,
    part: u8,
    version: Option<Version>,
    pub(super) row: rows::ScrubPlace,
}

impl ScrubPlace {
    fn of(by: &str, part: u8, found: Option<&Row>) -> Result<Self> {
        let row: Option<rows::ScrubPlace> = found.map(row::read_to_rewrite).transpose()?;
        Ok(Self {
            key: keys::scrub_place(by, part),
            part,
            version: found.map(|found| found.version),
            row: row.unwrap_or_default(),
        })
    }

    /// The number of the part.
    pub fn part(&self) -> u8 {
        self.part
    }

    /// Whether a round has begun and isn't over.
    pub fn is_under_way(&self) -> bool {
        self.row.began_ms > 0 && self.row.ended_ms == 0
    }

    /// When the round began, in milliseconds since the Unix epoch; 0 before the first.
    pub fn began_ms(&self) -> u64 {
        self.row.began_ms
    }

    /// When it was over, if it is.
    pub fn ended_ms(&self) -> Option<u64> {
        Some(self.row.ended_ms).filter(|ended_ms| *ended_ms > 0)
    }

    /// What it has come to.
    pub fn sums(&self) -> ScrubSums {
        let rows::ScrubPlace {
            repositories,
            read,
            bytes,
            damaged,
            unread,
            ..
        } = self.row;
        ScrubSums {
            repositories,
            read,
            bytes,
            damaged,
            unread,
        }
    }

    /// Begins a round, which is written down with its first stride.
    pub fn begin(&mut self, now_ms: u64) {
        self.row = rows::ScrubPlace {
            min_reader: rows::SCHEMA,
            began_ms: now_ms,
            ..rows::ScrubPlace::default()
        };
    }

    /// What is at hand was read.
    pub(super) fn note(&mut self, sort: &str, read: &Read) {
        self.row.read += 1;
        self.row.bytes += read.bytes;
        if read.is_object {
            self.row.failures = 0;
        }
        if read.damaged.is_some() {
            self.row.damaged += 1;
            if self.row.named.len() < KEPT {
                self.row.named.push(format!("{}#{sort}", self.row.repository));
            }
        }
    }
}

/// What was put down of something damaged: the repository in which it was read, what is looked at there, and the digest.
pub(super) fn named(at: &str) -> Result<(RepoName, &'static str, Digest)> {
    let parsed = at.split_once('#').and_then(|(repository, sort)| {
        let prefixes = LOOKED_AT.map(|(_, prefix)| prefix);
        let prefix = prefixes.into_iter().find(|prefix| sort.starts_with(prefix))?;
        let digest = Digest::parse(&sort[prefix.len()..]).ok()?;
        Some((RepoName::parse(repository).ok()?, prefix, digest))
    });
    parsed.ok_or_else(|| row::corrupt("read a place of scrubbing", "malformed"))
}

impl Registry {
    /// How far the parts are of those whose places count `by` this name: one request.
    ///
    /// # Errors
    /// A store that fails.
    pub async fn scrub_places(&self, by: &str) -> Result<Vec<ScrubPlace>> {
        let parts = 0..keys::CHANGE_PARTITIONS;
        let keys: Vec<_> = parts.clone().map(|part| keys::scrub_place(by, part)).collect();
        let found = self.meta.get_many(&keys).await?;
        let places = parts.zip(&found);
        places
            .map(|(part, found)| ScrubPlace::of(by, part, found.as_ref()))
            .collect()
    }

    /// Writes down how far it is. Where others came further meanwhile, theirs counts.
    pub(super) async fn save(&self, place: &mut ScrubPlace) -> Result<()> {
        let (version, deadline) = (Version::random(), self.commit_deadline());
        let expect = place.version.map_or(Expect::Absent, Expect::Version);
        let put = place.key.clone().put(expect, row::bytes(&place.row));
        match fence::transact(&*self.meta, version, &[put], deadline).await? {
            Fenced::Committed => place.version = Some(version),
            Fenced::Refused { current, .. } => {
                place.row = current
                    .as_ref()
                    .map(row::read_to_rewrite)
                    .transpose()?
                    .unwrap_or_default();
                place.version = current.map(|current| current.version);
            }
        }
        Ok(())
    }
}
