//! Members talking to each other over TCP and TLS, in one process.

mod forwarding;
mod harness;
mod hostile;
mod load;
mod pulls;
mod rights;
