//! One member, put together.

use std::{sync::Arc, time::Duration};

use ::http::HeaderValue;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Host, MemberSpec, StartError, Stores,
    expiry::{self, CertificateFile},
    mesh_door::{self, MeshDoor, MeshParts},
    overview::Overview,
};
use crate::{
    auth::{Gate, GateSpec, Origin},
    clock,
    config::{
        CacheConfig, Collecting, Limits, Logins, Searching, UserInterface, access::ApiKeys,
        openid::OpenIdProvider,
    },
    events::{self, Naming, Pages, Telling},
    http::{self, ExtensionParts, FrontParts, PageParts, Probes, RetentionParts},
    maintenance::{Retention, Scrubbing, Settling, Share, Trimming, Upkeep, write_pulls},
    net::{Drain, IoSettings, Linger, Listener, ListenerSettings, Remaining, ServerTls, Shares, Supply},
    ownership::{Leases, Liveness, StaticView, View},
    placement::MemberId,
    registry::{Holder, Hot, Registry, Settings, changes::Feed},
    replication::{self, Replication},
    search::Search,
    storage::{Coalesced, MeteredBlobs, MeteredMeta, keys::Queue},
    sync::Mirror,
    telemetry::Metrics,
    ui::{Offers, Provider, Ui},
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
    settling: Settling,
    trimming: Trimming,
    certificates: Vec<CertificateFile>,
    collection: Option<Upkeep>,
    search: Option<Arc<Search>>,
    retention: Option<Retention>,
    scrubbing: Option<Scrubbing>,
    telling: Option<Telling>,
    replication: Option<Replication>,
    mirroring: Option<(Mirror, Share)>,
    limits: Limits,
}

/// A member that runs.
pub struct Running {
    id: MemberId,
    drain: Drain,
    metrics: Arc<Metrics>,
    probes: Probes,
    leases: Option<Arc<Leases>>,
    leave_notice: Duration,
}

