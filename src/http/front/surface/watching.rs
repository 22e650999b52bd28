//! The mesh as it is, again and again, for as long as somebody looks: server-sent events of what the page shows.

use std::{sync::Arc, time::Duration};

use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Body,
    http::{
        error::{self, Answer},
        reply::Reply,
    },
    ui::{Ui, Visitor},
};

/// From one look at the mesh to the next, for who watches it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long somebody watches before they are decided about anew.
const WATCHED_FOR: Duration = Duration::from_secs(60);

/// Who watches the mesh.
#[derive(Clone)]
pub(in crate::http::front) struct Watching {
    places: Arc<Semaphore>,
    /// With which all of them end.
    end: CancellationToken,
}

impl Watching {
    pub(in crate::http::front) fn new(most: usize, end: CancellationToken) -> Self {
        let places = Arc::new(Semaphore::new(most));
        Self { places, end }
    }

    /// Sends the mesh as it is, now and every two seconds, as events (HTML Living Standard, 9.2). When they end the browser asks
    /// anew, and is decided about anew.
    pub(super) fn begin(&self, ui: Ui, visitor: Visitor) -> Result<Response<Body>, Answer> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| error::too_many_watchers())?;
        let (end, until) = (self.end.clone(), Instant::now() + WATCHED_FOR);
        let next = move |pause| {
            let (ui, visitor, end) = (ui.clone(), visitor.clone(), end.clone());
            async move {
                let look = async {
                    sleep(pause).await;
                    ui.mesh_now(&visitor).await
                };
                end.run_until_cancelled(look).await
            }
        };
        let events = futures_util::stream::unfold((place, Duration::ZERO), move |(place, pause)| {
            let look = (Instant::now() + pause < until).then(|| next(pause));
            async move {
                let now = look?.await?;
                // A line break would end the event; in the page it is a space as well.
                let event = format!("event: mesh\ndata: {}\n\n", now.replace(['\n', '\r'], " "));
                Some((Ok(Frame::data(event.into())), (place, LOOK_EVERY)))
            }
        });
        let reply = Reply::new(StatusCode::OK).no_store();
        let reply = reply.header("content-type", "text/event-stream").unending();
        Ok(reply.map(|_| StreamBody::new(events).boxed_unsync()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{
        admission::{self, Visible},
        auth::{Oversight, Stay},
        ui::{Ask, MeshFacts, Offers},
    };

    fn visitor() -> Visitor {
        Visitor {
            user: None,
            sees: Visible::Nothing,
            deletable: Visible::Nothing,
            updatable: Visible::Nothing,
            oversight: Oversight::Mesh,
            stay: Stay::Shown,
            registry: String::new(),
            ask: Ask(Arc::new(|_| {
                Box::pin(std::future::ready(Response::new(admission::empty())))
            })),
        }
    }

    /// A page that counts how often it looked.
    fn ui() -> (Ui, Arc<AtomicUsize>) {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = looks.clone();
        let look = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let facts = Arc::new(MeshFacts::default());
            Box::pin(std::future::ready(facts)) as futures_util::future::BoxFuture<'static, _>
        };
        (Ui::new(Offers::default(), Arc::new(look)), looks)
    }

    #[tokio::test(start_paused = true)]
    async fn watching_ends_by_itself_and_its_place_is_anothers() {
        let (watching, (ui, looks)) = (Watching::new(1, CancellationToken::new()), ui());
        let first = watching.begin(ui.clone(), visitor()).ok().unwrap();
        assert!(watching.begin(ui.clone(), visitor()).is_err());
        let began = Instant::now();
        let said = first.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(looks.load(Ordering::Relaxed), 30);
        assert_eq!(began.elapsed(), WATCHED_FOR - LOOK_EVERY);
        assert_eq!(said.windows(2).filter(|pair| *pair == b"\n\n").count(), 30);
        assert!(watching.begin(ui, visitor()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn watching_ends_with_the_member() {
        let (end, (ui, looks)) = (CancellationToken::new(), ui());
        let watched = Watching::new(1, end.clone()).begin(ui, visitor()).ok().unwrap();
        let ending = async {
            sleep(LOOK_EVERY * 5 / 2).await;
            end.cancel();
        };
        let (said, ()) = tokio::join!(watched.into_body().collect(), ending);
        assert!(said.is_ok());
        assert_eq!(looks.load(Ordering::Relaxed), 3);
    }
}
