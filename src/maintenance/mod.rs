//! Work that no request asks for: named workers, each a loop that `app` runs until the member drains.
//!
//! - [`Upkeep`] looks at the due-rows of a queue, so that space of what is gone comes back: one for what requests left
//!   unfinished or deleted, one for blobs that nothing references any more.
//! - [`Settling`] brings changes of names from the queue, where their transactions put them, to where they are read.
//! - [`Retention`] lets go what the policies of retention don't keep.
//! - [`Trimming`] removes what is told of changes and isn't kept any longer.
//! - [`Scrubbing`] reads what is stored, to see whether it still has its digest.
//! - [`Following`] carries changes of names to somebody outside.
//! - [`write_pulls`] writes when manifests were pulled.
//!
//! A worker says when something is looked at and by which member; what is then done, and why that is safe, is the
//! registry's (`registry::upkeep`). So members divide the work only for efficiency: two at one row cost a refused
//! transaction.
//!
//! Absent on purpose: tasks: a worker is one future that may be dropped anywhere.

mod following;
mod pulls;
mod retention;
mod scrubbing;
mod settling;
mod share;
mod trimming;
mod upkeep;
#[cfg(test)]
mod costs;
#[cfg(test)]
mod tests;

pub use self::{
    following::{Follower, Following},
    pulls::write_pulls,
    retention::Retention,
    scrubbing::Scrubbing,
    settling::Settling,
    share::Share,
    trimming::Trimming,
    upkeep::Upkeep,
};
