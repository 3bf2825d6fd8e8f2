//! HTTP mode: requests through the agent to managers that are killed, overloaded, slow; with curl as a client that
//! knows nothing of us.

use echelon_tests::namespace::{Cable, in_namespace};
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, DEADLINE, Manager, Process, Sandbox, TYPE, Topology, wait_for, wait_until};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// The port of the forwarder, on its host's address.
const AT: u16 = 7400;

/// A manager's service as a process.
struct Service<'a> {
    sandbox: &'a Sandbox,
    name: &'static str,
    at: SocketAddr,
    process: Process,
}

impl<'a> Service<'a> {
    fn start(sandbox: &'a Sandbox, name: &'static str, at: SocketAddr) -> Self {
        let process = Self::spawn(sandbox, name, at);
        Self { sandbox, name, at, process }
    }

    fn spawn(sandbox: &Sandbox, name: &str, at: SocketAddr) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_http-stub"));
        command.arg(name).arg(at.to_string()).arg(sandbox.path(""));
        let process = Process::spawn(&format!("service-{name}"), command, &sandbox.logs());
        wait_until(&format!("{name} to listen"), || TcpStream::connect(at).is_ok());
        process
    }

    fn revive(&mut self) {
        self.process = Self::spawn(self.sandbox, self.name, self.at);
    }

    /// From now on it is overloaded, or no more.
    fn busy(&self, busy: bool) {
        let file = self.sandbox.path(&format!("{}.busy", self.name));
        if busy { std::fs::write(file, "").unwrap() } else { std::fs::remove_file(file).unwrap() }
    }

    /// What it has acted on.
    fn done(&self) -> Vec<String> {
        let done = std::fs::read_to_string(self.sandbox.path(&format!("{}.done", self.name))).unwrap();
        done.lines().map(ToOwned::to_owned).collect()
    }
}

/// A caller's host, a manager beside it and one above.
struct Scene<'a> {
    registry: Manager<'a>,
    agent: Agent<'a>,
    near: Service<'a>,
    hub: Service<'a>,
}

impl<'a> Scene<'a> {
    fn set(sandbox: &'a Sandbox) -> Self {
        Self::set_with(sandbox, sandbox.endpoint(PORT), |topology, near| topology.manager("near", "/x", near))
    }

    /// With the nearest manager here, which is put so into the topology.
    fn set_with(
        sandbox: &'a Sandbox,
        near: SocketAddr,
        put: impl FnOnce(Topology, IpAddr) -> Topology,
    ) -> Self {
        let registry = Manager::running(sandbox);
        let hub = SocketAddr::new(registry.listen().ip(), PORT);
        let mut agent = Agent::new(sandbox, "caller");
        let quick = "failback_hold = \"1s\"\nfailback_jitter = \"0s\"\ndrain_timeout = \"1s\"";
        let topology = Topology::new().policy(quick).manager("hub", "/", hub.ip());
        registry.apply(&put(topology, near.ip()).host("caller", "/x", agent.address()));
        let (near, hub) = (Service::start(sandbox, "near", near), Service::start(sandbox, "hub", hub));
        agent.enroll_with(&registry);
        agent.also_run_with(&["--forward-http", &format!("{TYPE}={}", at(&agent))]);
        agent.start_ready();
        agent.wait_served_by(TYPE, "near");
        Self { registry, agent, near, hub }
    }

    fn at(&self) -> SocketAddr {
        at(&self.agent)
    }

    fn status(&self) -> serde_json::Value {
        self.agent.get("/v1/status").unwrap().json()["http_forwarders"][0].clone()
    }
}

fn at(agent: &Agent<'_>) -> SocketAddr {
    SocketAddr::new(agent.address(), AT)
}

/// A status and a body, or what went wrong.
type Told = Result<(u16, String), String>;

/// A caller that keeps its connection.
struct Client {
    at: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    fn new(at: SocketAddr) -> Self {
        Self { at, stream: None }
    }

    /// Asks; gives the status and the body.
    fn ask(&mut self, request: &str) -> Told {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.at).map_err(|e| e.to_string())?;
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                BufReader::new(stream)
            }
        };
        stream.get_mut().write_all(request.as_bytes()).map_err(|e| e.to_string())?;
        let answer = hear(&mut stream).map_err(|e| e.to_string())?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

fn hear(stream: &mut BufReader<TcpStream>) -> std::io::Result<(u16, String)> {
    let mut head = String::new();
    while stream.read_line(&mut head)? > 2 {}
    let lower = head.to_ascii_lowercase();
    let bad = || std::io::Error::other(format!("no answer: {head:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(bad)?;
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.ok_or_else(bad)?];
    stream.read_exact(&mut body)?;
    Ok((status, String::from_utf8(body).unwrap()))
}

/// How a request may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Get,
    Keyed,
    Post,
}

