//! Keeps the replica: on disk first, then for everybody to see.

use crate::alarms::Alarms;
use crate::clock::{Clock, unix_now};
use crate::metrics::{Metrics, Update};
use crate::routes::{RouterInput, Routes, Snapshot};
use echelon_core::alarm::Notice;
use echelon_core::digest::Digest;
use echelon_core::grant::{Chain, Incoming, Part, PartError, trail};
use echelon_core::message::{Holding, ToAgent, ViewMark};
use echelon_core::position::Position;
use echelon_core::replication::{Replica, ReplicaError, Step};
use echelon_core::signed_mark::SignedMark;
use echelon_core::time::{Monotonic, UnixMillis};
use echelon_core::view::{Place, View, ViewRow};
use echelon_core::witness::{Objection, Verdict, judge};
use echelon_identity::proof::UnprovedError;
use echelon_identity::{TrustBundle, check_chain};
use echelon_store::{ReplicaStore, StoreError, set_aside};
use echelon_wire::chain_parts;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};
use tracing::{error, info, warn};

/// The replica's file in the state directory.
const FILE: &str = "replica.db";

/// The alarm of a replica that cannot be written.
const NOT_SAVED: &str = "replica-not-saved";

/// The alarm of a journal of which managers have told two hashes.
const REWRITTEN: &str = "history-rewritten";

/// Time between two tries to write a replica after a write has failed, as on a full disk.
const REPAIR_PAUSE: Duration = Duration::from_secs(30);

/// Time between two writes of what moved without the view: a replica that is so much older after a restart is brought
/// level without a delta. But for so long an agent that is killed has not seen what it was shown last, which it may be the
/// only witness of; one small write in that time costs a host nothing.
const ADVANCE_PAUSE: Duration = Duration::from_secs(10);

/// Why there is no replica to work with. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeeperError {
    /// The file.
    #[error("the replica cannot be opened")]
    Store(#[from] StoreError),
}

