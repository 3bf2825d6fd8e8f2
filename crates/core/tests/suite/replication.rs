//! Keeping replicas level: a manager's log and an agent's replica, joined by hand.

use crate::support::*;
use echelon_core::change::Change;
use echelon_core::digest::Digest;
use echelon_core::id::Lineage;
use echelon_core::message::{Delta, ManagerHeartbeat, SnapshotPart, ToAgent, ViewMark};
use echelon_core::position::Position;
use echelon_core::project::{project, project_commit};
use echelon_core::replication::{
    CatchUp, KEPT_CHANGES, KEPT_DELTAS, MAX_SNAPSHOT_ROWS, REPAIR_INTERVAL, Replica, ReplicaError, Step,
    ViewLog,
};
use echelon_core::time::Monotonic;
use echelon_core::view::{ViewChange, ViewKey, ViewRow};
use proptest::prelude::*;
use std::collections::VecDeque;
use uuid::Uuid;

const NOW: Monotonic = Monotonic(1_000_000_000);

/// A manager with its registry, and the agent of `agent4`.
struct Pair {
    world: World,
    log: ViewLog,
    replica: Replica,
    now: Monotonic,
}

impl Pair {
    fn new() -> Self {
        let world = reference_case();
        let log = ViewLog::new(world.registry.position(), world.view());
        Self { world, log, replica: Replica::default(), now: NOW }
    }

    fn level() -> Self {
        let mut pair = Self::new();
        let place = ToAgent::Place(pair.world.place("agent4"));
        assert!(matches!(pair.receive(place), Step::Place(_)));
        pair.catch_up();
        pair
    }

    /// Edits; gives the delta, where there is one. The agent hears nothing of it yet.
    fn edit(&mut self, changes: impl IntoIterator<Item = Change>) -> Option<Delta> {
        let before = self.world.registry.clone();
        let commit = self.world.edit(changes);
        let changes = project_commit(&before, &self.world.registry, &commit);
        self.log.push(commit.position, changes).unwrap().map(|delta| Delta::clone(&delta))
    }

    fn receive(&mut self, message: ToAgent) -> Step {
        self.replica.receive(self.now, message).unwrap()
    }

    fn heartbeat(&mut self) -> Step {
        let place = self.world.place("agent4").digest();
        self.receive(ToAgent::Heartbeat(ManagerHeartbeat { mark: self.log.mark(), place, journal: None }))
    }

    /// Brings the agent level the way a session does; says how.
    fn catch_up(&mut self) -> CatchUp {
        let holds = self.replica.holding();
        let catch_up = self.log.catch_up(None, holds.as_ref());
        match &catch_up {
            CatchUp::Level | CatchUp::Ahead => {}
            CatchUp::Deltas(deltas) => {
                for delta in deltas {
                    let step = self.receive(ToAgent::Delta(Delta::clone(delta)));
                    assert!(matches!(step, Step::Apply { .. }), "{step:?}");
                }
            }
            CatchUp::Snapshot => {
                for part in self.parts() {
                    self.receive(ToAgent::Snapshot(part));
                }
            }
        }
        catch_up
    }

    /// The snapshot in parts of two rows, the last one empty.
    fn parts(&self) -> Vec<SnapshotPart> {
        let rows: Vec<_> = self.log.view().rows().collect();
        let part = |(i, rows): (usize, &[ViewRow])| SnapshotPart {
            first: i == 0,
            rows: rows.to_vec(),
            last: None,
            emptied: None,
        };
        let mut parts: Vec<_> = rows.chunks(2).enumerate().map(part).collect();
        parts.push(SnapshotPart {
            first: false,
            rows: Vec::new(),
            last: Some(self.log.mark()),
            emptied: self.world.registry.meta().emptied,
        });
        parts
    }

    fn restart_manager(&mut self) {
        self.log = ViewLog::new(self.world.registry.position(), project(&self.world.registry));
    }

    fn assert_level(&self) {
        assert_eq!(self.replica.view().digest(), self.log.view().digest());
        assert!(self.replica.view().rows().eq(self.log.view().rows()));
        assert_eq!(self.replica.mark(), Some(self.log.mark()));
    }
}

