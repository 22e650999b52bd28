//! What the local service answers.

use std::sync::Arc;

use http::Response;

use crate::{
    admission::Body,
    http::error::{self, Answer},
    oci::{RepoName, RepoPattern},
    registry::{MayBeAbsent, Registry, RegistryError},
    sync::Mirror,
};

#[derive(Clone)]
pub(super) struct Local {
    pub(super) registry: Arc<Registry>,
    pub(super) mirror: Option<Mirror>,
    pub(super) sparse_indexes: Arc<[RepoPattern]>,
}

impl Local {
    /// What an index that clients push to the repository may lack.
    pub(super) fn absent_from_pushes(&self, repository: &RepoName) -> MayBeAbsent {
        match self
            .sparse_indexes
            .iter()
            .any(|pattern| pattern.matches(repository))
        {
            true => MayBeAbsent::Children,
            false => MayBeAbsent::Nothing,
        }
    }
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

impl Refusal {
    pub(super) fn is_unknown_blob(&self) -> bool {
        matches!(self.cause, Some(RegistryError::BlobUnknown))
    }
}

pub(super) type Outcome = Result<Response<Body>, Refusal>;
