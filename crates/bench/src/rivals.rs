//! The same work for HAProxy and Envoy: the nearest of three managers, in their default settings and as somebody
//! tunes them by hand who knows them well.

use crate::Running;
use std::env;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names Envoy's program, where it is not `envoy` on the path.
const ENVOY: &str = "ECHELON_BENCH_ENVOY";

/// HAProxy's threads, as many as the forwarder has.
const THREADS: usize = 2;

/// A relay to compare with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rival {
    /// HAProxy with checks and otherwise its defaults; the timeouts are those of Debian's configuration file.
    Haproxy,
    /// HAProxy with checks every 50 ms that ask for an answer, short timeouts, other servers tried at once, and errors
    /// of callers taken as a check's.
    HaproxyTuned,
    /// Envoy with the same: active checks every 50 ms, outlier detection, further hosts tried.
    EnvoyTuned,
}

impl Rival {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Haproxy, Self::HaproxyTuned, Self::EnvoyTuned];

    /// What it is called in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "HAProxy, default",
            Self::HaproxyTuned => "HAProxy, tuned",
            Self::EnvoyTuned => "Envoy, tuned",
        }
    }

    /// Whether it is on this machine.
    pub fn is_there(self) -> bool {
        let program = self.program();
        let asked = match self {
            Self::EnvoyTuned => "--version",
            _ => "-v",
        };
        Command::new(program).arg(asked).output().is_ok_and(|output| output.status.success())
    }

    /// Starts it: it relays what comes to `at` to the first of these managers, and to the next where that fails.
    pub fn start(self, at: SocketAddr, managers: &[SocketAddr; 3], directory: &Path) -> Running {
        let mut run = Command::new(self.program());
        let (file, text) = match self {
            Self::Haproxy => ("haproxy.cfg", haproxy(at, managers, "", "")),
            Self::HaproxyTuned => ("haproxy.cfg", haproxy_tuned(at, managers)),
            Self::EnvoyTuned => ("envoy.yaml", envoy(at, managers)),
        };
        let path = directory.join(file);
        std::fs::write(&path, text).unwrap();
        match self {
            Self::EnvoyTuned => {
                let concurrency = THREADS.to_string();
                run.args(["--concurrency", &concurrency, "--log-level", "warning", "--disable-hot-restart"]);
                run.arg("-c").arg(path)
            }
            _ => run.args(["-db", "-f"]).arg(path),
        };
        Running::start(run, &directory.join("rival.log"))
    }

    fn program(self) -> PathBuf {
        match self {
            Self::EnvoyTuned => env::var_os(ENVOY).map_or_else(|| "envoy".into(), PathBuf::from),
            _ => "haproxy".into(),
        }
    }
}

fn haproxy(at: SocketAddr, [near, mid, far]: &[SocketAddr; 3], defaults: &str, listen: &str) -> String {
    let timeouts = match defaults {
        "" => "  timeout connect 5000\n  timeout client 50000\n  timeout server 50000\n",
        other => other,
    };
    format!(
        "global\n  nbthread {THREADS}\n  maxconn 8000\ndefaults\n  mode tcp\n{timeouts}\
         listen relay\n  bind {at} backlog 4096\n{listen}\
         \x20 server near {near} check\n  server mid {mid} check backup\n  server far {far} check backup\n"
    )
}

fn haproxy_tuned(at: SocketAddr, managers: &[SocketAddr; 3]) -> String {
    let timeouts = "  timeout connect 100ms\n  timeout client 50000\n  timeout server 50000\n  timeout check 50ms\n\
                    \x20 retries 3\n  option redispatch 1\n";
    let checks = "  option tcp-check\n  tcp-check connect\n  tcp-check send ping\\n\n  tcp-check expect rstring [a-z]\n\
                  \x20 default-server inter 50ms fastinter 20ms downinter 500ms fall 2 rise 2 observe layer4 error-limit 1 \
                  on-error mark-down on-marked-down shutdown-sessions\n";
    haproxy(at, managers, timeouts, checks)
}

fn envoy(at: SocketAddr, managers: &[SocketAddr; 3]) -> String {
    let address =
        |a: SocketAddr| format!("{{ socket_address: {{ address: {}, port_value: {} }} }}", a.ip(), a.port());
    let mut endpoints = String::new();
    for (priority, manager) in managers.iter().enumerate() {
        let endpoint = format!("{{ endpoint: {{ address: {} }} }}", address(*manager));
        writeln!(endpoints, "      - {{ priority: {priority}, lb_endpoints: [{endpoint}] }}")
            .expect("a string takes everything");
    }
    format!(
        r#"static_resources:
  listeners:
  - name: relay
    address: {at}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: relay
          cluster: managers
          max_connect_attempts: 4
  clusters:
  - name: managers
    type: STATIC
    connect_timeout: 0.1s
    close_connections_on_host_health_failure: true
    common_lb_config: {{ healthy_panic_threshold: {{ value: 0 }} }}
    circuit_breakers:
      thresholds: [{{ max_connections: 8000, max_pending_requests: 8000, max_requests: 8000 }}]
    health_checks:
    - timeout: 0.05s
      interval: 0.05s
      no_traffic_interval: 0.05s
      unhealthy_threshold: 2
      healthy_threshold: 2
      tcp_health_check: {{ send: {{ text: "70696e670a" }}, receive: [{{ text: "0a" }}] }}
    outlier_detection:
      split_external_local_origin_errors: true
      consecutive_local_origin_failure: 1
      max_ejection_percent: 100
      base_ejection_time: 30s
      interval: 1s
    load_assignment:
      cluster_name: managers
      endpoints:
{endpoints}"#,
        at = address(at),
    )
}
