//! A running manager.

use crate::alarms::Alarms;
use crate::clock::unix_now;
use crate::config::{Config, HOST_CERTIFICATES};
use crate::failure;
use crate::hooks::{HookSettings, Hooks};
use crate::hub::Hub;
use crate::init::load_issuer;
use crate::journal::{self, Edits, Journal, LoadError, Queue};
use crate::limits::{
    ANNOUNCEMENT_INTERVAL, ANNOUNCEMENTS, BACKUPS, COPIES, DRAIN, ENROLMENTS, HISTORIES, JUDGE_INTERVAL,
    LAST_ANSWER, MAX_WATCHERS, PARTING, PREVIEWS, RELEASE, REQUESTS_PER_CONNECTION, STRANGERS_LOG,
};
use crate::links::{self, Links};
use crate::occasion::Occasion;
use crate::paths::Paths;
use crate::places::Places;
use crate::rates::Rates;
use crate::unfinished::Unfinished;
use crate::{alarms, copies, drains, http, left, metrics, record, removal, requests, settle, witnesses};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::edit::Context;
use echelon_core::id::{HostId, RequestId};
use echelon_core::issuer::{RenewReason, Standing};
use echelon_core::member::{Input, Told};
use echelon_core::message::{EditAnswer, Failure};
use echelon_core::name::HostName;
use echelon_core::registry::Registry;
use echelon_core::row::Actor;
use echelon_core::time::UnixMillis;
use echelon_daemon::{DrainError, Exit, Tasks, shell_word};
use echelon_identity::{Credentials, IdentityDirectory, Issuer, Leaf, PeerIdentity, Spiffe, TrustBundle};
use echelon_store::RegistryStore;
use echelon_transport::limits::ANONYMOUS_LIFE;
use echelon_transport::{Connection, Endpoint, Rejection, Role, Settings};
use echelon_wire::content_hash;
use std::net::{SocketAddr, UdpSocket};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, error, info, info_span, warn};
use uuid::Uuid;

/// Close codes of the manager's connections.
mod code {
    /// The peer's certificate is to be renewed before anything else.
    pub(super) const RENEW: u32 = 5;
    /// A session ended.
    pub(super) const SESSION_ENDED: u32 = 2;
    /// Too many connections.
    pub(super) const FULL: u32 = 3;
    /// The manager is stopping.
    pub(super) const STOPPING: u32 = 4;
}

/// Close code of a connection of a peer whose identity does not count.
pub(crate) const DENIED: u32 = 1;

/// Close code of a connection whose link ended.
pub(crate) const LINK_ENDED: u32 = 5;

