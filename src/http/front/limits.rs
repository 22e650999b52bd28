//! Bounds of the front.

use std::time::Duration;

use crate::config::Limits;

/// Bounds of the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontLimits {
    /// Requests that wait at once for their body or a permit.
    pub waiting: usize,
    /// How long a request waits for a permit.
    pub patience: Duration,
    /// Bytes a second below which a body gives its permit up when others wait.
    pub slow_body: u64,
    /// Over which time that is measured.
    pub slow_body_window: Duration,
    /// Until the head of an answer, for a request whose body is small or absent.
    pub deadline: Duration,
    /// The same for a transfer. What lies in the trash is kept for longer.
    pub transfer_deadline: Duration,
    /// Clients whose rate is remembered, for each limit.
    pub rated_clients: usize,
    /// Connections that watch the mesh at once.
    pub watchers: usize,
    /// How long shared caches may keep content that everybody may read.
    pub public_max_age: Duration,
}

impl From<&Limits> for FrontLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            waiting: limits.front_waiting,
            patience: limits.front_patience,
            slow_body: limits.slow_body_bytes,
            slow_body_window: limits.slow_body_window,
            deadline: limits.request_deadline,
            transfer_deadline: limits.trash_time / 2,
            rated_clients: limits.rated_clients,
            watchers: limits.mesh_watchers,
            public_max_age: limits.public_max_age,
        }
    }
}
