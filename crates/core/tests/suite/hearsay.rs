//! What is reported of managers, and what an own observation makes of it.

use crate::rig::*;
use crate::support::*;
use echelon_core::evidence::Seen;
use echelon_core::limits::MAX_WANTED_TYPES;
use echelon_core::message::{Health, LivenessEntry};
use echelon_core::report::{Basis, CandidateState};
use echelon_core::router::{Input, Router};
use std::collections::BTreeMap;

fn rig() -> Rig {
    Rig::new(reference_case(), "agent4")
}

#[test]
fn the_newest_report_wins_and_an_older_one_is_ignored() {
    let mut rig = rig();
    let agent3 = rig.world.host_id("agent3");
    let entry = |incarnation, sequence, health| LivenessEntry {
        incarnation,
        sequence,
        ..rig.entry(agent3, false, health)
    };
    let reports = [
        (entry(1, 5, Health::Passing), CandidateState::Live),
        (entry(1, 4, failing(true)), CandidateState::Live),
        (entry(1, 5, failing(true)), CandidateState::Down),
        (entry(2, 1, Health::Passing), CandidateState::Live),
        (entry(1, 9, failing(true)), CandidateState::Live),
    ];
    for (report, expected) in reports {
        let what = format!("{report:?}");
        rig.tell(false, vec![report]);
        assert_eq!(rig.state("agent3"), expected, "{what}");
    }
}

#[test]
fn a_manager_that_never_heard_an_agent_can_speak_of_its_silence_only() {
    let mut rig = rig();
    rig.report("agent3", Health::Passing);
    let agent3 = rig.world.host_id("agent3");
    let never = |silent| LivenessEntry {
        host: agent3,
        incarnation: 0,
        sequence: 0,
        silent,
        packages: BTreeMap::new(),
    };
    rig.tell(false, vec![never(true)]);
    assert_eq!(rig.state("agent3"), CandidateState::Suspect);
    rig.tell(false, vec![never(false)]);
    assert_eq!(rig.state("agent3"), CandidateState::Live, "what was known of it is not forgotten");
}

#[test]
fn a_complete_report_keeps_what_it_does_not_name_except_its_silence() {
    let mut rig = rig();
    rig.report("agent3", Health::Passing);
    rig.silence("agent3", Health::Passing);
    rig.report("agent1", failing(true));
    rig.silence("agent1", failing(true));
    rig.report("framework-manager", Health::Passing);
    rig.tell(false, vec![]);
    assert_eq!(rig.state("agent3"), CandidateState::Suspect);
    rig.tell(true, vec![]);
    assert_eq!(rig.state("agent3"), CandidateState::Live, "another manager must judge its silence first");
    assert_eq!(rig.state("agent1"), CandidateState::Down);
    assert_eq!(rig.state("framework-manager"), CandidateState::Live);
    let agent3 = rig.world.host_id("agent3");
    rig.tell(true, vec![rig.entry(agent3, true, Health::Passing)]);
    assert_eq!(rig.state("agent3"), CandidateState::Suspect, "who is named is judged");
}

#[test]
fn a_report_is_not_lost_on_a_type_that_is_asked_for_later_or_a_manager_that_comes_later() {
    let world = reference_case();
    let mut router = Router::new(world.view(), world.place("agent4"));
    let mut rig = Rig::new(reference_case(), "agent4");
    let agent3 = world.host_id("agent3");
    let packages: BTreeMap<_, _> = [CC, "audit"].map(|t| (ty(t), failing(true))).into();
    let entry = LivenessEntry { packages, ..rig.entry(agent3, false, Health::Unchecked) };
    router.handle(at(1.0), Input::Liveness { complete: true, entries: vec![entry.clone()] }, &mut Vec::new());
    router.handle(at(2.0), Input::Want(ty(CC)), &mut Vec::new());
    assert_eq!(router.route(&ty(CC)).unwrap().entries[0].state, CandidateState::Down);

    // The host reports a package before this host's view has it.
    rig.tell(false, vec![entry]);
    rig.input(Input::Want(ty("audit")));
    rig.edit([add_manager("agent3", "audit"), add_manager("agent1", "audit")]);
    let route = rig.router.route(&ty("audit")).unwrap();
    assert_eq!(route.entries[0].state, CandidateState::Down);
    assert_eq!(route.chosen().unwrap().candidate.manager.name, name("agent1"));
}

