//! A member in a simulation: started, killed, stopped and continued, with a wall clock of its own.

use std::{
    cell::Cell,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use portolan::{
    app::{App, Host as Machine, MemberSpec, Running},
    net::{Drain, Turnstile},
    outbound,
};
use tokio::time::Instant;

use super::{network::Net, stores::Shared, trace::Trace};

/// The simulated time at the start of each simulation, in milliseconds since the Unix epoch.
const BEGIN_MS: u64 = 1_800_000_000_000;

thread_local! {
    // When this thread's simulation began, and how far the clock of whoever is polled now is ahead, in milliseconds.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static AHEAD_MS: Cell<i64> = const { Cell::new(0) };
}

/// What the wall clock of the member that is polled now says.
pub(super) fn wall_clock() -> u64 {
    let began = BEGAN.get().unwrap_or_else(|| {
        let now = Instant::now();
        BEGAN.set(Some(now));
        now
    });
    let passed = u64::try_from(began.elapsed().as_millis()).unwrap();
    (BEGIN_MS + passed).saturating_add_signed(AHEAD_MS.get())
}

/// Forgets a former simulation of this thread.
pub(super) fn reset_clock() {
    BEGAN.set(None);
}

/// Stands between a process and the processor.
#[derive(Debug)]
struct Process {
    ahead_ms: i64,
    state: Mutex<Stopped>,
}

#[derive(Debug, Default)]
struct Stopped {
    is_stopped: bool,
    waiting: Vec<Waker>,
}

impl Turnstile for Process {
    fn poll(&self, task: Pin<&mut (dyn Future<Output = ()> + Send)>, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut state = self.state.lock();
            if state.is_stopped {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        AHEAD_MS.set(self.ahead_ms);
        let polled = task.poll(cx);
        AHEAD_MS.set(0);
        polled
    }
}

/// A member that can be started again and again.
pub(super) struct Member {
    pub(super) door: SocketAddr,
    spec: MemberSpec,
    ahead_ms: i64,
    process: Option<(Arc<Process>, Running)>,
}

impl Member {
    pub(super) fn new(spec: MemberSpec, ahead_ms: i64) -> Self {
        Self {
            door: spec.public,
            spec,
            ahead_ms,
            process: None,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(super) async fn start(&mut self, net: &Net, stores: &Shared, trace: &Trace) {
        let process = Arc::new(Process {
            ahead_ms: self.ahead_ms,
            state: Mutex::default(),
        });
        let host = self.door.ip();
        let machine = Machine {
            network: Arc::new(net.of(host)),
            drain: Drain::behind(process.clone()),
        };
        let stores = stores.of(host, net, trace);
        let wires = net.of(host);
        outbound::simulate(Some(Arc::new(move |to| wires.clone().outbound(&to))));
        let app = App::bind_on(machine, self.spec.clone(), stores).await;
        outbound::simulate(None);
        let running = app.expect("a member always starts").serve().await;
        self.process = Some((process, running));
    }

    /// kill -9.
    pub(super) async fn kill(&mut self) {
        if let Some((process, running)) = self.process.take() {
            process.state.lock().is_stopped = true;
            running.cut().await;
        }
    }

    /// SIGSTOP.
    pub(super) fn stop(&self) {
        if let Some((process, _)) = &self.process {
            process.state.lock().is_stopped = true;
        }
    }

    /// SIGCONT.
    pub(super) fn go_on(&self) {
        if let Some((process, _)) = &self.process {
            let mut state = process.state.lock();
            state.is_stopped = false;
            state.waiting.drain(..).for_each(Waker::wake);
        }
    }
}
