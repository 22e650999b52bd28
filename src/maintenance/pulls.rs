//! The worker that writes when manifests were pulled.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::registry::Registry;

/// Writes what was counted every `interval`, and once more when `end` is cancelled.
pub async fn write_pulls(registry: Arc<Registry>, interval: Duration, end: CancellationToken) {
    loop {
        let ended = end
            .run_until_cancelled(tokio::time::sleep(interval))
            .await
            .is_none();
        if let Err(error) = registry.write_pulls().await {
            tracing::warn!(?error, "pulls can't be written; they are kept for the next time");
        }
        if ended {
            return;
        }
    }
}
