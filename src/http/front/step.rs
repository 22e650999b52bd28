//! What a layer of the front is made of: one async function around the rest of the way.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use tower::{Layer, Service, util::ServiceExt as _};

use crate::admission::Body;

/// One step of a request's way in and of its response's way out. It may answer by itself.
pub(super) trait Step: Clone + Send + Sync + 'static {
    /// What it takes.
    type In: Send + 'static;
    /// What it hands on.
    type Out: Send + 'static;

    /// Does its part; `next` is the rest of the way.
    fn run<N: Next<Self::Out>>(self, input: Self::In, next: N)
    -> impl Future<Output = Response<Body>> + Send;
}

/// The rest of the way for a `T`.
pub(super) trait Next<T>: Send + 'static {
    /// Goes it.
    fn go(self, input: T) -> impl Future<Output = Response<Body>> + Send;
}

impl<T, S> Next<T> for S
where
    T: Send + 'static,
    S: Service<T, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send,
{
    async fn go(self, input: T) -> Response<Body> {
        match self.oneshot(input).await {
            Ok(response) => response,
        }
    }
}

/// A step as a layer, to be listed with others.
pub(super) fn step<S: Step>(step: S) -> StepLayer<S> {
    StepLayer(step)
}

#[derive(Clone)]
pub(super) struct StepLayer<S>(S);

impl<S: Clone, N> Layer<N> for StepLayer<S> {
    type Service = StepService<S, N>;

    fn layer(&self, next: N) -> Self::Service {
        StepService {
            step: self.0.clone(),
            next,
        }
    }
}

#[derive(Clone)]
pub(super) struct StepService<S, N> {
    step: S,
    next: N,
}

impl<S, N> Service<S::In> for StepService<S, N>
where
    S: Step,
    N: Next<S::Out> + Clone,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Admission is a step, not back pressure: who isn't admitted is told so.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, input: S::In) -> Self::Future {
        let (step, next) = (self.step.clone(), self.next.clone());
        Box::pin(async move { Ok(step.run(input, next).await) })
    }
}
