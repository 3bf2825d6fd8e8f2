//! Whole-system tests: the shipped binaries, as people and programs use them. Each test says which
//! behaviour it protects.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

// The callers of the benchmark `soak`, taken from there as they are: what that crate depends on would be built for
// these tests as well.
#[allow(dead_code, unreachable_pub, reason = "the benchmarks use more of it, as a library")]
#[path = "../../crates/bench/src/random.rs"]
mod random;
#[allow(dead_code, unreachable_pub, reason = "the benchmark shows more of it, as a library")]
#[path = "../../crates/bench/src/soak.rs"]
mod soaked;

mod access;
mod alarms;
mod announcing;
mod backup;
mod bad_input;
mod broken_off;
mod checks;
mod commits;
mod dependencies;
mod direct;
mod dropped;
mod edits;
mod embedding;
mod enrolment;
mod examples;
mod failover;
mod fenced;
mod follow;
mod full_disk;
mod garbage;
mod history;
mod hooks;
mod hosts;
mod http_mode;
mod lab_shapes;
mod lineages;
mod managers;
mod metrics;
mod on_change;
mod outside;
mod partitions;
mod registry_down;
mod reload;
mod renewal;
mod replica;
mod restore;
mod roles;
mod service;
mod shapes;
mod soak;
mod sockets;
mod state_directories;
mod systemd;
mod take_over;
mod taken_out;
mod transcripts;
mod versions;
mod watching;
