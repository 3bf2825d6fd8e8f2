//! Which candidate is used, and when connections come back: the router in virtual time.

use crate::rig::*;
use crate::support::*;
use echelon_core::choice::jitter_share;
use echelon_core::evidence::Seen;
use echelon_core::message::Health;
use echelon_core::policy::{Failback, PolicySettings};
use echelon_core::report::{CandidateState, Outcome};
use echelon_core::router::Input;
use std::time::Duration;

const MICRO: Duration = Duration::from_micros(1);

/// The router of agent4: agent3 in its own domain, then agent1, then framework-manager. All are live.
fn rig() -> Rig {
    rig_of(reference_case())
}

fn rig_of(world: World) -> Rig {
    let mut rig = Rig::new(world, "agent4");
    for manager in ["agent3", "agent1", "framework-manager"] {
        rig.report(manager, Health::Passing);
    }
    rig.pass(secs(100));
    assert_eq!((rig.chosen(), rig.outcome()), ("agent3", Outcome::Home));
    assert!(rig.probes.is_empty(), "there is nothing to find out");
    rig
}

fn with_policy(settings: PolicySettings) -> Rig {
    let mut world = reference_case();
    world.edit([set_policy("/", CC, settings)]);
    rig_of(world)
}

fn with_failback(failback: Failback) -> Rig {
    with_policy(PolicySettings { failback: Some(failback), ..PolicySettings::default() })
}

#[test]
fn managers_of_which_nothing_is_known_are_used_in_order_and_not_probed_in_vain() {
    let mut rig = Rig::new(reference_case(), "agent4");
    assert_eq!((rig.chosen(), rig.outcome()), ("agent3", Outcome::Home));
    assert_eq!(rig.targets(), ["agent3", "agent1", "framework-manager"]);
    rig.pass(secs(600));
    assert!(rig.probes.is_empty() && rig.published.len() == 1, "{:?}", rig.probes);
}

#[test]
fn when_the_one_in_use_fails_the_next_is_used_at_once() {
    let mut rig = rig();
    rig.fail("agent3");
    assert_eq!((rig.chosen(), rig.outcome()), ("agent1", Outcome::Failover));
    assert_eq!(rig.route().cause.as_str(), "agent3: connection refused");
    assert_eq!(rig.targets(), ["agent1", "framework-manager", "agent3"], "what is down comes last");
    rig.fail("agent1");
    assert_eq!((rig.chosen(), rig.outcome()), ("framework-manager", Outcome::Failover));
    assert_eq!(rig.route().since, rig.now);
}

#[test]
fn after_a_failure_connections_return_when_it_was_live_for_hold_and_jitter() {
    let mut rig = rig();
    rig.fail("agent3");
    rig.pass(secs(200));
    rig.revive("agent3");
    let probed = rig.probes.len();
    while rig.probes.len() == probed {
        rig.pass(Duration::from_millis(100));
    }
    let recovered = rig.probes[probed].0;
    assert_eq!((rig.state("agent3"), rig.chosen()), (CandidateState::Live, "agent1"));
    assert_eq!(rig.route().cause.as_str(), "agent3: live again, held back");
    let back = recovered + HOLD + jitter("agent4");
    rig.pass(back.since(rig.now) - MICRO);
    assert_eq!(rig.chosen(), "agent1");
    rig.pass(MICRO);
    assert_eq!((rig.chosen(), rig.outcome()), ("agent3", Outcome::Home));
    assert!(rig.route().cause.as_str().is_empty());
}

#[test]
fn a_failed_check_holds_as_an_own_failure_does() {
    for demands_answer in [false, true] {
        let mut rig = rig();
        // Whoever is asked connects: a process that hangs does. What matters is the check.
        rig.report("agent3", failing(demands_answer));
        assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Down));
        rig.pass(Duration::from_millis(500));
        rig.report("agent3", Health::Passing);
        assert_eq!(rig.until_it_changes(), HOLD + jitter("agent4"), "demands_answer: {demands_answer}");
    }
}

#[test]
fn the_hold_begins_anew_with_every_failure() {
    let mut rig = rig();
    let again = |rig: &mut Rig| {
        rig.report("agent3", failing(true));
        rig.report("agent3", Health::Passing);
    };
    again(&mut rig);
    rig.pass(HOLD);
    again(&mut rig);
    // The second one is longer, less what has been forgiven since the first.
    let second = rig.until_it_changes();
    assert!(second > HOLD + jitter("agent4") && second < 2 * HOLD + jitter("agent4"), "{second:?}");
    rig.pass(secs(3600));
    // Not live for a moment, though not failed either, breaks "continuously" as well.
    again(&mut rig);
    rig.pass(HOLD);
    rig.saw("agent3", Seen::Overtaken);
    assert_eq!(rig.state("agent3"), CandidateState::Suspect);
    rig.saw("agent3", Seen::Connected);
    assert_eq!(rig.until_it_changes(), HOLD + jitter("agent4"));
}

