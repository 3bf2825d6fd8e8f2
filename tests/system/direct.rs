//! The direct hand-over, as programs beside a real agent use it.

use crate::failover::Scene;
use echelon_client::blocking::{Connection, LocalAgent};
use echelon_client::{AgentError, DialError, Way};
use echelon_core::name::ManagerType;
use echelon_tests::{Sandbox, TYPE, Topology, wait_for, wait_until};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Requests after which a leak of one descriptor each could not be overlooked.
const MANY: usize = 1000;

fn ty() -> ManagerType {
    TYPE.parse().unwrap()
}

fn client(scene: &Scene<'_>) -> LocalAgent {
    LocalAgent::at(scene.caller.api())
}

/// Asks who is at the other end.
fn who(stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    (&mut &*stream).write_all(b"who\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

/// A connection whose other end is whom the agent names.
fn connected(client: &LocalAgent) -> Connection {
    let connection = client.connect(&ty()).unwrap();
    assert_eq!(who(&connection.stream), connection.host.as_str());
    assert_eq!(connection.stream.peer_addr().unwrap().to_string(), connection.endpoint.to_string());
    connection
}

fn raw(scene: &Scene<'_>) -> UnixStream {
    let stream = UnixStream::connect(scene.caller.api().with_file_name("direct.sock")).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// All that is said until the end.
fn rest(stream: &mut UnixStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Data never passes through the agent: with its process gone, what it handed over goes on. New connections
/// have to wait for it; the client finds it again by itself.
#[test]
fn what_was_handed_over_outlives_the_agent() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let client = client(&scene);
    let connection = connected(&client);
    assert_eq!(connection.host.as_str(), "near");
    scene.caller.kill9();
    for _ in 0..3 {
        assert_eq!(who(&connection.stream), "near");
    }
    let error = client.connect(&ty()).unwrap_err();
    assert!(matches!(error, DialError::Agent(AgentError::Connect { .. })), "{error:?}");
    assert!(error.is_retriable());
    scene.caller.start_ready();
    assert_eq!(connected(&client).host.as_str(), "near");
    assert_eq!(who(&connection.stream), "near");
}

/// A manager that refuses is passed over within the request that meets it, and the agent has learned of it for
/// all who ask later. Its return is found, too.
#[test]
fn the_request_that_meets_a_dead_manager_is_handed_the_next_one() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let client = client(&scene);
    assert_eq!(connected(&client).host.as_str(), "near");
    scene.near.kill();
    assert_eq!(connected(&client).host.as_str(), "hub");
    scene.caller.wait_served_by(TYPE, "hub");
    let route = scene.caller.route(TYPE);
    assert!(route["cause"].as_str().unwrap().contains("near: connection refused"), "{route}");
    scene.hub.kill();
    let error = client.connect(&ty()).unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }) && error.is_retriable(), "{error:?}");
    assert!(error.to_string().contains("hub: connection refused"), "{error}");
    scene.near.revive();
    wait_until("the return", || client.connect(&ty()).is_ok_and(|c| c.host.as_str() == "near"));
}

/// What cannot be served is an error that says why and whether to ask again; nobody is ever handed a manager
/// that was withdrawn.
#[test]
fn withdrawn_and_unknown_types_are_refused_with_the_reason() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let (client, console) = (client(&scene), scene.registry.console());
    assert_eq!(connected(&client).host.as_str(), "near");
    console.ok(&format!("package withdraw near {TYPE}"));
    wait_until("hub", || connected(&client).host.as_str() == "hub");
    // A fence around the caller's domain, with hub outside of it.
    scene.registry.apply(&Topology::new().policy("domain = \"/x\"\nboundary = true"));
    let error = wait_for("nobody", || client.connect(&ty()).map_or_else(Ok, |c| Err(c.host)));
    assert!(matches!(error, DialError::Unserved { .. }) && error.is_retriable(), "{error:?}");
    let error = client.connect(&"nothing-of-the-kind".parse().unwrap()).unwrap_err();
    assert!(matches!(error, DialError::Agent(AgentError::UnknownType { .. })), "{error:?}");
    assert!(!error.is_retriable());
    console.ok(&format!("package restore near {TYPE}"));
    wait_until("near", || client.connect(&ty()).is_ok_and(|c| c.host.as_str() == "near"));
}

