//! What was looked at, and how it is.

use std::{error::Error, fmt, io, time::Duration};

use tokio::time::timeout;

use crate::causes;

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
    pub(super) fn ok(subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(Verdict::Ok, subject, said)
    }

    pub(super) fn warn(subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, subject, said)
    }

    pub(super) fn fail(subject: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, subject, said)
    }

    /// What a start would end with. What a machine or user lacks need not be missing where the member will run.
    pub(super) fn refused(reach: Reach, subject: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let lacks = causes::of(error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|cause| is_of_the_machine(cause.kind()));
        let said = causes::in_a_line(error);
        match lacks {
            true => Self::lacking(reach, subject, said),
            false => Self::fail(subject, said),
        }
    }

    pub(super) fn lacking(reach: Reach, subject: impl Into<String>, said: impl Into<String>) -> Self {
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
pub struct Findings(pub(super) Vec<Finding>);

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

/// Whether a failure is of this machine or user rather than of what the configuration names.
pub(super) fn is_of_the_machine(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::AddrNotAvailable
    )
}

/// What `work` gives, or a failure of `subject` once `bound` is over.
pub(super) async fn within(
    bound: Duration,
    subject: &str,
    work: impl Future<Output = Vec<Finding>>,
) -> Vec<Finding> {
    timeout(bound, work).await.unwrap_or_else(|_| {
        let said = format!("no answer within {} s", bound.as_secs());
        vec![Finding::fail(subject, said)]
    })
}
