//! One member, put together.

use std::{sync::Arc, time::Duration};

use super::{Host, MemberSpec, MeshSpec, StartError, Stores};
use crate::{
    admission::Service,
    auth::Gate,
    clock,
    config::Limits,
    http::{self, FrontLimits, FrontParts, Probes, ServerLimits},
    maintenance::{Share, Upkeep},
    mesh::{Mesh, MeshServer, MeshSettings, Peers, Readiness},
    net::{
        CertificateFiles, ClientCertificates, ClientSpec, ClientTls, Drain, IoSettings, Linger, Listener,
        ListenerSettings, Remaining, ServerSpec, ServerTls, TlsVersions,
    },
    ownership::{Hints, Owners, StaticView, View},
    placement::MemberId,
    registry::{Holder, Registry, Settings},
    storage::{Coalesced, MetaStore, MeteredBlobs, MeteredMeta},
    telemetry::Metrics,
};

/// A member whose sockets are open, and that doesn't answer yet.
pub struct App {
    id: MemberId,
    drain: Drain,
    metrics: Arc<Metrics>,
    probes: Probes,
    public: Listener,
    front: http::Front,
    gate: Arc<Gate>,
    registry: Arc<Registry>,
    mesh: Option<MeshDoor>,
    upkeep: Upkeep,
    limits: Limits,
}

/// A member's side of the mesh: the listener for other members, and what answers there.
struct MeshDoor {
    mesh: Arc<Mesh>,
    server: MeshServer,
    readiness: Readiness,
    listener: Listener,
}

/// What the mesh is built on.
struct MeshParts {
    view: Arc<dyn View>,
    meta: Arc<dyn MetaStore>,
    local: Service,
    metrics: Arc<Metrics>,
    host: Host,
}

/// A member that runs.
pub struct Running {
    id: MemberId,
    drain: Drain,
    metrics: Arc<Metrics>,
    probes: Probes,
}

impl App {
    /// Builds the member over `stores` and opens its sockets.
    ///
    /// # Errors
    /// [`StartError`]: everything that can be wrong with the specification is found here.
    pub async fn bind(spec: MemberSpec, stores: Stores) -> Result<Self, StartError> {
        Self::bind_on(Host::default(), spec, stores).await
    }

    /// As [`bind`](Self::bind), elsewhere than on this machine.
    ///
    /// # Errors
    /// [`StartError`], as `bind`.
    pub async fn bind_on(host: Host, spec: MemberSpec, stores: Stores) -> Result<Self, StartError> {
        let MemberSpec {
            id,
            public,
            public_tls,
            gate,
            mesh,
            rate_limits,
            limits,
        } = spec;
        let drain = host.drain.clone();
        let metrics = Arc::new(Metrics::new());
        let probes = Probes::new(id.clone(), drain.clone(), stores.clone(), metrics.clone());

        let stores = counted(stores, &metrics);
        let members = mesh.as_ref().map(|mesh| mesh.members.clone()).unwrap_or_default();
        let view: Arc<dyn View> = Arc::new(StaticView::new(id.clone(), members));
        let holder = Holder {
            member: id.clone(),
            incarnation: view.incarnation(),
        };
        let gate = Arc::new(Gate::new(gate, stores.meta.clone(), &limits)?);
        let registry = Arc::new(Registry::new(stores.clone(), holder, settings(&limits)));
        let share = Share::new(view.clone(), mesh.as_ref().map(|mesh| mesh.hash_key));
        let upkeep = Upkeep::new(registry.clone(), share, metrics.clone(), (&limits).into());
        let local = http::local(registry.clone());
        let (router, mesh) = match mesh {
            None => (local, None),
            Some(spec) => {
                let parts = MeshParts {
                    view,
                    meta: stores.meta,
                    local,
                    metrics: metrics.clone(),
                    host: host.clone(),
                };
                let door = MeshDoor::bind(spec, parts, &limits).await?;
                (door.mesh.router(), Some(door))
            }
        };

        let tls = public_tls.map(ServerTls::load).transpose()?;
        let settings = public_settings(&limits);
        let public = Listener::bind_on(&*host.network, "public", public, tls, settings).await?;
        let front = http::front(FrontParts {
            me: id.clone(),
            gate: gate.clone(),
            probes: probes.clone(),
            metrics: metrics.clone(),
            limits: FrontLimits::from(&limits),
            rate_limits,
            mesh: router,
        });
        Ok(Self {
            id,
            drain,
            metrics,
            probes,
            public,
            front,
            gate,
            registry,
            mesh,
            upkeep,
            limits,
        })
    }

