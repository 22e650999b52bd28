//! Whether a member that is given a change of a repository should make it (rule R5).

use std::{sync::Arc, time::Duration};

use prost::Message as _;

use super::{Hints, Liveness, Standing, View};
use crate::{
    oci::{RepoName, Route},
    placement::{self, HashKey, MemberId, Ranked},
    storage::{MetaStore, StoreError, StoreErrorKind, keys, rows},
};

/// How long a repository stays with a live holder before the member ranked first takes it over.
pub const HOLD_DOWN: Duration = Duration::from_secs(30);

/// Whether a repository's holder could be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// Nobody found otherwise.
    Unknown,
    /// The front could not reach it.
    UnreachableForFront,
}

/// The answer to a change offered to this member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// This member makes it, taking the repository over if need be.
    Mine,
    /// That member holds the repository.
    Held(MemberId),
}

/// Knows where repositories live, for the front that looks for an owner and for the member that is offered a change.
pub struct Owners {
    view: Arc<dyn View>,
    hash_key: HashKey,
    meta: Arc<dyn MetaStore>,
    hints: Hints,
}

impl Owners {
    /// Over the rows in `meta` and the members in `view`.
    pub fn new(view: Arc<dyn View>, hash_key: HashKey, meta: Arc<dyn MetaStore>, hints: Hints) -> Self {
        Self {
            view,
            hash_key,
            meta,
            hints,
        }
    }

    /// The mesh as this member sees it.
    pub fn view(&self) -> &Arc<dyn View> {
        &self.view
    }

    /// Where repositories were last found.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// All members in the order of their scores for `repository`.
    pub fn ranking(&self, repository: &RepoName) -> Vec<Ranked> {
        let members: Vec<_> = self
            .view
            .members()
            .iter()
            .map(|member| member.id.clone())
            .collect();
        placement::rank(&self.hash_key, &members, repository)
    }

    /// Live members to offer a request for `repository` to, best first: the member it was last found at, then the
    /// ranking.
    pub fn candidates(&self, repository: &RepoName) -> Vec<MemberId> {
        let is_live = |member: &MemberId| self.view.liveness(member) == Liveness::Live;
        let hinted = self.hints.get(repository).filter(is_live);
        let ranked = self
            .ranking(repository)
            .into_iter()
            .map(|ranked| ranked.member)
            .filter(is_live);
        let mut candidates: Vec<MemberId> = hinted.into_iter().collect();
        for member in ranked {
            if !candidates.contains(&member) {
                candidates.push(member);
            }
        }
        candidates
    }

    /// Whether this member should serve `route`. Only changes of names ask the store; reads and content-addressed
    /// additions are right anywhere.
    ///
    /// `reaches` tells whether this member itself reaches another one: a holder is passed over only if neither the front
    /// nor this member does.
    pub async fn claim(
        &self,
        route: &Route,
        front_found: Reachability,
        reaches: impl Fn(&MemberId) -> bool + Send,
    ) -> Result<Claim, StoreError> {
        let Some(repository) = route.repository() else {
            return Ok(Claim::Mine);
        };
        if !changes_names(route) {
            return Ok(Claim::Mine);
        }
        let Some((holder, held_since_ms)) = self.holder(repository).await? else {
            return Ok(Claim::Mine);
        };
        let (me, standing) = (self.view.me(), self.view.standing());
        if holder == *me {
            // It is this member, unless another process goes by its name now.
            return Ok(match standing {
                Standing::Member | Standing::Drained | Standing::Leaving => Claim::Mine,
                Standing::Superseded => Claim::Held(holder),
            });
        }
        if !self.lives(&holder).await {
            return Ok(Claim::Mine);
        }
        if front_found == Reachability::UnreachableForFront && !reaches(&holder) {
            return Ok(Claim::Mine);
        }
        let settled = crate::clock::now_ms().saturating_sub(held_since_ms) >= HOLD_DOWN.as_millis() as u64;
        if standing == Standing::Member && settled && self.first_live(repository).as_ref() == Some(me) {
            return Ok(Claim::Mine);
        }
        Ok(Claim::Held(holder))
    }

    /// Whether the holder of a repository lives. Before it is passed over the view is drawn anew: it may have come, or
    /// come back, a moment ago.
    async fn lives(&self, holder: &MemberId) -> bool {
        if self.view.liveness(holder) == Liveness::Live {
            return true;
        }
        self.view.look().await;
        self.view.liveness(holder) == Liveness::Live
    }

    /// The live member that is ranked first for `repository`.
    pub fn first_live(&self, repository: &RepoName) -> Option<MemberId> {
        let ranking = self.ranking(repository).into_iter().map(|ranked| ranked.member);
        ranking
            .into_iter()
            .find(|member| self.view.liveness(member) == Liveness::Live)
    }

