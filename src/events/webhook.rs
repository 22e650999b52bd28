//! Events over HTTP: a POST for each, in binary mode, as zot sends them: attributes are headers, the body is the data.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{
    error::{SinkError, Untold},
    event::CloudEvent,
};
use crate::{
    config::{EventSink, SinkLogin},
    outbound::{self, Outbound, Pool, Reach, Trust},
};

/// What the HTTP binding of CloudEvents has encoded in headers.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// For how long a connection idles.
const IDLE: Duration = Duration::from_secs(60);
/// Idle connections: there is one feed for each.
const IDLE_CONNECTIONS: usize = 8;
/// Bytes of an answer's body that are read so that its connection can be used again.
const MAX_ANSWER: usize = 64 << 10;

#[derive(Debug)]
pub(super) struct Webhook {
    outbound: Outbound,
    address: Uri,
    headers: HeaderMap,
    channel: Option<String>,
    timeout: Duration,
}

impl Webhook {
    pub(super) fn new(config: &EventSink, connect: Duration) -> Result<Self, SinkError> {
        let pool = Pool {
            connect,
            idle: IDLE,
            idle_connections: IDLE_CONNECTIONS,
        };
        let mut headers = HeaderMap::new();
        // All of these were looked at when the configuration was read.
        for (name, value) in &config.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.expose()))
            {
                headers.insert(name, value);
            }
        }
        let login = match &config.login {
            SinkLogin::Password(user, password) => {
                let pair = BASE64_STANDARD.encode(format!("{user}:{}", password.expose()));
                Some(format!("Basic {pair}"))
            }
            SinkLogin::Token(token) => Some(format!("Bearer {}", token.expose())),
            SinkLogin::None | SinkLogin::File(_) => None,
        };
        if let Some(Ok(mut login)) = login.map(HeaderValue::try_from) {
            login.set_sensitive(true);
            headers.insert(AUTHORIZATION, login);
        }
        Ok(Self {
            outbound: Outbound::new(&Trust::from(&config.tls), Reach::Anywhere, &pool)?,
            address: config.address.parse().unwrap_or_default(),
            headers,
            channel: config.channel.clone(),
            timeout: config.timeout,
        })
    }

    pub(super) async fn tell(&self, event: &CloudEvent) -> Result<(), Untold> {
        let data = serde_json::Value::Object(event.data.clone()).to_string();
        let mut request = Request::new(Bytes::from(data));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.address.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let channel = self.channel.iter().map(|channel| ("ce-channel", channel.clone()));
        for (name, value) in event.attributes().into_iter().chain(channel) {
            let value = utf8_percent_encode(&value, ENCODED).to_string();
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        headers.extend(self.headers.clone());
        let answer = self.outbound.send(request, self.timeout).await?;
        let status = answer.status();
        // What it says more changes nothing.
        let _ = outbound::whole(answer.into_body(), MAX_ANSWER, self.timeout).await;
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::BAD_REQUEST
            | StatusCode::CONFLICT
            | StatusCode::GONE
            | StatusCode::LENGTH_REQUIRED
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY => Err(Untold::Refused(status)),
            status => Err(Untold::Status(status)),
        }
    }
}
