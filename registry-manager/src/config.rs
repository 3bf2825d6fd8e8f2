//! The manager's settings.

use crate::hooks::{Hook, HookSettings, OnAlarm};
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

/// Range of the lives of hosts' certificates. An agent renews at half of it, so that with less than 10 s one
/// lost answer may cost it its certificate; denials are kept for as long as certificates of a day need.
pub const HOST_CERTIFICATES: RangeInclusive<Duration> = Duration::from_secs(10)..=lifetime::HOST;

/// Every key with its comment and default, as `config --default` prints them before those of the log.
pub const DEFAULTS: &str = r#"# Settings of registry-manager. Flags and environment variables go over this file. Every key may be left out.
# SIGHUP (systemctl reload) reads it again; listen, http and the log's format need a restart.

# UDP address for agents and consoles. Default: as given to init.
#listen = "0.0.0.0:29120"

# TCP address of /metrics, /alarms, /healthz, /readyz and /primary. It knows no passwords: keep it on this host, or in a
# network that only monitoring can reach.
#http = "127.0.0.1:29121"

# How long certificates of hosts live, from 10s to 24h. Agents renew at half of it. Holds for those issued from now on.
#host_certificates = "24h"

# Run for each alarm of at least this severity (info, warning, critical) that comes or goes, and again for those that are up
# when the manager starts. The command is a program by its absolute path, with arguments. It finds ECHELON_STATE (raised or
# cleared), ECHELON_ALARM, ECHELON_SEVERITY, ECHELON_SUBJECT, ECHELON_SINCE, ECHELON_MESSAGE, ECHELON_REMEDY,
# ECHELON_SUCCESS (true: cleared), ECHELON_FRAMEWORK, ECHELON_HOST (this manager's), ECHELON_LINEAGE, ECHELON_EPOCH and
# ECHELON_REVISION in its environment. One runs at a time; past its timeout its whole process group is killed. What fails is
# tried again, with the alarm on-alarm-failed. Commands exist only here, never in the registry.
#[on_alarm]
#command = ["/usr/local/bin/mail-alarm", "ops@example.org"]
#severity = "warning"
#timeout = "30s"

# Run when this registry manager becomes primary or standby, when it starts, and when a promotion failed. It finds
# ECHELON_SUCCESS (true or false), ECHELON_CAUSE (started, planned, forced, restored, chosen, elected, fenced), ECHELON_ROLE
# (primary or standby), ECHELON_HOST, ECHELON_PRIMARY, ECHELON_OLD and ECHELON_NEW (LINEAGE/EPOCH.REVISION; OLD is empty at
# a start), ECHELON_LINEAGE, ECHELON_EPOCH and ECHELON_REVISION in its environment. What fails is tried again until something
# newer happens, with the alarm on-promote-failed.
#[on_promote]
#command = ["/usr/local/bin/move-address", "10.0.0.9/24", "eth0"]
#timeout = "30s"
"#;

/// The settings file. Every key may be left out.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// See [`Config::listen`].
    pub listen: Option<SocketAddr>,
    /// See [`Config::http`].
    pub http: Option<SocketAddr>,
    /// See [`Config::host_certificates`].
    #[serde(deserialize_with = "host_certificates")]
    pub host_certificates: Option<HumanDuration>,
    /// See [`HookSettings::on_alarm`].
    pub on_alarm: Option<OnAlarm>,
    /// See [`HookSettings::on_promote`].
    pub on_promote: Option<Hook>,
    /// Logs.
    pub log: LogConfig,
}

fn host_certificates<'de, D: Deserializer<'de>>(file: D) -> Result<Option<HumanDuration>, D::Error> {
    let life = HumanDuration::deserialize(file)?;
    let whole_ms =
        |d: &Duration| HumanDuration::from_millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let (least, most) = (whole_ms(HOST_CERTIFICATES.start()), whole_ms(HOST_CERTIFICATES.end()));
    match HOST_CERTIFICATES.contains(&life.get()) {
        true => Ok(Some(life)),
        false => Err(D::Error::custom(format_args!("host_certificates may be from {least} to {most}"))),
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
    /// How long certificates of hosts live; within [`HOST_CERTIFICATES`].
    pub host_certificates: Duration,
    /// Commands that are run.
    pub hooks: HookSettings,
}

impl Config {
    /// The defaults for a state directory, listening at `listen`.
    pub fn new(state: &Path, listen: SocketAddr) -> Self {
        let hooks = HookSettings::default();
        Self { state: state.to_owned(), listen, http: None, host_certificates: lifetime::HOST, hooks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_daemon::config::{parse, printed_defaults, with_keys_in_force};

    fn read(text: &str) -> Result<File, String> {
        parse(Path::new("manager.toml"), text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_printed_defaults_are_the_defaults() {
        let printed = printed_defaults(DEFAULTS);
        assert_eq!(read(&printed).unwrap(), File::default());
        let file = read(&with_keys_in_force(&printed)).unwrap();
        assert_eq!((file.listen.unwrap(), file.http.unwrap()), (DEFAULT_LISTEN, DEFAULT_HTTP));
        assert_eq!(file.host_certificates.unwrap().get(), lifetime::HOST);
        assert_eq!(file.log, LogConfig::defaults());
        let plain = read("[on_alarm]\ncommand = [\"/a\"]\n[on_promote]\ncommand = [\"/a\"]").unwrap();
        let (shown, plain_alarm) = (file.on_alarm.unwrap(), plain.on_alarm.unwrap());
        assert_eq!((shown.severity, shown.hook.timeout), (plain_alarm.severity, plain_alarm.hook.timeout));
        assert_eq!(file.on_promote.unwrap().timeout, plain.on_promote.unwrap().timeout);
    }

    #[test]
    fn lives_of_certificates_that_make_no_sense_are_refused_with_their_place() {
        for life in ["9s", "25h"] {
            let error = read(&format!("\nhost_certificates = {life:?}")).unwrap_err();
            assert!(
                error.starts_with("manager.toml:2:21: host_certificates may be from 10s to 1d"),
                "{error}"
            );
        }
        assert!(read("host_certificates = \"10s\"").is_ok() && read("host_certificates = \"24h\"").is_ok());
    }
}
