use super::*;
use crate::dialer::Parts;
use crate::forward::crew::Crew;
use crate::listen::{Forward, Listen};
use crate::metrics::{Cut, Metrics};
use crate::routes::{RouterInput, Routes, Snapshot};
use crate::slots::Slots;
use crate::testing::{
    DEADLINE, eventually, host, manager, mark, place, refusing, routes, rows, service, silent_listener,
    snapshot, ty,
};
use echelon_core::id::DomainId;
use echelon_core::message::{Health, LivenessEntry};
use echelon_core::name::Text;
use echelon_core::package::Withdrawal;
use echelon_core::policy::{Failback, Policy, PolicySettings, TypeSelector};
use echelon_core::report::{CandidateState, Outcome};
use echelon_core::router::Input;
use echelon_core::view::{Manager, View, ViewRow};
use echelon_daemon::Tasks;
use futures::FutureExt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

struct Setup {
    forwarder: Forwarder,
    parts: Parts,
    common: Common,
    routes: Routes,
    tasks: Tasks,
    close_dead: watch::Sender<bool>,
}

async fn setup_at(listen: Listen, managers: &[Manager], settings: PolicySettings) -> Setup {
    setup_with(Arc::default(), Slots::by_descriptors(), listen, managers, settings).await
}

async fn setup_with(
    crew: Arc<Crew>,
    slots: Slots,
    listen: Listen,
    managers: &[Manager],
    settings: PolicySettings,
) -> Setup {
    let (routes, tasks) = routes(snapshot(1, managers, settings)).await;
    let (metrics, places) = (Arc::new(Metrics::new()), Arc::default());
    let parts = Parts { routes: routes.clone(), tasks: tasks.clone(), metrics, places };
    let forward = Forward { ty: ty(), listen };
    let close_dead = watch::Sender::new(true);
    let common = Common { crew, slots, close_dead: close_dead.subscribe() };
    let forwarder = Forwarder::start(&forward, parts.clone(), common.clone()).await.unwrap();
    Setup { forwarder, parts, common, routes, tasks, close_dead }
}

async fn setup(managers: &[Manager], settings: PolicySettings) -> Setup {
    setup_at("127.0.0.1:0".parse().unwrap(), managers, settings).await
}

impl Setup {
    fn addr(&self) -> SocketAddr {
        match self.forwarder.at() {
            Listen::Tcp(addr) => *addr,
            Listen::Unix(path) => panic!("listens at {path:?}"),
        }
    }

    async fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(self.addr()).await.unwrap())
    }

    /// Says a line through the forwarder; gives the answer.
    async fn call(&self) -> String {
        let mut stream = self.connect().await;
        say(&mut stream, "hello").await
    }

    fn cut(&self, cause: Cut) -> u64 {
        self.parts.metrics.of_type(&ty()).cuts(cause)
    }

    fn full(&self) -> u64 {
        self.parts.metrics.of_type(&ty()).fulls()
    }

    fn state(&self, n: u8) -> CandidateState {
        let route = self.routes.get(&ty()).unwrap();
        route.entries.iter().find(|e| e.candidate.manager.host == host(n)).unwrap().state
    }

    async fn becomes(&self, n: u8, state: CandidateState) {
        eventually(&format!("host{n} is {state}"), || (self.state(n) == state).then_some(())).await;
    }
}

async fn say(stream: &mut BufReader<TcpStream>, line: &str) -> String {
    stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_line(&mut answer)).await.unwrap().unwrap();
    answer.trim_end().to_owned()
}

fn defaults() -> PolicySettings {
    PolicySettings::default()
}

#[tokio::test]
async fn a_caller_is_led_to_the_nearest_manager() {
    let (near, far) = (service("near").await, service("far").await);
    let setup = setup(&[manager(1, 0, near), manager(2, 1, far)], defaults()).await;
    assert_eq!(setup.call().await, "near hello");
    setup.becomes(1, CandidateState::Live).await;
    let status = eventually("the call is over", || {
        let status = setup.forwarder.status();
        (status.open == 0).then_some(status)
    });
    assert_eq!(status.await.served, 1);
}

