//! One agent: what it is started with, what it consists of, how it ends.

use crate::alarms::Alarms;
use crate::announce::Announcer;
use crate::api::ApiWriters;
use crate::check::{HostChecks, Supervisor};
use crate::clock::Clock;
use crate::connector::Connector;
use crate::dialer::Parts;
use crate::doors::Doors;
use crate::forward::{self, Forwarder};
use crate::http::HttpForwarder;
use crate::inheritance::Inheritance;
use crate::listen::{BindError, Forward, Listen, Places};
use crate::metrics::Metrics;
use crate::on_change::{OnChanges, Reactions};
use crate::prober::Prober;
use crate::record::{EnrolledAs, IDENTITY, RecordError};
use crate::registry::{
    Identity, IdentityError, Keeper, KeeperError, Link, ManagerProbe, Opened, UplinkParts, source_chain,
};
use crate::router_task::RouterTask;
use crate::routes::Routes;
use crate::self_watch;
use crate::status::{AgentStatus, Subject};
use crate::takeover::{Predecessor, Succession, TakeOverError};
use crate::tenure::Tenure;
use arc_swap::ArcSwap;
use echelon_core::endpoint::Endpoint;
use echelon_core::name::ManagerType;
use echelon_daemon::{Activated, DrainError, Exit, StateDir, StateDirError, Tasks};
use echelon_identity::IdentityDirectory;
use echelon_identity::directory::DirectoryError;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info, info_span};

/// How long an agent that ends leaves open connections, where nobody says otherwise.
pub const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);

/// The longest that open connections are left by an agent that ends where the service manager keeps its sockets open:
/// callers wait in their queues for the next one, which is not started before.
const ACTIVATED_STOP_GRACE: Duration = Duration::from_millis(250);

/// Threads for forwarders where nobody says otherwise: two, or one on a machine with a single core. Two carry
/// what a network card can, and a host has other work than to forward.
pub fn default_forward_threads() -> usize {
    forward::default_threads()
}

/// What an agent is started with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentConfig {
    /// Its state directory, as enrolment made it.
    pub state: PathBuf,
    /// Addresses of first contact; where there is none, those that enrolment kept.
    pub managers: Vec<Endpoint>,
    /// Where its local API listens.
    pub api: Vec<Listen>,
    /// Who may announce packages through unix sockets of the API, besides root and the user of this process.
    pub api_writers: ApiWriters,
    /// Its forwarders.
    pub forwards: Vec<Forward>,
    /// Its forwarders for HTTP, which lead each request to the nearest manager.
    pub http_forwards: Vec<Forward>,
    /// Whether programs are handed connections directly, on `direct.sock` beside each unix socket of the API.
    pub direct: bool,
    /// How its host's own packages are checked, where that is not as the registry says.
    pub checks: HostChecks,
    /// What its host does when a route leads elsewhere.
    pub on_change: OnChanges,
    /// Threads that forwarders and the direct hand-over have for themselves; with 0 they work on the runtime that the agent is
    /// started on. [`default_forward_threads`] for an agent that has a process of its own.
    pub forward_threads: usize,
    /// Whether open connections to managers that are known to be dead are closed, so that callers reconnect.
    pub close_dead: bool,
    /// How long open connections are left when it ends.
    pub stop_grace: Duration,
}

