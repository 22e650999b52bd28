//! Members talking to each other over TCP and TLS, in one process.

mod fake;
mod forwarding;
mod harness;
mod hostile;
mod load;
mod peers;
mod pulls;
mod rights;
mod toy;
