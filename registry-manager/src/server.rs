//! A running manager.

mod certificate;
mod connections;
mod error;
mod shared;

pub(crate) use certificate::{own_credentials, renew};
pub(crate) use connections::{DENIED, LINK_ENDED, serve_manager};
pub use error::StartError;
pub(crate) use shared::{Inner, Shared};

use crate::alarms::Alarms;
use crate::config::{Config, HOST_CERTIFICATES};
use crate::hooks::{HookSettings, Hooks};
use crate::hub::Hub;
use crate::init::load_issuer;
use crate::journal::{self, Edits, Journal, LoadError, Queue};
use crate::limits::{
    ANNOUNCEMENT_INTERVAL, ANNOUNCEMENTS, BACKUPS, COPIES, DRAIN, ENROLMENTS, HISTORIES, JUDGE_INTERVAL,
    MAX_WATCHERS, PREVIEWS, RELEASE, STRANGERS_LOG,
};
use crate::links::{self, Links};
use crate::occasion::Occasion;
use crate::paths::Paths;
use crate::rates::Rates;
use crate::{alarms, copier, copies, drains, failure, http, left, record, removal, settle, witnesses};
use certificate::{fallback_name, renewal};
use connections::{STOPPING, accept, admission};
use echelon_core::id::{HostId, RequestId};
use echelon_core::member::{Input, Told};
use echelon_core::registry::Registry;
use echelon_daemon::{DrainError, Exit, Tasks};
use echelon_identity::{Credentials, IdentityDirectory, TrustBundle};
use echelon_store::RegistryStore;
use echelon_transport::{Endpoint, Role, Settings};
use error::identity_error;
use std::net::{SocketAddr, UdpSocket};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// A running manager.
pub struct Manager {
    shared: Shared,
    tasks: Tasks,
    journal: JoinHandle<()>,
    http: Option<SocketAddr>,
}

impl Manager {
    /// Starts the manager of a state directory, which the caller has locked. It runs in `tasks`, and ends
    /// when they are asked to.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: &Config, tasks: Tasks) -> Result<Self, StartError> {
        possible(config.host_certificates)?;
        let paths = Paths::of(&config.state);
        if !paths.registry().exists() {
            return Err(StartError::no_registry(&config.state));
        }
        copies::clear_away(&paths.registry());
        let store = RegistryStore::open(&paths.registry()).map_err(LoadError::from)?;
        let (registry, tail) = journal::load(&store)?;
        let issuer = load_issuer(&paths).map_err(StartError::Identity)?;
        let directory = IdentityDirectory::open(&paths.identity()).map_err(identity_error)?;
        let (credentials, host) = own_credentials(&directory, &issuer)?;
        refuse_left(&paths)?;
        let trust = TrustBundle::new(registry.meta().trust.clone()).map_err(identity_error)?;
        info!(host.id = %host, revision = registry.position().revision, hosts = registry.host_count(), "Loaded the registry");

