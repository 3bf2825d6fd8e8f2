//! Reads topology files, with line and column in every error, and writes them in canonical order.
//!
//! A file is text from outside: [`parse`] bounds its size and its nesting, and answers anything with a
//! [`Topology`] or with what is wrong, where, and what to do. A topology becomes a registry on its own
//! ([`to_registry`]), or the changes that bring an existing registry to it ([`diff`]). [`export`] is the
//! way back.

mod diff;
mod document;
mod export;
mod fault;
mod fields;
mod json;
mod nearest;
mod plan;
mod problems;
mod prune;
mod read;
mod read_announced;
mod read_package;
mod read_policy;
mod roles;
mod standalone;
#[cfg(test)]
mod testing;
mod toml_file;
mod topology;

pub use diff::diff;
pub use export::export;
pub use fault::{Fault, Problem, TopologyError};
pub use plan::{DiffError, DiffLine, Options, Plan, RoleConflict, Sign};
pub use read::{MAX_INPUT, parse};
pub use read_announced::parse_announced;
pub use standalone::to_registry;
pub use topology::{HostEntry, PackageEntry, PackageState, PolicyEntry, Topology, Written};