#[test]
fn a_return_half_way_is_followed_by_the_return_home() {
    let mut rig = rig();
    rig.report("agent3", failing(true));
    rig.edit([withdraw("agent1", CC)]);
    assert_eq!(rig.chosen(), "framework-manager");
    rig.edit([restore("agent1", CC)]);
    rig.report("agent3", Health::Passing);
    // An edit brought agent1 back, so that jitter alone holds it; agent3 has failed, and its hold is longer.
    assert_eq!((rig.until_it_changes(), rig.chosen()), (jitter("agent4"), "agent1"));
    assert_eq!((rig.until_it_changes(), rig.chosen()), (HOLD, "agent3"));
}

#[test]
fn one_that_was_only_silent_or_slow_is_returned_to_at_once() {
    let mut rig = rig();
    rig.silence("agent3", Health::Passing);
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Suspect));
    rig.pass(Duration::from_millis(300));
    rig.report("agent3", Health::Passing);
    assert_eq!(rig.chosen(), "agent3");
    rig.saw("agent3", Seen::Overtaken);
    assert_eq!(rig.chosen(), "agent1");
    rig.saw("agent3", Seen::Connected);
    assert_eq!(rig.chosen(), "agent3");
}

/// A host's system sends a lost packet again after a second, when the attempt has just been given up.
#[test]
fn one_lost_packet_costs_neither_hold_nor_penalty() {
    let mut rig = rig();
    rig.saw("agent3", Seen::Overtaken);
    assert_eq!(rig.chosen(), "agent1");
    rig.pass(Duration::from_millis(500));
    assert_eq!((rig.probes.len(), rig.chosen()), (1, "agent3"), "half of the connect_timeout");
    rig.pass(Duration::from_millis(500));
    let host = rig.world.host_id("agent3");
    rig.input(Input::Saw { ty: ty(CC), host, endpoint: None, check: None, seen: timed_out(), took: secs(1) });
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent3", CandidateState::Live));
}

#[test]
fn an_edit_to_dormant_goes_by_connections_that_were_open_before() {
    let mut rig = with_failback(Failback::Off);
    rig.fail("agent3");
    rig.revive("agent3");
    rig.pass(secs(600));
    rig.input(Input::Occupied { ty: ty(CC), occupied: true });
    let dormant = PolicySettings { failback: Some(Failback::Dormant), ..PolicySettings::default() };
    rig.edit([set_policy("/", CC, dormant)]);
    assert_eq!(rig.chosen(), "agent1");
    rig.input(Input::Occupied { ty: ty(CC), occupied: false });
    assert_eq!(rig.chosen(), "agent3");
}

#[test]
fn what_happens_at_once_is_decided_on_once() {
    let mut rig = rig();
    let hosts = ["agent3", "agent1", "framework-manager"].map(|host| rig.world.host_id(host));
    let mut out = Vec::new();
    rig.router.handle_all(rig.now, hosts.map(|host| seen_of(host, refused())), &mut out);
    assert_eq!(out.len(), 1, "{out:?}");
    assert_eq!(rig.outcome(), Outcome::LastResort);
}

#[test]
fn a_failure_that_was_served_out_in_use_no_longer_counts() {
    let mut rig = rig();
    rig.report("agent3", failing(true));
    rig.report("agent3", Health::Passing);
    // The one in use fails, so that agent3 is used long before its hold is over.
    rig.fail("agent1");
    assert_eq!((rig.chosen(), rig.outcome()), ("agent3", Outcome::Home));
    rig.revive("agent1");
    rig.pass(secs(3600));
    rig.silence("agent3", Health::Passing);
    assert_eq!(rig.chosen(), "agent1");
    rig.report("agent3", Health::Passing);
    assert_eq!(rig.chosen(), "agent3", "it was silent only");
}

#[test]
fn a_withdrawal_acts_at_once_and_a_restored_manager_waits_for_the_jitter_only() {
    let mut rig = rig();
    rig.edit([withdraw("agent3", CC)]);
    assert_eq!((rig.chosen(), rig.outcome()), ("agent1", Outcome::Home), "home is what configuration allows");
    assert_eq!(rig.targets(), ["agent1", "framework-manager"], "a withdrawn manager is never tried");
    rig.pass(secs(100));
    rig.edit([restore("agent3", CC)]);
    assert_eq!((rig.chosen(), rig.outcome()), ("agent1", Outcome::Failover));
    assert_eq!(rig.until_it_changes(), jitter("agent4"));
    assert_eq!(rig.chosen(), "agent3");
}

