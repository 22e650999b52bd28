//! What all members say of themselves at one moment, for the page: each is asked for its diagnostics, as an operator would ask.
//!
//! Each look has connections of its own, which end with it: people look seldom, and what carries requests stays free of this.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tonic::{Code, Request, Status, body::Body};

use super::{
    diagnostics::Diagnostics,
    parts::Mesh,
    pb::{
        self, CountersRequest, ForwardsRequest, MembersRequest, TakeOversRequest,
        diagnostics_client::DiagnosticsClient, diagnostics_server::Diagnostics as _,
    },
    peers::describe,
};
use crate::placement::MemberId;

/// The mesh as one member sees it, and what each member that it believes to be alive says of itself.
#[derive(Clone, Debug)]
pub struct Sight {
    /// Who there is.
    pub members: pb::MembersResponse,
    /// In the order of `members`. `Err` says why one couldn't be asked.
    pub told: Vec<Result<Told, String>>,
}

/// What a member says of itself.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its metrics, by name with labels.
    pub counters: HashMap<String, f64>,
    /// What it forwards and replays.
    pub forwards: Vec<pb::ForwardInFlight>,
    /// What it took over lately.
    pub take_overs: Vec<pb::TakeOver>,
}

impl Mesh {
    /// Looks. Who hasn't answered within `bound` is silent.
    pub async fn sight(self: &Arc<Self>, bound: Duration) -> Sight {
        let here = Diagnostics(self.clone());
        let members = here.members(Request::new(MembersRequest {})).await;
        let members = members.map(tonic::Response::into_inner).unwrap_or_default();
        let told = members.members.iter().map(|member| async {
            if member.name == members.self_ {
                return said(&here).await;
            }
            if !member.live {
                return Err(member.why.clone());
            }
            let name: MemberId = member.name.parse().map_err(|_| "it has no name".to_owned())?;
            let asked = timeout(bound, self.ask(&name)).await;
            asked.unwrap_or_else(|_| Err(format!("no answer within {} s", bound.as_secs())))
        });
        let told = join_all(told).await;
        Sight { members, told }
    }

    async fn ask(&self, member: &MemberId) -> Result<Told, String> {
        let io = self.peers.connect(member).await;
        let io = io.map_err(|error| error.to_string())?;
        let (sender, connection) = http2::Builder::new(self.peers.executor())
            .timer(TokioTimer::new())
            .handshake::<_, Body>(TokioIo::new(io))
            .await
            .map_err(|error| describe(&error))?;
        let service = tower::service_fn(move |request| {
            let mut sender = sender.clone();
            async move { sender.send_request(request).await }
        });
        let client = DiagnosticsClient::with_origin(service, http::Uri::from_static("https://member"));
        let (mut counters, mut forwards, mut take_overs) = (client.clone(), client.clone(), client);
        let asked = async {
            let (counters, forwards, take_overs) = tokio::join!(
                counters.counters(CountersRequest {}),
                forwards.forwards(ForwardsRequest {}),
                take_overs.take_overs(TakeOversRequest {}),
            );
            let take_overs = match take_overs {
                Ok(told) => told.into_inner().take_overs,
                // A former release doesn't know of them.
                Err(status) if status.code() == Code::Unimplemented => Vec::new(),
                Err(status) => return Err(status),
            };
            Ok(Told {
                counters: counters?.into_inner().counters,
                forwards: forwards?.into_inner().forwards,
                take_overs,
            })
        };
        tokio::select! {
            biased;
            asked = asked => asked.map_err(|status| describe(&status)),
            ended = connection => Err(match ended {
                Ok(()) => "it hung up".to_owned(),
                Err(error) => describe(&error),
            }),
        }
    }
}

/// What this member says of itself.
async fn said(here: &Diagnostics) -> Result<Told, String> {
    let failed = |status: Status| status.message().to_owned();
    let counters = here.counters(Request::new(CountersRequest {})).await;
    let forwards = here.forwards(Request::new(ForwardsRequest {})).await;
    let take_overs = here.take_overs(Request::new(TakeOversRequest {})).await;
    Ok(Told {
        counters: counters.map_err(failed)?.into_inner().counters,
        forwards: forwards.map_err(failed)?.into_inner().forwards,
        take_overs: take_overs.map_err(failed)?.into_inner().take_overs,
    })
}
