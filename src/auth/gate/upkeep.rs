//! What keeps a gate up to date: files that are read again, what was revoked elsewhere, and who is asked about logins.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use super::{Gate, PolicySource, Signed};
use crate::{auth::oidc::Misconfigured, net::Drain};

impl Gate {
    /// Finds out whether a way to log in is configured so that it can't work; what can't be asked just now may be later.
    ///
    /// # Errors
    /// [`Misconfigured`].
    pub async fn check(&self) -> Result<(), Misconfigured> {
        match &self.people {
            Some(people) => people.check().await,
            None => Ok(()),
        }
    }

    /// Ways to log in that don't work just now, and why. All others do.
    pub fn troubles(&self) -> Vec<String> {
        let directory = self.directory.as_ref().and_then(|directory| directory.trouble());
        let directory = directory.map(|reason| format!("nobody can log in by http.auth.ldap: {reason}"));
        let providers = self.people.iter().flat_map(|people| people.troubles());
        let workloads = self.workloads.troubles();
        let workloads = workloads
            .map(|reason| format!("workloads may not be able to log in by http.auth.bearer.oidc: {reason}"));
        directory.into_iter().chain(providers).chain(workloads).collect()
    }

    /// Learns what was revoked at other members, and what those who are asked about logins say, until `drain` begins. Each of
    /// them has a task of its own: one that ends takes no other along.
    pub fn follow(self: &Arc<Self>, drain: &Drain) {
        if let Some(signed) = &self.signed {
            let Signed { keys, revoked, ended } = signed.clone();
            until(drain, "keys of tokens", async move { keys.sweep().await });
            until(drain, "revoked keys", async move { revoked.follow().await });
            until(drain, "ended sessions", async move { ended.follow().await });
        }
        if let Some(keys) = self.api_keys.clone() {
            let (interval, end) = (self.key_uses_interval, drain.token());
            drain.spawn(
                "uses of API keys",
                async move { keys.write_uses(interval, end).await },
            );
        }
        if let Some(directory) = self.directory.clone() {
            until(drain, "directory", async move { directory.follow().await });
        }
        let providers = self.people.iter().flat_map(|people| people.issuers());
        for provider in providers.chain(self.workloads.issuers()) {
            until(drain, "identity provider", async move { provider.follow().await });
        }
    }

    /// Reads files that have changed, every few seconds, until `drain` begins.
    pub async fn watch(self: Arc<Self>, drain: Drain) {
        let mut ticks = interval(self.look_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = drain.begun() => return,
            }
            let gate = self.clone();
            let looked = tokio::task::spawn_blocking(move || gate.look()).await;
            if looked.is_err() {
                tracing::error!("reading changed files panicked");
            }
        }
    }

    /// Reads files again that have changed. May block.
    pub(in crate::auth) fn look(&self) {
        for authenticator in &self.authenticators {
            authenticator.look();
        }
        match &self.policy {
            PolicySource::Fixed(_) => {}
            PolicySource::File(file) => file.look(),
        }
    }
}

/// Goes on in the background until `drain` begins.
fn until(drain: &Drain, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let begun = drain.token();
    drain.spawn(name, async move {
        let _ = begun.run_until_cancelled(work).await;
    });
}
