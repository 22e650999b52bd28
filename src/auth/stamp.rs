//! Which password somebody has logged in by.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::password_hash::PasswordHash;

/// Names the hash of a password, without telling it: what was got by a password ends when its user has another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp(String);

impl Stamp {
    pub(super) fn of(hash: &PasswordHash) -> Self {
        let digest = Sha256::new()
            .chain_update("portolan token\0")
            .chain_update(hash.as_str())
            .finalize();
        Self(hex::encode(digest.get(..16).unwrap_or_default()))
    }
}
