//! Identity providers: each is asked, as a login would.

use super::finding::{Finding, within};
use crate::{
    auth::oidc,
    config::{Config, Limits, openid::ProviderKind},
};

pub(super) async fn look(config: &Config, limits: &Limits) -> Vec<Finding> {
    let Some(openid) = &config.logins.openid else {
        return Vec::new();
    };
    let asked = async {
        let looked = oidc::examine(openid, limits).await.into_iter();
        let finding = |(kind, found): (ProviderKind, _)| {
            let subject = format!("login by {}", kind.as_str());
            match found {
                Ok(said) => Finding::ok(subject, said),
                Err(said) => Finding::fail(subject, said),
            }
        };
        looked.map(finding).collect()
    };
    within(limits.providers.patience * 5, "identity providers", asked).await
}
