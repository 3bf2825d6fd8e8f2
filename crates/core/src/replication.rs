//! Keeping replicas level: what a manager sends an agent, and what an agent makes of it.

use crate::digest::Digest;
use crate::message::{Delta, Holding, ManagerHeartbeat, SnapshotPart, ToAgent, ViewMark};
use crate::position::Position;
use crate::time::Monotonic;
use crate::view::{Place, View, ViewChange, ViewRow};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How many deltas a manager keeps for agents that come back: a restarted agent that missed fewer edits
/// gets them, one that missed more gets a snapshot, which costs about as much as this many deltas.
pub const KEPT_DELTAS: usize = 1024;

/// How many changes the kept deltas may have together: large edits come to some 25 MB so, and whoever missed
/// more than this is better served by a snapshot.
pub const KEPT_CHANGES: usize = 100_000;

/// Most rows of a snapshot that an agent takes: ten times the largest view that is planned for.
pub const MAX_SNAPSHOT_ROWS: usize = 1_000_000;

/// Least time between two repairs that an agent asks for; jittered by its caller.
pub const REPAIR_INTERVAL: Duration = Duration::from_secs(60);

/// The manager's side: the view, and how it came about lately.
#[derive(Debug)]
pub struct ViewLog {
    view: View,
    mark: ViewMark,
    deltas: VecDeque<Arc<Delta>>,
    /// How many changes the deltas have together.
    kept: usize,
}

/// What an agent needs to be level.
#[derive(Clone, Debug, PartialEq)]
pub enum CatchUp {
    /// Nothing.
    Level,
    /// These deltas, in this order.
    Deltas(Vec<Arc<Delta>>),
    /// The whole view.
    Snapshot,
    /// Nothing yet: it holds a later state of this lineage, and deltas begin once the manager has
    /// passed it.
    Ahead,
}

impl ViewLog {
    /// The log that begins with this view. The view's revision is not remembered across a restart of the
    /// manager, so it counts as changed now; agents that hold the same digest are level all the same.
    pub fn new(position: Position, view: View) -> Self {
        let mark = ViewMark { position, view_revision: position.revision, digest: view.digest() };
        Self { view, mark, deltas: VecDeque::new(), kept: 0 }
    }

    /// The view now.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What the view is.
    pub fn mark(&self) -> ViewMark {
        self.mark
    }

    /// Takes in a commit that changed the view so. Gives the delta to push; none where agents see no
    /// difference.
    ///
    /// # Errors
    /// The changes do not fit the view, which a projection of the registry never brings about. The log is
    /// as it was.
    pub fn push(
        &mut self,
        position: Position,
        changes: Vec<ViewChange>,
    ) -> Result<Option<Arc<Delta>>, crate::hierarchy::TreeError> {
        if changes.is_empty() {
            self.mark.position = position;
            return Ok(None);
        }
        self.view = self.view.with(changes.iter().cloned())?;
        let from_view_revision = self.mark.view_revision;
        self.mark = ViewMark { position, view_revision: position.revision, digest: self.view.digest() };
        let delta = Arc::new(Delta { from_view_revision, mark: self.mark, changes });
        self.deltas.push_back(Arc::clone(&delta));
        self.kept += delta.changes.len();
        while self.deltas.len() > KEPT_DELTAS || self.kept > KEPT_CHANGES {
            let Some(oldest) = self.deltas.pop_front() else { break };
            self.kept -= oldest.changes.len();
        }
        Ok(Some(delta))
    }

    /// What an agent needs that holds this.
    pub fn catch_up(&self, holds: Option<&Holding>) -> CatchUp {
        let Some(holds) = holds.filter(|h| h.position.lineage == self.mark.position.lineage) else {
            return CatchUp::Snapshot;
        };
        if holds.digest == self.mark.digest {
            return CatchUp::Level;
        }
        if (holds.position.epoch, holds.view_revision) > number(&self.mark) {
            return CatchUp::Ahead;
        }
        match self.deltas.iter().position(|d| d.from_view_revision == holds.view_revision) {
            Some(first) => CatchUp::Deltas(self.deltas.iter().skip(first).cloned().collect()),
            None => CatchUp::Snapshot,
        }
    }
}

/// What orders the states of a view within one lineage.
fn number(mark: &ViewMark) -> (u64, u64) {
    (mark.position.epoch, mark.view_revision)
}

