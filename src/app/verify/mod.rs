//! `portolan verify`: whether this member would work here, and with the world around it.
//!
//! What `config::load` can't know is looked at here, by the very code that a start runs: whatever a start can refuse is
//! found. On this machine that is the member's name, its addresses, certificates, files and directories; with `--online`
//! also the other members, the bucket and the tables. Everything is looked at, at the same time, each look bounded; each
//! fault says what to change. Nothing is changed: no file, bucket or table is made.
//!
//! Deliberately absent: what a running mesh knows by itself (leases, readiness), and repairs.

mod here;
mod join;
mod pairs;
mod peers;
mod stores;

use std::{error::Error, fmt, io, time::Duration};

use tokio::time::timeout;

use crate::{
    causes,
    config::{Cluster, Config, Limits, Storage, identity::Machine},
    placement::MemberId,
};

/// How far is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// At this machine, which may be another than the member's, and another user's.
    Here,
    /// Where and as whom the member will run, and at everything that it asks.
    Online,
}

/// How something that was looked at is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, or may be meant; worth a look.
    Warn,
    /// This machine or this user lacks it, so a start here would be refused; it may be there where the member will run.
    /// Only with [`Reach::Here`].
    Lacking,
    /// The member wouldn't start or work, or would harm others.
    Fail,
}

/// One line: what was looked at, how it is, and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at.
    pub subject: String,
    /// What was found and, unless it is as it should be, what to change.
    pub said: String,
}

impl Finding {
    fn ok(subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, subject, said)
    }

    fn warn(subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, subject, said)
    }

    fn fail(subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, subject, said)
    }

    /// What a start would end with. What a machine or user lacks need not be missing where the member will run.
    fn refused(reach: Reach, subject: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let lacks = causes::of(error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| is_of_the_machine(cause.kind()));
        let said = causes::in_a_line(error);
        match lacks {
            true => Self::lacking(reach, subject, said),
            false => Self::fail(subject, said),
        }
    }

    fn lacking(reach: Reach, subject: impl Into<String>, said: impl Into<String>) -> Self {
        let verdict = match reach {
            Reach::Here => Verdict::Lacking,
            Reach::Online => Verdict::Fail,
        };
        Self::new(verdict, subject, said)
    }

    fn new(verdict: Verdict, subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self {
            verdict,
            subject: subject.into(),
            said: said.into(),
        }
    }
}

/// All that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// The worst of them.
    #[must_use]
    pub fn worst(&self) -> Verdict {
        let verdicts = self.iter().map(|finding| finding.verdict);
        verdicts.max().unwrap_or(Verdict::Ok)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.iter().map(|finding| finding.subject.len()).max();
        let width = width.unwrap_or_default();
        for finding in self.iter() {
            let verdict = match finding.verdict {
                Verdict::Ok => "ok  ",
                Verdict::Warn => "warn",
                Verdict::Lacking => "lack",
                Verdict::Fail => "FAIL",
            };
            writeln!(f, "{verdict}  {:width$}  {}", finding.subject, finding.said)?;
        }
        Ok(())
    }
}

/// Looks at everything that `config` needs. `explicit` says which of its members this is.
pub async fn verify(config: &Config, explicit: Option<&str>, reach: Reach, limits: &Limits) -> Findings {
    let (me, mut findings) = me(config, explicit, reach);
    findings.extend(here::look(config, me.as_ref(), reach, limits).await);
    match reach {
        Reach::Here => {}
        Reach::Online => findings.extend(online(config, me.as_ref(), limits).await),
    }
    Findings(findings)
}

async fn online(config: &Config, me: Option<&MemberId>, limits: &Limits) -> Vec<Finding> {
    let cluster = async {
        match &config.cluster {
            Some(cluster) => peers::look(cluster, me, limits).await,
            None => Vec::new(),
        }
    };
    let stores = async {
        match &config.storage {
            Storage::Shared { blobs, meta, .. } => stores::look(config, me, blobs, meta, limits).await,
            Storage::Embedded { .. } => Vec::new(),
        }
    };
    let (mut findings, stores) = tokio::join!(cluster, stores);
    findings.extend(stores);
    findings
}

/// Whether a failure is of this machine or user rather than of what the configuration names.
fn is_of_the_machine(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::AddrNotAvailable
    )
}

/// Which member this is.
fn me(config: &Config, explicit: Option<&str>, reach: Reach) -> (Option<MemberId>, Vec<Finding>) {
    const SUBJECT: &str = "this member";
    let Some(cluster) = &config.cluster else {
        return (None, Vec::new());
    };
    match own_name(cluster, config, explicit) {
        Ok(me) => {
            let said = me.to_string();
            (Some(me), vec![Finding::ok(SUBJECT, said)])
        }
        Err(problem) => (None, vec![Finding::lacking(reach, SUBJECT, problem)]),
    }
}

fn own_name(cluster: &Cluster, config: &Config, explicit: Option<&str>) -> Result<MemberId, String> {
    let machine = Machine::ask().map_err(|error| error.to_string())?;
    machine
        .member(cluster, &config.listen, explicit)
        .map_err(|error| error.to_string())
}

/// What `work` gives, or a failure of `subject` once `bound` is over.
async fn within(bound: Duration, subject: &str, work: impl Future<Output = Vec<Finding>>) -> Vec<Finding> {
    timeout(bound, work).await.unwrap_or_else(|_| {
        let said = format!("no answer within {} s", bound.as_secs());
        vec![Finding::fail(subject, said)]
    })
}
