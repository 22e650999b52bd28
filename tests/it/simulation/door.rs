//! A client of one member, over the simulated network: a connection for each request.

use std::{net::SocketAddr, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::{network::Wires, number, trace::Trace};
use crate::support::client::{self, Answer, Ask, Broken, Request};

/// How long a client waits: longer than a front holds a request.
const PATIENCE: Duration = Duration::from_secs(45);

#[derive(Clone)]
pub(super) struct Door {
    wires: Wires,
    address: SocketAddr,
    door: crate::support::door::Door,
    // The connections.
    tasks: TaskTracker,
    trace: Trace,
}

impl Door {
    pub(super) fn new(wires: Wires, address: SocketAddr, tasks: TaskTracker, trace: Trace) -> Self {
        Self {
            wires,
            address,
            door: address.into(),
            tasks,
            trace,
        }
    }

    async fn exchange(&self, request: &Request) -> Result<Answer, Broken> {
        let broken = |error: &dyn std::fmt::Display| Broken(format!("{}: {error}\n{request}", self.address));
        let end = self
            .wires
            .connect(self.address)
            .await
            .map_err(|error| broken(&error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(end))
            .await
            .map_err(|error| broken(&error))?;
        self.tasks.spawn(async move {
            // The request says how it ended.
            let _ = connection.await;
        });
        let answer = sender.send_request(request.on_connection(&self.door)).await;
        client::collect(&self.door, request, answer.map_err(|error| broken(&error))?).await
    }
}

impl Ask for Door {
    async fn ask(&self, request: Request) -> Result<Answer, Broken> {
        let answer = timeout(PATIENCE, self.exchange(&request)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(Broken(format!("{}: no answer\n{request}", self.address))));
        let status = answer.as_ref().map_or(0, |answer| u64::from(answer.status));
        self.trace.note("answered", &[number(self.address.ip()), status]);
        answer
    }
}