/// Why a manager does not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The state directory holds no manager.
    #[error("{0} holds no registry: make one with registry-manager init --state {dir} --framework NAME", dir = shell_word(.0))]
    NoRegistry(String),
    /// The state directory holds no manager yet, or no longer.
    #[error("{0} holds no registry: {1}")]
    Unfinished(String, Unfinished),
    /// The manager of the directory has left.
    #[error(
        "this registry manager is out of the registry: {why}. What it has kept serves nobody; to be a standby again: registry-manager join"
    )]
    Left {
        /// Why.
        why: String,
    },
    /// A setting is out of its range.
    #[error(
        "host_certificates is {given:?}, and may be from {least:?} to {most:?}; correct it in the settings file",
        least = HOST_CERTIFICATES.start(),
        most = HOST_CERTIFICATES.end()
    )]
    HostCertificates {
        /// What it is.
        given: Duration,
    },
    /// The store cannot be used, or its content is no registry.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The journal cannot be taken up.
    #[error("the journal cannot be taken up")]
    Begin(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Keys or certificates cannot be used.
    #[error("the manager's identity cannot be used")]
    Identity(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The QUIC endpoint cannot be bound.
    #[error("the manager cannot listen")]
    Bind(#[from] echelon_transport::BindError),
    /// The HTTP listener cannot be bound.
    #[error("metrics and health cannot be served on TCP {addr}; choose another address with --http")]
    Http {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    /// There is no registry in this state directory.
    pub fn no_registry(state: &Path) -> Self {
        let shown = state.display().to_string();
        match Unfinished::of(&Paths::of(state)) {
            Some(what) => Self::Unfinished(shown, what),
            None => Self::NoRegistry(shown),
        }
    }
}

fn identity_error(e: impl std::error::Error + Send + Sync + 'static) -> StartError {
    StartError::Identity(Box::new(e))
}

/// What every part of a running manager has at hand.
pub(crate) struct Inner {
    pub(crate) hub: Arc<Hub>,
    pub(crate) host: HostId,
    pub(crate) links: Arc<Links>,
    pub(crate) copies: Semaphore,
    /// What its host was called when it got its certificate.
    enrolled_as: HostName,
    pub(crate) edits: Edits,
    pub(crate) issuer: Issuer,
    host_certificates: Mutex<Duration>,
    /// When the manager's own certificate expires, in milliseconds of the wall clock.
    certificate_ends: AtomicU64,
    pub(crate) enrolments: Semaphore,
    /// For what is said of strangers with wrong tokens.
    pub(crate) strangers: Occasion,
    pub(crate) previews: Arc<Semaphore>,
    pub(crate) histories: Arc<Semaphore>,
    /// How often hosts announce.
    pub(crate) announcements: Rates,
    pub(crate) watchers: Semaphore,
    pub(crate) backups: Arc<Semaphore>,
    pub(crate) alarms: Alarms,
    /// How many edits it keeps that were given up and neither made once more nor dismissed.
    pub(crate) surplus: AtomicU64,
    pub(crate) hooks: Hooks,
    /// The registry's file, for those who read its journal.
    pub(crate) journal: PathBuf,
    pub(crate) paths: Paths,
    pub(crate) endpoint: Endpoint,
    pub(crate) stop: CancellationToken,
    /// Comes after `stop`, once what was written is committed, or not waited for any more.
    pub(crate) settled: CancellationToken,
}

impl Inner {
    /// What this manager's host is called now.
    pub(crate) fn name(&self) -> HostName {
        let registry = self.hub.registry();
        registry.host(self.host).map_or_else(|| self.enrolled_as.clone(), |h| h.name.clone())
    }

    /// The host it runs on.
    pub(crate) fn host(&self) -> HostId {
        self.host
    }

    /// Has the journal carry out a change that the manager wants by itself.
    pub(crate) async fn edit_by_itself(&self, change: Change) -> Result<EditAnswer, Failure> {
        let request = RequestId(Uuid::now_v7());
        let set = ChangeSet { request, if_revision: None, allow_shrink: false, changes: vec![change] };
        let (actor, content) = (Actor::Manager(self.name()), content_hash(&set));
        self.edits.edit(set, Context { now: unix_now(), actor, from: None, content }, false).await
    }

    /// Why no edit can be taken here at the moment.
    pub(crate) fn cannot_write(&self) -> Failure {
        match &self.edits.situation().writes {
            Err(why) => failure::cannot_write(why, &self.hub.registry(), self.host, self.hub.clock.now()),
            // It has become the primary this moment.
            Ok(()) => failure::handing_over(),
        }
    }

    /// How long a host's certificate that is issued now lives.
    pub(crate) fn host_certificates(&self) -> Duration {
        *self.host_certificates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the manager's own certificate expires.
    pub(crate) fn certificate_ends(&self) -> UnixMillis {
        UnixMillis(self.certificate_ends.load(Ordering::Relaxed))
    }
}

/// See [`Inner`].
pub(crate) type Shared = Arc<Inner>;

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
        manager.tasks.spawn("copies", copies::fetch_wanted(Arc::clone(&manager.shared), copies_wanted));
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
        shared.endpoint.close(code::STOPPING, "the manager is stopping").await;
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

/// The manager's own credentials, renewed and kept where they are past half of their life.
pub(crate) fn own_credentials(
    directory: &IdentityDirectory,
    issuer: &Issuer,
) -> Result<(Credentials, HostId), StartError> {
    let credentials = directory.load_credentials().map_err(identity_error)?;
    let peer = credentials.peer().map_err(identity_error)?;
    let Spiffe::Manager(host) = peer.subject else {
        return Err(StartError::NoRegistry(directory.path().display().to_string()));
    };
    if unix_now() < peer.renew_at() {
        return Ok((credentials, host));
    }
    let renewed = renew(&credentials, &peer, issuer)?;
    directory.save_credentials(&renewed).map_err(identity_error)?;
    Ok((renewed, host))
}

/// The same identity with a new certificate.
pub(crate) fn renew(
    credentials: &Credentials,
    peer: &PeerIdentity,
    issuer: &Issuer,
) -> Result<Credentials, StartError> {
    let leaf = Leaf {
        subject: &peer.subject,
        name: peer.name.as_str(),
        enrolment: peer.enrolment,
        lifetime: peer.subject.lifetime(),
    };
    let key = credentials.key();
    let chain = issuer.issue(&leaf, &key.public_key(), unix_now()).map_err(identity_error)?;
    Credentials::new(key.clone(), chain).map_err(identity_error)
}

fn fallback_name(credentials: &Credentials) -> HostName {
    let name = credentials.peer().ok().and_then(|p| p.name.as_str().parse().ok());
    name.unwrap_or_else(|| "registry".parse().expect("a valid host name"))
}

/// Lets in whoever has no certificate (to enrol or join), and those whose certificate is worth something.
fn admission(
    hub: Arc<Hub>,
) -> impl Fn(Option<&PeerIdentity>, SocketAddr) -> Result<(), Rejection> + Send + Sync {
    move |peer, _| {
        let Some(peer) = peer else { return Ok(()) };
        match requests::standing(&hub.registry(), peer) {
            Standing::Good(_) | Standing::RenewOnly(_) => Ok(()),
            Standing::Refused(why) => {
                debug!(peer = %peer.name, "A peer is not let in: {why}");
                Err(Rejection { code: DENIED, reason: failure::unknown_identity().message })
            }
        }
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

async fn accept(shared: Shared, tasks: Tasks) {
    let (places, full) = (Places::default(), Occasion::every(STRANGERS_LOG));
    // One span for all tasks of a kind: what tells connections apart is in spans of their own.
    let (connections, requests) = (tasks.span("connection"), tasks.span("request"));
    loop {
        let connection = tokio::select! {
            connection = shared.endpoint.accept() => connection,
            () = shared.stop.cancelled() => None,
        };
        let Some(connection) = connection else { return };
        let Some(place) = places.take(connection.peer().map(requests::subject)) else {
            shared.hub.metrics.dropped(metrics::Queue::Connections);
            if let Some(others) = full.now() {
                let peer = connection.peer().map(|p| tracing::field::display(&p.name));
                warn!(from = %connection.remote_addr(), peer, others, "Too many connections: one was closed");
            }
            connection.close(code::FULL, "this manager has too many connections; try another, or later");
            continue;
        };
        let span = info_span!("connection", from = %connection.remote_addr());
        let (shared, requests) = (Arc::clone(&shared), (tasks.clone(), requests.clone()));
        let serve = async move {
            serve(&shared, &connection, &requests).await;
            drop(place);
        };
        tasks.spawn_in(&connections, "connection", serve.instrument(span));
    }
}

/// Takes the channels that another manager opens over a connection that was made to it.
pub(crate) async fn serve_manager(shared: &Shared, connection: &Connection, tasks: &Tasks) {
    serve(shared, connection, &(tasks.clone(), tasks.span("request"))).await;
}

/// Takes the channels that a peer opens, each with one request, which is served in a task of its own.
async fn serve(shared: &Shared, connection: &Connection, (tasks, span): &(Tasks, Span)) {
    let room = Arc::new(Semaphore::new(REQUESTS_PER_CONNECTION));
    let mut denials = shared.hub.denials();
    let mut worth = connection.peer().map(|p| requests::standing(&shared.hub.registry(), p));
    if let Some(Standing::RenewOnly(why)) = worth {
        return serve_renewal(shared, connection, &room, why).await;
    }
    loop {
        let end = match worth {
            None | Some(Standing::Good(_)) => None,
            Some(Standing::RenewOnly(why)) => Some((code::RENEW, failure::renew_first(why))),
            Some(Standing::Refused(_)) => Some((DENIED, failure::unknown_identity())),
        };
        if let Some((code, why)) = end {
            part(connection, &room).await;
            return connection.close(code, &why.message);
        }
        let accept = async {
            let place = Arc::clone(&room).acquire_owned().await.expect("it is never closed");
            (Arc::new(place), connection.accept().await)
        };
        let (place, channel) = tokio::select! {
            accepted = accept => accepted,
            // The hub, which tells, lives as long as this connection.
            _ = denials.changed() => {
                worth = connection.peer().map(|p| requests::standing(&shared.hub.registry(), p));
                continue;
            }
            () = shared.stop.cancelled() => return last_answers(connection, &room).await,
        };
        let channel = match channel {
            Ok(channel) => channel,
            Err(reason) => return debug!("A connection ended: {reason}"),
        };
        let (shared, connection) = (Arc::clone(shared), connection.clone());
        let request = async move {
            // Each in a box, which is gone once it is done: thousands of sessions last, and none is to keep the room
            // that the largest of requests takes.
            let served = Box::pin(requests::serve(&shared, &connection, channel, &place)).await;
            match (served, connection.peer()) {
                (Ok(requests::Served::Session(host, channel)), Some(peer)) => {
                    let end = Box::pin(requests::session(&shared, peer, host, channel)).await;
                    connection.close(code::SESSION_ENDED, &end.to_string());
                }
                (Ok(requests::Served::Link(host, greeting, channel)), _) => {
                    let end = Box::pin(links::accept(&shared, host, &connection, &greeting, channel)).await;
                    end.tell(&shared.hub.name_of(host));
                    connection.close(LINK_ENDED, &end.to_string());
                }
                (Ok(_), _) => {}
                (Err(end), _) => debug!("A request got no answer: {end}"),
            }
            drop(place);
        };
        tasks.spawn_in(span, "request", request.in_current_span());
    }
}

/// Waits until the requests of a connection are answered, and the peer has the answers: with the last who holds it, a
/// connection ends at once, and what is on its way is lost.
async fn last_answers(connection: &Connection, room: &Semaphore) {
    if room.available_permits() == REQUESTS_PER_CONNECTION {
        return;
    }
    // Never closed.
    let _all = room.acquire_many(REQUESTS_PER_CONNECTION as u32).await;
    // A peer that has its answer lets go, or does not wait for anything else.
    let _ = tokio::time::timeout(LAST_ANSWER, connection.closed()).await;
}

/// Waits a moment for what was begun over a connection: it may be the very edit that ends it, whose answer is due.
async fn part(connection: &Connection, room: &Semaphore) {
    let all = u32::try_from(REQUESTS_PER_CONNECTION).unwrap_or(u32::MAX);
    let done = async {
        match connection.peer().map(|peer| &peer.subject) {
            // One that is taken out is told so over its link, and ends by itself.
            Some(Spiffe::Manager(_)) => drop(connection.closed().await),
            // What has no end, as watching has, is cut off.
            _ => {
                let _all = room.acquire_many(all).await;
                // What was answered last may be on its way still.
                let _ = tokio::time::timeout(LAST_ANSWER, connection.closed()).await;
            }
        }
    };
    let _ = tokio::time::timeout(PARTING, done).await;
}

/// Takes one request of a peer whose certificate serves for its renewal only, and lets it go.
async fn serve_renewal(shared: &Shared, connection: &Connection, room: &Arc<Semaphore>, why: RenewReason) {
    let one = async {
        let place = Arc::new(Arc::clone(room).acquire_owned().await.expect("it is never closed"));
        let Ok(channel) = connection.accept().await else { return };
        if let Err(end) = Box::pin(requests::serve(shared, connection, channel, &place)).await {
            debug!("A request got no answer: {end}");
        }
        // The peer closes once it has the answer.
        connection.closed().await;
    };
    tokio::select! {
        _ = tokio::time::timeout(ANONYMOUS_LIFE, one) => {}
        () = shared.stop.cancelled() => return,
    }
    connection.close(code::RENEW, &failure::renew_first(why).message);
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

/// Renews the manager's own certificate at half of its life, as long as the manager runs.
async fn renewal(shared: Shared, mut credentials: Credentials, paths: Paths, host: HostId) {
    loop {
        let Ok(peer) = credentials.peer() else { return };
        tokio::select! {
            () = tokio::time::sleep(RENEWAL_LOOK) => {}
            () = shared.stop.cancelled() => return,
        }
        if unix_now() < peer.renew_at() {
            continue;
        }
        match renew_now(&shared, &credentials, &peer, &paths) {
            Ok(renewed) => {
                info!(host.id = %host, "Renewed the manager's certificate");
                shared.alarms.clear(alarms::RENEWAL);
                credentials = renewed;
            }
            Err(e) => {
                error!(error = %e, "The manager's certificate could not be renewed");
                shared.alarms.raise(alarms::not_renewed(peer.not_after, &failure::in_full(&e)));
            }
        }
    }
}

/// How often the manager looks whether its certificate is due, and tries again where renewing failed. The time
/// of day may be set while it sleeps, which a sleep of half a day would not notice.
const RENEWAL_LOOK: Duration = Duration::from_secs(30);

fn renew_now(
    shared: &Shared,
    credentials: &Credentials,
    peer: &PeerIdentity,
    paths: &Paths,
) -> Result<Credentials, StartError> {
    let renewed = renew(credentials, peer, &shared.issuer)?;
    let directory = IdentityDirectory::open(&paths.identity()).map_err(identity_error)?;
    directory.save_credentials(&renewed).map_err(identity_error)?;
    shared.endpoint.set_identity(&renewed).map_err(identity_error)?;
    shared.links.set_credentials(renewed.clone());
    shared.hub.witnesses.signing.set_signer(renewed.clone());
    let ends = renewed.peer().map_err(identity_error)?.not_after;
    shared.certificate_ends.store(ends.0, Ordering::Relaxed);
    Ok(renewed)
}
