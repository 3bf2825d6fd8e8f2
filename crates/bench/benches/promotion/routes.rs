//! Routes while every registry manager is dead.

use crate::registry;
use echelon_bench::report::{beside, ratio, show};
use echelon_bench::running::wait_for;
use echelon_bench::{Registry, Samples, http, service};
use echelon_client::blocking::LocalAgent;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Callers side by side.
const CALLERS: usize = 8;

/// Requests in each way and round, with the managers alive and with them dead.
const REQUESTS: usize = 2_400;

const TYPE: &str = "command-control";

/// How callers find their manager.
#[derive(Clone, Copy)]
enum Way {
    Api,
    HandOver,
    Forwarder,
}

const WAYS: [(&str, Way); 3] =
    [("the agent's API", Way::Api), ("hand-over", Way::HandOver), ("a forwarder", Way::Forwarder)];

/// Where callers go.
struct Doors {
    api: PathBuf,
    relay: SocketAddr,
}

/// Answered requests with how long each took, and how many were not.
#[derive(Default)]
struct Figures {
    took: Vec<Duration>,
    failed: usize,
}

pub(crate) fn with_every_manager_dead(rounds: usize) {
    let (service, mut registry) = (service::start(), registry());
    let relay = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _agent = registry.forwarding(TYPE, service, relay);
    let doors = Doors { api: registry.path("agent-asker/agent.sock"), relay };
    let mut figures: [[Figures; 2]; 3] = Default::default();
    for _ in 0..rounds {
        for dead in [false, true] {
            if dead {
                (0..registry.managers().len()).for_each(|at| registry.manager(at).kill9());
            }
            for ((_, way), figures) in WAYS.iter().zip(&mut figures) {
                doors.call(*way, &mut figures[usize::from(dead)]);
            }
        }
        revive(&mut registry);
    }
    for ((name, _), [alive, dead]) in WAYS.iter().zip(figures) {
        let (asked, failed) = (dead.took.len() + dead.failed, dead.failed);
        assert_eq!(alive.failed, 0, "requests failed with nothing wrong");
        let (alive, dead) = (Samples::new(alive.took), Samples::new(dead.took));
        let figure = format!("{} of {asked}; {dead}", asked - failed);
        show(&format!("every manager dead: answered by {name}"), figure, "100 %", failed == 0);
        beside("the same, managers alive", &alive);
        beside("median beside median", format!("{:.2}", ratio(dead.median(), alive.median())));
    }
}

fn revive(registry: &mut Registry) {
    (0..registry.managers().len()).for_each(|at| registry.manager(at).launch());
    registry.managers().iter().for_each(|manager| manager.wait_until_ready());
    registry.managers()[0].wait_until_primary();
    let api = registry.path("agent-asker/agent.sock");
    wait_for("the agent to have a registry manager again", || {
        let mut caller = http::Caller::connect(&api, &format!("/v1/routes/{TYPE}")).ok()?;
        let (_, body) = caller.ask().ok()?;
        String::from_utf8_lossy(body).contains("\"source\":\"manager\"").then_some(())
    });
}

impl Doors {
    /// All requests of one way and round.
    fn call(&self, way: Way, figures: &mut Figures) {
        let caller = || {
            let local = LocalAgent::at(&self.api);
            let one = |_| {
                let began = Instant::now();
                (self.is_answered(way, &local), began.elapsed())
            };
            (0..REQUESTS / CALLERS).map(one).collect::<Vec<_>>()
        };
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
            for (answered, took) in callers.into_iter().flat_map(|caller| caller.join().unwrap()) {
                match answered {
                    true => figures.took.push(took),
                    false => figures.failed += 1,
                }
            }
        });
    }

    fn is_answered(&self, way: Way, local: &LocalAgent) -> bool {
        match way {
            Way::Api => self.names_the_manager().unwrap_or(false),
            Way::HandOver => {
                local.connect(&TYPE.parse().unwrap()).is_ok_and(|c| service::answers_on(c.stream))
            }
            Way::Forwarder => service::answers(self.relay),
        }
    }

    /// Whether the route has the manager that there is.
    fn names_the_manager(&self) -> std::io::Result<bool> {
        let mut caller = http::Caller::connect(&self.api, &format!("/v1/routes/{TYPE}"))?;
        let (status, body) = caller.ask()?;
        Ok(status == 200 && String::from_utf8_lossy(body).contains("\"chosen\":{\"host\":\"near\""))
    }
}
