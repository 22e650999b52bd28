//! What the program says of itself.

#[cfg(test)]
mod docs;
pub mod logs;
mod metrics;
mod output;
mod waited;

pub use self::{
    metrics::{
        Direction, EventOutcome, ForwardOutcome, LeaseOutcome, Metrics, ReplicationOutcome, ScrubOutcome,
    },
    waited::Waited,
};