#[test]
fn an_empty_replica_gets_a_snapshot_and_shows_it_only_when_its_last_part_has_come() {
    let mut pair = Pair::new();
    pair.receive(ToAgent::Place(pair.world.place("agent4")));
    assert_eq!(pair.log.catch_up(None, None), CatchUp::Snapshot);
    let mut parts = pair.parts();
    let last = parts.pop().unwrap();
    for part in parts {
        assert_eq!(pair.receive(ToAgent::Snapshot(part)), Step::Nothing);
        assert_eq!((pair.replica.view().manager_count(), pair.replica.mark()), (0, None));
    }
    let Step::Replace { mark, rows } = pair.receive(ToAgent::Snapshot(last)) else { panic!() };
    assert_eq!(mark, pair.log.mark());
    assert!(rows.into_iter().eq(pair.log.view().rows()));
    pair.assert_level();
    assert_eq!(pair.catch_up(), CatchUp::Level);
}

#[test]
fn an_agent_that_comes_back_gets_the_deltas_it_missed() {
    let mut pair = Pair::level();
    let changes = [vec![withdraw("agent1", CC)], vec![add_domain("/x")], vec![boundary("/sub1", "*", true)]];
    let deltas: Vec<_> = changes.into_iter().filter_map(|c| pair.edit(c)).collect();
    assert_eq!(deltas.len(), 2, "an empty domain is nothing agents see");
    let CatchUp::Deltas(missed) = pair.catch_up() else { panic!() };
    assert_eq!(missed.iter().map(|d| Delta::clone(d)).collect::<Vec<_>>(), deltas);
    pair.assert_level();
}

#[test]
fn who_missed_more_than_is_kept_gets_a_snapshot_and_who_missed_no_more_does_not() {
    let mut pair = Pair::level();
    let flip = |n: usize| if n.is_multiple_of(2) { withdraw("agent1", CC) } else { restore("agent1", CC) };
    for n in 0..KEPT_DELTAS {
        pair.edit([flip(n)]).unwrap();
    }
    let holds = pair.replica.holding();
    // After an even number of flips the view is as it was: level without anything.
    assert_eq!(pair.log.catch_up(None, holds.as_ref()), CatchUp::Level);
    pair.edit([boundary("/sub1", "*", true)]);
    let since = pair.log.catch_up(None, holds.as_ref());
    assert!(matches!(since, CatchUp::Deltas(deltas) if deltas.len() == 1), "only what it has not got");
    for n in 0..KEPT_DELTAS {
        pair.edit([flip(n)]).unwrap();
    }
    assert_eq!(pair.log.catch_up(None, holds.as_ref()), CatchUp::Snapshot);
    let mut pair = Pair::level();
    pair.edit([boundary("/sub1", "*", true)]);
    for n in 1..KEPT_DELTAS {
        pair.edit([flip(n - 1)]).unwrap();
    }
    assert!(matches!(pair.catch_up(), CatchUp::Deltas(deltas) if deltas.len() == KEPT_DELTAS));
    pair.assert_level();
}

#[test]
fn large_deltas_push_older_ones_out_before_their_number_does() {
    let mut pair = Pair::level();
    let changes = pair.edit([withdraw("agent1", CC)]).unwrap().changes;
    let first = pair.log.mark();
    let mut push = |times| {
        let changes = changes.iter().cloned().cycle().take(times).collect();
        pair.log.push(pair.log.mark().position.next(), changes).unwrap();
        pair.log.mark()
    };
    let second = push(KEPT_CHANGES);
    push(1);
    let missed = |since: ViewMark| {
        // Of another digest, so that it is not level by that.
        let ViewMark { position, view_revision, .. } = since;
        let holds = echelon_core::message::Holding {
            position,
            view_revision,
            digest: Digest::default(),
            place: Digest::default(),
        };
        pair.log.catch_up(None, Some(&holds))
    };
    assert_eq!(missed(first), CatchUp::Snapshot);
    assert!(matches!(missed(second), CatchUp::Deltas(deltas) if deltas.len() == 1));
}

