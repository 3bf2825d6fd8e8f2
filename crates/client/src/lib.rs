//! Calls the local agent and, with feature `manager`, a registry manager.
//!
//! [`LocalAgent`] is all that a program on a host needs: it asks the agent beside it over a unix socket,
//! with no keys and no network. `ManagerClient` is for consoles: it edits and reads the registry itself.

pub mod agent;
#[cfg(feature = "manager")]
mod answers;
#[cfg(feature = "manager")]
mod errors;
#[cfg(feature = "manager")]
mod manager;

pub use agent::{AgentError, LocalAgent};
#[cfg(feature = "manager")]
pub use answers::{Lost, Reading};
#[cfg(feature = "manager")]
pub use errors::{Attempt, CallError, ConnectError};
#[cfg(feature = "manager")]
pub use manager::ManagerClient;

/// A new request id: a UUIDv7 of the present, as the registry wants them.
#[cfg(feature = "manager")]
pub fn new_request_id() -> echelon_core::id::RequestId {
    echelon_core::id::RequestId(uuid::Uuid::now_v7())
}
