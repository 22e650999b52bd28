//! The budgets of registries that are asked, kept for the whole mesh: one member keeps each, and lends places in it over a stream that
//! lasts as long as the place.
//!
//! Who keeps a budget is placement's word over those that live, so nobody is appointed; while two see the members differently there
//! may be two who keep it. Who doesn't say within a moment that it has heard is passed over for a while.
//!
//! Deliberately absent: places that a former keeper lent. They end with what they were lent for.

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{Stream, stream};
use hyper::client::conn::http2::SendRequest;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, timeout, timeout_at},
};
use tonic::{Request, Response, Status, Streaming, body::Body};

use super::{
    Mesh, Peers,
    pb::{
        BudgetAnswer, BudgetRequest, BudgetResponse, budget_request::Kind, budgets_client::BudgetsClient,
        budgets_server,
    },
    peers::describe,
};
use crate::{
    ownership::Owners,
    placement::MemberId,
    upstream::{Budgets, Keeper, Keepers, Kept, Lent},
};

/// For how long one who didn't answer isn't asked again.
const SILENT: Duration = Duration::from_secs(5);
/// The longest that somebody waits for a turn, and the most bytes that are paid for at once.
const LONGEST_MS: u64 = 3_600_000;
const MOST_BYTES: u64 = 1 << 30;

/// Lends places in the budgets that this member keeps.
#[derive(Debug)]
pub(super) struct Lending(pub(super) Arc<Budgets>);

/// What comes next on the keeper's side of a stream.
enum Step {
    Hear,
    Enter,
    Serve(OwnedSemaphorePermit),
}

#[async_trait]
impl budgets_server::Budgets for Lending {
    type TakeStream = Pin<Box<dyn Stream<Item = Result<BudgetResponse, Status>> + Send>>;

    async fn take(
        &self,
        request: Request<Streaming<BudgetRequest>>,
    ) -> Result<Response<Self::TakeStream>, Status> {
        let mut asked = request.into_inner();
        let Some(Kind::Budget(name)) = asked.message().await?.and_then(|first| first.kind) else {
            return Err(Status::invalid_argument("the first message names a budget"));
        };
        let kept = self.0.kept(&name);
        let kept = kept.ok_or_else(|| Status::not_found(format!("there is no budget {name:?} here")))?;
        Ok(Response::new(Box::pin(lend(asked, kept))))
    }
}

fn lend(
    asked: Streaming<BudgetRequest>,
    kept: Arc<Kept>,
) -> impl Stream<Item = Result<BudgetResponse, Status>> + Send {
    stream::try_unfold((Step::Hear, asked), move |(step, mut asked)| {
        let kept = kept.clone();
        async move {
            let (answer, next) = match step {
                Step::Hear => (BudgetAnswer::Heard, Step::Enter),
                Step::Enter => match kept.enter(1).await {
                    Some(place) => (BudgetAnswer::Granted, Step::Serve(place)),
                    None => return Ok(None),
                },
                Step::Serve(place) => {
                    let Some(request) = asked.message().await? else {
                        return Ok(None);
                    };
                    (answer(&kept, request).await?, Step::Serve(place))
                }
            };
            let answer = BudgetResponse {
                answer: answer.into(),
            };
            Ok(Some((answer, (next, asked))))
        }
    })
}

async fn answer(kept: &Kept, request: BudgetRequest) -> Result<BudgetAnswer, Status> {
    match request.kind {
        Some(Kind::TurnMs(within_ms)) => {
            let until = Instant::now() + Duration::from_millis(within_ms.min(LONGEST_MS));
            Ok(match kept.turn(until, 1).await {
                true => BudgetAnswer::Granted,
                false => BudgetAnswer::Refused,
            })
        }
        Some(Kind::Bytes(bytes)) => {
            kept.spend(bytes.min(MOST_BYTES), 1).await;
            Ok(BudgetAnswer::Granted)
        }
        Some(Kind::Budget(_)) | None => Err(Status::invalid_argument("neither a turn nor bytes")),
    }
}

/// Takes places from those who keep budgets.
pub struct Borrowing {
    owners: Arc<Owners>,
    peers: Arc<Peers>,
    heard: Duration,
    lines: Arc<Mutex<BTreeMap<MemberId, Line>>>,
}

/// The way to one who keeps budgets.
enum Line {
    Up(SendRequest<Body>),
    /// It didn't answer, and isn't asked before then.
    Silent(Instant),
}

