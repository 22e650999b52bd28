//! What the standard health service says of this member.

use tonic_health::{ServingStatus, server::HealthReporter};

/// Says through the standard health service whether this member is ready.
#[derive(Clone)]
pub struct Readiness(HealthReporter);

impl std::fmt::Debug for Readiness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readiness").finish_non_exhaustive()
    }
}

impl Readiness {
    pub(super) fn new(reporter: HealthReporter) -> Self {
        Self(reporter)
    }

    /// It serves.
    pub async fn ready(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// It doesn't serve yet, or not any more, or was drained.
    pub async fn not_ready(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        for service in [
            "",
            "portolan.mesh.v1.Mesh",
            "portolan.mesh.v1.Budgets",
            "portolan.mesh.v1.Administration",
            "portolan.mesh.v1.Diagnostics",
        ] {
            self.0.set_service_status(service, status).await;
        }
    }
}
