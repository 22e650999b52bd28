//! What a service says the time is: the `Date` of its answers, errors included. For `portolan verify`, because a service
//! refuses signatures of another time.

use std::{sync::Arc, time::SystemTime};

use aws_sdk_s3::{
    config::{
        ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeDeserializationInterceptorContextRef,
    },
    error::BoxError,
    primitives::{DateTime, DateTimeFormat},
};
use parking_lot::Mutex;

/// Put on a request, it keeps the date of the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerDate(Arc<Mutex<Option<SystemTime>>>);

impl ServerDate {
    /// The date of the answer, if there was one and it had any.
    pub(super) fn seen(&self) -> Option<SystemTime> {
        *self.0.lock()
    }
}

impl Intercept for ServerDate {
    fn name(&self) -> &'static str {
        "ServerDate"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok());
        if let Some(date) = date.and_then(|date| SystemTime::try_from(date).ok()) {
            *self.0.lock() = Some(date);
        }
        Ok(())
    }
}