#[test]
fn for_own_packages_own_checks_speak_and_the_registrys_echo_does_not() {
    let mut rig = Rig::new(reference_case(), "agent3");
    rig.silence("agent3", failing(true));
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent3", CandidateState::Unknown));
    rig.input(Input::OwnHealth([(ty(CC), failing(true))].into()));
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Down));
    rig.report("agent3", Health::Passing);
    assert_eq!(rig.state("agent3"), CandidateState::Down);
    rig.input(Input::OwnHealth([(ty(CC), Health::Passing)].into()));
    assert_eq!(rig.state("agent3"), CandidateState::Live);
    rig.silence("agent3", Health::Passing);
    assert_eq!(rig.state("agent3"), CandidateState::Live, "an agent is never silent to itself");
}

#[test]
fn own_checks_are_remembered_for_types_asked_for_later() {
    let world = reference_case();
    let mut router = Router::new(world.view(), world.place("agent3"));
    router.handle(at(1.0), Input::OwnHealth([(ty(CC), failing(true))].into()), &mut Vec::new());
    router.handle(at(2.0), Input::Want(ty(CC)), &mut Vec::new());
    assert_eq!(router.route(&ty(CC)).unwrap().entries[0].state, CandidateState::Down);
}

#[test]
fn an_own_connection_outranks_reported_silence_for_15_s_exactly() {
    let mut rig = rig();
    rig.report("agent3", Health::Passing);
    rig.saw("agent3", Seen::Connected);
    let connected = rig.now;
    rig.black_hole = true;
    rig.silence("agent3", Health::Passing);
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent3", CandidateState::Live));
    assert_eq!(rig.until_it_changes(), secs(15), "without another input");
    assert_eq!(rig.state("agent3"), CandidateState::Suspect);
    assert_eq!(rig.now, connected + secs(15));
}

#[test]
fn an_own_failure_is_doubted_only_when_nobody_came_to_probe_it_again() {
    let mut rig = rig();
    rig.fail("agent3");
    rig.pass(secs(120));
    assert_eq!(rig.state("agent3"), CandidateState::Down, "probes go on and are refused");
    // The machine slept: the deadline of the next probe is long past.
    rig.now = rig.now + secs(3600);
    let mut out = Vec::new();
    rig.router.handle(rig.now, Input::Tick, &mut out);
    assert_eq!(rig.state("agent3"), CandidateState::Suspect);
    assert!(out.iter().any(|o| matches!(o, echelon_core::router::Output::Probe { .. })));
}

#[test]
fn a_manager_that_listens_elsewhere_now_is_judged_anew() {
    use echelon_core::change::{Change, PackageSpec};
    let mut rig = rig();
    rig.fail("agent3");
    rig.pass(secs(300));
    rig.revive("agent3");
    let listens = echelon_core::package::Listens::Port(7001.try_into().unwrap());
    let spec = PackageSpec { listens, ..manager_spec() };
    let moved = rig.now;
    rig.edit([Change::SetPackage { host: name("agent3"), ty: ty(CC), spec }]);
    assert_eq!(rig.state("agent3"), CandidateState::Unknown);
    let probed = rig.probes.len();
    rig.pass(secs(2));
    assert!(rig.probes[probed].0.since(moved) < secs(2), "it does not wait out the old backoff");
    assert_eq!(rig.state("agent3"), CandidateState::Live);
    // Another change of the same package is no reason to forget anything.
    rig.fail("agent3");
    rig.edit([withdraw("agent1", CC)]);
    assert_eq!(rig.state("agent3"), CandidateState::Down);
}

#[test]
fn what_came_of_another_endpoint_than_the_one_in_force_counts_no_more() {
    use echelon_core::change::{Change, PackageSpec};
    let mut rig = rig();
    let old = rig.route().chosen().unwrap().candidate.manager.clone();
    assert_eq!(old.name, name("agent3"));
    let listens = echelon_core::package::Listens::Port(7001.try_into().unwrap());
    let spec = PackageSpec { listens, ..manager_spec() };
    rig.edit([Change::SetPackage { host: name("agent3"), ty: ty(CC), spec }]);
    for seen in [refused(), timed_out(), Seen::Overtaken] {
        rig.input(seen_at(&old, seen));
        assert_eq!((rig.chosen(), rig.state("agent3")), ("agent3", CandidateState::Unknown));
    }
    let new = rig.route().chosen().unwrap().candidate.manager.clone();
    rig.input(seen_at(&new, refused()));
    assert_eq!(rig.state("agent3"), CandidateState::Down);
}

fn seen_at(manager: &echelon_core::view::Manager, seen: Seen) -> Input {
    let (host, endpoint, took) = (manager.host, Some(manager.endpoint.clone()), std::time::Duration::ZERO);
    Input::Saw { ty: ty(CC), host, endpoint, check: None, seen, took }
}

