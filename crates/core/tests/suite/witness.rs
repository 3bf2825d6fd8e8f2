//! Agents as witnesses: managers tell the truth, but some of them are old.

use crate::support::*;
use echelon_core::grant::{Basis, Chain, Grant, GrantId, Grantor, Mark, Parent, Proof, Relation, SyncRule};
use echelon_core::id::Lineage;
use echelon_core::message::{Delta, ManagerHeartbeat, SnapshotPart, ToAgent, ViewMark};
use echelon_core::position::Position;
use echelon_core::replication::{CatchUp, Replica, Step, ViewLog};
use echelon_core::signed_mark::SignedMark;
use echelon_core::time::{Monotonic, UnixMillis};
use echelon_core::view::{View, ViewChange};
use echelon_core::witness::{self, Objection, Standing, Verdict};
use proptest::prelude::*;
use std::cmp::Ordering;
use uuid::Uuid;

/// What a manager goes by: its grants, and the states that it has had, the newest last.
#[derive(Clone)]
struct Manager {
    grants: Chain,
    states: Vec<(Position, View)>,
}

impl Manager {
    fn init() -> Self {
        let lineage = Lineage(Uuid::from_u128(1));
        let grants = Chain::begin(Grant::first(lineage, host_id(1), parse("a"), UnixMillis(0))).unwrap();
        let world = reference_case();
        Self { states: vec![(grants.head().id.at(1), world.view())], grants }
    }

    fn position(&self) -> Position {
        self.states.last().unwrap().0
    }

    /// The registry goes on by one edit, after which agents see this.
    fn edit(&mut self, view: View) {
        let revision = self.position().revision + 1;
        self.states.push((self.grants.head().id.at(revision), view));
    }

    /// The same registry under one grant more, which builds on the state `back` revisions ago.
    fn granted(&self, basis: Basis, lineage: Lineage, back: usize, rejects: Vec<GrantId>) -> Self {
        let before = self.grants.head();
        // What a grant builds on is not older than what the one before it built on.
        let least = before.parent.map_or(0, |p| p.mark.revision());
        let keep = self.states.len().saturating_sub(back).max(1);
        let mut states = self.states[..keep].to_vec();
        while states.last().is_some_and(|(position, _)| position.revision < least) {
            states.push(self.states[states.len()].clone());
        }
        let position = states.last().unwrap().0;
        let grant = Grant {
            id: GrantId { lineage, epoch: before.id.epoch + 1 },
            holder: host_id(2),
            parent: Some(Parent { grant: before.id, mark: Mark { position, hash: [0; 32] } }),
            basis,
            sync: SyncRule::alone(),
            at: UnixMillis(0),
            grantor: Grantor::Console(parse("anna")),
            reason: None,
            rejects,
            proof: None,
        };
        Self { grants: self.grants.extended(grant).unwrap(), states }
    }

    fn log(&self) -> ViewLog {
        let (position, view) = self.states[0].clone();
        let mut log = ViewLog::new(position, view);
        for pair in self.states.windows(2) {
            log.push(pair[1].0, difference(&pair[0].1, &pair[1].1)).unwrap();
        }
        log
    }
}

fn difference(from: &View, to: &View) -> Vec<ViewChange> {
    let gone = from.rows().map(|row| row.key()).filter(|key| to.row(key).is_none());
    let gone = gone.map(|key| ViewChange { key, row: None });
    let set = to.rows().filter(|row| from.row(&row.key()).as_ref() != Some(row));
    gone.chain(set.map(|row| ViewChange { key: row.key(), row: Some(row) })).collect()
}

/// This position with a hash, signed at this time by somebody whose certificates are told.
fn signed(position: Position, hash: u8, at: u64) -> ToAgent {
    let proof = Proof { certificates: vec![vec![1], vec![2]], signature: vec![3] };
    ToAgent::Signed(SignedMark { mark: Mark { position, hash: [hash; 32] }, at: UnixMillis(at), proof })
}

/// An agent, with a check of every state that it shows.
#[derive(Default)]
struct Agent {
    replica: Replica,
    refused: Vec<Objection>,
}

