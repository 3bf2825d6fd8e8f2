//! Registry managers that belong together, as processes.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(unreachable_pub, reason = "it is the whole-system tests' too")]
#[path = "../../../tests/src/loopback.rs"]
mod loopback;
mod pair;
mod promotion;
mod standby;
#[allow(unreachable_pub, reason = "it is the whole-system tests' too")]
#[path = "../../../tests/src/stopped.rs"]
mod stopped;
