//! Why a route leads elsewhere than before, as metrics count it.

use crate::rig::*;
use crate::support::*;
use echelon_core::message::Health;
use echelon_core::moves::{Move, Moved};
use echelon_core::report::CandidateState;

/// The moves so far, in their order.
fn moves(rig: &Rig) -> Vec<Move> {
    let routes: Vec<_> = rig.published.iter().map(|(_, route)| route).collect();
    routes.windows(2).filter_map(|pair| pair[1].moved_from(pair[0])).map(|moved| moved.why).collect()
}

/// From whom and why connections went where they go, in words.
fn words(rig: &Rig) -> (String, String) {
    let Moved { from, words, .. } = rig.route().moved.clone().expect("they went nowhere");
    (from.map_or("nobody".into(), |from| from.to_string()), words.to_string())
}

fn said(from: &str, words: &str) -> (String, String) {
    (from.to_owned(), words.to_owned())
}

#[test]
fn every_kind_of_move_is_told_by_its_cause() {
    let mut rig = Rig::new(reference_case(), "agent4");
    assert_eq!(rig.chosen(), "agent3");
    assert!(rig.route().moved.is_none(), "it was so from the beginning");
    rig.fail("agent3");
    assert_eq!((rig.chosen(), moves(&rig)), ("agent1", vec![Move::Down]));
    assert_eq!(words(&rig), said("agent3", "agent3: connection refused"));
    assert!(rig.route().passed_over().eq([CandidateState::Down]));

    rig.recover("agent3");
    assert!(rig.route().passed_over().eq([CandidateState::Live]), "it is held back");
    rig.until_it_changes();
    assert_eq!((rig.chosen(), moves(&rig).last()), ("agent3", Some(&Move::Home)));
    let live = (HOLD + jitter("agent4")).as_secs();
    assert_eq!(words(&rig), said("agent1", &format!("agent3: live for {live} s")));
    assert_eq!(rig.route().passed_over().count(), 0);

    rig.report("agent3", Health::Passing);
    rig.pass(HOLD);
    rig.silence("agent3", Health::Passing);
    assert_eq!((rig.chosen(), moves(&rig).last()), ("agent1", Some(&Move::Suspect)));
    assert_eq!(words(&rig), said("agent3", "agent3: its host's agent fell silent"));

    rig.edit([withdraw("agent1", CC)]);
    assert_eq!((rig.chosen(), moves(&rig).last()), ("framework-manager", Some(&Move::Withdrawn)));

    rig.edit([withdraw("agent3", CC), withdraw("framework-manager", CC)]);
    assert_eq!((rig.chosen(), moves(&rig).last()), ("none", Some(&Move::Withdrawn)));
    let count = moves(&rig).len();
    rig.edit([restore("agent1", CC)]);
    assert_eq!((rig.chosen(), moves(&rig)[count..].to_vec()), ("agent1", vec![Move::Served]));
    assert_eq!(words(&rig), said("nobody", "agent1: can be used"));
    rig.edit([restore("framework-manager", CC), remove_package("agent1", CC)]);
    assert_eq!((rig.chosen(), moves(&rig).last()), ("framework-manager", Some(&Move::Removed)));
    assert_eq!(words(&rig), said("agent1", "agent1: removed from the registry"));
}

#[test]
fn a_return_that_an_operator_asked_for_is_told_as_such() {
    let mut rig = Rig::new(reference_case(), "agent4");
    rig.fail("agent3");
    rig.recover("agent3");
    rig.pass(secs(2));
    rig.input(echelon_core::router::Input::Return(ty(CC)));
    assert_eq!((rig.chosen(), moves(&rig)), ("agent3", vec![Move::Down, Move::Asked]));
    assert_eq!(words(&rig), said("agent1", "agent3: live for 2 s; an operator asked"));
}

/// Where only failed ones were left, the first that is usable again is no return home and nothing failed.
#[test]
fn the_end_of_a_last_resort_is_told_as_such() {
    let mut rig = Rig::new(reference_case(), "agent4");
    for host in ["agent3", "agent1", "framework-manager"] {
        rig.fail(host);
    }
    let count = moves(&rig).len();
    rig.recover("agent1");
    assert_eq!((rig.chosen(), moves(&rig)[count..].to_vec()), ("agent1", vec![Move::Served]));
}
