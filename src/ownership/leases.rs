//! The live view of the mesh (rule R7): each member renews a row of its own and watches the rows of the others.
//!
//! Every [`heartbeat`](LeaseLimits::heartbeat) a member replaces its row, if the row is still the one it wrote itself,
//! and reads all rows. Whom it takes for dead is decided in [`sightings`](super::sightings). A row that another start of
//! the same name has replaced is that start's from then on: the newer start wins, and this one takes no repository on
//! any more.
//!
//! Leases steer who serves, never what is true. A member that can't reach the store keeps its last view.
//!
//! Deliberately absent: locks, fencing and release. Whoever takes a repository over needs none of them.

mod drawing;
mod joining;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::{Instant, MissedTickBehavior, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::drawing::{Drawing, tell_changes};
pub use self::joining::{JoinError, Joining, Membership, OwnKey};
use super::{
    Announcement, DrainError, Incarnation, KeyHash, Liveness, MemberView, Proof, Standing, View,
    lease::Lease,
    sightings::{Judge, Reading, Sightings},
};
use crate::{
    config::limits::LeaseLimits,
    placement::MemberId,
    storage::{Expect, MetaStore, Outcome, Row, Space, StoreError, Version, keys, rows},
    telemetry::{LeaseOutcome, Metrics},
};

/// Times that one's own row is sent again because it had changed.
const RENEWALS: usize = 5;
/// Keys of former certificates that stay in a lease.
const FORMER_KEYS: usize = 3;
/// Times that leaving is said, when the store doesn't take it.
const GOODBYES: usize = 3;
/// Rows of long gone members that are removed at a time.
const REMOVALS: usize = 10;

/// The view of the mesh by leases.
pub struct Leases {
    me: MemberId,
    incarnation: Incarnation,
    meta: Arc<dyn MetaStore>,
    said: Announcement,
    own_key: OwnKey,
    limits: LeaseLimits,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    // One renewal at a time.
    own: tokio::sync::Mutex<Own>,
    // One reading at a time; when the last one began.
    reading: tokio::sync::Mutex<Option<Instant>>,
}

struct State {
    membership: Membership,
    sightings: Sightings,
    members: Arc<[MemberView]>,
    standing: Standing,
    renewed: Health,
    read: Health,
}

/// How a recurring request to the store goes.
struct Health {
    well: Instant,
    fault: Option<String>,
}

/// One's own row.
struct Own {
    expect: Expect,
    // Until its first renewal a start replaces whatever stands under its name.
    is_announced: bool,
    // The current one first.
    keys: Vec<KeyHash>,
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leases")
            .field("me", &self.me)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

impl Leases {
    /// Looks who is there, as a new start of `me`. Nobody knows of it before [`announce`](Self::announce).
    ///
    /// Where rows of other settings are found that nobody said to have left, this waits until it knows whether they are
    /// renewed: as long as a lease lasts, at most.
    ///
    /// # Errors
    /// [`JoinError`], also when the store doesn't answer for as long as a lease lasts.
    pub async fn join(joining: Joining) -> Result<Self, JoinError> {
        let Joining {
            me,
            meta,
            said,
            own_key,
            membership,
            limits,
            metrics,
        } = joining;
        let now = Instant::now();
        let health = || Health {
            well: now,
            fault: None,
        };
        let leases = Self {
            incarnation: Incarnation::random(),
            state: Mutex::new(State {
                membership,
                sightings: Sightings::default(),
                members: Arc::new([]),
                standing: Standing::Member,
                renewed: health(),
                read: health(),
            }),
            own: tokio::sync::Mutex::new(Own {
                expect: Expect::Absent,
                is_announced: false,
                keys: Vec::new(),
            }),
            reading: tokio::sync::Mutex::new(None),
            me,
            meta,
            said,
            own_key,
            limits,
            metrics,
        };
        leases.compare().await?;
        Ok(leases)
    }

