//! Which part of a tag's history is asked for.

use super::{Digest, MAX_PAGE, Timestamp};

/// The parameters of `GET /v2/<name>/_oci/tag-history/<tag>`: the newest events first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// At most this many events, 0 to [`MAX_PAGE`]. With 0 the answer is empty and has no `Link`.
    pub limit: usize,
    /// Only events before this moment.
    pub before: Option<Timestamp>,
    /// Only events at this moment or after it.
    pub since: Option<Timestamp>,
    /// Only events about this manifest.
    pub digest: Option<Digest>,
}

impl Default for HistoryQuery {
    fn default() -> Self {
        Self {
            limit: MAX_PAGE,
            before: None,
            since: None,
            digest: None,
        }
    }
}
