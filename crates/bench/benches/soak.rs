//! Callers who do what programs do to connections, for minutes, through the shipped agent, while its managers are
//! killed, revived, withdrawn and restored. To reach: no answer ends early without an error, and afterwards the agent
//! holds as many descriptors and tasks as before.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::report::{beside, show};
use echelon_bench::running::wait_for;
use echelon_bench::soak::{Service, Soaked};
use echelon_bench::{Registry, Running, http, output};
use std::net::TcpListener;
use std::time::Duration;

/// How many minutes, where the first argument says nothing else.
const MINUTES: u64 = 10;

/// Callers side by side.
const CALLERS: u64 = 16;

const TYPE: &str = "command-control";

fn main() {
    let minutes = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(MINUTES);
    let any = "127.0.0.1:0".parse().unwrap();
    let (mut near, far, registry) = (Service::start(any), Service::start(any), Registry::start());
    let host = |name: &str, domain: &str, port: u16| {
        format!(
            "[[host]]\nname = \"{name}\"\ndomain = \"{domain}\"\naddress = \"127.0.0.1\"\npackages = [\"{TYPE}:{port}\"]\n"
        )
    };
    registry.apply(&format!(
        "framework = \"acme\"\n[[policy]]\ndrain_timeout = \"500ms\"\nfailback_hold = \"0s\"\nfailback_jitter = \"0s\"\n\
         {}{}[[host]]\nname = \"asker\"\ndomain = \"/x\"\n",
        host("near", "/x", near.at().port()),
        host("far", "/", far.at().port()),
    ));
    let state = registry.enroll("asker");
    let at = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut run = registry.agent(&state);
    run.args(["--forward", &format!("{TYPE}={at}")]);
    let agent = Running::start(run, &registry.path("agent.log"));
    let socket = state.join("agent.sock");
    wait_for("the agent", || {
        http::Caller::connect(&socket, "/readyz").ok()?.ask().ok().filter(|(s, _)| *s == 200).map(drop)
    });
    let metrics = || {
        let mut caller = http::Caller::connect(&socket, "/metrics").unwrap();
        String::from_utf8(caller.ask().unwrap().1.to_vec()).unwrap()
    };
    let mut disturb = |times: usize| match times % 4 {
        0 => near.kill(),
        1 => near.revive(),
        2 => drop(output(&mut registry.console(&format!("package withdraw near {TYPE}")))),
        _ => drop(output(&mut registry.console(&format!("package restore near {TYPE}")))),
    };
    let memory = agent.resident_kib();
    let mut soaked = Soaked { at, process: agent.id(), metrics: &metrics, disturb: &mut disturb };
    let soak = soaked.soak(CALLERS, Duration::from_secs(60 * minutes));
    beside(
        "connections",
        format!("{}, of which {} came to what they wanted", soak.connections, soak.complete),
    );
    beside("disturbances", soak.disturbances);
    beside("memory before and after", format!("{memory} and {} KiB", agent.resident_kib()));
    let figures = format!("{:?} after {:?}", soak.after, soak.before);
    show(
        "held by the agent",
        figures,
        "no more than before",
        soak.after.descriptors <= soak.before.descriptors,
    );
}