    /// The members that live and take work on.
    pub fn live(&self) -> Vec<MemberId> {
        let members = self.view.members();
        let live = members.iter().filter(|member| member.liveness == Liveness::Live);
        live.map(|member| member.id.clone()).collect()
    }

    /// Which of `members` is ranked first for something that has a name and is no repository.
    pub fn first_for<'a>(&self, members: &'a [MemberId], name: &str) -> Option<&'a MemberId> {
        placement::first(&self.hash_key, members, name)
    }

    /// The member named in the repository's row and since when (milliseconds since the Unix epoch), if there is a row.
    pub async fn holder(&self, repository: &RepoName) -> Result<Option<(MemberId, u64)>, StoreError> {
        let Some(row) = self.meta.get(&keys::repository(repository)).await? else {
            return Ok(None);
        };
        let corrupt = |source: Box<dyn std::error::Error + Send + Sync>| {
            StoreError::with_source(StoreErrorKind::Corrupt, "read a repository's row", source)
        };
        let row = rows::Repository::decode(row.bytes).map_err(|error| corrupt(error.into()))?;
        let holder = row
            .holder
            .parse()
            .map_err(|error: placement::MemberIdError| corrupt(error.into()))?;
        Ok(Some((holder, row.held_since_ms)))
    }
}

