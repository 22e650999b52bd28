//! Listings: tags, repositories, referrers. Each a page, with the way to the next.

use http::StatusCode;
use serde_json::json;

use super::outcome::{Local, Outcome};
use crate::{
    admission::Visible,
    http::reply::{Reply, next_page},
    oci::{Digest, MediaType, Page, RepoName, paths},
    registry::{Names, Referrer},
};

impl Local {
    pub(super) async fn list_tags(&self, repository: &RepoName, page: &Page) -> Outcome {
        let tags = self.registry.tags(repository, page).await?;
        let path = paths::tags(repository);
        let reply = linked(
            Reply::new(StatusCode::OK),
            &path,
            page,
            tags.more,
            tags.names.last(),
        );
        Ok(reply.json(&json!({ "name": repository.as_str(), "tags": tags.names })))
    }

    pub(super) async fn catalog(&self, page: &Page, visible: &Visible) -> Outcome {
        let names = match visible {
            Visible::Nothing => Names::default(),
            Visible::Everything => self.registry.catalog(page).await?,
            Visible::Those(includes) => self.registry.catalog_of(page, &**includes).await?,
        };
        let reply = linked(
            Reply::new(StatusCode::OK),
            paths::CATALOG,
            page,
            names.more,
            names.names.last(),
        );
        Ok(reply.json(&json!({ "repositories": names.names })))
    }

    pub(super) async fn referrers(
        &self,
        repository: &RepoName,
        subject: &Digest,
        artifact_types: &[String],
        page: &Page,
    ) -> Outcome {
        let referrers = self
            .registry
            .referrers(repository, subject, artifact_types, page)
            .await?;
        let mut reply = Reply::new(StatusCode::OK);
        if !artifact_types.is_empty() {
            reply = reply.header("oci-filters-applied", "artifactType");
        }
        if let Some(next) = &referrers.next {
            let limit = page.limit.to_string();
            let mut parameters: Vec<(&str, &str)> = artifact_types
                .iter()
                .map(|wanted| ("artifactType", wanted.as_str()))
                .collect();
            parameters.extend([("n", limit.as_str()), ("last", next.as_str())]);
            reply = reply.header(
                "link",
                next_page(paths::referrers(repository, subject), &parameters),
            );
        }
        let index = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::IMAGE_INDEX,
            "manifests": referrers.referrers.iter().map(described).collect::<Vec<_>>(),
        });
        Ok(reply.json_as(MediaType::IMAGE_INDEX, &index))
    }
}

pub(super) fn linked(reply: Reply, path: &str, page: &Page, more: bool, last: Option<&String>) -> Reply {
    match last {
        Some(last) if more => {
            let limit = page.limit.to_string();
            reply.header("link", next_page(path, &[("n", &limit), ("last", last)]))
        }
        _ => reply,
    }
}

fn described(referrer: &Referrer) -> serde_json::Value {
    let mut descriptor = json!({
        "mediaType": referrer.descriptor.media_type.as_str(),
        "digest": referrer.descriptor.digest.as_str(),
        "size": referrer.descriptor.size,
    });
    if let Some(artifact_type) = &referrer.artifact_type {
        descriptor["artifactType"] = json!(artifact_type);
    }
    if !referrer.annotations.is_empty() {
        descriptor["annotations"] = json!(referrer.annotations);
    }
    descriptor
}
