//! The connection to DynamoDB: time-outs, attempts, and how many requests are on their way.
//!
//! The SDK's own retries are switched off. They send a conditional write again whose first sending may have had its
//! effect, and then report the refusal of the second; and they don't know `TransactionConflict`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use aws_config::{AppName, BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::{
    Client, Config,
    config::{ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextRef},
    error::BoxError,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::fault::{Class, Fault, Left};
use crate::{
    config::{DynamoConfig, Limits, limits::DynamoLimits},
    storage::pause::Attempts,
};

/// Sends requests.
pub(super) struct Dynamo {
    sdk: Client,
    room: Semaphore,
    limits: DynamoLimits,
}

impl Dynamo {
    /// For the tables of `config`, with the credentials of the AWS chain. Asks for nothing yet.
    pub(super) async fn new(config: &DynamoConfig, limits: &Limits) -> Self {
        let mut chain =
            aws_config::defaults(BehaviorVersion::latest()).region(Region::new(config.region.clone()));
        if let Some(endpoint) = &config.endpoint {
            chain = chain.endpoint_url(endpoint);
        }
        let chain = chain.load().await;
        Self::from_config(aws_sdk_dynamodb::config::Builder::from(&chain), limits)
    }

    pub(super) fn from_config(config: aws_sdk_dynamodb::config::Builder, limits: &Limits) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(limits.dynamo.connect)
            .operation_attempt_timeout(limits.dynamo.answer)
            .build();
        let mut config: Config = config
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        if let Ok(name) = AppName::new("portolan") {
            config = config.to_builder().app_name(name).build();
        }
        Self {
            sdk: Client::from_conf(config),
            room: Semaphore::new(limits.dynamo.requests),
            limits: limits.dynamo,
        }
    }

    /// Builds requests.
    pub(super) fn sdk(&self) -> &Client {
        &self.sdk
    }

    /// Sends a request that may be repeated, for it changes nothing, or nothing the second time, until it is answered,
    /// within bounds.
    pub(super) async fn repeat<T, F>(&self, send: impl Fn() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut trial = Trial::new(self.limits);
        loop {
            let fault = match self.with_room(trial.attempts.deadline(), send()).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            let again =
                matches!(fault.class, Class::Unsure | Class::Garbled) || trial.may_repeat(fault.class);
            if !again || !trial.attempts.pause().await {
                return Err(fault);
            }
        }
    }

    /// Sends a write until it is answered or may have had its effect, within bounds. `send` gets a mark to put on its
    /// request.
    pub(super) async fn write<T, F>(&self, send: impl Fn(Departure) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut trial = Trial::new(self.limits);
        loop {
            let fault = match self
                .with_room(trial.attempts.deadline(), send(Departure::default()))
                .await
            {
                Ok(answer) => return Ok(answer),
                Err(fault) => fault,
            };
            if !trial.may_repeat(fault.class) || !trial.attempts.pause().await {
                return Err(fault);
            }
        }
    }

    async fn with_room<T>(
        &self,
        deadline: Instant,
        sent: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let room = timeout_at(deadline, self.room.acquire()).await;
        let Ok(Ok(_room)) = room else {
            return Err(Fault::new(
                Class::Unsent,
                "too many requests are on their way to DynamoDB",
            ));
        };
        sent.await
    }
}

/// Attempts at one request.
struct Trial {
    attempts: Attempts,
    /// Nobody has doubted our rights yet.
    trusted: bool,
}

impl Trial {
    fn new(limits: DynamoLimits) -> Self {
        Self {
            attempts: Attempts::new(limits.attempts, limits.retry_time),
            trusted: true,
        }
    }

    /// Whether a request that failed so has had no effect and may be answered otherwise the next time.
    fn may_repeat(&mut self, class: Class) -> bool {
        match class {
            Class::Unsent | Class::Throttled | Class::Conflict | Class::InProgress => true,
            // Once: the SDK has just learnt from the answer how wrong our clock is, or loads new credentials.
            Class::Denied => std::mem::take(&mut self.trusted),
            Class::Unsure
            | Class::Garbled
            | Class::Missing
            | Class::Exists
            | Class::Unsupported
            | Class::Misuse
            | Class::Refused => false,
        }
    }
}

/// Put on a request, it tells whether it has left.
#[derive(Clone, Debug, Default)]
pub(super) struct Departure(Arc<AtomicBool>);

impl Departure {
    pub(super) fn left(&self) -> Left {
        match self.0.load(Ordering::Acquire) {
            true => Left::Perhaps,
            false => Left::No,
        }
    }
}

impl Intercept for Departure {
    fn name(&self) -> &'static str {
        "Departure"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(true, Ordering::Release);
        Ok(())
    }
}
