//! The lab's registry manager: a real one, with a real console's way to it.

use crate::layout::{Layout, Place};
use echelon_client::{CallError, ConnectError, ManagerClient};
use echelon_core::access::{Access, Token};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::digest::Digest;
use echelon_core::endpoint::Endpoint;
use echelon_core::id::{DomainId, HostId};
use echelon_core::limits::MAX_TOKEN_USES;
use echelon_core::message::EditAnswer;
use echelon_core::name::{DomainPath, HostName};
use echelon_core::position::Position;
use echelon_core::project::project;
use echelon_core::time::UnixMillis;
use echelon_daemon::{StateDir, StateDirError, Tasks};
use echelon_identity::directory::DirectoryError;
use echelon_identity::token::TokenError;
use echelon_identity::{IdentityDirectory, JoinToken};
use echelon_topology::DiffError;
use registry_manager::config::Config;
use registry_manager::init::{Init, InitError, init};
use registry_manager::paths::Paths;
use registry_manager::{Manager, StartError};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long the token works with which the agents enrol: they do so at once, in seconds.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// How long a manager's socket may take to be closed. One that takes longer is found in use by the next
/// start, which says so.
const CLOSED_LIMIT: Duration = Duration::from_secs(3);

/// How often it is looked at whether it is.
const CLOSED_POLL: Duration = Duration::from_millis(2);

/// How often another port is tried where the lab may choose: each time somebody else would have to take it
/// within milliseconds.
const TRIES: usize = 4;

/// The registry manager of a lab, running or not.
pub(crate) struct Registry {
    host: HostName,
    config: Config,
    shutdown: CancellationToken,
    running: Mutex<Option<Running>>,
    /// The digest of the view at a position: to make it anew takes a while.
    digest: Mutex<Option<(Position, Digest)>>,
    /// Kept locked as long as there is a lab, as by a manager of its own.
    _state: StateDir,
}

struct Running {
    manager: Manager,
    tasks: Tasks,
}

