//! Members talking to each other over TCP and TLS, in one process.
