//! The public service: everything that happens to a client's request before someone serves it.
//!
//! It is the list in [`front`], outermost first. What may be asked for at all is the list in [`surface`]. A route comes out at
//! its end as [`Admitted`](crate::admission::Admitted) and goes to the mesh, which finds the owner; all else is answered here.
//! Absent on purpose: any knowledge of owners, and what a route means: that is the local service's.

mod access;
mod admit;
mod caching;
mod exchange;
mod identify;
mod ratelimit;
mod responses;
mod room;
mod step;
mod surface;
mod wellformed;

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::{HeaderValue, Response};
use tokio_util::sync::CancellationToken;
use tower::{Layer as _, util::BoxCloneSyncService};

pub use self::{exchange::Arrival, surface::probes::Probes};
use self::{
    step::step,
    surface::{
        Surfaces, cors::Origins, dress, events, extensions, keys, metrics, mirror, page, retention, search,
        sessions, tokens, watching,
    },
};
use crate::{
    admission::{Body, Service},
    auth::Gate,
    config::{Limits, Logins, RateLimits, Retention},
    events::Pages,
    net::Shares,
    placement::MemberId,
    registry::Registry,
    replication::Standings,
    search::Search,
    sync::Mirror,
    telemetry::Metrics,
    ui::Ui,
};

/// The public service.
pub type Front = BoxCloneSyncService<Arrival, Response<Body>, Infallible>;

/// What the front is made of.
pub struct FrontParts {
    /// This member, for logs.
    pub me: MemberId,
    /// Who decides what callers may do.
    pub gate: Arc<Gate>,
    /// Answers `/livez` and its like.
    pub probes: Probes,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// For requests that are taken on.
    pub permits: Shares,
    /// Bounds.
    pub limits: Limits,
    /// How many requests a client may make.
    pub rate_limits: RateLimits,
    /// How clients see the registry, `scheme://host` and perhaps `:port`: what stands before the path in `Location`. `None`
    /// leaves it at the path.
    pub external_url: Option<String>,
    /// What is offered beside the distribution API; `None` is nothing.
    pub extensions: Option<ExtensionParts>,
    /// The page, and what it asks browsers that haven't logged in; `None` is none.
    pub page: Option<PageParts>,
    /// What changed.
    pub events: Pages,
    /// What is mirrored; `None` is nothing.
    pub mirror: Option<Mirror>,
    /// What is carried on to other registries, if anything.
    pub replication: Option<Standings>,
    /// What plans of retention are made with.
    pub retention: RetentionParts,
    /// Where admitted requests go.
    pub mesh: Service,
}

/// What zot's extensions are made of.
pub struct ExtensionParts {
    /// What is found.
    pub search: Arc<Search>,
    /// Where users' preferences are.
    pub registry: Arc<Registry>,
    /// Origins whose pages may ask; without any, all.
    pub origins: Vec<String>,
    /// How one logs in, as it is told to everybody.
    pub logins: Logins,
}

/// What plans of retention are made with.
pub struct RetentionParts {
    /// Where they are kept, and what they are about.
    pub registry: Arc<Registry>,
    /// What is kept.
    pub policies: Retention,
    /// How long one request carries a plan on.
    pub step: Duration,
}

/// What the page is made of.
pub struct PageParts {
    /// It.
    pub ui: Ui,
    /// What a browser shows its form for names and passwords by; `None` where there are no passwords.
    pub challenge: Option<HeaderValue>,
    /// What goes on by itself ends with this.
    pub end: CancellationToken,
}

impl ExtensionParts {
    fn desk(&self) -> extensions::Desk {
        extensions::Desk {
            registry: self.registry.clone(),
            origins: Origins::new(&self.origins),
            logins: Arc::new(extensions::told(&self.logins)),
        }
    }

    fn search_desk(self) -> search::Desk {
        search::Desk {
            search: self.search,
            origins: Origins::new(&self.origins),
        }
    }
}