#[test]
fn another_lineage_gets_a_snapshot_and_a_later_state_waits() {
    let mut pair = Pair::level();
    let mut holds = pair.replica.holding().unwrap();
    let position = holds.position;
    holds.position.lineage = Lineage(Uuid::from_u128(99));
    assert_eq!(pair.log.catch_up(None, Some(&holds)), CatchUp::Snapshot);
    let ahead = echelon_core::message::Holding {
        position: Position { revision: position.revision + 5, ..position },
        view_revision: position.revision + 5,
        digest: Digest::default(),
        ..holds
    };
    assert_eq!(pair.log.catch_up(None, Some(&ahead)), CatchUp::Ahead);
    let later_epoch = echelon_core::message::Holding {
        position: Position { epoch: 2, ..position },
        view_revision: 0,
        ..ahead
    };
    assert_eq!(pair.log.catch_up(None, Some(&later_epoch)), CatchUp::Ahead);
    // A heartbeat or delta of a manager that is behind changes nothing either.
    pair.edit([withdraw("agent1", CC)]);
    pair.catch_up();
    let held = pair.replica.mark();
    let old = ViewLog::new(position, reference_case().view());
    pair.log = old;
    assert_eq!([pair.heartbeat(), pair.heartbeat()], [Step::Nothing, Step::Nothing]);
    assert_eq!(pair.replica.mark(), held);
}

#[test]
fn a_replica_is_never_taken_back_by_a_snapshot_of_the_same_lineage() {
    let mut pair = Pair::level();
    let old = pair.parts();
    pair.edit([withdraw("agent1", CC)]);
    pair.catch_up();
    for part in old.clone() {
        assert_eq!(pair.receive(ToAgent::Snapshot(part)), Step::Nothing);
    }
    pair.assert_level();
    // Of another lineage there is no before and after: it replaces.
    let mut other = old;
    let mark = other.last_mut().unwrap().last.as_mut().unwrap();
    mark.position.lineage = Lineage(Uuid::from_u128(99));
    let steps: Vec<_> = other.into_iter().map(|part| pair.receive(ToAgent::Snapshot(part))).collect();
    assert!(matches!(steps.last(), Some(Step::Replace { .. })), "{steps:?}");
}

#[test]
fn the_position_moves_with_heartbeats_where_view_and_place_match() {
    let mut pair = Pair::level();
    assert_eq!(pair.edit([add_domain("/empty")]), None);
    assert_ne!(pair.replica.mark().unwrap().position, pair.log.mark().position);
    assert_eq!(pair.heartbeat(), Step::Nothing);
    pair.assert_level();
    assert_eq!(pair.replica.mark().unwrap().view_revision, 1);
}

#[test]
fn after_a_restart_of_the_manager_deltas_follow_whether_a_heartbeat_came_between_or_not() {
    for heartbeat in [false, true] {
        let mut pair = Pair::level();
        pair.edit([add_domain("/empty")]);
        pair.restart_manager();
        assert_eq!(pair.catch_up(), CatchUp::Level);
        if heartbeat {
            assert_eq!(pair.heartbeat(), Step::Nothing);
            pair.assert_level();
        }
        let delta = pair.edit([withdraw("agent1", CC)]).unwrap();
        assert!(matches!(pair.receive(ToAgent::Delta(delta)), Step::Apply { .. }));
        pair.assert_level();
        assert_eq!(pair.replica.repairs(), 0);
    }
}

#[test]
fn a_replica_that_differs_at_the_same_revision_asks_for_a_snapshot_at_most_once_a_minute() {
    let mut pair = Pair::level();
    let mut rows: Vec<_> = pair.log.view().rows().collect();
    rows.pop();
    let mut mark = pair.log.mark();
    mark.digest = echelon_core::view::View::from_rows(rows.clone()).unwrap().digest();
    pair.replica = Replica::load(mark, rows, Some(pair.world.place("agent4"))).unwrap();
    assert_eq!(pair.heartbeat(), Step::AskRepair);
    pair.now = NOW + REPAIR_INTERVAL - std::time::Duration::from_micros(1);
    assert_eq!(pair.heartbeat(), Step::Nothing);
    pair.now = NOW + REPAIR_INTERVAL;
    assert_eq!(pair.heartbeat(), Step::AskRepair);
    assert_eq!(pair.replica.repairs(), 2);
    for part in pair.parts() {
        pair.receive(ToAgent::Snapshot(part));
    }
    pair.assert_level();
    pair.now = pair.now + REPAIR_INTERVAL;
    assert_eq!(pair.heartbeat(), Step::Nothing);
}

