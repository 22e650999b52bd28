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
mod uploads;

use std::{convert::Infallible, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::time::Instant;
use tower::service_fn;

use super::{
    error::{self, Answer, Chain},
    reply::Reply,
};
use crate::{
    admission::{Admitted, Body, RequestId, Served, Service, StoreTime},
    oci::{Digest, EntityTags, Preconditions, Route},
    registry::{Registry, RegistryError},
};

/// The local service over `registry`.
pub fn local(registry: Arc<Registry>) -> Service {
    let local = Local { registry };
    Service::new(service_fn(move |admitted| {
        let local = local.clone();
        async move { Ok::<_, Infallible>(local.serve(admitted).await) }
    }))
}

#[derive(Clone)]
struct Local {
    registry: Arc<Registry>,
}

/// An answer that isn't what was asked for, and the domain's reason where there is one.
struct Refusal {
    answer: Answer,
    cause: Option<RegistryError>,
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Self {
        Self {
            answer: error::registry(&error),
            cause: Some(error),
        }
    }
}

impl From<Answer> for Refusal {
    fn from(answer: Answer) -> Self {
        Self { answer, cause: None }
    }
}

type Outcome = Result<Response<Body>, Refusal>;

impl Local {
    async fn serve(&self, admitted: Admitted) -> Response<Body> {
        let started = Instant::now();
        let store_time = StoreTime::default();
        let route = admitted.route.name();
        let id = admitted.request_id.clone();
        let outcome = store_time.measure(self.dispatch(admitted)).await;
        let mut response = outcome.unwrap_or_else(|refusal| refused(refusal, route, &id));
        let served = Served {
            forwarded_to: None,
            owner: started.elapsed(),
            store: store_time.total(),
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
                self.referrers(&repository, &subject, &artifact_types, &page)
                    .await
            }
            Route::TagHistory {
                repository,
                tag,
                query,
            } => self.tag_history(&repository, &tag, query).await,
            Route::GetManifest {
                repository,
                reference,
            } => self.get_manifest(&repository, &reference, headers).await,
            Route::HeadManifest {
                repository,
                reference,
            } => self.head_manifest(&repository, &reference, headers).await,
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
                self.put_manifest(push, headers, body).await
            }
            Route::DeleteManifest {
                repository,
                reference,
            } => {
                self.delete_manifest(&repository, &reference, headers, &identity, &grants, deadline)
                    .await
            }
            Route::GetBlob { repository, digest } => self.get_blob(&repository, &digest, headers).await,
            Route::HeadBlob { repository, digest } => self.head_blob(&repository, &digest, headers).await,
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

/// `Content-Length`, which hyper has already held against the rest of the head.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .trim_ascii()
        .parse()
        .ok()
}

/// How long the body will be, where that is known beforehand.
fn announced(headers: &HeaderMap, body: &Body) -> Option<u64> {
    content_length(headers).or_else(|| http_body::Body::size_hint(body).exact())
}

/// Under which conditions a change is asked for. What can't be read is refused: without it the change would be made.
fn preconditions(headers: &HeaderMap) -> Result<Preconditions, Refusal> {
    let read = |name: HeaderName| -> Result<Option<EntityTags>, Refusal> {
        let values = headers.get_all(&name).into_iter().map(HeaderValue::as_bytes);
        Ok(EntityTags::parse(values).map_err(|error| error::bad_precondition(&name, &error))?)
    };
    Ok(Preconditions {
        if_match: read(header::IF_MATCH)?,
        if_none_match: read(header::IF_NONE_MATCH)?,
    })
}

/// Whether a read that finds `digest` finds what its client has already (`If-None-Match`).
///
/// A list that can't be read is no condition: there is nothing that a read could harm.
///
/// # Errors
/// 412 where it isn't what the client wants to read (`If-Match`: RFC 9110, 13.1.1).
fn is_known(headers: &HeaderMap, digest: &Digest) -> Result<bool, Refusal> {
    let read = |name: HeaderName| {
        let values = headers.get_all(name).into_iter().map(HeaderValue::as_bytes);
        EntityTags::parse(values).unwrap_or_default()
    };
    let conditions = Preconditions {
        if_match: read(header::IF_MATCH),
        if_none_match: read(header::IF_NONE_MATCH),
    };
    if !conditions.if_match_holds(Some(digest)) {
        return Err(error::precondition_failed(digest).into());
    }
    Ok(!conditions.hold(Some(digest)))
}

#[cfg(test)]
mod tests;
