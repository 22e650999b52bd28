//! The bounds of the mesh, with their defaults.

use std::time::Duration;

/// Everything between members that has a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeshSettings {
    /// Most requests of other members served at a time. Apart from the front's own pool: with one, two members could
    /// wait for each other's permits for ever.
    pub replays: usize,
    /// Most bytes of a request's or response's head.
    pub head_bytes: usize,
    /// How long a front looks for a member that takes a request, before it serves it itself.
    pub hold: Duration,
    /// How long a member may take to accept a request.
    pub accept: Duration,
    /// How long dialling may take, TLS included.
    pub connect: Duration,
    /// How long a transfer may make no progress, either way.
    pub stall: Duration,
    /// Most streams on a connection. Times `stream_window`, it is the connection's window: a stream that isn't read never
    /// stops its neighbours.
    pub streams: u32,
    /// What a stream may have on its way, unread: with `streams` and the connections, the bound of the memory that slow
    /// readers cost.
    pub stream_window: u32,
    /// Most connections to a peer for bodies of blobs.
    pub bulk_connections: usize,
    /// Most connections to a peer for everything else.
    pub control_connections: usize,
    /// How often a connection is tried when nothing comes on it.
    pub ping_every: Duration,
    /// How long the answer to that may take.
    pub ping_timeout: Duration,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            replays: 1024,
            head_bytes: 128 * 1024,
            hold: Duration::from_secs(15),
            accept: Duration::from_secs(5),
            connect: Duration::from_secs(3),
            stall: Duration::from_secs(60),
            streams: 64,
            stream_window: 1024 * 1024,
            bulk_connections: 8,
            control_connections: 8,
            ping_every: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
        }
    }
}

impl MeshSettings {
    /// See [`streams`](Self::streams).
    pub(super) fn connection_window(&self) -> u32 {
        // The largest window HTTP/2 knows is 2^31 - 1.
        self.stream_window.saturating_mul(self.streams).min((1 << 31) - 1)
    }
}