impl Agent {
    /// A session with a manager. Says whether it was taken up.
    fn meet(&mut self, manager: &Manager) -> bool {
        match witness::judge(self.replica.grants(), &manager.grants) {
            Verdict::Same => {}
            Verdict::Adopt => {
                let beats = |kept: &Chain| matches!(kept.compare(&manager.grants), Relation::Newer(_));
                assert!(self.replica.grants().is_none_or(beats), "grants that do not beat the kept ones");
                self.replica.adopt(manager.grants.clone());
            }
            Verdict::Refuse(objection) => {
                self.refused.push(objection);
                return false;
            }
        }
        self.replica.begin_session();
        let log = manager.log();
        match log.catch_up(Some(&manager.grants), self.replica.holding().as_ref()) {
            CatchUp::Level | CatchUp::Ahead => {}
            CatchUp::Deltas(deltas) => {
                for delta in deltas {
                    self.receive(ToAgent::Delta(Delta::clone(&delta)));
                }
            }
            CatchUp::Snapshot => self.take(&log),
        }
        self.tell_all(&log);
        true
    }

    fn take(&mut self, log: &ViewLog) {
        let part = SnapshotPart {
            first: true,
            rows: log.view().rows().collect(),
            last: Some(log.mark()),
            emptied: None,
        };
        self.receive(ToAgent::Snapshot(part));
    }

    /// Everything that a manager might say of its state, whether it is due or not.
    fn tell_all(&mut self, log: &ViewLog) {
        let place = self.replica.place().map(|place| place.digest()).unwrap_or_default();
        let beat = ToAgent::Heartbeat(ManagerHeartbeat { mark: log.mark(), place, journal: Some([1; 32]) });
        self.receive(signed(log.mark().position, 1, 1));
        self.receive(beat.clone());
        if self.receive(beat) == Step::AskRepair {
            self.take(log);
        }
    }

    fn receive(&mut self, message: ToAgent) -> Step {
        let before = self.replica.mark();
        let step = self.replica.receive(Monotonic(1_000_000_000), message).unwrap();
        let (Some(grants), Some(after)) = (self.replica.grants(), self.replica.mark()) else { return step };
        if let Some(signed) = self.replica.signed() {
            assert!(grants.contains(&signed.mark.position), "{:?} is no state under the grants", signed.mark);
        }
        if before != Some(after) {
            assert!(grants.contains(&after.position), "{} is no state under the grants", after.position);
        }
        if let Some(before) = before.filter(|b| grants.get(GrantId::of(&b.position)).is_some()) {
            let number = |mark: ViewMark| (mark.position.epoch, mark.position.revision);
            assert!(number(after) >= number(before), "it went back from {before:?} to {after:?}");
        }
        step
    }
}

/// What happens to the registry, or whom the agent meets.
#[derive(Clone, Debug)]
enum Event {
    /// The registry goes on, so that agents see this view.
    Edit(usize),
    /// Another manager takes over what there is.
    Handover,
    /// Another manager takes over what was there so many edits ago: what came since is given up.
    Force(usize),
    /// The agent meets a manager as it was so many events ago.
    Meet(usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..6_usize).prop_map(Event::Edit),
        1 => Just(Event::Handover),
        1 => (0..4_usize).prop_map(Event::Force),
        5 => (0..8_usize).prop_map(Event::Meet),
    ]
}

/// Some views, of which the last is as the first.
fn views() -> Vec<View> {
    let mut world = reference_case();
    let mut views = vec![world.view()];
    for change in
        [withdraw("agent1", CC), withdraw("agent3", CC), boundary("/sub1", "*", true), restore("agent3", CC)]
    {
        world.edit([change]);
        views.push(world.view());
    }
    views.push(views[0].clone());
    views
}

fn agent() -> Agent {
    let mut agent = Agent::default();
    agent.receive(ToAgent::Place(reference_case().place("agent4")));
    agent
}

