//! HTTP mode of the shipped agent beside HAProxy in http mode with two threads: the same callers with kept
//! connections, the same service, one sample of each in turn, medians of all samples. To reach: as many requests a
//! second, and no higher latency.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::report::{beside, show};
use echelon_bench::running::wait_for;
use echelon_bench::{Registry, Running, Samples};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Samples of each, where the first argument says nothing else.
const ROUNDS: usize = 8;

/// Callers side by side, each with a connection that it keeps.
const CALLERS: usize = 16;

/// How long a sample of requests takes.
const TIME: Duration = Duration::from_millis(1000);

/// Requests in a sample of latencies.
const REQUESTS: usize = 4000;

const QUESTION: &[u8] =
    b"GET /work?item=7 HTTP/1.1\r\nHost: manager.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
const BODY: [u8; 64] = [b'x'; 64];

/// One quantity, measured through each.
struct Quantity {
    name: &'static str,
    unit: &'static str,
    more_is_better: bool,
    measure: fn(SocketAddr) -> f64,
}

const QUANTITIES: [Quantity; 2] = [
    Quantity { name: "requests per second", unit: "/s", more_is_better: true, measure: requests_per_second },
    Quantity {
        name: "latency of a request",
        unit: "µs",
        more_is_better: false,
        measure: |addr| {
            let mut caller = Caller::connect(addr).unwrap();
            Samples::of(REQUESTS, || caller.ask().unwrap()).median().as_secs_f64() * 1e6
        },
    },
];

fn main() {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let service = serve();
    let (registry, [agent_at, haproxy_at]) = (Registry::start(), free_ports());
    let agent = start_agent(&registry, service, agent_at);
    let haproxy = start_haproxy(&registry, service, haproxy_at);
    let ways = [("agent", agent_at), ("HAProxy", haproxy_at), ("no relay", service)];
    println!("{rounds} samples of each, in turn; {CALLERS} callers");
    for quantity in &QUANTITIES {
        let mut samples = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            for ((_, addr), samples) in ways.iter().zip(&mut samples) {
                samples.push((quantity.measure)(*addr));
            }
        }
        let medians = samples.map(median);
        for ((name, _), median) in ways.iter().zip(medians) {
            beside(&format!("{}: {name}", quantity.name), format!("{median:.1} {}", quantity.unit));
        }
        let [ours, theirs, _] = medians;
        let ratio = if quantity.more_is_better { ours / theirs } else { theirs / ours };
        show(&format!("{}: ratio", quantity.name), format!("{ratio:.3}"), "1 of HAProxy's", ratio >= 1.0);
    }
    let memory = format!("{} / {} KiB", agent.resident_kib(), haproxy.resident_kib());
    beside("memory, agent / HAProxy", memory);
}

/// A caller that keeps its connection.
struct Caller {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Caller {
    fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream, answer: vec![0; 4096] })
    }

    fn ask(&mut self) -> io::Result<()> {
        self.stream.write_all(QUESTION)?;
        let mut held = 0;
        loop {
            let read = self.stream.read(&mut self.answer[held..])?;
            held += read;
            let answer = &self.answer[..held];
            // Its body stands nowhere else.
            if answer.ends_with(&BODY) {
                return Ok(());
            }
            if read == 0 || !answer.starts_with(b"HTTP/1.1 200 ") {
                return Err(io::Error::other(String::from_utf8_lossy(answer)));
            }
        }
    }
}

fn requests_per_second(addr: SocketAddr) -> f64 {
    let begin = Instant::now();
    let caller = || {
        let (mut caller, mut count) = (Caller::connect(addr).unwrap(), 0_u64);
        while begin.elapsed() < TIME {
            caller.ask().unwrap();
            count += 1;
        }
        count
    };
    let count: u64 = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).sum()
    });
    count as f64 / begin.elapsed().as_secs_f64()
}

/// A service with a thread for each connection; it ends with the process.
fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever breaks off has seen what there was to see.
            thread::spawn(move || drop(stream.and_then(answer)));
        }
    });
    addr
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", BODY.len()).into_bytes();
    answer.extend_from_slice(&BODY);
    let (mut buffer, mut held) = (vec![0; 4096], 0);
    loop {
        let read = stream.read(&mut buffer[held..])?;
        if read == 0 {
            return Ok(());
        }
        held += read;
        if buffer[..held].ends_with(b"\r\n\r\n") {
            stream.write_all(&answer)?;
            held = 0;
        }
    }
}

fn start_agent(registry: &Registry, service: SocketAddr, at: SocketAddr) -> Running {
    let (ty, port) = ("command-control", service.port());
    registry.apply(&format!(
        "framework = \"acme\"\n[[host]]\nname = \"near\"\npackages = [\"{ty}:{port}\"]\ndomain = \"/a\"\n\
         address = \"127.0.0.1\"\n\n[[host]]\nname = \"asker\"\ndomain = \"/a\"\n"
    ));
    let mut run = registry.agent(&registry.enroll("asker"));
    run.args(["--forward-http", &format!("{ty}={at}")]);
    let agent = Running::start(run, &registry.path("agent.log"));
    wait_for_answers(at);
    agent
}

fn start_haproxy(registry: &Registry, service: SocketAddr, at: SocketAddr) -> Running {
    let config = format!(
        "global\n  nbthread 2\n  maxconn 4000\n\
         defaults\n  mode http\n  timeout connect 1s\n  timeout client 1m\n  timeout server 1m\n  http-reuse always\n\
         listen relay\n  bind {at}\n  server service {service}\n"
    );
    let path = registry.path("haproxy.cfg");
    std::fs::write(&path, config).unwrap();
    let mut run = Command::new("haproxy");
    run.args(["-db", "-f"]).arg(path);
    let haproxy = Running::start(run, &registry.path("haproxy.log"));
    wait_for_answers(at);
    haproxy
}

fn wait_for_answers(at: SocketAddr) {
    let ask = || Caller::connect(at).and_then(|mut caller| caller.ask()).ok();
    wait_for(&format!("an answer through {at}"), ask);
}

fn free_ports() -> [SocketAddr; 2] {
    [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap()).map(|l| l.local_addr().unwrap())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_unstable_by(f64::total_cmp);
    samples[samples.len() / 2]
}