#[test]
fn a_new_better_manager_is_used_once_it_is_known_to_be_live_and_the_jitter_has_passed() {
    let mut world = reference_case();
    world.edit([remove_package("agent3", CC)]);
    let mut rig = Rig::new(world, "agent4");
    assert_eq!(rig.chosen(), "agent1");
    rig.dead.insert(rig.world.host_id("agent3"));
    rig.edit([add_manager("agent3", CC)]);
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Unknown));
    // Its package is recorded, but nothing runs there yet: probes find that out, no caller does.
    rig.pass(secs(300));
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Down));
    rig.recover("agent3");
    assert_eq!(rig.state("agent3"), CandidateState::Live);
    assert_eq!(rig.until_it_changes(), HOLD + jitter("agent4"));

    let mut world = reference_case();
    world.edit([remove_package("agent3", CC)]);
    let mut rig = Rig::new(world, "agent4");
    rig.edit([add_manager("agent3", CC)]);
    rig.report("agent3", Health::Passing);
    assert_eq!(rig.until_it_changes(), jitter("agent4"), "one that never failed");
}

#[test]
fn an_edit_that_puts_a_live_manager_before_the_one_in_use_does_not_move_all_hosts_at_once() {
    let mut world = reference_case();
    world.edit([remove_package("agent3", CC)]);
    let mut rig = Rig::new(world, "agent4");
    for manager in ["agent1", "framework-manager"] {
        rig.report(manager, Health::Passing);
    }
    rig.pass(secs(1000));
    rig.edit([move_host("framework-manager", "/sub1/sub1a")]);
    assert_eq!(rig.chosen(), "agent1");
    assert_eq!(rig.until_it_changes(), jitter("agent4"));
    assert_eq!(rig.chosen(), "framework-manager");
}

#[test]
fn an_edit_that_takes_away_the_one_in_use_acts_at_once() {
    for change in [remove_package("agent3", CC), remove_host("agent3"), withdraw("agent3", CC)] {
        let mut rig = rig();
        rig.edit([change]);
        assert_eq!(rig.chosen(), "agent1");
    }
    let mut rig = rig();
    rig.edit([boundary("/sub1", CC, true), withdraw("agent3", CC), withdraw("agent1", CC)]);
    assert_eq!((rig.chosen(), rig.outcome()), ("none", Outcome::Unserved));
    rig.edit([boundary("/sub1", CC, false)]);
    assert_eq!((rig.chosen(), rig.outcome()), ("framework-manager", Outcome::Home));
}

#[test]
fn while_a_better_one_is_held_back_it_is_used_all_the_same_when_the_one_in_use_fails() {
    let mut rig = rig();
    rig.report("agent3", failing(true));
    rig.report("agent3", Health::Passing);
    assert_eq!(rig.targets(), ["agent1", "agent3", "framework-manager"]);
    rig.saw("agent1", refused());
    assert_eq!((rig.chosen(), rig.outcome()), ("agent3", Outcome::Home));
}

#[test]
fn failback_off_stays_until_the_one_in_use_fails() {
    let mut rig = with_failback(Failback::Off);
    rig.report("agent3", failing(true));
    rig.report("agent3", Health::Passing);
    rig.pass(secs(10_000));
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Live));
    rig.fail("agent1");
    assert_eq!(rig.chosen(), "agent3");
}

#[test]
fn failback_dormant_waits_until_no_connection_is_open_and_for_hold_and_jitter() {
    let mut rig = with_failback(Failback::Dormant);
    let occupied = |rig: &mut Rig, occupied| rig.input(Input::Occupied { ty: ty(CC), occupied });
    occupied(&mut rig, true);
    rig.report("agent3", failing(true));
    rig.report("agent3", Health::Passing);
    rig.pass(secs(10_000));
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Live));
    occupied(&mut rig, false);
    assert_eq!(rig.chosen(), "agent3", "the last connection is closed");
    rig.report("agent3", failing(true));
    rig.report("agent3", Health::Passing);
    assert_eq!(rig.chosen(), "agent1");
    occupied(&mut rig, true);
    occupied(&mut rig, false);
    assert_eq!(rig.chosen(), "agent1", "a moment without connections does not replace the hold");
    assert_eq!(rig.until_it_changes(), HOLD + jitter("agent4"));
    assert_eq!(rig.chosen(), "agent3");
}

