//! Clients that edit at once through all registry managers, and keep what they were told.

use crate::cluster::HOSTS;
use crate::testimony::{Edit, Outcome, Reading};
use crate::{Cluster, DEADLINE, wait_until};
use echelon_client::{CallError, ManagerClient, new_request_id};
use echelon_core::change::{Change, ChangeSet};
use echelon_core::endpoint::Endpoint;
use echelon_core::id::HostId;
use echelon_core::message::{EditAnswer, FailureClass};
use echelon_identity::IdentityDirectory;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// After an attempt that failed, so that managers without a primary are not overrun.
const PAUSE: Duration = Duration::from_millis(20);

/// How long a client waits for an answer before it takes the outcome for unknown: who has a dead manager notices no sooner
/// by itself than its connection does, which takes a quarter of a minute.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client reads after so many of its edits.
const READ_EVERY: u64 = 5;

/// Since when all clients of this process count time, so that any two edits can be compared.
static CLOCK: OnceLock<Instant> = OnceLock::new();

/// What clients were told.
#[derive(Clone, Default, Debug)]
pub struct Told {
    /// Every edit.
    pub edits: Vec<Edit>,
    /// What they read in between.
    pub readings: Vec<Reading>,
}

impl Told {
    /// What other clients were told belongs to it too, from now on.
    pub fn add(&mut self, others: Self) {
        self.edits.extend(others.edits);
        self.readings.extend(others.readings);
    }

    /// How many edits were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.edits.iter().filter(|edit| matches!(edit.outcome, Outcome::Acknowledged(_))).count()
    }

    /// The longest time in which no edit was acknowledged to anybody.
    pub fn longest_pause(&self) -> Duration {
        let acknowledged = self.edits.iter().filter(|edit| matches!(edit.outcome, Outcome::Acknowledged(_)));
        let mut times: Vec<_> = acknowledged.map(|edit| edit.end).collect();
        times.sort();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// What all clients share.
#[derive(Debug)]
struct Shared {
    identity: PathBuf,
    managers: Vec<(String, Endpoint)>,
    clock: Instant,
    stop: OnceLock<Instant>,
    acknowledged: AtomicUsize,
}

/// Clients that go on until they are asked to stop.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Told>>,
}

impl Writers {
    /// Starts so many, spread over these managers. A client whose manager fails it goes on with the next one.
    pub fn start(cluster: &Cluster<'_>, managers: &[usize], clients: usize) -> Self {
        let endpoint = |at: &usize| (HOSTS[*at].to_owned(), cluster[*at].listen().into());
        let shared = Arc::new(Shared {
            identity: cluster.identity().to_owned(),
            managers: managers.iter().map(endpoint).collect(),
            clock: *CLOCK.get_or_init(Instant::now),
            stop: OnceLock::new(),
            acknowledged: AtomicUsize::new(0),
        });
        let client = |at| {
            let client = Client::new(at, Arc::clone(&shared));
            std::thread::spawn(|| runtime().block_on(client.work()))
        };
        let clients = (0..clients).map(client).collect();
        Self { shared, clients }
    }

    /// How many edits were acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until so many more edits were acknowledged.
    #[track_caller]
    pub fn wait_for_more(&self, edits: usize) {
        let until = self.acknowledged() + edits;
        wait_until(&format!("{edits} more edits"), || self.acknowledged() >= until);
    }

