//! `qembed-q serve`, the program, over its socket.
#![cfg(feature = "serve")]

mod connections;
mod faults;
mod life;
mod server;
#[cfg(all(feature = "otel", unix))]
mod traces;
mod vectors;
