//! Routes one host's callers to the nearest live manager, with or without a registry.
//!
//! An agent keeps a replica of the registry's view on disk, works out from it and from what it sees
//! itself which manager of each type its host uses, and leads callers there: through forwarders, by handing
//! them connections, and by answering on a local HTTP API. [`Agent::start`] runs one inside any process;
//! nothing here is process-wide. [`enroll`] gives a host its identity first.
//!
//! A program that takes the agent into itself asks its [`Handle`]: [`Handle::routes`] answers from memory and
//! tells of changes, [`Handle::connector`] connects to the nearest live manager. Neither needs a socket.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use registry_agent::{Agent, AgentConfig};
//! use tokio_util::sync::CancellationToken;
//!
//! let config = AgentConfig {
//!     api: vec!["unix:/run/echelon/agent.sock".parse()?],
//!     forwards: vec!["command-control=127.0.0.1:7400".parse()?],
//!     ..AgentConfig::new("/var/lib/echelon/agent")
//! };
//! let agent = Agent::start(config, &CancellationToken::new()).await?;
//! let ty = "command-control".parse()?;
//!
//! // From now on the route is kept up to date, and `get` answers from memory.
//! let route = agent.routes().want(&ty).await?;
//! println!("nearest: {:?}", route.chosen().map(|entry| &entry.candidate.manager.endpoint));
//!
//! // A connection of the program's own, past managers that are dead.
//! let connected = agent.connector().connect(&ty).await?;
//! println!("connected to {} at {}", connected.host, connected.endpoint);
//!
//! // The present route, then each change.
//! let mut watch = agent.routes().watch(ty);
//! println!("{:?}", watch.next().await.outcome);
//! agent.stop().await?;
//! # Ok(())
//! # }
//! ```

mod agent;
mod alarms;
mod announce;
mod api;
mod check;
mod clock;
mod connect;
mod connector;
mod dialer;
mod direct;
mod doors;
mod enrol;
mod forward;
mod history;
mod http;
mod inheritance;
mod latch;
mod lateness;
mod listen;
mod metrics;
mod occupancy;
mod on_change;
mod prober;
mod race;
mod readings;
mod record;
mod registry;
mod reports;
mod router_task;
mod routes;
mod self_watch;
mod slots;
mod status;
mod takeover;
mod tenure;
#[cfg(test)]
mod testing;

pub use agent::{
    Agent, AgentConfig, DEFAULT_STOP_GRACE, Handle, Pending, StartError, default_forward_threads,
};
pub use alarms::Alarms;
pub use api::{ApiWriters, User, UserError};
pub use check::{HostCheck, HostCheckError, HostChecks, What};
pub use connector::{ConnectError, Connected, Connector};
pub use direct::DirectStatus;
pub use enrol::{EnrolError, EnrolOptions, Enrolment, enroll, system_host_name};
pub use forward::ForwarderStatus;
pub use http::HttpForwarderStatus;
pub use inheritance::Inheritance;
pub use listen::{BindError, Forward, Listen, ListenError};
pub use on_change::{OnChange, OnChangeError, OnChanges, Rendering};
pub use record::{EnrolledAs, RecordError};
pub use routes::{RouteWatch, Routes, Snapshot, WantError};
pub use slots::raise_descriptor_limit;
pub use status::{AgentStatus, RouteLine, SessionStatus};
pub use takeover::{Predecessor, TAKE_OVER_FAILED, TakeOverError};