/// A place that another member lends.
struct Borrowed {
    asks: mpsc::Sender<BudgetRequest>,
    answers: Streaming<BudgetResponse>,
}

impl Borrowing {
    /// From the members of that mesh.
    #[must_use]
    pub fn from(mesh: &Mesh) -> Self {
        Self {
            owners: mesh.owners.clone(),
            peers: mesh.peers.clone(),
            heard: mesh.limits.budget_heard,
            lines: Arc::default(),
        }
    }

    /// A connection to who keeps a budget, which others use, too.
    async fn line(&self, keeper: &MemberId) -> Result<SendRequest<Body>, String> {
        if let Some(Line::Up(sender)) = self.lines.lock().get(keeper)
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let lines = self.lines.clone();
        let begun = move || lines.lock().clear();
        let sender = self.peers.line(keeper, begun).await;
        let sender = sender.map_err(|error| error.to_string())?;
        if !self.peers.is_ending() {
            let line = Line::Up(sender.clone());
            self.lines.lock().insert(keeper.clone(), line);
        }
        Ok(sender)
    }

    /// Asks for a place. Returns once that was heard.
    async fn ask(&self, keeper: &MemberId, budget: &str) -> Result<Borrowed, String> {
        let sender = self.line(keeper).await?;
        let service = tower::service_fn(move |request| {
            let mut sender = sender.clone();
            async move { sender.send_request(request).await }
        });
        let mut client = BudgetsClient::with_origin(service, http::Uri::from_static("https://member"));
        let (asks, queue) = mpsc::channel(1);
        let asking = stream::unfold(queue, |mut queue| async {
            let ask = queue.recv().await?;
            Some((ask, queue))
        });
        let failed = |status: Status| describe(&status);
        asks.try_send(request(Kind::Budget(budget.to_owned())))
            .map_err(|error| error.to_string())?;
        let answers = client.take(asking).await.map_err(failed)?;
        let mut borrowed = Borrowed {
            asks,
            answers: answers.into_inner(),
        };
        match borrowed.answer().await {
            Some(BudgetAnswer::Heard) => Ok(borrowed),
            _ => Err("it gives no place".to_owned()),
        }
    }

    fn is_silent(&self, keeper: &MemberId) -> bool {
        matches!(self.lines.lock().get(keeper), Some(Line::Silent(until)) if *until > Instant::now())
    }
}

#[async_trait]
impl Keepers for Borrowing {
    async fn enter(&self, budget: &str) -> Keeper {
        let members = self.owners.live();
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let nobody = Keeper::Nobody(count);
        let keeper = match self.owners.first_for(&members, &format!("budget {budget}")) {
            Some(keeper) if keeper != self.owners.view().me() => keeper,
            Some(_) | None => return Keeper::Here,
        };
        if self.is_silent(keeper) {
            return nobody;
        }
        let asked = timeout(self.heard, self.ask(keeper, budget)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.heard)));
        let mut borrowed = match asked {
            Ok(borrowed) => borrowed,
            Err(error) => {
                let silent = Line::Silent(Instant::now() + SILENT);
                self.lines.lock().insert(keeper.clone(), silent);
                tracing::warn!(
                    %keeper,
                    budget,
                    error,
                    "who keeps the budget of a registry can't be asked; this member goes by its share"
                );
                return nobody;
            }
        };
        match borrowed.answer().await {
            Some(BudgetAnswer::Granted) => Keeper::There(Box::new(borrowed), count),
            _ => nobody,
        }
    }
}

impl Borrowed {
    async fn answer(&mut self) -> Option<BudgetAnswer> {
        let answer = self.answers.message().await.ok()??;
        Some(answer.answer())
    }
}

#[async_trait]
impl Lent for Borrowed {
    async fn turn(&mut self, until: Instant) -> Option<bool> {
        let within = until.saturating_duration_since(Instant::now());
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.asks.send(request(Kind::TurnMs(within_ms))).await.ok()?;
        match timeout_at(until, self.answer()).await {
            Ok(answer) => Some(answer? == BudgetAnswer::Granted),
            Err(_) => Some(false),
        }
    }

    async fn spend(&mut self, bytes: u64) -> Option<()> {
        self.asks.send(request(Kind::Bytes(bytes))).await.ok()?;
        self.answer().await.map(drop)
    }
}

fn request(kind: Kind) -> BudgetRequest {
    BudgetRequest { kind: Some(kind) }
}
