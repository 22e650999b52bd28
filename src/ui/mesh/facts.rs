//! What is known of the mesh at one moment, and what follows from it: sums, rates, means.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::oci::RepoName;

/// Looks at the mesh.
pub type Look = Arc<dyn Fn() -> BoxFuture<'static, Arc<MeshFacts>> + Send + Sync>;

/// The mesh, as one member sees it.
#[derive(Clone, Debug, Default)]
pub struct MeshFacts {
    /// Who sees it.
    pub me: String,
    /// What keeps it from seeing the others, or from being seen; empty where nothing does.
    pub trouble: String,
    /// In the order of their names.
    pub members: Vec<Member>,
    /// What each of them owns, in their order.
    pub owned: Vec<Owned>,
    /// Whether those are all repositories.
    pub is_whole: bool,
    /// How the members were so long ago, where somebody has looked then.
    pub before: Option<(Duration, Arc<MeshFacts>)>,
}

/// What is placed at a member.
#[derive(Clone, Debug, Default)]
pub struct Owned {
    /// How many repositories.
    pub repositories: u64,
    /// What their images take, in bytes; a blob counts in each repository that has it.
    pub bytes: f64,
    /// The first of them, by name.
    pub first: Vec<RepoName>,
}

/// A member.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Whether it is believed to be alive.
    pub is_live: bool,
    /// Why, or why not.
    pub why: String,
    /// For how long its lease is known not to have been renewed; `None` where it has none.
    pub unrenewed: Option<Duration>,
    /// Why it couldn't be asked or reached; empty where it could.
    pub trouble: String,
    /// What it says of itself.
    pub spoken: Option<Spoken>,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default)]
pub struct Spoken {
    /// Its metrics, by name with labels.
    pub counters: HashMap<String, f64>,
    /// Requests on their way through it.
    pub forwards: Vec<Forward>,
    /// What it took over lately, the latest first.
    pub take_overs: Vec<TakeOver>,
}

/// A request on its way from a front to an owner.
#[derive(Clone, Debug, Default)]
pub struct Forward {
    /// Whether the member that tells is its front; else it is its owner.
    pub is_front: bool,
    /// What it asks for.
    pub route: String,
    /// Of which repository; `None` where that is none's.
    pub repository: Option<RepoName>,
    /// The member at the other end.
    pub peer: String,
    /// For how long.
    pub age: Duration,
}

/// A change by which a repository got another holder.
#[derive(Clone, Debug)]
pub struct TakeOver {
    /// Which repository.
    pub repository: RepoName,
    /// Who held it.
    pub from: String,
    /// Who holds it since.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// What a member has asked of one of the stores.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Asked {
    pub(super) requests: f64,
    pub(super) seconds: f64,
    pub(super) failed: f64,
}

impl Spoken {
    /// The sum of the samples of a metric that have all these labels.
    pub(super) fn sum(&self, metric: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |said: &str| {
            let mut labels = labels.iter();
            labels.all(|(name, value)| said.contains(&format!("{name}=\"{value}\"")))
        };
        let fits = |sample: &str| match sample.split_once('{') {
            Some((name, said)) => name == metric && has(said),
            None => sample == metric && labels.is_empty(),
        };
        let fitting = self.counters.iter().filter(|(sample, _)| fits(sample));
        // Of nothing `sum` makes -0.
        fitting.fold(0.0, |sum, (_, value)| sum + value)
    }

    pub(super) fn store(&self, store: &str) -> Asked {
        const REQUESTS: &str = "portolan_store_requests_total";
        let requests = self.sum(REQUESTS, &[("store", store)]);
        let fine = ["ok", "refused", "not_found"].map(|outcome| {
            let of = [("store", store), ("outcome", outcome)];
            self.sum(REQUESTS, &of)
        });
        Asked {
            requests,
            seconds: self.sum("portolan_store_duration_seconds_sum", &[("store", store)]),
            failed: (requests - fine.iter().sum::<f64>()).max(0.0),
        }
    }
}

impl MeshFacts {
    fn before(&self, name: &str) -> Option<(Duration, &Spoken)> {
        let (since, facts) = self.before.as_ref()?;
        let member = facts.members.iter().find(|member| member.name == name)?;
        Some((*since, member.spoken.as_ref()?))
    }

    /// How much a count has grown in a second, lately. A member that has started anew counts from zero.
    pub(super) fn rate(&self, member: &Member, of: impl Fn(&Spoken) -> f64) -> Option<f64> {
        let (since, before) = self.before(&member.name)?;
        let grown = of(member.spoken.as_ref()?) - of(before);
        (grown >= 0.0).then(|| grown / since.as_secs_f64().max(0.1))
    }

    /// The mean time of a request to a store, in seconds: lately, or since the member's start where it asked nothing lately.
    pub(super) fn mean(&self, member: &Member, store: &str) -> Option<f64> {
        let now = member.spoken.as_ref()?.store(store);
        let before = self.before(&member.name).map(|(_, spoken)| spoken.store(store));
        let lately = before.filter(|before| now.requests > before.requests && now.seconds >= before.seconds);
        let before = lately.unwrap_or_default();
        (now.requests > 0.0).then(|| (now.seconds - before.seconds) / (now.requests - before.requests))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(requests: f64, seconds: f64, failed: f64) -> Member {
        let of = |name: &str, store: &str, outcome: &str| {
            format!("{name}{{store=\"{store}\",operation=\"get\",outcome=\"{outcome}\"}}")
        };
        let counters = [
            (of("portolan_store_requests_total", "meta", "ok"), requests),
            (of("portolan_store_requests_total", "meta", "throttled"), failed),
            (of("portolan_store_requests_total", "blobs", "ok"), 7.0),
            (of("portolan_store_duration_seconds_sum", "meta", "ok"), seconds),
            ("portolan_requests_in_flight".to_owned(), 3.0),
        ];
        Member {
            name: "a:1".to_owned(),
            spoken: Some(Spoken {
                counters: counters.into(),
                ..Spoken::default()
            }),
            ..Member::default()
        }
    }

    #[test]
    fn times_and_rates_are_those_since_the_last_look() {
        let requests = |spoken: &Spoken| spoken.sum("portolan_store_requests_total", &[("store", "meta")]);
        let now = member(30.0, 0.5, 2.0);
        let alone = MeshFacts::default();
        let spoken = now.spoken.as_ref().unwrap();
        let asked = Asked {
            requests: 32.0,
            seconds: 0.5,
            failed: 2.0,
        };
        assert_eq!(spoken.store("meta"), asked);
        assert_eq!(spoken.sum("portolan_requests_in_flight", &[]), 3.0);
        assert_eq!(spoken.sum("portolan_requests_total", &[]).to_string(), "0");
        assert_eq!(alone.mean(&now, "meta"), Some(0.5 / 32.0));
        assert_eq!(alone.rate(&now, requests), None);
        let before = MeshFacts {
            members: vec![member(10.0, 0.3, 2.0)],
            ..MeshFacts::default()
        };
        let facts = MeshFacts {
            before: Some((Duration::from_secs(2), Arc::new(before))),
            ..MeshFacts::default()
        };
        assert!((facts.mean(&now, "meta").unwrap() - 0.01).abs() < 1e-9);
        assert_eq!(facts.rate(&now, requests), Some(10.0));
        // It has started anew.
        let anew = member(1.0, 0.1, 0.0);
        assert_eq!(facts.rate(&anew, requests), None);
        assert_eq!(facts.mean(&anew, "meta"), Some(0.1));
        assert_eq!(facts.mean(&member(0.0, 0.0, 0.0), "meta"), None);
    }
}