    /// Ends them, once each knows what became of its last edit, and gives what they were told.
    pub fn stop(self) -> Told {
        self.shared.stop.get_or_init(Instant::now);
        let mut all = Told::default();
        for client in self.clients {
            let told = client.join().unwrap();
            all.edits.extend(told.edits);
            all.readings.extend(told.readings);
        }
        all
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// What came of asking one manager.
enum Attempt {
    Done(EditAnswer),
    Refused,
    NotSent,
    Unknown,
}

/// One of them.
struct Client {
    number: usize,
    shared: Arc<Shared>,
    /// Which manager it goes to, and how it reaches that.
    at: usize,
    link: Option<ManagerClient>,
    told: Told,
}

impl Client {
    fn new(at: usize, shared: Arc<Shared>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (number, at) = (NEXT.fetch_add(1, Ordering::SeqCst), at % shared.managers.len());
        Self { number, shared, at, link: None, told: Told::default() }
    }

    async fn work(mut self) -> Told {
        for edit in 0.. {
            if self.is_to_stop() {
                break;
            }
            self.edit(format!("client{}-{edit}", self.number)).await;
            if edit % READ_EVERY == 0 {
                self.read().await;
            }
        }
        self.told
    }

    fn is_to_stop(&self) -> bool {
        self.shared.stop.get().is_some()
    }

    /// Makes one edit, and repeats it as long as its outcome is unknown.
    async fn edit(&mut self, name: String) {
        let id = HostId(new_request_id().0);
        let add =
            Change::AddHost { id, name: name.parse().unwrap(), domain: "/".parse().unwrap(), address: None };
        let set = ChangeSet {
            request: new_request_id(),
            if_revision: None,
            allow_shrink: false,
            changes: vec![add],
        };
        let begin = self.shared.clock.elapsed();
        let request = set.request;
        let (outcome, manager) = self.settle(set).await;
        if matches!(outcome, Outcome::Acknowledged(_)) {
            self.shared.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        let (client, end) = (self.number, self.shared.clock.elapsed());
        self.told.edits.push(Edit { client, manager, name, request, begin, end, outcome });
    }

    /// What becomes of an edit, and which manager says so.
    async fn settle(&mut self, set: ChangeSet) -> (Outcome, String) {
        let mut unknown = false;
        loop {
            let manager = self.shared.managers[self.at].0.clone();
            match self.attempt(set.clone()).await {
                Attempt::Done(answer) => return (Outcome::Acknowledged(answer.position), manager),
                Attempt::Unknown => unknown = true,
                Attempt::Refused if !unknown => {
                    self.move_on().await;
                    return (Outcome::Refused, manager);
                }
                Attempt::Refused | Attempt::NotSent => {}
            }
            self.move_on().await;
            match (self.shared.stop.get(), unknown) {
                (Some(_), false) => return (Outcome::Refused, manager),
                // Whoever is to stop has this long to learn what became of its last edit.
                (Some(stop), true) if stop.elapsed() > DEADLINE => return (Outcome::Unknown, manager),
                _ => {}
            }
        }
    }

    async fn attempt(&mut self, set: ChangeSet) -> Attempt {
        let Some(link) = self.link().await else { return Attempt::NotSent };
        match timeout(PATIENCE, link.edit(set, false)).await {
            Err(_) => Attempt::Unknown,
            Ok(Ok(answer)) => Attempt::Done(answer),
            Ok(Err(error)) if error.failure().class == FailureClass::Unknown => Attempt::Unknown,
            Ok(Err(CallError::Failed(_))) => Attempt::Refused,
            Ok(Err(_)) => Attempt::NotSent,
        }
    }

    async fn read(&mut self) {
        let (manager, begin) = (self.shared.managers[self.at].0.clone(), self.shared.clock.elapsed());
        let Some(link) = self.link().await else { return };
        let Ok(Ok(read)) = timeout(PATIENCE, link.read()).await else { return };
        let names = read.registry.hosts().map(|host| host.name.to_string()).collect();
        let (client, at) = (self.number, read.registry.position());
        self.told.readings.push(Reading { client, manager, begin, at, names });
    }

    async fn link(&mut self) -> Option<&ManagerClient> {
        if self.link.is_none() {
            let identity = IdentityDirectory::open(&self.shared.identity).unwrap();
            let endpoint = self.shared.managers[self.at].1.clone();
            self.link = ManagerClient::connect(&identity, &[endpoint]).await.ok();
        }
        self.link.as_ref()
    }

    async fn move_on(&mut self) {
        self.link = None;
        self.at = (self.at + 1) % self.shared.managers.len();
        tokio::time::sleep(PAUSE).await;
    }
}
