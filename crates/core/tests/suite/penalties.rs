//! What becomes of a candidate that fails again and again, and of failures that are this host's own.

use crate::rig::*;
use crate::support::*;
use echelon_core::isolation::Standing;
use echelon_core::message::Health;
use echelon_core::policy::{Failback, PolicySettings};
use echelon_core::report::{CandidateState, Outcome};
use echelon_core::router::Input;
use std::time::Duration;

/// The router of agent4, of whose managers nothing is known: agent3, then agent1, then framework-manager.
fn rig() -> Rig {
    Rig::new(reference_case(), "agent4")
}

fn fail_and_recover(rig: &mut Rig) {
    rig.report("agent3", failing(true));
    rig.report("agent3", Health::Passing);
}

#[test]
fn one_that_fails_repeatedly_is_held_twice_as_long_each_time_and_half_is_forgiven_in_five_minutes() {
    let mut rig = rig();
    for (times, pause) in [(1, 0), (2, 0), (4, 300), (4, 600), (2, 3600), (1, 0)] {
        fail_and_recover(&mut rig);
        let (hold, began) = (HOLD * times + jitter("agent4"), rig.now);
        assert_eq!(rig.until_it_changes(), hold, "{times} times");
        assert_eq!(rig.chosen(), "agent3");
        // What is forgiven is counted from the beginning of the last hold, as the hold itself is.
        rig.now = began;
        rig.pass(secs(pause).max(hold));
        if pause == 0 {
            rig.now = began;
        }
    }
}

#[test]
fn a_candidate_that_stays_down_collects_no_more_than_one_that_fails_once() {
    let mut rig = rig();
    for _ in 0..10 {
        rig.fail("agent3");
        rig.report("agent3", failing(true));
    }
    rig.recover("agent3");
    assert_eq!(rig.until_it_changes(), HOLD + jitter("agent4"));
}

#[test]
fn no_hold_is_longer_than_ten_minutes() {
    let mut rig = rig();
    for _ in 0..40 {
        fail_and_recover(&mut rig);
    }
    assert_eq!(rig.until_it_changes(), secs(600) + jitter("agent4"));
    assert_eq!(rig.outcome(), Outcome::Home);
}

#[test]
fn no_hold_becomes_longer_than_ten_minutes_because_the_policy_asks_for_a_longer_one() {
    let mut rig = rig();
    let hold =
        |hold| set_policy("/", CC, PolicySettings { failback_hold: Some(hold), ..PolicySettings::default() });
    rig.edit([hold(secs(1))]);
    for _ in 0..40 {
        fail_and_recover(&mut rig);
    }
    rig.edit([hold(secs(60))]);
    assert_eq!(rig.until_it_changes(), secs(600) + jitter("agent4"));
}

fn cut_off(rig: &mut Rig) {
    rig.input(Input::Session(false));
    rig.cut_off = true;
    for host in ["agent3", "agent1", "framework-manager"] {
        assert_eq!(rig.router.standing(), Standing::Sound);
        rig.saw(host, timed_out());
    }
    assert_eq!(rig.router.standing(), Standing::Isolated);
}

#[test]
fn an_isolated_host_says_so_and_goes_on_trying_everybody() {
    let mut rig = rig();
    cut_off(&mut rig);
    assert!(rig.route().isolated);
    assert_eq!(rig.outcome(), Outcome::LastResort);
    assert_eq!(rig.targets(), ["agent3", "agent1", "framework-manager"]);
    assert!(rig.route().entries.iter().all(|e| e.state == CandidateState::Down));
    rig.pass(secs(10));
    assert!(rig.route().isolated, "nothing has proved the contrary");
    rig.saw("agent1", refused());
    assert!(!rig.route().isolated, "there is a network");
    let standings: Vec<_> = rig.standings.iter().map(|(_, standing)| *standing).collect();
    assert_eq!(standings, [Standing::Isolated, Standing::Sound]);
}