    /// Begins to answer.
    pub async fn serve(self) -> Running {
        let Self {
            id,
            drain,
            metrics,
            probes,
            public,
            front,
            gate,
            registry,
            mesh,
            upkeep,
            limits,
        } = self;
        let begun = drain.clone();
        drain.spawn("abandoned uploads", async move {
            registry.end_abandoned(begun.begun()).await;
        });
        let mesh_address = mesh.as_ref().map(|door| door.listener.address());
        if let Some(door) = mesh {
            door.serve(&drain).await;
        }
        drain.spawn("files with passwords and policies", gate.watch(drain.clone()));
        let address = public.address();
        let serving = drain.clone();
        drain.spawn("public listener", async move {
            http::serve(public, &serving, front, ServerLimits::from(&limits)).await;
        });
        drain.spawn("upkeep", upkeep.run(drain.token(), clock::now_ms));
        let mesh = mesh_address.map(tracing::field::display);
        tracing::info!(member = %id, public = %address, mesh, "serving");
        Running {
            id,
            drain,
            metrics,
            probes,
        }
    }
}

impl Running {
    /// Its name.
    pub fn id(&self) -> &MemberId {
        &self.id
    }

    /// What it has counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Whether it should be sent requests, and why not.
    ///
    /// # Errors
    /// The reason, for people.
    pub async fn ready(&self) -> Result<(), String> {
        self.probes.readiness().await
    }

    /// Takes nothing new on any more; what is in flight goes on.
    pub fn begin_drain(&self) {
        self.drain.begin();
    }

    /// Takes nothing new on, waits at most `bound` for what is in flight, then ends; gives what had to be cut.
    pub async fn drain(self, bound: Duration) -> Vec<Remaining> {
        let remaining = self.drain.finish(bound).await;
        for cut in &remaining {
            tracing::warn!(member = %self.id, name = %cut.name, count = cut.count, "cut at the end of the drain");
        }
        tracing::info!(member = %self.id, "ended");
        remaining
    }
}

impl MeshDoor {
    async fn bind(spec: MeshSpec, parts: MeshParts, limits: &Limits) -> Result<Self, StartError> {
        let MeshSpec {
            listen,
            hash_key,
            tls,
            ..
        } = spec;
        let MeshParts {
            view,
            meta,
            local,
            metrics,
            host: Host { network, drain },
        } = parts;
        let files = CertificateFiles {
            certificate: tls.cert,
            key: tls.key,
        };
        let dial = ClientTls::load(ClientSpec {
            files: files.clone(),
            authority: tls.ca.clone(),
            alpn: &[b"h2"],
        })?;
        let answer = ServerTls::load(ServerSpec {
            files,
            clients: ClientCertificates::Required(tls.ca),
            versions: TlsVersions::Only13,
            alpn: &[b"h2"],
        })?;
        let settings = MeshSettings::from(limits);
        let owners = Owners::new(view.clone(), hash_key, meta, Hints::new(limits.holder_hints));
        let peers = Peers::new(view, dial, metrics.clone(), settings, drain.clone()).over(network.clone());
        let mesh = Mesh::new(Arc::new(owners), Arc::new(peers), local, metrics, settings);
        let mesh = Arc::new(mesh);
        let (server, readiness) = MeshServer::new(mesh.clone(), tls.operators, drain).await?;
        let settings = MeshSettings::listener(limits);
        let listener = Listener::bind_on(&*network, "mesh", listen, Some(answer), settings).await?;
        Ok(Self {
            mesh,
            server,
            readiness,
            listener,
        })
    }

    async fn serve(self, drain: &Drain) {
        let Self {
            server,
            readiness,
            listener,
            ..
        } = self;
        readiness.ready().await;
        let begun = drain.clone();
        drain.spawn("health service", async move {
            begun.begun().await;
            readiness.not_ready().await;
        });
        drain.spawn("mesh listener", async move { server.serve(listener).await });
    }
}

/// Counted where requests leave for the store, and shared before that, so that the counts are those of the store.
fn counted(stores: Stores, metrics: &Arc<Metrics>) -> Stores {
    let meta = Arc::new(MeteredMeta::new(stores.meta, metrics.clone()));
    Stores {
        meta: Arc::new(Coalesced::new(meta)),
        blobs: Arc::new(MeteredBlobs::new(stores.blobs, metrics.clone())),
    }
}

fn settings(limits: &Limits) -> Settings {
    Settings {
        part_size: limits.upload_part_bytes as u64,
        parts_in_flight: limits.upload_parts_in_flight,
        body_memory: limits.upload_memory_bytes,
        body_patience: limits.upload_memory_wait,
        session_ttl: limits.session_expiry,
        link_grace: limits.unreferenced_grace,
        trash_delay: limits.trash_time,
        trash_again: limits.trash_again,
        clock_margin: limits.clock_margin,
        tombstone: limits.tombstone_time,
        inline_manifest: limits.manifest_inline_bytes,
        attempts: u32::try_from(limits.change_attempts).unwrap_or(u32::MAX),
        ..Settings::default()
    }
}

fn public_settings(limits: &Limits) -> ListenerSettings {
    ListenerSettings {
        connections: limits.public_connections,
        connections_per_client: limits.public_connections_per_client,
        handshake: limits.tls_handshake_timeout,
        io: IoSettings {
            write_stall: limits.no_progress_timeout,
            linger: Linger {
                bytes: limits.linger_bytes,
                time: limits.linger_time,
            },
            read_buffer: limits.public_buffer_bytes,
            write_buffer: limits.public_buffer_bytes,
        },
    }
}
