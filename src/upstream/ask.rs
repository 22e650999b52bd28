//! One request: to each address in turn, with logins, redirects and repetitions, within a budget.

use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri};
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Upstream, UpstreamError, accept,
    budget::Place,
    error::Course,
    site::{Scope, Site},
};
use crate::{
    oci::{Digest, MediaType, Reference, RepoName},
    outbound,
};

/// Redirects that are followed for one request.
const REDIRECTS: usize = 5;
/// The longest refusal that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// What is asked.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// For metrics.
    kind: &'static str,
    method: Method,
    pub(super) scope: Scope<'a>,
    path: String,
    accept: Option<HeaderValue>,
    from: u64,
    sent: Option<Sent>,
}

/// What a push sends.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) bytes: Bytes,
    pub(super) content_type: Option<HeaderValue>,
    /// `Content-Range`, as the distribution specification writes it.
    pub(super) range: Option<HeaderValue>,
    /// Whoever asks decides about repetitions.
    pub(super) is_once: bool,
}

impl Sent {
    pub(super) fn nothing() -> Self {
        Self {
            bytes: Bytes::new(),
            content_type: None,
            range: None,
            is_once: false,
        }
    }

    pub(super) fn octets(bytes: Bytes) -> Self {
        Self {
            bytes,
            content_type: Some(HeaderValue::from_static(MediaType::OCTET_STREAM)),
            ..Self::nothing()
        }
    }
}

impl<'a> Asked<'a> {
    pub(super) fn manifest(
        kind: &'static str,
        method: Method,
        repository: &'a RepoName,
        reference: &Reference,
    ) -> Self {
        Self {
            kind,
            method,
            scope: Scope::Repository(repository),
            path: format!("/v2/{repository}/manifests/{reference}"),
            accept: HeaderValue::try_from(accept()).ok(),
            from: 0,
            sent: None,
        }
    }

    pub(super) fn blob(
        kind: &'static str,
        method: Method,
        repository: &'a RepoName,
        digest: &Digest,
        from: u64,
    ) -> Self {
        Self {
            kind,
            method,
            scope: Scope::Repository(repository),
            path: format!("/v2/{repository}/blobs/{digest}"),
            accept: None,
            from,
            sent: None,
        }
    }

    pub(super) fn list(kind: &'static str, scope: Scope<'a>, path: String) -> Self {
        Self {
            kind,
            method: Method::GET,
            scope,
            path,
            accept: None,
            from: 0,
            sent: None,
        }
    }

    /// A step of a push.
    pub(super) fn sent(
        kind: &'static str,
        method: Method,
        repository: &'a RepoName,
        path: String,
        sent: Sent,
    ) -> Self {
        Self {
            kind,
            method,
            scope: Scope::Repository(repository),
            path,
            accept: None,
            from: 0,
            sent: Some(sent),
        }
    }

    /// Whether it is the answer to what was asked.
    fn is_answered_by(&self, status: StatusCode) -> bool {
        match status {
            StatusCode::OK => true,
            StatusCode::PARTIAL_CONTENT => self.from > 0,
            status => self.sent.is_some() && status.is_success(),
        }
    }
}

/// An answer that is a success, and the place that it takes in the budget.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) place: Place,
}

impl Upstream {
    /// Asks until there is an answer, nothing is left to try, or it is `until`.
    pub(super) async fn ask(&self, asked: &Asked<'_>, until: Instant) -> Result<Answer, UpstreamError> {
        let began = Clock::now();
        let answer = timeout_at(until, self.ask_each(asked, until)).await;
        let answer = answer.unwrap_or(Err(UpstreamError::Late));
        let outcome = answer.as_ref().map_or_else(UpstreamError::outcome, |_| "ok");
        self.asked(asked.kind, outcome, began);
        answer
    }

    async fn ask_each(&self, asked: &Asked<'_>, until: Instant) -> Result<Answer, UpstreamError> {
        let mut place = self.budget.enter().await;
        let mut last = UpstreamError::Late;
        let retries = match &asked.sent {
            Some(Sent { is_once: true, .. }) => 0,
            Some(_) | None => self.bounds.retries,
        };
        for site in &self.sites {
            for attempt in 0..=retries {
                if !place.turn(until).await {
                    return Err(last);
                }
                last = match self.ask_once(site, asked).await {
                    Ok(response) => return Ok(Answer { response, place }),
                    Err(error) => error,
                };
                tracing::debug!(upstream = %site.url, path = asked.path, attempt, error = %last, "a request failed");
                match last.course() {
                    Course::GiveUp => return Err(last),
                    Course::Next => break,
                    Course::Again if attempt == retries => break,
                    Course::Again => {}
                }
                let wait = match &last {
                    UpstreamError::Limited {
                        retry_after: Some(wait),
                    } => *wait,
                    _ => self.pause(attempt),
                };
                // Nobody waits for so long.
                if wait > self.bounds.retry_delay_max || Instant::now() + wait >= until {
                    break;
                }
                sleep(wait).await;
            }
        }
        Err(last)
    }

