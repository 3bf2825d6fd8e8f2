//! The local HTTP API, for programs on this host.

mod answers;
mod asked;
mod deadline;
mod documents;
mod follow;
mod packages;
mod pieces;
mod problem;
mod roles;
mod routes;
mod server;
mod writers;

pub(crate) use answers::app;
pub(crate) use server::serve;
pub use writers::{ApiWriters, User, UserError};
