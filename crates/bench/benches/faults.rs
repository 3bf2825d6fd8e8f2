//! What callers notice of a manager that is killed, cut off, stopped or withdrawn: through an agent's forwarder, and
//! through HAProxy and Envoy where they are installed. The same callers, managers and faults for each: 200 new
//! connections a second with one request, one nearest manager and two further ones.
//!
//! `-- 5` runs five rounds of each; `-- killed hung` only these faults.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use echelon_bench::load::{Call, Load, Speech, wait_until_answered_by};
use echelon_bench::report::{beside, show};
use echelon_bench::rivals::Rival;
use echelon_bench::trio::{TYPE, Trio, free_port};
use echelon_bench::victim::{Victim, serve_if_asked};
use echelon_bench::{Running, binaries, output};
use echelon_lab::cable::{Cable, UNSHARE};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// New connections a second.
const RATE: u32 = 200;

/// Of each relay and fault, where the first number among the arguments says nothing else.
const ROUNDS: usize = 3;

/// Before a fault.
const BEFORE: Duration = Duration::from_secs(2);

/// After a fault, for relays that are meant to be done with it by then.
const AFTER: Duration = Duration::from_secs(4);

/// After a fault, for HAProxy in its default settings.
const AFTER_DEFAULT: Duration = Duration::from_secs(12);

/// How long a manager thinks about an answer where requests under way are what is looked at: four at a time, on average.
const THINKING: Duration = Duration::from_millis(20);

/// An answer that took so much longer than the median before the fault was delayed by it.
const DELAYED: Duration = Duration::from_millis(5);

/// Where managers listen, on an address of their own each.
const PORT: u16 = 7000;

/// What happens to the nearest manager.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    CutOff,
    Hung,
    Withdrawn,
}

impl Fault {
    const ALL: [(&str, Self); 4] = [
        ("killed", Self::Killed),
        ("cut-off", Self::CutOff),
        ("hung", Self::Hung),
        ("withdrawn", Self::Withdrawn),
    ];
}

/// Who stands between callers and managers.
#[derive(Clone, Copy)]
enum Relay {
    /// An agent; how managers are checked, as a topology file says it; what callers speak.
    Agent {
        check: &'static str,
        speech: Speech,
    },
    Rival(Rival),
}

const PLAIN: Relay = Relay::Agent { check: "{ tcp = true }", speech: Speech::Line };
const HTTP: Relay = Relay::Agent { check: "{ tcp = true }", speech: Speech::Http };
const CHECKED: Relay =
    Relay::Agent { check: "{ tcp = true, send = \"ping\\n\", expect = \"\\n\" }", speech: Speech::Line };
const CHECKED_OFTEN: Relay = Relay::Agent {
    check: "{ tcp = true, send = \"ping\\n\", expect = \"\\n\", interval = \"50ms\", timeout = \"20ms\", misses = 1 }",
    speech: Speech::Line,
};

/// A fault through a relay, its name in the report, and what is to be reached.
struct Case {
    fault: Fault,
    relay: Relay,
    name: &'static str,
    reach: &'static str,
    reached: fn(&Seen) -> bool,
}

const CASES: [Case; 6] = [
    Case {
        fault: Fault::Killed,
        relay: PLAIN,
        name: "agent",
        reach: "0 failed, 5 ms extra",
        reached: |seen| seen.failed == 0 && seen.extra <= Duration::from_millis(5),
    },
    Case {
        fault: Fault::Killed,
        relay: HTTP,
        name: "agent, HTTP mode",
        reach: "0 failed, 0 of those under way",
        reached: |seen| seen.failed == 0 && seen.under_way == 0,
    },
    Case {
        fault: Fault::CutOff,
        relay: PLAIN,
        name: "agent",
        reach: "0 failed, 60 ms extra, those of 100 ms",
        reached: |seen| {
            let millis = Duration::from_millis;
            seen.failed == 0 && seen.extra <= millis(60) && seen.until <= millis(100)
        },
    },
    Case {
        fault: Fault::Hung,
        relay: CHECKED,
        name: "agent, send/expect",
        reach: "2 s",
        reached: |seen| seen.until <= Duration::from_secs(2),
    },
    Case {
        fault: Fault::Hung,
        relay: CHECKED_OFTEN,
        name: "agent, send/expect every 50 ms",
        reach: "10 failed",
        reached: |seen| seen.failed <= 10,
    },
    Case {
        fault: Fault::Withdrawn,
        relay: PLAIN,
        name: "agent",
        reach: "0 failed",
        reached: |seen| seen.failed == 0,
    },
];

/// What callers saw of a fault.
struct Seen {
    /// Calls begun after it that failed.
    failed: usize,
    /// Calls under way when it happened that failed.
    under_way: usize,
    /// How long after it the last call began that failed or, where none did, that was delayed by at least half of
    /// what the slowest was.
    until: Duration,
    /// How much longer than the median before it the slowest answered call took.
    extra: Duration,
}

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "ECHELON_BENCH_NAMESPACE";

fn main() {
    serve_if_asked();
    if std::env::var_os(INSIDE).is_none() {
        return run_inside();
    }
    tokio::runtime::Runtime::new().unwrap().block_on(run());
}

/// Runs this program again in a network namespace of its own.
fn run_inside() {
    let [unshare, options @ ..] = UNSHARE;
    let mut again = Command::new(unshare);
    again.args(options).arg(std::env::current_exe().unwrap()).args(std::env::args().skip(1));
    again.env(INSIDE, "1").env(echelon_bench::binaries::GIVEN, binaries().directory());
    assert!(again.status().unwrap().success());
}

