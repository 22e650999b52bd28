//! All that a client may ask for on the public port, as one value that is read once and drives everything after it.
//!
//! What isn't the distribution API has a file of its own here: how it is read off a request (whatever isn't its own it
//! declines, then the next one is asked), and how it is answered, of a [`Decision`] that somebody else made. One that its
//! member doesn't offer declines everything. Each variant says in [`Surface::facts`] what it needs to be decided about; the
//! gate alone decides. Whether a repository's owner has to answer is told by the variant: those are routes, and all of them are
//! [`Surface::Registry`].

pub(super) mod cors;
pub(super) mod dress;
pub(super) mod events;
pub(super) mod extensions;
mod form;
pub(super) mod keys;
pub(super) mod metrics;
pub(super) mod mirror;
pub(super) mod page;
pub(super) mod probes;
mod reading;
pub(super) mod retention;
pub(super) mod search;
pub(super) mod sessions;
pub(super) mod tokens;
mod visit;
pub(super) mod watching;

use self::reading::Read;
use super::exchange::{Change, Exchange};
use crate::{
    auth::{Decision, Pages, Wanted},
    http::error::{self, Answer},
    oci::{Effect, RepoName, Route},
};

/// What somebody asks for.
pub(super) enum Surface {
    /// The distribution API. Its owner answers.
    Registry(Route),
    /// Whether this member lives, and should be sent requests.
    Probe(probes::Request),
    /// What it has counted.
    Metrics(metrics::Request),
    /// API keys.
    Keys(keys::Request),
    /// A token.
    Token(tokens::Request),
    /// To log in by a browser, or out.
    Session(sessions::Request),
    /// Which extensions there are, and the small ones.
    Extension(extensions::Request),
    /// To find something.
    Search(search::Request),
    /// To look at the page.
    Page(Box<page::Request>),
    /// What changed.
    Events(events::Request),
    /// How mirroring ahead of time and replication go, or to go on with them now.
    Mirror(mirror::Request),
    /// What retention would delete.
    Retention(retention::Request),
}

/// What the front has to know about a request.
pub(super) struct Facts<'a> {
    /// Out of a fixed set, for logs and metric labels.
    pub(super) name: &'static str,
    /// What is to be decided.
    pub(super) wanted: Wanted<'a>,
    /// Whether it may change anything.
    pub(super) effect: Effect,
    pub(super) cost: Cost,
}

/// What it takes to be answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cost {
    /// Nothing: whoever watches the member asks, also while it is full.
    Nothing,
    /// It counts as a request of its client's.
    Count,
    /// It takes a permit, too.
    Permit,
}

/// What this member offers.
#[derive(Clone)]
pub(super) struct Surfaces {
    pub(super) probes: probes::Probes,
    pub(super) metrics: metrics::Desk,
    pub(super) keys: Option<keys::Desk>,
    pub(super) tokens: Option<tokens::Desk>,
    pub(super) sessions: Option<sessions::Desk>,
    pub(super) extensions: Option<extensions::Desk>,
    pub(super) search: Option<search::Desk>,
    pub(super) page: Option<page::Desk>,
    pub(super) events: events::Desk,
    pub(super) mirror: Option<mirror::Desk>,
    pub(super) retention: retention::Desk,
}

/// A request that asks for nothing, or not in the right way.
pub(super) struct Unreadable {
    /// The surface whose it would be.
    pub(super) name: Option<&'static str>,
    pub(super) answer: Answer,
}

impl Surfaces {
    /// Reads what is asked for.
    pub(super) async fn read(&self, exchange: &mut Exchange) -> Result<Surface, Unreadable> {
        if let Some(read) = named(probes::NAME, self.probes.read(&exchange.request)) {
            return read.map(Surface::Probe);
        }
        if let Some(read) = named(metrics::NAME, self.metrics.read(&exchange.request)) {
            return read.map(Surface::Metrics);
        }
        if let Some(desk) = &self.keys
            && let Some(read) = named(keys::NAME, desk.read(&exchange.request))
        {
            return read.map(Surface::Keys);
        }
        if let Some(desk) = &self.tokens
            && let Some(read) = named(tokens::NAME, desk.read(exchange).await)
        {
            return read.map(Surface::Token);
        }
        if let Some(desk) = &self.sessions
            && let Some(read) = named(sessions::NAME, desk.read(&exchange.request))
        {
            return read.map(Surface::Session);
        }
        if let Some(desk) = &self.search
            && let Some(read) = named(search::NAME, desk.read(&exchange.request))
        {
            return read.map(Surface::Search);
        }
        if let Some(desk) = &self.extensions
            && let Some(read) = named(extensions::NAME, desk.read(&exchange.request))
        {
            return read.map(Surface::Extension);
        }
        if let Some(desk) = &self.page
            && let Some(read) = named(page::NAME, desk.read(exchange))
        {
            return read.map(|request| Surface::Page(Box::new(request)));
        }
        if let Some(read) = named(events::NAME, self.events.read(&exchange.request)) {
            return read.map(Surface::Events);
        }
        if let Some(desk) = &self.mirror
            && let Some(read) = named(mirror::NAME, desk.read(&exchange.request))
        {
            return read.map(Surface::Mirror);
        }
        if let Some(read) = named(retention::NAME, self.retention.read(&exchange.request)) {
            return read.map(Surface::Retention);
        }
        let (method, uri) = (exchange.request.method(), exchange.request.uri());
        let route = Route::parse(method, uri.path(), uri.query());
        route.map(Surface::Registry).map_err(|error| Unreadable {
            name: None,
            answer: error::front(&error.into(), method),
        })
    }
}

