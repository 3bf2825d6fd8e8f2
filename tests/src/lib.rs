//! Whole-system tests with the shipped binaries.
//!
//! The library is the harness: it builds the binaries once, starts real managers, agents and consoles in
//! a directory and on loopback addresses of the test's own, and ends them with the test. The tests are in
//! `system/`.
//!
//! `cargo test -p echelon-tests` runs them; `ECHELON_TEST_BINARIES=DIR` in its environment takes the binaries
//! from there instead of building them. What a machine cannot run is said on standard error in a line that
//! begins with `SKIPPED`.

#![allow(clippy::unwrap_used, reason = "whatever goes wrong in a harness is a test that failed")]

pub mod agent;
pub mod binaries;
pub mod caller;
pub mod cluster;
pub mod console;
pub mod disk;
pub mod follower;
pub mod http;
pub mod loopback;
pub mod machine;
pub mod manager;
pub mod namespace;
pub mod partition;
pub mod process;
pub mod proxy;
pub mod sandbox;
pub mod service_manager;
pub mod shape;
pub mod skip;
pub mod stopped;
pub mod stub;
pub mod supervisor;
pub mod testimony;
pub mod topology;
pub mod transcript;
pub mod wait;
pub mod writers;

pub use agent::Agent;
pub use binaries::binaries;
pub use caller::Caller;
pub use cluster::Cluster;
pub use console::{Answer, Console};
pub use disk::Disk;
pub use follower::Follower;
pub use manager::Manager;
pub use partition::Partition;
pub use process::Process;
pub use proxy::Proxy;
pub use sandbox::Sandbox;
pub use service_manager::ServiceManager;
pub use shape::Shape;
pub use stub::Stub;
pub use supervisor::Supervisor;
pub use testimony::Testimony;
pub use topology::{TYPE, Topology};
pub use wait::{DEADLINE, wait_for, wait_until, wait_within};
pub use writers::Writers;