/// Why there is no registry manager. What was made of its state stays until the lab ends.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Its directory.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// It could not be made.
    #[error("the registry could not be made")]
    Init(#[from] InitError),
    /// What was made could not be removed, to be made anew.
    #[error("cannot remove {}", path.display())]
    Clean {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It does not start.
    #[error("the registry manager does not start at {addr}")]
    Start {
        /// Where it is to listen.
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: Box<StartError>,
    },
}

/// Why the registry does not hold the topology. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// The topology.
    #[error("the topology cannot be applied")]
    Diff(#[from] DiffError),
    /// The edit.
    #[error("the topology was not taken")]
    Edit(#[from] EditError),
    /// More hosts than one token enrols.
    #[error("the topology has {0} hosts: at most {MAX_TOKEN_USES} can enrol with the lab's one token")]
    TooManyHosts(usize),
    /// The trusted roots.
    #[error("the console's identity cannot be used")]
    Identity(#[from] DirectoryError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Why an edit was not made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The lab itself has ended it.
    #[error("the registry is down, and edits need it: write registry up first")]
    Down,
    /// The console's identity.
    #[error("the console's identity cannot be used")]
    Identity(#[from] DirectoryError),
    /// Nobody answers.
    #[error("the registry manager cannot be reached")]
    Connect(#[source] Box<ConnectError>),
    /// It was refused, or its answer got lost.
    #[error("the registry manager did not take the edit")]
    Call(#[source] Box<CallError>),
}

impl From<ConnectError> for EditError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Box::new(error))
    }
}

impl From<CallError> for EditError {
    fn from(error: CallError) -> Self {
        Self::Call(Box::new(error))
    }
}

impl Registry {
    /// Makes a registry in `state` and starts its manager, where the layout says or, where the lab chose
    /// that, at another port of the same address. It ends with `shutdown`.
    ///
    /// The address has to be known before the manager starts, since it is written down in the registry and
    /// in the console's identity; should somebody take it in that moment, all is made anew with another.
    pub(crate) async fn start(
        state: &Path,
        layout: &Layout,
        shutdown: &CancellationToken,
    ) -> Result<Self, RegistryError> {
        let place = layout.manager.listen;
        let mut listen = free_address(place);
        for _ in 1..TRIES {
            let registry = Self::make(state, layout, listen, shutdown)?;
            match registry.up().await {
                Err(RegistryError::Start { source, .. })
                    if place.movable && matches!(*source, StartError::Bind(_)) => {}
                done => return done.map(|()| registry),
            }
            drop(registry);
            let clean = std::fs::remove_dir_all(state);
            clean.map_err(|source| RegistryError::Clean { path: state.to_owned(), source })?;
            listen = free_address(Place { addr: SocketAddr::new(place.addr.ip(), 0), ..place });
        }
        let registry = Self::make(state, layout, listen, shutdown)?;
        registry.up().await.map(|()| registry)
    }

    fn make(
        state: &Path,
        layout: &Layout,
        listen: SocketAddr,
        shutdown: &CancellationToken,
    ) -> Result<Self, RegistryError> {
        let locked = StateDir::open(state, true)?;
        let host = layout.manager.host.clone();
        init(&Init {
            state: state.to_owned(),
            framework: layout.topology.framework.clone(),
            host: host.clone(),
            listen,
            advertise: listen.into(),
        })?;
        Ok(Self {
            host,
            config: Config::new(state, listen),
            shutdown: shutdown.clone(),
            running: Mutex::default(),
            digest: Mutex::default(),
            _state: locked,
        })
    }

    /// Starts the manager, unless it runs.
    pub(crate) async fn up(&self) -> Result<(), RegistryError> {
        let mut running = self.running.lock().await;
        if running.is_none() {
            let tasks = Tasks::below(&self.shutdown);
            let started = Manager::start(&self.config, tasks.clone()).await;
            let addr = self.config.listen;
            let manager = started.map_err(|e| RegistryError::Start { addr, source: Box::new(e) })?;
            *running = Some(Running { manager, tasks });
        }
        Ok(())
    }

    /// Ends the manager as abruptly as can be done inside one process: its tasks are cut off wherever they
    /// are, without a word to anybody. What the kernel would do for a process that dies, closing its
    /// socket and giving up the lock of its database, follows.
    pub(crate) async fn down(&self) {
        if let Some(Running { manager, tasks }) = self.running.lock().await.take() {
            // That they were cut off is what was wanted.
            let _ = tasks.drain(Duration::ZERO).await;
            let _ = manager.stop().await;
            self.wait_until_closed().await;
        }
    }

    /// Cuts off the manager's tasks; the rest follows with [`Self::down`], or with the process.
    pub(crate) async fn cut_off(&self) {
        if let Some(Running { tasks, .. }) = &*self.running.lock().await {
            let _ = tasks.drain(Duration::ZERO).await;
        }
    }

    /// The socket lives a little longer than the manager: until the last of its connections has been
    /// cleared away.
    async fn wait_until_closed(&self) {
        let deadline = Instant::now() + CLOSED_LIMIT;
        while UdpSocket::bind(self.config.listen).is_err() && Instant::now() < deadline {
            tokio::time::sleep(CLOSED_POLL).await;
        }
    }

    /// The host that it runs on.
    pub(crate) fn host(&self) -> &HostName {
        &self.host
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.config.listen
    }

    /// Where agents find it.
    pub(crate) fn endpoint(&self) -> Endpoint {
        self.config.listen.into()
    }

    /// The digest of the view that agents are to hold; none while it is down.
    pub(crate) async fn view_digest(&self) -> Option<Digest> {
        let registry = self.running.lock().await.as_ref()?.manager.registry();
        let position = registry.position();
        let mut known = self.digest.lock().await;
        if known.is_none_or(|(at, _)| at != position) {
            *known = Some((position, project(&registry).digest()));
        }
        known.map(|(_, digest)| digest)
    }

    /// Brings an empty registry to the topology, in one edit, and makes the token with which its hosts
    /// enrol.
    pub(crate) async fn fill(&self, layout: &Layout) -> Result<JoinToken, FillError> {
        let client = self.client().await?;
        let reading = client.read().await.map_err(EditError::from)?;
        let mut new_id = || HostId(Uuid::now_v7());
        let plan =
            echelon_topology::diff(&layout.topology, &reading.registry, Default::default(), &mut new_id)?;
        let token = JoinToken::generate(self.console()?.load_trust()?.root_hash())?;
        let create = create_token(&token, layout.topology.hosts.len())?;
        let changes = plan.changes.into_iter().chain([create]).collect();
        client.edit(change_set(changes), false).await.map_err(EditError::from)?;
        client.close().await;
        Ok(token)
    }

    /// Makes an edit as the console does.
    pub(crate) async fn edit(&self, change: Change) -> Result<EditAnswer, EditError> {
        if self.running.lock().await.is_none() {
            return Err(EditError::Down);
        }
        let client = self.client().await?;
        let answer = client.edit(change_set(vec![change]), false).await;
        client.close().await;
        Ok(answer?)
    }

    async fn client(&self) -> Result<ManagerClient, EditError> {
        Ok(ManagerClient::connect(&self.console()?, &[]).await?)
    }

    fn console(&self) -> Result<IdentityDirectory, DirectoryError> {
        IdentityDirectory::open(&Paths::of(&self.config.state).console())
    }
}

fn change_set(changes: Vec<Change>) -> ChangeSet {
    ChangeSet { request: echelon_client::new_request_id(), if_revision: None, allow_shrink: true, changes }
}

fn create_token(token: &JoinToken, hosts: usize) -> Result<Change, FillError> {
    let uses_left = u32::try_from(hosts).ok().filter(|n| *n <= MAX_TOKEN_USES);
    let row = Token {
        id: token.id,
        secret_hash: token.secret.hash(),
        access: Access::Agent,
        host: None,
        domain: DomainId::ROOT,
        allow_types: Default::default(),
        replace: false,
        expires: now() + TOKEN_TTL,
        uses_left: uses_left.ok_or(FillError::TooManyHosts(hosts))?,
    };
    Ok(Change::CreateToken { token: row, domain: DomainPath::root() })
}

/// The planned address or, where the lab chose it and it is taken, a free port of it.
fn free_address(place: Place) -> SocketAddr {
    let try_port = |port| UdpSocket::bind(SocketAddr::new(place.addr.ip(), port))?.local_addr();
    if !place.movable {
        return place.addr;
    }
    // Where nothing is free, starting the manager says so.
    try_port(place.addr.port()).or_else(|_| try_port(0)).unwrap_or(place.addr)
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
