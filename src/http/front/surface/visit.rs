//! Asking as the visitor of a page would: the page's questions go through the front with what its visitor showed.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use rustls::{ProtocolVersion, pki_types::CertificateDer};
use tower::ServiceExt as _;

use super::super::{
    Front,
    exchange::{Arrival, Exchange},
};
use crate::ui::Ask;

/// What the visitor showed of themselves: their requests go on with it.
pub(super) struct Visit {
    headers: HeaderMap,
    uri: Uri,
    version: http::Version,
    client: SocketAddr,
    certificates: Option<Arc<[CertificateDer<'static>]>>,
    tls: Option<ProtocolVersion>,
}

impl Visit {
    pub(super) fn of(exchange: &Exchange) -> Self {
        let mut headers = HeaderMap::new();
        // Two say whose page asks, as what it changes depends on; the last two are for conditions of policies.
        let site = HeaderName::from_static("sec-fetch-site");
        let forwarded = HeaderName::from_static("x-forwarded-for");
        for name in [
            header::AUTHORIZATION,
            header::COOKIE,
            header::HOST,
            header::ORIGIN,
            site,
            header::USER_AGENT,
            forwarded,
        ] {
            for value in exchange.request.headers().get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        // The lines of the log that belong together.
        if let Ok(id) = HeaderValue::from_str(exchange.id.as_str()) {
            headers.insert("x-request-id", id);
        }
        Self {
            headers,
            uri: exchange.request.uri().clone(),
            version: exchange.request.version(),
            client: exchange.client,
            certificates: exchange.certificates.clone(),
            tls: exchange.tls,
        }
    }

    /// How the visitor calls this host.
    pub(super) fn host(&self) -> &str {
        let named = self.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let authority = self.uri.authority().map(|authority| authority.as_str());
        named.or(authority).unwrap_or("localhost")
    }

    /// Asks as the visitor.
    pub(super) fn ask(self, inside: Front) -> Ask {
        let visit = Arc::new(self);
        Ask(Arc::new(move |mut request| {
            let (visit, inside) = (visit.clone(), inside.clone());
            for name in visit.headers.keys() {
                for value in visit.headers.get_all(name) {
                    request.headers_mut().append(name.clone(), value.clone());
                }
            }
            // As it would have come in: HTTP/2 names the authority in the target.
            *request.version_mut() = visit.version;
            let mut uri = visit.uri.clone().into_parts();
            uri.path_and_query = request.uri().path_and_query().cloned();
            if let Ok(uri) = Uri::from_parts(uri) {
                *request.uri_mut() = uri;
            }
            let arrival = Arrival {
                request,
                client: visit.client,
                certificates: visit.certificates.clone(),
                tls: visit.tls,
            };
            async move {
                match inside.oneshot(arrival).await {
                    Ok(response) => response,
                }
            }
            .boxed()
        }))
    }
}
