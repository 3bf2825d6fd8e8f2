//! Metrics: what a scraper gets, what is written about them, and what is built on them.

use echelon_tests::binaries::workspace;
use echelon_tests::http::{self, Reply};
use echelon_tests::skip::have;
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Manager, Sandbox, Stub, TYPE, Topology, caller, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// What both processes of a small, busy system answer.
struct Exposed {
    manager: String,
    agent: String,
}

/// A system in which something of everything has happened.
fn exposed() -> Exposed {
    let sandbox = Sandbox::new();
    let manager = Manager::running(&sandbox);
    let near = sandbox.address();
    let on_change = format!("[[on_change]]\ntype = \"{TYPE}\"\ncommand = [\"/bin/true\"]\n");
    let mut agent = Agent::new(&sandbox, "far").forwarding(TYPE).with_settings(&on_change);
    manager.apply(&Topology::new().manager("near", "/", near).manager("far", "/x", agent.address()));
    agent.enroll_with(&manager);
    agent.also_run_with(&["--forward-http", &format!("{TYPE}={}:7400", agent.address())]);
    let mut stub = Stub::start("near", SocketAddr::new(near, PORT));
    let home = Stub::start("far", SocketAddr::new(agent.address(), PORT));
    agent.start_ready();
    manager.wait_in_sync(1);
    assert_eq!(agent.call(TYPE).unwrap(), "far");
    drop(home);
    wait_until("the other one to serve", || agent.call(TYPE).is_ok_and(|who| who == "near"));
    let passed_over = format!("echelon_agent_candidates_passed_over{{type=\"{TYPE}\",reason=\"down\"}}");
    // The router hears of it a moment after the caller is served.
    wait_until("far, which is nearer than near, to be passed over", || {
        value(&agent.get("/metrics").unwrap().body, &passed_over) == 1.0
    });
    hand_over(&agent, TYPE);
    hand_over(&agent, "no-such-type");
    stub.kill();
    caller::call(agent.forwarder(TYPE)).unwrap_err();
    wait_until("the manager to hear that this host is not at home", || {
        let text = http::get_tcp(manager.http(), "/metrics").unwrap().body;
        value(&text, &format!("echelon_manager_hosts_not_home{{type=\"{TYPE}\"}}")) == 1.0
    });
    assert_eq!(manager.status()["hosts_not_home"], 1, "{}", manager.status());
    let body = |reply: Reply| reply.body;
    Exposed {
        manager: body(http::get_tcp(manager.http(), "/metrics").unwrap()),
        agent: body(agent.get("/metrics").unwrap()),
    }
}

/// Asks for a direct hand-over; whatever is answered, the connection goes with it.
fn hand_over(agent: &Agent<'_>, ty: &str) {
    let mut direct = UnixStream::connect(agent.state().join("direct.sock")).unwrap();
    writeln!(direct, "{ty}").unwrap();
    let mut answer = String::new();
    BufReader::new(direct).read_line(&mut answer).unwrap();
    assert!(answer.starts_with('{'), "{answer}");
}

