//! A name for every request, the client's own where it sent a good one.

use http::{HeaderName, HeaderValue, Response};

use super::{
    exchange::{Arrival, Exchange},
    step::{Next, Step},
};
use crate::admission::{Body, RequestId};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

#[derive(Clone)]
pub(super) struct Identify;

impl Step for Identify {
    type In = Arrival;
    type Out = Exchange;

    async fn run<N: Next<Exchange>>(self, arrival: Arrival, next: N) -> Response<Body> {
        let Arrival {
            request,
            client,
            certificates,
            tls,
        } = arrival;
        let given = request
            .headers()
            .get(X_REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        let id = given.and_then(RequestId::parse).unwrap_or_else(RequestId::random);
        // A request id is visible ASCII.
        let value = HeaderValue::from_str(id.as_str());
        let exchange = Exchange {
            request,
            client,
            certificates,
            tls,
            id,
            notes: Default::default(),
        };
        let mut response = next.go(exchange).await;
        if let Ok(value) = value {
            response.headers_mut().insert(X_REQUEST_ID, value);
        }
        response
    }
}
