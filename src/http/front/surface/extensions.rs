//! What stands beside the distribution API by zot's names, and is answered by any member: which extensions there are
//! (`/v2/_oci/ext/discover`), how one can log in (`/v2/_zot/ext/mgmt`), and what users like (`/v2/_zot/ext/userprefs`); and the
//! repositories below a name (`/v2/<name>/_oci/repositories`), as is proposed for the specification.

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{
    super::exchange::{Change, Exchange},
    cors::Origins,
    form::Form,
    reading::{Read, wrong_method},
    search,
};
use crate::{
    admission::Body,
    auth::Decision,
    config::{Logins, access::ApiKeys},
    http::{
        error::{self, Answer},
        reply::{Reply, next_page},
    },
    oci::{Effect, Page, RepoName, RouteError},
    registry::{Registry, Toggle},
};

/// As the log calls them.
pub(in crate::http::front) const NAME: &str = "extensions";

const DISCOVER: &str = "/v2/_oci/ext/discover";
const MANAGEMENT: &str = "/v2/_zot/ext/mgmt";
/// As the specification's pull request 611 has it.
const REPOSITORIES: &str = "/_oci/repositories";
const PREFERENCES: &str = "/v2/_zot/ext/userprefs";

/// What of this the member offers.
#[derive(Clone)]
pub(in crate::http::front) struct Desk {
    pub(in crate::http::front) registry: Arc<Registry>,
    pub(in crate::http::front) origins: Origins,
    /// What is told of how one can log in.
    pub(in crate::http::front) logins: Arc<Value>,
}

pub(in crate::http::front) struct Request {
    desk: Desk,
    errand: Errand,
    /// Of a page that may ask by `http.allowOrigin`.
    is_admitted: bool,
}

/// What is asked for.
enum Errand {
    /// Whether a page may ask.
    Preflight { methods: &'static str },
    /// Which extensions there are.
    Discover,
    /// How one can log in.
    Management,
    /// Which repositories there are, in all or below one of their names.
    Repositories { below: Option<RepoName>, page: Page },
    /// To change one's mind.
    Prefer { what: Toggle, repository: RepoName },
}

const READ: &str = "GET,OPTIONS";
const CHANGE: &str = "PUT,OPTIONS";

impl Desk {
    pub(super) fn read(&self, request: &http::Request<Body>) -> Read<Request> {
        let errand = Errand::read(request)?;
        let desk = self.clone();
        let is_admitted = desk.origins.admit(request.headers());
        Some(errand.map(|errand| Request {
            desk,
            errand,
            is_admitted,
        }))
    }
}

impl Errand {
    fn read(request: &http::Request<Body>) -> Read<Self> {
        let (path, method) = (request.uri().path(), request.method());
        if let Some(below) = Self::repositories(path) {
            return Some(match *method {
                Method::GET | Method::HEAD => {
                    below.and_then(|below| Self::listed(below, request.uri().query()))
                }
                Method::OPTIONS => Ok(Self::Preflight { methods: READ }),
                ref other => Err(wrong_method("GET, HEAD, OPTIONS", other)),
            });
        }
        let (methods, allow) = match path {
            DISCOVER | MANAGEMENT => (READ, "GET, HEAD, OPTIONS"),
            PREFERENCES => (CHANGE, "PUT, OPTIONS"),
            _ => return None,
        };
        Some(match (path, method) {
            (_, &Method::OPTIONS) => Ok(Self::Preflight { methods }),
            (DISCOVER, &Method::GET | &Method::HEAD) => Ok(Self::Discover),
            (MANAGEMENT, &Method::GET | &Method::HEAD) => Ok(Self::Management),
            (PREFERENCES, &Method::PUT) => Self::prefer(request.uri().query().unwrap_or_default()),
            (_, other) => Err(wrong_method(allow, other)),
        })
    }

    /// Below what, if that is what the path asks for.
    fn repositories(path: &str) -> Option<Result<Option<RepoName>, Answer>> {
        let folder = path.strip_suffix(REPOSITORIES)?.strip_prefix("/v2")?;
        match folder.strip_prefix('/') {
            None if folder.is_empty() => Some(Ok(None)),
            None => None,
            Some(folder) => {
                let folder = RepoName::parse(folder).map(Some);
                Some(folder.map_err(|_| error::route(&RouteError::NameInvalid, &Method::GET)))
            }
        }
    }

    fn listed(below: Option<RepoName>, query: Option<&str>) -> Result<Self, Answer> {
        let form = Form(query.unwrap_or_default());
        let page = Page::parse(form.first("n").as_deref(), form.first("last").as_deref());
        let page = page.map_err(|_| error::route(&RouteError::PageInvalid, &Method::GET))?;
        Ok(Self::Repositories { below, page })
    }

    fn prefer(query: &str) -> Result<Self, Answer> {
        let form = Form(query);
        let what = match form.first("action").as_deref() {
            Some("toggleStar") => Toggle::Star,
            Some("toggleBookmark") => Toggle::Bookmark,
            Some(_) | None => {
                let expected = "action=toggleStar or action=toggleBookmark is expected";
                return Err(error::bad_preference(expected));
            }
        };
        let repository = form.first("repo");
        let repository = repository.as_deref().map(RepoName::parse);
        match repository {
            Some(Ok(repository)) => Ok(Self::Prefer { what, repository }),
            Some(Err(_)) | None => Err(error::bad_preference(
                "repo= with a repository's name is expected",
            )),
        }
    }

