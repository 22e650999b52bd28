//! Orders: what members do from time to time by themselves, and somebody wants done now.
//!
//! An order is a row, which those look at who do the work, wherever it was taken. One that is for all of a kind of work stays, and
//! what was done before it counts no more; the same order again moves its time on. One for a repository goes when it is done.

use super::{
    Registry, Result,
    fence::{self, Fenced},
    row,
};
use crate::{
    clock,
    oci::RepoName,
    storage::{Entry, Expect, Key, MAX_PAGE, Space, Version, keys, rows},
};

const NOW: &str = ".now";
const RETRY: &str = ".retry";

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// All of it.
    Now,
    /// What failed, or waits because it failed.
    Retry,
    /// What there is to do about a repository.
    Repository(RepoName),
}

/// The orders for a kind of work. Times are milliseconds since the Unix epoch by the clock of who took the order; 0 is never.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// When all of it was ordered last.
    pub now_ms: u64,
    /// When it was last ordered to try again what failed.
    pub retry_ms: u64,
    /// Repositories that aren't done yet, each with its order's time and the version of its row: a thousand of them at most, the
    /// others when those are done.
    pub repositories: Vec<(RepoName, u64, Version)>,
}

impl Registry {
    /// Orders some of the work that is called `work`.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn order(&self, work: &str, order: &Order) -> Result<()> {
        let ordered = rows::Order {
            min_reader: rows::SCHEMA,
            at_ms: clock::now_ms(),
        };
        let sort = match order {
            Order::Now => NOW,
            Order::Retry => RETRY,
            Order::Repository(repository) => repository.as_str(),
        };
        let op = keys::order(work, sort).put(Expect::Any, row::bytes(&ordered));
        match fence::transact(&*self.meta, Version::random(), &[op], self.commit_deadline()).await? {
            Fenced::Committed | Fenced::Refused { .. } => Ok(()),
        }
    }

    /// What is ordered of that work, by one read.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn orders(&self, work: &str) -> Result<Orders> {
        let partition = keys::orders(work);
        let page = self
            .meta
            .range(Space::Repositories, &partition, "", None, MAX_PAGE)
            .await?;
        let mut orders = Orders::default();
        for Entry { sort, row: found } in page.entries {
            let ordered: rows::Order = row::read(&found)?;
            match sort.as_str() {
                NOW => orders.now_ms = ordered.at_ms,
                RETRY => orders.retry_ms = ordered.at_ms,
                name => {
                    let name = RepoName::parse(name).map_err(|error| row::corrupt("read an order", error))?;
                    orders.repositories.push((name, ordered.at_ms, found.version));
                }
            }
        }
        Ok(orders)
    }

    /// What was ordered about a repository is done, unless it was ordered again since that version.
    ///
    /// # Errors
    /// Those of the stores.
    pub async fn order_done(&self, work: &str, repository: &RepoName, version: Version) -> Result<()> {
        let key: Key = keys::order(work, repository.as_str());
        let op = key.delete(Expect::Version(version));
        fence::transact(&*self.meta, Version::random(), &[op], self.commit_deadline()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::{World, repo};

    #[tokio::test]
    async fn an_order_is_seen_by_all_until_it_is_done_and_one_that_came_meanwhile_stays() {
        let world = World::new();
        let (first, second) = (world.member(1), world.member(2));
        let orders = async |work| second.orders(work).await.unwrap();
        assert_eq!(orders("quay.io").await.now_ms, 0);
        first.order("quay.io", &Order::Now).await.unwrap();
        first.order("quay.io", &Order::Now).await.unwrap();
        let repository = repo("team/app");
        let visit = Order::Repository(repository.clone());
        first.order("quay.io", &visit).await.unwrap();
        let found = orders("quay.io").await;
        assert!(found.now_ms > 0 && found.retry_ms == 0);
        let [(name, at_ms, version)] = &found.repositories[..] else {
            panic!("{found:?}");
        };
        assert!(*name == repository && *at_ms >= found.now_ms);
        first.order("quay.io", &visit).await.unwrap();
        second.order_done("quay.io", name, *version).await.unwrap();
        let again = orders("quay.io").await.repositories;
        assert_eq!(again.len(), 1, "it was ordered again");
        second.order_done("quay.io", name, again[0].2).await.unwrap();
        first.order("quay.io", &Order::Retry).await.unwrap();
        let found = orders("quay.io").await;
        assert!(found.repositories.is_empty() && found.retry_ms > 0);
        assert_eq!(orders("ghcr.io").await.now_ms, 0, "another work");
    }
}
