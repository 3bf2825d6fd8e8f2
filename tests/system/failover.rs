//! What callers notice when a manager of their type goes away and comes back: nothing.

use echelon_tests::caller::all_answered;
use echelon_tests::http::{ask_tcp, ask_unix};
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Caller, Manager, Sandbox, Stub, TYPE, Topology, wait_until};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long the callers' policy holds back a return, and lets connections drain.
const HOLD: Duration = Duration::from_secs(2);

/// Calls that must follow a change before a test believes that it holds.
const SOME_CALLS: usize = 50;

/// One domain with a manager (`near`) and a caller, and one manager (`hub`) above.
pub(crate) struct Scene<'a> {
    pub(crate) registry: Manager<'a>,
    pub(crate) caller: Agent<'a>,
    pub(crate) near: Stub,
    pub(crate) hub: Stub,
}

impl<'a> Scene<'a> {
    pub(crate) fn set(sandbox: &'a Sandbox) -> Self {
        Self::set_with(sandbox, SocketAddr::new(sandbox.address(), PORT))
    }

    /// With `near` at this address.
    pub(crate) fn set_with(sandbox: &'a Sandbox, near: SocketAddr) -> Self {
        Self::set_in(sandbox, Manager::running(sandbox), near)
    }

    /// With certificates of hosts that live for so long.
    pub(crate) fn set_renewing(sandbox: &'a Sandbox, life: Duration) -> Self {
        let mut registry = Manager::init(sandbox);
        registry.configure(&format!("host_certificates = \"{}s\"", life.as_secs()));
        registry.start();
        Self::set_in(sandbox, registry, SocketAddr::new(sandbox.address(), PORT))
    }

    fn set_in(sandbox: &'a Sandbox, registry: Manager<'a>, near: SocketAddr) -> Self {
        let hub = SocketAddr::new(registry.listen().ip(), PORT);
        let mut caller = Agent::new(sandbox, "caller").forwarding(TYPE);
        let seconds = HOLD.as_secs();
        let policy = format!(
            "failback_hold = \"{seconds}s\"\nfailback_jitter = \"0s\"\ndrain_timeout = \"{seconds}s\""
        );
        let topology = Topology::new()
            .policy(&policy)
            .manager("hub", "/", hub.ip())
            .manager("near", "/x", near.ip())
            .host("caller", "/x", caller.address());
        registry.apply(&topology);
        let (near, hub) = (Stub::start("near", near), Stub::start("hub", hub));
        caller.enroll_with(&registry);
        caller.start_ready();
        caller.wait_served_by(TYPE, "near");
        Self { registry, caller, near, hub }
    }

    /// Has the caller's agent forward at a unix socket as well; gives its path.
    fn forward_at_a_socket(&mut self, sandbox: &Sandbox) -> PathBuf {
        let socket = sandbox.path("forward.sock");
        self.caller.kill9();
        self.caller.also_run_with(&["--forward", &format!("{TYPE}=unix:{}", socket.display())]);
        self.caller.start_ready();
        socket
    }

    pub(crate) fn calls(&self) -> Caller {
        let calls = Caller::start(self.caller.forwarder(TYPE));
        calls.wait_served_by("near");
        calls
    }
}

/// Waits for calls that were all begun after now.
pub(crate) fn some_more(calls: &Caller) {
    let enough = calls.count() + SOME_CALLS;
    wait_until("more calls", || calls.count() >= enough);
}

/// A manager that refuses connections is passed over at once: the very call that meets it is answered by the
/// next one. Its return is used for new calls once it has been live for the policy's hold, not before.
#[test]
fn callers_do_not_notice_that_a_manager_was_killed_and_came_back() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let calls = scene.calls();
    calls.between_calls(|| scene.near.kill());
    calls.wait_served_by("hub");
    some_more(&calls);
    let route = scene.caller.route(TYPE);
    assert_eq!((&route["outcome"], &route["home"]), (&"failover".into(), &"near".into()), "{route}");
    assert!(route["cause"].as_str().unwrap().contains("near"), "{route}");

    let revived = Instant::now();
    scene.near.revive();
    calls.wait_served_by("near");
    assert!(revived.elapsed() >= HOLD, "it came back after {:?} already", revived.elapsed());
    some_more(&calls);
    assert_eq!(scene.caller.route(TYPE)["outcome"], "home");
    assert_eq!(all_answered(&calls.stop()), ["near", "hub", "near"]);
}

