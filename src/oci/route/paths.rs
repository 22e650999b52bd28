//! From values to the paths that are read as them: the inverse of the parser.

use crate::oci::{Digest, RepoName, Tag, UploadId};

/// Of the list of repositories.
pub const CATALOG: &str = "/v2/_catalog";

/// Of a repository's tags.
pub fn tags(repository: &RepoName) -> String {
    format!("/v2/{repository}/tags/list")
}

/// Of the manifest with this digest.
pub fn manifest(repository: &RepoName, digest: &Digest) -> String {
    format!("/v2/{repository}/manifests/{digest}")
}

/// Of a blob.
pub fn blob(repository: &RepoName, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

/// Of what refers to `subject`.
pub fn referrers(repository: &RepoName, subject: &Digest) -> String {
    format!("/v2/{repository}/referrers/{subject}")
}

/// Of what a tag named.
pub fn tag_history(repository: &RepoName, tag: &Tag) -> String {
    format!("/v2/{repository}/_oci/tag-history/{tag}")
}

/// Of what became of a repository's names.
pub fn history(repository: &RepoName) -> String {
    format!("/v2/{repository}/_portolan/history")
}

/// Of what brings back what was deleted or overwritten.
pub fn restore(repository: &RepoName) -> String {
    format!("/v2/{repository}/_portolan/restore")
}

/// Of what a run of retention deleted from.
pub fn run(run: &str) -> String {
    format!("/v2/_portolan/runs/{run}")
}

/// Of an upload's session.
pub fn session(repository: &RepoName, upload: &UploadId) -> String {
    format!("/v2/{repository}/blobs/uploads/{upload}")
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::oci::{HistoryQuery, Page, Reference, Route};

    #[test]
    fn a_path_is_read_as_what_it_was_made_of() {
        let repository = RepoName::parse("team/blobs/uploads").unwrap();
        let digest = Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap();
        let upload = UploadId::random();
        let page = Page::parse(None, None).unwrap();
        let routes = [
            (CATALOG.to_owned(), Route::Catalog { page: page.clone() }),
            (
                tags(&repository),
                Route::ListTags {
                    repository: repository.clone(),
                    page: page.clone(),
                },
            ),
            (
                manifest(&repository, &digest),
                Route::GetManifest {
                    repository: repository.clone(),
                    reference: Reference::Digest(digest.clone()),
                },
            ),
            (
                blob(&repository, &digest),
                Route::GetBlob {
                    repository: repository.clone(),
                    digest: digest.clone(),
                },
            ),
            (
                referrers(&repository, &digest),
                Route::Referrers {
                    repository: repository.clone(),
                    subject: digest.clone(),
                    artifact_types: Vec::new(),
                    page,
                },
            ),
            (
                tag_history(&repository, &Tag::parse("v1").unwrap()),
                Route::TagHistory {
                    repository: repository.clone(),
                    tag: Tag::parse("v1").unwrap(),
                    query: HistoryQuery::default(),
                },
            ),
            (
                session(&repository, &upload),
                Route::UploadStatus { repository, upload },
            ),
        ];
        for (path, route) in routes {
            assert_eq!(Route::parse(&Method::GET, &path, None), Ok(route), "{path}");
        }
    }
}
