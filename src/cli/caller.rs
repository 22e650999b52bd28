//! As whom a registry is asked, and whom to believe that it is there: the same for every command that asks one over HTTP.

use std::path::PathBuf;

use clap::Args;

use crate::outbound::Trust;

#[derive(Debug, Args)]
pub(super) struct Caller {
    /// Who asks; the password, or an API key, is taken from PORTOLAN_PASSWORD
    #[arg(long, value_name = "NAME", env = "PORTOLAN_USER")]
    user: Option<String>,
    /// Authorities that are trusted instead of this machine's, in PEM
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
}

/// Somebody is named, and no password.
#[derive(Debug, thiserror::Error)]
#[error("with --user, the password is taken from PORTOLAN_PASSWORD, which isn't set")]
pub struct NoPassword;

impl Caller {
    /// User and password, if somebody is named.
    pub(super) fn login(&self) -> Result<Option<(String, String)>, NoPassword> {
        let Some(user) = &self.user else {
            return Ok(None);
        };
        let password = std::env::var("PORTOLAN_PASSWORD").map_err(|_| NoPassword)?;
        Ok(Some((user.clone(), password)))
    }

    pub(super) fn trust(&self) -> Trust {
        match &self.cacert {
            Some(path) => Trust::Bundle(path.clone()),
            None => Trust::Machine,
        }
    }
}
