//! `/v2/_portolan/events`: what changed, for those who rather ask than be told. Any member answers.

use http::{Response, StatusCode};
use serde_json::json;

use super::{
    form::Form,
    reading::{Read, only_read},
};
use crate::{
    admission::Body,
    auth::{Decision, Right},
    events::{CloudEvent, Cursor, Pages},
    http::{
        error::{self, Answer},
        reply::Reply,
    },
};

/// As the log calls it.
pub(in crate::http::front) const NAME: &str = "events";

const PATH: &str = "/v2/_portolan/events";

#[derive(Clone)]
pub(in crate::http::front) struct Desk(pub(in crate::http::front) Pages);

pub(in crate::http::front) struct Request {
    pages: Pages,
    after: After,
}

/// What is asked for.
enum After {
    /// Where to begin.
    Now,
    /// What comes after that.
    Cursor(Cursor),
}

impl Desk {
    pub(super) fn read(&self, request: &http::Request<Body>) -> Read<Request> {
        if request.uri().path() != PATH {
            return None;
        }
        let read = only_read(request).and_then(|()| {
            let form = Form(request.uri().query().unwrap_or_default());
            let after = match form.first("after").as_deref() {
                None => After::Now,
                Some("0") => After::Cursor(Cursor::BEGIN),
                Some(text) => After::Cursor(Cursor::parse(text).ok_or_else(error::bad_cursor)?),
            };
            let pages = self.0.clone();
            Ok(Request { pages, after })
        });
        Some(read)
    }
}

impl Request {
    pub(in crate::http::front) async fn answer(self, decision: Decision) -> Result<Response<Body>, Answer> {
        let Right::Search { updatable, .. } = &decision.right else {
            return Err(error::not_covered());
        };
        let failed = |failure| error::registry(&failure);
        let body = match self.after {
            After::Now => {
                let next = self.pages.end().await.map_err(failed)?;
                json!({ "events": [], "next": next.to_string(), "more": false, "missed": false })
            }
            After::Cursor(after) => {
                let page = self.pages.read(after, decision.grants.visible(), updatable).await;
                let page = page.map_err(failed)?;
                let events: Vec<_> = page.events.iter().map(CloudEvent::document).collect();
                json!({
                    "events": events,
                    "next": page.next.to_string(),
                    "more": page.more,
                    "missed": page.missed,
                })
            }
        };
        let reply = Reply::new(StatusCode::OK).no_store();
        Ok(reply.header("x-content-type-options", "nosniff").json(&body))
    }
}
