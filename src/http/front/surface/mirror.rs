//! `/v2/_portolan/mirror`: how mirroring ahead of time and replication go, for whoever may see metrics; repositories are named only to who
//! may read them. `POST` to its `/now` begins a round of mirroring at once, and to its `/retry` what failed is tried again: for
//! administrators. Any member answers, and those do it whose work it is.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{
    super::exchange::Change,
    form::Form,
    reading::{Read, wrong_method},
};
use crate::{
    admission::Body,
    auth::{Decision, Wanted},
    http::{
        error::{self, Answer},
        reply::Reply,
    },
    oci::{Action, Effect, RepoName},
    replication::Standings,
    sync::Mirror,
};

/// As the log calls it.
pub(in crate::http::front) const NAME: &str = "mirror";

const PATH: &str = "/v2/_portolan/mirror";

#[derive(Clone)]
pub(in crate::http::front) struct Desk {
    pub(in crate::http::front) mirror: Option<Mirror>,
    pub(in crate::http::front) replication: Option<Standings>,
}

pub(in crate::http::front) struct Request {
    desk: Desk,
    errand: Errand,
}

/// What is asked for.
enum Errand {
    Tell,
    /// What is mirrored from a host, or to a repository; or everything.
    Now {
        of: Option<String>,
    },
    Retry,
}

impl Desk {
    pub(super) fn read(&self, request: &http::Request<Body>) -> Read<Request> {
        let of = || Form(request.uri().query().unwrap_or_default()).first("of");
        let (errand, allow) = match request.uri().path().strip_prefix(PATH)? {
            "" => (Errand::Tell, "GET, HEAD"),
            "/now" => (Errand::Now { of: of() }, "POST"),
            "/retry" => (Errand::Retry, "POST"),
            _ => return None,
        };
        let method = request.method();
        let is_right = match errand {
            Errand::Tell => matches!(*method, Method::GET | Method::HEAD),
            Errand::Now { .. } | Errand::Retry => *method == Method::POST,
        };
        let desk = self.clone();
        Some(match is_right {
            true => Ok(Request { desk, errand }),
            false => Err(wrong_method(allow, method)),
        })
    }
}

impl Request {
    /// What is told says what the registry is used for. What is ordered moves tags, if sooner than it would have.
    pub(super) fn wanted(&self) -> Wanted<'_> {
        match self.errand {
            Errand::Tell => Wanted::Metrics,
            Errand::Now { .. } | Errand::Retry => Wanted::Everywhere(Action::Update),
        }
    }

    pub(super) fn effect(&self) -> Effect {
        match self.errand {
            Errand::Tell => Effect::Safe,
            Errand::Now { .. } | Errand::Retry => Effect::Unsafe,
        }
    }

    pub(super) fn change(&self) -> Option<Change> {
        let (what, subject) = match &self.errand {
            Errand::Tell => return None,
            Errand::Now { of } => ("mirror_now", of.clone()),
            Errand::Retry => ("mirror_retry", None),
        };
        Some(Change { what, subject })
    }

    pub(in crate::http::front) async fn answer(self, decision: Decision) -> Result<Response<Body>, Answer> {
        let Self { desk, errand } = self;
        let (status, told) = match errand {
            Errand::Tell => (StatusCode::OK, desk.tell(&decision).await?),
            Errand::Now { of } => (StatusCode::ACCEPTED, desk.begin(of.as_deref()).await?),
            Errand::Retry => (StatusCode::ACCEPTED, desk.retry().await?),
        };
        let reply = Reply::new(status).no_store();
        Ok(reply.header("x-content-type-options", "nosniff").json(&told))
    }
}

impl Desk {
    async fn tell(&self, decision: &Decision) -> Result<Value, Answer> {
        let sees = decision.grants.visible();
        let rules = match &self.mirror {
            Some(mirror) => mirror.status(sees).await.map_err(|error| error::sync(&error))?,
            None => Vec::new(),
        };
        let registries = match &self.replication {
            Some(standings) => standings
                .tell(sees)
                .await
                .map_err(|error| error::registry(&error))?,
            None => Vec::new(),
        };
        Ok(json!({ "rules": rules, "registries": registries }))
    }

    async fn begin(&self, of: Option<&str>) -> Result<Value, Answer> {
        let ordered = match &self.mirror {
            Some(mirror) => mirror.order(of).await.map_err(|error| error::registry(&error))?,
            None => Vec::new(),
        };
        if ordered.is_empty() {
            return Err(error::not_mirrored());
        }
        let told = |(registry, repository): &(&str, Option<RepoName>)| {
            let repository = repository.as_ref().map(RepoName::as_str);
            json!({ "registry": registry, "repository": repository })
        };
        Ok(json!({ "ordered": ordered.iter().map(told).collect::<Vec<_>>() }))
    }

    async fn retry(&self) -> Result<Value, Answer> {
        let mut ordered = Vec::new();
        if let Some(mirror) = &self.mirror {
            ordered.extend(mirror.retry().await.map_err(|error| error::registry(&error))?);
        }
        if let Some(standings) = &self.replication {
            ordered.extend(standings.retry().await.map_err(|error| error::registry(&error))?);
        }
        let told = |registry| json!({ "registry": registry, "repository": null });
        Ok(json!({ "ordered": ordered.into_iter().map(told).collect::<Vec<_>>() }))
    }
}