#[tokio::test]
async fn a_manager_that_refuses_is_passed_over_at_once_and_known_as_down() {
    let (closed, far) = (refusing(), service("far").await);
    let setup = setup(&[manager(1, 0, closed.addr), manager(2, 1, far)], defaults()).await;
    let start = Instant::now();
    assert_eq!(setup.call().await, "far hello");
    // Well below the hedge of 50 ms and the timeout of 1 s; the rest is for a busy machine.
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    setup.becomes(1, CandidateState::Down).await;
    let route = setup.routes.get(&ty()).unwrap();
    assert_eq!(route.outcome, Outcome::Failover);
    assert!(route.cause.as_str().starts_with("host1: connection refused"), "{}", route.cause);
    assert_eq!(route.targets[0].host, host(2));
}

#[tokio::test]
async fn a_silent_manager_is_overtaken_then_known_as_down_and_found_again_by_a_probe() {
    let (mut silent, far) = (silent_listener(), service("far").await);
    let settings = PolicySettings {
        connect_timeout: Some(Duration::from_secs(2)),
        failback_hold: Some(Duration::ZERO),
        failback_jitter: Some(Duration::ZERO),
        ..defaults()
    };
    let setup = setup(&[manager(1, 0, silent.addr), manager(2, 1, far)], settings).await;
    let start = Instant::now();
    assert_eq!(setup.call().await, "far hello");
    assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_millis(1900), "{:?}", start.elapsed());
    // Its own attempt goes on up to the timeout and then says more than the hedge did.
    assert_eq!(setup.tasks.count("overtaken"), 1);
    setup.becomes(1, CandidateState::Down).await;
    silent.speak();
    setup.becomes(1, CandidateState::Live).await;
    let route = setup.routes.get(&ty()).unwrap();
    assert_eq!((route.outcome, route.targets[0].host), (Outcome::Home, host(1)));
}

#[tokio::test]
async fn with_failback_dormant_connections_return_once_the_last_one_is_closed() {
    let (mut silent, far) = (silent_listener(), service("far").await);
    let settings = PolicySettings {
        failback: Some(Failback::Dormant),
        failback_hold: Some(Duration::ZERO),
        failback_jitter: Some(Duration::ZERO),
        ..defaults()
    };
    let setup = setup(&[manager(1, 0, silent.addr), manager(2, 1, far)], settings).await;
    let mut open = setup.connect().await;
    assert_eq!(say(&mut open, "hello").await, "far hello");
    silent.speak();
    setup.becomes(1, CandidateState::Live).await;
    let chosen = || setup.routes.get(&ty()).unwrap().targets[0].host;
    // Whatever the router was told before is behind it now.
    setup.routes.answer().await;
    assert_eq!((chosen(), say(&mut open, "again").await), (host(2), "far again".to_owned()));
    drop(open);
    eventually("connections return", || (chosen() == host(1)).then_some(())).await;
}

#[tokio::test]
async fn when_nobody_can_be_reached_the_caller_gets_an_error_and_not_an_empty_answer() {
    let closed = [refusing(), refusing()];
    let setup = setup(&[manager(1, 0, closed[0].addr), manager(2, 1, closed[1].addr)], defaults()).await;
    let mut stream = setup.connect().await;
    let mut answer = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(setup.forwarder.status().failed, 1);
    setup.becomes(2, CandidateState::Down).await;
    assert_eq!(setup.routes.get(&ty()).unwrap().outcome, Outcome::LastResort);
}

#[tokio::test]
async fn without_any_manager_the_caller_is_refused_as_unserved() {
    let withdrawn = Manager { withdrawn: true, ..manager(1, 0, service("near").await) };
    let setup = setup(&[withdrawn], defaults()).await;
    let mut stream = setup.connect().await;
    let read = timeout(DEADLINE, stream.read_u8()).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(setup.forwarder.status().unserved, 1);
}

#[tokio::test]
async fn each_side_can_end_its_half_and_still_hear_the_other() {
    let setup = setup(&[manager(1, 0, service("near").await)], defaults()).await;
    let mut stream = setup.connect().await;
    stream.write_all(b"last words").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "near last words\nbye\n");
}

#[tokio::test]
async fn a_unix_socket_serves_as_well_as_a_port() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cc.sock");
    let managers = [manager(1, 0, service("near").await)];
    let setup = setup_at(Listen::Unix(path.clone()), &managers, defaults()).await;
    let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
    stream.write_all(b"hello\n").await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_line(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "near hello\n");
    assert_eq!(setup.forwarder.status().open_by_manager["host1"], 1);
}