/// The agent's side.
#[derive(Debug, Default)]
pub struct Replica {
    view: View,
    mark: Option<ViewMark>,
    place: Option<Place>,
    /// A position that the place is at least as new as.
    place_at: Option<Position>,
    parts: Vec<ViewRow>,
    in_parts: bool,
    behind: Option<Standing>,
    repaired: Option<Monotonic>,
    repairs: u64,
}

/// What a replica held at the last heartbeat that was further than it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Standing {
    view: Option<(u64, u64)>,
    place: Option<Digest>,
}

/// What an agent does about a message, in this order: persist, then send, then publish.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write the whole view, then show it.
    Replace {
        /// What it is.
        mark: ViewMark,
        /// Its rows.
        rows: Vec<ViewRow>,
    },
    /// Write the changes of the view, then show it.
    Apply {
        /// What it is.
        mark: ViewMark,
        /// The changes.
        changes: Vec<ViewChange>,
    },
    /// Write the place, then show it.
    Place(Place),
    /// Ask for a snapshot; the caller waits for a random part of a few seconds first, since many agents
    /// may find the same fault at once.
    AskRepair,
    /// Nothing: only the position moved, which is not worth a write.
    Nothing,
}

/// A message that no manager sends. The session is to be closed; the replica is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// A part of a snapshot came before its first part.
    #[error("a part of a snapshot came before its first part")]
    PartBeforeFirst,
    /// The snapshot is too large.
    #[error("the snapshot has over {MAX_SNAPSHOT_ROWS} rows")]
    TooLarge,
    /// The snapshot is not what its mark says.
    #[error("the snapshot's digest is {found}, its mark says {expected}")]
    Digest {
        /// What was announced.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The snapshot has no managers, which no edit brought about.
    #[error(
        "the snapshot has no managers, this replica has some, and the registry knows of no edit that took them"
    )]
    Emptied,
    /// The domains of the snapshot are no tree.
    #[error("the domains of the snapshot are no tree: {0}")]
    Tree(#[from] crate::hierarchy::TreeError),
}

impl Replica {
    /// The replica as it was found on disk.
    ///
    /// # Errors
    /// The rows are no view, or not the one that the mark says.
    pub fn load(mark: ViewMark, rows: Vec<ViewRow>, place: Option<Place>) -> Result<Self, ReplicaError> {
        let view = View::from_rows(rows)?;
        check_digest(&view, &mark)?;
        Ok(Self { view, mark: Some(mark), place, ..Self::default() })
    }

    /// The view.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The host's own place, once it is known.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// A position that the place is known to be at least as new as; none until a heartbeat has said so.
    pub fn place_at(&self) -> Option<Position> {
        self.place_at
    }

    /// What the view is, once there is one.
    pub fn mark(&self) -> Option<ViewMark> {
        self.mark
    }

    /// How often a difference from the manager had to be repaired.
    pub fn repairs(&self) -> u64 {
        self.repairs
    }

    /// What it holds, for the manager; none until both view and place are there.
    pub fn holding(&self) -> Option<Holding> {
        let (mark, place) = (self.mark?, self.place.as_ref()?);
        let ViewMark { position, view_revision, digest } = mark;
        Some(Holding { position, view_revision, digest, place: place.digest() })
    }

    /// Begins a session: parts of an unfinished snapshot are forgotten.
    pub fn begin_session(&mut self) {
        self.parts.clear();
        self.in_parts = false;
        self.behind = None;
        self.place_at = None;
    }

    /// Takes in a message. Messages that do not concern the replica do nothing.
    ///
    /// # Errors
    /// See [`ReplicaError`].
    pub fn receive(&mut self, now: Monotonic, message: ToAgent) -> Result<Step, ReplicaError> {
        match message {
            ToAgent::Snapshot(part) => self.take_part(part),
            ToAgent::Delta(delta) => Ok(self.take_delta(now, delta)),
            ToAgent::Place(place) => {
                self.place = Some(place.clone());
                Ok(Step::Place(place))
            }
            ToAgent::Heartbeat(heartbeat) => Ok(self.compare(now, &heartbeat)),
            ToAgent::Welcome(_) | ToAgent::Liveness(_) => Ok(Step::Nothing),
        }
    }

