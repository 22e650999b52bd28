//! The mesh for the page: a look at all members at most once a second, however many people look.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::future::FutureExt as _;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    mesh::{self, Mesh, Sight, Told, pb},
    oci::RepoName,
    placement::{self, HashKey, MemberId},
    search::Search,
    telemetry::Metrics,
    ui::{Forward, Look, Member, MeshFacts, Owned, Spoken, TakeOver},
};

/// How old a look may be.
const FRESH: Duration = Duration::from_secs(1);
/// How long a member may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Rates are those of so long, where somebody has looked for that long.
const LATELY: Duration = Duration::from_secs(10);
/// Repositories whose names are remembered of each member.
const NAMES: usize = 200;

/// What is looked at.
pub(super) struct Overview {
    pub(super) me: MemberId,
    /// The other members, and what places repositories among them; `None` for a member by itself.
    pub(super) mesh: Option<(Arc<Mesh>, HashKey)>,
    /// Who knows the repositories.
    pub(super) search: Option<Arc<Search>>,
    pub(super) metrics: Arc<Metrics>,
}

impl Overview {
    pub(super) fn look(self) -> Look {
        let (this, looks) = (Arc::new(self), Arc::new(Mutex::new(VecDeque::new())));
        Arc::new(move || {
            let (this, looks) = (this.clone(), looks.clone());
            async move { this.latest(&mut *looks.lock().await).await }.boxed()
        })
    }

    async fn latest(&self, looks: &mut VecDeque<(Instant, Arc<MeshFacts>)>) -> Arc<MeshFacts> {
        if let Some((when, facts)) = looks.back()
            && when.elapsed() < FRESH
        {
            return facts.clone();
        }
        let mut facts = self.facts().await;
        looks.retain(|(when, _)| when.elapsed() < LATELY + FRESH);
        facts.before = looks
            .front()
            .map(|(when, before)| (when.elapsed(), before.clone()));
        // Who looks at this one later needs none of those before.
        let kept = Arc::new(MeshFacts {
            before: None,
            ..facts.clone()
        });
        looks.push_back((Instant::now(), kept));
        Arc::new(facts)
    }

    async fn facts(&self) -> MeshFacts {
        let (members, trouble) = match &self.mesh {
            Some((mesh, _)) => {
                let Sight { members, told } = mesh.sight(PATIENCE).await;
                let trouble = members.trouble;
                let members = members.members.into_iter().zip(told);
                (
                    members.map(|(member, told)| seen(member, told)).collect(),
                    trouble,
                )
            }
            None => (vec![self.alone()], String::new()),
        };
        let (owned, is_whole) = self.owned(&members).await;
        MeshFacts {
            me: self.me.to_string(),
            trouble,
            members,
            owned,
            is_whole,
            before: None,
        }
    }

    fn alone(&self) -> Member {
        Member {
            name: self.me.to_string(),
            is_live: true,
            why: "it is a registry by itself".to_owned(),
            spoken: Some(Spoken {
                counters: mesh::samples(&self.metrics.render()),
                ..Spoken::default()
            }),
            ..Member::default()
        }
    }

    /// What is placed at each of the members, and whether that is everything.
    async fn owned(&self, members: &[Member]) -> (Vec<Owned>, bool) {
        let mut owned = vec![Owned::default(); members.len()];
        let Some(search) = &self.search else {
            return (owned, false);
        };
        let live = members.iter().enumerate().filter(|(_, member)| member.is_live);
        let live = live.filter_map(|(n, member)| Some((member.name.parse::<MemberId>().ok()?, n)));
        let (live, places): (Vec<MemberId>, Vec<usize>) = live.unzip();
        let key = self.mesh.as_ref().map(|(_, key)| *key);
        let place = move |repository: &RepoName| match &key {
            None => Some(0),
            Some(key) => {
                let owner = placement::first(key, &live, repository.as_str())?;
                let at = live.iter().position(|member| member == owner)?;
                places.get(at).copied()
            }
        };
        let surveyed = search.clone().survey(move |repositories| {
            for (name, bytes) in repositories {
                let Some(owned) = place(&name).and_then(|at| owned.get_mut(at)) else {
                    continue;
                };
                owned.repositories += 1;
                owned.bytes += bytes;
                if owned.first.len() < NAMES {
                    owned.first.push(name);
                }
            }
            owned
        });
        surveyed.await.unwrap_or_default()
    }
}

/// A member as the page knows it.
fn seen(member: pb::Member, told: Result<Told, String>) -> Member {
    let (spoken, silent) = match told {
        Ok(told) => (Some(spoken(told)), String::new()),
        Err(why) => (None, why),
    };
    let trouble = match (member.live, member.last_error.is_empty()) {
        (true, true) => silent,
        (true, false) => member.last_error,
        // Why it doesn't live is said.
        (false, _) => String::new(),
    };
    Member {
        name: member.name,
        is_live: member.live,
        why: member.why,
        unrenewed: member
            .lease
            .map(|lease| Duration::from_millis(lease.unchanged_ms)),
        trouble,
        spoken,
    }
}

fn spoken(told: Told) -> Spoken {
    let forward = |forward: pb::ForwardInFlight| Forward {
        is_front: forward.direction() == pb::Direction::Forwarded,
        route: forward.route,
        repository: forward.repository.parse().ok(),
        peer: forward.peer,
        age: Duration::from_millis(forward.age_ms),
    };
    let take_over = |take_over: pb::TakeOver| {
        Some(TakeOver {
            repository: take_over.repository.parse().ok()?,
            from: take_over.from,
            by: take_over.by,
            at_ms: take_over.at_ms,
        })
    };
    Spoken {
        counters: told.counters,
        forwards: told.forwards.into_iter().map(forward).collect(),
        take_overs: told.take_overs.into_iter().filter_map(take_over).collect(),
    }
}