        let hub = Arc::new(Hub::new(registry, store.grants().clone()));
        hub.witnesses.signing.set_signer(credentials.clone());
        let alarms = Alarms::new(hub.clock);
        let hooks = Hooks::new(config.hooks.clone(), alarms.clone(), Arc::clone(&hub));
        let role = Role::Server(Arc::new(admission(Arc::clone(&hub))));
        let endpoint =
            Endpoint::bind(config.listen, role, Some(&credentials), Some(&trust), Settings::server())?;
        let http = match config.http {
            Some(addr) => {
                Some(TcpListener::bind(addr).await.map_err(|source| StartError::Http { addr, source })?)
            }
            None => None,
        };
        let (links, copies_wanted) = Links::new(credentials.clone());
        let journal = Journal::new(host, store, &tail, Arc::clone(&hub), Arc::clone(&links), hooks.clone())?;
        let journal = journal.begun().map_err(|e| StartError::Begin(Box::new(e)))?;
        let (edits, queue) = Edits::queue(journal.situation());
        let journal = start_journal(journal, queue, tasks.clone());
        let shared = Arc::new(Inner {
            hub,
            host,
            links,
            copies: Semaphore::new(COPIES),
            enrolled_as: fallback_name(&credentials),
            edits,
            issuer,
            host_certificates: Mutex::new(config.host_certificates),
            certificate_ends: AtomicU64::new(credentials.peer().map_err(identity_error)?.not_after.0),
            enrolments: Semaphore::new(ENROLMENTS),
            strangers: Occasion::every(STRANGERS_LOG),
            previews: Arc::new(Semaphore::new(PREVIEWS)),
            histories: Arc::new(Semaphore::new(HISTORIES)),
            announcements: Rates::new(ANNOUNCEMENTS, ANNOUNCEMENT_INTERVAL),
            watchers: Semaphore::new(MAX_WATCHERS),
            backups: Arc::new(Semaphore::new(BACKUPS)),
            alarms,
            surplus: AtomicU64::new(0),
            hooks,
            journal: paths.registry(),
            paths: paths.clone(),
            endpoint,
            stop: tasks.shutdown(),
            settled: CancellationToken::new(),
        });
        let http_addr = http.as_ref().and_then(|l| l.local_addr().ok());
        let manager = Self { shared, tasks, journal, http: http_addr };
        manager.spawn_all(http, credentials, paths, host);
        manager.tasks.spawn("copies", copier::fetch_wished(Arc::clone(&manager.shared), copies_wanted));
        manager.tasks.spawn("links", links::keep(Arc::clone(&manager.shared), manager.tasks.clone()));
        let http = http_addr.map(tracing::field::display);
        info!(listen = %manager.local_addr(), http, "The manager serves");
        Ok(manager)
    }

    /// Where agents and consoles connect.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.endpoint.local_addr()
    }

    /// Where metrics and health are served.
    pub fn http_addr(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The committed registry.
    pub fn registry(&self) -> Arc<Registry> {
        self.shared.hub.registry()
    }

    /// From now on certificates of hosts are issued for this long.
    ///
    /// # Errors
    /// It is out of range; nothing has changed.
    pub fn set_host_certificates(&self, lifetime: Duration) -> Result<(), StartError> {
        possible(lifetime)?;
        *self.shared.host_certificates.lock().unwrap_or_else(PoisonError::into_inner) = lifetime;
        Ok(())
    }

    /// From now on these commands are run.
    pub fn set_hooks(&self, settings: HookSettings) {
        self.shared.hooks.set(settings);
    }

    /// The commands that are run, for whoever has something to tell them.
    pub fn hooks(&self) -> &Hooks {
        &self.shared.hooks
    }

    /// For a watchdog: whether the manager works.
    pub fn pulse(&self) -> Pulse {
        Pulse(Arc::clone(&self.shared))
    }

    /// Raises the alarm of settings that were read again and refused, for this reason.
    pub fn settings_refused(&self, why: &str) {
        self.shared.alarms.raise(alarms::settings_refused(why));
    }

    /// Settings were read again and taken over, but for those of these keys, which wait for a restart: while there are
    /// any, that is an alarm.
    pub fn settings_taken(&self, waiting: &[&str]) {
        self.shared.alarms.clear(alarms::SETTINGS);
        match waiting {
            [] => self.shared.alarms.clear(alarms::PENDING),
            keys => self.shared.alarms.raise(alarms::settings_pending(keys)),
        }
    }

    /// Tells this manager of a wish that concerns who writes: to hand over, to be promoted, to choose a lineage, to go
    /// on with one of these or to give it up. Gives all that is told of the wish with this id.
    pub async fn wish(&self, id: RequestId, wish: Input) -> UnboundedReceiver<Told> {
        self.shared.edits.wish(id, wish).await
    }

    /// How many agents hold the view that this manager has.
    pub fn agents_in_sync(&self) -> usize {
        let digest = self.shared.hub.mark().digest;
        let board = self.shared.hub.board();
        board.agents().filter(|(_, a)| a.is_here() && a.is_in_sync(digest)).count()
    }

    /// Stops: sessions end with a word, edits taken are carried out, the store is closed, the address is free.
    ///
    /// # Errors
    /// Names tasks that did not end in time and were cut off.
    pub async fn stop(self) -> Result<(), DrainError> {
        let Self { shared, tasks, journal, .. } = self;
        tasks.shutdown().cancel();
        let drained = tasks.drain(DRAIN).await;
        shared.endpoint.close(STOPPING, "the manager is stopping").await;
        let (edits, addr) = (shared.edits.clone(), shared.endpoint.local_addr());
        drop(shared);
        edits.end().await;
        if tokio::task::spawn_blocking(move || journal.join()).await.is_err() {
            error!("The journal's thread could not be waited for");
        }
        released(addr).await;
        drained
    }

    fn spawn_all(&self, http: Option<TcpListener>, credentials: Credentials, paths: Paths, host: HostId) {
        let (shared, tasks) = (&self.shared, &self.tasks);
        tasks.spawn("accept", accept(Arc::clone(shared), tasks.clone()));
        tasks.spawn("liveness", liveness(Arc::clone(shared)));
        tasks.spawn("witnesses", witnesses::tell_journal(Arc::clone(shared)));
        tasks.spawn("silence", silence(Arc::clone(shared)));
        tasks.spawn("drains", drains::end(Arc::clone(shared)));
        tasks.spawn("settle", settle::at_the_end(Arc::clone(shared)));
        if let Ok(peer) = credentials.peer() {
            tasks.spawn(
                "removal",
                removal::watch(Arc::clone(shared), peer.clone(), paths.clone(), tasks.clone()),
            );
            tasks.spawn("record", record::itself(Arc::clone(shared), peer));
        }
        tasks.spawn("self-watch", alarms::watch_self(Arc::clone(shared)));
        tasks.spawn("alarms", alarms::tell(Arc::clone(shared)));
        shared.hooks.start(tasks);
        tasks.spawn("renewal", renewal(Arc::clone(shared), credentials, paths, host));
        if let Some(listener) = http {
            tasks.spawn("http", http::serve(Arc::clone(shared), listener, tasks.clone()));
        }
    }
}

