use super::*;
use crate::dialer::Parts;
use crate::forward::crew::Crew;
use crate::listen::{Forward, Listen};
use crate::metrics::Metrics;
use crate::routes::{RouterInput, Routes};
use crate::testing::{
    DEADLINE, eventually, host, manager, refusing, routes, service, silent_listener, snapshot, ty,
};
use echelon_core::policy::{Failback, PolicySettings};
use echelon_core::report::{CandidateState, Outcome};
use echelon_core::view::Manager;
use echelon_daemon::Tasks;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::time::timeout;

struct Setup {
    forwarder: Forwarder,
    routes: Routes,
    tasks: Tasks,
}

async fn setup_at(listen: Listen, managers: &[Manager], settings: PolicySettings) -> Setup {
    setup_with(Arc::default(), listen, managers, settings).await
}

async fn setup_with(
    crew: Arc<Crew>,
    listen: Listen,
    managers: &[Manager],
    settings: PolicySettings,
) -> Setup {
    let (routes, tasks) = routes(snapshot(1, managers, settings)).await;
    let (metrics, places) = (Arc::new(Metrics::new()), Arc::default());
    let parts = Parts { routes: routes.clone(), tasks: tasks.clone(), metrics, places };
    let forward = Forward { ty: ty(), listen };
    let forwarder = Forwarder::start(&forward, parts, crew).await.unwrap();
    Setup { forwarder, routes, tasks }
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_stream_arrives_whole_both_ways() {
    const SIZE: usize = 32 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let setup = setup(&[manager(1, 0, addr)], defaults()).await;
    let sent: Vec<u8> = (0..SIZE).map(|i| (i * 31 % 251) as u8).collect();
    let (mut read, mut write) = TcpStream::connect(setup.addr()).await.unwrap().into_split();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::with_capacity(SIZE);
    timeout(DEADLINE, read.read_to_end(&mut got)).await.unwrap().unwrap();
    writer.await.unwrap();
    assert!(got == sent, "{} of {SIZE} bytes", got.len());
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
    let mut rest = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
    assert!(rest.is_empty());
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
    let setup = setup_with(crew, listen, &managers, defaults()).await;
    for _ in 0..8 {
        assert_eq!(setup.call().await, "near hello");
    }
    let mut stream = setup.connect().await;
    assert_eq!(say(&mut stream, "one").await, "near one");
    assert_eq!(setup.tasks.count("forwarder"), 2);
    let Setup { forwarder, tasks, .. } = setup;
    drop(forwarder);
    let draining = tokio::spawn(async move { tasks.drain(DEADLINE).await });
    assert_eq!(say(&mut stream, "two").await, "near two");
    drop(stream);
    draining.await.unwrap().unwrap();
}
