//! Portolan: a container registry that runs as a mesh.
//!
//! ARCHITECTURE.md is the map. Modules are listed in the order in which they may know each other: each may use the
//! ones above it, none below (`tests/it/imports.rs` enforces it).

// They panic when nobody reads along any more: see `cli::output`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod causes;
pub mod entropy;
pub mod files;
pub mod oci;
pub mod placement;
pub mod config;
pub mod clock;
pub mod telemetry;
pub mod outbound;
pub mod upstream;
pub mod layout;
pub mod storage;
pub mod admission;
pub mod ownership;
pub mod registry;
pub mod maintenance;
pub mod net;
pub mod sync;
pub mod replication;
pub mod auth;
pub mod search;
pub mod events;
pub mod ui;
pub mod http;
pub mod mesh;
pub mod app;
pub mod cli;