#[tokio::test]
async fn connections_of_a_withdrawn_manager_are_drained_and_of_a_restored_one_kept() {
    let settings = PolicySettings { drain_timeout: Some(Duration::from_millis(300)), ..defaults() };
    let managers = [manager(1, 0, service("near").await), manager(2, 1, service("far").await)];
    let withdrawn = [Manager { withdrawn: true, ..managers[0].clone() }, managers[1].clone()];
    let setup = setup(&managers, settings.clone()).await;
    let mut stream = setup.connect().await;
    assert_eq!(say(&mut stream, "one").await, "near one");

    let replica = |revision, managers: &[Manager]| snapshot(revision, managers, settings.clone());
    setup.routes.send(RouterInput::Replica(replica(2, &withdrawn))).await;
    setup.becomes(1, CandidateState::Withdrawn).await;
    assert_eq!(setup.call().await, "far hello");
    setup.routes.send(RouterInput::Replica(replica(3, &managers))).await;
    eventually("restored", || (setup.state(1) != CandidateState::Withdrawn).then_some(())).await;
    // Longer than the drain would have taken: nothing else can show that it does not come.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(say(&mut stream, "two").await, "near two");

    let start = Instant::now();
    setup.routes.send(RouterInput::Replica(replica(4, &withdrawn))).await;
    setup.becomes(1, CandidateState::Withdrawn).await;
    assert_eq!(say(&mut stream, "three").await, "near three");
    is_reset(&mut stream).await;
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert_eq!(setup.cut(Cut::Withdrawn), 1);
}

/// Whatever takes a manager away drains it; what stays as it was is left alone.
#[tokio::test]
async fn connections_are_drained_however_their_manager_was_taken_away() {
    let settings = PolicySettings { drain_timeout: Some(Duration::from_millis(300)), ..defaults() };
    let near = manager(1, 0, service("near").await);
    let far = manager(2, 1, service("far").await);
    let elsewhere = service("elsewhere").await;
    let drain = Withdrawal { reason: Some(Text::lossy("kernel update")) };
    let edits = [
        ("removed", vec![far.clone()], settings.clone()),
        ("moved to another endpoint", vec![manager(1, 0, elsewhere), far.clone()], settings.clone()),
        (
            "host drained",
            vec![Manager { drained: Some(drain), ..near.clone() }, far.clone()],
            settings.clone(),
        ),
        (
            "withdrawn by its host",
            vec![Manager { withdrawn_by_host: true, ..near.clone() }, far.clone()],
            settings.clone(),
        ),
    ];
    for (how, managers, after) in edits {
        let setup = setup(&[near.clone(), far.clone()], settings.clone()).await;
        let mut stream = setup.connect().await;
        assert_eq!(say(&mut stream, "one").await, "near one", "{how}");
        setup.routes.send(RouterInput::Replica(snapshot(2, &managers, after))).await;
        eventually(how, || (setup.routes.replica()?.mark.position.revision == 2).then_some(())).await;
        let start = Instant::now();
        assert_eq!(say(&mut stream, "two").await, "near two", "{how}");
        let other = if how.starts_with("moved") { "elsewhere" } else { "far" };
        let mut new = setup.connect().await;
        assert_eq!(say(&mut new, "hello").await, format!("{other} hello"), "{how}");
        is_reset(&mut stream).await;
        assert!(start.elapsed() >= Duration::from_millis(250), "{how}: after {:?}", start.elapsed());
        assert_eq!(say(&mut new, "still").await, format!("{other} still"), "{how}");
        assert_eq!((setup.cut(Cut::Withdrawn), setup.forwarder.status().open), (1, 1), "{how}");
    }
}

