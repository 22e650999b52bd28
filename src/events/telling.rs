//! Who tells sinks what the feeds have: each change becomes its events, which have the same ids whenever they are told.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    error::{SinkError, Untold},
    event::{CloudEvent, Naming, events_of},
    sink::{Line, Sink},
};
use crate::{
    config,
    config::{EventSink, Limits},
    maintenance::{Follower, Following, Share},
    oci::{Algorithm, Digest, Reference},
    registry::{
        Registry, RegistryError,
        changes::{Feed, NameChange},
    },
    telemetry::{EventOutcome, Metrics},
};

/// Tells all sinks.
pub struct Telling(Following<Teller>);

/// Tells one sink.
struct Teller {
    name: String,
    label: String,
    sink: Sink,
    naming: Naming,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
}

/// Whether a sink could be told, as far as this machine knows.
///
/// # Errors
/// As [`Telling::new`].
pub fn examine(sink: &EventSink, limits: &Limits) -> Result<(), SinkError> {
    Sink::new(sink, limits.events.connect).map(drop)
}

impl Telling {
    /// Not at work yet; `None` when nobody is to be told.
    ///
    /// # Errors
    /// [`SinkError`]: certificates or credentials of a sink can't be used.
    pub fn new(
        config: &config::Events,
        registry: &Arc<Registry>,
        share: Share,
        metrics: &Arc<Metrics>,
        limits: &Limits,
    ) -> Result<Option<Self>, SinkError> {
        let tellers = config.sinks.iter().enumerate().map(|(i, sink)| {
            Ok(Teller {
                name: name(sink),
                label: format!("sinks[{i}]"),
                sink: Sink::new(sink, limits.events.connect)?,
                naming: Naming::from(config),
                registry: registry.clone(),
                metrics: metrics.clone(),
            })
        });
        let tellers = tellers.collect::<Result<_, SinkError>>()?;
        let feed = Feed::new(registry.clone());
        Ok(Following::new(tellers, feed, Arc::new(share), limits.events).map(Self))
    }

    /// Works until `end` is cancelled, then stops where it stands.
    pub async fn run(self, end: CancellationToken) {
        self.0.run(end).await;
    }
}

/// The names by which those who are told follow the feeds.
#[must_use]
pub fn followers(config: &config::Events) -> Vec<String> {
    config.sinks.iter().map(name).collect()
}

/// The same as long as the same somebody is told, whatever the order of the sinks, certificates and passwords.
fn name(sink: &EventSink) -> String {
    let about = format!(
        "{:?} {} {}",
        sink.kind,
        sink.address,
        sink.channel.as_deref().unwrap_or_default()
    );
    let digest = Digest::of(Algorithm::Sha256, about.as_bytes());
    let hex = digest.as_str().trim_start_matches("sha256:");
    hex.chars().take(32).collect()
}

impl Follower for Teller {
    type Line = Line;
    type Untaken = Untold;

    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self) -> &str {
        &self.label
    }

    /// All events of a change, in their order.
    async fn take(&self, change: &NameChange, _: &[NameChange], line: &mut Line) -> Result<(), Untold> {
        for mut event in events_of(change, &self.naming) {
            self.complete(change, &mut event).await;
            let told = self.sink.tell(line, &event).await;
            let outcome = match told {
                Ok(()) => EventOutcome::Told,
                Err(_) => EventOutcome::Failed,
            };
            self.metrics.events(&self.label, outcome, 1);
            told?;
        }
        Ok(())
    }

    fn is_refusal(untaken: &Untold) -> bool {
        matches!(untaken, Untold::Refused(_))
    }

    async fn given_up(&self, changes: &[NameChange], why: &Untold) -> Result<(), RegistryError> {
        let events = changes.iter().map(|change| events_of(change, &self.naming).len());
        let events: usize = events.sum();
        if events > 0 {
            self.metrics
                .events(&self.label, EventOutcome::GivenUp, events as u64);
            let error = why as &dyn std::error::Error;
            tracing::error!(sink = self.label, events, error, "events were given up");
        }
        Ok(())
    }

    async fn missed(&self, _: u8) -> Result<(), RegistryError> {
        self.metrics.events(&self.label, EventOutcome::Missed, 1);
        Ok(())
    }

    fn waits(&self, age: Duration) {
        self.metrics.events_waiting(&self.label, age);
    }
}

impl Teller {
    /// With the manifest's document, as zot has it, unless it is gone by now or can't be read.
    async fn complete(&self, change: &NameChange, event: &mut CloudEvent) {
        let Some(manifest) = &event.manifest else { return };
        let reference = Reference::Digest(manifest.digest.clone());
        if let Ok((_, document)) = self.registry.manifest(&change.repository, &reference).await
            && let Ok(document) = std::str::from_utf8(&document)
        {
            event
                .data
                .insert("manifest".to_owned(), Value::String(document.to_owned()));
        }
    }
}
