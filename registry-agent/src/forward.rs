//! Forwarders: local ports and sockets that lead to the nearest live manager of a type.

mod backends;
mod common;
mod crew;
mod forwarder;
mod pipe;
mod relay;
#[cfg(test)]
mod tests;
mod throttle;

pub(crate) use backends::{Backends, Open, Word};
pub(crate) use common::Common;
pub(crate) use crew::{Crew, crew, default_threads};
pub(crate) use forwarder::Forwarder;
pub use forwarder::ForwarderStatus;
pub(crate) use throttle::Throttle;
