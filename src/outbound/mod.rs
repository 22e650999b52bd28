//! Requests to services that aren't ours: one HTTP client, used wherever the program asks others for something.
//!
//! hyper with rustls, HTTP/1.1, connections kept in a pool. A request has a time in which its answer must begin, a body one
//! without a byte after which it is given up; who wants a body at once says how long it may be. An answer is an answer
//! whatever its status, and a redirect is one, too: whoever asked decides where they go, and with which credentials.
//!
//! Deliberately absent: retries, logins, proxies, cookies. (Requests between members are the mesh's.)

mod dialer;
mod reach;
mod trust;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderValue, Request, Response, Uri, header::USER_AGENT};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error as ClientError},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use tokio::time::timeout;

use self::dialer::Dialer;
#[cfg(debug_assertions)]
pub use self::dialer::{Connecting, simulate};
pub use self::{
    reach::Reach,
    trust::{Trust, TrustError, provider},
};

/// Bytes of a body that a connection reads ahead at most: what is held of one whose reader stands still.
const READ_BUFFER: usize = 128 << 10;

/// What is said of the program.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("portolan/", env!("CARGO_PKG_VERSION")));

/// Bounds of the connections of one client.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// Time to connect, without TLS.
    pub connect: Duration,
    /// How long a connection idles.
    pub idle: Duration,
    /// How many idle, for each host.
    pub idle_connections: usize,
}

/// The client below [`Outbound`], for whoever brings bounds of their own.
pub type HttpClient<B> = Client<HttpsConnector<Dialer>, B>;

/// A client without bounds but those of `pool`.
pub fn client<B>(tls: ClientConfig, reach: Reach, pool: &Pool) -> HttpClient<B>
where
    B: Body + Send,
    B::Data: Send,
{
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(dialer::dialer(reach, pool.connect));
    Client::builder(TokioExecutor::new())
        .http1_max_buf_size(READ_BUFFER)
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(pool.idle)
        .pool_max_idle_per_host(pool.idle_connections)
        .build(https)
}

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address isn't one of http or https.
    #[error("{0} is no address of http or https")]
    Address(Uri),
    /// The address leads into a private network, and no configuration names it.
    #[error("{0} is an address of a private network")]
    Private(String),
    /// No connection, or it ended before the answer.
    #[error("no answer")]
    Failed(#[source] ClientError),
    /// The answer didn't begin in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// The body broke off.
    #[error("the answer broke off")]
    Body(#[source] hyper::Error),
    /// No byte of the body for too long.
    #[error("no more of the answer for {} s", .0.as_secs())]
    Stalled(Duration),
    /// The body is longer than anybody expects.
    #[error("the answer is longer than {0} bytes")]
    TooLong(usize),
}

/// A client that asks other services.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: HttpClient<Full<Bytes>>,
    reach: Reach,
}

impl Outbound {
    /// Trusts as `trust` says, goes where `reach` lets it.
    ///
    /// # Errors
    /// [`TrustError`]: certificates can't be read.
    pub fn new(trust: &Trust, reach: Reach, pool: &Pool) -> Result<Self, TrustError> {
        Ok(Self {
            client: client(trust.tls()?, reach.clone(), pool),
            reach,
        })
    }

    /// The answer to `request`, whose address is absolute, if it begins `within` that time.
    ///
    /// # Errors
    /// [`OutboundError`]; a status never is one.
    pub async fn send(
        &self,
        mut request: Request<Bytes>,
        within: Duration,
    ) -> Result<Response<Incoming>, OutboundError> {
        let uri = request.uri();
        let Some(host) = uri
            .host()
            .filter(|_| matches!(uri.scheme_str(), Some("http" | "https")))
        else {
            return Err(OutboundError::Address(uri.clone()));
        };
        // Names are looked at when they are resolved.
        if !self.reach.permits(host) {
            return Err(OutboundError::Private(host.to_owned()));
        }
        request.headers_mut().entry(USER_AGENT).or_insert(AGENT);
        let answer = self.client.request(request.map(Full::new));
        match timeout(within, answer).await {
            Ok(answer) => answer.map_err(OutboundError::Failed),
            Err(_) => Err(OutboundError::Late(within)),
        }
    }
}

/// The pieces of a body, given up when none comes for as long as `stall`.
pub fn pieces(
    body: Incoming,
    stall: Duration,
) -> impl Stream<Item = Result<Bytes, OutboundError>> + Send + Unpin {
    let pieces = stream::unfold(Some(body.into_data_stream()), move |body| async move {
        let mut body = body?;
        match timeout(stall, body.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
            Ok(Some(Err(error))) => Some((Err(OutboundError::Body(error)), None)),
            Ok(None) => None,
            Err(_) => Some((Err(OutboundError::Stalled(stall)), None)),
        }
    });
    Box::pin(pieces)
}

/// All of a body of at most `most` bytes, if it comes `within` that time.
///
/// # Errors
/// [`OutboundError`].
pub async fn whole(body: Incoming, most: usize, within: Duration) -> Result<Bytes, OutboundError> {
    if body
        .size_hint()
        .exact()
        .is_some_and(|length| length > most as u64)
    {
        return Err(OutboundError::TooLong(most));
    }
    let collected = async {
        let mut body = body.into_data_stream();
        let mut bytes = BytesMut::new();
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(OutboundError::Body)?);
            if bytes.len() > most {
                return Err(OutboundError::TooLong(most));
            }
        }
        Ok(bytes.freeze())
    };
    match timeout(within, collected).await {
        Ok(collected) => collected,
        Err(_) => Err(OutboundError::Late(within)),
    }
}
