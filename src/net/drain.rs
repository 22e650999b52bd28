//! How the program ends: a notice, then no new work, then a bounded wait for what is in flight, then a report of what was cut.
//!
//! Deliberately absent: the signal (the caller of [`Drain::begin`] knows why), and what "finish" means for a protocol:
//! whoever serves a connection waits for [`Drain::begun`] and asks its HTTP connection to close gracefully.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
#[cfg(debug_assertions)]
use std::{
    pin::Pin,
    task::{Context, Poll},
};

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The life of everything that runs for one member. Cheap to clone; clones are the same drain.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    // The end is near: who has a choice goes elsewhere.
    leaving: CancellationToken,
    // No new work.
    begun: CancellationToken,
    // The wait is over: what still runs is dropped.
    cut: CancellationToken,
    tasks: TaskTracker,
    next: AtomicU64,
    // The named ones among the tasks.
    running: Mutex<BTreeMap<u64, Cow<'static, str>>>,
    #[cfg(debug_assertions)]
    turnstile: Option<Arc<dyn Turnstile>>,
}

/// What a simulation puts between a member's tasks and the runtime, to stop the member for a while, or to give it a clock
/// of its own. Only with debug assertions, so in no release.
#[cfg(debug_assertions)]
pub trait Turnstile: fmt::Debug + Send + Sync + 'static {
    /// Polls the task, or doesn't, and wakes it later.
    fn poll(&self, task: Pin<&mut (dyn Future<Output = ()> + Send)>, cx: &mut Context<'_>) -> Poll<()>;
}

/// Tasks of one name that had not ended when the wait was over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// As given to [`Drain::spawn`].
    pub name: String,
    /// How many.
    pub count: usize,
}

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.count, self.name)
    }
}

impl Drain {
    /// Nothing runs yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing runs yet; what will be passes `turnstile` each time it is polled.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn behind(turnstile: Arc<dyn Turnstile>) -> Self {
        let shared = Shared {
            turnstile: Some(turnstile),
            ..Shared::default()
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Runs `work` as a task that shutdown waits for, and reports as `name` if it has to be cut. When it is cut its
    /// future is dropped where it stands.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, work: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        self.shared.running.lock().insert(id, name.into());
        let entry = Entry {
            shared: self.shared.clone(),
            id,
        };
        self.track(async move {
            let _entry = entry;
            work.await;
        })
    }

    /// As [`spawn`](Self::spawn), for the many small tasks (one a stream) whose connection already has a name.
    pub fn track<F>(&self, work: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        #[cfg(debug_assertions)]
        if let Some(turnstile) = self.shared.turnstile.clone() {
            let mut work = Box::pin(work);
            return self.run(std::future::poll_fn(move |cx| turnstile.poll(work.as_mut(), cx)));
        }
        self.run(work)
    }

    fn run<F>(&self, work: F) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move {
            // Cut or ended: nobody asks the task which.
            let _ = shared.cut.run_until_cancelled(work).await;
        })
    }

    /// The end is near, and everything is still served: connections are ended where that costs nobody a request.
    pub fn leave(&self) {
        self.shared.leaving.cancel();
    }

    /// Whether [`leave`](Self::leave) or [`begin`](Self::begin) was called.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.shared.leaving.is_cancelled()
    }

    /// Resolves once [`leave`](Self::leave) or [`begin`](Self::begin) is called.
    pub async fn leaving(&self) {
        self.shared.leaving.cancelled().await;
    }

    /// No new work from now on. Whoever accepts work looks at [`begun`](Self::begun) or
    /// [`is_begun`](Self::is_begun).
    pub fn begin(&self) {
        self.shared.leaving.cancel();
        self.shared.begun.cancel();
    }

    /// Whether [`begin`](Self::begin) was called.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.shared.begun.is_cancelled()
    }

    /// Resolves once [`begin`](Self::begin) is called.
    pub async fn begun(&self) {
        self.shared.begun.cancelled().await;
    }

    /// A token that is cancelled by [`begin`](Self::begin), for loops of other modules. Cancelling it is `begin`.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.shared.begun.clone()
    }

    /// An executor for HTTP connections whose tasks shutdown waits for, too.
    #[must_use]
    pub fn executor(&self) -> TrackedExecutor {
        TrackedExecutor(self.clone())
    }

    /// Begins, waits at most `bound` for every task to end, then cuts and reports those that haven't.
    pub async fn finish(&self, bound: Duration) -> Vec<Remaining> {
        self.begin();
        self.shared.tasks.close();
        if tokio::time::timeout(bound, self.shared.tasks.wait())
            .await
            .is_ok()
        {
            return Vec::new();
        }
        let remaining = self.running();
        self.shared.cut.cancel();
        // Dropping a future takes no time unless one blocks its thread; that one isn't waited for.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.shared.tasks.wait()).await;
        remaining
    }

    /// What runs now, by name.
    #[must_use]
    pub fn running(&self) -> Vec<Remaining> {
        let mut counts = BTreeMap::<String, usize>::new();
        for name in self.shared.running.lock().values() {
            *counts.entry(name.clone().into_owned()).or_default() += 1;
        }
        counts
            .into_iter()
            .map(|(name, count)| Remaining { name, count })
            .collect()
    }
}

struct Entry {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.running.lock().remove(&self.id);
    }
}

/// Runs the tasks of HTTP connections on a [`Drain`].
#[derive(Clone, Debug)]
pub struct TrackedExecutor(Drain);

impl<F> hyper::rt::Executor<F> for TrackedExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        self.0.track(async move {
            work.await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutdown_waits_for_what_is_in_flight() {
        let drain = Drain::new();
        let inner = drain.clone();
        drain.spawn("pull", async move {
            inner.begun().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        });
        assert_eq!(drain.finish(Duration::from_secs(5)).await, vec![]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_cut_and_named() {
        let drain = Drain::new();
        let guard = Arc::new(());
        for _ in 0..2 {
            let guard = guard.clone();
            drain.spawn("a pull that never ends", async move {
                std::future::pending::<()>().await;
                drop(guard);
            });
        }
        let remaining = drain.finish(Duration::from_secs(1)).await;
        assert_eq!(
            remaining,
            vec![Remaining {
                name: "a pull that never ends".to_owned(),
                count: 2
            }]
        );
        assert_eq!(remaining[0].to_string(), "2 x a pull that never ends");
        assert_eq!(Arc::strong_count(&guard), 1, "the futures were dropped");
        assert_eq!(drain.running(), vec![]);
    }

    #[tokio::test]
    async fn a_panic_in_a_task_does_not_hold_up_shutdown() {
        let drain = Drain::new();
        let task = drain.spawn("broken", async { panic!("on purpose") });
        assert!(task.await.is_err());
        assert_eq!(drain.finish(Duration::from_secs(5)).await, vec![]);
    }
}
