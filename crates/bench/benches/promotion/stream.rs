//! Clients that edit without an end, and when each edit was accepted.

use echelon_client::{ManagerClient, new_request_id};
use echelon_core::change::{Change, ChangeSet, PackageSpec};
use echelon_core::endpoint::Endpoint;
use echelon_core::id::Lineage;
use echelon_core::position::Position;
use echelon_identity::IdentityDirectory;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Clients side by side: two at each of three managers.
pub(crate) const CLIENTS: usize = 6;

/// Between two edits of a client, so that the managers are busy and not overrun.
const PAUSE: Duration = Duration::from_millis(5);

/// How long a client waits for an answer; then it asks the next manager under the same request id.
const PATIENCE: Duration = Duration::from_secs(2);

/// After so many edits elsewhere a client returns to its own manager: else all would be at one in the end, and notice its
/// death by nothing but their own patience.
const RETURN: usize = 20;

/// Each edit gives another weight than the one before.
const HEAVIEST: u32 = 100;

/// The type whose managers are edited.
pub(crate) const TYPE: &str = "edited";

/// The host that a client edits.
pub(crate) fn host(client: usize) -> String {
    format!("client-{client}")
}

/// An edit that a client was told is committed.
#[derive(Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) at: Instant,
    pub(crate) position: Position,
}

/// The clients.
pub(crate) struct Stream {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    identity: PathBuf,
    managers: Vec<Endpoint>,
    stop: AtomicBool,
    accepted: Mutex<Vec<Accepted>>,
}

impl Stream {
    /// Starts them, spread over these managers.
    pub(crate) fn start(identity: PathBuf, managers: Vec<Endpoint>) -> Self {
        let (stop, accepted) = Default::default();
        let shared = Arc::new(Shared { identity, managers, stop, accepted });
        let client = |number| {
            let shared = Arc::clone(&shared);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            std::thread::spawn(move || runtime.block_on(edit_for_ever(number, shared)))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { shared, clients }
    }

    /// How many edits were accepted so far.
    pub(crate) fn count(&self) -> usize {
        self.shared.accepted.lock().unwrap().len()
    }

    /// The first edit accepted in another lineage, after this time.
    pub(crate) fn first_after(&self, time: Instant, other_than: Lineage) -> Option<Instant> {
        let accepted = self.shared.accepted.lock().unwrap();
        let new = |a: &&Accepted| a.at >= time && a.position.lineage != other_than;
        accepted.iter().find(new).map(|a| a.at)
    }

    /// The last accepted edit.
    pub(crate) fn last(&self) -> Accepted {
        *self.shared.accepted.lock().unwrap().last().expect("there were some")
    }

    /// The longest time between two accepted edits, of which at least one is between `from` and `to`.
    pub(crate) fn longest_gap(&self, from: Instant, to: Instant) -> Duration {
        let accepted = self.shared.accepted.lock().unwrap();
        let within = accepted.windows(2).filter(|pair| pair[1].at >= from && pair[0].at <= to);
        within.map(|pair| pair[1].at - pair[0].at).max().expect("edits were accepted")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            // It has said what went wrong.
            let _ = client.join();
        }
    }
}

async fn edit_for_ever(number: usize, shared: Arc<Shared>) {
    let (mut at, mut link, mut away) = (number, None, 0);
    for weight in (1..=HEAVIEST).cycle() {
        let set = weigh(number, weight);
        while !shared.stop.load(Ordering::SeqCst) {
            if let Some(position) = attempt(&shared, at, &mut link, &set).await {
                let mut accepted = shared.accepted.lock().unwrap();
                accepted.push(Accepted { at: Instant::now(), position });
                away += usize::from(at != number);
                break;
            }
            (at, link) = (at + 1, None);
            sleep(PAUSE).await;
        }
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        if away >= RETURN {
            (at, link, away) = (number, None, 0);
        }
        sleep(PAUSE).await;
    }
}

/// Where the edit is, if this manager says that it is committed.
async fn attempt(
    shared: &Shared,
    at: usize,
    link: &mut Option<ManagerClient>,
    set: &ChangeSet,
) -> Option<Position> {
    let edit = async {
        if link.is_none() {
            let identity = IdentityDirectory::open(&shared.identity).ok()?;
            let manager = shared.managers[at % shared.managers.len()].clone();
            *link = ManagerClient::connect(&identity, &[manager]).await.ok();
        }
        Some(link.as_ref()?.edit(set.clone(), false).await.ok()?.position)
    };
    timeout(PATIENCE, edit).await.ok().flatten()
}

/// Gives the manager on a client's host this weight.
fn weigh(client: usize, weight: u32) -> ChangeSet {
    let spec = PackageSpec { weight, ..PackageSpec::default() };
    let (host, ty) = (host(client).parse().unwrap(), TYPE.parse().unwrap());
    let changes = vec![Change::SetPackage { host, ty, spec }];
    ChangeSet { request: new_request_id(), if_revision: None, allow_shrink: false, changes }
}
