//! Starting a lab.

use crate::descriptors;
use crate::directory::Directory;
use crate::error::StartError;
use crate::host_agent::HostAgent;
use crate::lab::{Lab, millis};
use crate::layout::Layout;
use crate::registry::Registry;
use crate::script::Names;
use crate::stub::Stub;
use echelon_core::name::{FrameworkName, HostName, ManagerType};
use echelon_identity::JoinToken;
use echelon_topology::Topology;
use registry_agent::{AgentConfig, EnrolOptions, Forward, Listen, enroll};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Agents that are enrolled, and then started, at once. Each step is a handshake and a few commits: some
/// waits of one overlap with the work of others, and more than these would only wait for each other.
const AT_ONCE: usize = 16;

/// How long the start of one agent may keep the next waiting: a snapshot takes some milliseconds, a first
/// datagram that is lost a third of a second.
const REPLICA_LIMIT: Duration = Duration::from_secs(2);

/// How long the agents may take, once they run, until all of them hold what the registry holds. Ten
/// thousand do so in less; whoever waits longer wants to know.
const SYNC_LIMIT: Duration = Duration::from_secs(60);

/// How often it is looked at whether they do.
const SYNC_POLL: Duration = Duration::from_millis(10);

/// How a lab is started.
#[derive(Default)]
pub struct Options {
    /// Where the state of everything is kept, and stays; in a temporary directory that is removed in the
    /// end where there is none.
    pub keep: Option<PathBuf>,
    /// Told how far the start has come.
    pub progress: Option<Box<dyn Fn(Progress) + Send + Sync>>,
}

/// How far the start has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The registry manager runs and holds the topology.
    Registry,
    /// So many hosts of so many are enrolled.
    Enrolled(usize, usize),
    /// So many agents of so many run.
    Agents(usize, usize),
    /// So many agents of so many hold what the registry holds.
    InSync(usize, usize),
}

/// What was started, where, and how long it took.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Started {
    /// The framework.
    pub framework: FrameworkName,
    /// How many hosts, each with an agent.
    pub hosts: usize,
    /// How many managers, each with a stub.
    pub managers: usize,
    /// The host of the registry manager.
    pub manager: HostName,
    /// Why that one.
    pub why: String,
    /// Where the registry manager listens.
    pub listen: SocketAddr,
    /// Where the state of everything is; `manager/console` in it is the identity of a console.
    pub directory: PathBuf,
    /// What was left out.
    pub notes: Vec<String>,
    /// From the beginning until the registry held the topology.
    pub registry_ms: f64,
    /// From then on until every host was enrolled.
    pub enrol_ms: f64,
    /// From then on until every agent ran.
    pub agents_ms: f64,
    /// From then on until every agent held what the registry held.
    pub sync_ms: f64,
    /// From the beginning to the end.
    pub total_ms: f64,
}

impl Lab {
    /// Starts everything of a topology, and returns once every agent holds what the registry holds. Must
    /// run inside a tokio runtime.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(topology: Topology, options: Options) -> Result<Self, StartError> {
        let began = Instant::now();
        let progress = |at| options.progress.as_ref().into_iter().for_each(|tell| tell(at));
        let mut layout = Layout::of(topology)?;
        let mut names = Names::of(&layout.topology);
        names.add_host(layout.manager.host.clone());
        let (hosts, types) = (layout.topology.hosts.len(), names.types());
        descriptors::ensure(hosts, types.len(), layout.stubs.len())?;
        let directory = Directory::new(options.keep.as_deref())?;
        let token = CancellationToken::new();
        let _shutdown = token.clone().drop_guard();

        let stubs = start_stubs(&mut layout)?;
        let registry = Registry::start(&directory.manager(), &layout, &token).await?;
        let join = registry.fill(&layout).await?;
        let filled = began.elapsed();
        progress(Progress::Registry);

        let plan = Plan { registry: &registry, directory: &directory, token: &token, join: &join };
        let planned = plan.agents(&layout, &types.into_iter().collect::<Vec<_>>());
        // Enrolment first, all of it: agents that run already have every newcomer to take in.
        let tell = |done| progress(Progress::Enrolled(done, hosts));
        let agents = each(planned.into_iter().map(Planned::enrol), tell).await?;
        let enrolled = began.elapsed();
        let tell = |done| progress(Progress::Agents(done, hosts));
        let agents = each(agents.into_iter().map(up), tell).await?;
        let agents = agents.into_iter().map(|agent| (agent.name().clone(), agent)).collect();
        let running = began.elapsed();
        let mut started = Started {
            framework: layout.topology.framework.clone(),
            hosts,
            managers: stubs.len(),
            manager: layout.manager.host.clone(),
            why: layout.manager.why.to_string(),
            listen: registry.addr(),
            directory: directory.path().to_owned(),
            notes: layout.notes.clone(),
            registry_ms: millis(filled),
            enrol_ms: millis(enrolled.saturating_sub(filled)),
            agents_ms: millis(running.saturating_sub(enrolled)),
            sync_ms: 0.0,
            total_ms: 0.0,
        };
        let fault = Mutex::default();
        let mut lab =
            Self { names, registry, agents, stubs, started: started.clone(), fault, _shutdown, directory };
        lab.wait_for_sync(progress).await?;
        let total = began.elapsed();
        started.sync_ms = millis(total.saturating_sub(running));
        started.total_ms = millis(total);
        lab.started = started;
        Ok(lab)
    }
}

