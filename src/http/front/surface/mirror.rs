//! `/v2/_portolan/mirror`: how mirroring ahead of time and replication go, for whoever may see metrics. Any member answers. Repositories are
//! named only to who may read them.

use http::{Response, StatusCode};
use serde_json::json;

use super::reading::{Read, only_read};
use crate::{
    admission::Body,
    auth::Decision,
    http::{
        error::{self, Answer},
        reply::Reply,
    },
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

pub(in crate::http::front) struct Request(Desk);

impl Desk {
    pub(super) fn read(&self, request: &http::Request<Body>) -> Read<Request> {
        if request.uri().path() != PATH {
            return None;
        }
        Some(only_read(request).map(|()| Request(self.clone())))
    }
}

impl Request {
    pub(in crate::http::front) async fn answer(self, decision: Decision) -> Result<Response<Body>, Answer> {
        let (desk, sees) = (self.0, decision.grants.visible());
        let rules = match desk.mirror {
            Some(mirror) => mirror.status(sees).await.map_err(|error| error::sync(&error))?,
            None => Vec::new(),
        };
        let registries = match desk.replication {
            Some(standings) => standings
                .tell(sees)
                .await
                .map_err(|error| error::registry(&error))?,
            None => Vec::new(),
        };
        let reply = Reply::new(StatusCode::OK).no_store();
        let reply = reply.header("x-content-type-options", "nosniff");
        Ok(reply.json(&json!({ "rules": rules, "registries": registries })))
    }
}
