//! The end of a session that nobody ended, and of what is left of any.

use super::{
    super::{Registry, RegistryError, Result, fence, row, upkeep::Next},
    session::Session,
};
use crate::{
    oci::UploadId,
    storage::{Expect, MAX_OPS, Space, keys, rows, rows::SessionState},
};

impl Registry {
    /// Ends a session that had expired at `ripe_ms`, and removes one that was over for long enough then: first it is
    /// closed, so that no request can carry it on, and only when none can be at work on it any more everything under its
    /// prefix is swept. One that a dead member was finishing goes the same way: its object, if there is one, isn't linked.
    pub(in crate::registry) async fn end_upload(
        &self,
        id: &UploadId,
        ripe_ms: u64,
        due: rows::Due,
    ) -> Result<Next> {
        let key = keys::session(id);
        for _ in 0..self.settings.limits.attempts {
            let Some(found) = self.meta.get(&key).await? else {
                return Ok(Next::Over(Vec::new()));
            };
            let row: rows::Session = row::read_to_rewrite(&found)?;
            if row.expires_ms > ripe_ms {
                let at_ms = row.expires_ms;
                return Ok(Next::Again { at_ms, due });
            }
            let mut session = Session {
                id: id.clone(),
                row,
                version: found.version,
            };
            match session.row.state() {
                SessionState::Open | SessionState::Finishing => {
                    match self.close_session(&mut session).await {
                        Ok(()) => {
                            let at_ms = session.row.expires_ms;
                            return Ok(Next::Again { at_ms, due });
                        }
                        // A request carried it on, or ended it: that is looked at.
                        Err(RegistryError::RangeMismatch { .. } | RegistryError::UploadUnknown) => {}
                        Err(error) => return Err(error),
                    }
                }
                SessionState::Closed => {
                    self.sweep_session(&session).await?;
                    return Ok(Next::Over(vec![key.delete(Expect::Version(session.version))]));
                }
                SessionState::Unspecified => return Err(row::corrupt("read a session", "no state")),
            }
        }
        Err(RegistryError::Contended)
    }

    /// Removes everything that a closed session left, but for the blob that it became.
    async fn sweep_session(&self, session: &Session) -> Result<()> {
        let published = &session.row.object_key;
        let kept = match published.is_empty() {
            true => Vec::new(),
            false => vec![row::object_key(published)?],
        };
        self.blobs.sweep(&session.prefix(), &kept).await?;
        loop {
            let (space, id) = (Space::Uploads, session.id.as_str());
            let page = self.meta.range(space, id, keys::PARTS, None, MAX_OPS).await?;
            let parts: Vec<_> = page
                .entries
                .into_iter()
                .map(|entry| keys::parts_listed(&session.id, entry.sort).delete(Expect::Any))
                .collect();
            if !parts.is_empty() {
                fence::write(&*self.meta, &parts, self.settings.limits.attempts).await?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }
}
