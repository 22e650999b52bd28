//! What an observer makes of the leases it reads. Pure: times come in as values.
//!
//! A member is judged dead when its row is the same in two reads that lie as far apart as a lease lasts, on this
//! observer's own clock. Only time between reads counts, so an observer that slept, or that the store didn't answer,
//! judges nobody by it: it wakes up with its last view. Judged or not, a row that changes is a live member's.
//!
//! The clock is the monotonic one ([`Instant`], on Linux CLOCK_MONOTONIC), which stands still while the machine sleeps.
//! That is the safe side: a machine that slept takes the others for alive until it has watched them.
//!
//! Deliberately absent: any wall clock, also the writers'.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::lease::Lease;
use crate::{placement::MemberId, storage::Version};

/// One whole read of the leases.
#[derive(Debug)]
pub(super) struct Reading {
    /// Before it was asked for.
    pub(super) begun: Instant,
    /// After the answer came.
    pub(super) ended: Instant,
    pub(super) leases: Vec<(Lease, Version)>,
}

/// May this reading be the one by which a member is judged?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judge {
    Yes,
    /// The observer's own renewals fail, so those of the others may, too.
    No,
}

/// A lease and how long it has been as it is.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    pub(super) lease: Lease,
    pub(super) version: Version,
    /// Known not to have changed for that long.
    pub(super) unchanged: Duration,
    /// Not renewed for as long as a lease lasts.
    pub(super) is_silent: bool,
    /// It was seen to change: somebody renews it.
    pub(super) is_renewed: bool,
    since: Instant,
}

/// All leases.
#[derive(Debug, Default)]
pub(super) struct Sightings(BTreeMap<MemberId, Sighting>);

impl Sightings {
    /// Takes in what was read. Members without a row are forgotten.
    pub(super) fn take(&mut self, reading: Reading, expiry: Duration, judge: Judge) {
        let mut before = std::mem::take(&mut self.0);
        for (lease, version) in reading.leases {
            let sighting = match before.remove(&lease.member) {
                Some(known) if known.version == version => {
                    let unchanged = reading.begun.saturating_duration_since(known.since);
                    Sighting {
                        unchanged,
                        is_silent: known.is_silent || (judge == Judge::Yes && unchanged >= expiry),
                        ..known
                    }
                }
                known => Sighting {
                    lease,
                    version,
                    unchanged: Duration::ZERO,
                    is_silent: false,
                    is_renewed: known.is_some(),
                    since: reading.ended,
                },
            };
            self.0.insert(sighting.lease.member.clone(), sighting);
        }
    }

    pub(super) fn get(&self, member: &MemberId) -> Option<&Sighting> {
        self.0.get(member)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sighting> {
        self.0.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Collecting,
        ownership::{Announcement, Incarnation, SharedSettings},
    };

    const EXPIRY: Duration = Duration::from_secs(10);

    fn lease() -> Lease {
        Lease {
            member: "127.0.0.2:5000".parse().unwrap(),
            incarnation: Incarnation::random(),
            said: Announcement {
                mesh_address: String::new(),
                protocol: (1, 1),
                settings: SharedSettings::new(),
                collecting: Collecting::On,
            },
            keys: vec![],
            left: false,
            drained: false,
        }
    }

    /// Reads of one lease: when each began, how long it took, and which version was there. Gives whether it is silent
    /// after each.
    fn silent(reads: &[(u64, u64, u8, Judge)]) -> Vec<bool> {
        let (start, lease) = (Instant::now(), lease());
        let mut sightings = Sightings::default();
        let mut silent = Vec::new();
        for (at, took, version, judge) in reads {
            let begun = start + Duration::from_secs(*at);
            let reading = Reading {
                begun,
                ended: begun + Duration::from_secs(*took),
                leases: vec![(lease.clone(), Version::from_bytes([*version; 16]))],
            };
            sightings.take(reading, EXPIRY, *judge);
            silent.push(sightings.get(&lease.member).unwrap().is_silent);
        }
        silent
    }

    #[test]
    fn a_lease_that_stays_the_same_between_reads_is_silent_after_its_time() {
        let y = Judge::Yes;
        assert_eq!(
            silent(&[(0, 0, 1, y), (9, 0, 1, y), (10, 0, 1, y), (12, 0, 2, y)]),
            [false, false, true, false]
        );
    }

    #[test]
    fn only_time_between_reads_counts() {
        let y = Judge::Yes;
        // The first answer took 5 s: the row may be as young as that answer.
        assert_eq!(
            silent(&[(0, 5, 1, y), (10, 0, 1, y), (15, 0, 1, y)]),
            [false, false, true]
        );
        // An observer that slept for a minute finds the others renewed.
        assert_eq!(
            silent(&[(0, 0, 1, y), (60, 0, 2, y), (62, 0, 2, y)]),
            [false, false, false]
        );
    }

    #[test]
    fn an_observer_whose_own_renewals_fail_judges_nobody_anew() {
        let (y, n) = (Judge::Yes, Judge::No);
        assert_eq!(
            silent(&[(0, 0, 1, y), (11, 0, 1, n), (12, 0, 1, y), (14, 0, 1, n)]),
            [false, false, true, true]
        );
    }

    #[test]
    fn a_member_without_a_row_is_forgotten() {
        let mut sightings = Sightings::default();
        let now = Instant::now();
        let reading = |leases| Reading {
            begun: now,
            ended: now,
            leases,
        };
        let lease = lease();
        sightings.take(
            reading(vec![(lease.clone(), Version::random())]),
            EXPIRY,
            Judge::Yes,
        );
        assert!(!sightings.get(&lease.member).unwrap().is_renewed);
        sightings.take(
            reading(vec![(lease.clone(), Version::random())]),
            EXPIRY,
            Judge::Yes,
        );
        assert!(sightings.get(&lease.member).unwrap().is_renewed);
        sightings.take(reading(vec![]), EXPIRY, Judge::Yes);
        assert!(sightings.get(&lease.member).is_none());
    }
}