#[test]
fn an_overloaded_manager_is_passed_over_for_as_long_as_it_said() {
    let mut rig = rig();
    rig.saw("agent3", Seen::Overloaded(secs(20)));
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Suspect));
    assert_eq!(rig.route().cause.as_str(), "agent3: overloaded");
    assert_eq!(rig.targets(), ["agent1", "framework-manager", "agent3"]);
    // And longer by this host's share of half of it, so that not all come back at once.
    let share = Duration::from_secs(10).mul_f64(jitter_share(&name("agent4"))).as_micros() as u64;
    let lasting = secs(20) + Duration::from_micros(share);
    assert_eq!((rig.until_it_changes(), rig.chosen()), (lasting, "agent3"));
}

#[test]
fn the_hedge_of_each_candidate_is_learned_and_a_policy_fixes_it() {
    let connected = |rig: &mut Rig, host: &str, millis| {
        let (host, took) = (rig.world.host_id(host), Duration::from_millis(millis));
        rig.input(Input::Saw { ty: ty(CC), host, endpoint: None, check: None, seen: Seen::Connected, took })
    };
    let hedges = |rig: &Rig| rig.route().targets.iter().map(|t| t.hedge.as_millis()).collect::<Vec<_>>();
    let mut rig = rig();
    assert_eq!(hedges(&rig), [50, 50, 50]);
    assert_eq!(connected(&mut rig, "agent3", 20), 1);
    assert_eq!(connected(&mut rig, "agent1", 1), 1);
    assert_eq!(hedges(&rig), [80, 10, 50]);
    assert_eq!(connected(&mut rig, "agent3", 21), 0, "hardly another one");
    rig.edit([withdraw("agent1", CC), restore("agent1", CC)]);
    rig.pass(secs(100));
    assert_eq!(hedges(&rig), [80, 10, 50], "an edit is no reason to forget");
    let fixed = PolicySettings { connect_hedge: Some(Duration::from_secs(1)), ..PolicySettings::default() };
    rig.edit([set_policy("/", CC, fixed)]);
    assert_eq!(hedges(&rig), [1000, 1000, 1000]);
}

#[test]
fn hold_and_jitter_are_settings() {
    let settings = PolicySettings {
        failback_hold: Some(secs(5)),
        failback_jitter: Some(secs(0)),
        ..PolicySettings::default()
    };
    let mut rig = with_policy(settings);
    rig.report("agent3", failing(true));
    rig.report("agent3", Health::Passing);
    assert_eq!(rig.until_it_changes(), secs(5));
}

#[test]
fn the_part_of_the_jitter_is_fixed_for_each_host_and_spreads_hosts_evenly() {
    let share = |n: usize| jitter_share(&name(&format!("host-{n}")));
    let mut tenths = [0; 10];
    for n in 0..5_000 {
        assert!((0.0..1.0).contains(&share(n)) && share(n) == share(n));
        tenths[(share(n) * 10.0) as usize] += 1;
    }
    // 500 expected in each, standard deviation 21.
    assert!(tenths.iter().all(|n| (425..=575).contains(n)), "{tenths:?}");
    // The first 32 bits of BLAKE3 of the name, as a fraction; worked out apart from the crate.
    assert_eq!((share(1) * 4_294_967_296.0) as u32, 0x3224_b9f2);
}

#[test]
fn with_nothing_usable_left_suspects_come_before_what_is_down_and_nobody_gives_up() {
    let mut rig = rig();
    rig.fail("agent3");
    rig.fail("agent1");
    rig.silence("framework-manager", Health::Passing);
    assert_eq!((rig.chosen(), rig.outcome()), ("framework-manager", Outcome::LastResort));
    assert_eq!(rig.targets(), ["framework-manager", "agent3", "agent1"]);
    rig.fail("framework-manager");
    assert_eq!((rig.chosen(), rig.outcome()), ("agent3", Outcome::LastResort), "even where it is home");
    assert_eq!(rig.route().cause.as_str(), "agent3: connection refused");
    assert_eq!(rig.router.using(rig.now).len(), 1, "and is told to the registry");
    rig.revive("agent1");
    while rig.chosen() == "agent3" {
        rig.pass(secs(1));
        assert!(rig.now < at(300.0), "agent1 was never found to be back");
    }
    assert_eq!((rig.chosen(), rig.outcome()), ("agent1", Outcome::Failover), "no hold out of a last resort");
}

