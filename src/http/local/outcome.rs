//! What the local service answers.

use std::sync::Arc;

use http::Response;

use crate::{
    admission::Body,
    http::error::{self, Answer},
    registry::{Registry, RegistryError},
};

#[derive(Clone)]
pub(super) struct Local {
    pub(super) registry: Arc<Registry>,
}

/// An answer that isn't what was asked for, and the domain's reason where there is one.
pub(super) struct Refusal {
    pub(super) answer: Answer,
    pub(super) cause: Option<RegistryError>,
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        Self {
            answer: error::registry(&error),
            cause: Some(error),
        }
    }
}

impl From<Answer> for Refusal {
    fn from(answer: Answer) -> Self {
        Self { answer, cause: None }
    }
}

pub(super) type Outcome = Result<Response<Body>, Refusal>;
