//! What the benchmarks share: generated topologies, real processes, samples and how they are shown.
//!
//! `cargo bench -p echelon-bench --bench NAME` runs one; docs/benchmarks.md says which there are, what they are
//! to reach and what they reached. Those that start processes build the release binaries first, or take them
//! from the directory that `ECHELON_BENCH_BINARIES` names.

#![allow(clippy::unwrap_used, reason = "whatever goes wrong in a benchmark ends it")]

pub mod bare;
pub mod binaries;
pub mod fleet;
pub mod generate;
pub mod http;
pub mod load;
pub mod manager;
pub mod random;
pub mod registry;
pub mod report;
pub mod rivals;
pub mod running;
pub mod samples;
pub mod service;
pub mod soak;
pub mod trio;
pub mod victim;

pub use binaries::binaries;
pub use generate::Shape;
pub use manager::Manager;
pub use random::{Random, SEED};
pub use registry::Registry;
pub use report::show;
pub use running::{Running, output};
pub use samples::Samples;
