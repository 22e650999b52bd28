//! Bounds of a connection.

use std::time::Duration;

use crate::config::Limits;

/// Bounds of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Until the first request's head has arrived.
    pub head_timeout: Duration,
    /// Without any request; once a head has begun, `head_timeout` counts again.
    pub idle_timeout: Duration,
    /// For a body to make some progress, and for a client to take some of what it asked for.
    pub stall_timeout: Duration,
    /// Bytes of a head.
    pub head_bytes: usize,
    /// Fields of a head.
    pub head_fields: usize,
    /// Streams of one HTTP/2 connection.
    pub streams: u32,
}

impl From<&Limits> for ServerLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            head_timeout: limits.request_head_timeout,
            idle_timeout: limits.idle_timeout,
            stall_timeout: limits.no_progress_timeout,
            head_bytes: limits.request_head_bytes,
            head_fields: limits.request_header_fields,
            streams: limits.public_streams_per_connection,
        }
    }
}
