//! Checks of this host's own packages.

mod judge;
mod run;
mod supervisor;

pub(crate) use supervisor::{HealthMap, Supervisor};
