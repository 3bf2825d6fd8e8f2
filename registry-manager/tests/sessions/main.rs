//! A manager as agents and consoles meet it: real QUIC on loopback, real certificates, real SQLite.

#![allow(clippy::unwrap_used, reason = "tests")]

mod access;
mod agent;
mod answers;
mod grants;
mod liveness;
#[allow(unreachable_pub, reason = "it is the whole-system tests' too")]
#[path = "../../../tests/src/loopback.rs"]
mod loopback;
mod marks;
mod site;
mod views;
