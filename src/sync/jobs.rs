//! Questions upstream that several ask at once: one asks, all get the answer.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Looked, SyncError, Thing};
use crate::net::Drain;

/// What came of it.
pub(super) type Outcome = Result<Looked, Arc<SyncError>>;

type Running = Arc<Mutex<BTreeMap<Thing, watch::Receiver<Option<Outcome>>>>>;

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
    /// Asks `work`, unless somebody does already, as a task that ends by itself; [`answer`] waits for it.
    pub(super) fn ask<W>(
        &self,
        question: Thing,
        drain: &Drain,
        work: impl FnOnce() -> W,
    ) -> watch::Receiver<Option<Outcome>>
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let mut running = self.0.lock();
        if let Some(asked) = running.get(&question) {
            return asked.clone();
        }
        let (told, answer) = watch::channel(None);
        running.insert(question.clone(), answer.clone());
        let entry = Entry(self.0.clone(), question);
        let work = work();
        drain.spawn("questions to other registries", async move {
            let outcome = work.await;
            drop(entry);
            told.send_replace(Some(outcome));
        });
        answer
    }
}

/// The answer, once it is there.
pub(super) async fn answer(mut asked: watch::Receiver<Option<Outcome>>) -> Outcome {
    match asked.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(Arc::new(SyncError::Ended))),
        Err(_) => Err(Arc::new(SyncError::Ended)),
    }
}
