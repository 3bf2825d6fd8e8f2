//! The local HTTP API: read-only, for programs on this host.

mod answers;
mod follow;
mod routes;
mod server;

pub(crate) use answers::router;
pub(crate) use server::serve;