#[tokio::test]
async fn a_stop_closes_the_port_at_once_and_leaves_open_connections_their_time() {
    let setup = setup(&[manager(1, 0, service("near").await)], defaults()).await;
    let mut stream = setup.connect().await;
    assert_eq!(say(&mut stream, "one").await, "near one");
    let (addr, tasks) = (setup.addr(), setup.tasks.clone());
    let draining = tokio::spawn(async move { tasks.drain(DEADLINE).await });
    eventually("the port is closed", || std::net::TcpStream::connect(addr).is_err().then_some(())).await;
    assert_eq!(say(&mut stream, "two").await, "near two");
    drop(stream);
    draining.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_forwarder_that_is_its_own_manager_does_not_call_itself() {
    let placeholder = [manager(1, 0, ([127, 0, 0, 1], 1).into())];
    let setup = setup(&placeholder, defaults()).await;
    let itself = snapshot(2, &[manager(1, 0, setup.addr())], defaults());
    setup.routes.send(RouterInput::Replica(itself)).await;
    let here = setup.addr().port();
    eventually("the route leads here", || {
        (setup.routes.get(&ty())?.targets.first()?.endpoint.port.get() == here).then_some(())
    })
    .await;
    let mut stream = setup.connect().await;
    let read = timeout(DEADLINE, stream.read_u8()).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(setup.forwarder.status().failed, 1);
}

#[tokio::test]
async fn threads_of_its_own_carry_callers_and_outlive_the_forwarder_while_one_is_left() {
    let crew = Arc::new(Crew::start(2).unwrap());
    let (listen, managers) = ("127.0.0.1:0".parse().unwrap(), [manager(1, 0, service("near").await)]);
    let setup = setup_with(crew, Slots::by_descriptors(), listen, &managers, defaults()).await;
    for _ in 0..8 {
        assert_eq!(setup.call().await, "near hello");
    }
    let mut stream = setup.connect().await;
    assert_eq!(say(&mut stream, "one").await, "near one");
    assert_eq!(setup.tasks.count("forwarder"), 2);
    let Setup { forwarder, common, tasks, .. } = setup;
    drop((forwarder, common));
    let draining = tokio::spawn(async move { tasks.drain(DEADLINE).await });
    assert_eq!(say(&mut stream, "two").await, "near two");
    drop(stream);
    draining.await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_to_a_manager_that_an_edit_excludes_are_drained() {
    let settings = PolicySettings { drain_timeout: Some(Duration::from_millis(300)), ..defaults() };
    let managers = [manager(1, 1, service("near").await)];
    let setup = setup(&managers, settings.clone()).await;
    let mut stream = setup.connect().await;
    assert_eq!(say(&mut stream, "one").await, "near one");
    let fence = PolicySettings { boundary: Some(true), ..defaults() };
    let fence = Policy { domain: DomainId(3), ty: TypeSelector::All, settings: fence };
    let mut view = rows(&managers, settings);
    view.push(ViewRow::Policy(fence));
    let view = View::from_rows(view).unwrap();
    let mark = mark(2, view.digest());
    setup.routes.send(RouterInput::Replica(Arc::new(Snapshot { view, place: place(vec![]), mark }))).await;
    setup.becomes(1, CandidateState::Excluded).await;
    assert_eq!(say(&mut stream, "two").await, "near two");
    is_reset(&mut stream).await;
    assert_eq!(setup.cut(Cut::Withdrawn), 1);
}

/// Says what the check of the manager on host number `n` comes to, as its own agent reports it.
async fn report(setup: &Setup, n: u8, sequence: u64, health: Health) {
    // Without a session an own connect would cast doubt on what is reported.
    setup.routes.tell(Input::Session(true)).await;
    let packages = [(ty(), health)].into();
    let entry = LivenessEntry { host: host(n), incarnation: 1, sequence, silent: false, packages };
    setup.routes.tell(Input::Liveness { complete: false, entries: vec![entry] }).await;
}

fn failing() -> Health {
    Health::Failing { demands_answer: true, reason: Text::lossy("no answer") }
}

/// A manager that hangs: connections to it are made and open, and nobody answers.
#[tokio::test]
async fn connections_to_a_manager_whose_check_stays_failed_are_reset_where_another_is_usable() {
    let managers = [manager(1, 0, service("near").await), manager(2, 1, service("far").await)];
    let setup = setup(&managers, defaults()).await;
    let mut stream = setup.connect().await;
    assert_eq!(say(&mut stream, "one").await, "near one");

    // Not without anybody else who may answer.
    report(&setup, 2, 1, failing()).await;
    setup.becomes(2, CandidateState::Down).await;
    report(&setup, 1, 1, failing()).await;
    setup.becomes(1, CandidateState::Down).await;
    // Longer than the grace: nothing else can show that it does not come.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(say(&mut stream, "two").await, "near two");

    // Nor where it passes again before the grace is over.
    report(&setup, 2, 2, Health::Passing).await;
    setup.becomes(2, CandidateState::Live).await;
    report(&setup, 1, 2, Health::Passing).await;
    setup.becomes(1, CandidateState::Live).await;
    report(&setup, 1, 3, failing()).await;
    let start = Instant::now();
    setup.becomes(1, CandidateState::Down).await;
    assert_eq!(say(&mut stream, "three").await, "near three");
    is_reset(&mut stream).await;
    assert!(start.elapsed() >= Duration::from_millis(1500), "after {:?} already", start.elapsed());
    assert_eq!((setup.cut(Cut::Unanswered), setup.call().await), (1, "far hello".to_owned()));
}

#[tokio::test]
async fn connections_to_a_dead_manager_are_left_where_settings_say_so_and_closed_once_they_do_not() {
    let managers = [manager(1, 0, service("near").await), manager(2, 1, service("far").await)];
    let setup = setup(&managers, defaults()).await;
    setup.close_dead.send_replace(false);
    let mut stream = setup.connect().await;
    assert_eq!(say(&mut stream, "one").await, "near one");
    report(&setup, 1, 1, failing()).await;
    setup.becomes(1, CandidateState::Down).await;
    // Longer than the grace: nothing else can show that it does not come.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(say(&mut stream, "two").await, "near two");
    setup.close_dead.send_replace(true);
    is_reset(&mut stream).await;
    assert_eq!(setup.cut(Cut::Unanswered), 1);
}

/// Protects: a manager that has closed its door and serves whoever is in still serves them. A refusal says nothing of
/// connections that are open.
#[tokio::test]
async fn connections_to_a_manager_that_only_refuses_new_ones_go_on() {
    let (door, leaving) = service_that_can_leave().await;
    let far = service("far").await;
    let setup = setup(&[manager(1, 0, door), manager(2, 1, far)], defaults()).await;
    let mut stream = setup.connect().await;
    assert_eq!(say(&mut stream, "one").await, "near one");
    leaving.send(()).unwrap();
    eventually("refusals", || std::net::TcpStream::connect(door).is_err().then_some(())).await;
    assert_eq!(setup.call().await, "far hello");
    setup.becomes(1, CandidateState::Down).await;
    // Longer than a connection is given that nobody acknowledges.
    tokio::time::sleep(Duration::from_millis(4500)).await;
    assert_eq!(setup.state(1), CandidateState::Down);
    assert_eq!(say(&mut stream, "two").await, "near two");
    assert_eq!(Cut::ALL.map(|cause| setup.cut(cause)), [0; 4]);
}

/// Protects: callers past the limit wait, they are counted, and those of another type find a place.
#[tokio::test]
async fn at_its_limit_a_forwarder_lets_callers_wait_and_others_go_on() {
    let managers = [manager(1, 0, service("near").await)];
    let (listen, slots) = ("127.0.0.1:0".parse().unwrap(), Slots::new(2));
    let setup = setup_with(Arc::default(), slots, listen, &managers, defaults()).await;
    let forward = Forward { ty: ty(), listen: "127.0.0.1:0".parse().unwrap() };
    let other = Forwarder::start(&forward, setup.parts.clone(), setup.common.clone()).await.unwrap();
    let mut first = setup.connect().await;
    assert_eq!(say(&mut first, "one").await, "near one");
    let mut waiting = setup.connect().await;
    waiting.write_all(b"waiting\n").await.unwrap();
    eventually("it is counted", || (setup.full() == 1).then_some(())).await;
    let Listen::Tcp(at) = *other.at() else { panic!("listens elsewhere") };
    let mut through_other = BufReader::new(TcpStream::connect(at).await.unwrap());
    assert_eq!(say(&mut through_other, "two").await, "near two");
    assert!(waiting.read_u8().now_or_never().is_none());
    drop(first);
    let mut answer = String::new();
    timeout(DEADLINE, waiting.read_line(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, "near waiting\n");
}

/// A service that closes its door when told to, and goes on answering whoever is in.
async fn service_that_can_leave() -> (SocketAddr, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (leave, mut told) = oneshot::channel();
    tokio::spawn(async move {
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted.unwrap().0,
                _ = &mut told => return,
            };
            tokio::spawn(async move {
                let (read, mut write) = stream.into_split();
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    write.write_all(format!("near {line}\n").as_bytes()).await.unwrap();
                }
            });
        }
    });
    (addr, leave)
}

async fn is_reset(stream: &mut BufReader<TcpStream>) {
    let read = timeout(DEADLINE, stream.read_u8()).await.expect("it stays open");
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}
