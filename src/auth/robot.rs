//! Robots: users whom no person stands behind. There is nothing of one but its API keys, which an administrator makes.

use super::{ApiKeyError, KeyMaker, MadeBy, Via};

/// What the names of all robots begin with, and nobody's who logs in otherwise. (A colon would end the name in `Basic`.)
pub(super) const PREFIX: &str = "robot+";

/// Most bytes of what follows.
const MAX_NAME: usize = 64;
/// Most groups, and most bytes of one.
const MAX_GROUPS: usize = 64;
const MAX_GROUP: usize = 256;

impl KeyMaker {
    /// A robot, as whose keys are made.
    ///
    /// # Errors
    /// [`ApiKeyError::Robot`]: that is no robot's name, or these are no groups.
    pub fn robot(name: &str, groups: Vec<String>) -> Result<Self, ApiKeyError> {
        let is_sign = |sign: u8| sign.is_ascii_lowercase() || sign.is_ascii_digit() || b"._-".contains(&sign);
        let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_sign);
        let is_group = |group: &String| {
            (1..=MAX_GROUP).contains(&group.len())
                && !group.chars().any(char::is_control)
                && group.trim() == group
        };
        match is_name && groups.len() <= MAX_GROUPS && groups.iter().all(is_group) {
            true => Ok(Self {
                user: format!("{PREFIX}{name}"),
                by: MadeBy::Robot,
                groups,
            }),
            false => Err(ApiKeyError::Robot),
        }
    }
}

/// Whether somebody who has logged in like this may be called that: names of robots are theirs alone, and they have no others.
pub(super) fn may_be_called(user: &str, via: &Via) -> bool {
    let is_robots = user.starts_with(PREFIX);
    match via {
        Via::ApiKey(key) => is_robots == (key.by == MadeBy::Robot),
        Via::Password(_) | Via::Directory | Via::Workload { .. } | Via::Certificate | Via::Session(_) => {
            !is_robots
        }
        // What it was got by was decided then.
        Via::Issued { .. } | Via::Nobody => true,
        // Nothing comes of the name but a line in a log.
        Via::Token { .. } => true,
    }
}