#[test]
fn a_heartbeat_may_overtake_a_delta_but_a_stuck_replica_is_found_within_two() {
    let mut pair = Pair::level();
    let delta = pair.edit([withdraw("agent1", CC)]).unwrap();
    assert_eq!(pair.heartbeat(), Step::Nothing, "the delta may be on its way");
    assert!(matches!(pair.receive(ToAgent::Delta(delta)), Step::Apply { .. }));
    pair.edit([restore("agent1", CC)]);
    assert_eq!(pair.heartbeat(), Step::Nothing, "it has moved on since the last one");
    assert_eq!(pair.heartbeat(), Step::AskRepair, "and now it has not");
}

#[test]
fn a_place_that_does_not_come_is_asked_for_as_well() {
    let mut pair = Pair::level();
    pair.edit([move_host("agent4", "/sub1")]);
    assert_eq!([pair.heartbeat(), pair.heartbeat()], [Step::Nothing, Step::AskRepair]);
    let place = pair.world.place("agent4");
    assert_eq!(pair.receive(ToAgent::Place(place.clone())), Step::Place(place.clone()));
    assert_eq!(pair.replica.place(), Some(&place));
    assert_eq!(pair.heartbeat(), Step::Nothing);
    pair.assert_level();
}

#[test]
fn while_a_snapshot_is_on_its_way_nothing_is_asked_for() {
    let mut pair = Pair::level();
    pair.edit([withdraw("agent1", CC)]);
    let mut parts = pair.parts().into_iter();
    pair.receive(ToAgent::Snapshot(parts.next().unwrap()));
    assert_eq!(
        [pair.heartbeat(), pair.heartbeat(), pair.heartbeat()],
        [Step::Nothing, Step::Nothing, Step::Nothing]
    );
    for part in parts {
        pair.receive(ToAgent::Snapshot(part));
    }
    pair.assert_level();
}

#[test]
fn a_delta_that_does_not_lead_to_its_digest_changes_nothing_and_is_repaired() {
    let mut pair = Pair::level();
    let before = (pair.replica.mark(), pair.replica.view().digest());
    let first = pair.edit([withdraw("agent1", CC)]).unwrap();
    let second = pair.edit([withdraw("agent3", CC)]).unwrap();
    assert_eq!(pair.receive(ToAgent::Delta(second.clone())), Step::AskRepair, "one is missing");
    assert_eq!((pair.replica.mark(), pair.replica.view().digest()), before);
    assert!(matches!(pair.receive(ToAgent::Delta(first.clone())), Step::Apply { .. }));
    assert!(matches!(pair.receive(ToAgent::Delta(second)), Step::Apply { .. }));
    assert_eq!(pair.receive(ToAgent::Delta(first)), Step::Nothing, "one that came before is nothing new");
    pair.assert_level();
    // Domains that are no tree are a fault of the sender, not of ours.
    let orphan = pair.edit([add_domain("/q"), boundary("/q", "*", true)]).unwrap();
    let changes = vec![ViewChange { key: ViewKey::Domain(echelon_core::id::DomainId(1)), row: None }];
    pair.now = NOW + REPAIR_INTERVAL;
    assert_eq!(pair.receive(ToAgent::Delta(Delta { changes, ..orphan })), Step::AskRepair);
}

