//! A whole agent, as a program embeds it, against a registry manager that a test controls.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod support;

use echelon_client::{AgentError, LocalAgent};
use echelon_core::id::HostId;
use echelon_core::message::{
    Failure, FailureClass, FromAgent, Health, Liveness, LivenessEntry, Retry, ToAgent,
};
use echelon_core::name::ManagerType;
use echelon_core::report::{CandidateState, Outcome, Source};
use echelon_core::view::{Manager as ViewManager, ViewRow};
use registry_agent::{Agent, EnrolError, Enrolment, Handle, Listen, StartError, WantError, enroll};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::{Manager, Seat, World, call, config, eventually, package, service, ty, view_manager};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

/// Long enough never to be missed in a test that is not about it.
const SLOW: Duration = Duration::from_secs(30);

struct Home {
    _dir: tempfile::TempDir,
    state: PathBuf,
}

fn home() -> Home {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    Home { _dir: dir, state }
}

async fn start(state: &Path) -> Handle {
    Agent::start(config(state), &CancellationToken::new()).await.unwrap()
}

fn local(state: &Path) -> LocalAgent {
    LocalAgent::at(state.join("agent.sock"))
}

fn port(agent: &Handle) -> SocketAddr {
    match agent.forward(&ty()) {
        Some(Listen::Tcp(addr)) => addr,
        other => panic!("the forwarder is at {other:?}"),
    }
}

