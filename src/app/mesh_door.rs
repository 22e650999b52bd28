//! A member's side of the mesh: the listener for other members, what answers there, and its lease.

use std::sync::Arc;

use super::{Host, MeshSpec, StartError};
use crate::{
    admission::Service,
    config::{Collecting, Limits},
    mesh::{self, Borrowing, Mesh, MeshServer, Peers, Readiness},
    net::{
        CertificateFiles, ClientCertificates, ClientSpec, ClientTls, Drain, Listener, ServerNames,
        ServerSpec, ServerTls, TlsVersions,
    },
    ownership::{Announcement, Hints, Joining, Leases, Membership, OwnKey, Owners, TakeOvers, View},
    placement::{HashKey, MemberId},
    storage::MetaStore,
    telemetry::Metrics,
    upstream::Budgets,
};

/// A mesh listener that is open, and a lease that nobody else sees yet.
pub(super) struct Joined {
    listener: Listener,
    dial: ClientTls,
    hash_key: HashKey,
    rights: mesh::Rights,
    pub(super) leases: Arc<Leases>,
}

/// All of it.
pub(super) struct MeshDoor {
    pub(super) mesh: Arc<Mesh>,
    pub(super) leases: Arc<Leases>,
    pub(super) listener: Listener,
    server: MeshServer,
    readiness: Readiness,
}

/// What the mesh is built on.
pub(super) struct MeshParts {
    pub(super) meta: Arc<dyn MetaStore>,
    pub(super) local: Service,
    pub(super) metrics: Arc<Metrics>,
    pub(super) host: Host,
    pub(super) take_overs: TakeOvers,
    /// Of registries that are mirrored.
    pub(super) budgets: Arc<Budgets>,
}

/// Opens the listener and looks who is there. `meta` holds the leases.
pub(super) async fn join(
    host: &Host,
    me: MemberId,
    spec: MeshSpec,
    collecting: Collecting,
    meta: Arc<dyn MetaStore>,
    metrics: Arc<Metrics>,
    limits: &Limits,
) -> Result<Joined, StartError> {
    let tls = &spec.tls;
    let files = CertificateFiles {
        certificate: tls.cert.clone(),
        key: tls.key.clone(),
    };
    let dial = ClientTls::load(ClientSpec {
        files: files.clone(),
        authority: tls.ca.clone(),
        names: match &spec.membership {
            Membership::Listed(_) => ServerNames::Dialled,
            // Its lease tells.
            Membership::Dynamic { .. } => ServerNames::Any,
        },
        alpn: &[b"h2"],
    })?;
    let answer = ServerTls::load(ServerSpec {
        files,
        clients: ClientCertificates::Required(tls.ca.clone()),
        versions: TlsVersions::Only13,
        alpn: &[b"h2"],
    })?;
    let settings = mesh::listener_settings(limits);
    let listener = Listener::bind_on(&*host.network, "mesh", spec.listen, Some(answer), settings).await?;
    let shown = dial.clone();
    let own_key: OwnKey = Arc::new(move || mesh::key_hash(&shown.certificate()));
    let joining = joining(me, &spec, collecting, meta, own_key, metrics, limits);
    Ok(Joined {
        listener,
        dial,
        hash_key: spec.hash_key,
        rights: mesh::Rights::new(spec.tls.operators, spec.tls.administrators),
        leases: Arc::new(Leases::join(joining).await?),
    })
}

/// What a member of the mesh that `spec` describes joins with.
pub(super) fn joining(
    me: MemberId,
    spec: &MeshSpec,
    collecting: Collecting,
    meta: Arc<dyn MetaStore>,
    own_key: OwnKey,
    metrics: Arc<Metrics>,
    limits: &Limits,
) -> Joining {
    Joining {
        me,
        meta,
        said: Announcement {
            mesh_address: spec.address.clone(),
            protocol: mesh::PROTOCOL,
            settings: spec.shared.clone(),
            collecting,
        },
        own_key,
        membership: spec.membership.clone(),
        limits: limits.leases,
        metrics,
    }
}

impl Joined {
    /// Puts the mesh together.
    pub(super) async fn door(self, parts: MeshParts, limits: &Limits) -> Result<MeshDoor, StartError> {
        let Self {
            listener,
            dial,
            hash_key,
            rights,
            leases,
        } = self;
        let MeshParts {
            meta,
            local,
            metrics,
            host: Host { network, drain },
            take_overs,
            budgets,
        } = parts;
        let view: Arc<dyn View> = leases.clone();
        let owners = Owners::new(view.clone(), hash_key, meta, Hints::new(limits.mesh.holders));
        let peers = Peers::new(view, dial, metrics.clone(), limits, drain.clone()).over(network);
        let mesh = Mesh::new(Arc::new(owners), Arc::new(peers), local, metrics, limits);
        let mesh = Arc::new(mesh.telling(take_overs).lending(budgets.clone()));
        budgets.share(Arc::new(Borrowing::from(&mesh)));
        let (server, readiness) = MeshServer::new(mesh.clone(), rights, drain).await?;
        Ok(MeshDoor {
            mesh,
            leases,
            listener,
            server,
            readiness,
        })
    }
}

impl MeshDoor {
    /// Tells the others, and answers them.
    pub(super) async fn serve(self, drain: &Drain) {
        let Self {
            server,
            readiness,
            listener,
            leases,
            ..
        } = self;
        drain.spawn("mesh listener", async move { server.serve(listener).await });
        readiness.ready().await;
        leases.announce().await;
        let begun = drain.clone();
        drain.spawn("health service", async move {
            begun.leaving().await;
            readiness.not_ready().await;
        });
        let ended = drain.token();
        drain.spawn("lease", async move { leases.run(ended).await });
    }
}
