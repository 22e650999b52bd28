//! Sessions that only one request knows of: those of blobs that are pushed whole. When that request fails, or is dropped
//! because its client went away, nobody can carry its session on, so it is ended soon instead of when it expires.

use tokio::sync::{Mutex, mpsc};

use super::super::Registry;
use crate::oci::{RepoName, UploadId};

/// Sessions that wait to be ended; more are left to expire.
const WAITING: usize = 4096;

type Abandoned = (RepoName, UploadId);

/// Where they wait.
pub(in crate::registry) struct Waiting {
    sender: mpsc::Sender<Abandoned>,
    receiver: Mutex<mpsc::Receiver<Abandoned>>,
}

impl Default for Waiting {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            sender,
            receiver: Mutex::new(receiver),
        }
    }
}

/// A session that has to be ended if this is dropped before the blob is there.
pub(super) struct Unshared<'a> {
    waiting: &'a Waiting,
    session: Option<Abandoned>,
}

impl<'a> Unshared<'a> {
    pub(super) fn new(registry: &'a Registry, repository: &RepoName, id: &UploadId) -> Self {
        Self {
            waiting: &registry.abandoned,
            session: Some((repository.clone(), id.clone())),
        }
    }

    /// The blob is there: the session is over.
    pub(super) fn disarm(mut self) {
        self.session = None;
    }
}

impl Drop for Unshared<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && let Err(error) = self.waiting.sender.try_send(session)
        {
            tracing::debug!(%error, "a failed upload is left to expire");
        }
    }
}

impl Registry {
    /// Ends sessions that were abandoned, one after the other, until `stop` is over and none waits.
    pub async fn end_abandoned(&self, stop: impl Future<Output = ()> + Send) {
        let mut waiting = self.abandoned.receiver.lock().await;
        tokio::pin!(stop);
        loop {
            let (repository, id) = tokio::select! {
                biased;
                Some(next) = waiting.recv() => next,
                () = &mut stop => return,
            };
            // What isn't open any more was published after all, or ended.
            let Ok(mut session) = self.session(&repository, &id).await else {
                continue;
            };
            if let Err(error) = self.close_session(&mut session).await {
                tracing::debug!(upload = %id, ?error, "a failed upload is left to expire");
                continue;
            }
            // What of a slow body was put aside is named by no row, and the request that knew it is gone.
            if let Err(error) = self.blobs.sweep(&session.prefix(), &[]).await {
                tracing::debug!(upload = %id, ?error, "objects of a failed upload are left to the sweep");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{StreamExt as _, stream};

    use super::super::super::testing::*;
    use crate::{admission::BodyError, registry::RegistryError};

    #[tokio::test]
    async fn a_push_that_fails_or_is_dropped_leaves_no_parts() {
        let world = World::new();
        let (registry, name) = (world.member(1), repo("a"));
        let bytes = content(1, 5 * PART as usize);
        let digest = sha256(&bytes);

        let failed = registry.push_blob(&name, &digest, None, broken(&bytes, 64)).await;
        assert!(matches!(failed, Err(RegistryError::Body(_))), "{failed:?}");
        let stalled = body(&bytes, 64).chain(stream::pending::<Result<bytes::Bytes, BodyError>>());
        let dropped = registry.push_blob(&name, &digest, None, Box::pin(stalled));
        assert!(
            tokio::time::timeout(Duration::from_millis(50), dropped)
                .await
                .is_err()
        );
        let mismatched = registry
            .push_blob(&name, &sha256(b"other"), None, body(&bytes, 64))
            .await;
        assert!(matches!(mismatched, Err(RegistryError::DigestMismatch { .. })));
        assert_eq!(world.blobs.uploads().len(), 2);

        registry.end_abandoned(std::future::ready(())).await;
        assert_eq!(world.blobs.uploads(), []);
        assert_eq!(push(&registry, &name, &bytes).await, digest);
        registry.end_abandoned(std::future::ready(())).await;
        assert_eq!(pull(&registry, &name, &digest).await.unwrap(), bytes);
    }
}