proptest! {
    /// Protects: agents never go back, neither with their grants nor with what they show, whichever old manager they
    /// meet; and the newest one brings them level.
    #[test]
    fn agents_never_go_back(events in prop::collection::vec(event(), 1..60)) {
        let views = views();
        let mut agent = agent();
        let mut managers = vec![Manager::init()];
        let mut lineages = 1;
        for event in &events {
            let mut newest = managers.last().unwrap().clone();
            let lineage = newest.grants.head().id.lineage;
            match event {
                Event::Edit(view) => newest.edit(views[*view].clone()),
                Event::Handover => newest = newest.granted(Basis::Handover, lineage, 0, vec![]),
                Event::Force(back) => {
                    lineages += 1;
                    newest = newest.granted(Basis::Force, Lineage(Uuid::from_u128(lineages)), *back, vec![]);
                }
                Event::Meet(ago) => {
                    let ago = managers.len().saturating_sub(1 + ago);
                    agent.meet(&managers[ago]);
                    continue;
                }
            }
            managers.push(newest);
        }
        // The newest manager has written under its grant, as a new primary does at once.
        let mut newest = managers.last().unwrap().clone();
        newest.edit(views[0].clone());
        prop_assert!(agent.meet(&newest), "{:?}", agent.refused);
        prop_assert_eq!(agent.replica.view().digest(), newest.states.last().unwrap().1.digest());
        prop_assert_eq!(agent.replica.mark().unwrap().position, newest.position());
        prop_assert_eq!(agent.replica.rewritten(), None);
        prop_assert_eq!(agent.replica.signed().map(|signed| signed.mark.position), Some(newest.position()));
    }

    /// Protects: where both sides of a partition were made primary, an agent keeps to the one it met first, until an
    /// admin has chosen; then it goes by the choice, also where it was on the other side.
    #[test]
    fn agents_keep_the_first_of_two_lineages_until_somebody_chooses(
        edits in prop::array::uniform3(0..6_usize),
        forks in prop::array::uniform2(0..3_usize),
        right_first: bool,
    ) {
        let views = views();
        let mut trunk = Manager::init();
        (0..edits[0]).for_each(|n| trunk.edit(views[n % 5].clone()));
        let fork = |back: usize, lineage: u128, edits: usize| {
            let mut side = trunk.granted(Basis::Force, Lineage(Uuid::from_u128(lineage)), back, vec![]);
            (0..=edits).for_each(|n| side.edit(views[(n + 2) % 5].clone()));
            side
        };
        let (left, right) = (fork(forks[0], 2, edits[1]), fork(forks[1], 3, edits[2]));
        let mut agent = agent();
        agent.meet(&trunk);
        let (first, second) = if right_first { (&right, &left) } else { (&left, &right) };
        prop_assert!(agent.meet(first));
        prop_assert!(!agent.meet(second) && !agent.meet(&trunk));
        let conflict =
            Objection::Conflict { ours: first.grants.head().id, theirs: second.grants.head().id };
        let older =
            Objection::Older { ours: first.grants.head().id, theirs: trunk.grants.head().id };
        prop_assert_eq!(&agent.refused, &[conflict, older]);
        let mut chosen = left.granted(Basis::Choice, Lineage(Uuid::from_u128(2)), 0, vec![right.grants.head().id]);
        chosen.edit(views[1].clone());
        prop_assert!(agent.meet(&chosen));
        prop_assert_eq!(agent.replica.view().digest(), views[1].digest());
        prop_assert!(!agent.meet(&right));
    }
}

/// Protects: a manager that has heard of its successor, but not given up what only it had, brings nobody that.
#[test]
fn what_was_given_up_is_shown_by_nobody_who_knows_of_it() {
    let views = views();
    let mut old = Manager::init();
    let mut new = old.granted(Basis::Force, Lineage(Uuid::from_u128(2)), 0, vec![]);
    old.edit(views[1].clone());
    let mut agent = agent();
    agent.meet(&new);
    let held = agent.replica.mark();
    old.grants = new.grants.clone();
    assert!(agent.meet(&old), "they go by the same grants");
    assert_eq!(agent.replica.mark(), held);
    new.edit(views[2].clone());
    agent.meet(&new);
    assert_eq!(agent.replica.view().digest(), views[2].digest());
}

/// Protects: after a promotion with nothing lost an agent needs no view: what it has is what counts.
#[test]
fn a_promotion_that_changes_nothing_agents_see_sends_nothing() {
    let before = Manager::init();
    let mut agent = agent();
    agent.meet(&before);
    let mut after = before.granted(Basis::Force, Lineage(Uuid::from_u128(2)), 0, vec![]);
    let view = after.states[0].1.clone();
    after.edit(view);
    let caught_up = after.log().catch_up(Some(&after.grants), agent.replica.holding().as_ref());
    assert_eq!(caught_up, CatchUp::Level);
    agent.meet(&after);
    assert_eq!(agent.replica.mark().unwrap().position, after.position());
}

#[test]
fn another_registry_is_refused_and_nobody_is_before_the_first() {
    let one = Manager::init().grants;
    let first =
        Grant { id: GrantId { lineage: Lineage(Uuid::from_u128(9)), epoch: 1 }, ..one.head().clone() };
    let other = Chain::begin(first).unwrap();
    let (ours, theirs) = (one.head().id, other.head().id);
    assert_eq!(witness::judge(Some(&one), &other), Verdict::Refuse(Objection::Foreign { ours, theirs }));
    assert_eq!(witness::judge(None, &other), Verdict::Adopt);
    assert_ne!(one.digest(), other.digest());
    assert_eq!(witness::standing(Some(&one), &ours.at(1), &theirs.at(2)), Standing::Outside);
    assert_eq!(witness::standing(None, &ours.at(3), &ours.at(2)), Standing::Compares(Ordering::Less));
    assert_eq!(witness::standing(None, &ours.at(3), &theirs.at(2)), Standing::Replaces);
}

