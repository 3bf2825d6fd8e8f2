//! HTTP mode: each request goes to the nearest live manager, over connections that are kept.
//!
//! A forwarder leads a connection to one manager for as long as it lasts. Here the agent reads the requests: each
//! one goes where the route leads at that moment, and one that got no answer goes to the next manager, where nothing
//! can happen twice ([`echelon_core::repeat`]).

mod answer;
mod exchange;
mod forwarder;
mod head;
mod place;
mod pool;
mod refusal;
#[cfg(test)]
mod tests;
mod tunnel;
mod upload;
mod upstream;
mod wire;

pub(crate) use forwarder::HttpForwarder;
pub use forwarder::HttpForwarderStatus;