#[test]
fn parts_out_of_order_or_with_another_digest_end_the_session_and_leave_the_replica() {
    let mut pair = Pair::level();
    pair.edit([withdraw("agent1", CC)]);
    let before = (pair.replica.mark(), pair.replica.view().digest());
    let parts = pair.parts();
    let mut receive = |part: &SnapshotPart| pair.replica.receive(NOW, ToAgent::Snapshot(part.clone()));
    assert_eq!(receive(&parts[1]), Err(ReplicaError::PartBeforeFirst));
    receive(&parts[0]).unwrap();
    // The first part discards what came before it; a part that is missing shows in the digest.
    for part in parts.iter().enumerate().filter(|(i, _)| *i != 1).map(|(_, part)| part) {
        match (receive(part), part.last) {
            (Ok(step), None) => assert_eq!(step, Step::Nothing),
            (Err(ReplicaError::Digest { expected, found }), Some(mark)) => {
                assert!(expected == mark.digest && found != expected);
            }
            other => panic!("{other:?}"),
        }
    }
    receive(&parts[0]).unwrap();
    pair.replica.begin_session();
    let unfinished = pair.replica.receive(NOW, ToAgent::Snapshot(parts[1].clone()));
    assert_eq!(unfinished, Err(ReplicaError::PartBeforeFirst), "a new session begins anew");
    assert_eq!((pair.replica.mark(), pair.replica.view().digest()), before);
    for part in parts {
        pair.receive(ToAgent::Snapshot(part));
    }
    pair.assert_level();
}

#[test]
fn a_snapshot_beyond_the_limit_is_refused_before_it_is_kept() {
    let mut replica = Replica::default();
    let row = ViewRow::Trust(Vec::new());
    let part = |first, rows| SnapshotPart { first, rows: vec![row.clone(); rows], last: None, emptied: None };
    replica.receive(NOW, ToAgent::Snapshot(part(true, MAX_SNAPSHOT_ROWS))).unwrap();
    let one_more = replica.receive(NOW, ToAgent::Snapshot(part(false, 1)));
    assert_eq!(one_more, Err(ReplicaError::TooLarge));
}

#[test]
fn a_snapshot_without_managers_is_believed_only_where_an_edit_took_them() {
    let mut pair = Pair::level();
    let held = pair.replica.view().digest();
    let hosts = ["agent1", "agent3", "framework-manager"];
    pair.world.edit(hosts.map(remove_host));
    pair.restart_manager();
    let named = pair.world.registry.meta().emptied;
    assert!(named.is_some());
    let before = pair.replica.mark().map(|mark| mark.view_revision);
    // One that knows of no such edit, or only of one before these managers were there.
    for emptied in [None, before] {
        let mut parts = pair.parts();
        let last = SnapshotPart { emptied, ..parts.pop().unwrap() };
        parts.into_iter().for_each(|part| drop(pair.receive(ToAgent::Snapshot(part))));
        let refused = pair.replica.receive(NOW, ToAgent::Snapshot(last));
        assert_eq!(refused, Err(ReplicaError::Emptied));
        assert_eq!(pair.replica.view().digest(), held, "the replica is as it was");
    }
    assert_eq!(pair.catch_up(), CatchUp::Snapshot);
    pair.assert_level();
}

#[test]
fn a_replica_on_disk_is_loaded_only_if_it_is_what_its_mark_says() {
    let pair = Pair::level();
    let rows: Vec<_> = pair.log.view().rows().collect();
    let place = Some(pair.world.place("agent4"));
    let loaded = Replica::load(pair.log.mark(), rows.clone(), place.clone()).unwrap();
    assert_eq!(loaded.holding(), pair.replica.holding());
    let damaged = Replica::load(pair.log.mark(), rows[1..].to_vec(), place).map(|_| ());
    assert!(matches!(damaged, Err(ReplicaError::Digest { .. })), "{damaged:?}");
    // Without a place there is nothing to tell the manager that it holds.
    assert_eq!(Replica::load(pair.log.mark(), rows, None).unwrap().holding(), None);
}

#[test]
fn a_push_that_does_not_fit_leaves_the_log_as_it_was() {
    let mut pair = Pair::new();
    let (mark, digest) = (pair.log.mark(), pair.log.view().digest());
    let orphan = ViewChange { key: ViewKey::Domain(echelon_core::id::DomainId(1)), row: None };
    pair.log.push(mark.position.next(), vec![orphan]).unwrap_err();
    assert_eq!((pair.log.mark(), pair.log.view().digest()), (mark, digest));
}

