//! What came of a command. The fields are what `--output json` shows: they are added to, never renamed.

use echelon_core::name::{HostName, ManagerType};
use echelon_core::report::Outcome;
use serde::Serialize;
use std::net::SocketAddr;

/// What came of a command.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Of `down`, `up` and `hang`.
    Stubs(Stubs),
    /// Of `withdraw` and `restore`.
    Edit(Edit),
    /// Of `registry`.
    Registry(RegistryPower),
    /// Of `agent`.
    Agent(AgentPower),
    /// Of `call`.
    Call(Call),
    /// Of `expect`.
    Expect(Expect),
    /// Of `routes`: one for each host, by name.
    Routes(Vec<RouteLine>),
    /// Of `help` and `quit`: there is nothing to say.
    Nothing,
}

/// Stubs that were set.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stubs {
    /// On which host.
    pub host: HostName,
    /// Of which types.
    pub types: Vec<ManagerType>,
    /// How they are now.
    pub state: crate::stub::StubState,
}

/// An edit that is committed.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Edit {
    /// The host.
    pub host: HostName,
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// The registry's revision after it.
    pub revision: u64,
    /// Whether it changed anything.
    pub changed: bool,
    /// How long it took, connecting included.
    pub took_ms: f64,
}

/// The registry manager, ended or started.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RegistryPower {
    /// Its host.
    pub manager: HostName,
    /// Where it listens while it runs.
    pub listen: SocketAddr,
    /// Whether it runs now.
    pub running: bool,
    /// How long that took.
    pub took_ms: f64,
}

/// An agent, ended or started.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AgentPower {
    /// Its host.
    pub host: HostName,
    /// Whether it runs now.
    pub running: bool,
    /// How long that took.
    pub took_ms: f64,
}

/// A call through a forwarder.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Call {
    /// The calling host.
    pub host: HostName,
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// Who answered; none where nobody did.
    pub answered: Option<HostName>,
    /// From the caller's connect to the answer, or to giving up.
    pub took_ms: f64,
    /// Why nobody answered; empty where somebody did.
    pub cause: String,
}

/// Whether a host came to be served by a certain manager.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Expect {
    /// The calling host.
    pub host: HostName,
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// Who was to serve it.
    pub manager: HostName,
    /// Whether that manager answered a call, and the agent's route names it.
    pub met: bool,
    /// Who answered last.
    pub answered: Option<HostName>,
    /// Whom the agent's route names; none where it has none.
    pub chosen: Option<HostName>,
    /// Where it is not met: why not, as far as the agent knows.
    pub cause: String,
    /// From the command to the answer, or to giving up.
    pub took_ms: f64,
    /// The last command that changed something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// From the end of that command to the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_fault_ms: Option<f64>,
}

/// Who serves one host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RouteLine {
    /// The host.
    pub host: HostName,
    /// The type.
    #[serde(rename = "type")]
    pub ty: ManagerType,
    /// Who serves it; none where nobody does, or its agent is down.
    pub chosen: Option<HostName>,
    /// The first candidate that configuration allows.
    pub home: Option<HostName>,
    /// The kind of choice; none where its agent is down.
    pub outcome: Option<Outcome>,
    /// Why it is not at home.
    pub cause: String,
}

impl Answer {
    /// Whether the script that asked for it has failed.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Expect(Expect { met: false, .. }))
    }
}
