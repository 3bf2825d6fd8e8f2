//! Runs a whole topology on one machine: a real manager, real agents, stub managers.
//!
//! Nothing in a [`Lab`] is a model: the registry manager keeps its journal in SQLite, every agent enrols
//! with a token, has its own certificate, QUIC connection, state directory and forwarders. Only the
//! managers that are routed to are stubs, which answer each line with the name of their host, so that a
//! caller sees whom it reached. Addresses of a network become addresses of 127.0.0.0/8.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use echelon_lab::{Command, Lab, Options};
//!
//! let topology = echelon_topology::parse("topology.toml", &std::fs::read("topology.toml")?)?;
//! let lab = Lab::start(topology, Options::default()).await?;
//! lab.run(&"down agent3".parse()?).await?;
//! let (host, ty) = ("agent4".parse()?, "command-control".parse()?);
//! println!("{:?}", lab.call(&host, &ty).await?.answered);
//! lab.stop().await;
//! # Ok(())
//! # }
//! ```

mod addresses;
pub mod answer;
pub mod cable;
mod caller;
pub mod command;
mod descriptors;
mod directory;
mod error;
mod host_agent;
mod lab;
pub mod layout;
mod registry;
pub mod script;
mod start;
pub mod stub;

pub use command::{Command, Power};
pub use descriptors::DescriptorsError;
pub use directory::DirectoryError;
pub use error::{CommandError, StartError};
pub use host_agent::AgentError;
pub use lab::Lab;
pub use registry::{EditError, FillError, RegistryError};
pub use script::Script;
pub use start::{Options, Progress, Started};
