//! `/v2/_zot/ext/search`: zot's GraphQL, by GET and POST. Any member answers; what it answers is
//! [`search`](crate::search)'s.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    super::exchange::Exchange,
    cors::Origins,
    form::Form,
    reading::{Read, wrong_method},
};
use crate::{
    admission::Body,
    auth::{Decision, Right},
    http::{
        error::{self, Answer},
        reply::Reply,
    },
    search::{Asker, Question, Search},
};

/// As the log calls it.
pub(in crate::http::front) const NAME: &str = "search";

pub(super) const PATH: &str = "/v2/_zot/ext/search";
const METHODS: &str = "GET,POST,OPTIONS";
/// The largest body, in bytes.
const MAX_BODY: usize = 128 * 1024;
/// How long it may take to come.
const BODY_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(in crate::http::front) struct Desk {
    pub(in crate::http::front) search: Arc<Search>,
    pub(in crate::http::front) origins: Origins,
}

pub(in crate::http::front) struct Request {
    desk: Desk,
    way: Way,
}

enum Way {
    /// In the query.
    Get,
    /// In the body.
    Post,
    /// Whether a page may ask.
    Preflight,
}

impl Desk {
    pub(super) fn read(&self, request: &http::Request<Body>) -> Read<Request> {
        if request.uri().path() != PATH {
            return None;
        }
        let way = match *request.method() {
            Method::GET => Way::Get,
            Method::POST => Way::Post,
            Method::OPTIONS => Way::Preflight,
            ref other => return Some(Err(wrong_method("GET, POST, OPTIONS", other))),
        };
        let desk = self.clone();
        Some(Ok(Request { desk, way }))
    }
}

impl Request {
    /// Whether nothing is asked but whether one may ask.
    pub(super) fn is_preflight(&self) -> bool {
        matches!(self.way, Way::Preflight)
    }

    pub(in crate::http::front) async fn answer(
        self,
        exchange: Exchange,
        decision: Decision,
    ) -> Result<Response<Body>, Answer> {
        let Self { desk, way } = self;
        let (head, body) = exchange.request.into_parts();
        let question = match way {
            Way::Preflight => {
                let reply = Reply::new(StatusCode::NO_CONTENT).empty();
                return Ok(open(&desk.origins, &head.headers, reply));
            }
            Way::Get => of_query(head.uri.query().unwrap_or_default()),
            Way::Post => of_body(body).await,
        };
        let question = match question {
            Ok(question) => question,
            Err(problem) => {
                let body = json!({ "errors": [{ "message": problem }], "data": null });
                let reply = said(StatusCode::BAD_REQUEST, &body);
                return Ok(open(&desk.origins, &head.headers, reply));
            }
        };
        let Right::Search { deletable, .. } = decision.right else {
            return Err(error::not_covered());
        };
        let asker = Asker {
            user: decision.identity.user,
            sees: decision.grants.visible().clone(),
            may_delete: deletable,
        };
        let answer = desk.search.answer(asker, &question).await;
        let status = match answer.is_valid {
            true => StatusCode::OK,
            false => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let mut reply = said(status, &answer.body);
        if answer.is_partial {
            let warning = "299 - \"partial: not everything was looked at\"";
            reply
                .headers_mut()
                .insert("warning", http::HeaderValue::from_static(warning));
        }
        Ok(open(&desk.origins, &head.headers, reply))
    }
}

fn said(status: StatusCode, body: &Value) -> Response<Body> {
    let reply = Reply::new(status).no_store();
    reply.header("x-content-type-options", "nosniff").json(body)
}

fn open(origins: &Origins, asked: &HeaderMap, mut reply: Response<Body>) -> Response<Body> {
    origins.say(asked, METHODS, reply.headers_mut());
    reply
}

fn of_query(query: &str) -> Result<Question, String> {
    let form = Form(query);
    let variables = form.first("variables").filter(|text| !text.is_empty());
    let variables = variables.map(|text| serde_json::from_str(&text)).transpose();
    Ok(Question {
        query: form.first("query").unwrap_or_default(),
        operation: form.first("operationName"),
        variables: variables.map_err(|error| format!("variables could not be decoded: {error}"))?,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    #[serde(default)]
    query: String,
    #[serde(default)]
    operation_name: Option<String>,
    #[serde(default)]
    variables: Option<Value>,
}

async fn of_body(body: Body) -> Result<Question, String> {
    let whole = timeout(BODY_WITHIN, Limited::new(body, MAX_BODY).collect()).await;
    let bytes = match whole {
        Ok(Ok(whole)) => whole.to_bytes(),
        Ok(Err(_)) | Err(_) => return Err(format!("a request body has at most {MAX_BODY} bytes")),
    };
    let sent: Sent = serde_json::from_slice(&bytes)
        .map_err(|error| format!("json request body could not be decoded: {error}"))?;
    Ok(Question {
        query: sent.query,
        operation: sent.operation_name,
        variables: sent.variables,
    })
}