#[test]
fn with_a_session_or_an_answer_it_is_not_isolated() {
    let mut rig = rig();
    for host in ["agent3", "agent1", "framework-manager"] {
        rig.saw(host, timed_out());
    }
    assert!(!rig.route().isolated, "there is a session");
    let mut rig = self::rig();
    rig.input(Input::Session(false));
    rig.saw("agent3", timed_out());
    rig.saw("agent1", timed_out());
    rig.saw("agent1", refused());
    rig.now = rig.now + Duration::from_millis(1);
    rig.saw("framework-manager", timed_out());
    assert!(!rig.route().isolated, "a refusal is an answer");
}

/// What fails while this host is cut off is held as long as the policy says, however often it was so.
#[test]
fn isolation_stops_penalties() {
    let mut rig = rig();
    for _ in 0..4 {
        cut_off(&mut rig);
        rig.cut_off = false;
        rig.input(Input::Session(true));
        rig.pass(secs(2));
        assert_eq!(rig.router.standing(), Standing::Sound);
        assert!(rig.route().entries.iter().all(|e| e.state == CandidateState::Live), "{:?}", rig.route());
    }
    rig.report("agent3", failing(true));
    rig.report("agent3", Health::Passing);
    assert_eq!(rig.until_it_changes(), HOLD + jitter("agent4"), "the first of its own");
}

#[test]
fn isolation_slows_probes_down_and_its_end_makes_them_quick_again() {
    let mut rig = rig();
    cut_off(&mut rig);
    let probed = rig.probes.len();
    rig.pass(secs(20));
    // The one that was due already of each of three managers; otherwise it would be four.
    assert_eq!(rig.probes.len() - probed, 3);
    rig.pass(secs(300));
    rig.cut_off = false;
    let back = rig.now;
    rig.input(Input::Session(true));
    rig.pass(secs(2));
    assert!(rig.route().entries.iter().all(|e| e.state == CandidateState::Live));
    assert!(rig.probes.iter().any(|(at, _)| at.since(back) < secs(2) && *at > back));
}

#[test]
fn what_a_host_saw_while_it_was_cut_off_is_doubted_until_it_has_seen_more() {
    let mut rig = rig();
    cut_off(&mut rig);
    rig.input(Input::Session(true));
    assert_eq!(rig.router.standing(), Standing::Returned);
    assert!(rig.router.standing().is_doubtful() && !rig.route().isolated);
    // They are really gone: this host must be believed that it has nobody.
    rig.pass(secs(2));
    assert_eq!(rig.router.standing(), Standing::Sound);
    assert_eq!(rig.outcome(), Outcome::LastResort);
}

#[test]
fn a_manager_on_the_host_itself_says_nothing_of_the_network() {
    let mut world = reference_case();
    world.edit([add_manager("agent4", CC)]);
    let mut rig = Rig::new(world, "agent4");
    cut_off(&mut rig);
    let own = rig.world.host_id("agent4");
    rig.saw("agent4", echelon_core::evidence::Seen::Connected);
    assert!(rig.route().isolated);
    assert_eq!(rig.route().chosen().map(|e| e.candidate.manager.host), Some(own));
}

#[test]
fn an_operator_brings_connections_back_whatever_holds_them() {
    for failback in Failback::ALL {
        let mut world = reference_case();
        world.edit([set_policy("/", CC, PolicySettings { failback: Some(failback), ..Default::default() })]);
        let mut rig = Rig::new(world, "agent4");
        rig.input(Input::Occupied { ty: ty(CC), occupied: true });
        rig.fail("agent3");
        rig.input(Input::Return(ty(CC)));
        assert_eq!(rig.chosen(), "agent1", "nobody returns to what is down");
        rig.recover("agent3");
        assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Live), "{failback:?}");
        rig.input(Input::Return(ty(CC)));
        assert_eq!((rig.chosen(), rig.outcome()), ("agent3", Outcome::Home));
        fail_and_recover(&mut rig);
        assert_eq!(rig.chosen(), "agent1", "asked once is returned once");
    }
}
