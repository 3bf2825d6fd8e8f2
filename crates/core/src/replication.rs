//! Keeping replicas level: what a manager sends an agent, and what an agent makes of it.

use crate::digest::Digest;
use crate::grant::{Chain, Hash, Mark};
use crate::message::{Delta, Holding, ManagerHeartbeat, SnapshotPart, ToAgent, ViewMark};
use crate::position::Position;
use crate::signed_mark::{MAX_PROOF, SignedMark};
use crate::time::Monotonic;
use crate::view::{Place, View, ViewChange, ViewRow};
use crate::witness::{self, Standing};
use std::cmp::Ordering;
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

    /// What an agent needs that holds this, where both go by these grants.
    pub fn catch_up(&self, grants: Option<&Chain>, holds: Option<&Holding>) -> CatchUp {
        let Some(holds) = holds else { return CatchUp::Snapshot };
        match witness::standing(grants, &holds.position, &self.mark.position) {
            Standing::Replaces => CatchUp::Snapshot,
            // Until this manager has given up what does not count any more, it has nothing to tell.
            Standing::Outside => CatchUp::Ahead,
            Standing::Compares(_) if holds.digest == self.mark.digest => CatchUp::Level,
            Standing::Compares(_) if (holds.position.epoch, holds.view_revision) > number(&self.mark) => {
                CatchUp::Ahead
            }
            Standing::Compares(_) => match self.first_missing(grants, holds) {
                Some(first) => CatchUp::Deltas(self.deltas.iter().skip(first).cloned().collect()),
                None => CatchUp::Snapshot,
            },
        }
    }

    /// The first kept delta that an agent lacks which holds this; none where it holds nothing of this manager's
    /// history, or too old a part of it. The digest tells, since managers that were restarted number the same views
    /// differently; before the oldest delta only the number does.
    fn first_missing(&self, grants: Option<&Chain>, holds: &Holding) -> Option<usize> {
        if grants.is_some_and(|grants| !grants.contains(&holds.position)) {
            return None;
        }
        let had = self.deltas.iter().rposition(|d| d.mark.digest == holds.digest).map(|had| had + 1);
        had.or_else(|| self.deltas.iter().position(|d| d.from_view_revision == holds.view_revision))
    }
}

/// What orders the states of a view within one lineage.
fn number(mark: &ViewMark) -> (u64, u64) {
    (mark.position.epoch, mark.view_revision)
}

/// The agent's side.
///
/// It never goes back: what it shows is always a state under the newest grants that it was given, and never one
/// before what it has shown of those.
#[derive(Debug, Default)]
pub struct Replica {
    view: View,
    mark: Option<ViewMark>,
    /// The newest grants it was given; none before the first.
    grants: Option<Chain>,
    /// The newest hash of the journal that a manager has told.
    witnessed: Option<Mark>,
    rewritten: Option<Rewritten>,
    /// The newest mark under the grants that a manager has signed.
    signed: Option<SignedMark>,
    /// The certificates of the last signed mark on this session.
    signer: Vec<Vec<u8>>,
    place: Option<Place>,
    /// A position that the place is at least as new as.
    place_at: Option<Position>,
    parts: Vec<ViewRow>,
    in_parts: bool,
    behind: Option<Stuck>,
    repaired: Option<Monotonic>,
    repairs: u64,
}

/// That managers have told two hashes of one journal: somebody has rewritten it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rewritten {
    /// What was told first.
    pub was: Mark,
    /// What was told of the same position later.
    pub is: Hash,
}

