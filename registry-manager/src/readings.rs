//! What the manager is at the moment, as metrics. Read when somebody asks, so that nothing that is gone stays in
//! them: a type without managers, a host that came home.

use crate::clock::unix_now;
use crate::hub::Hub;
use crate::limits::MAX_ALARM_SERIES;
use crate::managers;
use crate::metrics::PREFIX;
use crate::server::Inner;
use echelon_core::board::Agent;
use echelon_core::member::Peer;
use echelon_core::name::ManagerType;
use echelon_core::report::CandidateState;
use echelon_core::time::Monotonic;
use echelon_identity::TrustBundle;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry as Metered;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfType {
    r#type: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfManager {
    registry_manager: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfState {
    r#type: String,
    state: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfCertificate {
    certificate: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfAlarm {
    name: String,
    severity: String,
    subject: String,
    remedy: String,
}

/// Everything that can be read now.
pub(crate) fn readings(manager: &Inner) -> Metered {
    let mut m = Metered::with_prefix(PREFIX);
    let build = Family::<Build, Gauge>::default();
    build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
    m.register("build_info", "The manager's build", build);
    registry(&mut m, &manager.hub);
    agents(&mut m, &manager.hub);
    managers_by_state(&mut m, &manager.hub);
    not_home(&mut m, &manager.hub);
    alarms(&mut m, manager);
    network(&mut m, manager);
    certificates(&mut m, manager);
    others(&mut m, manager);
    lags(&mut m, manager);
    gauge(&mut m, "edits_waiting", "Edits waiting for the journal", manager.edits.waiting());
    m
}

fn registry(m: &mut Metered, hub: &Hub) {
    let (mark, registry) = (hub.mark(), hub.registry());
    gauge(m, "revision", "Revision of the committed registry", mark.position.revision);
    gauge(m, "view_revision", "Revision of the last change that agents see", mark.view_revision);
    gauge(m, "hosts", "Hosts in the registry", registry.host_count() as u64);
}

/// This manager among the others.
fn others(m: &mut Metered, manager: &Inner) {
    let situation = manager.edits.situation();
    let waiting = situation.standing.last.revision().saturating_sub(situation.standing.committed);
    let linked = || situation.peers.values().filter(|peer| peer.connected);
    let lag = |peer: &Peer| {
        let acked = peer.acked.map_or(0, |mark| mark.revision());
        situation.standing.last.revision().saturating_sub(acked)
    };
    let lag = linked().filter(|_| situation.leading).map(lag).max().unwrap_or(0);
    gauge(m, "primary", "1 while this manager is the primary", situation.leading.into());
    let rule = &situation.standing.rule;
    let synced = situation.synced(manager.hub.clock.now()) as u64;
    gauge(m, "sync_members", "Standbys that count for commits", rule.members.len() as u64);
    gauge(m, "sync_needed", "How many of those have to hold an edit", rule.needed() as u64);
    gauge(
        m,
        "sync_connected",
        "How many of those take edits now",
        if situation.leading { synced } else { 0 },
    );
    let surplus = manager.surplus.load(Ordering::Relaxed);
    gauge(m, "surplus_edits", "Edits that were given up and neither made once more nor dismissed", surplus);
    gauge(m, "epoch", "Epoch of the newest grant", situation.chain.head().id.epoch);
    gauge(m, "entries_uncommitted", "Entries that are not known to be committed", waiting);
    gauge(
        m,
        "managers_linked",
        "Other registry managers that are linked to this one",
        linked().count() as u64,
    );
    gauge(m, "standbys_lag_revisions_max", "Revisions that the farthest linked standby lacks", lag);
    gauge(
        m,
        "rolled_back",
        "1 while this registry is older than others have seen",
        situation.rolled_back.is_some().into(),
    );
    gauge(m, "conflicts", "Lineages in conflict with the one of this manager", situation.rivals.len() as u64);
}

/// What each registry manager lacks of the newest journal that this one knows of.
fn lags(m: &mut Metered, manager: &Inner) {
    let (edits, seconds) =
        (Family::<OfManager, Gauge>::default(), Family::<OfManager, Gauge<f64, AtomicU64>>::default());
    for member in managers::members(manager) {
        let label = OfManager { registry_manager: member.host.to_string() };
        let Some(lacks) = member.lag_edits else { continue };
        edits.get_or_create(&label).set(signed(lacks));
        let since = if lacks == 0 { Some(0) } else { member.lag_ms };
        if let Some(ms) = since {
            seconds.get_or_create(&label).set(Duration::from_millis(ms).as_secs_f64());
        }
    }
    m.register("registry_manager_lag_revisions", "Revisions that a registry manager lacks", edits);
    m.register("registry_manager_lag_seconds", "For how long a registry manager has lacked any", seconds);
}

fn agents(m: &mut Metered, hub: &Hub) {
    let (mark, sessions) = (hub.mark(), hub.sessions.count() as u64);
    let board = hub.board();
    let connected = || board.agents().map(|(_, agent)| agent).filter(|agent| agent.is_here());
    let out_of_sync = connected().filter(|agent| !agent.is_in_sync(mark.digest)).count();
    let lag = |agent: &Agent| {
        let holds = agent.report().holds.map_or(0, |holds| holds.view_revision);
        mark.view_revision.saturating_sub(holds)
    };
    let most = connected().map(lag).max().unwrap_or(0);
    let silent = board.agents().filter(|(_, agent)| agent.is_silent()).count();
    gauge(m, "sessions", "Agents with a session", sessions);
    gauge(m, "agents_out_of_sync", "Connected agents that do not hold the view", out_of_sync as u64);
    gauge(
        m,
        "agents_lag_revisions_max",
        "Revisions of the view that the farthest connected agent lacks",
        most,
    );
    gauge(m, "agents_silent", "Agents that were silent for three heartbeats or longer", silent as u64);
    gauge(m, "self_doubt", "1 while too many agents fell silent at once", board.is_doubting().into());
}

/// Managers by type and state, as the board sees them.
fn managers_by_state(m: &mut Metered, hub: &Hub) {
    let ((_, view), board) = (hub.registry_and_view(), hub.board());
    let by_state = Family::<OfState, Gauge>::default();
    for manager in view.managers() {
        let state = match manager.withdrawn {
            true => CandidateState::Withdrawn,
            false => board.state_of(manager.host, &manager.ty).0,
        };
        let label = OfState { r#type: manager.ty.to_string(), state: state.as_str() };
        by_state.get_or_create(&label).inc();
    }
    m.register("managers", "Managers, by what their hosts' agents report of them", by_state);
}

/// What hosts of one type's callers say of not being at home.
#[derive(Default)]
struct Away {
    hosts: i64,
    unserved: i64,
    longest: Duration,
}

/// Hosts that are not at home. Only types that the registry has are told apart: agents must not invent labels.
fn not_home(m: &mut Metered, hub: &Hub) {
    let ((_, view), now) = (hub.registry_and_view(), hub.clock.now());
    let mut away: BTreeMap<ManagerType, Away> =
        view.managers().map(|manager| (manager.ty.clone(), Away::default())).collect();
    for (_, agent) in hub.board().agents() {
        add_away(&mut away, agent, now);
    }
    let [hosts, unserved] = [(); 2].map(|()| Family::<OfType, Gauge>::default());
    let longest = Family::<OfType, Gauge<f64, AtomicU64>>::default();
    for (ty, away) in away {
        let label = OfType { r#type: ty.to_string() };
        hosts.get_or_create(&label).set(away.hosts);
        unserved.get_or_create(&label).set(away.unserved);
        longest.get_or_create(&label).set(away.longest.as_secs_f64());
    }
    m.register("hosts_not_home", "Hosts whose callers are not served by their home", hosts);
    m.register("hosts_unserved", "Hosts whose callers are served by nobody", unserved);
    m.register("not_home_seconds_max", "How long the host has been so that is away for longest", longest);
}

fn add_away(away: &mut BTreeMap<ManagerType, Away>, agent: &Agent, now: Monotonic) {
    let since_heard = now.since(agent.heard());
    for using in &agent.report().using {
        let Some(away) = away.get_mut(&using.ty) else { continue };
        away.hosts += 1;
        away.unserved += i64::from(using.manager.is_none());
        away.longest = away.longest.max(using.since.saturating_add(since_heard));
    }
}

/// The alarms that are up, the worst of them where there are very many.
fn alarms(m: &mut Metered, manager: &Inner) {
    let up = Family::<OfAlarm, Gauge<f64, AtomicU64>>::default();
    for alarm in manager.survey(|survey| survey.worst_alarms()).into_iter().take(MAX_ALARM_SERIES) {
        let (name, severity) = (alarm.name.to_string(), alarm.severity.to_string());
        let label = OfAlarm { name, severity, subject: alarm.subject, remedy: alarm.remedy };
        up.get_or_create(&label).set(Duration::from_millis(alarm.since_ms).as_secs_f64());
    }
    m.register("alarm_seconds", "For how long an alarm has been up", up);
}

fn network(m: &mut Metered, manager: &Inner) {
    let (stats, drops) = (manager.endpoint.stats(), manager.endpoint.socket_drops());
    gauge(m, "connections", "Open connections", stats.open as u64);
    counter(m, "connections_accepted", "Connections that were let in", stats.accepted);
    counter(m, "handshakes_failed", "Handshakes that failed or were refused", stats.failed);
    counter(m, "addresses_validated", "Clients that had to prove their address first", stats.validated);
    let help = "Datagrams that the kernel dropped at the full socket";
    counter(m, "socket_drops", help, drops.unwrap_or(0));
}

fn certificates(m: &mut Metered, manager: &Inner) {
    let left = Family::<OfCertificate, Gauge>::default();
    let trust = TrustBundle::new(manager.hub.registry().meta().trust.clone());
    let ends = [
        ("manager", Some(manager.certificate_ends())),
        ("issuer", Some(manager.issuer.not_after())),
        ("root", trust.ok().map(|trust| trust.not_after())),
    ];
    for (certificate, end) in ends.into_iter().filter_map(|(name, end)| Some((name, end?))) {
        let seconds = end.0.saturating_sub(unix_now().0) / 1000;
        left.get_or_create(&OfCertificate { certificate }).set(signed(seconds));
    }
    m.register("certificate_left_seconds", "Time until a certificate of this manager expires", left);
}

fn gauge(m: &mut Metered, name: &str, help: &str, value: u64) {
    m.register(name, help, ConstGauge::new(signed(value)));
}

fn counter(m: &mut Metered, name: &str, help: &str, value: u64) {
    m.register(name, help, ConstCounter::new(value));
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