/// Why a manager is refused whose grants are not this agent's. What this agent goes by is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantsError {
    /// They do not beat what this agent knows.
    #[error(transparent)]
    Objection(#[from] Objection),
    /// They are none.
    #[error(transparent)]
    Part(#[from] PartError),
    /// They are newer, and not proved.
    #[error("the manager's grants are not proved")]
    Unproved(#[from] UnprovedError),
    /// They cannot be written down.
    #[error("the manager's grants cannot be written down, without which they are not gone by")]
    Store(#[from] StoreError),
    /// The write did not run to its end.
    #[error("the agent is stopping")]
    Stopping,
}

/// The replica and its file. Owned by one task; what waits for the disk runs on a thread of its own.
pub(crate) struct Keeper {
    clock: Clock,
    routes: Routes,
    metrics: Arc<Metrics>,
    alarms: Alarms,
    replica: Replica,
    /// The grants of the session's manager.
    offered: Incoming,
    store: Arc<Mutex<ReplicaStore>>,
    /// What is on disk and shown, and so may be told to a manager.
    held: Option<Holding>,
    /// When a write failed last: the file is behind, and the next write is of everything.
    behind: Option<Monotonic>,
    advanced: Monotonic,
    /// Whether the position or the signed mark has moved on since the last write.
    moved: bool,
}

/// A replica as it was found.
pub(crate) struct Opened {
    pub(crate) keeper: Keeper,
    /// Larger at every start.
    pub(crate) incarnation: u64,
    /// When the file was written last; none for a new one.
    pub(crate) written: Option<UnixMillis>,
}

enum Write {
    Replace(ViewMark, Vec<ViewRow>),
    Apply(ViewMark, Vec<echelon_core::view::ViewChange>),
    Advance(ViewMark),
    Place(Place),
    /// Everything, after a write has failed.
    All(ViewMark, Vec<ViewRow>, Option<Place>),
}

impl Keeper {
    /// Opens the replica in the state directory, waiting for the disk. One that is damaged is set aside,
    /// and the agent begins with an empty one.
    pub(crate) fn open(
        state: &Path,
        clock: Clock,
        routes: Routes,
        metrics: Arc<Metrics>,
        alarms: Alarms,
    ) -> Result<Opened, KeeperError> {
        let path = state.join(FILE);
        let written = written(&path);
        let (mut store, replica) = match open(&path) {
            Err(Fault::Store(error)) if !error.is_damage() => return Err(error.into()),
            Err(fault) => begin_anew(&path, &fault)?,
            Ok(opened) => opened,
        };
        let incarnation = store.next_incarnation(unix_now().0)?;
        let (held, advanced) = (replica.holding(), clock.now());
        let (store, offered) = (Arc::new(Mutex::new(store)), Incoming::new(None));
        let (behind, moved) = (None, false);
        let keeper =
            Self { clock, routes, metrics, alarms, replica, offered, store, held, behind, advanced, moved };
        Ok(Opened { keeper, incarnation, written })
    }

    /// What is on disk and shown.
    pub(crate) fn held(&self) -> Option<Holding> {
        self.held
    }

    /// The newest mark of the journal that it can prove to have been shown.
    pub(crate) fn signed(&self) -> Option<&SignedMark> {
        self.replica.signed()
    }

    /// The grants that this agent is witness of.
    pub(crate) fn grants(&self) -> Option<&Chain> {
        self.replica.grants()
    }

    /// What tells a manager which grants are kept.
    pub(crate) fn grants_trail(&self) -> Vec<Digest> {
        trail(self.grants())
    }

    /// What a manager that was refused lacks of the grants that are kept, and what tells it so.
    pub(crate) fn objection(&self) -> Vec<Part> {
        self.grants().map_or_else(Vec::new, |grants| chain_parts(&mut self.offered.answer(), grants))
    }

    /// Takes in grants of a manager: decides, proves, persists, and goes by them. Says whether they are news. What has
    /// come of them may beat what is kept before all has come; then the rest follows on it, also in another session.
    ///
    /// # Errors
    /// The manager is to be refused.
    pub(crate) async fn offered(&mut self, part: Part, roots: Arc<TrustBundle>) -> Result<bool, GrantsError> {
        let complete = !part.more;
        let offered = self.offered.take(part)?;
        match judge(self.grants(), &offered) {
            Verdict::Same => return Ok(false),
            Verdict::Refuse(_) if !complete => return Ok(false),
            Verdict::Refuse(objection) => return Err(objection.into()),
            Verdict::Adopt => {}
        }
        let (known, store) = (self.grants().cloned(), Arc::clone(&self.store));
        let work = move || -> Result<Chain, GrantsError> {
            check_chain(&roots, known.as_ref(), &offered)?;
            store.lock().unwrap_or_else(PoisonError::into_inner).set_grants(&offered)?;
            Ok(offered)
        };
        let adopted = tokio::task::spawn_blocking(work).await.map_err(|_| GrantsError::Stopping)?;
        if let Err(GrantsError::Store(fault)) = &adopted {
            self.not_saved(fault);
        }
        let grants = adopted?;
        let head = grants.head();
        info!(grant = %head.id, basis = ?head.basis, grants = grants.grants().len(), "Took a registry manager's grants");
        self.replica.adopt(grants);
        self.tell_rewritten();
        Ok(true)
    }

    /// Raises the alarm of a rewritten history, or takes it back.
    fn tell_rewritten(&self) {
        let Some(rewritten) = self.replica.rewritten() else { return self.alarms.clear(REWRITTEN) };
        let at = rewritten.was.position;
        self.alarms.raise(Notice::critical(
            REWRITTEN,
            &format!("registry managers have shown two histories up to revision {at}: one was rewritten"),
            "compare the history and its backups before anything else is edited; then restore the right one",
        ));
    }

    /// How often a difference from a manager had to be repaired.
    pub(crate) fn repairs(&self) -> u64 {
        self.replica.repairs()
    }

    /// The host's place.
    pub(crate) fn place(&self) -> Option<&Place> {
        self.replica.place()
    }

    /// A position that the place is at least as new as.
    pub(crate) fn place_at(&self) -> Option<Position> {
        self.replica.place_at()
    }

    /// The view.
    pub(crate) fn view(&self) -> &View {
        self.replica.view()
    }

    /// The roots that the view says are to be trusted.
    pub(crate) fn trust(&self) -> &[Vec<u8>] {
        self.replica.view().trust()
    }

    /// Begins a session.
    pub(crate) fn begin_session(&mut self) {
        self.replica.begin_session();
        self.offered = Incoming::new(self.grants().cloned());
    }

    /// Takes in a manager's message: decides, persists, publishes. Says whether to ask for a repair.
    ///
    /// # Errors
    /// The message is one that no manager sends; the replica is as it was.
    pub(crate) async fn receive(&mut self, message: ToAgent) -> Result<bool, ReplicaError> {
        let (before, rewritten) = (self.replica.mark(), self.replica.rewritten());
        let signed_at = |replica: &Replica| replica.signed().map(|signed| (signed.mark, signed.at));
        let signed = signed_at(&self.replica);
        let step = self.replica.receive(self.clock.now(), message)?;
        if self.replica.rewritten() != rewritten {
            self.tell_rewritten();
        }
        let moved = self.replica.mark() != before;
        self.moved |= moved || signed_at(&self.replica) != signed;
        match step {
            Step::AskRepair => return Ok(true),
            Step::Replace { mark, rows } => {
                self.metrics.count_update(Update::Snapshot);
                self.write(Write::Replace(mark, rows)).await;
            }
            Step::Apply { mark, changes } => {
                self.metrics.count_update(Update::Delta);
                self.write(Write::Apply(mark, changes)).await;
            }
            Step::Place(place) => {
                self.metrics.count_update(Update::Place);
                self.write(Write::Place(place)).await;
            }
            Step::Nothing => {
                self.write_what_moved().await;
                if !moved {
                    return Ok(false);
                }
            }
        }
        self.publish().await;
        Ok(false)
    }

    /// Writes what is not on disk yet, where its time has come.
    async fn write_what_moved(&mut self) {
        match (self.behind, self.replica.mark()) {
            (Some(failed), _) if self.has_passed(failed, REPAIR_PAUSE) => self.write_all().await,
            (None, Some(mark)) if self.moved && self.has_passed(self.advanced, ADVANCE_PAUSE) => {
                self.advanced = self.clock.now();
                self.write(Write::Advance(mark)).await;
            }
            _ => {}
        }
    }

    /// Shows the replica to the router, and through it to everybody.
    pub(crate) async fn publish(&mut self) {
        self.held = self.replica.holding();
        let (Some(mark), Some(place)) = (self.replica.mark(), self.replica.place()) else { return };
        let snapshot = Snapshot { view: self.replica.view().clone(), place: place.clone(), mark };
        self.routes.send(RouterInput::Replica(Arc::new(snapshot))).await;
    }

    /// Writes down how far the replica has come, for an orderly end.
    pub(crate) async fn close(mut self) {
        match self.replica.mark() {
            Some(_) if self.behind.is_some() => self.write_all().await,
            Some(mark) => self.write(Write::Advance(mark)).await,
            None => {}
        }
    }

    fn has_passed(&self, since: Monotonic, pause: Duration) -> bool {
        self.clock.now().since(since) >= pause
    }

    /// Writes, or, where the file is behind already, everything. A write that fails holds up no route:
    /// better an agent that is right now and a little older after a restart than one that is wrong.
    async fn write(&mut self, write: Write) {
        if self.behind.is_some() {
            return self.write_all().await;
        }
        self.run(write).await;
    }

    async fn write_all(&mut self) {
        let Some(mark) = self.replica.mark() else { return };
        let rows = self.replica.view().rows().collect();
        self.run(Write::All(mark, rows, self.replica.place().cloned())).await;
    }

    fn not_saved(&mut self, fault: &StoreError) {
        self.behind = Some(self.clock.now());
        self.metrics.write_failures.inc();
        self.alarms.raise(Notice::warning(
            NOT_SAVED,
            &format!("the replica cannot be written, routing goes on in memory: {fault}"),
            "make room on the disk of the agent's state directory",
        ));
        error!("The replica on disk is behind; routing goes on, and writing is tried again: {fault}");
    }

    async fn run(&mut self, write: Write) {
        let store = Arc::clone(&self.store);
        let (witnessed, signed) = (self.replica.witnessed(), self.replica.signed().cloned());
        // A place is written without them.
        self.moved &= matches!(write, Write::Place(_));
        let work = move || {
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.witness(witnessed, signed);
            write.run(&mut store)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(())) => {
                if self.behind.take().is_some() {
                    info!("The replica on disk is level again");
                    self.alarms.clear(NOT_SAVED);
                }
            }
            Ok(Err(fault)) => self.not_saved(&fault),
            // The runtime is going away, and the process with it.
            Err(_) => self.behind = Some(self.clock.now()),
        }
    }
}

impl Write {
    fn run(self, store: &mut ReplicaStore) -> Result<(), StoreError> {
        match self {
            Self::Replace(mark, rows) => store.replace(&mark, &rows),
            Self::Apply(mark, changes) => store.apply(&mark, &changes),
            Self::Advance(mark) => store.advance(&mark),
            Self::Place(place) => store.set_place(&place),
            Self::All(mark, rows, place) => {
                store.replace(&mark, &rows)?;
                place.map_or(Ok(()), |place| store.set_place(&place))
            }
        }
    }
}

/// Why a replica's file is of no use.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{error}")]
    Content { error: ReplicaError, kept: Box<Kept> },
}

/// What an agent is witness of, in a file whose rows are of no use.
#[derive(Debug)]
struct Kept {
    grants: Option<Chain>,
    signed: Option<SignedMark>,
}

impl Kept {
    fn of(store: &ReplicaStore) -> Self {
        Self { grants: store.grants().cloned(), signed: store.signed().cloned() }
    }
}

/// Sets aside a replica that is of no use, and begins an empty one. Of what it is witness of nothing is given up as long
/// as that can be read.
fn begin_anew(path: &Path, fault: &Fault) -> Result<(ReplicaStore, Replica), StoreError> {
    let kept = set_aside(path)?;
    warn!(
        kept = %kept.display(),
        "The replica was damaged and is set aside; this host routes nothing until a registry manager sends a new one: \
         {fault}"
    );
    let (mut store, mut replica) = (ReplicaStore::open(path)?, Replica::default());
    if let Fault::Content { kept, .. } = fault {
        kept.signed.iter().for_each(|signed| replica.recall_signed(signed.clone()));
        if let Some(grants) = &kept.grants {
            store.set_grants(grants)?;
            replica.adopt(grants.clone());
        }
    }
    Ok((store, replica))
}

fn open(path: &Path) -> Result<(ReplicaStore, Replica), Fault> {
    let store = ReplicaStore::open(path)?;
    let mut replica = match store.load()? {
        Some(loaded) => Replica::load(loaded.mark, loaded.rows, loaded.place)
            .map_err(|error| Fault::Content { error, kept: Box::new(Kept::of(&store)) })?,
        None => Replica::default(),
    };
    store.witnessed().into_iter().for_each(|witnessed| replica.recall(witnessed));
    store.signed().cloned().into_iter().for_each(|signed| replica.recall_signed(signed));
    store.grants().cloned().into_iter().for_each(|grants| replica.adopt(grants));
    Ok((store, replica))
}

/// When the file, or its log, was written last.
fn written(path: &Path) -> Option<UnixMillis> {
    let log = PathBuf::from(format!("{}-wal", path.display()));
    let modified = |path: &Path| fs::metadata(path).ok()?.modified().ok();
    let last = [modified(path), modified(&log)].into_iter().flatten().max()?;
    let since = last.duration_since(UNIX_EPOCH).ok()?;
    Some(UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use echelon_core::grant::Grant;
    use echelon_core::id::{HostId, Lineage};
    use uuid::Uuid;

    /// Protects: an agent whose rows do not add up stays a witness of who may write.
    #[test]
    fn a_replica_that_does_not_add_up_is_begun_anew_and_its_grants_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let (lineage, host) = (Lineage(Uuid::from_u128(1)), HostId(Uuid::from_u128(2)));
        let first = Grant::first(lineage, host, "fm1".parse().unwrap(), UnixMillis(0));
        let chain = Chain::begin(first).unwrap();
        let mut store = ReplicaStore::open(&path).unwrap();
        store.set_grants(&chain).unwrap();
        // The digest is none of a view without rows.
        let digest = chain.digest();
        let mark = ViewMark { position: chain.head().id.at(3), view_revision: 3, digest };
        store.replace(&mark, &[]).unwrap();
        drop(store);
        let Err(fault) = open(&path) else { panic!("it adds up") };
        let (store, replica) = begin_anew(&path, &fault).unwrap();
        assert_eq!((store.grants(), replica.grants(), replica.mark()), (Some(&chain), Some(&chain), None));
        drop(store);
        assert_eq!(open(&path).map(|(store, _)| store.grants().cloned()).unwrap(), Some(chain));
    }
}
