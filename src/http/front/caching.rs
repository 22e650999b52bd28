//! `Cache-Control`: who may keep an answer, and for how long (RFC 9111).
//!
//! A shared cache answers whoever asks, without asking here. So what needs a login is for the caller's own cache only; what
//! everybody may read is for all caches, for a time after which a deletion or another policy holds everywhere. What isn't
//! addressed by its content is asked for again each time. The same holds for GET and HEAD, for the whole, a part and "not
//! modified". Answers to what changes something aren't kept by anybody (RFC 9110, 9.2.3),
//! nor are links to the store: they are for one client and soon over.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode, header};

use super::{
    step::{Next, Step},
    surface::{Decided, Surface},
};
use crate::{
    admission::Body,
    auth::Audience,
    oci::{Effect, Reference, Route},
};

/// Says it on answers of the distribution API. Others say it themselves.
#[derive(Clone)]
pub(super) struct Caching {
    /// How long a shared cache may keep what everybody may read.
    pub(super) public_max_age: Duration,
}

impl Step for Caching {
    type In = Decided;
    type Out = Decided;

    async fn run<N: Next<Decided>>(self, decided: Decided, next: N) -> Response<Body> {
        let Surface::Registry(route) = &decided.surface else {
            return next.go(decided).await;
        };
        let (effect, is_content) = (route.effect(), is_content(route));
        let audience = decided.decision.audience;
        let mut response = next.go(decided).await;
        if response.status().is_redirection() && response.headers().contains_key(header::LOCATION) {
            let value = HeaderValue::from_static("no-store");
            response.headers_mut().insert(header::CACHE_CONTROL, value);
        } else if effect == Effect::Safe {
            let lasts = is_content && has_content(response.status());
            let value = self.directives(lasts, audience);
            response.headers_mut().insert(header::CACHE_CONTROL, value);
        }
        response
    }
}

impl Caching {
    fn directives(&self, lasts: bool, audience: Audience) -> HeaderValue {
        match (lasts, audience) {
            (true, Audience::Everybody) => {
                let seconds = self.public_max_age.as_secs();
                HeaderValue::try_from(format!("public, max-age={seconds}"))
                    .unwrap_or(HeaderValue::from_static("no-cache"))
            }
            // A year, and no question in between: the caller could have kept a copy anyway.
            (true, Audience::Some) => HeaderValue::from_static("private, max-age=31536000, immutable"),
            (false, Audience::Everybody) => HeaderValue::from_static("no-cache"),
            (false, Audience::Some) => HeaderValue::from_static("private, no-cache"),
        }
    }
}

/// Whether the route names its answer by what is in it.
fn is_content(route: &Route) -> bool {
    match route {
        Route::GetBlob { .. } | Route::HeadBlob { .. } => true,
        Route::GetManifest { reference, .. } | Route::HeadManifest { reference, .. } => match reference {
            Reference::Digest(_) => true,
            Reference::Tag(_) => false,
        },
        Route::ApiVersion
        | Route::Catalog { .. }
        | Route::ListTags { .. }
        | Route::PutManifest { .. }
        | Route::DeleteManifest { .. }
        | Route::DeleteBlob { .. }
        | Route::StartUpload { .. }
        | Route::PushBlob { .. }
        | Route::MountBlob { .. }
        | Route::UploadStatus { .. }
        | Route::UploadChunk { .. }
        | Route::FinishUpload { .. }
        | Route::CancelUpload { .. }
        | Route::Referrers { .. }
        | Route::TagHistory { .. }
        | Route::ManifestAt { .. }
        | Route::Changes { .. }
        | Route::Restore { .. }
        | Route::Run { .. } => false,
    }
}

/// Whether an answer of this status is the content, a part of it, or that it is the same.
fn has_content(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
    )
}
