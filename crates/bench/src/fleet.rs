//! Many agents in this process: each a real one, with its own certificate, QUIC connection and SQLite file.

use crate::{Registry, output};
use echelon_core::endpoint::Endpoint;
use echelon_core::name::ManagerType;
use echelon_core::report::CandidateState;
use registry_agent::{Agent, AgentConfig, AgentStatus, Connector, EnrolOptions, Handle, RouteWatch, enroll};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The type that is edited.
pub const TYPE: &str = "command-control";

/// Managers in the view.
pub const MANAGERS: usize = 10;

/// Enrolled, and started, at a time.
const AT_ONCE: usize = 16;

/// How long agents may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Agents that run.
pub struct Fleet {
    agents: Vec<Handle>,
    token: CancellationToken,
}

/// When a new state was in force at an agent: at which one, and since when.
pub type InForce = (usize, Instant);

/// A topology with [`MANAGERS`] managers, a plain host, and as many hosts with an agent.
pub fn topology(agents: usize) -> String {
    let manager = |n: usize| {
        format!(
            "\n[[host]]\nname = \"manager-{n}\"\ndomain = \"/region\"\naddress = \"127.1.0.{}\"\npackages = [\"{TYPE}:7000\"]\n",
            n + 1
        )
    };
    let plain = "\n[[host]]\nname = \"plain\"\ndomain = \"/region\"\n".to_owned();
    let others = (0..MANAGERS).map(manager).chain([plain]);
    format!("framework = \"{}\"\n{}{}", crate::generate::FRAMEWORK, others.collect::<String>(), hosts(agents))
}

/// The agents' hosts in a topology, each in one of twenty domains below `/region`.
pub fn hosts(agents: usize) -> String {
    let host = |n: usize| format!("\n[[host]]\nname = \"agent-{n}\"\ndomain = \"/region/area-{}\"\n", n % 20);
    (0..agents).map(host).collect()
}

/// Enrols the agents of [`hosts`], which the registry must hold. Gives their state directories.
pub async fn enrol(registry: &Registry, agents: usize) -> Vec<PathBuf> {
    let token = output(&mut registry.console(&format!("token create --uses {agents} --ttl 1h")));
    let token: echelon_identity::JoinToken = token.trim().parse().unwrap();
    let enrol = |n: usize| {
        let state = registry.path(&format!("agent-{n}"));
        let options = EnrolOptions {
            state: state.clone(),
            managers: vec![Endpoint::from(registry.listen())],
            host: format!("agent-{n}").parse().unwrap(),
            domain: None,
            token: token.clone(),
        };
        async move {
            enroll(options).await.unwrap();
            state
        }
    };
    some_at_once((0..agents).map(enrol)).await
}

impl Fleet {
    /// Starts an agent in each of these directories, and waits until all are in sync.
    pub async fn start(states: &[PathBuf]) -> Self {
        let (begin, token) = (Instant::now(), CancellationToken::new());
        let start = |state: &PathBuf| {
            let (state, token) = (state.clone(), token.clone());
            async move {
                let agent = Agent::start(AgentConfig::new(state), &token).await.unwrap();
                agent.routes().want(&ty()).await.ok();
                agent
            }
        };
        let agents = some_at_once(states.iter().map(start)).await;
        let fleet = Self { agents, token };
        fleet.in_sync(begin, None).await;
        for agent in &fleet.agents {
            agent.routes().want(&ty()).await.unwrap();
        }
        fleet
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.agents.len()
    }

    /// What each agent connects by.
    pub fn connectors(&self) -> impl Iterator<Item = Connector> + '_ {
        self.agents.iter().map(|agent| agent.connector().clone())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.agents.is_empty()
    }

    /// Waits until every agent has a session, younger than `begin` where another was before, and all hold the
    /// same view; of at least this revision, where one is given. Gives the time since `begin`, and for how long
    /// at most an agent heard no registry manager meanwhile.
    pub async fn in_sync(&self, begin: Instant, revision: Option<u64>) -> (Duration, Duration) {
        let mut longest = Duration::ZERO;
        loop {
            let all: Vec<_> = self.agents.iter().map(Handle::status).collect();
            let age = all.iter().filter_map(|s| s.replica_age_ms).max().unwrap_or_default();
            longest = longest.max(Duration::from_millis(age));
            let since = u64::try_from(begin.elapsed().as_millis()).unwrap();
            let is_new = |s: &AgentStatus| {
                let session = s.session.as_ref().is_some_and(|session| session.age_ms <= since);
                session && s.at.as_ref().is_some_and(|at| revision.is_none_or(|r| at.revision >= r))
            };
            let digest = &all[0].view_digest;
            if all.iter().all(|s| is_new(s) && s.view_digest == *digest && digest.is_some()) {
                return (begin.elapsed(), longest);
            }
            let there = all.iter().filter(|s| is_new(s)).count();
            assert!(begin.elapsed() < PATIENCE, "{there} of {} agents are in sync", self.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Follows whether a manager is withdrawn: from now on every agent says so, by the route that it would
    /// answer with, as soon as that changes.
    pub fn follow(&self, manager: &str) -> mpsc::UnboundedReceiver<(InForce, bool)> {
        let (tell, told) = mpsc::unbounded_channel();
        for (number, agent) in self.agents.iter().enumerate() {
            let (mut watch, tell, manager) = (agent.routes().watch(ty()), tell.clone(), manager.to_owned());
            tokio::spawn(async move {
                let mut last = is_withdrawn(&mut watch, &manager).await;
                loop {
                    let now = is_withdrawn(&mut watch, &manager).await;
                    if now != last && tell.send(((number, Instant::now()), now)).is_err() {
                        return;
                    }
                    last = now;
                }
            });
        }
        told
    }

    /// Ends all.
    pub async fn stop(self) {
        self.token.cancel();
        let mut ending = JoinSet::new();
        for agent in self.agents {
            ending.spawn(agent.stop());
        }
        let _ = tokio::time::timeout(Duration::from_secs(10), ending.join_all()).await;
    }
}

async fn is_withdrawn(watch: &mut RouteWatch, manager: &str) -> bool {
    let route = watch.next().await;
    let entry = route.entries.iter().find(|e| e.candidate.manager.name.as_str() == manager);
    entry.is_some_and(|e| e.state == CandidateState::Withdrawn)
}

fn ty() -> ManagerType {
    TYPE.parse().unwrap()
}

async fn some_at_once<T: Send + 'static, F>(work: impl Iterator<Item = F>) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut under_way = JoinSet::new();
    for one in work {
        let places = Arc::clone(&places);
        under_way.spawn(async move {
            let _place = places.acquire_owned().await.unwrap();
            one.await
        });
    }
    under_way.join_all().await
}
