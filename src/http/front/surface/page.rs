//! The page (`extensions.ui`): which paths it has, and which forms. What it shows is [`ui`](crate::ui)'s.
//!
//! | path | is |
//! |---|---|
//! | `/` | repositories, all or those that are searched for |
//! | `/image/<name>` | a repository; with `:<tag>` or `@<digest>` what that names |
//! | `/delete/<name>:<tag>`, `/delete/<name>@<digest>` | what would go; by POST it does |
//! | `/mesh` | the members of the mesh and what they do; `/mesh/live` the same, again and again |
//! | `/keys` | API keys; by POST one is made or ends |
//! | `/restore/<name>:<tag>` | by POST the tag names again what it named |
//! | `/login` | the ways to log in; with `?by=password` by that; `/logout` by POST the way out |
//! | `/assets/…` | stylesheet, script, icon |
//!
//! Whoever opens a page is decided about as who wants to find what they may read, or to see the mesh. All that it shows or changes then goes
//! through the front once more, as requests of the visitor's own, and each is decided about by itself.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use percent_encoding::percent_decode_str;
use tokio::time::timeout;

use super::{
    super::{Front, exchange::Exchange},
    form::Form,
    reading::{Read, wrong_method},
    visit::Visit,
    watching::Watching,
};
use crate::{
    admission::Body,
    auth::{Decision, Right, Wanted},
    http::{
        error::{self, Answer},
        reply::Reply,
    },
    net::Caller,
    oci::{Effect, Reference, RepoName, RouteError, Tag},
    ui::{ASSETS, Asset, Change, Listing, Order, Page, Shown, Ui, Visitor},
};

/// As the log calls it.
pub(in crate::http::front) const NAME: &str = "page";
/// As it calls what goes on for as long as somebody watches: how long that is says nothing of the page.
const WATCH: &str = "page_live";

/// Where one logs in.
pub(super) const LOGIN: &str = "/login";
/// The largest form, in bytes.
const MAX_FORM: usize = 8 * 1024;
/// How long it may take to come.
const FORM_WITHIN: Duration = Duration::from_secs(10);
/// The furthest that a list is looked at.
const MAX_OFFSET: usize = 1_000_000;

/// What answers browsers.
#[derive(Clone)]
pub(in crate::http::front) struct Desk {
    pub(in crate::http::front) ui: Ui,
    /// The front without the page.
    pub(in crate::http::front) inside: Front,
    /// How clients reach the registry, where that is configured.
    pub(in crate::http::front) external_url: Option<Arc<str>>,
    /// What a browser is to show its own form for names and passwords by; `None` where there are no passwords.
    pub(in crate::http::front) challenge: Option<HeaderValue>,
    pub(in crate::http::front) watching: Watching,
}

pub(in crate::http::front) struct Request {
    desk: Desk,
    errand: Errand,
    visit: Visit,
}

