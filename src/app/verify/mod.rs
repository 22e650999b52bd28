//! `portolan verify --online`: whether this member would work with the world around it.
//!
//! What `config::load` can't know is looked at here, on the machine and with the certificates of the member: its
//! certificates, its own addresses, the other members, the bucket and the tables. Everything is looked at, at the same
//! time, each look bounded; each fault says what to change. Nothing is changed: no bucket or table is made.
//!
//! Deliberately absent: what a running mesh knows by itself (leases, readiness), and repairs.

mod pairs;
mod peers;
mod stores;

use std::{fmt, time::Duration};

use tokio::time::timeout;

use crate::{
    config::{Cluster, Config, Limits, Storage, identity::Machine},
    placement::MemberId,
};

/// How something that was looked at is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, or may be meant; worth a look.
    Warn,
    /// The member wouldn't work, or would harm others.
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

    /// Whether nothing has to be changed.
    #[must_use]
    pub fn are_good(&self) -> bool {
        self.iter().all(|finding| finding.verdict != Verdict::Fail)
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
                Verdict::Fail => "FAIL",
            };
            writeln!(f, "{verdict}  {:width$}  {}", finding.subject, finding.said)?;
        }
        Ok(())
    }
}

/// Looks at everything that `config` needs. `explicit` says which of its members this is.
pub async fn verify(config: &Config, explicit: Option<&str>, limits: &Limits) -> Findings {
    let (me, mut findings) = me(config, explicit);
    let cluster = async {
        match &config.cluster {
            Some(cluster) => peers::look(cluster, config, me.as_ref(), limits).await,
            None => Vec::new(),
        }
    };
    let stores = async {
        match &config.storage {
            Storage::Shared { blobs, meta, .. } => stores::look(blobs, meta, limits).await,
            Storage::Embedded { .. } => Vec::new(),
        }
    };
    findings.extend(pairs::look(config, me.as_ref(), limits));
    let (cluster, stores) = tokio::join!(cluster, stores);
    findings.extend(cluster);
    findings.extend(stores);
    Findings(findings)
}

/// Which member this is.
fn me(config: &Config, explicit: Option<&str>) -> (Option<MemberId>, Vec<Finding>) {
    const SUBJECT: &str = "this member";
    let Some(cluster) = &config.cluster else {
        return (None, Vec::new());
    };
    match own_name(cluster, config, explicit) {
        Ok(me) => {
            let said = me.to_string();
            (Some(me), vec![Finding::ok(SUBJECT, said)])
        }
        Err(problem) => (None, vec![Finding::fail(SUBJECT, problem)]),
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

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
