//! The manager's settings.

use echelon_core::endpoint::Endpoint;
use echelon_daemon::{HumanDuration, LogConfig};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where agents, consoles and other managers connect, by default: UDP on every address.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 29120);

/// Where metrics and health are served by default.
pub const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 29121);

/// The default state directory.
pub const DEFAULT_STATE: &str = "/var/lib/echelon/manager";

/// The default settings file.
pub const DEFAULT_CONFIG: &str = "/etc/echelon/manager.toml";

/// The settings file. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// See [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// See [`Config::http`].
    pub http: Option<SocketAddr>,
    /// See [`Config::host_certificates`].
    pub host_certificates: Option<HumanDuration>,
    /// Logs.
    pub log: LogConfig,
}

/// What `init` was told, kept in the state directory so that `run` needs no flags.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Where it listens.
    pub listen: SocketAddr,
    /// What it tells others to connect to.
    pub advertise: Endpoint,
}

/// The settings in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// The state directory.
    pub state: PathBuf,
    /// UDP address for agents and consoles.
    pub listen: SocketAddr,
    /// TCP address for metrics and health; none serves none.
    pub http: Option<SocketAddr>,
    /// How long certificates of hosts live; at least 10 s.
    pub host_certificates: Duration,
}

impl Config {
    /// The defaults for a state directory, listening at `listen`.
    pub fn new(state: &Path, listen: SocketAddr) -> Self {
        let host_certificates = echelon_identity::lifetime::HOST;
        Self { state: state.to_owned(), listen, http: None, host_certificates }
    }
}
