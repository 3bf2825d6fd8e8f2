//! Forwarders: local ports and sockets that lead to the nearest live manager of a type.

mod backends;
mod forwarder;
mod reports;
#[cfg(test)]
mod tests;
mod throttle;

pub use forwarder::ForwarderStatus;
pub use forwarder::raise_descriptor_limit;
pub(crate) use forwarder::{Forwarder, Parts};
