//! Calls the local agent and, with feature `manager`, a registry manager.
//!
//! [`LocalAgent`] is all that a program on a host needs: it asks the agent beside it over a unix socket,
//! with no keys and no network, and gets connections to the nearest live managers that lead past the agent.
//! [`blocking`] does the same without a runtime. `ManagerClient` is for consoles: it edits and reads the
//! registry itself.

pub mod agent;
#[cfg(feature = "manager")]
mod answers;
#[cfg(feature = "manager")]
mod backup;
pub mod blocking;
mod dial;
#[cfg(feature = "manager")]
mod documents;
#[cfg(feature = "manager")]
mod errors;
mod handover;
#[cfg(feature = "manager")]
mod manager;
#[cfg(feature = "manager")]
mod race;
mod watch;

pub use agent::{AgentError, LocalAgent};
#[cfg(feature = "manager")]
pub use answers::{Lost, Reading};
#[cfg(feature = "manager")]
pub use backup::IncomingBackup;
pub use dial::{Connection, DialError, Way};
#[cfg(feature = "manager")]
pub use documents::Documents;
#[cfg(feature = "manager")]
pub use errors::{Attempt, CallError, ConnectError};
#[cfg(feature = "manager")]
pub use manager::ManagerClient;
pub use watch::Watch;

/// A new request id: a UUIDv7 of the present, as the registry wants them.
#[cfg(feature = "manager")]
pub fn new_request_id() -> echelon_core::id::RequestId {
    echelon_core::id::RequestId(uuid::Uuid::now_v7())
}