    fn methods(&self) -> &'static str {
        match self {
            Self::Preflight { methods } => methods,
            Self::Discover | Self::Management | Self::Repositories { .. } => READ,
            Self::Prefer { .. } => CHANGE,
        }
    }
}

impl Request {
    /// Whether it depends on who asks.
    pub(super) fn is_personal(&self) -> bool {
        match self.errand {
            Errand::Prefer { .. } | Errand::Repositories { .. } => true,
            Errand::Preflight { .. } | Errand::Discover | Errand::Management => false,
        }
    }

    /// Whether a page asks, of whichever origin, that is told that it may.
    pub(super) fn is_admitted(&self) -> bool {
        self.is_admitted
    }

    pub(super) fn effect(&self) -> Effect {
        match self.errand {
            Errand::Prefer { .. } => Effect::Unsafe,
            Errand::Repositories { .. }
            | Errand::Preflight { .. }
            | Errand::Discover
            | Errand::Management => Effect::Safe,
        }
    }

    pub(super) fn repository(&self) -> Option<&RepoName> {
        match &self.errand {
            Errand::Prefer { repository, .. } => Some(repository),
            Errand::Preflight { .. }
            | Errand::Discover
            | Errand::Management
            | Errand::Repositories { .. } => None,
        }
    }

    pub(super) fn change(&self) -> Option<Change> {
        let Errand::Prefer { what, .. } = &self.errand else {
            return None;
        };
        let what = match what {
            Toggle::Star => "toggle_star",
            Toggle::Bookmark => "toggle_bookmark",
        };
        Some(Change { what, subject: None })
    }

    pub(in crate::http::front) async fn answer(
        self,
        exchange: Exchange,
        decision: Decision,
    ) -> Result<Response<Body>, Answer> {
        let Self { desk, errand, .. } = self;
        let methods = errand.methods();
        let mut reply = match errand {
            Errand::Preflight { .. } => Reply::new(StatusCode::NO_CONTENT).empty(),
            Errand::Discover => discovered(),
            Errand::Management => {
                let body = json!({
                    "distSpecVersion": "1.1.1",
                    "commit": "",
                    "releaseTag": "",
                    "binaryType": "",
                    "http": { "auth": &*desk.logins },
                });
                Reply::new(StatusCode::OK)
                    .no_store()
                    .header("x-content-type-options", "nosniff")
                    .json(&body)
            }
            Errand::Repositories { below, page } => {
                let visible = decision.grants.visible();
                let names = match &below {
                    Some(folder) => {
                        let included = |name: &RepoName| visible.includes(name);
                        desk.registry.catalog_below(folder, &page, &included).await
                    }
                    None => {
                        desk.registry
                            .catalog_of(&page, &|name| visible.includes(name))
                            .await
                    }
                };
                let names = names.map_err(|error| error::registry(&error))?;
                let body: Vec<Value> = names.names.iter().map(|name| json!({ "name": name })).collect();
                let mut reply = Reply::new(StatusCode::OK).no_store();
                if let (true, Some(last)) = (names.more, names.names.last()) {
                    let limit = page.limit.to_string();
                    let next = next_page(exchange.request.uri().path(), &[("n", &limit), ("last", last)]);
                    reply = reply.header("link", next);
                }
                reply.json(&Value::Array(body))
            }
            Errand::Prefer { what, repository } => {
                // Who hasn't logged in has no mind that could be kept; who may not read the repository isn't told that it exists.
                let user = decision.identity.user.as_deref();
                let user = user.filter(|_| decision.grants.visible().includes(&repository));
                let Some(user) = user else {
                    return Err(error::not_covered());
                };
                let toggled = desk.registry.toggle(user, &repository, what).await;
                toggled.map_err(|error| error::registry(&error))?;
                Reply::new(StatusCode::OK).no_store().empty()
            }
        };
        let headers = reply.headers_mut();
        desk.origins.say(exchange.request.headers(), methods, headers);
        Ok(reply)
    }
}

/// What everybody is told of how one logs in, in zot's words.
pub(in crate::http::front) fn told(logins: &Logins) -> Value {
    let mut told = json!({});
    // As zot says it, for both are asked for in the same way.
    if logins.htpasswd.is_some() || logins.ldap.is_some() {
        told["htpasswd"] = json!({});
    }
    if let Some(bearer) = &logins.bearer {
        told["bearer"] = json!({ "realm": bearer.realm, "service": bearer.service });
    }
    if let Some(openid) = &logins.openid {
        let providers = openid.providers.iter();
        let named = providers.map(|one| (one.kind.as_str().to_owned(), json!({ "name": one.name })));
        told["openid"] = json!({ "providers": named.collect::<serde_json::Map<_, _>>() });
    }
    if logins.api_keys == ApiKeys::On {
        told["apikey"] = json!(true);
    }
    told
}

/// In the form of the specification's extensions API.
fn discovered() -> Response<Body> {
    let endpoints = [search::PATH, PREFERENCES, MANAGEMENT];
    let body = json!({ "extensions": [{
        "name": "_zot",
        "url": "https://github.com/project-zot/zot/blob/main/pkg/extensions/_zot.md",
        "description": "zot's extensions",
        "endpoints": endpoints,
    }]});
    Reply::new(StatusCode::OK).no_store().json(&body)
}
