//! A forwarder of the shipped agent beside HAProxy with two threads: the same callers, the same service, one
//! sample of each in turn, medians of all samples. To reach: at least as many new connections a second, no
//! higher latency of a new connection with its first request, 0.95 of HAProxy's later requests, and one and a
//! half of its single stream.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::report::{beside, show};
use echelon_bench::running::wait_for;
use echelon_bench::{Registry, Running, service};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

/// Samples of each, where the first argument says nothing else.
const ROUNDS: usize = 8;

/// Callers side by side.
const CALLERS: usize = 8;

/// How long a sample of connections or of a stream takes.
const TIME: Duration = Duration::from_millis(1000);

/// Requests in a sample of latencies.
const REQUESTS: usize = 2000;

/// Its threads are counted once it runs.
const HAPROXY_THREADS: usize = 2;

/// One quantity, measured through each.
struct Quantity {
    name: &'static str,
    unit: &'static str,
    /// At least this share of HAProxy's.
    reach: f64,
    /// Larger figures are better.
    more_is_better: bool,
    measure: fn(SocketAddr) -> f64,
}

const QUANTITIES: [Quantity; 4] = [
    Quantity {
        name: "new connections per second",
        unit: "/s",
        reach: 1.0,
        more_is_better: true,
        measure: |addr| service::connections_per_second(addr, CALLERS, TIME),
    },
    Quantity {
        name: "new connection with its first request",
        unit: "µs",
        reach: 1.0,
        more_is_better: false,
        measure: |addr| micros(service::first_requests(addr, REQUESTS).median()),
    },
    Quantity {
        name: "later request",
        unit: "µs",
        reach: 0.95,
        more_is_better: false,
        measure: |addr| micros(service::later_requests(addr, REQUESTS * 4).median()),
    },
    Quantity {
        name: "one stream",
        unit: "MB/s",
        reach: 1.5,
        more_is_better: true,
        measure: |addr| service::stream(addr, TIME) / 1e6,
    },
];

fn main() {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let service = service::start();
    let (registry, [agent_at, haproxy_at]) = (Registry::start(), free_ports());
    let agent = registry.forwarding("command-control", service, agent_at);
    let haproxy = start_haproxy(&registry, service, haproxy_at);
    let ways = [("forwarder", agent_at), ("HAProxy", haproxy_at), ("no relay", service)];
    println!("{rounds} samples of each, in turn; {} and {} threads", threads(&agent), threads(&haproxy));
    for quantity in &QUANTITIES {
        let mut samples = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            for ((_, addr), samples) in ways.iter().zip(&mut samples) {
                samples.push((quantity.measure)(*addr));
            }
        }
        report(quantity, samples, ways.map(|(name, _)| name));
    }
    beside(
        "memory, forwarder / HAProxy",
        format!("{} / {} KiB", agent.resident_kib(), haproxy.resident_kib()),
    );
}

fn report(quantity: &Quantity, samples: [Vec<f64>; 3], names: [&str; 3]) {
    let [ours, theirs, none] = samples.map(median_and_range);
    for (name, (median, least, most)) in names.iter().zip([ours, theirs, none]) {
        let figure = format!("{median:.1} {} ({least:.1} to {most:.1})", quantity.unit);
        beside(&format!("{}: {name}", quantity.name), figure);
    }
    let ratio = match quantity.more_is_better {
        true => ours.0 / theirs.0,
        false => theirs.0 / ours.0,
    };
    let reach = format!("{} of HAProxy's", quantity.reach);
    show(&format!("{}: ratio", quantity.name), format!("{ratio:.3}"), &reach, ratio >= quantity.reach);
}

fn median_and_range(mut samples: Vec<f64>) -> (f64, f64, f64) {
    samples.sort_unstable_by(f64::total_cmp);
    let middle = samples.len() / 2;
    let median = match samples.len() % 2 {
        0 => f64::midpoint(samples[middle - 1], samples[middle]),
        _ => samples[middle],
    };
    (median, samples[0], samples[samples.len() - 1])
}

fn start_haproxy(registry: &Registry, service: SocketAddr, at: SocketAddr) -> Running {
    let config = format!(
        "global\n  nbthread {HAPROXY_THREADS}\n  maxconn 4000\n\
         defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1m\n  timeout server 1m\n\
         listen relay\n  bind {at} backlog 1024\n  server service {service}\n"
    );
    let path = registry.path("haproxy.cfg");
    std::fs::write(&path, config).unwrap();
    let mut run = Command::new("haproxy");
    run.args(["-db", "-f"]).arg(path);
    let haproxy = Running::start(run, &registry.path("haproxy.log"));
    wait_for_calls(at);
    assert_eq!(threads(&haproxy), HAPROXY_THREADS, "HAProxy does not run as it is meant to");
    haproxy
}

/// Waits until whoever listens there answers a whole request.
fn wait_for_calls(at: SocketAddr) {
    wait_for(&format!("an answer through {at}"), || service::answers(at).then_some(()));
}

fn threads(process: &Running) -> usize {
    std::fs::read_dir(format!("/proc/{}/task", process.id())).unwrap().count()
}

fn free_ports() -> [SocketAddr; 2] {
    [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap()).map(|l| l.local_addr().unwrap())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
