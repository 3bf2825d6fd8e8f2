//! Moves frames between hosts over mutual TLS.
//!
//! An [`Endpoint`] accepts and makes [`Connection`]s; a connection knows who is at its other end
//! ([`echelon_identity::PeerIdentity`]) and carries [`Channel`]s, each an ordered stream of frames in
//! both directions. What is in a frame is not this crate's business.
//!
//! The only transport so far is QUIC. No type of its library appears in a signature, so that a second
//! one, TCP with TLS for networks that block UDP, can stand behind the same types.
//!
//! Identity is the certificate, never an address or a name. TLS 1.3 only, no early data, no resumption
//! (a denial must be seen at every handshake), and ring as the only source of cryptography.

mod accept;
mod admission;
mod connect;
mod connection;
mod endpoint;
mod frame;
mod hear;
pub mod limits;
mod pinned;
mod quic;
mod resolve;
mod settings;
mod socket;
mod tls;
mod verify;

pub use admission::{Admission, AdmitAll, Rejection};
pub use connect::{ConnectError, ConnectProblem, Distrust, Refusal, Target};
pub use connection::{CloseReason, Connection, close_code};
pub use endpoint::{BindError, Endpoint, EndpointStats, IdentityError, Role};
pub use frame::{Channel, FrameReceiver, FrameSender, RecvError, SendError};
pub use hear::{Unheard, left};
pub use pinned::{PinnedError, ask_pinned};
pub use resolve::resolve;
pub use settings::Settings;
pub use socket::SmallBuffers;

#[cfg(test)]
mod tests;