impl AgentConfig {
    /// An agent with this state directory and nothing besides: no API, no forwarders, the addresses of first
    /// contact that enrolment kept. Enough for a program that only asks [`Handle::routes`] and
    /// [`Handle::connector`].
    ///
    /// ```
    /// # use registry_agent::AgentConfig;
    /// let config = AgentConfig {
    ///     forwards: vec!["command-control=127.0.0.1:7400".parse().unwrap()],
    ///     ..AgentConfig::new("/var/lib/echelon/agent")
    /// };
    /// # assert!(config.direct && config.api.is_empty());
    /// ```
    pub fn new(state: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            managers: Vec::new(),
            api: Vec::new(),
            api_writers: ApiWriters::default(),
            forwards: Vec::new(),
            http_forwards: Vec::new(),
            direct: true,
            checks: HostChecks::new(),
            on_change: OnChanges::default(),
            forward_threads: 0,
            close_dead: true,
            stop_grace: DEFAULT_STOP_GRACE,
        }
    }

    /// The keys that differ from `other` and cannot change while an agent runs.
    fn fixed_unlike(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("state", self.state != other.state),
            ("managers", self.managers != other.managers),
            ("forward_threads", self.forward_threads != other.forward_threads),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

/// Settings that an agent did not take over while it runs. Everything else is in force.
#[derive(Debug, Default)]
pub struct Pending {
    /// Their keys, where they take a restart.
    pub restart: Vec<&'static str>,
    /// What cannot be listened at.
    pub failed: Vec<BindError>,
}

/// Why an agent did not start. Nothing of it is running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// Nobody has enrolled this host.
    #[error("{} holds no identity; enrol this host first: registry-agent enroll --manager ADDR:PORT", .0.display())]
    NotEnrolled(PathBuf),
    /// What enrolment left.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The identity.
    #[error("the identity in {} cannot be used", path.display())]
    Identity {
        /// The state directory.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The replica.
    #[error("the replica in {} cannot be used", path.display())]
    Replica {
        /// The state directory.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The announcements.
    #[error("what this host has announced cannot be read from {}", path.display())]
    Announcements {
        /// The state directory.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A forwarder or the API cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket of the service manager is of no use.
    #[error("the service manager's socket {name} cannot be used; correct the socket unit")]
    Socket {
        /// What it is called there.
        name: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The process that runs already keeps what it has.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
}

/// Starts agents.
#[derive(Debug)]
pub struct Agent;

/// A running agent. Dropping it does not stop it; [`Handle::stop`] and the token it was started with do.
pub struct Handle {
    subject: Arc<Subject>,
    connector: Connector,
    own: OwnSettings,
    tasks: Tasks,
    /// What is in force.
    settings: Arc<Mutex<AgentConfig>>,
    successor: Arc<OnceLock<u32>>,
    /// Kept locked until all has ended.
    _state: Arc<StateDir>,
}

/// Settings of the host's own that tasks follow.
struct OwnSettings {
    checks: watch::Sender<Arc<HostChecks>>,
    on_change: watch::Sender<Arc<OnChanges>>,
}

impl Agent {
    /// Starts the agent of the host whose state directory `config` names. It routes at once with the
    /// replica that it finds there, and looks for a registry manager. It ends when `shutdown` is
    /// cancelled, or with [`Handle::stop`]. Several can run in one process.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub async fn start(config: AgentConfig, shutdown: &CancellationToken) -> Result<Handle, StartError> {
        Self::start_with(config, Inheritance::default(), shutdown).await
    }

    /// [`Self::start`] with what is open already. A process that is taken over from lets callers in until this agent
    /// does, and then only finishes what is under way there.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running, and a process that was to be taken over from goes on as it was.
    pub async fn start_with(
        config: AgentConfig,
        inheritance: Inheritance,
        shutdown: &CancellationToken,
    ) -> Result<Handle, StartError> {
        let Inheritance { sockets, mut predecessor } = inheritance;
        match (begin(config, sockets, predecessor.as_mut(), shutdown).await, predecessor) {
            (Ok(agent), Some(predecessor)) => {
                predecessor.serving().await;
                Ok(agent)
            }
            (Err(error), Some(predecessor)) => {
                predecessor.fail(&source_chain(&error)).await;
                Err(error)
            }
            (begun, None) => begun,
        }
    }
}

impl Handle {
    /// The routes.
    pub fn routes(&self) -> &Routes {
        &self.subject.routes
    }

    /// Connects to managers from within this process, with no socket of the agent between.
    pub fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The forwarders, with the ports that were given for 0.
    pub fn forwards(&self) -> Vec<Forward> {
        let forward = |f: &Forwarder| Forward { ty: f.ty().clone(), listen: f.at().clone() };
        self.subject.doors.forwarders().iter().map(forward).collect()
    }

    /// The forwarders for HTTP, with the ports that were given for 0.
    pub fn http_forwards(&self) -> Vec<Forward> {
        let forward = |f: &HttpForwarder| Forward { ty: f.ty().clone(), listen: f.at().clone() };
        self.subject.doors.http_forwarders().iter().map(forward).collect()
    }

    /// Where callers of this type connect; none without such a forwarder.
    pub fn forward(&self, ty: &ManagerType) -> Option<Listen> {
        self.forwards().into_iter().find(|f| f.ty == *ty).map(|f| f.listen)
    }

    /// Where the local API listens, with the ports that were given for 0.
    pub fn apis(&self) -> Vec<Listen> {
        self.subject.doors.apis()
    }

    /// Takes over other settings while the agent runs: what listens, how packages are checked, the grace at its end.
    /// What stays the same goes on undisturbed; connections through a forwarder that is no more are drained. Gives
    /// what is not in force; calling again tries again.
    pub async fn reload(&self, config: AgentConfig) -> Pending {
        let mut settings = self.settings.lock().await;
        let restart = config.fixed_unlike(&settings);
        self.set_checks(config.checks.clone());
        self.set_on_change(config.on_change.clone());
        let failed = self.subject.doors.set(&config, &self.subject).await;
        self.subject.api_writers.store(Arc::new(config.api_writers.clone()));
        let (state, managers) = (settings.state.clone(), settings.managers.clone());
        *settings = AgentConfig { state, managers, forward_threads: settings.forward_threads, ..config };
        Pending { restart, failed }
    }

    /// Has this host's own packages checked so from now on, and all others as the registry says. Checks that stay
    /// the same go on as they are.
    pub fn set_checks(&self, checks: HostChecks) {
        replace(&self.own.checks, checks);
    }

    /// Has this done from now on when a route leads elsewhere. Rules that stay the same go on: what they could not tell
    /// is tried again at once, and their templates are read again.
    pub fn set_on_change(&self, rules: OnChanges) {
        self.own.on_change.send_replace(Arc::new(rules));
    }

    /// How the agent is.
    pub fn status(&self) -> AgentStatus {
        self.subject.status()
    }

    /// Its alarms, to which whoever embeds the agent may add.
    pub fn alarms(&self) -> &Alarms {
        &self.subject.alarms
    }

    /// Cancelled once the agent is to end: because it was told to, or because one of its tasks panicked.
    pub fn ending(&self) -> CancellationToken {
        self.tasks.shutdown()
    }

    /// The process that has taken over from this agent, which then only finishes what is under way; none where nobody
    /// has.
    pub fn successor(&self) -> Option<u32> {
        self.successor.get().copied()
    }

    /// Ends the agent: no new callers at once, the open connections are given the grace of its
    /// configuration, or a quarter of a second where the service manager keeps the sockets open. The exit code tells whether any of its tasks panicked.
    ///
    /// # Errors
    /// Names what had to be cut off. The agent has ended all the same.
    pub async fn stop(self) -> Result<Exit, DrainError> {
        let grace = self.settings.lock().await.stop_grace;
        let keeps_waiting = self.successor().is_none() && self.subject.doors.places().are_activated();
        self.tasks.drain(if keeps_waiting { grace.min(ACTIVATED_STOP_GRACE) } else { grace }).await?;
        Ok(self.tasks.exit())
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("forwards", &self.forwards())
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}

async fn begin(
    config: AgentConfig,
    sockets: Vec<Activated>,
    mut predecessor: Option<&mut Predecessor>,
    shutdown: &CancellationToken,
) -> Result<Handle, StartError> {
    let state = match predecessor.as_mut().and_then(|predecessor| predecessor.lock()) {
        Some(lock) => StateDir::adopt(&config.state, lock)?,
        None => StateDir::open(&config.state, false)?,
    };
    let places = Inheritance::places(sockets, predecessor.as_deref_mut())?;
    let enrolled = enrolled(&config.state)?;
    let span = info_span!("agent", host.name = %enrolled.host);
    let tasks = span.in_scope(|| Tasks::below(shutdown));
    let ground = Ground { state, places: Places::given(places), enrolled, predecessor };
    let started = start(config, ground, &tasks).instrument(span).await;
    if started.is_err() {
        // What had begun has nothing to finish.
        let _ = tasks.drain(Duration::ZERO).await;
    }
    started
}

/// What an agent is started on.
struct Ground<'a> {
    state: StateDir,
    places: Places,
    enrolled: EnrolledAs,
    predecessor: Option<&'a mut Predecessor>,
}

async fn start(config: AgentConfig, ground: Ground<'_>, tasks: &Tasks) -> Result<Handle, StartError> {
    let Ground { state, places, enrolled, predecessor } = ground;
    let (clock, metrics) = (Clock::start(), Arc::new(Metrics::new()));
    let (routes, inputs) = Routes::new(clock);
    let (identity, first) = identity(&config)?;
    let alarms = Alarms::new(clock);
    let opened = open_replica(&config.state, clock, &routes, &metrics, &alarms).await?;
    let Opened { mut keeper, incarnation, written } = opened;
    let announcer = open_announcer(&config.state, &routes).await?;
    Doors::reserve(&places, &config)?;
    if let Some(predecessor) = predecessor {
        predecessor.ready().await?;
        state.claim()?;
        places.cede(false);
    }

    let link = Arc::new(Link::new(clock, written));
    let probe = ManagerProbe { identity: Arc::clone(&identity), link: Arc::clone(&link) };
    let prober = Prober::new(routes.clone(), tasks.clone(), Arc::clone(&metrics), Some(probe));
    let router = RouterTask::new(clock, routes.clone(), prober.clone());
    tasks.spawn("router", router.run(inputs, tasks.shutdown()));

    let (checks, own) = watch::channel(Arc::new(config.checks.clone()));
    let (supervisor, health) = Supervisor::new(routes.clone(), tasks.clone(), Arc::clone(&metrics), own);
    tasks.spawn("checks", supervisor.run(tasks.shutdown()));

    let (on_change, rules) = watch::channel(Arc::new(config.on_change.clone()));
    let reactions =
        Reactions::new(clock, routes.clone(), tasks.clone(), Arc::clone(&metrics), alarms.clone());
    tasks.spawn("on-changes", reactions.run(rules, tasks.shutdown()));

    announcer.see(keeper.place(), None).await;
    announcer.publish().await;
    // What is on disk is routed with from the first caller on; the answer says that it has been taken in.
    keeper.publish().await;
    if let Err(error) = routes.want(&ManagerType::registry()).await {
        info!("No routes yet: {error}");
    }

    let (places, metrics_too) = (Arc::new(places), Arc::clone(&metrics));
    let parts = Parts { routes: routes.clone(), tasks: tasks.clone(), metrics: metrics_too, places };
    let connector = Connector::new(parts.clone());
    let doors = Doors::new(parts, connector.clone(), config.forward_threads);
    let uplink = UplinkParts {
        clock,
        routes: routes.clone(),
        identity: Arc::clone(&identity),
        link: Arc::clone(&link),
        metrics: Arc::clone(&metrics),
        alarms: alarms.clone(),
        health: health.clone(),
        announcer: announcer.clone(),
        name: enrolled.host.clone(),
        incarnation,
        first,
    };
    let now_incarnation = Arc::new(AtomicU64::new(incarnation));
    let subject = Arc::new(Subject {
        clock,
        started: clock.now(),
        incarnation: Arc::clone(&now_incarnation),
        enrolled,
        routes,
        link,
        identity,
        health,
        announcer,
        api_writers: ArcSwap::from_pointee(config.api_writers.clone()),
        doors,
        metrics,
        alarms,
        tasks: tasks.clone(),
    });
    if let Some(error) = subject.doors.set(&config, &subject).await.pop() {
        return Err(error.into());
    }
    tasks.spawn("self-watch", self_watch::run(Arc::clone(&subject), tasks.shutdown()));
    subject.doors.places().settle();
    let tenure = Tenure::new(uplink, config.state.clone(), tasks.clone(), prober, now_incarnation);
    tenure.begin(keeper);
    info!(incarnation, forwarders = config.forwards.len(), "The agent runs");

    let (state, successor) = (Arc::new(state), Arc::new(OnceLock::new()));
    let settings = Arc::new(Mutex::new(config));
    let succession = Succession {
        subject: Arc::clone(&subject),
        tenure,
        state: Arc::clone(&state),
        settings: Arc::clone(&settings),
        successor: Arc::clone(&successor),
    };
    tasks.spawn("succession", succession.run(tasks.shutdown()));
    let (own, tasks) = (OwnSettings { checks, on_change }, tasks.clone());
    Ok(Handle { subject, connector, own, tasks, settings, successor, _state: state })
}

/// Hands a setting on where it is another one.
fn replace<T: PartialEq>(setting: &watch::Sender<Arc<T>>, new: T) {
    setting.send_if_modified(|old| {
        let changed = **old != new;
        *old = Arc::new(new);
        changed
    });
}

fn enrolled(state: &Path) -> Result<EnrolledAs, StartError> {
    EnrolledAs::load(state)?.ok_or_else(|| StartError::NotEnrolled(state.to_owned()))
}

/// The identity, and the addresses of first contact.
fn identity(config: &AgentConfig) -> Result<(Arc<Identity>, Vec<Endpoint>), StartError> {
    let path = config.state.join(IDENTITY);
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| match () {
        () if !path.exists() => StartError::NotEnrolled(config.state.clone()),
        () => StartError::Identity { path: config.state.clone(), source },
    };
    let open = |path: &Path| -> Result<_, DirectoryError> {
        let directory = IdentityDirectory::open(path)?;
        let managers = match directory.load_managers() {
            Err(error) if error.is_not_found() => Vec::new(),
            managers => managers?,
        };
        Ok((directory, managers))
    };
    let (directory, kept) = open(&path).map_err(|e| fail(e.into()))?;
    let identity = Identity::open(directory).map_err(|e: IdentityError| fail(e.into()))?;
    let first = if config.managers.is_empty() { kept } else { config.managers.clone() };
    Ok((Arc::new(identity), first))
}

async fn open_announcer(state: &Path, routes: &Routes) -> Result<Announcer, StartError> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| StartError::Announcements {
        path: state.to_owned(),
        source,
    };
    let (path, routes) = (state.to_owned(), routes.clone());
    match tokio::task::spawn_blocking(move || Announcer::open(&path, routes)).await {
        Ok(opened) => opened.map_err(|e| fail(e.into())),
        Err(stopped) => Err(fail(stopped.into())),
    }
}

async fn open_replica(
    state: &Path,
    clock: Clock,
    routes: &Routes,
    metrics: &Arc<Metrics>,
    alarms: &Alarms,
) -> Result<Opened, StartError> {
    let fail = |source: Box<dyn std::error::Error + Send + Sync>| StartError::Replica {
        path: state.to_owned(),
        source,
    };
    let (path, routes, metrics) = (state.to_owned(), routes.clone(), Arc::clone(metrics));
    let alarms = alarms.clone();
    let opening = tokio::task::spawn_blocking(move || Keeper::open(&path, clock, routes, metrics, alarms));
    match opening.await {
        Ok(opened) => opened.map_err(|e: KeeperError| fail(e.into())),
        Err(stopped) => Err(fail(stopped.into())),
    }
}