enum Errand {
    Asset(&'static Asset, Lasting),
    Show(Page),
    /// The mesh, for as long as somebody looks.
    Watch,
    /// To choose how to log in.
    Choose,
    /// A form was sent to this path.
    Form(Sent),
    Elsewhere(&'static str),
}

/// Whose form.
enum Sent {
    Delete { name: RepoName, reference: Reference },
    Restore { name: RepoName, tag: Tag },
    LogOut,
    Keys,
}

/// Whether a file was asked for by its version.
enum Lasting {
    Yes,
    No,
}

impl Desk {
    /// Whether a path is the page's.
    pub(super) fn owns(path: &str) -> bool {
        let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        matches!(
            first,
            "" | "image"
                | "delete"
                | "restore"
                | "keys"
                | "login"
                | "logout"
                | "mesh"
                | "assets"
                | "home"
                | "explore"
        )
    }

    pub(super) fn read(&self, exchange: &Exchange) -> Read<Request> {
        let request = &exchange.request;
        if !Self::owns(request.uri().path()) {
            return None;
        }
        let errand = Errand::read(request.method(), request.uri(), &self.ui);
        Some(errand.map(|errand| Request {
            desk: self.clone(),
            errand,
            visit: Visit::of(exchange),
        }))
    }
}

impl Errand {
    fn read(method: &Method, uri: &Uri, ui: &Ui) -> Result<Self, Answer> {
        let not_found = || error::route(&RouteError::NotFound, method);
        let path = percent_decode_str(uri.path())
            .decode_utf8()
            .map_err(|_| not_found())?;
        let form = Form(uri.query().unwrap_or_default());
        let errand = match path.split_once('/').map_or("", |(_, rest)| rest) {
            "" => Self::Show(Page::Repositories(listing(form))),
            // Where zot's page begins.
            "home" | "explore" => Self::Elsewhere("/"),
            "keys" if *method == Method::POST => Self::Form(Sent::Keys),
            "keys" => Self::Show(Page::Keys),
            "mesh" => Self::Show(Page::Mesh),
            "mesh/live" => Self::Watch,
            "login" if ui.has_choice() && word(form, "by", 8) != "password" => Self::Choose,
            "login" => Self::Show(Page::Login),
            "logout" if *method == Method::POST => Self::Form(Sent::LogOut),
            "logout" => return Err(wrong_method("POST", method)),
            rest => match rest.split_once('/') {
                Some(("image", named)) => Self::image(named, form).ok_or_else(not_found)?,
                Some(("restore", named)) => match named_by(named).ok_or_else(not_found)? {
                    (name, Some(Reference::Tag(tag))) if *method == Method::POST => {
                        Self::Form(Sent::Restore { name, tag })
                    }
                    (_, Some(Reference::Tag(_))) => return Err(wrong_method("POST", method)),
                    (_, Some(Reference::Digest(_)) | None) => return Err(not_found()),
                },
                Some(("delete", named)) => {
                    let (name, reference) = named_by(named).ok_or_else(not_found)?;
                    let reference = reference.ok_or_else(not_found)?;
                    match *method {
                        Method::POST => Self::Form(Sent::Delete { name, reference }),
                        _ => Self::Show(Page::AskDelete { name, reference }),
                    }
                }
                Some(_) | None => Self::asset(&path, form).ok_or_else(not_found)?,
            },
        };
        match (&errand, method) {
            (Self::Form(_), _) => Ok(errand),
            // A stream has no end that a head could tell of.
            (Self::Watch, &Method::GET) => Ok(errand),
            (Self::Watch, other) => Err(wrong_method("GET", other)),
            (_, &Method::GET | &Method::HEAD) => Ok(errand),
            (_, other) => Err(wrong_method("GET, HEAD", other)),
        }
    }

    fn image(named: &str, form: Form<'_>) -> Option<Self> {
        Some(Self::Show(match named_by(named)? {
            (name, Some(reference)) => Page::Image { name, reference },
            (name, None) => Page::Repository {
                name,
                tag: word(form, "tag", 128),
                offset: offset(form),
            },
        }))
    }

    fn asset(path: &str, form: Form<'_>) -> Option<Self> {
        let asset = ASSETS.iter().find(|asset| asset.path == path)?;
        // Another release's version is for a moment only: its members answer, too.
        let lasting = match form.first("v").as_deref() == Some(&asset.version) {
            true => Lasting::Yes,
            false => Lasting::No,
        };
        Some(Self::Asset(asset, lasting))
    }
}

/// `name`, `name:tag` or `name@digest`.
fn named_by(text: &str) -> Option<(RepoName, Option<Reference>)> {
    let at = text.find(['@', ':']);
    let (name, reference) = at.map_or((text, ""), |at| text.split_at(at));
    let reference = match reference.split_at_checked(1) {
        None => None,
        Some((sign, reference)) => {
            let reference = Reference::parse(reference).ok()?;
            match (sign, &reference) {
                (":", Reference::Tag(_)) | ("@", Reference::Digest(_)) => Some(reference),
                _ => return None,
            }
        }
    };
    Some((RepoName::parse(name).ok()?, reference))
}

fn word(form: Form<'_>, name: &str, most: usize) -> String {
    let said = form.first(name).unwrap_or_default();
    said.trim().chars().take(most).collect()
}

fn offset(form: Form<'_>) -> usize {
    let said = form.first("offset").and_then(|text| text.parse().ok());
    said.unwrap_or(0).min(MAX_OFFSET)
}

fn listing(form: Form<'_>) -> Listing {
    Listing {
        query: word(form, "q", 300),
        os: word(form, "os", 40),
        arch: word(form, "arch", 40),
        signed: word(form, "signed", 1) == "1",
        order: Order::parse(&word(form, "sort", 10)),
        offset: offset(form),
    }
}

impl Request {
    /// As the log and the metrics call it.
    pub(super) fn name(&self) -> &'static str {
        match self.errand {
            Errand::Watch => WATCH,
            Errand::Asset(..) | Errand::Elsewhere(_) | Errand::Choose | Errand::Show(_) | Errand::Form(_) => {
                NAME
            }
        }
    }

    pub(super) fn wanted(&self) -> Wanted<'_> {
        match self.errand {
            Errand::Asset(..) | Errand::Elsewhere(_) | Errand::Choose => Wanted::Open,
            Errand::Show(Page::Mesh) | Errand::Watch => Wanted::Mesh,
            Errand::Show(_) | Errand::Form(_) => Wanted::Search,
        }
    }

    pub(super) fn effect(&self) -> Effect {
        match self.errand {
            Errand::Form(_) => Effect::Unsafe,
            Errand::Asset(..) | Errand::Elsewhere(_) | Errand::Choose | Errand::Show(_) | Errand::Watch => {
                Effect::Safe
            }
        }
    }

    pub(super) fn repository(&self) -> Option<&RepoName> {
        match &self.errand {
            Errand::Show(
                Page::Repository { name, .. } | Page::Image { name, .. } | Page::AskDelete { name, .. },
            )
            | Errand::Form(Sent::Delete { name, .. } | Sent::Restore { name, .. }) => Some(name),
            Errand::Show(Page::Repositories(_) | Page::Mesh | Page::Keys | Page::Login)
            | Errand::Watch
            | Errand::Choose
            | Errand::Form(Sent::Keys | Sent::LogOut)
            | Errand::Asset(..)
            | Errand::Elsewhere(_) => None,
        }
    }

