//! The list of all repositories.

use super::{Names, Registry, Result};
use crate::oci::Page;

impl Registry {
    /// The repositories that have a manifest, in byte order.
    pub async fn catalog(&self, page: &Page) -> Result<Names> {
        let _ = page;
        todo!()
    }
}
