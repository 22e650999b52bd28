//! Room for a request: it waits for its body to begin, then for a permit, and is told to come again when there is none.
//!
//! A request that has sent nothing yet of its body holds a place in the lobby and no permit. A small body is taken whole
//! there, so that what is admitted with it ends by our doing, not the client's. Large ones are admitted with their first
//! byte, as uploads, which leave some permits to everything else, and give theirs up when they come too slowly while
//! others wait. Lobby and permits are both shared out by client ([`Shares`]).
//!
//! Who says `Expect: 100-continue` sends nothing before it is told to, which only the owner's word does. So it is admitted
//! as an upload at once.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::{
    step::{Next, Step},
    surface::{Asking, Cost, Decided},
};
use crate::{
    admission::{self, Body, BodyError, Pace, is_small},
    config::Limits,
    http::error::{self, FrontError, Overload},
    net::{self, Caller, Permit, Purpose, Shares, Supply},
};

/// The answer to a request for which there is no room becomes one that has its client try again.
#[derive(Clone)]
pub(super) struct TryAgain;

impl Step for TryAgain {
    type In = Asking;
    type Out = Asking;

    async fn run<N: Next<Asking>>(self, asking: Asking, next: N) -> Response<Body> {
        let request = &asking.exchange.request;
        let (method, id) = (request.method().clone(), asking.exchange.id.clone());
        let agent = request.headers().get(header::USER_AGENT).cloned();
        let mut response = next.go(asking).await;
        if response.extensions_mut().remove::<Overload>().is_none() {
            return response;
        }
        let mut answer = error::retried(&method, agent.as_ref()).into_response(&id);
        *answer.extensions_mut() = std::mem::take(response.extensions_mut());
        answer
    }
}

/// A permit, for as long as the response's body lasts.
#[derive(Clone)]
pub(super) struct Admit {
    lobby: Shares,
    permits: Shares,
    patience: Duration,
    pace: Pace,
}

impl Admit {
    pub(super) fn new(permits: Shares, limits: &Limits) -> Self {
        Self {
            lobby: Shares::new(Supply::of(limits.front.waiting)),
            permits,
            patience: limits.front.patience,
            pace: Pace::new(limits.net.slow_body, limits.net.slow_body_window),
        }
    }

    /// Waits for a permit, and for what of the body comes before it.
    async fn admit(&self, decided: &mut Decided) -> Result<Permit, FrontError> {
        let Decided {
            exchange, decision, ..
        } = decided;
        let caller = Caller::of(decision.identity.user.as_deref(), Some(exchange.client));
        if exchange.request.body().is_end_stream()
            && let Some(permit) = self.permits.try_take(&caller, Purpose::Other)
        {
            return Ok(permit);
        }
        let _place = self
            .lobby
            .try_take(&caller, Purpose::Other)
            .ok_or(FrontError::Overloaded)?;
        let body = std::mem::replace(exchange.request.body_mut(), admission::empty());
        let (body, purpose) = arrive(body, exchange.request.headers()).await?;
        let permit = timeout(self.patience, self.permits.take(&caller, purpose))
            .await
            .map_err(|_| FrontError::Overloaded)?;
        *exchange.request.body_mut() = match purpose {
            Purpose::Other => body,
            Purpose::Upload => {
                net::give_way_when_slow(body, self.pace.clone(), permit.manners()).boxed_unsync()
            }
        };
        Ok(permit)
    }
}

impl Step for Admit {
    type In = Decided;
    type Out = Decided;

    async fn run<N: Next<Decided>>(self, mut decided: Decided, next: N) -> Response<Body> {
        if decided.surface.facts().cost < Cost::Permit {
            return next.go(decided).await;
        }
        let permit = match self.admit(&mut decided).await {
            Ok(permit) => permit,
            Err(error) => return decided.exchange.refuse(&error),
        };
        let mut response = next.go(decided).await;
        // The rate of requests is looked at before: whoever says so in here, this member or another, has no room.
        if response.status() == http::StatusCode::TOO_MANY_REQUESTS {
            response.extensions_mut().insert(Overload);
        }
        response.map(|body| net::hold(body, permit).boxed_unsync())
    }
}

/// Waits until a body has begun, or, if it is a small one, until all of it is there.
async fn arrive(mut body: Body, headers: &HeaderMap) -> Result<(Body, Purpose), BodyError> {
    if body.is_end_stream() {
        return Ok((body, Purpose::Other));
    }
    if headers.contains_key(header::EXPECT) {
        return Ok((body, Purpose::Upload));
    }
    if is_small(body.size_hint().upper()) {
        let mut whole = BytesMut::new();
        while let Some(piece) = next_piece(&mut body).await? {
            whole.extend_from_slice(&piece);
        }
        return Ok((admission::full(whole.freeze()), Purpose::Other));
    }
    let Some(first) = next_piece(&mut body).await? else {
        return Ok((admission::empty(), Purpose::Other));
    };
    let begun = Begun {
        first: Some(first),
        rest: body,
    };
    Ok((begun.boxed_unsync(), Purpose::Upload))
}

/// Trailers of a request mean nothing to a registry.
async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, BodyError> {
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data()
            && !piece.is_empty()
        {
            return Ok(Some(piece));
        }
    }
    Ok(None)
}

/// A body of which a piece was read already.
struct Begun {
    first: Option<Bytes>,
    rest: Body,
}

impl http_body::Body for Begun {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
    }
}
