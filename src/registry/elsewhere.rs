//! Blobs that clients read from the store itself.
//!
//! A link is made for a request that was decided, after the strong read that says the repository holds the blob, and lives for
//! [`link_life`](crate::config::limits::RegistryLimits::link_life): less than any object is kept that nothing names any more. For as long it
//! is as good as a pull that began before its blob was deleted, or its puller lost the right to it.

use super::{Blob, Registry, RegistryError};
use crate::{config::Redirects, storage::Link};

impl Registry {
    /// Where the store gives out all of `blob`, which the repository was found to hold in this request; `None` when it is to be
    /// read here. So is what is lost, by which its reason is told.
    pub async fn elsewhere(&self, blob: &Blob) -> Option<Link> {
        let Redirects::From { bytes } = self.settings.redirects else {
            return None;
        };
        if blob.size < bytes.max(1) {
            return None;
        }
        let link = async {
            let object = self.sound(blob).await?;
            let link = self
                .blobs
                .presign(&object.key, self.settings.limits.link_life)
                .await?;
            Ok::<_, RegistryError>(link)
        };
        link.await.unwrap_or_else(|error| {
            tracing::warn!(digest = %blob.digest, ?error, "no link to a blob can be made: it is read here");
            None
        })
    }
}
