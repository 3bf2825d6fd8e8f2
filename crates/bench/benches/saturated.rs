//! All cores are busy with something else, and nothing is wrong: callers must go on being led to the nearest manager.
//! Through an agent's forwarder, and through HAProxy and Envoy where they are installed, at the same time.
//!
//! `-- 60` runs for 60 s instead of ten minutes.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::http::Caller;
use echelon_bench::load::{Call, Load, Speech, wait_until_answered_by};
use echelon_bench::report::{beside, show};
use echelon_bench::rivals::Rival;
use echelon_bench::trio::{Trio, free_port};
use echelon_bench::victim::{Victim, serve_if_asked};
use echelon_bench::{Running, Samples};
use std::net::SocketAddr;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::time::sleep;

/// New connections a second, through each relay.
const RATE: u32 = 200;

const TIME: Duration = Duration::from_secs(600);

/// Processes for each core that never wait for anything.
const BURNERS_PER_CORE: usize = 2;

/// The argument with which this program becomes one of them.
const BURN: &str = "burn";

/// Asks for an answer often, so that a check has every chance to be wrong.
const CHECK: &str = "{ tcp = true, send = \"ping\\n\", expect = \"\\n\" }";

fn main() {
    serve_if_asked();
    if std::env::args().any(|argument| argument == BURN) {
        burn();
    }
    tokio::runtime::Runtime::new().unwrap().block_on(run());
}

async fn run() {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok());
    let time = seconds.map_or(TIME, Duration::from_secs);
    let managers = [2, 3, 4].map(|last| SocketAddr::from(([127, 0, 0, last], free_port().port())));
    let trio = Trio::start(managers, CHECK);
    let start =
        |(name, at)| Victim::start(name, at, Duration::ZERO, trio.registry.path(&format!("{name}.victim")));
    let _victims = trio.managers().map(start);
    let ours = free_port();
    let _asker = trio.forward("--forward", ours);
    let rival = |rival: Rival| {
        let (directory, at) = (trio.registry.path(&format!("{rival:?}")), free_port());
        std::fs::create_dir(&directory).unwrap();
        (rival.name(), at, rival.start(at, &managers, &directory))
    };
    let rivals: Vec<_> = Rival::ALL.into_iter().filter(|rival| rival.is_there()).map(rival).collect();
    let relays = || [("agent", ours)].into_iter().chain(rivals.iter().map(|(name, at, _)| (*name, *at)));
    for (_, at) in relays() {
        wait_until_answered_by("near", at, Speech::Line).await;
    }
    let before = changes(&trio);
    let burners: Vec<_> = (0..burners()).map(|n| burner(&trio, n)).collect();
    println!("{} processes that burn, for {time:?}", burners.len());
    let loads: Vec<_> = relays().map(|(name, at)| (name, Load::start(at, RATE, Speech::Line))).collect();
    sleep(time).await;
    for (name, load) in loads {
        report(name, &load.stop().await);
    }
    let changed = changes(&trio) - before;
    show("agent: changes of choice", changed, "0", changed == 0);
    drop(burners);
}

fn report(name: &str, calls: &[Call]) {
    let elsewhere = calls.iter().filter(|c| c.answer.as_ref().is_ok_and(|who| who != "near")).count();
    let failed = calls.iter().filter(|c| c.answer.is_err()).count();
    let took = Samples::new(calls.iter().map(|call| call.took));
    beside(
        &format!("{name}: calls"),
        format!("{}, {elsewhere} answered by others, {failed} failed", calls.len()),
    );
    beside(&format!("{name}: time of a call"), took);
}

/// How often the asker's agent has changed its choice.
fn changes(trio: &Trio) -> u64 {
    let mut caller = Caller::connect(&trio.api(), "/metrics").unwrap();
    let text = String::from_utf8_lossy(caller.ask().unwrap().1).into_owned();
    let counts = text.lines().filter(|line| line.starts_with("echelon_agent_route_changes_total{"));
    counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn burners() -> usize {
    available_parallelism().unwrap().get() * BURNERS_PER_CORE
}

fn burner(trio: &Trio, number: usize) -> Running {
    let mut run = Command::new(std::env::current_exe().unwrap());
    run.arg(BURN);
    Running::start(run, &trio.registry.path(&format!("burner-{number}.log")))
}

fn burn() -> ! {
    let mut number = 1_u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number >> 7));
    }
}