async fn run() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let rounds = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(ROUNDS);
    let named: Vec<_> =
        Fault::ALL.into_iter().filter(|(name, _)| arguments.iter().any(|a| a == name)).collect();
    let faults = if named.is_empty() { Fault::ALL.to_vec() } else { named };
    let rivals: Vec<_> = Rival::ALL.into_iter().filter(|rival| is_there(*rival)).collect();
    let scene = Scene::set(Cable::lay());
    for (fault_name, fault) in faults {
        for case in CASES.iter().filter(|case| case.fault == fault) {
            let seen = scene.rounds(rounds, case.relay, fault).await;
            let figure = figure(&seen);
            show(&format!("{fault_name}: {}", case.name), figure, case.reach, seen.iter().all(case.reached));
        }
        for rival in rivals.iter().filter(|_| fault != Fault::Withdrawn) {
            let seen = scene.rounds(rounds, Relay::Rival(*rival), fault).await;
            beside(&format!("{fault_name}: {}", rival.name()), figure(&seen));
        }
    }
}

fn is_there(rival: Rival) -> bool {
    let there = rival.is_there();
    if !there {
        println!("SKIPPED {}: it is not installed", rival.name());
    }
    there
}

/// All rounds of one case.
fn figure(seen: &[Seen]) -> String {
    let all = |figure: &dyn Fn(&Seen) -> String| seen.iter().map(figure).collect::<Vec<_>>().join(", ");
    let millis = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
    format!(
        "failed {} (and under way {}); until {} ms; extra {} ms",
        all(&|s| s.failed.to_string()),
        all(&|s| s.under_way.to_string()),
        all(&|s| millis(s.until)),
        all(&|s| millis(s.extra)),
    )
}

/// Three managers, the nearest at the end of a cable.
struct Scene {
    trio: Trio,
    cable: Cable,
}

impl Scene {
    fn set(cable: Cable) -> Self {
        let managers = [Cable::FAR, [127, 0, 0, 2].into(), [127, 0, 0, 3].into()];
        Self { trio: Trio::start(managers.map(|ip| SocketAddr::new(ip, PORT)), "{ tcp = true }"), cable }
    }

    async fn rounds(&self, rounds: usize, relay: Relay, fault: Fault) -> Vec<Seen> {
        let mut seen = Vec::new();
        for _ in 0..rounds {
            seen.push(self.round(relay, fault).await);
        }
        seen
    }

    async fn round(&self, relay: Relay, fault: Fault) -> Seen {
        let (speech, thinks) = match relay {
            Relay::Agent { speech: Speech::Http, .. } => (Speech::Http, THINKING),
            _ => (Speech::Line, Duration::ZERO),
        };
        let start =
            |(name, at)| Victim::start(name, at, thinks, self.trio.registry.path(&format!("{name}.victim")));
        let [mut near, _mid, _far] = self.trio.managers().map(start);
        let at = free_port();
        let _relay = self.start(relay, at);
        wait_until_answered_by("near", at, speech).await;
        let load = Load::start(at, RATE, speech);
        sleep(BEFORE).await;
        let (before, after) = self.act(fault, &mut near);
        sleep(if matches!(relay, Relay::Rival(Rival::Haproxy)) { AFTER_DEFAULT } else { AFTER }).await;
        let calls = load.stop().await;
        self.repair(fault, &near);
        seen(&calls, before, after)
    }

    /// Does it; gives when it began and when it was done.
    fn act(&self, fault: Fault, near: &mut Victim) -> (Instant, Instant) {
        let before = Instant::now();
        match fault {
            Fault::Killed => near.kill9(),
            Fault::CutOff => self.cable.pull(),
            Fault::Hung => near.hang(),
            Fault::Withdrawn => {
                drop(output(&mut self.trio.registry.console(&format!("package withdraw near {TYPE}"))))
            }
        }
        (before, Instant::now())
    }

    fn repair(&self, fault: Fault, near: &Victim) {
        match fault {
            Fault::Killed => {}
            Fault::CutOff => self.cable.plug(),
            Fault::Hung => near.resume(),
            Fault::Withdrawn => {
                drop(output(&mut self.trio.registry.console(&format!("package restore near {TYPE}"))))
            }
        }
    }

    fn start(&self, relay: Relay, at: SocketAddr) -> Running {
        match relay {
            Relay::Rival(rival) => {
                rival.start(at, &self.trio.managers().map(|(_, at)| at), &self.trio.registry.path(""))
            }
            Relay::Agent { check, speech } => {
                self.trio.check(check);
                self.trio.wait_until_nearest_is_live();
                self.trio.forward(if speech == Speech::Http { "--forward-http" } else { "--forward" }, at)
            }
        }
    }
}

/// What callers saw of a fault that began at `before` and was done at `after`. Calls begun between the two are counted
/// as under way.
fn seen(calls: &[Call], before: Instant, after: Instant) -> Seen {
    let mut usual: Vec<_> = calls.iter().filter(|c| c.ended() < before).map(|c| c.took).collect();
    usual.sort_unstable();
    let usual = usual[usual.len() / 2];
    let begun_after = || calls.iter().filter(|c| c.began > after);
    let answered = begun_after().filter(|c| c.answer.is_ok());
    let extra = answered.map(|c| c.took.saturating_sub(usual)).max().unwrap_or_default();
    let failed = begun_after().filter(|c| c.answer.is_err()).count();
    let delayed = usual + DELAYED.max(extra / 2);
    let noticed = |c: &&Call| if failed > 0 { c.answer.is_err() } else { c.took > delayed };
    Seen {
        failed,
        under_way: calls.iter().filter(|c| c.began <= after && c.answer.is_err()).count(),
        until: begun_after().filter(noticed).map(|c| c.began - after).max().unwrap_or_default(),
        extra,
    }
}
