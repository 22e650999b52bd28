//! One request: to each address in turn, with logins, redirects and repetitions, within a budget.

use std::time::{Duration, Instant as Clock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, uri};
use hyper::body::Incoming;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Upstream, UpstreamError, accept,
    error::Course,
    site::{Scope, Site},
};
use crate::oci::{Digest, Reference, RepoName};

/// Redirects that are followed for one request.
const REDIRECTS: usize = 5;

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
        }
    }
}

/// An answer that is a success, and the place that it takes in the budget.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) permit: OwnedSemaphorePermit,
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
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| UpstreamError::Late)?;
        let mut last = UpstreamError::Late;
        for site in &self.sites {
            for attempt in 0..=self.bounds.retries {
                if !self.turns.take(until).await {
                    return Err(last);
                }
                last = match self.ask_once(site, asked).await {
                    Ok(response) => return Ok(Answer { response, permit }),
                    Err(error) => error,
                };
                tracing::debug!(upstream = %site.url, path = asked.path, attempt, error = %last, "a request failed");
                match last.course() {
                    Course::GiveUp => return Err(last),
                    Course::Next => break,
                    Course::Again if attempt == self.bounds.retries => break,
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
                StatusCode::OK => return Ok(response),
                StatusCode::PARTIAL_CONTENT if asked.from > 0 => return Ok(response),
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
                status => return Err(UpstreamError::of(status, retry_after(response.headers()))),
            }
        }
    }

    async fn send(
        &self,
        asked: &Asked<'_>,
        uri: &Uri,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = asked.method.clone();
        *request.uri_mut() = uri.clone();
        let headers = request.headers_mut();
        if let Some(accept) = &asked.accept {
            headers.insert(header::ACCEPT, accept.clone());
        }
        if let Some(authorization) = authorization {
            headers.insert(header::AUTHORIZATION, authorization.clone());
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