fn named<T>(name: &'static str, read: Read<T>) -> Option<Result<T, Unreadable>> {
    let name = Some(name);
    read.map(|read| read.map_err(|answer| Unreadable { name, answer }))
}

impl Surface {
    /// The one place where everything that can be asked for says what it is.
    pub(super) fn facts(&self) -> Facts<'_> {
        match self {
            Self::Registry(route) => Facts {
                name: route.name(),
                wanted: Wanted::Route(route),
                effect: route.effect(),
                cost: Cost::Permit,
            },
            Self::Probe(_) => Facts {
                name: probes::NAME,
                wanted: Wanted::Open,
                effect: Effect::Safe,
                cost: Cost::Nothing,
            },
            Self::Metrics(_) => Facts {
                name: metrics::NAME,
                wanted: Wanted::Metrics,
                effect: Effect::Safe,
                cost: Cost::Nothing,
            },
            Self::Keys(request) => Facts {
                name: keys::NAME,
                wanted: Wanted::Keys(request.whose()),
                effect: request.effect(),
                cost: Cost::Count,
            },
            Self::Token(request) => Facts {
                name: tokens::NAME,
                wanted: Wanted::Token(request.shown()),
                effect: Effect::Safe,
                cost: Cost::Count,
            },
            Self::Session(request) => Facts {
                name: sessions::NAME,
                wanted: request.wanted(),
                effect: request.effect(),
                cost: Cost::Count,
            },
            Self::Extension(request) => Facts {
                name: extensions::NAME,
                wanted: match request.is_personal() {
                    true => Wanted::Search,
                    false => Wanted::Open,
                },
                effect: request.effect(),
                cost: Cost::Count,
            },
            Self::Search(request) => Facts {
                name: search::NAME,
                wanted: match request.is_preflight() {
                    true => Wanted::Open,
                    false => Wanted::Search,
                },
                effect: Effect::Safe,
                cost: Cost::Permit,
            },
            Self::Events(_) => Facts {
                name: events::NAME,
                wanted: Wanted::Search,
                effect: Effect::Safe,
                cost: Cost::Permit,
            },
            Self::Mirror(request) => Facts {
                name: mirror::NAME,
                wanted: request.wanted(),
                effect: request.effect(),
                cost: Cost::Permit,
            },
            Self::Retention(request) => Facts {
                name: retention::NAME,
                wanted: Wanted::Everywhere(request.takes()),
                effect: request.effect(),
                cost: Cost::Permit,
            },
            // What it asks takes the permits.
            Self::Page(request) => Facts {
                name: request.name(),
                wanted: request.wanted(),
                effect: request.effect(),
                cost: Cost::Count,
            },
        }
    }

    /// From whose pages it is taken.
    pub(super) fn pages(&self) -> Pages {
        match (self.facts().effect, self) {
            (Effect::Safe, _) => Pages::All,
            (Effect::Unsafe, Self::Extension(request)) if request.is_admitted() => Pages::All,
            (Effect::Unsafe, _) => Pages::Own,
        }
    }

    /// The repository that it is about.
    pub(super) fn repository(&self) -> Option<&RepoName> {
        match self {
            Self::Registry(route) => route.repository(),
            Self::Extension(request) => request.repository(),
            Self::Page(request) => request.repository(),
            Self::Probe(_)
            | Self::Metrics(_)
            | Self::Keys(_)
            | Self::Token(_)
            | Self::Session(_)
            | Self::Search(_)
            | Self::Events(_)
            | Self::Mirror(_)
            | Self::Retention(_) => None,
        }
    }

    /// What the audit says that is to be changed.
    pub(super) fn change(&self) -> Option<Change> {
        match self {
            Self::Registry(route) => (route.effect() == Effect::Unsafe).then(|| Change {
                what: route.name(),
                subject: route.subject(),
            }),
            Self::Keys(request) => request.change(),
            Self::Token(request) => request.change(),
            Self::Session(request) => request.change(),
            Self::Extension(request) => request.change(),
            Self::Mirror(request) => request.change(),
            Self::Retention(request) => request.change(),
            // What it changes is a request of its own.
            Self::Probe(_) | Self::Metrics(_) | Self::Search(_) | Self::Events(_) | Self::Page(_) => None,
        }
    }

    /// A refusal, also in the words that its clients read.
    pub(super) fn worded(&self, refusal: Answer) -> Answer {
        match self {
            Self::Token(request) => request.worded(refusal),
            Self::Registry(_)
            | Self::Probe(_)
            | Self::Metrics(_)
            | Self::Keys(_)
            | Self::Session(_)
            | Self::Extension(_)
            | Self::Search(_)
            | Self::Events(_)
            | Self::Mirror(_)
            | Self::Retention(_)
            | Self::Page(_) => refusal,
        }
    }
}

/// A request of which it is known what it asks for.
pub(super) struct Asking {
    pub(super) exchange: Exchange,
    pub(super) surface: Surface,
}

/// A request that was decided about.
pub(super) struct Decided {
    pub(super) exchange: Exchange,
    pub(super) surface: Surface,
    pub(super) decision: Decision,
}
