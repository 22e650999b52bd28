//! The list of all repositories.

use super::{Names, Registry, Result};
use crate::{oci::Page, storage::keys};

impl Registry {
    /// The repositories that have a manifest, in byte order.
    pub async fn catalog(&self, page: &Page) -> Result<Names> {
        self.names(keys::CATALOG, "", page).await
    }
}
