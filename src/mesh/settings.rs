//! The bounds of the mesh. Their defaults are with all the others, in [`Limits`].

use std::time::Duration;

use crate::{
    config::Limits,
    net::{IoSettings, Linger, ListenerSettings},
};

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
    /// How many `not_owner` it follows on one round of the members.
    pub hints: usize,
    /// How long a member may take to accept a request.
    pub accept: Duration,
    /// How long dialling may take, TLS included.
    pub connect: Duration,
    /// The first and the longest pause after a failed dial.
    pub redial: (Duration, Duration),
    /// How long a transfer may make no progress, either way.
    pub stall: Duration,
    /// Most streams on a connection.
    pub streams: u32,
    /// What a stream may have on its way, unread: with `streams` and the connections, the bound of the memory that slow
    /// readers cost.
    pub stream_window: u32,
    /// The same for a stream whose reader is likely to leave in the middle.
    pub piece_window: u32,
    /// The same for a connection: `streams` times `stream_window`, or a stream that isn't read stops its neighbours.
    pub connection_window: u32,
    /// Most connections to a peer on each lane: for bodies of blobs, and for everything else.
    pub connections: usize,
    /// How often a connection is tried when nothing comes on it.
    pub ping_every: Duration,
    /// How long the answer to that may take.
    pub ping_timeout: Duration,
    /// Of the connections' byte streams.
    pub io: IoSettings,
}

impl From<&Limits> for MeshSettings {
    fn from(limits: &Limits) -> Self {
        Self {
            replays: limits.replay_requests,
            head_bytes: limits.mesh_head_bytes,
            hold: limits.hold_time,
            hints: limits.hints_followed,
            accept: limits.accept_timeout,
            connect: limits.mesh_connect_timeout,
            redial: (limits.mesh_redial_min, limits.mesh_redial_max),
            stall: limits.no_progress_timeout,
            streams: limits.mesh_streams_per_connection,
            stream_window: limits.mesh_stream_window_bytes,
            piece_window: limits.mesh_piece_window_bytes,
            connection_window: limits.mesh_connection_window_bytes,
            connections: limits.mesh_bulk_connections_per_peer,
            ping_every: limits.mesh_ping_interval,
            ping_timeout: limits.mesh_ping_timeout,
            io: IoSettings {
                read_buffer: limits.mesh_read_buffer_bytes,
                write_buffer: limits.mesh_read_buffer_bytes,
                write_stall: limits.no_progress_timeout,
                // A member reads what it asked for.
                linger: Linger::NONE,
            },
        }
    }
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

impl MeshSettings {
    /// Of the mesh listener.
    #[must_use]
    pub fn listener(limits: &Limits) -> ListenerSettings {
        ListenerSettings {
            connections: limits.mesh_connections,
            // Behind one address there may be any number of members.
            connections_per_client: limits.mesh_connections,
            handshake: limits.tls_handshake_timeout,
            io: Self::from(limits).io,
        }
    }
}