/// What may happen between a manager and its agent.
#[derive(Clone, Debug)]
enum Event {
    Edit(usize),
    Deliver,
    Lose,
    Heartbeat,
    NewSession,
    RestartManager,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..6_usize).prop_map(Event::Edit),
        4 => Just(Event::Deliver),
        1 => Just(Event::Lose),
        3 => Just(Event::Heartbeat),
        1 => Just(Event::NewSession),
        1 => Just(Event::RestartManager),
    ]
}

/// Some edit that fits the state: seen by agents or not.
fn some_edit(pair: &Pair, n: usize) -> Change {
    let here = pair.world.registry.package(pair.world.host_id("agent1"), &ty(CC)).is_some();
    let even = pair.now.0.is_multiple_of(4_000_000);
    match n {
        0 if here => withdraw("agent1", CC),
        1 if here => restore("agent1", CC),
        2 if here => remove_package("agent1", CC),
        3 if !here => add_manager("agent1", CC),
        4 => boundary("/sub1", "*", even),
        // Of a host without managers agents see nothing.
        _ => move_host("agent2", if even { "/sub1" } else { "/" }),
    }
}

/// Lets something happen. Deltas wait in `queue` until they are delivered, and are lost with a session.
fn happen(pair: &mut Pair, queue: &mut VecDeque<Delta>, event: &Event) {
    let step = match event {
        Event::Edit(n) => {
            let change = some_edit(pair, *n);
            queue.extend(pair.edit([change]));
            return;
        }
        Event::Lose => {
            queue.pop_front();
            return;
        }
        Event::NewSession | Event::RestartManager => {
            if matches!(event, Event::RestartManager) {
                pair.restart_manager();
            }
            queue.clear();
            pair.replica.begin_session();
            pair.catch_up();
            return;
        }
        Event::Deliver => queue.pop_front().map(|delta| pair.receive(ToAgent::Delta(delta))),
        Event::Heartbeat => Some(pair.heartbeat()),
    };
    if step == Some(Step::AskRepair) {
        repair(pair);
        queue.clear();
    }
}

proptest! {
    /// Whatever is lost and restarted, what an agent shows is always some state the manager had, and two
    /// heartbeats and a minute later it is level.
    #[test]
    fn replicas_converge(events in prop::collection::vec(event(), 1..60)) {
        let (mut pair, mut queue) = (Pair::level(), VecDeque::new());
        let mut states = vec![pair.log.view().digest()];
        for event in &events {
            pair.now = pair.now + secs(2);
            happen(&mut pair, &mut queue, event);
            states.push(pair.log.view().digest());
            prop_assert!(states.contains(&pair.replica.view().digest()), "a state the manager never had");
        }
        while !queue.is_empty() {
            happen(&mut pair, &mut queue, &Event::Deliver);
        }
        for _ in 0..3 {
            pair.now = pair.now + REPAIR_INTERVAL;
            happen(&mut pair, &mut queue, &Event::Heartbeat);
        }
        pair.assert_level();
    }
}

/// What a manager does when an agent asks for it.
fn repair(pair: &mut Pair) {
    for part in pair.parts() {
        pair.receive(ToAgent::Snapshot(part));
    }
}

#[test]
fn marks_of_different_lineages_are_never_mistaken_for_one_another() {
    let mut pair = Pair::level();
    let mut mark: ViewMark = pair.log.mark();
    mark.position.lineage = Lineage(Uuid::from_u128(99));
    mark.position.revision += 10;
    let place = pair.world.place("agent4").digest();
    let held = pair.replica.mark();
    let beat = ToAgent::Heartbeat(ManagerHeartbeat { mark, place, journal: None });
    assert_eq!(pair.receive(beat.clone()), Step::Nothing);
    assert_eq!(pair.receive(beat), Step::AskRepair);
    assert_eq!(pair.replica.mark(), held, "the same digest is no reason to take over another lineage");
}
