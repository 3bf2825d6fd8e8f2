//! Answers of an agent's local API over its unix socket, on a kept connection, beside a bare HTTP server that
//! sends a body of the same size. To reach: 1.25 × its median.
//!
//! Waking a thread on another core takes longer than all that a server does for an answer. Where the system puts which
//! process is chance, so that two would be compared that are not in the same place: both are pinned, once to the
//! caller's core and once to another one.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::generate::{TYPES, host_name};
use echelon_bench::http::Caller;
use echelon_bench::report::{beside, ratio};
use echelon_bench::running::{outer_cores, pin_here, wait_for};
use echelon_bench::{Registry, Running, Samples, Shape, show};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::env;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Rounds in which the two take turns, and questions of each in a round.
const ROUNDS: usize = 180;
const QUESTIONS: usize = 50;

const REACH: f64 = 1.25;

/// A handful of managers, and all that a large view has of one type.
const SHAPES: [(&str, Shape); 2] = [
    ("3 candidates", Shape { domains: 5, hosts: 10, managers: 3, types: 1, per_host: 1 }),
    ("400 candidates", Shape::VIEW),
];

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, mode, socket, size] = arguments.as_slice()
        && mode == "echo"
    {
        return echo(Path::new(socket), size.parse().unwrap());
    }
    for (what, shape) in SHAPES {
        compare(what, shape);
    }
}

fn compare(what: &str, shape: Shape) {
    let registry = Registry::start();
    registry.apply(&shape.to_toml());
    let state = registry.enroll(&host_name(0));
    let agent = Running::start(registry.agent(&state), &registry.path("agent.log"));
    let path = format!("/v1/routes/{}", TYPES[0]);
    let connect = |socket: &Path| {
        wait_for("an answer", || {
            let mut caller = Caller::connect(socket, &path).ok()?;
            let answered = caller.ask().ok()?.0 == 200;
            answered.then_some(caller)
        })
    };
    let socket = state.join("agent.sock");
    let size = connect(&socket).ask().unwrap().1.len();
    let bare_socket = registry.path("echo.sock");
    let mut bare = Command::new(env::current_exe().unwrap());
    bare.arg("echo").arg(&bare_socket).arg(size.to_string());
    let bare = Running::start(bare, &registry.path("echo.log"));
    drop(connect(&bare_socket));
    let [here, there] = outer_cores();
    for (place, core) in [("the caller's core", here), ("another core", there)] {
        agent.pin(core);
        bare.pin(core);
        let callers = [connect(&socket), connect(&bare_socket)];
        // A thread of its own, so that what is started after it may use all cores.
        let asking = || {
            pin_here(here);
            take_turns(callers)
        };
        let (ours, theirs) = thread::scope(|scope| scope.spawn(asking).join().unwrap());
        beside(&format!("on {place}: bare HTTP server, {size} bytes"), &theirs);
        beside(&format!("on {place}: API, {what}"), &ours);
        let times = ratio(ours.median(), theirs.median());
        show(
            &format!("on {place}: API, {what}, beside it"),
            format!("{times:.2} ×"),
            &format!("≤ {REACH} ×"),
            times <= REACH,
        );
    }
}

fn take_turns([mut agent, mut bare]: [Caller; 2]) -> (Samples, Samples) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (caller, taken) in [(&mut agent, &mut ours), (&mut bare, &mut theirs)] {
            taken.extend((0..QUESTIONS).map(|_| ask(caller)));
        }
    }
    (Samples::new(ours), Samples::new(theirs))
}

fn ask(caller: &mut Caller) -> Duration {
    let begin = Instant::now();
    let (status, _) = caller.ask().unwrap();
    let taken = begin.elapsed();
    assert_eq!(status, 200);
    taken
}

/// The bare server: hyper alone, in a process of its own with the runtime that the agent has.
fn echo(socket: &Path, size: usize) {
    let body = Bytes::from(vec![b'x'; size]);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let body = body.clone();
            tokio::spawn(async move {
                let answer = |_: Request<Incoming>| {
                    let response = Response::new(Full::new(body.clone()));
                    async { Ok::<_, Infallible>(response) }
                };
                let service = hyper::service::service_fn(answer);
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
            });
        }
    });
}
