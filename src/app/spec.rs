//! What a member is built from, apart from its stores.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    auth::GateSpec,
    config::{Collecting, Delivery, Extensions, Limits, MeshTls, RateLimits, Replicate, Retention, Sync},
    net::{CertificateFiles, ClientCertificates, Drain, Network, ServerSpec, Tcp, TlsVersions},
    oci::RepoPattern,
    ownership::{Membership, SharedSettings},
    placement::{HashKey, MemberId},
    registry::{Immutable, Quotas},
};

/// One member.
#[derive(Clone, Debug)]
pub struct MemberSpec {
    /// Its name.
    pub id: MemberId,
    /// Where clients reach it.
    pub public: SocketAddr,
    /// How they do; `None` is plain HTTP.
    pub public_tls: Option<ServerSpec>,
    /// How one logs in, and who may do what.
    pub gate: GateSpec,
    /// The mesh it belongs to; `None` is a member by itself.
    pub mesh: Option<MeshSpec>,
    /// How many requests a client may make.
    pub rate_limits: RateLimits,
    /// How clients see it, `scheme://host` and perhaps `:port`; `None` leaves that to them.
    pub external_url: Option<String>,
    /// How many bytes of blobs repositories may hold.
    pub quotas: Quotas,
    /// Which tags nobody moves or deletes.
    pub immutable: Immutable,
    /// Whether blobs of any length are hashed when they are read whole.
    pub verify_reads: bool,
    /// How blobs get to those who pull them.
    pub delivery: Delivery,
    /// Where clients may push an index whose entries aren't there.
    pub sparse_indexes: Vec<RepoPattern>,
    /// What is mirrored from elsewhere.
    pub sync: Option<Sync>,
    /// What is sent on to other registries, if anything.
    pub replicate: Option<Replicate>,
    /// Whether it collects what no manifest references.
    pub collecting: Collecting,
    /// What it offers beside the distribution API.
    pub extensions: Extensions,
    /// Which tags and manifests are kept.
    pub retention: Retention,
    /// Every bound.
    pub limits: Limits,
}

/// Where a member runs. By default that is this machine.
#[derive(Clone, Debug)]
pub struct Host {
    /// What it listens and dials on.
    pub network: Arc<dyn Network>,
    /// What its tasks run on; of this member alone.
    pub drain: Drain,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            network: Arc::new(Tcp),
            drain: Drain::new(),
        }
    }
}

/// A mesh, as one of its members needs to know it.
#[derive(Clone, Debug)]
pub struct MeshSpec {
    /// Where other members reach this one.
    pub listen: SocketAddr,
    /// The `host:port` at which other members reach that.
    pub address: String,
    /// Who the members are; where they are listed, this one is among them.
    pub membership: Membership,
    /// What must be the same on all of them.
    pub shared: SharedSettings,
    /// The key of placement.
    pub hash_key: HashKey,
    /// Certificates.
    pub tls: MeshTls,
}

impl MemberSpec {
    /// A member by itself on `public`, with plain HTTP and the default bounds.
    pub fn alone(id: MemberId, public: SocketAddr) -> Self {
        Self {
            id,
            public,
            public_tls: None,
            gate: GateSpec::default(),
            mesh: None,
            rate_limits: RateLimits::default(),
            external_url: None,
            quotas: Quotas::default(),
            immutable: Immutable::default(),
            verify_reads: false,
            delivery: Delivery::default(),
            sparse_indexes: Vec::new(),
            sync: None,
            replicate: None,
            collecting: Collecting::On,
            extensions: Extensions::default(),
            retention: Retention::default(),
            limits: Limits::default(),
        }
    }
}

/// How the public listener speaks TLS with these files.
pub(super) fn public_tls(files: &crate::config::TlsFiles) -> ServerSpec {
    ServerSpec {
        files: CertificateFiles {
            certificate: files.cert.clone(),
            key: files.key.clone(),
        },
        clients: match &files.client_ca {
            Some(authority) => ClientCertificates::Optional(authority.clone()),
            None => ClientCertificates::Ignored,
        },
        versions: TlsVersions::From12,
        alpn: &[b"h2", b"http/1.1"],
    }
}
