//! What the program says of itself.

mod metrics;

pub use self::metrics::{Direction, ForwardOutcome, Metrics};