impl Kind {
    fn request(self, id: u64, pause: u64) -> String {
        let path = format!("/do/{id}/{pause} HTTP/1.1\r\nHost: a");
        match self {
            Self::Get => format!("GET {path}\r\n\r\n"),
            Self::Keyed => format!("POST {path}\r\nIdempotency-Key: {id}\r\nContent-Length: 4\r\n\r\nwork"),
            Self::Post => format!("POST {path}\r\nContent-Length: 4\r\n\r\nwork"),
        }
    }
}

/// Requests by many callers, until it is dropped.
struct Load {
    stop: AtomicBool,
    next: AtomicU64,
}

impl Load {
    /// Asks with `callers` of each kind while `meanwhile` runs; gives what came of each request.
    fn during(at: SocketAddr, pause: u64, meanwhile: impl FnOnce(&Self)) -> BTreeMap<u64, (Kind, Told)> {
        const CALLERS: [Kind; 8] =
            [Kind::Get, Kind::Keyed, Kind::Post, Kind::Get, Kind::Keyed, Kind::Post, Kind::Get, Kind::Post];
        let load = Self { stop: AtomicBool::new(false), next: AtomicU64::new(0) };
        thread::scope(|scope| {
            let caller = |kind: Kind| {
                let load = &load;
                move || {
                    let (mut client, mut results) = (Client::new(at), Vec::new());
                    while !load.stop.load(Ordering::SeqCst) {
                        let id = load.next.fetch_add(1, Ordering::SeqCst);
                        results.push((id, (kind, client.ask(&kind.request(id, pause)))));
                    }
                    results
                }
            };
            let callers = CALLERS.map(|kind| scope.spawn(caller(kind)));
            // Also when a condition does not come true.
            let stop = Stop(&load);
            meanwhile(&load);
            drop(stop);
            callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
        })
    }

    /// Waits for some more requests.
    fn go_on(&self) {
        let enough = self.next.load(Ordering::SeqCst) + 200;
        wait_until("more requests", || self.next.load(Ordering::SeqCst) >= enough);
    }
}

struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// With requests under way: those that may be repeated are all answered; the others are acted on once, or it is
/// said that nobody knows.
#[test]
fn a_manager_that_is_killed_costs_no_request_that_may_be_repeated_and_nothing_acts_twice() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let mut rounds = BTreeMap::new();
    for round in 0..3 {
        let near = &mut scene.near;
        let results = Load::during(at(&scene.agent), 5, |load| {
            load.go_on();
            near.process.kill9();
            load.go_on();
        });
        rounds.extend(results.into_iter().map(|(id, result)| ((round, id), result)));
        check(&rounds, round, &[scene.near.done(), scene.hub.done()].concat());
        for name in ["near", "hub"] {
            std::fs::write(sandbox.path(&format!("{name}.done")), "").unwrap();
        }
        scene.near.revive();
        scene.agent.wait_served_by(TYPE, "near");
    }
    let repeated = scene.status()["repeated"].as_u64().unwrap();
    assert!(repeated > 0, "nothing was under way when the manager was killed");
    let lost = rounds.values().filter(|(_, result)| matches!(result, Ok((502, _)))).count();
    println!("{} requests, {repeated} repeated, {lost} of unknown outcome", rounds.len());
}

fn check(rounds: &BTreeMap<(i32, u64), (Kind, Told)>, round: i32, done: &[String]) {
    for ((_, id), (kind, result)) in rounds.range((round, 0)..) {
        let acted = done.iter().filter(|other| **other == id.to_string()).count();
        match (kind, result) {
            (_, Ok((200, name))) => assert!(acted >= 1 && ["near", "hub"].contains(&name.as_str())),
            (Kind::Post, Ok((502, problem))) => {
                assert!(problem.contains("\"broken\"") && problem.contains("may have acted"), "{problem}");
            }
            other => panic!("request {id}: {other:?}"),
        }
        if *kind == Kind::Post {
            assert!(acted <= 1, "request {id} was acted on {acted} times");
        }
    }
}

/// Requests for which the nearest manager takes for ever.
struct Hanging {
    get: JoinHandle<Told>,
    keyed: JoinHandle<Told>,
    post: JoinHandle<Told>,
}

