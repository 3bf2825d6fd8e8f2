//! Checks of this host's own packages.

mod exchange;
mod exec;
mod grpc;
mod host_check;
mod http;
mod judge;
mod run;
mod supervisor;

pub use host_check::{HostCheck, HostCheckError, HostChecks, What};
pub(crate) use run::ask;
pub(crate) use supervisor::{HealthMap, Supervisor};
