//! What an endpoint's owner may choose.

use crate::limits;
use std::time::Duration;

/// How an endpoint's connections behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of socket buffer to ask for, each way. The system may give less; that is logged.
    pub socket_buffer: usize,
    /// Interval of keep-alives on connections this endpoint makes; none sends none.
    pub keep_alive: Option<Duration>,
    /// Silence after which a connection is given up: the smaller of both sides' holds. At most a day.
    pub idle: Duration,
    /// How long a handshake may take in all, made or accepted.
    pub handshake: Duration,
    /// How long an accepted peer without identity is served.
    pub anonymous_life: Duration,
    /// Whether larger datagrams than 1200 bytes are tried. Costs memory on each connection.
    pub mtu_discovery: bool,
    /// Whether the system is handed up to ten datagrams at a time. Costs room for as many on each connection.
    pub segmentation: bool,
}

impl Settings {
    /// For a registry manager. It sends little to each of thousands, so that what larger datagrams, and several
    /// at a time, save is less than what they take on each connection.
    pub fn server() -> Self {
        Self {
            socket_buffer: limits::SERVER_SOCKET_BUFFER,
            mtu_discovery: false,
            segmentation: false,
            ..Self::client()
        }
    }

    /// For an agent or a console.
    pub fn client() -> Self {
        Self {
            socket_buffer: limits::CLIENT_SOCKET_BUFFER,
            keep_alive: Some(limits::KEEP_ALIVE),
            idle: limits::IDLE,
            handshake: limits::HANDSHAKE,
            anonymous_life: limits::ANONYMOUS_LIFE,
            mtu_discovery: true,
            segmentation: true,
        }
    }
}
