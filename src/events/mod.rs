//! Who is told of changes: CloudEvents, with zot's types and fields, to sinks and to whoever asks.
//!
//! - [`event`] makes events of a change. What is told is what was committed, and only that: all of it comes from the row that a
//!   change's transaction wrote (rule R8), as the feeds give it ([`registry::changes`](crate::registry::changes)).
//! - [`telling`] carries them to sinks ([`maintenance::Following`](crate::maintenance::Following)): an event is told at least once,
//!   and those of a repository in their order. Nobody's request waits for a sink.
//! - [`sink`] is how one is told: [`webhook`] over HTTP, [`nats`].
//!
//! Deliberately absent: pulls, and events of what was never committed.

mod error;
mod event;
mod nats;
mod page;
mod sink;
mod telling;
mod webhook;

pub use self::{
    error::SinkError,
    event::{CloudEvent, Naming, events_of},
    page::{Cursor, EventPage, Pages},
    telling::{Telling, examine, followers},
};