    pub(in crate::http::front) async fn answer(
        self,
        exchange: Exchange,
        decision: Decision,
    ) -> Result<Response<Body>, Answer> {
        let Self { desk, errand, visit } = self;
        let registry = match &desk.external_url {
            Some(url) => url.split_once("://").map_or(&**url, |(_, host)| host),
            None => visit.host(),
        };
        let registry = registry.to_owned();
        let caller = Caller::of(decision.identity.user.as_deref(), Some(exchange.client));
        let mut visitor = None;
        if let Right::Search {
            deletable,
            updatable,
            oversight,
            stay,
        } = decision.right
        {
            visitor = Some(Visitor {
                user: decision.identity.user,
                sees: decision.grants.visible().clone(),
                deletable,
                updatable,
                oversight,
                stay,
                registry,
                ask: visit.ask(desk.inside.clone()),
            });
        }
        let shown = match (errand, visitor) {
            (Errand::Asset(asset, lasting), _) => return Ok(file(asset, &lasting)),
            (Errand::Elsewhere(path), _) => Shown::Elsewhere(path.to_owned()),
            (Errand::Choose, _) => Shown::Html(StatusCode::OK, desk.ui.login()),
            (Errand::Show(page), Some(visitor)) => desk.ui.show(&page, &visitor).await,
            (Errand::Watch, Some(visitor)) => {
                return desk.watching.begin(desk.ui.clone(), visitor, &caller);
            }
            (Errand::Form(form), Some(visitor)) => {
                let change = change(form, exchange.request.into_body()).await?;
                desk.ui.change(&change, &visitor).await
            }
            (Errand::Show(_) | Errand::Form(_) | Errand::Watch, None) => return Err(error::not_covered()),
        };
        Ok(match shown {
            Shown::Html(status, html) => document(status, html),
            Shown::Elsewhere(path) => Reply::new(StatusCode::SEE_OTHER)
                .no_store()
                .location(path)
                .empty(),
            Shown::LogIn => {
                let message = match desk.ui.has_choice() {
                    true => "Log in to see this.",
                    false => "Log in with a name and a password.",
                };
                let html = desk.ui.trouble(None, StatusCode::UNAUTHORIZED, message);
                document(StatusCode::UNAUTHORIZED, html)
            }
            Shown::LoggedOut { cookies, html } => {
                let mut response = document(StatusCode::OK, html);
                for cookie in cookies {
                    response.headers_mut().append(header::SET_COOKIE, cookie);
                }
                response
            }
        })
    }
}

async fn change(form: Sent, body: Body) -> Result<Change, Answer> {
    Ok(match form {
        Sent::Delete { name, reference } => Change::Delete { name, reference },
        Sent::LogOut => Change::LogOut,
        Sent::Restore { name, tag } => {
            let sent = sent(body).await?;
            let at = Form(&sent).first("at").unwrap_or_default();
            Change::Restore { name, tag, at }
        }
        Sent::Keys => {
            let sent = sent(body).await?;
            let text = |name| Form(&sent).first(name).unwrap_or_default();
            match Form(&sent).first("revoke") {
                Some(id) => Change::RevokeKey { id },
                None => Change::MakeKey {
                    label: text("label"),
                    scopes: text("scopes"),
                    until: text("until"),
                },
            }
        }
    })
}

/// What a form says.
async fn sent(body: Body) -> Result<String, Answer> {
    let whole = timeout(FORM_WITHIN, Limited::new(body, MAX_FORM).collect()).await;
    let bytes = match whole {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(_)) | Err(_) => return Err(error::bad_form()),
    };
    String::from_utf8(bytes.into()).map_err(|_| error::bad_form())
}

fn document(status: StatusCode, html: String) -> Response<Body> {
    Reply::new(status)
        .no_store()
        .header("content-type", "text/html; charset=utf-8")
        .bytes(html.into())
}

/// The same for everybody, for as long as the release is.
fn file(asset: &'static Asset, lasting: &Lasting) -> Response<Body> {
    let cached = match lasting {
        Lasting::Yes => "public, max-age=31536000, immutable",
        Lasting::No => "no-store",
    };
    Reply::new(StatusCode::OK)
        .header("cache-control", cached)
        .header("content-type", asset.media_type)
        .bytes(bytes::Bytes::from_static(asset.content.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_thing() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, name, reference) in [
            ("a", "a", None),
            ("a/tag/b", "a/tag/b", None),
            ("a/b:v1", "a/b", Some("v1".to_owned())),
            (&format!("a@{digest}"), "a", Some(digest.clone())),
        ] {
            let (found, of) = named_by(text).unwrap();
            assert_eq!(
                (found.as_str(), of.map(|of| of.as_str().to_owned())),
                (name, reference),
                "{text}"
            );
        }
        for wrong in [
            "",
            "A",
            "a:",
            "a@",
            "a@v1",
            "a/../b",
            "a:<b>",
            "a:b:c",
            "a//b",
            &format!("a:{digest}"),
        ] {
            assert!(named_by(wrong).is_none(), "{wrong}");
        }
    }
}
