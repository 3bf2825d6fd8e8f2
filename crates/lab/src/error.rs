//! Why a lab does not start, and why a command was not carried out.

use crate::descriptors::DescriptorsError;
use crate::directory::DirectoryError;
use crate::host_agent::AgentError;
use crate::layout::LayoutError;
use crate::registry::{EditError, FillError, RegistryError};
use crate::script::NameProblem;
use crate::stub::StubError;
use echelon_core::name::{HostName, ManagerType};
use registry_agent::EnrolError;
use std::time::Duration;

/// Why a lab does not start. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The topology does not fit on one machine.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Too few open files.
    #[error(transparent)]
    Descriptors(#[from] DescriptorsError),
    /// The directory for the state.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A stub.
    #[error(transparent)]
    Stub(#[from] StubError),
    /// The registry manager.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What it is to hold.
    #[error(transparent)]
    Fill(#[from] FillError),
    /// A host's enrolment.
    #[error("{host} could not be enrolled")]
    Enrol {
        /// The host.
        host: HostName,
        /// Why not.
        #[source]
        source: EnrolError,
    },
    /// A host's agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// A task of the lab itself.
    #[error("starting the agents was cut off")]
    CutOff,
    /// The agents are not level with the registry.
    #[error(
        "only {in_sync} of {hosts} agents were in sync after {waited:?}: the machine may be too slow or too busy \
         for this topology; see what they say with --log info"
    )]
    NotInSync {
        /// How many are.
        in_sync: usize,
        /// Of how many.
        hosts: usize,
        /// How long was waited.
        waited: Duration,
    },
}

/// Why a command was not carried out. The lab goes on.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It speaks of something that is not there.
    #[error(transparent)]
    Name(#[from] NameProblem),
    /// No such host.
    #[error("there is no host {0}")]
    NoHost(HostName),
    /// No stub on the host.
    #[error("{0} has no such manager")]
    NoStub(HostName),
    /// No forwarder.
    #[error("no host has a forwarder for {0}, because no manager of the topology is of this type")]
    NoForwarder(ManagerType),
    /// The agent is down.
    #[error("the agent of {0} is down, and nobody forwards its calls: write agent up {0} first")]
    AgentDown(HostName),
    /// A stub does not listen.
    #[error(transparent)]
    Stub(#[from] StubError),
    /// The registry manager.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// An edit.
    #[error(transparent)]
    Edit(#[from] EditError),
}