fn refuse_left(paths: &Paths) -> Result<(), StartError> {
    match left::mark_of(paths).map_err(identity_error)? {
        None => Ok(()),
        Some(why) => Err(StartError::Left { why }),
    }
}

fn possible(host_certificates: Duration) -> Result<(), StartError> {
    match HOST_CERTIFICATES.contains(&host_certificates) {
        true => Ok(()),
        false => Err(StartError::HostCertificates { given: host_certificates }),
    }
}

/// The sign of life of a running manager. Clones are of the same one.
#[derive(Clone)]
pub struct Pulse(Shared);

impl Pulse {
    /// Comes once the parts have answered without which a manager is of no use: the state that every session
    /// and every edit reads is not held by somebody who hangs, and the journal takes edits.
    pub async fn answer(&self) {
        self.0.hub.mark();
        drop(self.0.hub.board());
        self.0.edits.answer().await;
    }
}

/// Waits until the address can be used again. The library lets go of its socket when the runtime gets to it, and
/// tells nobody.
async fn released(addr: SocketAddr) {
    let end = tokio::time::Instant::now() + RELEASE;
    while UdpSocket::bind(addr).is_err() && tokio::time::Instant::now() < end {
        tokio::time::sleep(RELEASE / 200).await;
    }
}

fn start_journal(journal: Journal, queue: Queue, tasks: Tasks) -> JoinHandle<()> {
    let runtime = Handle::current();
    let run = move || {
        let run = AssertUnwindSafe(|| journal.run(queue, &runtime));
        let why = match std::panic::catch_unwind(run) {
            Ok(Ok(())) => return,
            Ok(Err(e)) => failure::in_full(&e),
            Err(_) => "the journal's thread panicked".to_owned(),
        };
        error!("What is durable is not known; the manager ends and finds out when it starts: {why}");
        tasks.fail(Exit::Failed);
    };
    let thread = std::thread::Builder::new().name("journal".into());
    thread.spawn(run).expect("a process that starts can have one thread more")
}

async fn liveness(shared: Shared) {
    tokio::select! {
        () = shared.hub.push_news() => {}
        () = shared.stop.cancelled() => {}
    }
}

async fn silence(shared: Shared) {
    let mut tick = tokio::time::interval(JUDGE_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => shared.hub.judge(),
            () = shared.stop.cancelled() => return,
        }
    }
}