/// A withdrawal takes a manager away for new calls although it answers; lifted, it is used again.
#[test]
fn callers_follow_a_withdrawal_and_its_end() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let calls = scene.calls();
    let console = scene.registry.console();
    console.ok(&format!("package withdraw near {TYPE} --reason maintenance"));
    calls.wait_served_by("hub");
    let served = scene.near.calls();
    some_more(&calls);
    assert_eq!(scene.near.calls(), served, "a withdrawn manager serves nothing");
    let listed = console.objects(&format!("package list --type {TYPE} --state withdrawn"));
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!((&listed[0]["host"], &listed[0]["reason"]), (&"near".into(), &"maintenance".into()));

    console.ok(&format!("package restore near {TYPE}"));
    calls.wait_served_by("near");
    assert_eq!(all_answered(&calls.stop()), ["near", "hub", "near"]);
}

/// The agent beside a manager checks it: the others hear of its death before any of their callers meets it.
#[test]
fn a_dead_manager_is_reported_to_hosts_that_have_not_called_it() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let mut beside = Agent::enrolled(&scene.registry, "near");
    beside.start_ready();
    scene.registry.wait_in_sync(2);
    scene.near.kill();
    let refused = scene.near.calls();
    scene.caller.wait_served_by(TYPE, "hub");
    assert_eq!(scene.caller.call(TYPE).unwrap(), "hub");
    assert_eq!(scene.near.calls(), refused);
    let online = scene.registry.console().object(&format!("route --host caller --type {TYPE}"));
    assert_eq!(online["chosen"]["host"], "hub", "{online}");
    assert_eq!(scene.registry.status()["managers_failing"], 1);
    scene.near.revive();
    scene.caller.wait_served_by(TYPE, "near");
}

/// With every manager gone a call fails with an error, never with an empty success; one that comes back is
/// found by itself.
#[test]
fn without_any_manager_calls_fail_and_recover_by_themselves() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    scene.near.kill();
    scene.hub.kill();
    for _ in 0..3 {
        let answer = scene.caller.call(TYPE);
        assert!(answer.is_err(), "{answer:?}");
        // Who waits for the other side to speak first must not take the end for an answer without content.
        let mut silent = TcpStream::connect(scene.caller.forwarder(TYPE)).unwrap();
        let read = silent.read(&mut [0; 8]);
        assert!(read.is_err(), "{read:?}");
    }
    assert_eq!(scene.caller.route(TYPE)["outcome"], "last_resort");
    scene.hub.revive();
    wait_until("an answer", || scene.caller.call(TYPE).is_ok_and(|who| who == "hub"));
}

/// A connection that is open stays with its manager when new ones return to a nearer one, and through a unix
/// socket it is the same as over TCP.
#[test]
fn open_connections_are_not_cut_by_a_return() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    scene.near.kill();
    let socket = scene.forward_at_a_socket(&sandbox);
    let mut open = Conversation::begin(UnixStream::connect(&socket).unwrap());
    assert_eq!(open.ask(), "hub");
    scene.near.revive();
    wait_until("the return", || Conversation::begin(UnixStream::connect(&socket).unwrap()).ask() == "near");
    assert_eq!(open.ask(), "hub");
    scene.caller.wait_served_by(TYPE, "near");
}

