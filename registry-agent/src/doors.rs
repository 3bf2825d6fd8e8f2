//! Where an agent listens, which can change while it runs.

use crate::agent::AgentConfig;
use crate::api;
use crate::connector::Connector;
use crate::dialer::Parts;
use crate::direct::Direct;
use crate::forward::{self, Common, Crew, Forwarder};
use crate::http::HttpForwarder;
use crate::latch::Latch;
use crate::listen::{BindError, Forward, Listen, Places};
use crate::slots::Slots;
use crate::status::Subject;
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use tracing::info;

/// The open forwarders, direct sockets and listeners of the API.
pub(crate) struct Doors {
    parts: Parts,
    connector: Connector,
    open: ArcSwap<Open>,
    threads: usize,
    /// The threads of those who connect callers, from the first one on.
    crew: OnceLock<Arc<Crew>>,
    /// Slots for callers of forwarders.
    slots: Slots,
    close_dead: watch::Sender<bool>,
}

/// Each with what was asked for, which for a port of 0 is not where it is.
#[derive(Clone, Default)]
struct Open {
    forwarders: Vec<(Forward, Forwarder)>,
    https: Vec<(Forward, HttpForwarder)>,
    directs: Vec<(PathBuf, Arc<Direct>)>,
    apis: Vec<(Listen, Api)>,
}

/// An open listener of the API.
#[derive(Clone)]
struct Api {
    at: Listen,
    latch: Latch,
}

impl Doors {
    /// Nothing is open yet. Forwarders and direct sockets will have so many threads for
    /// themselves.
    pub(crate) fn new(parts: Parts, connector: Connector, threads: usize) -> Self {
        let (open, crew, close_dead) = Default::default();
        Self { parts, connector, open, threads, crew, slots: Slots::by_descriptors(), close_dead }
    }

    /// The open forwarders.
    pub(crate) fn forwarders(&self) -> Vec<Forwarder> {
        self.open.load().forwarders.iter().map(|(_, forwarder)| forwarder.clone()).collect()
    }

    /// The open forwarders for HTTP.
    pub(crate) fn http_forwarders(&self) -> Vec<HttpForwarder> {
        self.open.load().https.iter().map(|(_, forwarder)| forwarder.clone()).collect()
    }

    /// The open direct sockets.
    pub(crate) fn directs(&self) -> Vec<Arc<Direct>> {
        self.open.load().directs.iter().map(|(_, direct)| Arc::clone(direct)).collect()
    }

    /// Where the API listens.
    pub(crate) fn apis(&self) -> Vec<Listen> {
        self.open.load().apis.iter().map(|(_, api)| api.at.clone()).collect()
    }

    /// Has exactly those open that `config` asks for. Those that stay the same go on as they are; those that are asked
    /// for no more let nobody new in, and are closed before others are opened, which may be in their place. Gives what
    /// could not be opened. One call at a time.
    pub(crate) async fn set(&self, config: &AgentConfig, agent: &Arc<Subject>) -> Vec<BindError> {
        self.close_dead.send_replace(config.close_dead);
        let mut open = Open::clone(&self.open.load());
        let directs = direct_sockets(config);
        open.close_others(config, &directs).await;
        // Nobody is told of what is closed, even while something else is being opened.
        self.open.store(Arc::new(open.clone()));
        let mut failed = Vec::new();
        for forward in &config.forwards {
            if !has(&open.forwarders, forward) {
                let started = Forwarder::start(forward, self.parts.clone(), self.common()).await;
                take(&mut open.forwarders, forward, started, &mut failed);
            }
        }
        for forward in &config.http_forwards {
            if !has(&open.https, forward) {
                let started = HttpForwarder::start(forward, self.parts.clone(), self.common()).await;
                take(&mut open.https, forward, started, &mut failed);
            }
        }
        for path in &directs {
            if !has(&open.directs, path) {
                let (connector, parts) = (self.connector.clone(), self.parts.clone());
                let started = Direct::start(path.clone(), connector, parts, self.crew());
                take(&mut open.directs, path, started, &mut failed);
            }
        }
        for listen in &config.api {
            if !has(&open.apis, listen) {
                take(&mut open.apis, listen, self.open_api(listen, agent), &mut failed);
            }
        }
        self.open.store(Arc::new(open));
        failed
    }

