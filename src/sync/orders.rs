//! Orders to mirror ahead of time what it isn't time for yet: rows that those who visit look at.

use super::{Mirror, rules::Source};
use crate::{
    oci::RepoName,
    registry::{Order, RegistryError},
};

impl Mirror {
    /// Orders that what is mirrored ahead of time be visited at once, by the members whose it is: everything, what is mirrored from the
    /// registry at the host `of`, or else a repository of this name here. For each registry its host, and the repository; none where
    /// nothing is called so.
    ///
    /// # Errors
    /// [`RegistryError`]: the order can't be written.
    pub async fn order(&self, of: Option<&str>) -> Result<Vec<(&str, Option<RepoName>)>, RegistryError> {
        let is_meant = |source: &&Source| of.is_none_or(|of| source.is(of));
        let meant: Vec<_> = self.polled().filter(is_meant).collect();
        let repository = of.and_then(|of| RepoName::parse(of).ok());
        let (sources, order) = match repository {
            Some(repository) if meant.is_empty() => {
                let rules = |source: &&Source| source.rules_of(&repository).next().is_some();
                (
                    self.polled().filter(rules).collect(),
                    Order::Repository(repository),
                )
            }
            _ => (meant, Order::Now),
        };
        self.order_of(&sources, &order).await?;
        let repository = match order {
            Order::Repository(repository) => Some(repository),
            Order::Now | Order::Retry => None,
        };
        Ok(sources
            .into_iter()
            .map(|source| (source.name(), repository.clone()))
            .collect())
    }

    /// Orders that what couldn't be mirrored ahead of time be visited again at once. The hosts of the registries.
    ///
    /// # Errors
    /// [`RegistryError`]: the order can't be written.
    pub async fn retry(&self) -> Result<Vec<&str>, RegistryError> {
        let sources: Vec<_> = self.polled().collect();
        self.order_of(&sources, &Order::Retry).await?;
        Ok(sources.into_iter().map(Source::name).collect())
    }

    fn polled(&self) -> impl Iterator<Item = &Source> {
        let sources = self.shared.sources.iter();
        sources.filter(|source| source.poll_interval.is_some())
    }

    async fn order_of(&self, sources: &[&Source], order: &Order) -> Result<(), RegistryError> {
        for source in sources {
            self.shared.registry.order(&source.work(), order).await?;
        }
        Ok(())
    }
}
