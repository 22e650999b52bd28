//! What the bounds of the mesh come to on a connection.

use crate::{
    config::Limits,
    net::{IoSettings, Linger, ListenerSettings},
};

/// Of a connection between members, dialled or accepted.
pub(super) fn io(limits: &Limits) -> IoSettings {
    IoSettings {
        read_buffer: limits.mesh.buffer_bytes,
        write_buffer: limits.mesh.buffer_bytes,
        write_stall: limits.net.stall,
        // A member reads what it asked for.
        linger: Linger::NONE,
    }
}

/// Of the mesh listener.
#[must_use]
pub fn listener_settings(limits: &Limits) -> ListenerSettings {
    ListenerSettings {
        connections: limits.mesh.connections,
        // Behind one address there may be any number of members.
        connections_per_client: limits.mesh.connections,
        handshake: limits.net.handshake,
        io: io(limits),
    }
}