/// Protects: a history that was rewritten or cut off and written anew is noticed at the position that was told
/// before, and what another grant made of that number is no such thing.
#[test]
fn another_hash_of_the_same_position_is_noticed() {
    let manager = Manager::init();
    let mut agent = agent();
    agent.meet(&manager);
    let beat = |manager: &Manager, hash: u8| {
        let mark = manager.log().mark();
        let place = reference_case().place("agent4").digest();
        ToAgent::Heartbeat(ManagerHeartbeat { mark, place, journal: Some([hash; 32]) })
    };
    let mut later = manager.clone();
    later.edit(views()[0].clone());
    agent.receive(beat(&later, 2));
    agent.receive(beat(&manager, 7));
    assert_eq!(agent.replica.rewritten(), None, "only the newest position is compared");
    agent.receive(beat(&later, 3));
    let rewritten = agent.replica.rewritten().expect("the hash is another one");
    assert_eq!((rewritten.was, rewritten.is), (Mark { position: later.position(), hash: [2; 32] }, [3; 32]));
    let forced = manager.granted(Basis::Force, Lineage(Uuid::from_u128(2)), 0, vec![]);
    agent.meet(&forced);
    assert_eq!(
        (agent.replica.rewritten(), agent.replica.witnessed().map(|m| m.position)),
        (None, Some(manager.position()))
    );
}

/// Protects: an agent keeps the newest mark that it can prove, under the grants that count, with the certificates that
/// it takes, and gives the first of two histories up for no other.
#[test]
fn the_newest_signed_mark_is_kept_with_its_certificates() {
    let mut manager = Manager::init();
    let mut agent = agent();
    agent.meet(&manager);
    let first = manager.position();
    manager.edit(views()[0].clone());
    let bare = |position: Position, hash: u8, at: u64| {
        let ToAgent::Signed(mut signed) = signed(position, hash, at) else { panic!("it is signed") };
        signed.proof.certificates.clear();
        ToAgent::Signed(signed)
    };
    let kept = |agent: &Agent| {
        let signed = agent.replica.signed().unwrap();
        assert_eq!(signed.proof.certificates.len(), 2, "without them it proves nothing");
        (signed.mark.position, signed.mark.hash[0], signed.at.0)
    };
    agent.receive(bare(manager.position(), 4, 5));
    assert_eq!(kept(&agent), (manager.position(), 4, 5), "the certificates are those of the one before");
    for (stays, at) in [(bare(first, 1, 9), "older"), (bare(manager.position(), 6, 9), "another history")] {
        agent.receive(stays);
        assert_eq!(kept(&agent), (manager.position(), 4, 5), "{at}");
    }
    assert_eq!(agent.replica.rewritten().map(|r| (r.was.hash[0], r.is[0])), Some((4, 6)));
    agent.receive(bare(manager.position(), 4, 8));
    assert_eq!(kept(&agent).2, 8, "of one mark the newer signature");
    agent.receive(ToAgent::Snapshot(SnapshotPart { first: true, rows: vec![], last: None, emptied: None }));
    manager.edit(views()[1].clone());
    agent.receive(bare(manager.position(), 1, 9));
    assert_eq!(kept(&agent).0, manager.position(), "also in the middle of a snapshot");
    agent.replica.begin_session();
    manager.edit(views()[2].clone());
    agent.receive(bare(manager.position(), 1, 9));
    assert_ne!(kept(&agent).0, manager.position(), "whose certificates these would be, nobody has said");
    let huge = Proof { certificates: vec![vec![0; 17 << 10]], signature: vec![] };
    let mark = Mark { position: manager.position(), hash: [1; 32] };
    agent.receive(ToAgent::Signed(SignedMark { mark, at: UnixMillis(9), proof: huge }));
    assert_ne!(kept(&agent).0, manager.position(), "with that no manager would take its greeting");
    let forced = manager.granted(Basis::Force, Lineage(Uuid::from_u128(2)), 2, vec![]);
    agent.replica.adopt(forced.grants);
    assert_eq!(agent.replica.signed(), None, "what was given up is nothing to show");
}
