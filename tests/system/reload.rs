//! Settings that are read again, on SIGHUP, while an agent serves its callers.

use crate::failover::Scene;
use crate::follow::Stream;
use echelon_tests::topology::PORT;
use echelon_tests::{Agent, Manager, Sandbox, Stub, TYPE, Topology, caller, wait_for};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than anything takes on a machine under load.
const AMPLE: Duration = Duration::from_secs(60);

/// The alarm of this name, where it is up.
fn alarm(agent: &Agent<'_>, name: &str) -> Option<String> {
    let status = agent.get("/v1/status").unwrap().json();
    let alarms = status["alarms"].as_array().unwrap_or_else(|| panic!("{status}"));
    let alarm: Option<&Value> = alarms.iter().find(|a| a["name"] == name);
    alarm.map(|a| a["message"].as_str().unwrap().to_owned())
}

pub(crate) fn reload(agent: &mut Agent<'_>, settings: &str) {
    agent.configure(settings);
    agent.process().signal(Signal::HUP);
}

pub(crate) fn wait_alarm(agent: &Agent<'_>, name: &str, words: &str) {
    wait_for(&format!("the alarm {name}"), || {
        let found = alarm(agent, name);
        found.clone().filter(|message| message.contains(words)).map(drop).ok_or(found)
    });
}

pub(crate) fn wait_no_alarm(agent: &Agent<'_>, name: &str) {
    wait_for(&format!("no alarm {name}"), || alarm(agent, name).map_or(Ok(()), Err));
}

fn wait_answered(at: SocketAddr) {
    wait_for(&format!("a forwarder at {at}"), || caller::call(at).map(drop));
}

/// Places to listen at on the caller's host.
fn place(scene: &Scene<'_>, port: u16) -> SocketAddr {
    SocketAddr::new(scene.caller.address(), port)
}

#[test]
fn forwarders_come_and_go_and_connections_through_those_that_went_are_drained() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let (first, second) = (place(&scene, 7301), place(&scene, 7302));
    reload(&mut scene.caller, &format!("forward = [\"{TYPE}={first}\"]"));
    // Flags go over the file.
    wait_answered(scene.caller.forwarder(TYPE));
    assert!(TcpStream::connect(first).is_err());

    let mut agent = scene.caller;
    agent.terminate();
    let mut agent = agent.without_forwarders().with_settings(&format!("forward = [\"{TYPE}={first}\"]"));
    agent.start_ready();
    wait_answered(first);
    let mut open = BufReader::new(TcpStream::connect(first).unwrap());
    open.get_ref().set_read_timeout(Some(AMPLE)).unwrap();
    let mut line = String::new();
    let mut ask = |line: &mut String| {
        line.clear();
        open.get_mut().write_all(b"who\n").unwrap();
        open.read_line(line).unwrap();
    };
    ask(&mut line);
    assert_eq!(line.trim(), "near");

    reload(&mut agent, &format!("forward = [\"{TYPE}={second}\"]"));
    wait_answered(second);
    assert!(TcpStream::connect(first).is_err(), "nobody new is let in");
    ask(&mut line);
    assert_eq!(line.trim(), "near", "who is in goes on");
    let mut rest = String::new();
    // Closed once the policy's drain_timeout is over.
    let _ = open.read_to_string(&mut rest);
    let status = agent.get("/v1/status").unwrap().json();
    assert_eq!(status["forwarders"].as_array().unwrap().len(), 1, "{status}");

    // The same place for another type, and none again.
    reload(&mut agent, &format!("forward = [\"audit={second}\"]"));
    wait_for("the forwarder of another type", || {
        let status = agent.get("/v1/status").unwrap().json();
        (status["forwarders"][0]["type"] == "audit").then_some(()).ok_or(status)
    });
    reload(&mut agent, "");
    wait_for("no forwarder", || TcpStream::connect(second).map_or(Ok(()), Err));
}