/// One request over the agent's socket, byte by byte: status line and body.
async fn raw(state: &Path, request: &str) -> (String, String) {
    let mut stream = tokio::net::UnixStream::connect(state.join("agent.sock")).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // Whoever sends more than is read gets a reset after the answer.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// A manager, an enrolled host with a running agent, and its first session, already level.
struct Running {
    manager: Manager,
    home: Home,
    host: HostId,
    agent: Handle,
    world: World,
    seat: Seat,
}

async fn running(managers: Vec<ViewManager>, heartbeat: Duration) -> Running {
    let (mut manager, home) = (Manager::start().await, home());
    let host = manager.enrolled(&home.state, "agent1").await;
    let agent = start(&home.state).await;
    let mut seat = manager.session().await;
    let world = World::new(&manager, host, managers, vec![]);
    seat.give(heartbeat, &world).await;
    eventually("the replica is shown", async || agent.routes().replica()).await;
    Running { manager, home, host, agent, world, seat }
}

#[tokio::test]
async fn from_enrolment_to_routing_without_a_registry() {
    let (mut manager, home) = (Manager::start().await, home());
    let host = manager.enrolled(&home.state, "agent1").await;
    let agent = start(&home.state).await;
    let error = local(&home.state).route(&ty()).await.unwrap_err();
    assert!(matches!(error, AgentError::Refused { status: 503, .. }), "{error}");
    assert_eq!(agent.routes().want(&ty()).await.unwrap_err(), WantError::NoReplica);
    assert!(raw(&home.state, "GET /readyz").await.0.contains("503"));

    let (near, stop_near) = service("near").await;
    let (far, _) = service("far").await;
    let mut seat = manager.session().await;
    assert_eq!((seat.hello.holds, seat.hello.protocol), (None, (1, 1)));
    let managers = vec![view_manager(1, near), view_manager(2, far)];
    let world = World::new(&manager, host, managers, vec![]);
    seat.give(Duration::from_millis(200), &world).await;
    let held = seat.heartbeat(|h| h.holds).await;
    assert_eq!((held.digest, held.place), (world.mark().digest, world.place.digest()));
    assert!(raw(&home.state, "GET /readyz").await.0.contains("200"));

    assert_eq!(call(port(&agent)).await, "near hello");
    let report = local(&home.state).route(&ty()).await.unwrap();
    assert_eq!((report.outcome, report.source), (Outcome::Home, Some(Source::Manager)));
    assert_eq!(report.at.unwrap().revision, 1);
    assert!(report.age_ms.unwrap() < 20_000);
    assert_eq!(report.chosen.unwrap().host.as_str(), "host1");

    manager.die().await;
    drop(seat);
    eventually("there is no session", async || agent.status().session.is_none().then_some(())).await;
    stop_near.abort();
    assert_eq!(call(port(&agent)).await, "far hello");
    let report = local(&home.state).route(&ty()).await.unwrap();
    assert_eq!((report.outcome, report.source), (Outcome::Failover, Some(Source::Replica)));

    let incarnation = agent.status().incarnation;
    agent.stop().await.unwrap();
    assert!(!home.state.join("agent.sock").exists());
    let agent = start(&home.state).await;
    assert!(agent.status().incarnation > incarnation);
    assert_eq!(call(port(&agent)).await, "far hello");
    let report = local(&home.state).route(&ty()).await.unwrap();
    assert_eq!((report.at.unwrap().revision, report.source), (1, Some(Source::Replica)));
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_does_not_use_a_token_up_twice() {
    let (manager, home) = (Manager::start().await, home());
    manager.swallow_next();
    let error = enroll(manager.options(&home.state, "agent1")).await.unwrap_err();
    assert!(matches!(error, EnrolError::Unknown(_)), "{error}");
    let Enrolment::New(enrolled) = enroll(manager.options(&home.state, "agent1")).await.unwrap() else {
        panic!("it was not enrolled before");
    };
    let [first, second] = <[_; 2]>::try_from(manager.enrolments()).unwrap();
    let key = |csr: &[u8]| echelon_identity::CertificateRequest::from_der(csr).unwrap().public_key().hash();
    assert_eq!((first.request, key(&first.csr)), (second.request, key(&second.csr)));
    assert_eq!(enrolled.host_id, HostId(first.request.0));

    let again = enroll(manager.options(&home.state, "other")).await.unwrap();
    assert_eq!(again, Enrolment::Already(enrolled));
    assert_eq!(manager.enrolments().len(), 2, "the token was shown once more");
}

#[tokio::test]
async fn enrolment_trusts_nobody_but_the_pinned_authority_and_says_when_nobody_is_there() {
    let (manager, home) = (Manager::start().await, home());
    let mut options = manager.options(&home.state, "agent1");
    options.token.pin[0] ^= 1;
    let error = enroll(options).await.unwrap_err();
    assert!(matches!(error, EnrolError::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("another authority"), "{error}");
    assert!(manager.enrolments().is_empty(), "the secret was shown to a stranger");
    let missing = Agent::start(config(&home.state), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(missing, StartError::NotEnrolled(_)), "{missing}");
}

#[tokio::test]
async fn a_manager_that_falls_silent_is_left_and_the_next_session_begins_where_the_last_one_ended() {
    let Running { mut manager, agent, world, seat, .. } =
        running(vec![view_manager(1, service("near").await.0)], Duration::from_millis(100)).await;
    // Nothing more is said on `seat`, and its connection stays open.
    let start = Instant::now();
    let mut second = manager.session().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let held = second.hello.holds.unwrap();
    assert_eq!((held.digest, held.view_revision), (world.mark().digest, 1));
    assert_eq!(second.hello.incarnation, seat.hello.incarnation);
    second.welcome(SLOW).await;
    eventually("the session is up again", async || agent.status().session).await;
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn deltas_are_applied_in_order_and_one_that_does_not_fit_is_repaired() {
    let (near, _) = service("near").await;
    let Running { agent, world, mut seat, home, .. } = running(vec![], SLOW).await;
    assert!(raw(&home.state, "GET /v1/routes/command-control").await.0.contains("404"));
    let row = ViewRow::Manager(view_manager(1, near));
    let second = world.with(row.clone());
    seat.delta(1, &second, vec![row]).await;
    let shown = eventually("the delta is shown", async || {
        agent.routes().replica().filter(|r| r.mark.view_revision == 2)
    });
    assert_eq!(shown.await.mark, second.mark());
    assert_eq!(call(port(&agent)).await, "near hello");

    // The third is lost: another manager.
    let third = second.with(ViewRow::Manager(ViewManager { withdrawn: true, ..view_manager(2, near) }));
    let row = ViewRow::Manager(ViewManager { withdrawn: true, ..view_manager(1, near) });
    let fourth = third.with(row.clone());
    seat.delta(3, &fourth, vec![row]).await;
    while !matches!(seat.recv().await, Some(FromAgent::Repair)) {}
    assert_eq!(agent.routes().replica().unwrap().mark, second.mark());
    seat.give_again(&fourth).await;
    eventually("it is repaired", async || agent.routes().replica().filter(|r| r.mark == fourth.mark())).await;
    let (status, body) = raw(&home.state, "GET /v1/routes/command-control").await;
    assert!(status.contains("503") && body.contains("\"outcome\":\"unserved\""), "{status} {body}");
    assert_eq!(agent.status().repairs, 1);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_packages_health_is_told_at_once_and_others_health_is_heard() {
    let (own, stop_own) = service("own").await;
    let Running { agent, world, host, mut seat, .. } = running(vec![], SLOW).await;
    let mut world = world.with(ViewRow::Manager(view_manager(9, "127.0.0.1:9".parse().unwrap())));
    world.place.packages = vec![package(host, own)];
    seat.send(&ToAgent::Place(world.place.clone())).await;
    seat.heartbeat(|h| (h.packages.get(&ty()) == Some(&Health::Passing)).then_some(())).await;
    stop_own.abort();
    let (health, sequence) = seat
        .heartbeat(|h| match h.packages.get(&ty()) {
            Some(health @ Health::Failing { .. }) => Some((health.clone(), h.sequence)),
            _ => None,
        })
        .await;
    let Health::Failing { demands_answer, reason } = health else { unreachable!() };
    assert!(!demands_answer && reason.as_str() == "connection refused", "{reason}");
    assert!(sequence > 1);

    let row = world.rows.last().unwrap().clone();
    seat.delta(1, &world, vec![row]).await;
    let liveness = |health| {
        let packages = BTreeMap::from([(ty(), health)]);
        let host = HostId(uuid::Uuid::from_u128(9));
        let entry = LivenessEntry { host, incarnation: 1, sequence: 1, silent: false, packages };
        ToAgent::Liveness(Liveness { complete: false, entries: vec![entry] })
    };
    seat.send(&liveness(Health::Passing)).await;
    eventually("the manager is known as live", async || {
        let route = agent.routes().want(&ty()).await.ok()?;
        route.entries.iter().any(|e| e.state == CandidateState::Live).then_some(())
    })
    .await;
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_certificate_is_renewed_at_half_its_life_and_no_connection_outlives_its_own() {
    let life = Duration::from_secs(6);
    let (mut manager, home) = (Manager::with_lifetime(life).await, home());
    let host = manager.enrolled(&home.state, "agent1").await;
    let agent = start(&home.state).await;
    let mut first = manager.session().await;
    let world = World::new(&manager, host, vec![], vec![]);
    first.give(SLOW, &world).await;
    let old = first.connection.peer().unwrap().clone();
    let start = Instant::now();
    let second = manager.session().await;
    assert!(start.elapsed() < life, "{:?}", start.elapsed());
    let new = second.connection.peer().unwrap();
    assert!(new.not_after > old.not_after, "the second session came with the old certificate");
    let closed = first.connection.closed().await.to_string();
    assert!(closed.contains("a certificate is about to expire"), "not by plan: {closed}");
    assert_eq!((&new.subject, new.key_hash), (&old.subject, old.key_hash));
    let kept = echelon_identity::IdentityDirectory::open(&home.state.join("identity")).unwrap();
    assert!(kept.load_credentials().unwrap().peer().unwrap().not_after >= new.not_after);
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_refused_session_changes_no_route_and_is_tried_again() {
    let (near, _) = service("near").await;
    let Running { mut manager, agent, seat, .. } = running(vec![view_manager(1, near)], SLOW).await;
    seat.connection.close(9, "restarting");
    let failure = Failure {
        error: "not-allowed".into(),
        class: FailureClass::NotAllowed,
        message: "the identity is not known".into(),
        place: String::new(),
        remedy: String::new(),
        retry: Retry::Pointless,
    };
    let mut second = manager.session().await;
    second.refuse(failure).await;
    assert_eq!(call(port(&agent)).await, "near hello");
    manager.session().await;
    assert!(agent.status().session.is_none());
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_damaged_replica_is_set_aside_and_a_new_one_is_asked_for() {
    let Running { mut manager, home, agent, world, seat, .. } = running(vec![], SLOW).await;
    drop(seat);
    agent.stop().await.unwrap();
    std::fs::write(home.state.join("replica.db"), vec![0x5a; 20_000]).unwrap();
    for log in ["replica.db-wal", "replica.db-shm"] {
        let _ = std::fs::remove_file(home.state.join(log));
    }
    let agent = start(&home.state).await;
    assert!(agent.routes().replica().is_none());
    assert!(home.state.join("replica.db.corrupt-1").exists());
    let mut seat = manager.session().await;
    assert_eq!(seat.hello.holds, None);
    seat.give(SLOW, &world).await;
    eventually("the new replica is shown", async || agent.routes().replica()).await;
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_state_directory_serves_one_agent_at_a_time() {
    let (manager, home) = (Manager::start().await, home());
    manager.enrolled(&home.state, "agent1").await;
    let agent = start(&home.state).await;
    let second = Agent::start(config(&home.state), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(second, StartError::State(_)), "{second}");
    agent.stop().await.unwrap();
    start(&home.state).await.stop().await.unwrap();
}

#[tokio::test]
async fn the_api_answers_what_it_says_and_refuses_everything_else() {
    let (near, _) = service("near").await;
    let Running { agent, home, manager: _manager, seat: _seat, .. } =
        running(vec![view_manager(1, near)], SLOW).await;
    let (status, body) = raw(&home.state, "GET /v1/status").await;
    let document: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(status.contains("200"), "{status}");
    for (key, value) in [("host", "agent1"), ("framework", "acme"), ("domain", "/")] {
        assert_eq!(document[key], value, "{body}");
    }
    assert_eq!((document["revision"].as_u64(), document["ready"].as_bool()), (Some(1), Some(true)));
    assert_eq!(document["session"]["manager"], "fm");
    assert_eq!(document["forwarders"][0]["type"], "command-control");
    let (status, body) = raw(&home.state, "GET /metrics").await;
    assert!(status.contains("200") && body.contains("\nechelon_agent_session_up 1\n"), "{body}");
    assert_eq!(raw(&home.state, "GET /healthz").await.1, "ok\n");
    for (request, code) in [
        ("GET /", "404"),
        ("GET /v1/routes/", "404"),
        ("GET /v1/routes/no-such-type", "404"),
        ("GET /v1/routes/%1b%5b31m", "404"),
        ("GET /v1/routes/%ff", "400"),
        ("POST /v1/status", "405"),
        ("DELETE /v1/packages/command-control", "403"),
        ("GET /v1/packages/command-control", "404"),
    ] {
        let (status, body) = raw(&home.state, request).await;
        assert!(status.contains(code), "{request}: {status}");
        assert!(!body.contains('\u{1b}'), "{request}: {body:?}");
    }
    let long = format!("GET /v1/routes/{}", "a".repeat(20_000));
    let (status, _) = raw(&home.state, &long).await;
    assert!(status.contains("431") || status.contains("414"), "a head without limits: {status}");
    let registry = local(&home.state).route(&ManagerType::registry()).await.unwrap();
    assert_eq!(registry.chosen.unwrap().host.as_str(), "fm");
    agent.stop().await.unwrap();
}
