//! Integration tests: one binary (each further one costs a minute of linking), one module a promise.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod access;
mod api;
mod certificates;
mod counter;
mod crash;
mod drain;
mod events;
mod faults;
mod history;
mod heal;
mod hostile;
mod hot;
mod immutable;
mod imports;
mod logs;
mod membership;
mod mesh;
mod mirror;
mod models;
mod moving;
mod operate;
mod ownership;
mod page;
mod processes;
mod quota;
mod races;
mod reads;
mod scrub;
mod search;
mod replicate;
mod retention;
#[cfg(debug_assertions)]
mod simulation;
mod stores;
mod support;
mod undo;
mod upkeep;
mod verify;
mod workload;
