//! Questions upstream that several ask at once: one asks, all get the answer.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Looked, SyncError, Thing};
use crate::net::Drain;

/// What came of it.
pub(super) type Outcome = Result<Looked, Arc<SyncError>>;

/// The answer, once it is there.
pub(super) type Asked = Shared<BoxFuture<'static, Outcome>>;

type Running = Arc<Mutex<BTreeMap<Thing, Asked>>>;

/// Questions that are being asked.
#[derive(Default)]
pub(super) struct Jobs(Running);

/// Forgets the question when it was answered, or its task was cut.
struct Entry(Running, Thing);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl Jobs {
    /// Asks `work`, unless somebody does already, as a task that ends by itself, whoever waits for it.
    pub(super) fn ask<W>(&self, question: Thing, drain: &Drain, work: impl FnOnce() -> W) -> Asked
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let mut running = self.0.lock();
        if let Some(asked) = running.get(&question) {
            return asked.clone();
        }
        let (told, answer) = oneshot::channel();
        let answer = async { answer.await.unwrap_or_else(|_| Err(Arc::new(SyncError::Ended))) };
        let asked = answer.boxed().shared();
        running.insert(question.clone(), asked.clone());
        let entry = Entry(self.0.clone(), question);
        let work = work();
        drain.spawn("questions to other registries", async move {
            let outcome = work.await;
            drop(entry);
            // Nobody may wait for it.
            let _ = told.send(outcome);
        });
        asked
    }
}
