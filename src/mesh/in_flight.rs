//! The requests on their way through the mesh, for diagnostics.
//!
//! Bounded by what admits them: the streams to a peer on one side, the replay permits on the other.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::pb;
use crate::{
    admission::RequestId,
    oci::{RepoName, Route},
    placement::MemberId,
};

/// What is in flight. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct InFlight(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    forwards: Mutex<BTreeMap<u64, Forward>>,
}

#[derive(Debug)]
struct Forward {
    request_id: RequestId,
    method: http::Method,
    route: &'static str,
    repository: Option<RepoName>,
    peer: MemberId,
    direction: pb::Direction,
    began: Instant,
}

/// One request's entry, until it is dropped.
#[derive(Debug)]
pub(super) struct Entry {
    shared: Arc<Shared>,
    id: u64,
}

impl InFlight {
    /// Enters a request.
    pub(super) fn enter(
        &self,
        direction: pb::Direction,
        peer: &MemberId,
        request_id: &RequestId,
        method: &http::Method,
        route: &Route,
    ) -> Entry {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let forward = Forward {
            request_id: request_id.clone(),
            method: method.clone(),
            route: route.name(),
            repository: route.repository().cloned(),
            peer: peer.clone(),
            direction,
            began: Instant::now(),
        };
        self.0.forwards.lock().insert(id, forward);
        Entry {
            shared: self.0.clone(),
            id,
        }
    }

    /// All of them, the oldest first.
    pub(super) fn list(&self) -> Vec<pb::ForwardInFlight> {
        let message = |forward: &Forward| pb::ForwardInFlight {
            request_id: forward.request_id.as_str().to_owned(),
            method: forward.method.as_str().to_owned(),
            route: forward.route.to_owned(),
            repository: forward
                .repository
                .as_ref()
                .map(RepoName::to_string)
                .unwrap_or_default(),
            peer: forward.peer.as_str().to_owned(),
            direction: forward.direction.into(),
            age_ms: u64::try_from(forward.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        self.0.forwards.lock().values().map(message).collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.forwards.lock().len()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.forwards.lock().remove(&self.id);
    }
}