impl App {
    /// Builds the member over `stores`, opens its sockets and looks who else is there.
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
            external_url,
            quotas,
            immutable,
            verify_reads,
            delivery,
            sparse_indexes,
            sync,
            replicate,
            collecting,
            extensions,
            retention,
            limits,
        } = spec;
        let drain = host.drain.clone();
        let metrics = Arc::new(Metrics::new());
        let certificates = expiry::files(public_tls.as_ref(), mesh.as_ref().map(|mesh| &mesh.tls));
        let has_tls = public_tls.is_some();
        let tls = public_tls.map(ServerTls::load).transpose()?;
        let doorway = public_settings(&limits);
        let public = Listener::bind_on(&*host.network, "public", public, tls, doorway).await?;
        // Not counted with what clients ask for: leases are renewed whether there are any or not.
        let leased = stores.meta.clone();
        let hash_key = mesh.as_ref().map(|mesh| mesh.hash_key);
        let joined = match mesh {
            None => None,
            Some(spec) => {
                let joined = mesh_door::join(
                    &host,
                    id.clone(),
                    spec,
                    collecting,
                    leased,
                    metrics.clone(),
                    &limits,
                );
                Some(joined.await?)
            }
        };
        let view: Arc<dyn View> = match &joined {
            None => Arc::new(StaticView::new(id.clone(), [])),
            Some(joined) => joined.leases.clone(),
        };
        let permits = Shares::new(Supply::of(limits.front.requests));
        let seen = stores.clone();
        let stores = counted(stores, &metrics);
        let holder = Holder {
            member: id.clone(),
            incarnation: view.incarnation(),
        };
        let logins = gate.logins.clone();
        let gate = GateSpec {
            origin: Origin::new(external_url.as_deref(), has_tls, public.address().ip()),
            ..gate
        };
        let gate = Arc::new(Gate::new(gate, stores.meta.clone(), &limits)?);
        gate.check().await?;
        let probes = Probes::new(view.clone(), drain.clone(), permits.clone(), seen, gate.clone());
        let settings = Settings {
            quotas,
            immutable,
            verify_reads,
            redirects: delivery.redirects,
            limits: limits.registry,
            net: limits.net,
        };
        let hot = open_hot(delivery.cache, limits.registry.cache_pause, metrics.clone()).await?;
        let registry = Registry::new(stores.clone(), holder, settings).with_hot(hot);
        let registry = Arc::new(registry);
        let worker = |queue| {
            let share = Share::new(view.clone(), hash_key);
            let pace = match queue {
                Queue::Upkeep => limits.upkeep,
                Queue::Collection => limits.collection,
            };
            Upkeep::new(queue, registry.clone(), share, metrics.clone(), pace)
        };
        let upkeep = worker(Queue::Upkeep);
        let share = Share::new(view.clone(), hash_key);
        let settling = Settling::new(registry.clone(), share, limits.changes);
        let trimming = Trimming::new(
            registry.clone(),
            Share::new(view.clone(), hash_key),
            [
                events::followers(&extensions.events),
                replication::followers(replicate.as_ref()),
            ]
            .concat(),
            limits.changes,
            limits.collection,
        );
        let plans = RetentionParts {
            registry: registry.clone(),
            policies: retention.clone(),
            step: limits.registry.plan_step,
        };
        let (collection, retention) = match collecting {
            Collecting::On => {
                let share = Share::new(view.clone(), hash_key);
                let retention = Retention::new(
                    retention,
                    registry.clone(),
                    share,
                    metrics.clone(),
                    limits.collection,
                );
                (Some(worker(Queue::Collection)), Some(retention))
            }
            Collecting::Off => (None, None),
        };
        let scrubbing = extensions.scrub.map(|interval| {
            let share = Share::new(view.clone(), hash_key);
            Scrubbing::new(interval, registry.clone(), share, metrics.clone(), limits.scrub)
        });
        let search = match extensions.search {
            Searching::On => Some(Arc::new(Search::new(registry.clone(), limits.search))),
            Searching::Off => None,
        };
        let share = Share::new(view.clone(), hash_key);
        let telling = Telling::new(&extensions.events, &registry, share, &metrics, &limits)?;
        let share = Share::new(view.clone(), hash_key);
        let replication = Replication::new(replicate.as_ref(), &registry, share, &metrics, &limits)?;
        let feed = Feed::new(registry.clone());
        let events = Pages::new(feed, Naming::from(&extensions.events), limits.events.page);
        let mirror = |sync| Mirror::new(sync, registry.clone(), drain.clone(), metrics.clone(), &limits);
        let mirror = sync.as_ref().map(mirror).transpose()?;
        let local = http::local(registry.clone(), mirror.clone(), sparse_indexes);
        let (router, mesh) = match joined {
            None => (local, None),
            Some(joined) => {
                let parts = MeshParts {
                    meta: stores.meta,
                    local,
                    metrics: metrics.clone(),
                    host: host.clone(),
                    take_overs: registry.take_overs().clone(),
                    budgets: mirror
                        .as_ref()
                        .map_or_else(Arc::default, |mirror| mirror.budgets().clone()),
                };
                let door = joined.door(parts, &limits).await?;
                (door.mesh.router(), Some(door))
            }
        };
        let page = match extensions.ui {
            UserInterface::On => {
                let overview = Overview {
                    me: id.clone(),
                    mesh: mesh.as_ref().map(|door| door.mesh.clone()).zip(hash_key),
                    search: search.clone(),
                    metrics: metrics.clone(),
                };
                Some(page(&logins, limits.registry.history, overview, &drain))
            }
            UserInterface::Off => None,
        };
        let front = http::front(FrontParts {
            me: id.clone(),
            gate: gate.clone(),
            probes: probes.clone(),
            metrics: metrics.clone(),
            permits,
            limits,
            rate_limits,
            external_url,
            extensions: search.clone().map(|search| ExtensionParts {
                search,
                registry: registry.clone(),
                origins: extensions.origins,
                logins,
            }),
            page,
            events,
            mirror: mirror.clone(),
            replication: replication.as_ref().map(Replication::standings),
            retention: plans,
            mesh: router,
        });
        let mirroring = mirror.map(|mirror| (mirror, Share::new(view, hash_key)));
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
            settling,
            trimming,
            certificates,
            collection,
            search,
            retention,
            scrubbing,
            telling,
            replication,
            mirroring,
            limits,
        })
    }

    /// Tells the others that it is there, ahead of [`serve`](Self::serve), which does it, too.
    pub async fn announce(&self) {
        if let Some(door) = &self.mesh {
            door.leases.announce().await;
        }
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
            settling,
            trimming,
            certificates,
            collection,
            search,
            retention,
            scrubbing,
            telling,
            replication,
            mirroring,
            limits,
        } = self;
        let pulls = write_pulls(registry.clone(), limits.registry.pulls_interval, drain.token());
        drain.spawn("pulls", pulls);
        let begun = drain.clone();
        drain.spawn("abandoned uploads", async move {
            registry.end_abandoned(begun.begun()).await;
        });
        let mesh_address = mesh.as_ref().map(|door| door.listener.address());
        let leases = mesh.as_ref().map(|door| door.leases.clone());
        if let Some(door) = mesh {
            door.serve(&drain).await;
        }
        gate.follow(&drain);
        drain.spawn("files with passwords and policies", gate.watch(drain.clone()));
        let ends = expiry::watch(certificates, metrics.clone(), limits.certificates, drain.token());
        drain.spawn("ends of certificates", ends);
        let address = public.address();
        let serving = drain.clone();
        let leave_notice = limits.ending.notice;
        drain.spawn("public listener", async move {
            http::serve(public, &serving, front, &limits).await;
        });
        drain.spawn("changes", settling.run(drain.token()));
        drain.spawn("old changes", trimming.run(drain.token(), clock::now_ms));
        drain.spawn("upkeep", upkeep.run(drain.token(), clock::now_ms));
        if let Some(collection) = collection {
            drain.spawn("collection", collection.run(drain.token(), clock::now_ms));
        }
        if let Some(search) = search {
            drain.spawn("search", search.run(drain.token()));
        }
        if let Some(retention) = retention {
            drain.spawn("retention", retention.run(drain.token(), clock::now_ms));
        }
        if let Some(scrubbing) = scrubbing {
            drain.spawn("scrub", scrubbing.run(drain.token(), clock::now_ms));
        }
        if let Some(telling) = telling {
            drain.spawn("events", telling.run(drain.token()));
        }
        if let Some(replication) = replication {
            drain.spawn("replication", replication.run(drain.token()));
        }
        if let Some((mirror, share)) = mirroring {
            drain.spawn("mirroring ahead of time", mirror.poll(share, drain.token()));
        }
        let mesh = mesh_address.map(tracing::field::display);
        tracing::info!(member = %id, public = %address, mesh, "serving");
        Running {
            id,
            drain,
            metrics,
            probes,
            leases,
            leave_notice,
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

    /// Its lease and its view of the mesh; `None` for a member by itself.
    pub fn leases(&self) -> Option<&Arc<Leases>> {
        self.leases.as_ref()
    }

    /// What ends when it does, for tasks of the composition root.
    pub(super) fn life(&self) -> &Drain {
        &self.drain
    }

    /// Whether it should be sent requests, and why not.
    ///
    /// # Errors
    /// The reason, for people.
    pub async fn ready(&self) -> Result<(), String> {
        self.probes.readiness().await
    }

    /// Says to the others, to balancers and to clients that it is about to end; everything is still served.
    pub async fn leave(&self) {
        self.drain.leave();
        if let Some(leases) = &self.leases {
            leases.leave().await;
        }
    }

    /// Leaves, and gives the others time to see it; then takes nothing new on, waits for what is in flight, and ends.
    /// Gives what had to be cut because it took more than `bound` in all.
    pub async fn drain(self, bound: Duration) -> Vec<Remaining> {
        let until = Instant::now() + bound;
        let notice = async {
            self.leave().await;
            if self.is_needed().await {
                sleep(self.leave_notice).await;
            }
        };
        // The notice is never all of the time there is.
        let _ = timeout(bound / 2, notice).await;
        self.finish(until.saturating_duration_since(Instant::now())).await
    }

    /// Ends at once, as by a crash: the others aren't told, what is in flight is cut.
    pub async fn cut(self) -> Vec<Remaining> {
        self.finish(Duration::ZERO).await
    }

    async fn finish(self, bound: Duration) -> Vec<Remaining> {
        let remaining = self.drain.finish(bound).await;
        for cut in &remaining {
            tracing::warn!(member = %self.id, name = %cut.name, count = cut.count, "cut at the end of the drain");
        }
        tracing::info!(member = %self.id, "ended");
        remaining
    }

    /// Whether others live that may still send it requests.
    async fn is_needed(&self) -> bool {
        let Some(leases) = &self.leases else {
            return false;
        };
        leases.look().await;
        let members = leases.members();
        let mut others = members.iter().filter(|member| member.id != self.id);
        others.any(|member| member.liveness == Liveness::Live)
    }
}