/// Whether the route changes what a name means. Everything else is a read, or adds content under its own digest, which is
/// right wherever it is done.
fn changes_names(route: &Route) -> bool {
    match route {
        Route::PutManifest { .. }
        | Route::DeleteManifest { .. }
        | Route::DeleteBlob { .. }
        | Route::Restore { .. } => true,
        Route::ApiVersion
        | Route::Catalog { .. }
        | Route::ListTags { .. }
        | Route::GetManifest { .. }
        | Route::HeadManifest { .. }
        | Route::GetBlob { .. }
        | Route::HeadBlob { .. }
        | Route::StartUpload { .. }
        | Route::PushBlob { .. }
        | Route::MountBlob { .. }
        | Route::UploadStatus { .. }
        | Route::UploadChunk { .. }
        | Route::FinishUpload { .. }
        | Route::CancelUpload { .. }
        | Route::Referrers { .. }
        | Route::TagHistory { .. }
        | Route::ManifestAt { .. }
        | Route::Changes { .. }
        | Route::Run { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ownership::{Incarnation, MemberView, Proof},
        storage::{MemoryMeta, Version},
    };

    /// A view in which some members are gone.
    struct Partial {
        me: MemberId,
        gone: Vec<MemberId>,
        standing: Standing,
    }

    #[async_trait::async_trait]
    impl View for Partial {
        fn me(&self) -> &MemberId {
            &self.me
        }

        fn incarnation(&self) -> Incarnation {
            Incarnation::random()
        }

        fn members(&self) -> Arc<[MemberView]> {
            let view = |n| MemberView {
                id: member(n),
                mesh_address: format!("127.0.0.{n}:9443"),
                liveness: match self.gone.contains(&member(n)) {
                    true => Liveness::Gone,
                    false => Liveness::Live,
                },
                lease: None,
            };
            (1..=3).map(view).collect()
        }

        fn standing(&self) -> Standing {
            self.standing
        }

        fn proof(&self) -> Proof {
            Proof::Host
        }

        fn trouble(&self) -> Option<String> {
            None
        }

        fn age(&self) -> Duration {
            Duration::ZERO
        }

        async fn look(&self) {}
    }

    fn member(n: u8) -> MemberId {
        format!("127.0.0.{n}:5000").parse().unwrap()
    }

    fn repository() -> RepoName {
        "library/alpine".parse().unwrap()
    }

    fn delete() -> Route {
        Route::DeleteBlob {
            repository: repository(),
            digest: crate::oci::Digest::of(crate::oci::Algorithm::Sha256, b""),
        }
    }

    /// What member `me` answers when it is offered a change of a repository that `holder` has held for `held`.
    async fn claim(
        me: MemberId,
        gone: Vec<MemberId>,
        holder: &MemberId,
        held: Duration,
        front: Reachability,
    ) -> Claim {
        let view = Partial {
            me,
            gone,
            standing: Standing::Member,
        };
        claim_as(view, holder, held, front).await
    }

    async fn claim_as(view: Partial, holder: &MemberId, held: Duration, front: Reachability) -> Claim {
        let meta = MemoryMeta::default();
        let row = rows::Repository {
            holder: holder.as_str().to_owned(),
            held_since_ms: crate::clock::now_ms() - held.as_millis() as u64,
            ..Default::default()
        };
        let op = keys::repository(&repository()).put(crate::storage::Expect::Absent, row.encode_to_vec());
        meta.transact(Version::random(), &[op]).await.unwrap();
        let key = HashKey::new(*b"loremipsumdolors");
        let owners = Owners::new(Arc::new(view), key, Arc::new(meta), Hints::new(10));
        owners.claim(&delete(), front, |_| false).await.unwrap()
    }

    fn ranked() -> Vec<MemberId> {
        let key = HashKey::new(*b"loremipsumdolors");
        let members = [member(1), member(2), member(3)];
        placement::rank(&key, &members, &repository())
            .into_iter()
            .map(|ranked| ranked.member)
            .collect()
    }

    #[tokio::test]
    async fn a_live_holder_keeps_a_repository_from_everyone_else() {
        let [first, second, _] = ranked().try_into().unwrap();
        let just_now = Duration::from_secs(1);
        let answer = claim(first, vec![], &second, just_now, Reachability::Unknown).await;
        assert_eq!(answer, Claim::Held(second));
    }

    #[tokio::test]
    async fn the_member_ranked_first_takes_over_when_the_hold_down_is_over() {
        let [first, second, third] = ranked().try_into().unwrap();
        let long = HOLD_DOWN + Duration::from_secs(1);
        assert_eq!(
            claim(first, vec![], &second, long, Reachability::Unknown).await,
            Claim::Mine
        );
        assert_eq!(
            claim(third, vec![], &second, long, Reachability::Unknown).await,
            Claim::Held(second)
        );
    }

    #[tokio::test]
    async fn the_first_of_those_that_live_takes_over() {
        let [first, second, third] = ranked().try_into().unwrap();
        let long = HOLD_DOWN + Duration::from_secs(1);
        let gone = vec![first];
        let answer = claim(second, gone, &third, long, Reachability::Unknown).await;
        assert_eq!(answer, Claim::Mine);
    }

    #[tokio::test]
    async fn a_member_that_leaves_or_was_drained_keeps_what_it_holds_and_takes_nothing_on() {
        let [first, second, _] = ranked().try_into().unwrap();
        let long = HOLD_DOWN + Duration::from_secs(1);
        let as_first = |standing| Partial {
            me: first.clone(),
            gone: vec![],
            standing,
        };
        let held_by = |holder, standing| claim_as(as_first(standing), holder, long, Reachability::Unknown);
        for standing in [Standing::Drained, Standing::Leaving] {
            assert_eq!(held_by(&first, standing).await, Claim::Mine);
            assert_eq!(held_by(&second, standing).await, Claim::Held(second.clone()));
        }
    }

    #[tokio::test]
    async fn a_process_whose_name_another_one_has_taken_holds_nothing() {
        let [first, second, _] = ranked().try_into().unwrap();
        let long = HOLD_DOWN + Duration::from_secs(1);
        for holder in [&first, &second] {
            let view = Partial {
                me: first.clone(),
                gone: vec![],
                standing: Standing::Superseded,
            };
            let answer = claim_as(view, holder, long, Reachability::Unknown).await;
            assert_eq!(answer, Claim::Held(holder.clone()));
        }
    }

    #[tokio::test]
    async fn anyone_takes_over_from_a_holder_that_is_gone_or_unreachable() {
        let [first, second, third] = ranked().try_into().unwrap();
        let just_now = Duration::from_secs(1);
        let gone = vec![first.clone()];
        assert_eq!(
            claim(third.clone(), gone, &first, just_now, Reachability::Unknown).await,
            Claim::Mine
        );
        let unreachable = Reachability::UnreachableForFront;
        assert_eq!(
            claim(third, vec![], &second, just_now, unreachable).await,
            Claim::Mine
        );
    }

    #[tokio::test]
    async fn a_repository_without_a_row_is_anyones() {
        let key = HashKey::new(*b"loremipsumdolors");
        let view = Arc::new(Partial {
            me: member(3),
            gone: vec![],
            standing: Standing::Member,
        });
        let owners = Owners::new(view, key, Arc::new(MemoryMeta::default()), Hints::new(10));
        let answer = owners
            .claim(&delete(), Reachability::Unknown, |_| true)
            .await
            .unwrap();
        assert_eq!(answer, Claim::Mine);
    }

    #[test]
    fn candidates_are_the_hint_and_then_the_live_members_by_rank() {
        let [first, second, third] = ranked().try_into().unwrap();
        let key = HashKey::new(*b"loremipsumdolors");
        let view = Arc::new(Partial {
            me: member(1),
            gone: vec![first],
            standing: Standing::Member,
        });
        let owners = Owners::new(view, key, Arc::new(MemoryMeta::default()), Hints::new(10));
        assert_eq!(owners.candidates(&repository()), [second.clone(), third.clone()]);
        owners.hints().learn(&repository(), third.clone());
        assert_eq!(owners.candidates(&repository()), [third, second]);
    }
}
