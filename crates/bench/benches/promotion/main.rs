//! What a change of the primary registry manager costs those who edit, and what the death of all of them costs those
//! who ask for routes: the shipped binaries, a primary and two standbys that count, six clients that edit without an end.
//!
//! `-- 20` repeats each twenty times; `-- planned forced routes` only these.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

mod routes;
mod stream;

use echelon_bench::report::{beside, ratio, show};
use echelon_bench::running::wait_for;
use echelon_bench::{Registry, Samples, output};
use std::time::{Duration, Instant};
use stream::Stream;

/// How often each is done, where the first number among the arguments says nothing else.
const ROUNDS: usize = 10;

/// What can be named among the arguments.
const PARTS: [&str; 3] = ["planned", "forced", "routes"];

/// Those that join.
const STANDBYS: [&str; 2] = ["spare1", "spare2"];

/// How long the stream is looked at before a change, and after it.
const BESIDE: Duration = Duration::from_secs(1);

/// How long no edit may be accepted where the primary hands over.
const PLANNED: Duration = Duration::from_millis(200);

/// How long it may take from the command to the first accepted edit where the primary is dead.
const FORCED: Duration = Duration::from_secs(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let rounds = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(ROUNDS);
    let named = |part: &str| arguments.iter().any(|a| a == part);
    let all = !PARTS.into_iter().any(named);
    for part in PARTS.into_iter().filter(|part| all || named(part)) {
        match part {
            "planned" => planned(rounds),
            "forced" => forced(rounds),
            _ => routes::with_every_manager_dead(rounds),
        }
    }
}

/// A registry with its standbys.
fn registry() -> Registry {
    let mut registry = Registry::start();
    STANDBYS.into_iter().for_each(|host| registry.join(host));
    registry
}

/// A registry, and clients that edit it.
struct Edited {
    registry: Registry,
    stream: Stream,
}

impl Edited {
    fn begin() -> Self {
        let registry = registry();
        let hosts = (0..stream::CLIENTS).map(|client| {
            format!(
                "[[host]]\nname = \"{}\"\ndomain = \"/\"\npackages = [\"{}\"]\n",
                stream::host(client),
                stream::TYPE
            )
        });
        registry.apply(&format!("framework = \"acme\"\n{}", hosts.collect::<String>()));
        let managers = registry.managers().iter().map(|manager| manager.listen().into()).collect();
        let stream = Stream::start(registry.console_identity(), managers);
        Self { registry, stream }
    }

    /// Waits until edits have gone on for a while; gives the longest gap between two meanwhile.
    fn usual_gap(&self) -> Duration {
        let flows = self.stream.count() + stream::CLIENTS * 10;
        wait_for("edits", || (self.stream.count() >= flows).then_some(()));
        let began = Instant::now();
        std::thread::sleep(BESIDE);
        self.stream.longest_gap(began, Instant::now())
    }

    /// Makes the manager on this host the primary; gives what the console says.
    fn promote(&self, host: &str, how: &str) -> String {
        output(&mut self.registry.console(&format!("promote {host} --output json {how}")))
    }

    /// The primary in a round of this number, and the manager that is promoted in it.
    fn turn(&self, round: usize) -> (usize, usize) {
        let managers = self.registry.managers().len();
        (round % managers, (round + 1) % managers)
    }
}

/// The primary hands over, again and again, from one manager to the next.
fn planned(rounds: usize) {
    let edited = Edited::begin();
    let (mut gaps, mut usual, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (from, to) = edited.turn(round);
        usual.push(edited.usual_gap());
        let began = Instant::now();
        said.push(edited.promote(edited.registry.managers()[to].host(), ""));
        std::thread::sleep(BESIDE);
        gaps.push(edited.stream.longest_gap(began, Instant::now()));
        edited.registry.wait_until_counts(edited.registry.managers()[from].host());
    }
    let (gaps, usual) = (Samples::new(gaps), Samples::new(usual));
    let said = Samples::new(said.iter().map(|answer| pause_of(answer)));
    let longest = gaps.percentile(1.0);
    show("planned: longest time without an accepted edit", &gaps, "200 ms", longest <= PLANNED);
    beside("planned: as the command says it", &said);
    beside("the longest of an undisturbed second", &usual);
    beside("median beside median", format!("{:.1}", ratio(gaps.median(), usual.median())));
}

/// The pause that a planned promotion says, as JSON.
fn pause_of(answer: &str) -> Duration {
    let (_, rest) = answer.split_once("\"pause_ms\":").unwrap_or_else(|| panic!("no pause in {answer}"));
    let number = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap();
    Duration::from_millis(number.parse().unwrap_or_else(|e| panic!("{e}: {answer}")))
}

/// The primary is killed, and the command that replaces it is given at once.
fn forced(rounds: usize) {
    let mut edited = Edited::begin();
    let (mut took, mut commands, mut looks) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let (from, to) = edited.turn(round);
        edited.usual_gap();
        looks.push(edited.look());
        let lineage = edited.stream.last().position.lineage;
        let host = edited.registry.managers()[to].host().to_owned();
        edited.registry.manager(from).kill9();
        let began = Instant::now();
        edited.promote(&host, "--force --reason benchmark --yes acme");
        commands.push(began.elapsed());
        let first = wait_for("an accepted edit", || edited.stream.first_after(began, lineage));
        took.push(first - began);
        edited.registry.manager(from).launch();
        edited.registry.managers()[from].wait_until_ready();
        let host = edited.registry.managers()[from].host().to_owned();
        edited.registry.wait_until_counts(&host);
    }
    let (took, looks) = (Samples::new(took), Samples::new(looks));
    show("forced: command to the first accepted edit", &took, "1 s", took.percentile(1.0) <= FORCED);
    beside("forced: the command", Samples::new(commands));
    beside("the command manager list, nothing being wrong", &looks);
    beside("median beside median", format!("{:.1}", ratio(took.median(), looks.median())));
}

impl Edited {
    /// How long a command takes that only looks.
    fn look(&self) -> Duration {
        let began = Instant::now();
        output(&mut self.registry.console("manager list"));
        began.elapsed()
    }
}