#[test]
fn what_is_not_live_and_better_or_failed_here_is_probed_ever_more_seldom_and_nothing_else() {
    let mut rig = rig();
    rig.fail("agent3");
    let failed = rig.now;
    rig.pass(secs(600));
    let agent3 = rig.world.host_id("agent3");
    assert!(rig.probes.iter().all(|(_, host)| *host == agent3), "live ones are left alone");
    let first = rig.probes[0].0.since(failed).as_secs_f64();
    assert!((0.75..=1.25).contains(&first), "{first}");
    let gaps: Vec<_> = rig.probes.windows(2).map(|p| p[1].0.since(p[0].0).as_secs_f64()).collect();
    for (i, gap) in gaps.iter().enumerate() {
        let wait = f64::min(2_f64.powi(i as i32 + 1), 30.0);
        assert!((wait * 0.75..=wait * 1.25).contains(gap), "{i}: {gap} of {wait}");
    }
    assert!(rig.probes.len() > 20, "it never gives up: {}", rig.probes.len());
    // Found to be live, it is no longer probed.
    rig.revive("agent3");
    rig.pass(secs(40));
    let probed = rig.probes.len();
    rig.pass(secs(600));
    assert_eq!(rig.probes.len(), probed);
}

#[test]
fn a_worse_candidate_is_probed_only_if_it_failed_here() {
    let mut rig = rig();
    rig.report("agent1", failing(true));
    rig.silence("framework-manager", Health::Passing);
    rig.pass(secs(100));
    assert!(rig.probes.is_empty(), "hearsay on worse ones is left to those who told it");
    rig.fail("agent1");
    rig.pass(secs(3));
    let agent1 = rig.world.host_id("agent1");
    assert!(!rig.probes.is_empty() && rig.probes.iter().all(|(_, host)| *host == agent1));
}

#[test]
fn an_own_failure_never_becomes_live_by_hearsay_alone_but_makes_this_host_look_within_a_second() {
    let mut rig = rig();
    rig.fail("agent3");
    rig.pass(secs(300));
    let (probed, waiting) = (rig.probes.len(), rig.router.next_deadline().unwrap().since(rig.now));
    assert!(waiting > secs(1), "in the middle of a backoff: {waiting:?}");
    rig.report("agent3", failing(true));
    rig.report("agent3", Health::Passing);
    rig.pass(secs(1));
    assert!(rig.probes.len() > probed);
    assert_eq!(rig.state("agent3"), CandidateState::Down, "the probe was refused");
}

#[test]
fn losing_the_registry_changes_no_route() {
    let mut rig = rig();
    rig.report("agent3", failing(true));
    rig.pass(secs(40));
    rig.silence("agent1", Health::Passing);
    let before = (rig.chosen().to_owned(), rig.targets().join(" "));
    assert_eq!(before.0, "framework-manager");
    rig.input(echelon_core::router::Input::Session(false));
    assert_eq!((rig.chosen().to_owned(), rig.targets().join(" ")), before);
    // An own connection, made since, decides about reach; the failed check is only doubted.
    rig.pass(secs(40));
    assert_eq!(rig.state("agent3"), CandidateState::Suspect);
    assert_eq!(rig.chosen(), "agent1", "which answered this host's probe");
}

#[test]
fn a_manager_that_answers_is_used_steadily_though_its_hosts_agent_is_gone() {
    let mut rig = rig();
    rig.silence("agent3", Health::Passing);
    rig.pass(secs(2));
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent3", CandidateState::Live));
    let published = rig.published.len();
    rig.pass(secs(3600));
    assert_eq!(rig.published.len(), published, "{:?}", rig.published.last());
    assert!(rig.probes.len() < 3600 / 7, "{}", rig.probes.len());
    rig.dead.insert(rig.world.host_id("agent3"));
    rig.pass(secs(8));
    assert_eq!((rig.chosen(), rig.state("agent3")), ("agent1", CandidateState::Down));
}

#[test]
fn a_tag_tells_choices_and_orders_apart_and_nothing_else() {
    let mut rig = Rig::new(reference_case(), "agent4");
    let home = rig.route().tag();
    rig.report("agent3", Health::Passing);
    rig.pass(Duration::from_secs(7));
    assert_eq!(rig.route().tag(), home, "more is known, and nothing follows from it");
    rig.fail("agent3");
    let away = rig.route().tag();
    assert_ne!(away, home, "another choice");
    rig.fail("framework-manager");
    let order = rig.route().tag();
    assert!(order != away && rig.chosen() == "agent1", "the same choice, another order behind it");
    rig.revive("framework-manager");
    rig.revive("agent3");
    rig.pass(Duration::from_secs(200));
    assert_eq!((rig.chosen(), rig.route().tag()), ("agent3", home));
    assert_ne!(Rig::new(reference_case(), "agent2").route().tag(), home, "another host");
}
