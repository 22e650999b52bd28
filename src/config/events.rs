//! `extensions.events`, as values.

use std::{path::PathBuf, time::Duration};

use super::Secret;

/// Who is told of changes, and how.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Events {
    /// What every event says of where it comes from; `None` is zot's.
    pub source: Option<String>,
    /// What the types of events begin with; `None` is zot's.
    pub type_prefix: Option<String>,
    /// Who is told.
    pub sinks: Vec<EventSink>,
}

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSink {
    /// How.
    pub kind: SinkKind,
    /// Where: a URL, or several of NATS with commas.
    pub address: String,
    /// NATS: the subject, which is there. HTTP: an attribute of each event.
    pub channel: Option<String>,
    /// Within which time an event is taken.
    pub timeout: Duration,
    /// Headers of each request.
    pub headers: Vec<(String, Secret)>,
    /// How one logs in.
    pub login: SinkLogin,
    /// Certificates.
    pub tls: SinkTls,
}

/// How a sink is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// A request for each event.
    Http,
    /// A message for each event.
    Nats,
}

/// How one logs in at a sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkLogin {
    /// Not at all.
    None,
    /// With a name and a password.
    Password(String, Secret),
    /// With a token.
    Token(Secret),
    /// NATS: with the JWT and the seed in a file.
    File(PathBuf),
}

/// Certificates of a sink.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SinkTls {
    /// Whose certificates are good, instead of those that the machine trusts.
    pub authorities: Option<PathBuf>,
    /// What is shown: a certificate and its key.
    pub shown: Option<(PathBuf, PathBuf)>,
}
