//! What an administrator orders this member: to be drained, and to take part again.
//!
//! Deliberately absent: orders for another member. Each is asked itself, so that it is its own lease that says so.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{Readiness, parts::Mesh, pb};
use crate::ownership::DrainError;

/// The `Administration` service.
#[derive(Debug)]
pub(super) struct Administration {
    mesh: Arc<Mesh>,
    readiness: Readiness,
}

impl Administration {
    pub(super) fn new(mesh: Arc<Mesh>, readiness: Readiness) -> Self {
        Self { mesh, readiness }
    }

    /// An order reaches whoever the address leads to; it says whom it means.
    fn is_meant(&self, member: &str) -> Result<(), Status> {
        let me = self.mesh.me();
        if member == me.as_str() {
            return Ok(());
        }
        Err(Status::invalid_argument(format!("this is {me}, not {member:?}")))
    }
}

#[async_trait::async_trait]
impl pb::administration_server::Administration for Administration {
    async fn drain(&self, request: Request<pb::DrainRequest>) -> Result<Response<pb::DrainResponse>, Status> {
        self.is_meant(&request.into_inner().member)?;
        let drained = self.mesh.owners.view().drain().await;
        if matches!(drained, Ok(()) | Err(DrainError::Untold(_))) {
            self.readiness.not_ready().await;
        }
        drained.map_err(refused)?;
        Ok(Response::new(pb::DrainResponse {}))
    }

    async fn undrain(
        &self,
        request: Request<pb::UndrainRequest>,
    ) -> Result<Response<pb::UndrainResponse>, Status> {
        self.is_meant(&request.into_inner().member)?;
        let back = self.mesh.owners.view().undrain().await;
        if matches!(back, Ok(()) | Err(DrainError::Untold(_))) {
            self.readiness.ready().await;
        }
        back.map_err(refused)?;
        Ok(Response::new(pb::UndrainResponse {}))
    }
}

fn refused(error: DrainError) -> Status {
    match error {
        DrainError::Alone | DrainError::Ending | DrainError::Superseded => {
            Status::failed_precondition(error.to_string())
        }
        DrainError::Untold(_) => Status::unavailable(error.to_string()),
    }
}
