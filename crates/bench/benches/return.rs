//! The preferred manager of many hosts, by default 1,000, comes back: how many of them return to it at once, counted
//! where it accepts, with default settings; and whether any of their calls fails.
//!
//! `-- 200` runs 200 hosts.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::Registry;
use echelon_bench::fleet::{self, Fleet, TYPE};
use echelon_bench::report::{beside, show};
use echelon_bench::trio::free_port;
use registry_agent::Connector;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

const HOSTS: usize = 1000;

/// Between two calls of a host.
const PERIOD: Duration = Duration::from_secs(1);

/// How long the manager is gone.
const GONE: Duration = Duration::from_secs(15);

/// Hold, jitter and the longest wait between two probes, with room to spare.
const LONGEST: Duration = Duration::from_secs(120);

/// Share of the hosts that may return within any second.
const SHARE: f64 = 0.07;

/// When each host first called.
type Firsts = Arc<Mutex<BTreeMap<String, Instant>>>;

/// A manager that can go away.
struct Door {
    firsts: Firsts,
    serving: JoinHandle<()>,
}

impl Door {
    async fn open(name: &'static str, at: SocketAddr) -> Self {
        let (listener, firsts) = (TcpListener::bind(at).await.unwrap(), Firsts::default());
        let serving = tokio::spawn(serve(name, listener, firsts.clone()));
        Self { firsts, serving }
    }

    fn count(&self) -> usize {
        self.firsts.lock().unwrap().len()
    }

    /// When this is back, nobody listens any more.
    async fn close(self) {
        self.serving.abort();
        // It was ended here.
        let _ = self.serving.await;
    }
}

async fn serve(name: &'static str, listener: TcpListener, firsts: Firsts) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (accepted, firsts) = (Instant::now(), firsts.clone());
        tokio::spawn(async move {
            let (mut stream, mut line) = (BufReader::new(stream), String::new());
            // A probe connects and says nothing.
            if stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                firsts.lock().unwrap().entry(line).or_insert(accepted);
                // The caller notices.
                let _ = stream.get_mut().write_all(name.as_bytes()).await;
            }
        });
    }
}

#[tokio::main]
async fn main() {
    registry_agent::raise_descriptor_limit().unwrap();
    let hosts = std::env::args().find_map(|a| a.parse().ok()).unwrap_or(HOSTS);
    let registry = Registry::start();
    let [near_at, far_at] = [free_port(), free_port()];
    registry.apply(&topology(hosts, near_at, far_at));
    let states = fleet::enrol(&registry, hosts).await;
    let (near, far) = (Door::open("near", near_at).await, Door::open("far", far_at).await);
    let fleet = Fleet::start(&states).await;
    let failures = Arc::new(Mutex::new(Vec::new()));
    let mut callers = JoinSet::new();
    for (number, connector) in fleet.connectors().enumerate() {
        callers.spawn(call_for_ever(number, hosts, connector, failures.clone()));
    }
    all_at(&near, hosts, "near").await;
    near.close().await;
    all_at(&far, hosts, "far").await;
    sleep(GONE).await;
    let near = Door::open("near", near_at).await;
    let back = Instant::now();
    all_at(&near, hosts, "near again").await;
    callers.shutdown().await;
    fleet.stop().await;
    report(&near.firsts.lock().unwrap(), back, hosts);
    let failed = failures.lock().unwrap();
    show("failed calls", failed.len(), "0", failed.is_empty());
    failed.iter().take(3).for_each(|failure| beside("", failure));
}

fn report(firsts: &BTreeMap<String, Instant>, back: Instant, hosts: usize) {
    let mut times: Vec<_> = firsts.values().map(|at| *at - back).collect();
    times.sort_unstable();
    let within = |begin: &Duration| times.iter().filter(|t| *t >= begin && **t < *begin + PERIOD).count();
    let most = times.iter().map(within).max().unwrap_or_default();
    let share = most as f64 / hosts as f64;
    let (first, last) = (times[0], times[times.len() - 1]);
    beside(
        &format!("{hosts} hosts returned between"),
        format!("{first:.1?} and {last:.1?} after it was back"),
    );
    let figure = format!("{:.1} % ({most})", share * 100.0);
    show("most within one second", figure, "7 %", share <= SHARE);
}

/// Waits until every host has called there.
async fn all_at(door: &Door, hosts: usize, name: &str) {
    let begin = Instant::now();
    while door.count() < hosts {
        assert!(begin.elapsed() < LONGEST, "{} of {hosts} hosts have called {name}", door.count());
        sleep(Duration::from_millis(50)).await;
    }
}

/// Calls once a second, at a time of its own within it.
async fn call_for_ever(number: usize, hosts: usize, connector: Connector, failures: Arc<Mutex<Vec<String>>>) {
    sleep(PERIOD.mul_f64(number as f64 / hosts as f64)).await;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(failure) = call(number, &connector).await {
            failures.lock().unwrap().push(format!("agent-{number}: {failure}"));
        }
    }
}

async fn call(number: usize, connector: &Connector) -> io::Result<()> {
    let connected = connector.connect(&TYPE.parse().unwrap()).await.map_err(io::Error::other)?;
    let (mut stream, mut answer): (TcpStream, _) = (connected.stream, String::new());
    stream.write_all(format!("agent-{number}\n").as_bytes()).await?;
    stream.read_to_string(&mut answer).await?;
    match answer == connected.host.as_str() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{} answered {answer:?}", connected.host))),
    }
}

fn topology(hosts: usize, near: SocketAddr, far: SocketAddr) -> String {
    let host = |name: &str, domain: &str, at: SocketAddr| {
        format!(
            "\n[[host]]\nname = \"{name}\"\ndomain = \"{domain}\"\naddress = \"{}\"\npackages = [\"{TYPE}:{}\"]\n",
            at.ip(),
            at.port()
        )
    };
    let framework = echelon_bench::generate::FRAMEWORK;
    let managers = host("near", "/region", near) + &host("far", "/", far);
    format!("framework = \"{framework}\"\n{managers}{}", fleet::hosts(hosts))
}
