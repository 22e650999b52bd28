//! What stands around everything at the page's paths.

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};

use super::{
    super::{
        exchange::Exchange,
        step::{Next, Step},
    },
    page::{Desk, LOGIN},
};
use crate::{admission::Body, ui::ask};

/// The largest refusal that is told in its own words, in bytes.
const MAX_REFUSAL: usize = 8 * 1024;

/// Nothing but what this origin has: no script, style or picture from elsewhere or in the page, no frame around it, no form
/// that leads away.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What every answer at the page's paths says to browsers, and that refusals, whoever makes them, are pages for people.
#[derive(Clone)]
pub(in crate::http::front) struct Dress {
    pub(in crate::http::front) desk: Option<Desk>,
}

impl Step for Dress {
    type In = Exchange;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, exchange: Exchange, next: N) -> Response<Body> {
        let path = exchange.request.uri().path();
        let desk = self.desk.filter(|_| Desk::owns(path));
        // Who has a choice is asked for a password once they have made it.
        let desk = desk.map(|desk| Desk {
            challenge: desk.challenge.filter(|_| !desk.ui.has_choice() || path == LOGIN),
            ..desk
        });
        let response = next.go(exchange).await;
        let Some(desk) = desk else {
            return response;
        };
        let mut response = match response.status().is_client_error() || response.status().is_server_error() {
            true => refusal(&desk, response).await,
            false => response,
        };
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            // Forms of our own have to say where they come from.
            (header::REFERRER_POLICY, "same-origin"),
            (
                http::HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
            (
                http::HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

async fn refusal(desk: &Desk, response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let is_page = head
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|of| of.as_bytes().starts_with(b"text/html"));
    let body = match is_page {
        true => body,
        false => {
            let said = Limited::new(body, MAX_REFUSAL).collect().await;
            let said = said.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let html = desk.ui.trouble(None, head.status, &ask::message(&said));
            head.headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from(html.len()));
            let html_type = HeaderValue::from_static("text/html; charset=utf-8");
            head.headers.insert(header::CONTENT_TYPE, html_type);
            head.headers
                .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            crate::admission::full(html.into())
        }
    };
    // Tokens are for programs.
    head.headers.remove(header::WWW_AUTHENTICATE);
    if let (StatusCode::UNAUTHORIZED, Some(challenge)) = (head.status, &desk.challenge) {
        head.headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
    }
    Response::from_parts(head, body)
}
