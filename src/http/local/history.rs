//! What a tag named (distribution-spec#606): an index whose descriptors are events, the newest first.

use http::StatusCode;
use serde_json::json;

use super::{Local, Outcome};
use crate::{
    http::reply::{Reply, next_page},
    oci::{HistoryQuery, MediaType, RepoName, Tag, Timestamp, paths},
    registry::changes::{HistoryPage, TagEvent},
};

const TIMESTAMP: &str = "org.opencontainers.distribution.tag.timestamp";
const EVENT: &str = "org.opencontainers.distribution.tag.event";

impl Local {
    pub(super) async fn tag_history(&self, repository: &RepoName, tag: &Tag, query: HistoryQuery) -> Outcome {
        let page = HistoryPage {
            limit: query.limit,
            before_ms: query.before.map(Timestamp::as_ms),
            since_ms: query.since.map(Timestamp::as_ms),
            digest: query.digest.clone(),
        };
        let history = self.registry.tag_history(repository, tag, &page).await?;
        let mut reply = Reply::new(StatusCode::OK);
        if let Some(until_ms) = history.until_ms.filter(|_| history.more) {
            let mut parameters = vec![
                ("n", query.limit.to_string()),
                ("before", Timestamp::from_ms(until_ms).to_string()),
            ];
            parameters.extend(query.since.map(|since| ("since", since.to_string())));
            parameters.extend(query.digest.map(|digest| ("digest", digest.to_string())));
            let parameters: Vec<_> = parameters
                .iter()
                .map(|(key, value)| (*key, value.as_str()))
                .collect();
            let path = paths::tag_history(repository, tag);
            reply = reply.header("link", next_page(path, &parameters));
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::IMAGE_INDEX,
            "manifests": history.events.iter().filter_map(described).collect::<Vec<_>>(),
        });
        Ok(reply.json_as(MediaType::IMAGE_INDEX, &index))
    }
}

/// A tag that names something else is created anew, for there are only two kinds of events.
fn described(event: &TagEvent) -> Option<serde_json::Value> {
    let about = event.about()?;
    let kind = match event.to {
        Some(_) => "created",
        None => "deleted",
    };
    Some(json!({
        "mediaType": about.media_type.as_str(),
        "digest": about.digest.as_str(),
        "size": about.size,
        "annotations": {
            TIMESTAMP: Timestamp::from_ms(event.at_ms).to_string(),
            EVENT: kind,
        },
    }))
}
