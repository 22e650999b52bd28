//! Asking an identity provider for JSON.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde::de::DeserializeOwned;

use crate::{
    config::limits::ProviderLimits,
    outbound::{self, Outbound, OutboundError, Pool, Reach, Trust, TrustError},
};

/// The longest answer of a provider, in bytes: a set of keys with the chains of their certificates is some ten thousand.
const MAX_ANSWER: usize = 1 << 20;

/// Why a provider gave no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It gave none.
    #[error("{0} can't be asked")]
    Unreachable(String, #[source] OutboundError),
    /// It says no.
    #[error("{url} answers {status} {said}")]
    Status {
        /// Who was asked.
        url: String,
        /// What it answered.
        status: StatusCode,
        /// Its word for why (RFC 6749, 5.2); may be empty.
        said: String,
    },
    /// It says something else.
    #[error("{0} answers with something else than what is expected")]
    Malformed(String, #[source] serde_json::Error),
    /// It can't be asked at all.
    #[error("{0:?} is no URL")]
    Url(String),
}

/// Asks one provider.
#[derive(Clone, Debug)]
pub(in crate::auth) struct Client {
    outbound: Outbound,
    patience: Duration,
}

impl Client {
    /// # Errors
    /// [`TrustError`]: certificates can't be read.
    pub(in crate::auth) fn new(trust: &Trust, bounds: ProviderLimits) -> Result<Self, TrustError> {
        let pool = Pool {
            connect: bounds.patience,
            idle: Duration::from_secs(30),
            idle_connections: 4,
        };
        Ok(Self {
            outbound: Outbound::new(trust, Reach::Anywhere, &pool)?,
            patience: bounds.patience,
        })
    }

    /// What `url` shows, perhaps only to who shows `authorization`.
    pub(in crate::auth) async fn get<T: DeserializeOwned>(
        &self,
        url: &str,
        authorization: Option<HeaderValue>,
    ) -> Result<T, FetchError> {
        let mut request = asking(url)?;
        if let Some(value) = authorization {
            request.headers_mut().insert(http::header::AUTHORIZATION, value);
        }
        self.send(url, request).await
    }

    /// What `url` answers to a form.
    pub(in crate::auth) async fn post<T: DeserializeOwned>(
        &self,
        url: &str,
        form: String,
        authorization: Option<HeaderValue>,
    ) -> Result<T, FetchError> {
        let mut request = asking(url)?.map(|_| Bytes::from(form));
        *request.method_mut() = http::Method::POST;
        let headers = request.headers_mut();
        let is_form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, is_form);
        if let Some(value) = authorization {
            headers.insert(http::header::AUTHORIZATION, value);
        }
        self.send(url, request).await
    }

    async fn send<T: DeserializeOwned>(&self, url: &str, request: Request<Bytes>) -> Result<T, FetchError> {
        let unreachable = |error| FetchError::Unreachable(url.to_owned(), error);
        let answer = self
            .outbound
            .send(request, self.patience)
            .await
            .map_err(unreachable)?;
        let (head, body) = answer.into_parts();
        let body = outbound::whole(body, MAX_ANSWER, self.patience)
            .await
            .map_err(unreachable)?;
        match head.status.is_success() {
            true => {
                serde_json::from_slice(&body).map_err(|error| FetchError::Malformed(url.to_owned(), error))
            }
            false => Err(FetchError::Status {
                url: url.to_owned(),
                status: head.status,
                said: said(&body),
            }),
        }
    }
}

fn asking(url: &str) -> Result<Request<Bytes>, FetchError> {
    let uri: Uri = url.parse().map_err(|_| FetchError::Url(url.to_owned()))?;
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = uri;
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert(ACCEPT, json);
    Ok(request)
}

/// The code of an error (RFC 6749, 5.2): `invalid_client` says what to look at, and it holds no secret.
fn said(body: &[u8]) -> String {
    let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let code = value.as_ref().and_then(|value| value.get("error")?.as_str());
    let is_code = |code: &&str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    code.filter(is_code).unwrap_or_default().to_owned()
}