#[test]
fn what_came_of_another_check_than_the_one_in_force_counts_no_more() {
    use echelon_core::check::{Check, CheckKind};
    use echelon_core::evidence::Met;
    use echelon_core::policy::{PolicySettings, Probe};
    let get = |path: &str| CheckKind::Http { path: parse(path), status: None, host: None };
    let probe = |kind| {
        let probe = Probe::By(Check { misses: 1, ..Check::of(kind) });
        set_policy("/", CC, PolicySettings { probe: Some(probe), ..PolicySettings::default() })
    };
    let mut rig = rig();
    rig.black_hole = true;
    let host = rig.world.host_id("agent3");
    let unanswered = |check| {
        let seen = Seen::Unanswered { why: echelon_core::name::Text::lossy("none"), met: Met::Connected };
        Input::Saw { ty: ty(CC), host, endpoint: None, check, seen, took: std::time::Duration::ZERO }
    };
    rig.edit([probe(get("/"))]);
    rig.input(unanswered(Some(get("/other"))));
    assert_eq!(rig.chosen(), "agent3", "of a check that is not made any more");
    rig.edit([set_policy("/", CC, PolicySettings { probe: Some(Probe::Off), ..PolicySettings::default() })]);
    // One was under way.
    rig.input(unanswered(Some(get("/"))));
    assert_eq!(rig.chosen(), "agent3", "nothing would ever clear it");
    rig.edit([probe(get("/"))]);
    rig.input(unanswered(Some(get("/"))));
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Down));
}

#[test]
fn one_more_connection_to_a_manager_that_nothing_speaks_against_changes_nothing() {
    let mut rig = rig();
    assert_eq!(rig.saw("agent3", Seen::Connected), 1, "from unknown to live");
    for _ in 0..3 {
        rig.now = rig.now + secs(1);
        assert_eq!(rig.saw("agent3", Seen::Connected), 0);
    }
    rig.report("agent3", failing(false));
    assert_eq!(rig.state("agent3"), CandidateState::Down);
    rig.now = rig.now + secs(1);
    assert_eq!(rig.saw("agent3", Seen::Connected), 1, "a connect disproves a check that only connects");
    assert_eq!(rig.state("agent3"), CandidateState::Live);
}

#[test]
fn what_is_seen_of_hosts_that_have_no_such_manager_is_ignored() {
    let mut rig = rig();
    assert_eq!(rig.saw("agent2", refused()), 0);
    let unknown = host_id(77);
    assert_eq!(rig.input(seen_of(unknown, refused())), 0);
    assert_eq!(rig.tell(false, vec![rig.entry(unknown, true, failing(true))]), 0);
    assert_eq!(rig.router.next_deadline(), None);
}

#[test]
fn a_caller_who_invents_types_makes_the_agent_hold_no_more_than_the_limit() {
    let mut rig = rig();
    for n in 0..MAX_WANTED_TYPES + 10 {
        rig.input(Input::Want(ty(&format!("t{n}"))));
    }
    let held = (0..MAX_WANTED_TYPES + 10).filter(|n| rig.router.route(&ty(&format!("t{n}"))).is_some());
    assert_eq!(held.count() + 1, MAX_WANTED_TYPES, "one was there before");
}

#[test]
fn a_shown_route_says_how_long_ago_things_were_when_it_is_read() {
    let mut rig = rig();
    rig.dead.insert(rig.world.host_id("agent3"));
    rig.saw("agent3", refused());
    let view = rig.world.view();
    let reason = |rig: &Rig, later| {
        let report = rig.route().report(&view, rig.now + secs(later), Basis::Live);
        (report.candidates[0].reason.clone(), report.since_ms, report.cause)
    };
    let cause = "agent3: connection refused".to_owned();
    assert_eq!(reason(&rig, 0), ("own domain; connection refused just now".into(), Some(0), cause.clone()));
    assert_eq!(reason(&rig, 4), ("own domain; connection refused 4 s ago".into(), Some(4000), cause.clone()));
    assert_eq!(reason(&rig, 300).0, "own domain; connection refused 5 min ago");
    let using = rig.router.using(rig.now + secs(4));
    assert_eq!((using[0].manager.clone(), using[0].since), (Some(name("agent1")), secs(4)));
    assert_eq!(using[0].cause.as_str(), cause);
}

#[test]
fn a_route_is_published_again_when_its_reason_is_another_one_and_not_when_it_is_seen_again() {
    let mut rig = rig();
    rig.dead.insert(rig.world.host_id("agent3"));
    assert_eq!(rig.saw("agent3", refused()), 1);
    rig.now = rig.now + secs(5);
    assert_eq!(rig.saw("agent3", refused()), 0);
    let timed_out = Seen::Failed(echelon_core::name::Text::lossy("timed out"));
    assert_eq!(rig.saw("agent3", timed_out), 1);
    assert_eq!(rig.route().cause.as_str(), "agent3: timed out");
}