/// With `failback = dormant` new connections stay where they are for as long as any is open, and return when the last
/// one is closed.
#[test]
fn with_failback_dormant_connections_return_when_none_is_open() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let socket = scene.forward_at_a_socket(&sandbox);
    scene.registry.console().ok("policy set / failback=dormant");
    scene.registry.wait_in_sync(1);
    scene.near.kill();
    let mut open = Conversation::begin(UnixStream::connect(&socket).unwrap());
    assert_eq!(open.ask(), "hub");
    scene.near.revive();
    wait_until("the nearer one to be live", || state_of(&scene.caller, "near") == "live");
    let live = Instant::now();
    wait_until("what would be a return otherwise", || {
        assert_eq!(scene.caller.call(TYPE).unwrap(), "hub");
        live.elapsed() > HOLD * 2
    });
    drop(open);
    scene.caller.wait_served_by(TYPE, "near");
    assert_eq!(scene.caller.call(TYPE).unwrap(), "near");
}

/// With `failback = off` connections stay until an operator asks, which he may only where he may write.
#[test]
fn with_failback_off_connections_return_when_an_operator_asks() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let tcp = SocketAddr::new(scene.caller.address(), 29_122);
    scene.caller.kill9();
    let unix = format!("unix:{}", scene.caller.api().display());
    scene.caller.also_run_with(&["--api", &unix, "--api", &tcp.to_string()]);
    scene.caller.start_ready();
    scene.registry.console().ok("policy set / failback=off");
    scene.registry.wait_in_sync(1);
    scene.near.kill();
    assert_eq!(scene.caller.call(TYPE).unwrap(), "hub");
    scene.near.revive();
    wait_until("the nearer one to be live", || state_of(&scene.caller, "near") == "live");
    let live = Instant::now();
    wait_until("what would be a return otherwise", || {
        assert_eq!(scene.caller.call(TYPE).unwrap(), "hub");
        live.elapsed() > HOLD * 2
    });
    let path = format!("/v1/routes/{TYPE}/return");
    assert_eq!(ask_tcp(tcp, "POST", &path, "").unwrap().status, 403, "over TCP anybody could");
    assert_eq!(ask_unix(&scene.caller.api(), "POST", "/v1/routes/none/return", "").unwrap().status, 404);
    assert_eq!(scene.caller.call(TYPE).unwrap(), "hub");
    let reply = ask_unix(&scene.caller.api(), "POST", &path, "").unwrap();
    assert_eq!((reply.status, &reply.json()["chosen"]["host"]), (200, &"near".into()), "{}", reply.json());
    assert_eq!(scene.caller.call(TYPE).unwrap(), "near");
    let metrics = scene.caller.get("/metrics").unwrap().body;
    assert!(
        metrics.lines().any(|line| line.contains("cause=\"asked\"") && line.ends_with(" 1")),
        "{metrics}"
    );
}

/// How the caller sees the manager on `host`.
fn state_of(caller: &Agent, host: &str) -> String {
    let route = caller.route(TYPE);
    let candidates = route["candidates"].as_array().unwrap();
    let candidate = candidates.iter().find(|c| c["host"] == host).unwrap();
    candidate["state"].as_str().unwrap().to_owned()
}

/// A withdrawal lets open connections end by themselves for the policy's time, and then closes them.
#[test]
fn open_connections_to_a_withdrawn_manager_are_drained_and_then_closed() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let socket = scene.forward_at_a_socket(&sandbox);
    let mut open = Conversation::begin(UnixStream::connect(&socket).unwrap());
    assert_eq!(open.ask(), "near");
    let withdrawn = Instant::now();
    scene.registry.console().ok(&format!("package withdraw near {TYPE}"));
    wait_until("new calls to move", || scene.caller.call(TYPE).unwrap() == "hub");
    if withdrawn.elapsed() < HOLD {
        assert_eq!(open.ask(), "near");
    }
    let end = open.0.read(&mut [0; 8]);
    let closed = end.as_ref().map_or_else(|e| e.kind() == ErrorKind::ConnectionReset, |n| *n == 0);
    assert!(closed, "{end:?}");
    assert!(withdrawn.elapsed() >= HOLD, "closed after {:?} already", withdrawn.elapsed());
}

/// A connection on which several questions are asked.
struct Conversation(BufReader<UnixStream>);

impl Conversation {
    fn begin(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self) -> String {
        self.0.get_mut().write_all(b"who\n").unwrap();
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}
