//! What balancers and orchestrators ask.
//!
//! `/livez`: the process answers. `/startupz`: it has started; sockets open only then. `/readyz`: it should be sent
//! requests, that is, it isn't about to end, nobody has drained it, it is in touch with the other members' leases, it can write the audit that it
//! must write, it has room for another request, and its stores answer; these are asked, at most every [`FRESH`]. None of them
//! needs a login, a permit or a working mesh.

use std::{sync::Arc, time::Duration};

use http::{Response, StatusCode};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::reading::{Read, only_read};
use crate::{
    admission::Body,
    auth::Gate,
    http::reply::Reply,
    net::{Drain, Shares},
    ownership::{Standing, View},
    registry::Stores,
    storage::{ObjectKey, StoreError, keys},
    telemetry::logs,
};

/// As the log calls them: of what is asked for every few seconds it says little.
pub(in crate::http::front) const NAME: &str = "probe";

/// How long an answer of the stores counts.
const FRESH: Duration = Duration::from_secs(2);
/// How long the stores may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Answers the probes.
#[derive(Clone)]
pub struct Probes(Arc<Inner>);

struct Inner {
    view: Arc<dyn View>,
    drain: Drain,
    permits: Shares,
    stores: Stores,
    gate: Arc<Gate>,
    stores_seen: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Probes {
    /// Of the member whose view of the mesh this is. It isn't ready any more once `drain` says that it leaves, nor while
    /// `stores` don't answer or all `permits` for requests are taken.
    pub fn new(view: Arc<dyn View>, drain: Drain, permits: Shares, stores: Stores, gate: Arc<Gate>) -> Self {
        Self(Arc::new(Inner {
            view,
            drain,
            permits,
            stores,
            gate,
            stores_seen: Mutex::default(),
        }))
    }

    pub(super) fn read(&self, request: &http::Request<Body>) -> Read<Request> {
        let question = match request.uri().path() {
            "/livez" | "/startupz" => Request::Alive,
            "/readyz" => Request::Ready(self.clone()),
            _ => return None,
        };
        Some(only_read(request).map(|()| question))
    }

    /// Whether requests should be sent here, and why not.
    pub async fn readiness(&self) -> Result<(), String> {
        if self.0.drain.is_leaving() {
            return Err("shutting down".to_owned());
        }
        if self.0.view.standing() == Standing::Drained {
            return Err("drained by an administrator".to_owned());
        }
        if let Some(trouble) = self.0.view.trouble() {
            return Err(trouble);
        }
        if let Some(trouble) = logs::trouble() {
            return Err(trouble);
        }
        if self.0.permits.is_exhausted() {
            let all = self.0.permits.supply().all;
            return Err(format!("full: {all} requests are under way"));
        }
        // Many may ask at once; the stores are asked once.
        let mut seen = self.0.stores_seen.lock().await;
        match &*seen {
            Some((when, answer)) if when.elapsed() < FRESH => answer.clone(),
            _ => {
                let answer = self.ask_stores().await;
                *seen = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }

    /// What there is to say of a member that should be sent requests: one by whom some can't log in serves the others, and one whose
    /// metadata may be lost serves what there is.
    fn in_part(&self) -> String {
        let troubles = self.0.gate.troubles();
        let caveat = self.0.stores.meta.caveat();
        let lines = troubles.iter().map(|trouble| format!("{trouble}\n"));
        let caveat = caveat.map(|caveat| format!("{caveat}\n"));
        std::iter::once("ok\n".to_owned())
            .chain(lines)
            .chain(caveat)
            .collect()
    }

    async fn ask_stores(&self) -> Result<(), String> {
        let Inner { stores, view, .. } = &*self.0;
        let row = keys::lease(view.me());
        let meta = answers("metadata", async { stores.meta.get(&row).await.map(drop) });
        let blobs = answers("blob", async {
            match ObjectKey::parse("readiness") {
                Some(key) => stores.blobs.head(&key).await.map(drop),
                None => Ok(()),
            }
        });
        let (meta, blobs) = tokio::join!(meta, blobs);
        meta.and(blobs)
    }
}

async fn answers(store: &str, request: impl Future<Output = Result<(), StoreError>>) -> Result<(), String> {
    match timeout(PATIENCE, request).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the {store} store fails: {error}")),
        Err(_) => Err(format!(
            "the {store} store doesn't answer within {} s",
            PATIENCE.as_secs()
        )),
    }
}

/// What is asked.
pub(in crate::http::front) enum Request {
    /// Whether the process answers.
    Alive,
    /// Whether requests should be sent to it.
    Ready(Probes),
}

impl Request {
    pub(in crate::http::front) async fn answer(self) -> Response<Body> {
        let (status, text) = match self {
            Self::Alive => (StatusCode::OK, "ok\n".to_owned()),
            Self::Ready(probes) => match probes.readiness().await {
                Ok(()) => (StatusCode::OK, probes.in_part()),
                Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
            },
        };
        let reply = Reply::new(status).no_store();
        reply
            .header("content-type", "text/plain; charset=utf-8")
            .bytes(text.into())
    }
}