/// The value of a sample.
fn value(text: &str, sample: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {sample}: {text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// The metrics that an answer describes.
fn described(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// The metrics that a text speaks of.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|w| w.starts_with("echelon_manager_") || w.starts_with("echelon_agent_"));
    let suffixes = ["_bucket", "_count", "_sum"];
    let name = |word: &str| suffixes.iter().find_map(|s| word.strip_suffix(s)).unwrap_or(word).to_owned();
    ours.map(name).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(workspace().join(path)).unwrap()
}

/// Feeds `input` to promtool, which must have nothing to say.
fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(workspace().join("dist/prometheus"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("echelon_"), "promtool {arguments:?}: {said}\n{input}");
}

/// Protects: whatever is counted can be read, is written down, and is shown; and nothing is shown that is not
/// counted, as it would be after a metric got another name.
#[test]
fn metrics_their_description_and_what_is_built_on_them_agree() {
    let Exposed { manager, agent } = exposed();
    let counted: BTreeSet<_> = described(&manager).union(&described(&agent)).cloned().collect();
    let written = read("docs/metrics.md");
    let rows: String = written.lines().filter(|line| line.starts_with("| `echelon_")).collect();
    assert_eq!(counted, named(&rows), "what is counted, and the tables of docs/metrics.md");

    let shown = read("dist/grafana/echelon.json");
    serde_json::from_str::<serde_json::Value>(&shown).unwrap();
    let rules = read("dist/prometheus/echelon.rules.yml");
    for name in named(&shown).union(&named(&rules)) {
        assert!(counted.contains(name), "nothing counts {name}");
    }
    let without_panel = ["build_info", "hosts", "ready", "session_up", "tasks", "self_doubt"];
    let in_a_panel = |name: &&String| {
        let short = name.trim_start_matches("echelon_manager_").trim_start_matches("echelon_agent_");
        !without_panel.contains(&short)
            && !short.starts_with("replica_revision")
            && !short.starts_with("replica_view")
    };
    for name in counted.iter().filter(in_a_panel) {
        assert!(named(&shown).contains(name), "no panel shows {name}");
    }
    if have("metrics::promtool_has_nothing_to_say", "promtool", &["--version"]) {
        promtool(&["check", "metrics"], &manager);
        promtool(&["check", "metrics"], &agent);
        promtool(&["check", "config", "prometheus.yml"], "");
        promtool(&["check", "rules", "echelon.rules.yml"], "");
        promtool(&["test", "rules", "echelon.rules.test.yml"], "");
    }

    // And they tell what happened.
    let of_type = |metric: &str, more: &str| format!("{metric}{{type=\"{TYPE}\"{more}}}");
    let at = |metric: &str, more: &str| value(&agent, &of_type(metric, more));
    assert!(at("echelon_agent_route_changes_total", ",cause=\"down\"") >= 1.0);
    assert!(at("echelon_agent_not_home_seconds", "") > 0.0);
    assert!(at("echelon_agent_on_changes_total", ",outcome=\"done\"") >= 1.0);
    assert_eq!(at("echelon_agent_connections_total", ",outcome=\"failed\""), 1.0);
    assert!(at("echelon_agent_connections_total", ",outcome=\"served\"") >= 2.0);
    assert!(at("echelon_agent_connect_duration_seconds_count", ",outcome=\"connected\"") >= 3.0);
    assert!(at("echelon_agent_connect_duration_seconds_count", ",outcome=\"failed\"") >= 2.0);
    assert_eq!(at("echelon_agent_handovers_total", ""), 1.0);
    assert_eq!(value(&agent, "echelon_agent_replica_lag_revisions"), 0.0);
    assert!((80_000.0..90_000.0).contains(&value(&agent, "echelon_agent_certificate_left_seconds")));
    assert_eq!(value(&manager, "echelon_manager_enrolments_total{outcome=\"enrolled\"}"), 1.0);
    assert_eq!(value(&manager, "echelon_manager_sessions_started_total"), 1.0);
    assert_eq!(value(&manager, "echelon_manager_catch_ups_total{kind=\"snapshot\"}"), 1.0);
    let committed = value(&manager, "echelon_manager_edits_total{outcome=\"committed\"}");
    assert_eq!(value(&manager, "echelon_manager_edit_duration_seconds_count"), committed);
    assert_eq!(value(&manager, "echelon_manager_revision"), committed);
    assert!(value(&manager, &of_type("echelon_manager_not_home_seconds_max", "")) > 0.0);
    assert_eq!(
        value(&manager, &of_type("echelon_manager_managers", ",state=\"unknown\"")),
        1.0,
        "near has no agent"
    );
}

/// Protects: whoever is paged finds in the operators' guide what to do, and no rule is there that was never seen to fire.
#[test]
fn every_alert_is_in_the_operators_guide_and_has_a_test_in_which_it_fires() {
    let rules = read("dist/prometheus/echelon.rules.yml");
    let tried = read("dist/prometheus/echelon.rules.test.yml");
    let guide = read("docs/operations.md");
    let (_, symptoms) = guide.split_once("\n## Symptoms\n").unwrap();
    let fires = |alert: &str| {
        let named = format!("alertname: {alert}\n");
        tried.split("- eval_time:").any(|case| case.contains(&named) && case.contains("exp_alerts:"))
    };
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    for name in ["NoPrimary", "SyncShort", "Conflict", "StandbyLost", "ReplicaOld", "Fenced", "RolledBack"] {
        assert!(alerts.contains(&format!("Echelon{name}").as_str()), "no rule for {name}");
    }
    for alert in alerts {
        assert!(symptoms.contains(&format!("`{alert}`")), "what is to be done about {alert}?");
        assert!(fires(alert), "{alert} was never seen to fire");
    }
}