    /// Reads until no live member is known to have other settings.
    async fn compare(&self) -> Result<(), JoinError> {
        let until = Instant::now() + self.limits.expiry;
        loop {
            match self.read().await {
                Ok(()) => {
                    let others = self.others_settings();
                    if let Some((member, differs, _)) = others.iter().find(|(_, _, is_renewed)| *is_renewed) {
                        return Err(JoinError::Differs {
                            member: member.clone(),
                            differs: differs.clone(),
                        });
                    }
                    let Some((member, differs, _)) = others.first() else {
                        return Ok(());
                    };
                    tracing::info!(%member, ?differs, "a lease has other settings: waiting whether it is renewed");
                }
                Err(error) if Instant::now() >= until => return Err(JoinError::Store(error)),
                Err(error) => tracing::warn!(%error, "the leases can't be read yet"),
            }
            sleep(self.limits.heartbeat / 2).await;
        }
    }

    /// Members with other settings that aren't known to be gone, and whether they are known to live.
    fn others_settings(&self) -> Vec<(MemberId, Vec<String>, bool)> {
        let state = self.state.lock();
        let others = state.sightings.iter().filter(|sighting| {
            sighting.lease.member != self.me && !sighting.is_silent && !sighting.lease.left
        });
        others
            .map(|other| {
                let differs = self.said.differs(&other.lease.said);
                (other.lease.member.clone(), differs, other.is_renewed)
            })
            .filter(|(_, differs, _)| !differs.is_empty())
            .collect()
    }

    /// Tells the others that this member is there, and looks who they are now. What the store refuses is tried again by
    /// [`run`](Self::run).
    pub async fn announce(&self) {
        let _ = self.renew().await;
        let _ = self.read().await;
    }