/// Starts every stub, and records where those listen that had to move.
fn start_stubs(layout: &mut Layout) -> Result<BTreeMap<(HostName, ManagerType), Stub>, StartError> {
    let mut stubs = BTreeMap::new();
    for place in layout.stubs.clone() {
        let stub = Stub::start(&place)?;
        if stub.addr() != place.listen.addr {
            layout.moved(&place.host, &place.ty, stub.addr());
        }
        stubs.insert((place.host, place.ty), stub);
    }
    Ok(stubs)
}

/// An agent that is to be enrolled and started.
struct Planned {
    enrol: EnrolOptions,
    agent: Arc<HostAgent>,
}

/// What all agents have in common.
struct Plan<'a> {
    registry: &'a Registry,
    directory: &'a Directory,
    token: &'a CancellationToken,
    join: &'a JoinToken,
}

impl Plan<'_> {
    fn agents(&self, layout: &Layout, types: &[ManagerType]) -> Vec<Planned> {
        let hosts = layout.topology.hosts.iter().zip(0..);
        hosts.map(|(host, number)| self.agent(&host.name, number, types)).collect()
    }

    fn agent(&self, name: &HostName, number: usize, types: &[ManagerType]) -> Planned {
        let (host, managers) = (name.as_str(), vec![self.registry.endpoint()]);
        let forward = |(ty, type_number): (&ManagerType, usize)| {
            let path = self.directory.forward((host, number), (ty.as_str(), type_number));
            Forward { ty: ty.clone(), listen: Listen::Unix(path) }
        };
        let config = AgentConfig {
            managers: managers.clone(),
            api: vec![Listen::Unix(self.directory.api(host, number))],
            api_writers: Default::default(),
            forwards: types.iter().zip(0..).map(forward).collect(),
            // The APIs of all hosts are in one directory.
            direct: false,
            // Hundreds of agents in one process are to share its threads.
            forward_threads: 0,
            // Whoever writes `agent down` wants to see what happens without it, not how it says goodbye.
            stop_grace: Duration::ZERO,
            ..AgentConfig::new(self.directory.agent(host))
        };
        let enrol = EnrolOptions {
            state: config.state.clone(),
            managers,
            host: name.clone(),
            domain: None,
            token: self.join.clone(),
        };
        Planned { enrol, agent: Arc::new(HostAgent::new(name.clone(), config, self.token.clone())) }
    }
}

impl Planned {
    async fn enrol(self) -> Result<Arc<HostAgent>, StartError> {
        let host = self.enrol.host.clone();
        enroll(self.enrol).await.map_err(|source| StartError::Enrol { host, source })?;
        Ok(self.agent)
    }
}

/// Starts an agent and gives it time to get its replica, so that handshakes and snapshots of hundreds do
/// not get into each other's way. One that is slower than that has none yet and gets it later.
async fn up(agent: Arc<HostAgent>) -> Result<Arc<HostAgent>, StartError> {
    agent.up().await?;
    let deadline = Instant::now() + REPLICA_LIMIT;
    while !agent.has_replica() && Instant::now() < deadline {
        tokio::time::sleep(SYNC_POLL).await;
    }
    Ok(agent)
}

/// Does one piece of work for each agent, [`AT_ONCE`] at a time, and tells how many are done.
async fn each<F>(
    work: impl Iterator<Item = F>,
    tell: impl Fn(usize),
) -> Result<Vec<Arc<HostAgent>>, StartError>
where
    F: Future<Output = Result<Arc<HostAgent>, StartError>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut under_way = JoinSet::new();
    for one in work {
        let places = Arc::clone(&places);
        under_way.spawn(async move {
            let _place = places.acquire_owned().await.map_err(|_| StartError::CutOff)?;
            one.await
        });
    }
    let mut agents = Vec::with_capacity(under_way.len());
    while let Some(done) = under_way.join_next().await {
        agents.push(done.map_err(|_| StartError::CutOff)??);
        tell(agents.len());
    }
    Ok(agents)
}

impl Lab {
    /// How many agents hold what the registry manager holds, by their own replicas; none while that is
    /// down.
    pub async fn agents_in_sync(&self) -> Option<usize> {
        let digest = self.registry.view_digest().await?;
        Some(self.agents.values().filter(|agent| agent.holds(digest)).count())
    }

    async fn wait_for_sync(&self, progress: impl Fn(Progress)) -> Result<(), StartError> {
        let (began, hosts) = (Instant::now(), self.agents.len());
        loop {
            let in_sync = self.agents_in_sync().await.unwrap_or_default();
            progress(Progress::InSync(in_sync, hosts));
            if in_sync == hosts {
                return Ok(());
            }
            if began.elapsed() >= SYNC_LIMIT {
                return Err(StartError::NotInSync { in_sync, hosts, waited: SYNC_LIMIT });
            }
            tokio::time::sleep(SYNC_POLL).await;
        }
    }
}
