//! Histories made by hand: one that is good, and every way to be bad.

use super::*;

fn at(revision: u64) -> Position {
    let lineage = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap();
    Position { lineage, epoch: 1, revision }
}

fn request(number: u64) -> RequestId {
    format!("017f22e2-79b0-7cc3-98c4-{number:012x}").parse().unwrap()
}

fn name(number: u64) -> String {
    format!("host{number}")
}

/// The edit that makes the host of this number, over within the second of this number.
fn edit(number: u64, outcome: Outcome) -> Edit {
    Edit {
        client: 0,
        manager: "hub".into(),
        name: name(number),
        request: request(number),
        begin: Duration::from_millis(number * 1_000),
        end: Duration::from_millis(number * 1_000 + 500),
        outcome,
    }
}

fn entry(revision: u64, number: u64) -> Entry {
    Entry { at: at(revision), request: request(number), names: [name(number)].into() }
}

fn reading(revision: u64, numbers: &[u64]) -> Reading {
    let names = numbers.iter().map(|number| name(*number)).collect();
    Reading { client: 0, manager: "hub".into(), begin: Duration::from_secs(60), at: at(revision), names }
}

/// Two edits that were acknowledged, one that was refused, one nobody knows of, at two managers.
fn good() -> Testimony {
    let acknowledged = |number| edit(number, Outcome::Acknowledged(at(number)));
    let history = vec![entry(1, 1), entry(2, 2)];
    Testimony {
        edits: vec![acknowledged(1), acknowledged(2), edit(3, Outcome::Refused), edit(4, Outcome::Unknown)],
        readings: vec![reading(2, &[1, 2])],
        histories: [("hub".into(), history.clone()), ("spare1".into(), history)].into(),
        lost: Vec::new(),
    }
}

/// The same change at every manager.
fn everywhere(testimony: &mut Testimony, change: impl Fn(&mut Vec<Entry>)) {
    testimony.histories.values_mut().for_each(change);
}

#[test]
fn what_is_as_it_must_be_is_found_good() {
    assert_eq!(good().judge(), Ok(0));
    assert_eq!(good().kept(), 2);
    let mut done_after_all = good();
    everywhere(&mut done_after_all, |history| history.push(entry(3, 4)));
    assert_eq!(done_after_all.judge(), Ok(0), "what nobody knew of may be there");
}

#[test]
fn managers_have_to_agree() {
    let mut differ = good();
    differ.histories.get_mut("spare1").unwrap().pop();
    assert_eq!(differ.judge(), Err(Violation::Disagree("hub".into(), "spare1".into(), 1)));
}

#[test]
fn an_acknowledged_edit_that_is_nowhere_is_found() {
    let mut missing = good();
    missing.readings.clear();
    everywhere(&mut missing, |history| drop(history.pop()));
    assert_eq!(missing.judge(), Err(Violation::Missing(name(2))));
}

#[test]
fn an_edit_elsewhere_than_its_client_was_told_is_found() {
    let mut moved = good();
    moved.edits[1].outcome = Outcome::Acknowledged(at(7));
    assert_eq!(moved.judge(), Err(Violation::Missing(name(2))));
}

#[test]
fn a_lost_edit_has_to_be_listed_and_may_not_be_kept_as_well() {
    let mut lost = good();
    lost.readings.clear();
    everywhere(&mut lost, |history| drop(history.pop()));
    lost.lost.push(entry(2, 2));
    assert_eq!(lost.judge(), Ok(1));
    let mut both = good();
    both.lost.push(entry(2, 2));
    assert_eq!(both.judge(), Err(Violation::LostAndKept(name(2))));
}

#[test]
fn a_refused_edit_with_an_effect_is_found() {
    let mut done = good();
    everywhere(&mut done, |history| history.push(entry(3, 3)));
    assert_eq!(done.judge(), Err(Violation::Refused(name(3))));
    let mut lost = good();
    lost.lost.push(entry(3, 3));
    assert_eq!(lost.judge(), Err(Violation::Refused(name(3))));
}

#[test]
fn an_edit_with_two_effects_is_found() {
    let mut twice = good();
    everywhere(&mut twice, |history| history.push(entry(3, 1)));
    assert_eq!(twice.judge(), Err(Violation::Twice(request(1))));
    let mut strange = good();
    let again = Entry { request: request(9), ..entry(3, 1) };
    everywhere(&mut strange, |history| history.push(again.clone()));
    assert_eq!(strange.judge(), Err(Violation::Strange(name(1))));
}

#[test]
fn a_gap_is_found() {
    let mut gap = good();
    everywhere(&mut gap, |history| history.push(entry(4, 4)));
    assert_eq!(gap.judge(), Err(Violation::Gap(at(4))));
}

#[test]
fn what_was_over_before_another_began_has_to_be_before_it() {
    let mut swapped = good();
    swapped.readings.clear();
    everywhere(&mut swapped, |history| *history = vec![entry(1, 2), entry(2, 1)]);
    swapped.edits[0].outcome = Outcome::Acknowledged(at(2));
    swapped.edits[1].outcome = Outcome::Acknowledged(at(1));
    assert_eq!(swapped.judge(), Err(Violation::OutOfOrder(request(1), request(2))));
    swapped.edits[0].end = Duration::from_secs(9);
    assert_eq!(swapped.judge(), Ok(0), "while both were under way, any order will do");
}

#[test]
fn a_client_sees_its_own_edits_and_nothing_that_is_not_there() {
    let mut unseen = good();
    unseen.readings = vec![reading(1, &[1])];
    assert_eq!(unseen.judge(), Err(Violation::Unseen(name(2), at(1))));
    unseen.readings[0].manager = "spare1".into();
    assert_eq!(unseen.judge(), Ok(0), "another manager may be behind");
    let mut unreal = good();
    unreal.readings = vec![reading(2, &[1, 2, 4])];
    assert_eq!(unreal.judge(), Err(Violation::Unreal(name(4), at(2))));
    unreal.readings[0].at = at(9);
    assert_eq!(unreal.judge(), Err(Violation::Unreal(name(4), at(9))));
}
