//! The settings file.

use echelon_core::endpoint::Endpoint;
use echelon_daemon::{HumanDuration, LogConfig};
use registry_agent::{ApiWriters, Forward, HostChecks, Listen, OnChanges};
use serde::Deserialize;
use std::path::PathBuf;

/// Where settings are that nobody said otherwise of.
pub(crate) const DEFAULT_FILE: &str = "/etc/echelon/agent.toml";

/// Where the API listens that nobody said otherwise of.
pub(crate) const DEFAULT_API: &str = "/run/echelon/agent.sock";

/// The API's socket in a state directory that somebody named.
pub(crate) const API_IN_STATE: &str = "agent.sock";

/// Every key with its comment and default, as `config --default` prints them before those of the log.
pub(crate) const DEFAULTS: &str = r#"# Settings of registry-agent. Flags and environment variables go over this file. Every key may be left out.
# SIGHUP reads it again; state, managers, forward_threads and the log's format need a new process. systemctl reload
# (SIGUSR2) has one take over, without refusing a caller; only another state directory needs a restart.

# State directory: identity and replica.
#state = "/var/lib/echelon/agent"

# Registry managers to contact first; later the registry itself says where they are.
# Default: those that the host was enrolled with.
#managers = ["10.0.0.5:29120"]

# Where the local HTTP API listens: "unix:PATH" or a loopback "ADDR:PORT".
# With a state directory of your own the default is agent.sock in it.
#api = ["unix:/run/echelon/agent.sock"]

# Whether programs are handed connections directly, on direct.sock beside each unix socket of the API.
#direct = true

# Forwarders: whoever connects there is led to the nearest live manager of the type.
#forward = ["command-control=127.0.0.1:7400"]

# Forwarders for HTTP/1.1: each request is led to the nearest live manager of the type, over connections that are
# kept. A request that got no answer goes to the next one where nothing can happen twice: if its method is
# idempotent, if it has an Idempotency-Key, or if nothing of it was sent.
#forward_http = ["command-control=127.0.0.1:7480"]

# Threads for forwarders and the direct hand-over. Default: two, or one on a machine with a single core; 0: they
# share the agent's.
#forward_threads = 2

# Whether open connections to managers that are known to be dead are closed, so that callers reconnect: two seconds
# after a check failed that demands an answer, where another manager is usable; and where a manager cannot be
# reached, once its system acknowledges nothing on them. false leaves them to callers.
#close_dead = true

# How long open connections are left when the agent ends.
#stop_grace = "10s"

# For each type, the users of this system that may announce packages of it through the API's unix socket,
# besides root and the agent's own user: names or numbers.
[api_writers]
#command-control = ["web", "1001"]

# How packages of this host are checked, by type, where that is not as the registry says: with tcp (send, expect),
# http (status, host) or grpc, as in topology files, or with exec, a command by its absolute path. It finds what to
# check in ECHELON_CHECK_TYPE, _ENDPOINT, _ADDRESS and _PORT, passes with exit code 0, and says why not in its first
# line of output. At its timeout its process group is killed. Commands exist only here, never in the registry.
#[check.command-control]
#exec = ["/usr/lib/acme/check-control", "--quick"]
#interval = "5s"
#timeout = "2s"
#misses = 2

# What to do when the route for a type leads elsewhere, and when the agent starts: render a file, run a command, or both,
# then the command at the start and where the file has become another one. The template (Jinja) has the fields of GET
# /v1/routes/TYPE; the file is replaced as a whole and keeps its owner, and its mode unless one is set. The command finds
# ECHELON_TYPE, _FROM, _TO, _ENDPOINT, _OUTCOME, _CAUSE and _FILE and nothing else but PATH; at its timeout its process
# group is killed. Type "*" is any type, for commands alone. Changes are gathered for the time of debounce; what fails is
# tried again, with the alarm on-change-failed. Commands exist only here, never in the registry.
#[[on_change]]
#type = "command-control"
#template = "/etc/echelon/haproxy.cfg.jinja"
#file = "/etc/haproxy/conf.d/control.cfg"
#mode = "0644"
#command = ["/usr/bin/systemctl", "reload", "haproxy"]
#debounce = "1s"
#timeout = "30s"
"#;

/// The settings file; what is none is left to the default.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) state: Option<PathBuf>,
    pub(crate) managers: Option<Vec<Endpoint>>,
    pub(crate) api: Option<Vec<Listen>>,
    pub(crate) forward: Option<Vec<Forward>>,
    pub(crate) forward_http: Option<Vec<Forward>>,
    pub(crate) direct: Option<bool>,
    pub(crate) forward_threads: Option<usize>,
    pub(crate) close_dead: Option<bool>,
    pub(crate) stop_grace: Option<HumanDuration>,
    pub(crate) api_writers: ApiWriters,
    pub(crate) log: LogConfig,
    pub(crate) check: HostChecks,
    pub(crate) on_change: OnChanges,
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_daemon::config::{parse, printed_defaults, with_keys_in_force};
    use std::path::Path;

    fn read(text: &str) -> Result<File, String> {
        parse(Path::new("agent.toml"), text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_printed_defaults_are_a_settings_file_with_and_without_their_comment_signs() {
        let printed = printed_defaults(DEFAULTS);
        assert_eq!(read(&printed).unwrap(), File::default());
        let file = read(&with_keys_in_force(&printed)).unwrap();
        assert_eq!(file.stop_grace.unwrap().get(), registry_agent::DEFAULT_STOP_GRACE);
        assert_eq!(file.api.unwrap(), [Listen::Unix(DEFAULT_API.into())]);
        assert_eq!(file.state.unwrap(), Path::new(crate::cli::DEFAULT_STATE));
        assert_eq!((file.direct, file.close_dead), (Some(true), Some(true)));
        assert_eq!(file.forward_threads, Some(2));
        assert!(
            file.managers.is_some()
                && file.forward.is_some()
                && file.forward_http.is_some()
                && file.api_writers.len() == 1
        );
        assert_eq!(file.log, LogConfig::defaults());
        let rule = file.on_change.iter().next().unwrap();
        let defaults = read("[[on_change]]\ntype = \"a\"\ncommand = [\"/a\"]").unwrap().on_change;
        let defaults = defaults.iter().next().unwrap();
        assert_eq!((rule.debounce, rule.timeout), (defaults.debounce, defaults.timeout));
        let check = &file.check["command-control"];
        let defaults = read("[check.a]\nexec = [\"/a\"]").unwrap().check["a"].clone();
        assert_eq!((check.interval, check.timeout), (defaults.interval, defaults.timeout));
        assert_eq!(check.misses, defaults.misses);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let error = read("api = [\"0.0.0.0:1\"]").unwrap_err();
        assert!(error.starts_with("agent.toml:1:7: other hosts could reach 0.0.0.0:1"), "{error}");
        let error = read("\nforwards = []").unwrap_err();
        assert!(error.starts_with("agent.toml:2:1: unknown key `forwards`"), "{error}");
    }
}
