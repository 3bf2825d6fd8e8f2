//! The registry that read-only commands work on: a manager's, or a topology file's.

use crate::console::Console;
use crate::problem::{Problem, failed};
use crate::progress;
use echelon_client::{CallError, Reading};
use echelon_core::board::state_of;
use echelon_core::fencing::Fencing;
use echelon_core::id::{DomainId, HostId};
use echelon_core::message::{Failure, LivenessEntry, Query};
use echelon_core::name::{DomainPath, HostName, ManagerType, Text};
use echelon_core::package::{Package, Role};
use echelon_core::refusal::Refusal;
use echelon_core::registry::Registry;
use echelon_core::report::{AgentReport, AgentState, CandidateState};
use echelon_core::row::Host;
use echelon_topology::{MAX_INPUT, Topology};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a read-only command takes its registry from.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct From {
    /// Work on this topology file alone, with no manager
    #[arg(long, value_name = "TOPOLOGY")]
    pub(crate) file: Option<PathBuf>,
}

/// A registry and what is known of its managers.
pub(crate) struct Inventory {
    /// The registry.
    pub(crate) registry: Registry,
    /// By host; none where everything counts as live.
    liveness: Option<BTreeMap<HostId, LivenessEntry>>,
}

/// A package as operators see it; its JSON is what scripts rely on.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct PackageEntry {
    /// Its host.
    pub(crate) host: HostName,
    /// Its host's domain.
    pub(crate) domain: DomainPath,
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) ty: ManagerType,
    /// Where it listens; none for inventory.
    pub(crate) endpoint: Option<String>,
    /// Its role; none for inventory.
    pub(crate) role: Option<Role>,
    /// The number under which it is primary.
    pub(crate) fencing: Option<Fencing>,
    /// See [`Package::priority`].
    pub(crate) priority: u32,
    /// See [`Package::weight`].
    pub(crate) weight: u32,
    /// The recorded version.
    pub(crate) version: Option<Text>,
    /// Whether its host announced it itself; else the operator recorded it.
    pub(crate) announced: bool,
    /// Its state; none for inventory that is not withdrawn.
    pub(crate) state: Option<CandidateState>,
    /// Why it is in that state; may be empty.
    pub(crate) reason: String,
}

impl Inventory {
    /// The registry of a manager, or of the file.
    pub(crate) async fn load(console: &Console, from: &From) -> Result<Self, Problem> {
        match &from.file {
            Some(path) => {
                Ok(Self { registry: echelon_topology::to_registry(&read_topology(path)?), liveness: None })
            }
            None => {
                let manager = console.manager().await?;
                let reading = progress::shown("reading the registry", manager.read()).await;
                let reading = reading.map_err(|error| error.failure())?;
                manager.close().await;
                Ok(Self::of(reading))
            }
        }
    }

    /// The registry of a manager, and what it knows of agents: of this host's, or of all.
    pub(crate) async fn load_with_agents(
        console: &Console,
        host: Option<&HostName>,
    ) -> Result<(Self, BTreeMap<HostName, AgentState>), Problem> {
        let manager = console.manager().await?;
        let both = async {
            let reading = manager.read().await?;
            let agents = manager.query::<AgentReport>(Query::Agents { host: host.cloned() }).await?;
            Ok((reading, agents))
        };
        let both: Result<_, CallError> = progress::shown("reading the registry", both).await;
        let (reading, agents) = both.map_err(|error| error.failure())?;
        manager.close().await;
        let agents = agents.into_iter().map(|agent| (agent.host, agent.state)).collect();
        Ok((Self::of(reading), agents))
    }

    fn of(reading: Reading) -> Self {
        let liveness = reading.liveness.into_iter().map(|entry| (entry.host, entry)).collect();
        Self { registry: reading.registry, liveness: Some(liveness) }
    }

    /// The domain at this path.
    pub(crate) fn domain(&self, path: &DomainPath) -> Result<DomainId, Problem> {
        let found = self.registry.hierarchy().find(path);
        found.ok_or_else(|| (&Refusal::UnknownDomain { path: path.clone() }).into())
    }

    /// The host of this name.
    pub(crate) fn host(&self, name: &HostName) -> Result<&Arc<Host>, Problem> {
        let found = self.registry.host_named(name);
        found.ok_or_else(|| (&Refusal::UnknownHost { host: name.clone() }).into())
    }

    /// What is known of a manager that is not withdrawn.
    pub(crate) fn manager_state(&self, host: HostId, ty: &ManagerType) -> (CandidateState, String) {
        match &self.liveness {
            None => (CandidateState::Live, String::new()),
            Some(known) => match known.get(&host) {
                Some(entry) => state_of(entry, ty),
                None => (CandidateState::Unknown, "its host's agent was not heard yet".into()),
            },
        }
    }

    /// A package of this host, for people and programs.
    pub(crate) fn entry(&self, host: &Host, package: &Package) -> PackageEntry {
        let (state, reason) = self.state(host, package);
        PackageEntry {
            host: host.name.clone(),
            domain: self.registry.path(host.domain),
            ty: package.ty.clone(),
            endpoint: package.endpoint(&host.reached_at()).map(|endpoint| endpoint.to_string()),
            role: package.role,
            fencing: package.fencing,
            priority: package.priority,
            weight: package.weight,
            version: package.version.clone(),
            announced: package.is_announced(),
            state,
            reason,
        }
    }

    fn state(&self, host: &Host, package: &Package) -> (Option<CandidateState>, String) {
        if let Some(drain) = host.drain_of(package) {
            return (Some(CandidateState::Withdrawn), drain.withdrawal().of_host());
        }
        if let Some(withdrawal) = &package.withdrawn {
            let reason = withdrawal.reason.as_ref().map(ToString::to_string).unwrap_or_default();
            return (Some(CandidateState::Withdrawn), reason);
        }
        if package.is_withdrawn_by_host() {
            return (Some(CandidateState::Withdrawn), "withdrawn by its host".into());
        }
        if !package.is_manager() {
            return (None, String::new());
        }
        let (state, reason) = self.manager_state(package.host, &package.ty);
        (Some(state), reason)
    }

    /// The packages of a host, by type.
    pub(crate) fn entries<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = PackageEntry> + 'a {
        self.registry.packages_on(host.id).map(|package| self.entry(host, package))
    }
}

/// Reads a topology file.
pub(crate) fn read_topology(path: &Path) -> Result<Topology, Problem> {
    let name = path.display().to_string();
    let bytes = read_file(path).map_err(|error| {
        failed("unreadable-file", error).at(&name).remedy("name a topology file; see echelon apply --help")
    })?;
    echelon_topology::parse(&name, &bytes).map_err(|error| Failure::from(&error).into())
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is taken, so that the parser says what is wrong.
    File::open(path)?.take(MAX_INPUT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
