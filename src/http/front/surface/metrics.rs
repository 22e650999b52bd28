//! `/metrics`: what this member has counted, as OpenMetrics text. It tells who uses the registry for what, so it has a policy
//! of its own (`http.accessControl.metrics`).

use std::sync::Arc;

use http::{Response, StatusCode};

use super::reading::{Read, only_read};
use crate::{admission::Body, http::reply::Reply, telemetry::Metrics};

/// As the log calls it: of what is asked for every few seconds it says little.
pub(in crate::http::front) const NAME: &str = "probe";

const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
pub(in crate::http::front) struct Desk(pub(in crate::http::front) Arc<Metrics>);

pub(in crate::http::front) struct Request(Arc<Metrics>);

impl Desk {
    pub(super) fn read(&self, request: &http::Request<Body>) -> Read<Request> {
        if request.uri().path() != "/metrics" {
            return None;
        }
        Some(only_read(request).map(|()| Request(self.0.clone())))
    }
}

impl Request {
    pub(in crate::http::front) fn answer(self) -> Response<Body> {
        let reply = Reply::new(StatusCode::OK).no_store();
        reply
            .header("content-type", MEDIA_TYPE)
            .bytes(self.0.render().into())
    }
}
