//! The local HTTP API, for programs on this host.

mod answers;
mod candidates;
mod follow;
mod packages;
mod problem;
mod routes;
mod server;
mod writers;

pub(crate) use answers::router;
pub(crate) use server::serve;
pub use writers::{ApiWriters, User, UserError};
