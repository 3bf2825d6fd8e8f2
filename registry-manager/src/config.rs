//! The manager's settings.

use echelon_core::endpoint::Endpoint;
use echelon_daemon::{HumanDuration, LogConfig};
use echelon_identity::lifetime;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
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

/// Shortest life of a host's certificate: half of it must do for a renewal that has to be tried again.
pub const MIN_HOST_CERTIFICATES: Duration = Duration::from_secs(10);

/// Range of the lives of hosts' certificates. An agent renews at half of it, so that with less than 10 s one
/// lost answer may cost it its certificate; denials are kept for as long as certificates of a day need.
pub const HOST_CERTIFICATES: RangeInclusive<Duration> = Duration::from_secs(10)..=lifetime::HOST;

/// The settings file. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// See [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// See [`Config::http`].
    pub http: Option<SocketAddr>,
    /// See [`Config::host_certificates`].
    #[serde(deserialize_with = "host_certificates")]
    pub host_certificates: Option<HumanDuration>,
    /// Logs.
    pub log: LogConfig,
}

fn host_certificates<'de, D: Deserializer<'de>>(file: D) -> Result<Option<HumanDuration>, D::Error> {
    let life = HumanDuration::deserialize(file)?;
    match life.get() >= MIN_HOST_CERTIFICATES {
        true => Ok(Some(life)),
        false => Err(D::Error::custom(format_args!(
            "host_certificates is too short for a renewal: use at least {}s",
            MIN_HOST_CERTIFICATES.as_secs()
        ))),
    }
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
    /// How long certificates of hosts live; at least [`MIN_HOST_CERTIFICATES`].
    pub host_certificates: Duration,
}

impl Config {
    /// The defaults for a state directory, listening at `listen`.
    pub fn new(state: &Path, listen: SocketAddr) -> Self {
        Self { state: state.to_owned(), listen, http: None, host_certificates: lifetime::HOST }
    }
}