impl Hanging {
    /// Asks, and waits until the manager has the requests.
    fn at(scene: &Scene<'_>) -> Self {
        let at = scene.at();
        let ask = move |request: &'static str| thread::spawn(move || Client::new(at).ask(request));
        let this = Self {
            get: ask("GET /wait/near/get HTTP/1.1\r\nHost: a\r\n\r\n"),
            keyed: ask(
                "POST /wait/near/keyed HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 1\r\nContent-Length: 4\r\n\r\nwork",
            ),
            post: ask("POST /wait/near/post HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nwork"),
        };
        wait_until("the requests at the manager", || scene.near.done().len() == 3);
        this
    }

    /// What may be repeated was answered by the other manager; of the rest it is said that nobody knows.
    fn check(self, hub: &Service<'_>) {
        for repeated in [self.get, self.keyed] {
            assert_eq!(repeated.join().unwrap(), Ok((200, "hub".to_owned())));
        }
        let (status, problem) = self.post.join().unwrap().unwrap();
        assert!(status == 502 && problem.contains("\"broken\""), "{status} {problem}");
        let done = hub.done();
        assert!(!done.contains(&"post".to_owned()), "{done:?}");
    }
}

/// The kernel keeps the connections of a process that hangs; that its check fails is what ends them.
#[test]
fn requests_to_a_manager_that_hangs_go_to_the_next_one() {
    let sandbox = Sandbox::new();
    let mut near = Agent::new(&sandbox, "near");
    let check = "http = \"/\", interval = \"200ms\", timeout = \"500ms\", misses = 2";
    let at = SocketAddr::new(near.address(), PORT);
    let scene = Scene::set_with(&sandbox, at, |topology, near| topology.checked("near", "/x", near, check));
    near.enroll_with(&scene.registry);
    near.start_ready();
    wait_for("the check to pass", || {
        let status = near.get("/v1/status").unwrap().json();
        (status["packages"][TYPE] == "passing").then_some(()).ok_or(status)
    });
    scene.agent.wait_served_by(TYPE, "near");
    let hanging = Hanging::at(&scene);
    scene.near.process.signal(Signal::STOP);
    hanging.check(&scene.hub);
}

/// Nothing comes back from there, not even that there is nobody.
#[test]
fn requests_to_a_manager_that_packets_do_not_reach_any_more_go_to_the_next_one() {
    let name = "http_mode::requests_to_a_manager_that_packets_do_not_reach_any_more_go_to_the_next_one";
    in_namespace(name, |cable| {
        let sandbox = Sandbox::new();
        let near = SocketAddr::new(Cable::FAR, PORT);
        let scene = Scene::set_with(&sandbox, near, |topology, near| topology.manager("near", "/x", near));
        let hanging = Hanging::at(&scene);
        cable.pull();
        // Somebody has to notice.
        wait_until("another manager to answer", || {
            Client::new(scene.at()).ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n") == Ok((200, "hub".to_owned()))
        });
        hanging.check(&scene.hub);
    });
}

/// Whoever says that it is overloaded is left alone for that time, by requests that may be repeated without anybody
/// noticing, and used again afterwards.
#[test]
fn an_overloaded_manager_is_left_alone_and_used_again() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let results = Load::during(scene.at(), 1, |load| {
        load.go_on();
        scene.near.busy(true);
        load.go_on();
        wait_until("the next one to be used", || scene.agent.served_by(TYPE).as_deref() == Some("hub"));
        scene.near.busy(false);
        scene.agent.wait_served_by(TYPE, "near");
        load.go_on();
    });
    for (id, (kind, result)) in &results {
        match result {
            Ok((200, _)) => {}
            // It is not known what a manager that says 503 has done before.
            Ok((503, body)) if *kind == Kind::Post && body == "busy" => {}
            other => panic!("request {id}, {kind:?}: {other:?}"),
        }
    }
    let served =
        |name: &str| results.values().filter(|(_, r)| r.as_ref().is_ok_and(|(_, n)| n == name)).count();
    assert!(served("near") > 0 && served("hub") > 0);

    // With nobody else, its word is passed on.
    scene.near.busy(true);
    scene.hub.busy(true);
    let answer = Client::new(scene.at()).ask(&Kind::Get.request(1, 0)).unwrap();
    assert_eq!(answer, (503, "busy".to_owned()));
}

fn curl(arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60"])
        .args(arguments);
    command
}