/// The public service over `parts`.
pub fn front(parts: FrontParts) -> Front {
    let FrontParts {
        me,
        gate,
        probes,
        metrics,
        permits,
        limits,
        rate_limits,
        external_url,
        extensions,
        page,
        events,
        mirror,
        replication,
        retention,
        mesh,
    } = parts;
    let external_url: Option<Arc<str>> = external_url.map(Into::into);
    let surfaces = Surfaces {
        probes,
        metrics: metrics::Desk(metrics.clone()),
        keys: gate.api_keys().cloned().map(keys::Desk),
        tokens: gate.issuer().cloned().map(tokens::Desk),
        sessions: gate.people().cloned().map(sessions::Desk),
        extensions: extensions.as_ref().map(ExtensionParts::desk),
        search: extensions.map(ExtensionParts::search_desk),
        page: None,
        events: events::Desk(events),
        mirror: (mirror.is_some() || replication.is_some()).then_some(mirror::Desk { mirror, replication }),
        retention: retention::Desk {
            registry: retention.registry,
            policies: Arc::new(retention.policies),
            step: retention.step,
        },
    };
    let way = Way {
        me,
        metrics,
        external_url: external_url.clone(),
        rates: Arc::new(ratelimit::Rates::new(&rate_limits, limits.front.rated_clients)),
        gate,
        permits,
        limits,
        mesh,
    };
    let Some(PageParts { ui, challenge, end }) = page else {
        return way.of(surfaces);
    };
    // What the page asks goes the same way, for the same clients, with the same bounds; but no page is asked by a page.
    let desk = page::Desk {
        ui,
        inside: way.of(surfaces.clone()),
        external_url,
        challenge,
        watching: watching::Watching::new(limits.front.watchers, end),
    };
    way.of(Surfaces {
        page: Some(desk),
        ..surfaces
    })
}

/// What a request meets on its way.
struct Way {
    me: MemberId,
    metrics: Arc<Metrics>,
    external_url: Option<Arc<str>>,
    rates: Arc<ratelimit::Rates>,
    gate: Arc<Gate>,
    permits: Shares,
    limits: Limits,
    mesh: Service,
}

impl Way {
    /// The way of a request, from top to bottom, and of its response, back up.
    fn of(&self, surfaces: Surfaces) -> Front {
        let Self {
            me,
            metrics,
            external_url,
            rates,
            gate,
            permits,
            limits,
            mesh,
        } = self;
        // First whatever it is,
        let any = (
            // A name for it, on every response.
            step(identify::Identify),
            // Counted, and a line in the log when its response's body has ended.
            step(access::Access {
                me: me.clone(),
                metrics: metrics.clone(),
            }),
            // What took how long, on every response.
            step(access::Timing),
            // That this is a registry, and where the way goes on, as clients see it.
            step(responses::Api {
                external_url: external_url.clone(),
            }),
            // A response to HEAD has no body; one that is empty is read to its end.
            step(responses::Bodiless),
            // What people look at says so to their browsers.
            step(dress::Dress {
                desk: surfaces.page.clone(),
            }),
            // A panic is one request's failure.
            step(responses::Contain),
            // It can be read in one way only.
            step(wellformed::WellFormed),
            // What it asks for.
            step(admit::Parse { surfaces }),
        );
        // then as something that there is.
        let known = (
            // Who guesses passwords doesn't get to guess on.
            step(ratelimit::Guesses {
                rates: rates.clone(),
                gate: gate.clone(),
            }),
            // Where there is no room, when to come again.
            step(room::TryAgain),
            // Who asks, and what they may. Credentials end here.
            step(admit::Authorise { gate: gate.clone() }),
            // Who may keep the answer.
            step(caching::Caching {
                public_max_age: limits.front.public_max_age,
            }),
            // They haven't asked too often.
            step(ratelimit::RateLimit { rates: rates.clone() }),
            // There is room for it until its response's body has ended.
            step(room::Admit::new(permits.clone(), limits)),
            // Whoever it is for answers, and nobody waits for ever.
            step(admit::Dispatch { limits: limits.front }),
        );
        Front::new(any.layer(known.layer(mesh.clone())))
    }
}

#[cfg(test)]
mod tests;
