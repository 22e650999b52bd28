//! What follows the changes of all repositories: search, events, replication.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{Registry, Result, row},
    NameChange, PARTITIONS,
};
use crate::{
    oci::RepoName,
    storage::{MAX_PAGE, Row, Space, keys, rows},
};
use futures_util::future::try_join_all;

/// Batches of one read.
const BATCHES: usize = 25;

/// The settled changes of all repositories, in [`PARTITIONS`] feeds. A cursor is the number of the batch of each that was
/// followed last; a new follower begins at [`ends`](Self::ends), or at 0, which is before the first.
#[derive(Clone)]
pub struct Feed {
    pub(super) registry: Arc<Registry>,
}

/// A place in each of the feeds.
pub type Ends = [u64; PARTITIONS as usize];

/// What comes after a place in a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Each repository's in the order in which they were made. Whoever died before it had noted how far it came sees some again.
    pub changes: Vec<NameChange>,
    /// The place to go on from, once all of them are followed.
    pub upto: u64,
    /// Some that came after the place aren't kept any more: who follows has to look at everything anew, as of `upto`.
    pub missed: bool,
    /// There may be more.
    pub more: bool,
}

impl Feed {
    /// Of the registry that this member runs.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// Where each of the feeds ends now: one read of the store for all. Whatever was settled before has a number up to that.
    pub async fn ends(&self) -> Result<Ends> {
        let keys: Vec<_> = (0..PARTITIONS).map(keys::feed_head).collect();
        let found = self.registry.meta.get_many(&keys).await?;
        let mut ends = [0; PARTITIONS as usize];
        for (end, head) in ends.iter_mut().zip(&found) {
            *end = last(head.as_ref())?;
        }
        Ok(ends)
    }

    /// What follows after the batch of this number in the `n`-th feed: one read of the store, three where there is nothing.
    pub async fn read(&self, n: u8, after: u64) -> Result<Followed> {
        self.read_batches(n, after, BATCHES).await
    }

    /// The same of at most so many batches.
    pub async fn read_batches(&self, n: u8, after: u64, batches: usize) -> Result<Followed> {
        let (space, feed, place) = (Space::Repositories, keys::feed(n), keys::feed_batch(n, after));
        let page = self
            .registry
            .meta
            .range(space, &feed, "", Some(&place.sort), batches)
            .await?;
        let mut followed = Followed {
            upto: after,
            more: page.more,
            ..Followed::default()
        };
        for entry in &page.entries {
            let malformed = || row::corrupt("read a batch's number", "malformed");
            let number = keys::feed_number(&entry.sort).ok_or_else(malformed)?;
            followed.missed |= number != followed.upto.saturating_add(1);
            followed.upto = number;
            let batch: rows::FeedBatch = row::read(&entry.row)?;
            for change in &batch.changes {
                followed.changes.push(NameChange::of(change)?);
            }
        }
        if page.entries.is_empty() {
            let end = last(self.registry.meta.get(&keys::feed_head(n)).await?.as_ref())?;
            // Batches that were settled between the two reads aren't missed, they are there.
            let next = self
                .registry
                .meta
                .get(&keys::feed_batch(n, after.saturating_add(1)))
                .await?;
            followed.more = next.is_some();
            followed.missed = end > after && next.is_none();
            followed.upto = if followed.missed { end } else { after };
        }
        Ok(followed)
    }

    /// Repositories with changes that aren't settled yet: one read of the store for each queue. Who asks for this and then for
    /// [`ends`](Self::ends) misses no change that was committed before.
    pub async fn unsettled(&self) -> Result<BTreeSet<RepoName>> {
        let queues = try_join_all((0..PARTITIONS).map(|n| self.queued(n))).await?;
        Ok(queues.into_iter().flatten().collect())
    }

    async fn queued(&self, n: u8) -> Result<Vec<RepoName>> {
        let (meta, queue) = (&self.registry.meta, keys::unsettled_changes(n));
        let (mut names, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = meta
                .range(Space::Repositories, &queue, "", after.as_deref(), MAX_PAGE)
                .await?;
            for entry in &page.entries {
                let name = entry.sort.rsplit_once('#').map(|(name, _)| RepoName::parse(name));
                match name {
                    Some(Ok(name)) => names.push(name),
                    Some(Err(_)) | None => return Err(row::corrupt("read a change's key", "malformed")),
                }
            }
            after = page.entries.into_iter().next_back().map(|entry| entry.sort);
            if !page.more || after.is_none() {
                return Ok(names);
            }
        }
    }
}

fn last(head: Option<&Row>) -> Result<u64> {
    let head: Option<rows::FeedHead> = head.map(row::read).transpose()?;
    Ok(head.map_or(0, |head| head.last))
}
