//! One shipped agent: memory with two forwarders and a view of 500 managers, what it takes when nothing happens,
//! and what a caller waits longer because the first candidate refuses or is silent.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::generate::TYPES;
use echelon_bench::report::{beside, show};
use echelon_bench::running::wait_for;
use echelon_bench::{Registry, Running, Samples, Shape, service};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::Duration;

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(60);

/// First calls of each kind; each needs a type of its own, since the agent learns from the first.
const CALLS: usize = 12;

/// The hedge where no policy sets one and nothing is known yet.
const HEDGE: Duration = Duration::from_millis(50);

fn main() {
    let service = service::start();
    idle(service);
    passing(service);
}

/// Memory and processor time of an agent whose host runs one checked package.
fn idle(service: SocketAddr) {
    let registry = Registry::start();
    let shape = Shape { domains: 100, hosts: 500, managers: 500, types: 5, per_host: 1 };
    let asker = format!(
        "\n[[host]]\nname = \"asker\"\ndomain = \"/\"\naddress = \"127.0.0.1\"\npackages = [\"worker:{}\"]\n",
        service.port()
    );
    registry.apply(&(shape.to_toml() + &asker));
    let ports = free_ports(2);
    let forwards = TYPES.into_iter().map(str::to_owned).zip(ports.iter().copied());
    let agent = start(&registry, &forwards.collect::<Vec<_>>());
    wait_for("a replica", || std::fs::exists(registry.path("agent-asker/replica.db")).unwrap().then_some(()));
    sleep(Duration::from_secs(10));
    let begin = agent.cpu();
    sleep(IDLE);
    let used = agent.cpu().saturating_sub(begin);
    let share = used.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    let kib = agent.resident_kib();
    let mib = kib as f64 / 1024.0;
    show("memory, two forwarders, 500 managers", format!("{mib:.1} MiB"), "15 MiB", mib <= 15.0);
    show("idle, default heartbeats and checks", format!("{share:.3} % of a core"), "0.3 %", share <= 0.3);
}

/// First calls through forwarders whose first candidate answers, refuses, or is silent.
fn passing(service: SocketAddr) {
    let (registry, mut toml) = (Registry::start(), "framework = \"acme\"\n".to_owned());
    let (mut held, mut forwards) = (Vec::new(), Vec::new());
    let ports = free_ports(3 * CALLS);
    for (number, at) in ports.into_iter().enumerate() {
        let first = match number % 3 {
            0 => service,
            1 => hold(&mut held, refusing()),
            _ => hold(&mut held, silent()),
        };
        let ty = format!("type-{number}");
        for (host, domain, addr) in [("first", "/a/b", first), ("second", "/a", service)] {
            writeln!(toml, "\n[[host]]\nname = \"{host}-{number}\"\ndomain = \"{domain}\"").unwrap();
            writeln!(toml, "address = \"127.0.0.1\"\npackages = [\"{ty}:{}\"]", addr.port()).unwrap();
        }
        forwards.push((ty, at));
    }
    toml += "\n[[host]]\nname = \"asker\"\ndomain = \"/a/b\"\n";
    registry.apply(&toml);
    let agent = start(&registry, &forwards);
    // Wait on a type that answers, and until the routes of all others are there.
    wait_for("an answer", || service::answers(forwards[0].1).then_some(()));
    sleep(Duration::from_secs(2));
    let mut took = [const { Vec::new() }; 3];
    for (number, (_, at)) in forwards.iter().enumerate().skip(3) {
        took[number % 3].push(service::first_requests(*at, 1).median());
    }
    let [usual, refused, silent] = took.map(Samples::new);
    let extra = |samples: &Samples| samples.median().saturating_sub(usual.median());
    beside("first call, the first candidate answers", &usual);
    beside("first call, the first candidate refuses", &refused);
    beside("first call, the first candidate is silent", &silent);
    let (by_refusal, by_silence) = (extra(&refused), extra(&silent));
    let most = Duration::from_millis(2);
    show("extra time because it refuses", format!("{by_refusal:.2?}"), "2 ms", by_refusal <= most);
    let most = HEDGE + Duration::from_millis(10);
    show("extra time because it is silent", format!("{by_silence:.2?}"), "hedge + 10 ms", by_silence <= most);
    drop((agent, held));
}

fn start(registry: &Registry, forwards: &[(String, SocketAddr)]) -> Running {
    let state = registry.enroll("asker");
    let mut run = registry.agent(&state);
    for (ty, at) in forwards {
        run.args(["--forward", &format!("{ty}={at}")]);
    }
    Running::start(run, &registry.path("agent.log"))
}

fn hold(held: &mut Vec<OwnedFd>, (addr, sockets): (SocketAddr, Vec<OwnedFd>)) -> SocketAddr {
    held.extend(sockets);
    addr
}

fn bound() -> (SocketAddr, OwnedFd) {
    let socket = tcp(SocketFlags::CLOEXEC);
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let addr = rustix::net::getsockname(&socket).unwrap();
    (addr.try_into().unwrap(), socket)
}

fn tcp(flags: SocketFlags) -> OwnedFd {
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap()
}

/// Bound, so that nobody else gets the port, but not listening.
fn refusing() -> (SocketAddr, Vec<OwnedFd>) {
    let (addr, socket) = bound();
    (addr, vec![socket])
}

/// A listener with a queue of one that is full: connects to it are neither accepted nor refused.
fn silent() -> (SocketAddr, Vec<OwnedFd>) {
    let (addr, socket) = bound();
    listen(&socket, 0).unwrap();
    let mut sockets = vec![socket];
    for _ in 0..4 {
        let waiting = tcp(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        // Under way, and to stay so.
        let _ = connect(&waiting, &addr);
        sockets.push(waiting);
    }
    (addr, sockets)
}

fn free_ports(count: usize) -> Vec<SocketAddr> {
    let bound: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    bound.iter().map(|l| l.local_addr().unwrap()).collect()
}
