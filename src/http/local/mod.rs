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

use std::{convert::Infallible, future::ready, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
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

    /// The work on a route, in a place of its own: what all of them take together would lie on the stack while one of them works, and
    /// a page's request has a second one below it.
    fn dispatch(&self, admitted: Admitted) -> BoxFuture<'_, Outcome> {
        if !admitted.is_covered() {
            return ready(Err(error::not_covered().into())).boxed();
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
        let asker = Asker {
            of: Route::namespace(head.uri.query()),
            by: identity.user.clone().unwrap_or_default(),
        };
        match route {
            Route::ApiVersion => ready(Ok(api_version())).boxed(),
            Route::Catalog { page } => async move { self.catalog(&page, grants.visible()).await }.boxed(),
            Route::ListTags { repository, page } => {
                async move { self.list_tags(&repository, &page).await }.boxed()
            }
            Route::Referrers {
                repository,
                subject,
                artifact_types,
                page,
            } => async move {
                let here = self.referrers(&repository, &subject, &artifact_types, &page);
                match page.last {
                    None => {
                        self.with_referrers(asker.wants(&repository), &subject, here)
                            .await
                    }
                    Some(_) => here.await,
                }
            }
            .boxed(),
            Route::TagHistory {
                repository,
                tag,
                query,
            } => async move { self.tag_history(&repository, &tag, query).await }.boxed(),
            Route::ManifestAt { repository, tag, at } => {
                async move { self.manifest_at(&repository, &tag, at, &head, &grants).await }.boxed()
            }
            Route::Changes {
                repository,
                tag,
                limit,
                before,
            } => async move {
                self.changes(&repository, tag.as_ref(), limit, before, &grants)
                    .await
            }
            .boxed(),
            Route::Run { run, page } => async move { self.run(&run, &page, grants.visible()).await }.boxed(),
            Route::Restore { repository, what } => async move {
                self.restore(&repository, &what, &identity, &grants, deadline)
                    .await
            }
            .boxed(),
            Route::GetManifest {
                repository,
                reference,
            } => async move {
                let here = self.get_manifest(&repository, &reference, &head.headers);
                self.fresh(asker.wants(&repository), &reference, here).await
            }
            .boxed(),
            Route::HeadManifest {
                repository,
                reference,
            } => async move {
                let here = self.head_manifest(&repository, &reference, &head.headers);
                self.fresh(asker.wants(&repository), &reference, here).await
            }
            .boxed(),
            Route::PutManifest {
                repository,
                reference,
                tags,
            } => async move {
                let push = manifests::Push {
                    repository,
                    reference,
                    tags,
                    identity,
                    grants,
                    deadline,
                };
                self.put_manifest(push, &asker, &head.headers, body).await
            }
            .boxed(),
            Route::DeleteManifest {
                repository,
                reference,
            } => async move {
                let headers = &head.headers;
                self.delete_manifest(&repository, &reference, headers, &identity, &grants, deadline)
                    .await
            }
            .boxed(),
            Route::GetBlob { repository, digest } => async move {
                match self.get_blob(&repository, &digest, &head.headers).await {
                    Err(refusal) if refusal.is_unknown_blob() => {
                        self.get_growing_blob(asker.wants(&repository), &digest, &head.headers)
                            .await
                    }
                    here => here,
                }
            }
            .boxed(),
            Route::HeadBlob { repository, digest } => async move {
                match self.head_blob(&repository, &digest, &head.headers).await {
                    Err(refusal) if refusal.is_unknown_blob() => {
                        self.head_blob_elsewhere(asker.wants(&repository), &digest).await
                    }
                    here => here,
                }
            }
            .boxed(),
            Route::DeleteBlob { repository, digest } => async move {
                self.delete_blob(&repository, &digest, &head.headers, deadline)
                    .await
            }
            .boxed(),
            Route::StartUpload {
                repository,
                algorithm,
            } => async move { self.start_upload(&repository, algorithm).await }.boxed(),
            Route::PushBlob { repository, digest } => {
                async move { self.push_blob(&repository, &digest, &head.headers, body).await }.boxed()
            }
            Route::MountBlob {
                repository,
                digest,
                from,
            } => async move { self.mount_blob(&repository, &digest, from, &grants).await }.boxed(),
            Route::UploadStatus { repository, upload } => {
                async move { self.upload_status(&repository, &upload).await }.boxed()
            }
            Route::UploadChunk { repository, upload } => {
                async move { self.upload_chunk(&repository, &upload, &head.headers, body).await }.boxed()
            }
            Route::FinishUpload {
                repository,
                upload,
                digest,
            } => async move {
                self.finish_upload(&repository, &upload, &digest, &head.headers, body)
                    .await
            }
            .boxed(),
            Route::CancelUpload { repository, upload } => async move {
                self.registry.cancel(&repository, &upload).await?;
                Ok(Reply::new(StatusCode::NO_CONTENT).empty())
            }
            .boxed(),
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
