//! What the ways to log in say of somebody who isn't there with their password: whether a key or a token of theirs still is good,
//! and which groups they are in.

use std::sync::Arc;

use super::{AuthError, authenticator::MadeBy, htpasswd::Htpasswd, ldap::Directory, stamp::Stamp};

/// The ways to log in that know of people when they aren't there.
#[derive(Clone, Default)]
pub(super) struct Standing {
    pub(super) passwords: Option<Arc<Htpasswd>>,
    pub(super) directory: Option<Arc<Directory>>,
}

impl Standing {
    /// The groups of `user`, who had logged in like this to make a key, and was in the groups `said` then; `None` where they couldn't
    /// any more.
    ///
    /// # Errors
    /// [`AuthError`]: nobody can tell.
    pub(super) async fn of(
        &self,
        user: &str,
        by: MadeBy,
        said: Vec<String>,
    ) -> Result<Option<Vec<String>>, AuthError> {
        match (by, &self.directory) {
            (MadeBy::Password, _) => Ok(self.stamp(user).map(|_| Vec::new())),
            (MadeBy::Certificate, _) => Ok(Some(Vec::new())),
            // It is asked when they log in, and says it once.
            (MadeBy::Provider, _) => Ok(Some(said)),
            // Nobody stands behind it who could be gone.
            (MadeBy::Robot, _) => Ok(Some(said)),
            (MadeBy::Directory, Some(directory)) => directory.groups(user).await,
            (MadeBy::Directory, None) => Ok(None),
        }
    }

    /// The stamp of this user's password in the file; `None` where they have none.
    pub(super) fn stamp(&self, user: &str) -> Option<Stamp> {
        self.passwords.as_ref().and_then(|file| file.stamp(user))
    }
}
