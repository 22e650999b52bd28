//! What the program says of itself.

#[cfg(test)]
mod docs;
pub mod logs;
mod metrics;
mod output;
mod store_time;

pub use self::{
    metrics::{Direction, EventOutcome, ForwardOutcome, LeaseOutcome, Metrics},
    store_time::StoreTime,
};
