//! What the manager counts.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Metered;
use std::sync::Mutex;

/// The manager's metrics. One set for each manager, so that several can run in one process.
pub(crate) struct Metrics {
    pub(crate) bytes_pushed: Counter,
    pub(crate) deltas: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) lagged: Counter,
    pub(crate) repairs: Counter,
    pub(crate) empty_replicas: Counter,
    pub(crate) revision: Gauge,
    pub(crate) view_revision: Gauge,
    pub(crate) hosts: Gauge,
    pub(crate) sessions: Gauge,
    pub(crate) silent: Gauge,
    pub(crate) self_doubt: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) handshakes_failed: Counter,
    pub(crate) socket_drops: Counter,
    metered: Mutex<Metered>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut m = Metered::with_prefix("echelon_manager");
        let counter = |m: &mut Metered, name: &str, help: &str| {
            let metric = Counter::default();
            m.register(name, help, metric.clone());
            metric
        };
        let gauge = |m: &mut Metered, name: &str, help: &str| {
            let metric = Gauge::default();
            m.register(name, help, metric.clone());
            metric
        };
        Self {
            bytes_pushed: counter(&mut m, "pushed_bytes", "Bytes of messages sent on agents' sessions"),
            deltas: counter(&mut m, "deltas", "Deltas of the view sent to agents"),
            snapshots: counter(&mut m, "snapshots", "Snapshots of the view sent to agents"),
            lagged: counter(&mut m, "sessions_lagged", "Times a session was too slow and was brought level"),
            repairs: counter(&mut m, "repairs", "Replicas that differed and were replaced by a snapshot"),
            empty_replicas: counter(&mut m, "empty_replicas", "Sessions of agents that came with nothing"),
            revision: gauge(&mut m, "revision", "Revision of the committed registry"),
            view_revision: gauge(&mut m, "view_revision", "Revision of the last change that agents see"),
            hosts: gauge(&mut m, "hosts", "Hosts in the registry"),
            sessions: gauge(&mut m, "sessions", "Agents with a session"),
            silent: gauge(&mut m, "agents_silent", "Agents that were silent for three heartbeats or longer"),
            self_doubt: gauge(&mut m, "self_doubt", "1 while too many agents fell silent at once"),
            connections: gauge(&mut m, "connections", "Open connections"),
            handshakes_failed: counter(&mut m, "handshakes_failed", "Handshakes that failed or were refused"),
            socket_drops: counter(
                &mut m,
                "socket_drops",
                "Datagrams that the kernel dropped at the full socket",
            ),
            metered: Mutex::new(m),
        }
    }

    /// All metrics in the OpenMetrics text format.
    pub(crate) fn text(&self) -> String {
        let metered = self.metered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &metered);
        text
    }
}
