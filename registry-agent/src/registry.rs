//! The agent's side of the registry: who it is, whom it asks, what it is told.

mod ask;
mod contacts;
mod identity;
mod keeper;
mod link;
mod probe;
mod renewal;
mod session;
mod uplink;

pub(crate) use ask::{AskError, ask};
pub(crate) use identity::{Identity, IdentityError};
pub(crate) use keeper::{GrantsError, Keeper, KeeperError, Opened};
pub(crate) use link::{Link, SessionInfo};
pub(crate) use probe::ManagerProbe;
pub(crate) use renewal::source_chain;
pub(crate) use uplink::{Uplink, UplinkParts};
