//! The local service: a decided request in, the registry's answer out.
//!
//! Both doors lead here, the public port and the mesh, so there is one implementation of every route. It turns headers
//! into values, asks the domain, and turns what comes back into headers; what a route *means* is the domain's. There
//! is no way from here to another member.

mod blobs;
mod byteranges;
mod history;
mod listings;
mod manifests;
mod mirrored;
mod outcome;
mod undo;
mod uploads;

use std::{convert::Infallible, sync::Arc};

use http::{Response, StatusCode};
use tokio::time::Instant;
use tower::service_fn;

use self::{
    mirrored::Asker,
    outcome::{Local, Outcome, Refusal},
};
use super::{
    error::{self, Chain},
    reply::Reply,
};
use crate::{
    admission::{Admitted, Body, RequestId, Served, Service, Waited},
    oci::{RepoPattern, Route},
    registry::Registry,
    sync::Mirror,
};

/// The local service over `registry`, with what is mirrored from elsewhere, and where clients may push an index whose entries
/// aren't there.
pub fn local(registry: Arc<Registry>, mirror: Option<Mirror>, sparse_indexes: Vec<RepoPattern>) -> Service {
    let local = Local {
        registry,
        mirror,
        sparse_indexes: sparse_indexes.into(),
    };
    Service::new(service_fn(move |admitted| {
        let local = local.clone();
        async move { Ok::<_, Infallible>(local.serve(admitted).await) }
    }))
}

impl Local {
    async fn serve(&self, admitted: Admitted) -> Response<Body> {
        let started = Instant::now();
        let waited = Waited::default();
        let route = admitted.route.name();
        let id = admitted.request_id.clone();
        let outcome = waited.measure(self.dispatch(admitted)).await;
        let mut response = outcome.unwrap_or_else(|refusal| refused(refusal, route, &id));
        let served = Served {
            forwarded_to: None,
            owner: started.elapsed(),
            store: waited.stores(),
            upstream: waited.upstream(),
        };
        response.extensions_mut().insert(served);
        response
    }

    async fn dispatch(&self, admitted: Admitted) -> Outcome {
        if !admitted.is_covered() {
            return Err(error::not_covered().into());
        }
        let Admitted {
            route,
            request,
            identity,
            grants,
            deadline,
            ..
        } = admitted;
        let (head, body) = request.into_parts();
        let headers = &head.headers;
        let asker = Asker {
            of: Route::namespace(head.uri.query()),
            by: identity.user.clone().unwrap_or_default(),
        };
        match route {
            Route::ApiVersion => Ok(api_version()),
            Route::Catalog { page } => self.catalog(&page, grants.visible()).await,
            Route::ListTags { repository, page } => self.list_tags(&repository, &page).await,
            Route::Referrers {
                repository,
                subject,
                artifact_types,
                page,
            } => {
                let here = self.referrers(&repository, &subject, &artifact_types, &page);
                match page.last {
                    None => {
                        self.with_referrers(asker.wants(&repository), &subject, here)
                            .await
                    }
                    Some(_) => here.await,
                }
            }
            Route::TagHistory {
                repository,
                tag,
                query,
            } => self.tag_history(&repository, &tag, query).await,
            Route::ManifestAt { repository, tag, at } => {
                self.manifest_at(&repository, &tag, at, &head, &grants).await
            }
            Route::Changes {
                repository,
                tag,
                limit,
                before,
            } => {
                self.changes(&repository, tag.as_ref(), limit, before, &grants)
                    .await
            }
            Route::Run { run, page } => self.run(&run, &page, grants.visible()).await,
            Route::Restore { repository, what } => {
                self.restore(&repository, &what, &identity, &grants, deadline)
                    .await
            }
            Route::GetManifest {
                repository,
                reference,
            } => {
                let here = self.get_manifest(&repository, &reference, headers);
                self.fresh(asker.wants(&repository), &reference, here).await
            }
            Route::HeadManifest {
                repository,
                reference,
            } => {
                let here = self.head_manifest(&repository, &reference, headers);
                self.fresh(asker.wants(&repository), &reference, here).await
            }
            Route::PutManifest {
                repository,
                reference,
                tags,
            } => {
                let push = manifests::Push {
                    repository,
                    reference,
                    tags,
                    identity,
                    grants,
                    deadline,
                };
                self.put_manifest(push, &asker, headers, body).await
            }
            Route::DeleteManifest {
                repository,
                reference,
            } => {
                self.delete_manifest(&repository, &reference, headers, &identity, &grants, deadline)
                    .await
            }
            Route::GetBlob { repository, digest } => {
                match self.get_blob(&repository, &digest, headers).await {
                    Err(refusal) if refusal.is_unknown_blob() => {
                        self.get_growing_blob(asker.wants(&repository), &digest, headers)
                            .await
                    }
                    here => here,
                }
            }
            Route::HeadBlob { repository, digest } => {
                match self.head_blob(&repository, &digest, headers).await {
                    Err(refusal) if refusal.is_unknown_blob() => {
                        self.head_blob_elsewhere(asker.wants(&repository), &digest).await
                    }
                    here => here,
                }
            }
            Route::DeleteBlob { repository, digest } => {
                self.delete_blob(&repository, &digest, headers, deadline).await
            }
            Route::StartUpload {
                repository,
                algorithm,
            } => self.start_upload(&repository, algorithm).await,
            Route::PushBlob { repository, digest } => {
                self.push_blob(&repository, &digest, headers, body).await
            }
            Route::MountBlob {
                repository,
                digest,
                from,
            } => self.mount_blob(&repository, &digest, from, &grants).await,
            Route::UploadStatus { repository, upload } => self.upload_status(&repository, &upload).await,
            Route::UploadChunk { repository, upload } => {
                self.upload_chunk(&repository, &upload, headers, body).await
            }
            Route::FinishUpload {
                repository,
                upload,
                digest,
            } => {
                self.finish_upload(&repository, &upload, &digest, headers, body)
                    .await
            }
            Route::CancelUpload { repository, upload } => {
                self.registry.cancel(&repository, &upload).await?;
                Ok(Reply::new(StatusCode::NO_CONTENT).empty())
            }
        }
    }
}

fn api_version() -> Response<Body> {
    Reply::new(StatusCode::OK).json(&serde_json::json!({}))
}

/// The answer to a failed request. Only what is our fault is worth a line of its own.
fn refused(refusal: Refusal, route: &'static str, id: &RequestId) -> Response<Body> {
    let Refusal { answer, cause } = refusal;
    if let (true, Some(cause)) = (answer.status().is_server_error(), &cause) {
        tracing::warn!(request_id = %id, route, status = answer.status().as_u16(), error = %Chain(cause), "request failed");
    }
    answer.into_response(id)
}

#[cfg(test)]
mod tests;