    /// Opens what `config` asks for and nobody has opened yet, so that [`Self::set`] finds all of it open.
    ///
    /// # Errors
    /// Something cannot be opened.
    pub(crate) fn reserve(places: &Places, config: &AgentConfig) -> Result<(), BindError> {
        let forwards = config.forwards.iter().map(|f| (f.to_string(), f.listen.clone()));
        let https = config.http_forwards.iter().map(|f| (HttpForwarder::asked(f), f.listen.clone()));
        let directs = direct_sockets(config).into_iter().map(Listen::Unix);
        let directs = directs.map(|at| (Direct::asked(&at), at));
        let apis = config.api.iter().map(|at| (api_at(at), at.clone()));
        let mut all = forwards.chain(https).chain(directs).chain(apis);
        all.try_for_each(|(asked, at)| places.reserve(&asked, &at))
    }

    /// The places that it listens at, or may.
    pub(crate) fn places(&self) -> &Places {
        &self.parts.places
    }

    /// Slots for callers of forwarders, as many as this process has descriptors for.
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    fn common(&self) -> Common {
        let (crew, slots) = (self.crew(), self.slots.clone());
        Common { crew, slots, close_dead: self.close_dead.subscribe() }
    }

    fn crew(&self) -> Arc<Crew> {
        Arc::clone(self.crew.get_or_init(|| Arc::new(forward::crew(self.threads))))
    }

    fn open_api(&self, listen: &Listen, agent: &Arc<Subject>) -> Result<Api, BindError> {
        let (places, tasks) = (&self.parts.places, &self.parts.tasks);
        let listener = places.listen(&api_at(listen), listen)?;
        let (at, latch) = (listener.at().clone(), Latch::new(tasks));
        let app = api::app(Arc::clone(agent), latch.stop());
        let serving = api::serve(listener, app, tasks.clone(), latch.stop());
        tasks.spawn("api-listener", latch.holding(serving));
        Ok(Api { at, latch })
    }
}

impl Open {
    async fn close_others(&mut self, config: &AgentConfig, directs: &BTreeSet<PathBuf>) {
        for (asked, forwarder) in
            self.forwarders.extract_if(.., |(asked, _)| !config.forwards.contains(asked))
        {
            info!(forward = %asked, "Closing a forwarder; connections through it are drained");
            forwarder.close().await;
        }
        for (asked, forwarder) in
            self.https.extract_if(.., |(asked, _)| !config.http_forwards.contains(asked))
        {
            info!(forward_http = %asked, "Closing a forwarder for HTTP; requests under way are drained");
            forwarder.close().await;
        }
        for (path, direct) in self.directs.extract_if(.., |(path, _)| !directs.contains(path)) {
            info!(path = %path.display(), "Closing a direct socket");
            direct.close().await;
        }
        for (asked, api) in self.apis.extract_if(.., |(asked, _)| !config.api.contains(asked)) {
            info!(listen = %asked, "Closing a listener of the API");
            api.latch.close().await;
        }
    }
}

/// Where connections are handed over: beside each of the API's sockets, once in each directory.
fn direct_sockets(config: &AgentConfig) -> BTreeSet<PathBuf> {
    let beside = |api: &Listen| match api {
        Listen::Unix(path) if config.direct => Direct::beside(path),
        Listen::Unix(_) | Listen::Tcp(_) => None,
    };
    config.api.iter().filter_map(beside).collect()
}

/// What a listener of the API is asked for in.
fn api_at(listen: &Listen) -> String {
    format!("api {listen}")
}

fn has<K: PartialEq, T>(open: &[(K, T)], asked: &K) -> bool {
    open.iter().any(|(known, _)| known == asked)
}

fn take<K: Clone, T>(
    open: &mut Vec<(K, T)>,
    asked: &K,
    started: Result<T, BindError>,
    failed: &mut Vec<BindError>,
) {
    match started {
        Ok(started) => open.push((asked.clone(), started)),
        Err(error) => failed.push(error),
    }
}
