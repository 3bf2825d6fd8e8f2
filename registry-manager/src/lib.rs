//! Stores the hierarchy and its packages and pushes replicas to every agent.
//!
//! One thread, the [`journal`], decides on edits and makes them durable; everything else reads committed
//! states that it publishes. A session for each agent pushes what changed and takes in what it reports.

mod alarms;
mod backup;
mod backups;
mod clock;
pub mod config;
pub mod copier;
mod copies;
mod drains;
mod enrol;
mod failure;
mod fanout;
mod history;
pub mod hooks;
mod http;
mod hub;
pub mod init;
pub mod join;
mod joining;
mod journal;
pub mod leave;
pub mod left;
mod limits;
mod lineage;
mod links;
mod lost;
mod managers;
mod metrics;
mod occasion;
mod offered;
pub mod paths;
mod places;
mod promotion;
mod rates;
mod readings;
mod record;
pub mod recover;
mod relay;
mod removal;
mod reports;
mod requests;
pub mod restore;
pub mod root;
mod server;
mod session;
mod sessions;
mod settle;
mod signing;
mod unfinished;
mod versions;
mod watchers;
mod witnesses;

pub use journal::LoadError;
pub use server::{Manager, Pulse, StartError};
pub use unfinished::Unfinished;
