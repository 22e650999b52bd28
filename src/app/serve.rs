//! `portolan serve`: one member from a configuration, until it is told to end.

use std::net::{SocketAddr, ToSocketAddrs as _};

use super::{App, MemberSpec, MeshSpec, Running, StartError, members, signals::Signals, spec::public_tls};
use crate::{
    auth::GateSpec,
    config::{Cluster, Config, Listen, ListenAddress, identity::Machine},
    ownership::Membership,
    placement::MemberId,
    registry::{Immutable, Quotas},
    storage::{self, OpenStores},
};

/// Runs the member that `config` describes, until SIGTERM or SIGINT. `explicit` says which of its members this is.
///
/// # Errors
/// [`StartError`] before anything is served; once it serves, this ends well.
pub async fn serve(config: &Config, explicit: Option<&str>) -> Result<(), StartError> {
    let signals = Signals::catch().map_err(StartError::Machine)?;
    for warning in &config.warnings {
        tracing::warn!(warning, "configuration");
    }
    let Bound { app, opened } = bind(config, explicit).await?;
    let running = app.serve().await;
    members::watch(config, &running, config.limits.leases.members_look_interval);
    until_told(vec![running], signals, config.limits.ending.drain).await;
    opened.close().await;
    Ok(())
}

/// A member whose stores and sockets are open.
pub struct Bound {
    /// The member.
    pub app: App,
    opened: OpenStores,
}

/// The part of a start that can be refused. Nothing is served yet.
///
/// # Errors
/// [`StartError`].
pub async fn bind(config: &Config, explicit: Option<&str>) -> Result<Bound, StartError> {
    let spec = member_spec(config, explicit)?;
    let opened = storage::open(&config.storage, &spec.limits).await?;
    let app = App::bind(spec, opened.stores()).await?;
    Ok(Bound { app, opened })
}

/// Lets members run until a signal comes, then ends them; a second signal ends them at once.
pub(super) async fn until_told(members: Vec<Running>, mut signals: Signals, drain_time: std::time::Duration) {
    let name = signals.next().await;
    tracing::info!(signal = name, "ending: finishing what is in flight");
    let drained = async {
        // All say so first: members that all end need no time to see each other leave.
        futures_util::future::join_all(members.iter().map(Running::leave)).await;
        let drains = members.into_iter().map(|member| member.drain(drain_time));
        futures_util::future::join_all(drains).await;
    };
    tokio::select! {
        () = drained => {}
        name = signals.next() => tracing::warn!(signal = name, "ending at once"),
    }
}

fn member_spec(config: &Config, explicit: Option<&str>) -> Result<MemberSpec, StartError> {
    let public = resolve(&config.listen)?;
    let id = match &config.cluster {
        Some(cluster) => {
            Machine::ask()
                .map_err(StartError::Machine)?
                .member(cluster, &config.listen, explicit)?
        }
        None => own_name(public)?,
    };
    let mesh = config
        .cluster
        .as_ref()
        .map(|cluster| mesh_spec(cluster, config, &id))
        .transpose()?;
    Ok(MemberSpec {
        id,
        public,
        public_tls: config.public_tls.as_ref().map(public_tls),
        gate: GateSpec::from(config),
        mesh,
        rate_limits: config.rate_limits.clone(),
        external_url: config.external_url.clone(),
        quotas: Quotas::new(config.quotas.clone()),
        immutable: Immutable::new(config.immutable_tags.clone()),
        verify_reads: config.verify_reads,
        delivery: config.delivery.clone(),
        sparse_indexes: config.sparse_indexes.clone(),
        sync: config.sync.clone(),
        replicate: config.replicate.clone(),
        collecting: config.collecting,
        extensions: config.extensions.clone(),
        retention: config.retention.clone(),
        limits: config.limits,
    })
}

pub(super) fn mesh_spec(cluster: &Cluster, config: &Config, me: &MemberId) -> Result<MeshSpec, StartError> {
    let listen = resolve(&cluster.mesh_listen(&config.listen))?;
    let membership = match (&cluster.members, &cluster.tls.member_san) {
        (Some(members), _) => Membership::Listed(members::addressed(cluster, members)),
        (None, Some(san)) => Membership::Dynamic { san: san.clone() },
        (None, None) => return Err(StartError::NoMembers),
    };
    // Where nobody lists this member, others need an address that leads here: a name may be of this machine only.
    let address = match &membership {
        Membership::Dynamic { .. } if !listen.ip().is_unspecified() => listen.to_string(),
        Membership::Dynamic { .. } | Membership::Listed(_) => members::mesh_address(cluster, me),
    };
    Ok(MeshSpec {
        listen,
        address,
        membership,
        shared: members::shared_settings(cluster, &config.storage),
        hash_key: cluster.hash_key,
        tls: cluster.tls.clone(),
    })
}

/// The name of a member by itself: nobody else needs to know it.
fn own_name(public: SocketAddr) -> Result<MemberId, StartError> {
    let port = public.port().max(1);
    MemberId::parse(&SocketAddr::new(public.ip(), port).to_string())
        .map_err(|_| StartError::Name { address: public })
}

pub(super) fn resolve(listen: &Listen) -> Result<SocketAddr, StartError> {
    match &listen.address {
        ListenAddress::Ip(ip) => Ok(SocketAddr::new(*ip, listen.port)),
        ListenAddress::Name(name) => {
            let fault = |source| StartError::Resolve {
                name: name.clone(),
                source,
            };
            let mut addresses = (name.as_str(), listen.port).to_socket_addrs().map_err(fault)?;
            addresses
                .next()
                .ok_or_else(|| fault(std::io::ErrorKind::NotFound.into()))
        }
    }
}