    fn take_part(&mut self, part: SnapshotPart) -> Result<Step, ReplicaError> {
        if part.first {
            self.begin_session();
            self.in_parts = true;
        }
        if !self.in_parts {
            return Err(ReplicaError::PartBeforeFirst);
        }
        if self.parts.len() + part.rows.len() > MAX_SNAPSHOT_ROWS {
            return Err(ReplicaError::TooLarge);
        }
        self.parts.extend(part.rows);
        let Some(mark) = part.last else { return Ok(Step::Nothing) };
        let rows = std::mem::take(&mut self.parts);
        self.in_parts = false;
        // A manager that is behind this replica may serve it, but never takes it back.
        if self.mark.is_some_and(|mine| mine.position.is_after(&mark.position) == Some(true)) {
            return Ok(Step::Nothing);
        }
        let view = View::from_rows(rows.iter().cloned())?;
        check_digest(&view, &mark)?;
        if self.view.has_managers() && !view.has_managers() && !self.is_later(part.emptied, &mark) {
            return Err(ReplicaError::Emptied);
        }
        self.view = view;
        self.mark = Some(mark);
        Ok(Step::Replace { mark, rows })
    }

    /// Whether the managers held here were there before the edit that took the last one.
    fn is_later(&self, emptied: Option<u64>, theirs: &ViewMark) -> bool {
        emptied.is_some_and(|at| self.mark_in(theirs).is_none_or(|mine| at > mine.view_revision))
    }

    /// The digest alone says whether a delta fits: after a restart a manager may count revisions of the view
    /// from elsewhere, and a replica that was level then still is.
    fn take_delta(&mut self, now: Monotonic, delta: Delta) -> Step {
        let Some(mine) = self.mark_in(&delta.mark) else { return self.ask_repair(now) };
        if number(&mine) >= number(&delta.mark) {
            return Step::Nothing;
        }
        let next = self.view.with(delta.changes.iter().cloned()).ok();
        match next.filter(|view| view.digest() == delta.mark.digest) {
            Some(view) => {
                self.view = view;
                self.mark = Some(delta.mark);
                Step::Apply { mark: delta.mark, changes: delta.changes }
            }
            None => self.ask_repair(now),
        }
    }

    /// Compares with what the manager says it has. What differs at the same revision is repaired at once;
    /// what is merely behind may be on its way, and is repaired if the next heartbeat finds it where it was.
    fn compare(&mut self, now: Monotonic, heartbeat: &ManagerHeartbeat) -> Step {
        let theirs = heartbeat.mark;
        let standing =
            Standing { view: self.mark.as_ref().map(number), place: self.place.as_ref().map(Place::digest) };
        let place_matches = standing.place == Some(heartbeat.place);
        if place_matches {
            self.place_at = Some(theirs.position);
        }
        match self.mark_in(&theirs) {
            // A snapshot is coming and replaces whatever differs.
            _ if self.in_parts => Step::Nothing,
            Some(mine) if mine.digest == theirs.digest && place_matches => {
                self.behind = None;
                // A manager that was restarted counts its view as changed at its start: the number is taken
                // over too, since its deltas build on it.
                if mine.position.is_after(&theirs.position) == Some(false) {
                    self.mark = Some(theirs);
                }
                Step::Nothing
            }
            Some(mine) if mine.digest != theirs.digest && number(&mine) == number(&theirs) => {
                self.ask_repair(now)
            }
            Some(mine) if number(&mine) > number(&theirs) => Step::Nothing,
            _ if self.behind == Some(standing) => self.ask_repair(now),
            _ => {
                self.behind = Some(standing);
                Step::Nothing
            }
        }
    }

    /// What the view is, where it is of the same lineage.
    fn mark_in(&self, theirs: &ViewMark) -> Option<ViewMark> {
        self.mark.filter(|mine| mine.position.lineage == theirs.position.lineage)
    }

    fn ask_repair(&mut self, now: Monotonic) -> Step {
        if self.repaired.is_some_and(|at| now.since(at) < REPAIR_INTERVAL) {
            return Step::Nothing;
        }
        self.repaired = Some(now);
        self.repairs += 1;
        Step::AskRepair
    }
}

fn check_digest(view: &View, mark: &ViewMark) -> Result<(), ReplicaError> {
    let found = view.digest();
    match found == mark.digest {
        true => Ok(()),
        false => Err(ReplicaError::Digest { expected: mark.digest, found }),
    }
}