    async fn ask_once(&self, site: &Site, asked: &Asked<'_>) -> Result<Response<Incoming>, UpstreamError> {
        let mut uri = format!("{}{}", site.url, asked.path)
            .parse::<Uri>()
            .map_err(|_| UpstreamError::Nonsense("an address that is none"))?;
        let mut authorization = site.tokens.known(asked.scope);
        let (mut has_logged_in, mut redirects) = (false, 0);
        loop {
            let is_own = site.is_own(&uri);
            let shown = authorization.as_ref().filter(|_| is_own);
            let response = self.send(asked, &uri, shown).await?;
            match response.status() {
                status if asked.is_answered_by(status) => return Ok(response),
                StatusCode::UNAUTHORIZED if is_own && !has_logged_in => {
                    let challenges = response.headers();
                    authorization = Some(self.log_in(site, challenges, asked.scope).await?);
                    has_logged_in = true;
                }
                status if is_redirect(status) => {
                    redirects += 1;
                    if redirects > REDIRECTS {
                        return Err(UpstreamError::Redirect("again and again"));
                    }
                    uri = target(&uri, response.headers())?;
                }
                // What is wrong with it is for who pushes.
                status if asked.sent.is_some() && status.is_client_error() => {
                    return Err(self.refusal(status, response).await);
                }
                status => return Err(UpstreamError::of(status, retry_after(response.headers()))),
            }
        }
    }

    /// Why a push was refused, in the registry's words.
    async fn refusal(&self, status: StatusCode, response: Response<Incoming>) -> UpstreamError {
        let general = UpstreamError::of(status, retry_after(response.headers()));
        if matches!(
            general,
            UpstreamError::Limited { .. } | UpstreamError::Denied(StatusCode::UNAUTHORIZED)
        ) {
            return general;
        }
        let body = outbound::whole(response.into_body(), MAX_REFUSAL_BYTES, self.bounds.answer).await;
        let told: Option<Value> = body.ok().and_then(|body| serde_json::from_slice(&body).ok());
        let message = told.and_then(|told| Some(told["errors"][0]["message"].as_str()?.to_owned()));
        match message {
            Some(message) => UpstreamError::Refused {
                status,
                message: message.chars().filter(|c| !c.is_control()).collect(),
            },
            None => general,
        }
    }

    async fn send(
        &self,
        asked: &Asked<'_>,
        uri: &Uri,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let mut request = Request::new(
            asked
                .sent
                .as_ref()
                .map_or_else(Bytes::new, |sent| sent.bytes.clone()),
        );
        *request.method_mut() = asked.method.clone();
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        if let Some(accept) = &asked.accept {
            headers.insert(header::ACCEPT, accept.clone());
        }
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        if let Some(sent) = &asked.sent {
            let said = [
                (header::CONTENT_TYPE, &sent.content_type),
                (header::CONTENT_RANGE, &sent.range),
            ];
            headers.extend(
                said.into_iter()
                    .filter_map(|(name, value)| Some((name, value.clone()?))),
            );
        }
        if asked.from > 0 {
            let range = HeaderValue::try_from(format!("bytes={}-", asked.from));
            headers.extend(range.ok().map(|range| (header::RANGE, range)));
        }
        Ok(self.outbound.send(request, self.bounds.answer).await?)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    )
}

/// Where a redirect leads: an absolute address, or a path from the root; never from https to http.
fn target(from: &Uri, headers: &HeaderMap) -> Result<Uri, UpstreamError> {
    let nowhere = || UpstreamError::Redirect("to no address");
    let location = headers
        .get(header::LOCATION)
        .and_then(|value| value.to_str().ok());
    let location: Uri = location.ok_or_else(nowhere)?.parse().map_err(|_| nowhere())?;
    let mut parts: uri::Parts = location.into_parts();
    match (&parts.scheme, &parts.authority) {
        (Some(_), Some(_)) => {}
        (None, None) => {
            parts.scheme = from.scheme().cloned();
            parts.authority = from.authority().cloned();
        }
        (Some(_), None) | (None, Some(_)) => return Err(nowhere()),
    }
    let to = Uri::from_parts(parts).map_err(|_| nowhere())?;
    if from.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
        return Err(UpstreamError::Redirect("from https to another scheme"));
    }
    Ok(to)
}

/// `Retry-After` in seconds. A date isn't read: registries don't send one.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}
