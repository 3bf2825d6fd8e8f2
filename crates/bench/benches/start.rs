//! From the start of an agent's process, with a replica of 2,000 managers on disk and no registry manager, to its
//! first right answer. To reach: 100 ms.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::generate::{TYPES, host_name};
use echelon_bench::http::Caller;
use echelon_bench::running::wait_for;
use echelon_bench::{Registry, Running, Samples, Shape, show};
use std::path::Path;
use std::time::{Duration, Instant};

/// Starts that are measured.
const RUNS: usize = 15;

const REACH: Duration = Duration::from_millis(100);

fn main() {
    let mut registry = Registry::start();
    registry.apply(&Shape::VIEW.to_toml());
    // A host that carries a manager of this type, and so is its own nearest.
    let state = registry.enroll(&host_name(0));
    let socket = state.join("agent.sock");
    let agent = Running::start(registry.agent(&state), &registry.path("agent.log"));
    wait_for("the agent to be served by its own host", || answer(&socket));
    agent.kill9();
    let there = Samples::new((0..RUNS).map(|_| start(&registry, &state)));
    registry.kill9();
    let gone = Samples::new((0..RUNS).map(|_| start(&registry, &state)));
    for (what, samples) in [("manager there", there), ("no manager", gone)] {
        let reached = samples.median() <= REACH;
        show(&format!("start to first right answer, {what}"), samples, &format!("≤ {REACH:?}"), reached);
    }
}

/// How long a new process takes to its first right answer. It is killed then.
fn start(registry: &Registry, state: &Path) -> Duration {
    let begin = Instant::now();
    let agent = Running::start(registry.agent(state), &registry.path("agent.log"));
    while answer(&state.join("agent.sock")).is_none() {
        std::thread::sleep(Duration::from_micros(200));
    }
    let taken = begin.elapsed();
    agent.kill9();
    taken
}

/// Whether the right answer is given.
fn answer(socket: &Path) -> Option<()> {
    let mut caller = Caller::connect(socket, &format!("/v1/routes/{}", TYPES[0])).ok()?;
    let (status, body) = caller.ask().ok()?;
    let chosen = format!("\"chosen\":{{\"host\":\"{}\"", host_name(0));
    let right = std::str::from_utf8(body).ok()?.contains(&chosen);
    (status == 200 && right).then_some(())
}