    /// Renews and reads until `ended`.
    pub async fn run(&self, ended: CancellationToken) {
        let mut ticks =
            tokio::time::interval_at(Instant::now() + self.limits.heartbeat, self.limits.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while ended.run_until_cancelled(ticks.tick()).await.is_some() {
            let round = async {
                if matches!(self.standing(), Standing::Member | Standing::Drained) {
                    let _ = self.renew().await;
                }
                let _ = self.read().await;
                self.remove_long_gone().await;
            };
            if ended.run_until_cancelled(round).await.is_none() {
                return;
            }
        }
    }

    /// Says to the others that this member is about to end. It takes no repository on any more.
    pub async fn leave(&self) {
        {
            let mut state = self.state.lock();
            if matches!(state.standing, Standing::Member | Standing::Drained) {
                state.standing = Standing::Leaving;
            }
            self.rebuild(&mut state);
        }
        for _ in 0..GOODBYES {
            match self.renew().await {
                Ok(()) => break,
                Err(error) => tracing::warn!(error, "can't tell the others that this member leaves"),
            }
        }
        let _ = self.read().await;
    }

    /// Is drained from now on, or a member like the others again, and tells them.
    async fn stand_as(&self, wanted: Standing) -> Result<(), DrainError> {
        // Who is there, as late as it can be known.
        let _ = self.read().await;
        {
            let mut state = self.state.lock();
            let is_live = |other: &MemberView| other.id != self.me && other.liveness == Liveness::Live;
            match state.standing {
                Standing::Leaving => return Err(DrainError::Ending),
                Standing::Superseded => return Err(DrainError::Superseded),
                Standing::Member if wanted == Standing::Drained && !state.members.iter().any(is_live) => {
                    return Err(DrainError::Alone);
                }
                Standing::Member | Standing::Drained => state.standing = wanted,
            }
            self.rebuild(&mut state);
        }
        self.renew().await.map_err(DrainError::Untold)
    }

    /// Replaces the list of members. Without effect on dynamic membership.
    pub fn list(&self, members: Vec<(MemberId, String)>) {
        let mut state = self.state.lock();
        match &mut state.membership {
            Membership::Listed(listed) => *listed = members,
            Membership::Dynamic { .. } => {}
        }
        self.rebuild(&mut state);
    }

    /// Puts this member's row, if it is as it was left.
    async fn renew(&self) -> Result<(), String> {
        let mut own = self.own.lock().await;
        let renewed = self.put(&mut own).await;
        let mut state = self.state.lock();
        let outcome = match &renewed {
            Ok(()) => LeaseOutcome::Ok,
            Err(_) => LeaseOutcome::Failed,
        };
        self.metrics.lease_renewal(outcome);
        state.renewed.take(Instant::now(), renewed.as_ref().err());
        renewed
    }

    async fn put(&self, own: &mut Own) -> Result<(), String> {
        own.show((self.own_key)());
        for _ in 0..RENEWALS {
            let (left, drained) = match self.standing() {
                Standing::Member => (false, false),
                Standing::Drained => (true, true),
                Standing::Leaving => (true, false),
                Standing::Superseded => return Ok(()),
            };
            let lease = Lease {
                member: self.me.clone(),
                incarnation: self.incarnation,
                said: self.said.clone(),
                keys: own.keys.clone(),
                left,
                drained,
            };
            let version = Version::random();
            let op = [keys::lease(&self.me).put(own.expect, lease.bytes())];
            let sent = timeout(self.limits.patience, self.meta.transact(version, &op)).await;
            match sent.map_err(|_| "the store doesn't answer in time".to_owned())? {
                Ok(Outcome::Committed) => {
                    own.expect = Expect::Version(version);
                    own.is_announced = true;
                    return Ok(());
                }
                Ok(Outcome::Refused { current, .. }) => self.changed(own, current.as_ref()),
                // The next renewal finds out.
                Ok(Outcome::Unknown) => return Err("the store doesn't say whether it was written".to_owned()),
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("its row changes all the time: does another process run under this name?".to_owned())
    }

    /// This member's row isn't as it was left.
    fn changed(&self, own: &mut Own, current: Option<&Row>) {
        own.expect = Expect::unchanged(current);
        let Some(row) = current else { return };
        let by = rows::Lease::decode(row.bytes.clone()).map(|row| row.incarnation);
        let is_own = by.is_ok_and(|by| *by == self.incarnation.to_bytes());
        // A renewal whose outcome nobody told has happened after all.
        own.is_announced |= is_own;
        if own.is_announced && !is_own {
            tracing::error!(
                member = %self.me,
                "another process has started under this name: this one takes no repository on any more; end one of them"
            );
            let mut state = self.state.lock();
            state.standing = Standing::Superseded;
            self.rebuild(&mut state);
        }
    }

    /// Reads all leases.
    async fn read(&self) -> Result<(), StoreError> {
        let mut last = self.reading.lock().await;
        *last = Some(Instant::now());
        self.read_now().await
    }

    async fn read_now(&self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let read = timeout(self.limits.patience, self.rows()).await;
        let read = read.unwrap_or_else(|_| {
            Err(StoreError::with_source(
                crate::storage::StoreErrorKind::Unavailable,
                "read the leases",
                "the store doesn't answer in time",
            ))
        });
        let mut state = self.state.lock();
        let fault = read.as_ref().err().map(StoreError::to_string);
        state.read.take(Instant::now(), fault.as_ref());
        self.metrics.lease_reading(match &fault {
            None => LeaseOutcome::Ok,
            Some(_) => LeaseOutcome::Failed,
        });
        let judge = match state.renewed.fault {
            None => Judge::Yes,
            Some(_) => Judge::No,
        };
        let reading = Reading {
            begun,
            ended: Instant::now(),
            leases: read?,
        };
        state.sightings.take(reading, self.limits.expiry, judge);
        self.rebuild(&mut state);
        Ok(())
    }

    async fn rows(&self) -> Result<Vec<(Lease, Version)>, StoreError> {
        let mut leases = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let limit = self.limits.rows.saturating_sub(leases.len()).clamp(1, 1000);
            let page = self
                .meta
                .range(Space::Members, keys::MEMBERS, "", after.as_deref(), limit)
                .await?;
            for entry in &page.entries {
                match Lease::read(entry) {
                    Ok(lease) => leases.push(lease),
                    Err(error) => tracing::warn!(row = entry.sort, %error, "a lease is skipped"),
                }
            }
            after = page.entries.last().map(|entry| entry.sort.clone());
            if !page.more || after.is_none() {
                return Ok(leases);
            }
            if leases.len() >= self.limits.rows {
                tracing::warn!(
                    most = self.limits.rows,
                    "there are more leases than are looked at"
                );
                return Ok(leases);
            }
        }
    }

    /// Removes rows that nobody has renewed for long: of members that come and go under new names.
    async fn remove_long_gone(&self) {
        let gone: Vec<(MemberId, Version)> = {
            let state = self.state.lock();
            let gone = state.sightings.iter().filter(|sighting| {
                sighting.lease.member != self.me
                    && (sighting.is_silent || sighting.lease.left)
                    && sighting.unchanged >= self.limits.retention
            });
            gone.take(REMOVALS)
                .map(|sighting| (sighting.lease.member.clone(), sighting.version))
                .collect()
        };
        for (member, version) in gone {
            let op = [keys::lease(&member).delete(Expect::Version(version))];
            let removed = timeout(self.limits.patience, self.meta.transact(Version::random(), &op)).await;
            tracing::info!(%member, ?removed, "the lease of a member that has long been gone is removed");
        }
    }

    /// Draws the view anew after something has changed.
    fn rebuild(&self, state: &mut State) {
        let drawing = Drawing {
            me: &self.me,
            said: &self.said,
            standing: state.standing,
            sightings: &state.sightings,
        };
        let members = drawing.members(&state.membership);
        let before = std::mem::replace(&mut state.members, members.clone());
        tell_changes(&self.me, &before, &members);
        let of = |liveness| {
            members
                .iter()
                .filter(|member| member.liveness == liveness)
                .count()
        };
        self.metrics.members(of(Liveness::Live), of(Liveness::Gone));
    }
}

impl Own {
    /// The certificate shown now has this key.
    fn show(&mut self, key: Option<KeyHash>) {
        if let Some(key) = key
            && self.keys.first() != Some(&key)
        {
            self.keys.retain(|known| *known != key);
            self.keys.insert(0, key);
            self.keys.truncate(1 + FORMER_KEYS);
        }
    }
}

impl Health {
    fn take(&mut self, now: Instant, fault: Option<&String>) {
        match fault {
            None => {
                self.well = now;
                self.fault = None;
            }
            Some(fault) => self.fault = Some(fault.clone()),
        }
    }

    /// What is wrong, once it has been wrong for `long`.
    fn trouble(&self, long: Duration, what: &str) -> Option<String> {
        let (since, fault) = (self.well.elapsed(), self.fault.as_ref()?);
        (since >= long).then(|| format!("{what} for {} s: {fault}", since.as_secs()))
    }
}

#[async_trait]
impl View for Leases {
    fn me(&self) -> &MemberId {
        &self.me
    }

    fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn members(&self) -> Arc<[MemberView]> {
        self.state.lock().members.clone()
    }

    fn standing(&self) -> Standing {
        self.state.lock().standing
    }

    fn proof(&self) -> Proof {
        match &self.state.lock().membership {
            Membership::Listed(_) => Proof::Host,
            Membership::Dynamic { san } => Proof::Lease { san: san.clone() },
        }
    }

    fn trouble(&self) -> Option<String> {
        let state = self.state.lock();
        let long = self.limits.expiry;
        let superseded = || "another process has started under this member's name".to_owned();
        (state.standing == Standing::Superseded)
            .then(superseded)
            .or_else(|| {
                state
                    .renewed
                    .trouble(long, "this member's lease couldn't be renewed")
            })
            .or_else(|| {
                state
                    .read
                    .trouble(long, "the members' leases couldn't be read, the view is old,")
            })
    }

    fn age(&self) -> Duration {
        self.state.lock().read.well.elapsed()
    }

    async fn drain(&self) -> Result<(), DrainError> {
        self.stand_as(Standing::Drained).await
    }

    async fn undrain(&self) -> Result<(), DrainError> {
        self.stand_as(Standing::Member).await
    }

    async fn look(&self) {
        let asked = Instant::now();
        let mut last = self.reading.lock().await;
        // Others have waited, too: whose reading began after this call has seen what this one wants to see.
        if last.is_some_and(|began| began > asked) {
            return;
        }
        if let Some(began) = *last {
            sleep_until(began + self.limits.look_spacing).await;
        }
        *last = Some(Instant::now());
        let _ = self.read_now().await;
    }
}

#[cfg(test)]
mod tests;