/// The socket is open to the users that may use the API, and to nobody else; the agent says what it does there.
#[test]
fn the_socket_is_as_the_apis_and_is_reported() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let client = client(&scene);
    drop(connected(&client));
    client.connect(&"nothing".parse().unwrap()).unwrap_err();
    let socket = scene.caller.api().with_file_name("direct.sock");
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(socket.clone()), mode(scene.caller.api())), (0o660, 0o660));
    let status = scene.caller.get("/v1/status").unwrap().json();
    let direct = &status["direct"][0];
    assert_eq!(direct["listen"], format!("unix:{}", socket.display()), "{status}");
    assert_eq!((&direct["open"], &direct["served"], &direct["failed"]), (&1.into(), &1.into(), &1.into()));
    let metrics = scene.caller.get("/metrics").unwrap().body;
    for line in [
        format!("echelon_agent_handovers_total{{type=\"{TYPE}\"}} 1"),
        "echelon_agent_handover_errors_total{error=\"unknown-type\"} 1".into(),
    ] {
        assert!(metrics.lines().any(|l| l == line), "no {line} in:\n{metrics}");
    }
}

/// Whatever programs do, the agent keeps none of the descriptors: not of those it handed over, not of requests
/// that failed, not of programs that went away in the middle.
#[test]
fn a_thousand_requests_leave_no_descriptor_behind() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let clients = [client(&scene), client(&scene)];
    for client in &clients {
        drop(connected(client));
    }
    let before = scene.caller.process().descriptors();
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(move || (0..MANY / 2).for_each(|_| drop(connected(client))));
        }
    });
    for round in 0..MANY / 10 {
        let mut stream = raw(&scene);
        stream.write_all(format!("{TYPE}\n").as_bytes()).unwrap();
        if round % 2 == 0 {
            // Whoever reads without asking for descriptors gets none; the kernel closes them.
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).unwrap();
            assert!(line.contains("\"host\":\"near\""), "{line}");
        }
    }
    let process = scene.caller.process();
    wait_for("the descriptors of before", || match process.descriptors() {
        now if now <= before => Ok(()),
        now => Err(format!("{now} instead of {before}")),
    });
    let status = scene.caller.get("/v1/status").unwrap().json();
    assert!(status["direct"][0]["served"].as_u64().unwrap() >= MANY as u64, "{status}");
}

/// One that is slow, one that never asks and one that asks for nonsense are their own problem: others are
/// served meanwhile, and the slow one is told in the end.
#[test]
fn bad_requests_and_slow_programs_harm_nobody_else() {
    let sandbox = Sandbox::new();
    let scene = Scene::set(&sandbox);
    let client = client(&scene);
    let mut slow = raw(&scene);
    slow.write_all(b"command-con").unwrap();
    let idle: Vec<_> = (0..100).map(|_| raw(&scene)).collect();
    for request in ["x".repeat(257), format!("{TYPE}\n{TYPE}\n")] {
        let mut stream = raw(&scene);
        stream.write_all(request.as_bytes()).unwrap();
        let said = rest(&mut stream);
        assert!(said.starts_with("{\"error\":\"bad-request\"") && said.ends_with("}\n"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let mut stream = raw(&scene);
    stream.write_all(b"\xff\0\x1b[31m\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let said = rest(&mut stream);
    assert!(said.starts_with("{\"error\":\"unknown-type\"") && said.ends_with("}\n"), "{said}");
    assert!(!said.trim_end().contains(char::is_control), "{said:?}");
    assert_eq!(connected(&client).host.as_str(), "near");
    let said = rest(&mut slow);
    assert!(said.contains("the rest of the request did not come"), "{said}");
    assert_eq!(connected(&client).host.as_str(), "near");
    drop(idle);
}

/// Switched off, there is no socket, and the client connects by the agent's route instead.
#[test]
fn without_the_hand_over_the_client_connects_by_the_route() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    scene.caller.kill9();
    scene.caller.also_run_with(&["--direct", "false"]);
    scene.caller.start_ready();
    assert_eq!(scene.caller.get("/v1/status").unwrap().json()["direct"], serde_json::json!([]));
    scene.near.kill();
    let agent = echelon_client::LocalAgent::at(scene.caller.api());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connection = runtime.block_on(agent.connect(&ty())).unwrap();
    assert_eq!((connection.host.as_str(), connection.way), ("hub", Way::Route));
    scene.caller.kill9();
    scene.caller.also_run_with(&[]);
    scene.caller.start_ready();
    let connection = runtime.block_on(agent.connect(&ty())).unwrap();
    assert_eq!((connection.host.as_str(), connection.way), ("hub", Way::Direct));
}