fn run(mut command: Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// curl reads what it gets its own way: large bodies in both directions, chunks, 100-continue, a unix socket, a proxy.
#[test]
fn curl_is_served_like_by_any_other_server() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let socket = sandbox.path("http.sock");
    let over_unix = format!("{TYPE}=unix:{}", socket.display());
    scene.agent.terminate();
    scene.agent.also_run_with(&[
        "--forward-http",
        &format!("{TYPE}={}", scene.at()),
        "--forward-http",
        &over_unix,
    ]);
    scene.agent.start_ready();
    let url = |path: &str| format!("http://{}{path}", scene.at());
    assert_eq!(run(curl(&[&url("/")])), b"near");
    assert_eq!(run(curl(&["--unix-socket", socket.to_str().unwrap(), "http://any.example/"])), b"near");

    let heard = String::from_utf8(run(curl(&[&url("/heard"), "--header", "Keep-Alive: 1"]))).unwrap();
    assert!(heard.starts_with("GET /heard\n") && heard.contains("via: 1.1 registry-agent"), "{heard}");
    assert!(
        heard.to_ascii_lowercase().contains(&format!("host: {}", scene.at())) && !heard.contains("eep-"),
        "{heard}"
    );
    let mut by_proxy = Command::new("curl");
    by_proxy.args(["--silent", "--fail", "--proxy", &url(""), "http://other.example/heard"]);
    let heard = String::from_utf8(run(by_proxy)).unwrap().to_ascii_lowercase();
    assert!(heard.starts_with("get /heard\n") && heard.contains("host: other.example\r\n"), "{heard}");

    let content: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let file = sandbox.file("content", &content);
    for how in [
        &["--upload-file", file.to_str().unwrap()][..],
        &["--upload-file", "-", "--header", "Expect: 100-continue"],
    ] {
        let mut command = curl(how);
        command.arg(url("/echo")).stdin(std::fs::File::open(&file).unwrap());
        assert!(run(command) == content, "{how:?}");
    }
    assert_eq!(run(curl(&[&url("/bytes/50000000")])).len(), 50_000_000);
    let memory = scene.agent.process().resident_kib();
    assert!(memory < 200 * 1024, "{memory} KiB: bodies are passed on, not collected");
}

/// Events arrive one by one; a tunnel carries whatever it is told; both end when the agent does, in their time.
#[test]
fn events_and_other_protocols_pass_through() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let mut command = curl(&["--no-buffer", &format!("http://{}/events", scene.at())]);
    let mut events = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    for number in 0..3 {
        assert_eq!(lines.next().unwrap().unwrap(), format!("data: near {number}"));
        assert_eq!(lines.next().unwrap().unwrap(), "");
    }

    let mut talk = BufReader::new(TcpStream::connect(scene.at()).unwrap());
    talk.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
    let hello = "GET /talk HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: talk\r\n\r\nearly ";
    talk.get_mut().write_all(hello.as_bytes()).unwrap();
    let mut head = String::new();
    while talk.read_line(&mut head).unwrap() > 2 {}
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    talk.get_mut().write_all(b"late\n").unwrap();
    let mut said = String::new();
    talk.read_line(&mut said).unwrap();
    assert_eq!(said, "early late\n");
    assert_eq!(scene.status()["open"], 2);

    // The manager goes: what was not whole does not look whole.
    scene.near.process.kill9();
    assert!(!events.wait().unwrap().success(), "curl was told that it has all of it");
    assert_eq!(talk.read(&mut [0; 1]).unwrap_or(0), 0);
    drop(talk);
    wait_until("nothing to be open", || scene.status()["open"] == 0);
}

/// The settings file opens and closes them while the agent runs; at its end, what is under way is answered.
#[test]
fn forwarders_for_http_come_and_go_with_the_settings_and_drain_at_the_end() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    scene.agent.terminate();
    scene.agent.also_run_with(&[]);
    let (first, second) = (scene.at(), SocketAddr::new(scene.agent.address(), AT + 1));
    scene.agent.set_settings(&format!("forward_http = [\"{TYPE}={first}\"]"));
    scene.agent.start_ready();
    let get = |at: SocketAddr, pause: u64| Client::new(at).ask(&Kind::Get.request(7, pause));
    wait_until("an answer", || get(first, 0).is_ok_and(|(status, _)| status == 200));

    let slow = thread::spawn(move || Client::new(first).ask(&Kind::Get.request(8, 500)));
    wait_until("the request at the manager", || scene.near.done().contains(&"8".to_owned()));
    scene.agent.configure(&format!("forward_http = [\"{TYPE}={second}\"]"));
    scene.agent.process().signal(Signal::HUP);
    wait_until("an answer elsewhere", || get(second, 0).is_ok_and(|(status, _)| status == 200));
    assert!(TcpStream::connect(first).is_err(), "nobody new is let in");
    assert_eq!(slow.join().unwrap(), Ok((200, "near".to_owned())), "who is in is answered");

    let slow = thread::spawn(move || Client::new(second).ask(&Kind::Post.request(9, 500)));
    wait_until("the request at the manager", || scene.near.done().contains(&"9".to_owned()));
    assert!(scene.agent.terminate().success());
    assert_eq!(slow.join().unwrap(), Ok((200, "near".to_owned())));
}
