//! The list of a repository's tags.

use super::{Names, Registry, Result};
use crate::oci::{Page, RepoName};

impl Registry {
    /// The repository's tags in byte order.
    pub async fn tags(&self, repository: &RepoName, page: &Page) -> Result<Names> {
        let _ = (repository, page);
        todo!()
    }
}