#[test]
fn a_bad_file_keeps_the_old_settings_and_raises_an_alarm_until_it_is_mended() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    reload(&mut scene.caller, "\nforwrad = []\n");
    wait_alarm(&scene.caller, "settings-refused", ":2:1: unknown key `forwrad`");
    assert_eq!(scene.caller.call(TYPE).unwrap(), "near");
    reload(
        &mut scene.caller,
        "managers = [\"127.0.0.1:1\"]\nstop_grace = \"1s\"\n[log]\nformat = \"json\"\n",
    );
    wait_alarm(&scene.caller, "settings-pending", "managers, log.format changed, which takes a restart");
    wait_no_alarm(&scene.caller, "settings-refused");
    reload(&mut scene.caller, "");
    wait_no_alarm(&scene.caller, "settings-pending");
    assert_eq!(scene.caller.call(TYPE).unwrap(), "near");
}

#[test]
fn listeners_of_the_api_come_and_go_and_one_whose_place_is_taken_is_named() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let (taken, free) = (scene.near.at(), place(&scene, 7303));
    let socket = scene.caller.api();
    let apis = |tcp: SocketAddr| format!("api = [\"unix:{}\", \"{tcp}\"]\n", socket.display());
    reload(&mut scene.caller, &apis(taken));
    wait_alarm(&scene.caller, "settings-pending", &format!("cannot listen at {taken}"));
    reload(&mut scene.caller, &apis(free));
    wait_for("the API at another place", || echelon_tests::http::get_tcp(free, "/healthz").map(drop));
    wait_no_alarm(&scene.caller, "settings-pending");
    reload(&mut scene.caller, "");
    wait_for("the place to be free", || TcpStream::connect(free).map_or(Ok(()), Err));
    assert_eq!(scene.caller.get("/healthz").unwrap().status, 200);
}

/// Who follows at a listener that is closed is let go: a stream would hold it open for ever.
#[test]
fn a_stream_of_routes_ends_with_its_listener() {
    let sandbox = Sandbox::new();
    let mut scene = Scene::set(&sandbox);
    let (stays, goes) = (scene.caller.api(), sandbox.path("second").join("agent.sock"));
    std::fs::create_dir(goes.parent().unwrap()).unwrap();
    let apis = format!("api = [\"unix:{}\", \"unix:{}\"]\n", stays.display(), goes.display());
    reload(&mut scene.caller, &apis);
    wait_for("the second listener", || echelon_tests::http::get_unix(&goes, "/healthz").map(drop));
    let path = format!("/v1/routes?stream&type={TYPE}");
    let (mut kept, mut ended) = (Stream::open(&stays, &path), Stream::open(&goes, &path));
    for stream in [&mut kept, &mut ended] {
        assert_eq!(stream.event()["chosen"]["host"], "near");
    }
    reload(&mut scene.caller, "");
    assert!(!ended.rest().contains("data:"), "it ends in good order");
    // The other one goes on.
    scene.near.kill();
    let _ = scene.caller.call(TYPE);
    kept.until(|event| event["chosen"]["host"] == "hub");
}

#[test]
fn a_check_from_settings_comes_and_goes() {
    let sandbox = Sandbox::new();
    let registry = Manager::running(&sandbox);
    let mut agent = Agent::new(&sandbox, "near");
    registry.apply(&Topology::new().manager("near", "/", agent.address()));
    let _stub = Stub::start("near", SocketAddr::new(agent.address(), PORT));
    agent.enroll_with(&registry);
    agent.start_ready();
    let health = |agent: &Agent<'_>| agent.get("/v1/status").unwrap().json()["packages"][TYPE].clone();
    let wait_health = |agent: &Agent<'_>, what: &str, is: &dyn Fn(&Value) -> bool| {
        wait_for(what, || {
            let health = health(agent);
            is(&health).then_some(()).ok_or(health)
        });
    };
    wait_health(&agent, "the registry's check to pass", &|h| h == "passing");
    let exec = "exec = [\"/bin/sh\", \"-c\", \"echo no licence; exit 1\"]\ninterval = \"100ms\"\n";
    reload(&mut agent, &format!("[check.{TYPE}]\n{exec}"));
    wait_health(&agent, "the command to fail", &|h| h.to_string().contains("no licence"));
    reload(&mut agent, "");
    wait_health(&agent, "the registry's check to pass again", &|h| h == "passing");
}
