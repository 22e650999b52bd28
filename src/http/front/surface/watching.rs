//! The mesh as it is, again and again, for as long as somebody looks: server-sent events of what the page shows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::Body,
    http::{
        error::{self, Answer},
        reply::Reply,
    },
    net::{Caller, Permit, Purpose, Shares, Supply},
    ui::{Ui, Visitor},
};

/// From one look at the mesh to the next, for who watches it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long somebody watches before they are decided about anew.
const WATCHED_FOR: Duration = Duration::from_secs(60);

/// Who watches the mesh. Places are shared out by client, and each ends with its minute, whether or not somebody still reads.
#[derive(Clone)]
pub(in crate::http::front) struct Watching {
    shares: Shares,
    places: Places,
    /// With which all of them end.
    end: CancellationToken,
}

type Places = Arc<Mutex<Taken>>;

#[derive(Default)]
struct Taken {
    /// Permits with their ends, by number.
    places: BTreeMap<u64, (Instant, Permit)>,
    next: u64,
}

/// Somebody's place, for as long as its stream is there.
struct Place {
    number: u64,
    places: Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().places.remove(&self.number);
    }
}

impl Watching {
    pub(in crate::http::front) fn new(most: usize, end: CancellationToken) -> Self {
        Self {
            shares: Shares::new(Supply::of(most)),
            places: Places::default(),
            end,
        }
    }

    /// A place until then, if there is one for this client.
    fn take(&self, caller: &Caller, until: Instant) -> Option<Place> {
        let mut taken = self.places.lock();
        let now = Instant::now();
        taken.places.retain(|_, (end, _)| *end > now);
        let permit = self.shares.try_take(caller, Purpose::Other)?;
        let number = taken.next;
        taken.next += 1;
        taken.places.insert(number, (until, permit));
        let places = self.places.clone();
        Some(Place { number, places })
    }

    /// Sends the mesh as it is, now and every two seconds, as events (HTML Living Standard, 9.2). When they end the browser asks
    /// anew, and is decided about anew.
    pub(super) fn begin(&self, ui: Ui, visitor: Visitor, caller: &Caller) -> Result<Response<Body>, Answer> {
        let until = Instant::now() + WATCHED_FOR;
        let place = self.take(caller, until).ok_or_else(error::too_many_watchers)?;
        let end = self.end.clone();
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

    fn client(n: u8) -> Caller {
        Caller::of(None, Some(([192, 0, 2, n], 1).into()))
    }

    #[tokio::test(start_paused = true)]
    async fn watching_ends_by_itself_and_its_place_is_anothers() {
        let (watching, (ui, looks)) = (Watching::new(1, CancellationToken::new()), ui());
        let first = watching.begin(ui.clone(), visitor(), &client(1)).ok().unwrap();
        assert!(watching.begin(ui.clone(), visitor(), &client(2)).is_err());
        let began = Instant::now();
        let said = first.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(looks.load(Ordering::Relaxed), 30);
        assert_eq!(began.elapsed(), WATCHED_FOR - LOOK_EVERY);
        assert_eq!(said.windows(2).filter(|pair| *pair == b"\n\n").count(), 30);
        assert!(watching.begin(ui, visitor(), &client(2)).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_ends_with_its_minute_though_nobody_reads() {
        let (watching, (ui, looks)) = (Watching::new(1, CancellationToken::new()), ui());
        let begin = |n| watching.begin(ui.clone(), visitor(), &client(n));
        let unread = begin(1).ok().unwrap();
        sleep(WATCHED_FOR - Duration::from_secs(1)).await;
        assert!(begin(2).is_err());
        sleep(Duration::from_secs(1)).await;
        let second = begin(2).ok().unwrap();
        // What is left of the first takes nobody's place along, and shows nothing more.
        let said = unread.into_body().collect().await.unwrap().to_bytes();
        assert!(said.is_empty() && looks.load(Ordering::Relaxed) == 0, "{said:?}");
        assert!(begin(3).is_err());
        drop(second);
        assert!(begin(3).is_ok());
    }

    #[tokio::test]
    async fn nobody_has_all_places() {
        let (watching, (ui, _)) = (Watching::new(8, CancellationToken::new()), ui());
        let mut held = Vec::new();
        let mut all = |n| {
            let before = held.len();
            held.extend(std::iter::from_fn(|| {
                watching.begin(ui.clone(), visitor(), &client(n)).ok()
            }));
            held.len() - before
        };
        assert_eq!([all(1), all(2), all(3)], [4, 2, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn watching_ends_with_the_member() {
        let (end, (ui, looks)) = (CancellationToken::new(), ui());
        let watched = Watching::new(1, end.clone())
            .begin(ui, visitor(), &client(1))
            .ok()
            .unwrap();
        let ending = async {
            sleep(LOOK_EVERY * 5 / 2).await;
            end.cancel();
        };
        let (said, ()) = tokio::join!(watched.into_body().collect(), ending);
        assert!(said.is_ok());
        assert_eq!(looks.load(Ordering::Relaxed), 3);
    }
}