/// The page, with ways to what `logins` offer.
fn page(logins: &Logins, history: Duration, overview: Overview, drain: &Drain) -> PageParts {
    let passwords = logins.htpasswd.is_some() || logins.ldap.is_some();
    let realm = logins
        .realm
        .as_deref()
        .unwrap_or("Portolan")
        .replace(['"', '\\'], "");
    let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
    PageParts {
        ui: Ui::new(
            Offers {
                passwords,
                providers: logins
                    .openid
                    .iter()
                    .flat_map(|openid| &openid.providers)
                    .map(provider)
                    .collect(),
                api_keys: logins.api_keys == ApiKeys::On,
                history,
            },
            overview.look(),
        ),
        end: drain.token(),
        challenge: HeaderValue::try_from(challenge).ok().filter(|_| passwords),
    }
}

fn provider(provider: &OpenIdProvider) -> Provider {
    Provider {
        kind: provider.kind.as_str(),
        name: provider.name.clone(),
    }
}

/// The folder for hot content, if there is to be one.
async fn open_hot(
    cache: Option<CacheConfig>,
    pause: Duration,
    metrics: Arc<Metrics>,
) -> Result<Option<Hot>, StartError> {
    let Some(cache) = cache else {
        return Ok(None);
    };
    let opened = tokio::task::spawn_blocking(move || Hot::open(&cache, pause, metrics)).await;
    let opened = opened.map_err(|gone| StartError::Machine(std::io::Error::other(gone)))?;
    Ok(Some(opened?))
}

/// Counted where requests leave for the store, and shared before that, so that the counts are those of the store.
fn counted(stores: Stores, metrics: &Arc<Metrics>) -> Stores {
    let meta = Arc::new(MeteredMeta::new(stores.meta, metrics.clone()));
    Stores {
        meta: Arc::new(Coalesced::new(meta)),
        blobs: Arc::new(MeteredBlobs::new(stores.blobs, metrics.clone())),
    }
}

fn public_settings(limits: &Limits) -> ListenerSettings {
    ListenerSettings {
        connections: limits.server.connections,
        connections_per_client: limits.server.connections_per_client,
        handshake: limits.net.handshake,
        io: IoSettings {
            write_stall: limits.net.stall,
            linger: Linger {
                bytes: limits.server.linger_bytes,
                time: limits.server.linger_time,
            },
            read_buffer: limits.server.buffer_bytes,
            write_buffer: limits.server.buffer_bytes,
        },
    }
}
