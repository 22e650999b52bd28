//! Where followers stand that go on after a restart, on whichever member.
//!
//! A place is moved on by whoever moved it last, or has read it since. So of two members that follow in one's name, neither takes
//! it back or past what it hasn't followed itself; what both were at is followed twice.

use tokio::time::Instant;

use super::{
    super::{
        Result,
        fence::{self, Fenced},
        row,
    },
    Ends, Feed, PARTITIONS,
};
use crate::storage::{Expect, Row, Version, keys, rows};

/// How far a follower has come in a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The number of the batch that was followed last.
    pub after: u64,
    /// How many changes were followed of those that come after it.
    pub within: u64,
}

/// A place as it is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotedPlace {
    /// Where.
    pub place: Place,
    version: Version,
}

impl NotedPlace {
    fn read(row: &Row) -> Result<Self> {
        let read: rows::FollowerPlace = row::read_to_rewrite(row)?;
        Ok(Self {
            place: Place {
                after: read.after,
                within: read.within,
            },
            version: row.version,
        })
    }
}

fn written(place: Place) -> bytes::Bytes {
    row::bytes(&rows::FollowerPlace {
        min_reader: rows::SCHEMA,
        after: place.after,
        within: place.within,
    })
}

impl Feed {
    /// Whether a follower of this name has begun.
    pub async fn has_begun(&self, follower: &str) -> Result<bool> {
        // In all feeds at once.
        let place = keys::follower_place(follower, 0);
        Ok(self.registry.meta.get(&place).await?.is_some())
    }

    /// Lets a follower of this name, which is good for a key, begin where the feeds ended, unless it has begun already.
    pub async fn begin(&self, follower: &str, ends: Ends) -> Result<()> {
        let place = |n| keys::follower_place(follower, n);
        let begins = (0..PARTITIONS).zip(ends).map(|(n, after)| {
            let begin = Place { after, within: 0 };
            place(n).put(Expect::Absent, written(begin))
        });
        let (ops, deadline) = (begins.collect::<Vec<_>>(), self.deadline());
        match fence::transact(&*self.registry.meta, Version::random(), &ops, deadline).await? {
            // Others let it begin at the same time.
            Fenced::Committed | Fenced::Refused { .. } => Ok(()),
        }
    }

    /// How far the follower has come in the `n`-th feed; `None` before it has begun.
    pub async fn place(&self, follower: &str, n: u8) -> Result<Option<NotedPlace>> {
        let row = self.registry.meta.get(&keys::follower_place(follower, n)).await?;
        row.as_ref().map(NotedPlace::read).transpose()
    }

    /// Notes that the follower has come to `place`; `None` when somebody else has noted something since.
    pub async fn note(
        &self,
        follower: &str,
        n: u8,
        former: &NotedPlace,
        place: Place,
    ) -> Result<Option<NotedPlace>> {
        let version = Version::random();
        let op = keys::follower_place(follower, n).put(Expect::Version(former.version), written(place));
        match fence::transact(&*self.registry.meta, version, &[op], self.deadline()).await? {
            Fenced::Committed => Ok(Some(NotedPlace { place, version })),
            Fenced::Refused { .. } => Ok(None),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.registry.settings.limits.commit_within
    }
}
