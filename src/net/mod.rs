//! What both doors stand on: listeners, TLS, connection tracking, drain, and wrappers that give a body a bound.
//!
//! Everything here is about connections and bytes. Deliberately absent: HTTP and gRPC (who serves a [`Connection`]
//! decides what is spoken on it), who a peer is (its verified certificates are handed on, `mesh::identity` and `auth`
//! read them), and any task that nobody waits for: every one runs on a [`Drain`].

mod buffered;
mod chain;
mod clients;
mod drain;
mod idle;
mod io;
mod life;
mod listener;
mod network;
mod paced;
mod permits;
mod sealed;
mod shares;
mod stall;
mod tls;

#[cfg(test)]
pub(crate) mod test_certificates;

#[cfg(debug_assertions)]
pub use self::drain::Turnstile;
pub use self::{
    buffered::{Buffered, IoSettings, Linger, Received},
    clients::client_network,
    drain::{Drain, Remaining, TrackedExecutor},
    idle::Rest,
    io::Io,
    life::{Life, Phase},
    listener::{BindError, BindFault, Connection, Listener, ListenerSettings, PeerInfo, Slot},
    network::{Accepting, Network, Stream, Tcp, contract},
    paced::give_way_when_slow,
    permits::{Held, hold},
    sealed::Sealed,
    shares::{Caller, Manners, Permit, Purpose, Shares, Supply},
    stall::{Patience, Stalling, abort_when_stalled},
    tls::{
        CertificateFiles, ClientCertificates, ClientSpec, ClientTls, ServerNames, ServerSpec, ServerTls,
        TlsError, TlsVersions,
    },
};
