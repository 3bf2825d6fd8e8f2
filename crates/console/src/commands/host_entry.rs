//! A host as operators see it.

use crate::inventory::{Inventory, PackageEntry};
use echelon_core::describe::DrainReport;
use echelon_core::endpoint::Address;
use echelon_core::name::{DomainPath, HostName};
use echelon_core::report::AgentState;
use echelon_core::row::Host;
use serde::Serialize;

/// A host as operators see it; its JSON is what scripts rely on.
#[derive(Serialize)]
pub(super) struct HostEntry {
    pub(super) name: HostName,
    pub(super) domain: DomainPath,
    pub(super) address: Option<Address>,
    pub(super) drained: Option<DrainReport>,
    pub(super) packages: Vec<PackageEntry>,
    /// What is known of its agent; none of this where the registry is a file.
    #[serde(flatten)]
    pub(super) agent: Option<AgentState>,
}

impl HostEntry {
    /// A host with its packages.
    pub(super) fn new(inventory: &Inventory, host: &Host, agent: Option<AgentState>) -> Self {
        Self {
            name: host.name.clone(),
            domain: inventory.registry.path(host.domain),
            address: host.address.clone(),
            drained: host.drained.as_ref().map(DrainReport::from),
            packages: inventory.entries(host).collect(),
            agent,
        }
    }
}

/// How an agent is, in a word.
pub(super) fn word(agent: &AgentState) -> &'static str {
    match agent {
        AgentState { enrolment: None, .. } => "none",
        AgentState { silent: true, heard_ms: Some(_), .. } => "silent",
        AgentState { heard_ms: None, .. } => "unheard",
        AgentState { connected: false, .. } => "away",
        _ => "connected",
    }
}
