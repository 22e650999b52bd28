//! What somebody may do of the distribution API.

use std::sync::Arc;

use super::{Gate, refused, unauthenticated};
use crate::{
    admission::{Grants, Visible},
    auth::{
        AuthError, Decision,
        challenge::{self, Told},
        policy::Policy,
        who::{Rights, Who},
    },
    oci::{Action, Permission, Route},
};

impl Gate {
    /// The decision about each route.
    pub(super) fn of_route(
        &self,
        policy: &Arc<Policy>,
        told: Told<'_>,
        who: Who,
        route: &Route,
    ) -> Result<Decision, AuthError> {
        match route {
            Route::ApiVersion => {
                // This is where clients look how to log in. Where nobody gets a token, too, everybody is told to get one:
                // what needs none stays open to who comes without.
                let may_come_as_nobody =
                    policy.knows_anonymous() && (self.issuer.is_none() || who.has_shown_something());
                if !who.is_somebody() && !may_come_as_nobody {
                    return Err(unauthenticated(told, ""));
                }
                // Also to who needs no login here, since some client might have one for elsewhere.
                let mut decision = who.decision(Grants::none());
                decision.challenges = told.all("");
                Ok(decision)
            }
            Route::Catalog { .. } | Route::Run { .. } => {
                let scope = challenge::scope(route);
                if who.lacks_catalog() || (!who.is_somebody() && !policy.knows_anonymous()) {
                    return Err(refused(told, &who, &scope));
                }
                let mut grants = Grants::none();
                grants.show(who.visible(policy));
                Ok(who.decision(grants))
            }
            Route::ListTags { .. }
            | Route::GetManifest { .. }
            | Route::HeadManifest { .. }
            | Route::PutManifest { .. }
            | Route::DeleteManifest { .. }
            | Route::GetBlob { .. }
            | Route::HeadBlob { .. }
            | Route::DeleteBlob { .. }
            | Route::StartUpload { .. }
            | Route::PushBlob { .. }
            | Route::UploadStatus { .. }
            | Route::UploadChunk { .. }
            | Route::FinishUpload { .. }
            | Route::CancelUpload { .. }
            | Route::Referrers { .. }
            | Route::TagHistory { .. }
            | Route::ManifestAt { .. }
            | Route::Changes { .. }
            | Route::Restore { .. }
            | Route::MountBlob { from: Some(_), .. } => {
                repositories(policy, told, who, route, Visible::Nothing)
            }
            // It may come from any repository, so it is for who may read them all.
            Route::MountBlob { from: None, .. } => {
                let readable = who.readable(policy);
                repositories(policy, told, who, route, readable)
            }
        }
    }
}

/// What may be done in the repositories that a route names.
fn repositories(
    policy: &Arc<Policy>,
    told: Told<'_>,
    who: Who,
    route: &Route,
    visible: Visible,
) -> Result<Decision, AuthError> {
    let mut grants = Grants::none();
    for Permission { repository, need } in route.permissions() {
        let may = |action: &Action| who.may(policy, &repository, *action);
        let allowed: Vec<Action> = need.actions().iter().copied().filter(may).collect();
        if need.refuses(|action| allowed.contains(&action)) {
            // Who has a token of ours and wouldn't be let through by a better one needn't get that.
            let is_lost = need.refuses(|action| who.could(policy, &repository, action));
            let error = match &who.rights {
                Rights::Policy { .. } if is_lost && who.is_somebody() => AuthError::Denied,
                Rights::Policy { .. } | Rights::Token { .. } => refused(told, &who, &challenge::scope(route)),
            };
            let mut objections = need
                .actions()
                .iter()
                .filter_map(|action| who.objection(policy, &repository, *action));
            return Err(match error {
                AuthError::Denied => objections.next().map_or(error, AuthError::Condition),
                error => error,
            });
        }
        grants.grant(repository, allowed);
    }
    grants.show(visible);
    Ok(who.decision(grants))
}