/// What a replica held at the last heartbeat that was further than it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stuck {
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

    /// The grants it goes by.
    pub fn grants(&self) -> Option<&Chain> {
        self.grants.as_ref()
    }

    /// Goes by these grants from now on. They must be durable, and [`witness::judge`] must have said that they are
    /// to be adopted.
    pub fn adopt(&mut self, grants: Chain) {
        self.grants = Some(grants);
        // What was written under a grant that does not count is another history, and no forged one.
        let counts = |mark: &Mark| self.grants.as_ref().is_some_and(|g| g.contains(&mark.position));
        self.witnessed = self.witnessed.filter(counts);
        self.rewritten = self.rewritten.filter(|rewritten| counts(&rewritten.was));
        if self.signed.as_ref().is_some_and(|signed| !counts(&signed.mark)) {
            self.signed = None;
        }
    }

    /// The newest hash of the journal that a manager has told, with its position.
    pub fn witnessed(&self) -> Option<Mark> {
        self.witnessed
    }

    /// Takes back what was written down of [`Self::witnessed`].
    pub fn recall(&mut self, witnessed: Mark) {
        self.witnessed = Some(witnessed);
    }

    /// The newest mark that a manager has signed, under the grants: what this agent can prove to have been shown.
    pub fn signed(&self) -> Option<&SignedMark> {
        self.signed.as_ref()
    }

    /// Takes back what was written down of [`Self::signed`].
    pub fn recall_signed(&mut self, signed: SignedMark) {
        self.signed = Some(signed);
    }

    /// Whether managers have told two hashes of one journal, since it was loaded.
    pub fn rewritten(&self) -> Option<Rewritten> {
        self.rewritten
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
        self.forget_parts();
        self.signer.clear();
    }

    fn forget_parts(&mut self) {
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
            ToAgent::Signed(signed) => {
                self.take_signed(signed);
                Ok(Step::Nothing)
            }
            ToAgent::Welcome(_) | ToAgent::Liveness(_) | ToAgent::Grants(_) => Ok(Step::Nothing),
        }
    }

    fn take_part(&mut self, part: SnapshotPart) -> Result<Step, ReplicaError> {
        if part.first {
            self.forget_parts();
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
        if self.goes_back(&mark) {
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
        if self.goes_back(&delta.mark) {
            return Step::Nothing;
        }
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
        if let Some(hash) = heartbeat.journal {
            self.witness(Mark { position: theirs.position, hash });
        }
        if self.goes_back(&theirs) {
            return Step::Nothing;
        }
        let standing =
            Stuck { view: self.mark.as_ref().map(number), place: self.place.as_ref().map(Place::digest) };
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
                self.mark = Some(theirs);
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

    /// Keeps the newest hash of the journal, and compares where it is told again.
    fn witness(&mut self, told: Mark) {
        let stands = |was: &Mark| witness::standing(self.grants.as_ref(), &was.position, &told.position);
        match self.witnessed.map(|was| (was, stands(&was))) {
            Some((was, Standing::Compares(Ordering::Equal))) if was.hash != told.hash => {
                self.rewritten.get_or_insert(Rewritten { was, is: told.hash });
            }
            Some((_, Standing::Outside | Standing::Compares(Ordering::Less | Ordering::Equal))) => {}
            Some((_, Standing::Replaces | Standing::Compares(Ordering::Greater))) | None => {
                self.witnessed = Some(told);
            }
        }
    }

    /// Keeps the newest signed mark. One that is too large is no manager's.
    fn take_signed(&mut self, mut signed: SignedMark) {
        if signed.proof_len() > MAX_PROOF {
            return;
        }
        match signed.proof.certificates.is_empty() {
            true => signed.proof.certificates.clone_from(&self.signer),
            false => self.signer.clone_from(&signed.proof.certificates),
        }
        self.witness(signed.mark);
        if !signed.proof.certificates.is_empty() && self.is_better(&signed) {
            self.signed = Some(signed);
        }
    }

    /// Whether a signed mark is to be kept in place of what is kept. Of one mark the signature that was made last is the
    /// one that counts longest. Of two histories the first one stays: it speaks against whoever shows the other.
    fn is_better(&self, signed: &SignedMark) -> bool {
        let (grants, position) = (self.grants.as_ref(), &signed.mark.position);
        let Some(kept) = &self.signed else { return grants.is_none_or(|grants| grants.contains(position)) };
        match witness::standing(grants, &kept.mark.position, position) {
            Standing::Outside | Standing::Compares(Ordering::Less) => false,
            Standing::Compares(Ordering::Equal) => kept.mark.hash == signed.mark.hash && kept.at < signed.at,
            Standing::Replaces | Standing::Compares(Ordering::Greater) => true,
        }
    }

    /// Whether a view is one from before what is shown, or none under the grants.
    fn goes_back(&self, theirs: &ViewMark) -> bool {
        matches!(self.standing(theirs), Standing::Outside | Standing::Compares(Ordering::Less))
    }

    /// What the view is, where it compares with theirs.
    fn mark_in(&self, theirs: &ViewMark) -> Option<ViewMark> {
        self.mark.filter(|_| matches!(self.standing(theirs), Standing::Compares(_)))
    }

    /// How a view stands to what is shown. Before anything is shown, any state under the grants comes later.
    fn standing(&self, theirs: &ViewMark) -> Standing {
        let grants = self.grants.as_ref();
        match self.mark {
            Some(mine) => witness::standing(grants, &mine.position, &theirs.position),
            None if grants.is_some_and(|g| !g.contains(&theirs.position)) => Standing::Outside,
            None => Standing::Replaces,
        }
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
